//! Schemas of functions' arguments in the form that GigaChat takes: what each rule makes, and what
//! holds for any schema.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::fuzzing::schema::{Normalised, samples, schema, valid};
use patchbay::mock::gigachat::accepted;
use patchbay::wire::json::{self, Raw};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

/// JSON as people read it, its members in the order that they have. With `indent` 0 all is on one line.
fn laid_out(text: &str, indent: usize) -> String {
    let (mut out, mut depth, mut inside, mut escaped) = (String::new(), 0, false, false);
    let line = |out: &mut String, depth: usize| {
        if indent > 0 {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if inside {
            out.push(letter);
            inside = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' if indent > 0 => out.push_str(": "),
            _ => {
                inside = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

/// What a golden file says: a schema, what it becomes, and what was changed.
#[derive(Default)]
struct Golden<'a> {
    input: Option<Raw<'a>>,
    output: Option<Raw<'a>>,
    report: Vec<String>,
}

fn golden(text: &str) -> Golden<'_> {
    let mut golden = Golden::default();
    json::document(text, |cursor| {
        cursor.object(|key, cursor| {
            match key {
                "input" => golden.input = Some(cursor.skip()?),
                "output" => golden.output = Some(cursor.skip()?),
                "report" => cursor.array(|cursor| {
                    golden.report.push(cursor.string()?.decode().into_owned());
                    Ok(())
                })?,
                _ => panic!("unknown member {key}"),
            }
            Ok(())
        })
    })
    .unwrap();
    golden
}

/// `PATCHBAY_BLESS=1` writes what comes out into the files.
#[test]
fn every_rule_makes_what_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gigachat-schema");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 30, "only {} rules", paths.len());
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let file = golden(&text);
        let input = file.input.unwrap().text();
        let ours = Normalised::of(input);
        schema(input.as_bytes());
        if std::env::var_os("PATCHBAY_BLESS").is_some() {
            let report = json!(ours.notes).to_string();
            let all = format!(r#"{{"input":{input},"output":{},"report":{report}}}"#, ours.text);
            fs::write(&path, laid_out(&all, 2) + "\n").unwrap();
            continue;
        }
        let output = file.output.map(|output| laid_out(output.text(), 0));
        assert_eq!(output.as_deref(), Some(ours.text.as_str()), "{}", path.display());
        assert_eq!(file.report, ours.notes, "{}", path.display());
        let lossless = ours.notes.iter().all(|note| note.starts_with('='));
        assert_eq!(lossless, ours.is_lossless, "{}", path.display());
    }
}

#[test]
fn what_is_no_schema_becomes_an_empty_object() {
    const EMPTY: &str = r#"{"type":"object","properties":{}}"#;
    for text in ["", "{", "[]", "1", "\"x\"", "false", "{}x"] {
        let ours = Normalised::of(text);
        assert_eq!((ours.text.as_str(), ours.notes.len()), (EMPTY, 1), "{text}");
        assert!(!ours.is_lossless, "{text}");
    }
    for text in ["null", "true", "{}", r#"{"type":"object"}"#] {
        let ours = Normalised::of(text);
        assert_eq!((ours.text.as_str(), ours.notes.len()), (EMPTY, 0), "{text}");
    }
}

/// References that double with each level, chains of references, lists that are read again and again:
/// the fuzz target's bounds hold, and the report says that something was cut.
#[test]
fn nothing_explodes() {
    let level = |at: usize| {
        let next = format!("#/$defs/d{}", at + 1);
        (format!("d{at}"), json!({"properties": {"x": {"$ref": next}, "y": {"$ref": next}}}))
    };
    let doubling: serde_json::Map<_, _> = (0..30).map(level).collect();
    let chain = |at: usize| (format!("d{at}"), json!({"$ref": format!("#/$defs/d{}", at + 1)}));
    let chain: serde_json::Map<_, _> = (0..20_000).map(chain).collect();
    let wide: Vec<Value> = (0..2000).map(|at| json!({"$ref": "#", "title": at})).collect();
    let flat: serde_json::Map<_, _> = (0..20_000).map(|at| (format!("p{at}"), json!({}))).collect();
    let alternatives: Vec<Value> = (0..5000).map(|at| json!({"const": at.to_string()})).collect();
    let many: serde_json::Map<_, _> =
        (0..5000).map(|at| (format!("p{at}"), json!({"$ref": "#/$defs/d"}))).collect();
    let cases = [
        (json!({"$defs": doubling, "$ref": "#/$defs/d0"}), true),
        (json!({"$defs": chain, "$ref": "#/$defs/d0"}), true),
        (json!({"allOf": wide, "properties": {"a": {"$ref": "#"}}}), true),
        (json!({"properties": flat}), false),
        (json!({"$defs": {"d": {"anyOf": alternatives}}, "properties": many}), true),
    ];
    for (case, cut) in cases {
        let text = case.to_string();
        schema(text.as_bytes());
        let ours = Normalised::of(&text);
        let told = ours.notes.iter().any(|note| note.contains("cut") || note.contains("nowhere"));
        assert_eq!(told, cut, "{:?} of {:.80}", ours.notes, text);
    }
}

#[test]
fn deep_schemas_are_cut() {
    for (open, close) in [(r#"{"properties":{"a":"#, "}}"), (r#"{"type":"array","items":"#, "}")] {
        for depth in [10, 20, 60] {
            let text = format!(
                r#"{{"properties":{{"a":{}{{"type":"string"}}{}}}}}"#,
                open.repeat(depth),
                close.repeat(depth)
            );
            schema(text.as_bytes());
            let ours = Normalised::of(&text);
            assert_eq!(ours.is_lossless, depth < 32, "{depth}: {:?}", ours.notes);
        }
    }
}

/// A constant or something near it.
fn constant() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c", ""]).prop_map(Value::from),
        1 => (0..4i64).prop_map(Value::from),
        1 => Just(json!(2.5)),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!({"k": [1]})),
    ]
}

fn kind() -> impl Strategy<Value = Value> {
    let names = ["string", "integer", "number", "boolean", "array", "object", "null"];
    prop::sample::select(names.to_vec()).prop_map(Value::from)
}

/// One keyword that holds no schemas, and its value.
fn keyword() -> impl Strategy<Value = (String, Value)> {
    let references = ["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/nowhere", "http://x/y"];
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let word = |key: &'static str| move |value: Value| (key.to_owned(), value);
    prop_oneof![
        6 => kind().prop_map(word("type")),
        1 => prop::collection::vec(kind(), 1..4).prop_map(Value::from).prop_map(word("type")),
        2 => prop::sample::select(references.to_vec()).prop_map(Value::from).prop_map(word("$ref")),
        2 => prop::collection::vec(constant(), 1..4).prop_map(Value::from).prop_map(word("enum")),
        1 => constant().prop_map(word("const")),
        3 => prop::collection::vec(name, 1..3).prop_map(Value::from).prop_map(word("required")),
        2 => any::<bool>().prop_map(Value::from).prop_map(word("additionalProperties")),
        1 => any::<bool>().prop_map(Value::from).prop_map(word("unevaluatedProperties")),
        1 => prop::sample::select(vec!["date", "date-time", "uuid"]).prop_map(Value::from)
            .prop_map(word("format")),
        1 => (0..3i64).prop_map(Value::from).prop_map(word("minimum")),
        1 => (0..3i64).prop_map(Value::from).prop_map(word("minLength")),
        1 => (0..3i64).prop_map(Value::from).prop_map(word("maxItems")),
        1 => constant().prop_map(word("default")),
        2 => "[a-z ]{0,12}".prop_map(Value::from).prop_map(word("description")),
        1 => "[a-z ]{0,12}".prop_map(Value::from).prop_map(word("title")),
    ]
}

fn plain() -> impl Strategy<Value = Value> {
    prop_oneof![
        12 => prop::collection::vec(keyword(), 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect())),
        1 => any::<bool>().prop_map(Value::from),
    ]
}

/// A schema of schemas.
fn nested() -> impl Strategy<Value = Value> {
    plain().prop_recursive(4, 40, 4, |inner| {
        let names = prop::sample::select(vec!["a", "b", "c", "d\u{434}\"~/"]);
        let several = prop::collection::vec(inner.clone(), 1..4);
        let null = Just(json!({"type": "null"}));
        let holder = prop_oneof![
            5 => prop::collection::btree_map(names, inner.clone(), 0..4).prop_map(|map| {
                ("properties", map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>())
            }),
            2 => inner.clone().prop_map(|items| ("items", items)),
            1 => several.clone().prop_map(|list| ("prefixItems", Value::from(list))),
            2 => (prop::sample::select(vec!["anyOf", "oneOf"]), several.clone())
                .prop_map(|(key, list)| (key, Value::from(list))),
            2 => (prop::sample::select(vec!["anyOf", "oneOf"]), inner.clone(), null)
                .prop_map(|(key, one, null)| (key, Value::from(vec![one, null]))),
            2 => several.prop_map(|list| ("allOf", Value::from(list))),
            1 => inner.prop_map(|one| ("not", one)),
        ];
        (plain(), prop::collection::vec(holder, 1..3)).prop_map(|(mut schema, holders)| {
            if let Value::Object(members) = &mut schema {
                members.extend(holders.into_iter().map(|(key, value)| (key.to_owned(), value)));
            }
            schema
        })
    })
}

/// Definitions, and the schema that uses them.
fn whole() -> impl Strategy<Value = Value> {
    (nested(), nested(), nested()).prop_map(|(mut root, a, b)| {
        if let Value::Object(members) = &mut root {
            members.insert("$defs".to_owned(), json!({"a": a, "b": b}));
        }
        root
    })
}

#[test]
fn generated_schemas_hold() {
    let (lossless, all) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(ProptestConfig { cases: config.cases * 4, ..config })
        .run(&whole(), |value| {
            let text = value.to_string();
            schema(text.as_bytes());
            let kept = Normalised::of(&text).is_lossless && text.len() > 60;
            lossless.set(lossless.get() + i32::from(kept));
            all.set(all.get() + 1);
            Ok(())
        })
        .unwrap();
    println!("{} of {} lossless", lossless.get(), all.get());
    assert!(lossless.get() * 100 > all.get(), "too few to mean anything: {}", lossless.get());
}

/// Values that are no schemas at all, under the names of keywords.
#[test]
fn arbitrary_json_holds() {
    let keys = [
        "type",
        "properties",
        "items",
        "enum",
        "$ref",
        "anyOf",
        "oneOf",
        "allOf",
        "required",
        "description",
        "format",
        "const",
        "additionalProperties",
        "prefixItems",
        "nullable",
        "minimum",
        "default",
        "$defs",
        "if",
        "x",
    ];
    let leaf = prop_oneof![constant(), keyword().prop_map(|(_, value)| value)];
    let value = leaf.prop_recursive(5, 60, 5, move |inner| {
        let key = prop::sample::select(keys.to_vec());
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((key, inner), 0..5).prop_map(|members| {
                members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()
            }),
        ]
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(ProptestConfig { cases: config.cases * 4, ..config })
        .run(&value, |value| {
            schema(value.to_string().as_bytes());
            Ok(())
        })
        .unwrap();
}

/// Each schema under `parameters` in a recorded request.
fn declared(value: &Value, each: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            let parameters = members.get("parameters").filter(|one| one.is_object());
            parameters.into_iter().for_each(&mut *each);
            members.values().for_each(|value| declared(value, each));
        }
        Value::Array(list) => list.iter().for_each(|value| declared(value, each)),
        _ => {}
    }
}

/// Tools that a real Codex declared: `PATCHBAY_CAPTURES` names a directory of `*/exchange.json`. What
/// they lose is what their descriptions cannot say.
#[test]
fn recorded_tools_hold() {
    let Some(folder) = std::env::var_os("PATCHBAY_CAPTURES") else { return };
    let (mut count, mut lossless) = (0, 0);
    let mut told = std::collections::BTreeSet::new();
    for entry in fs::read_dir(Path::new(&folder)).unwrap() {
        let file = entry.unwrap().path().join("exchange.json");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let exchange: Value = serde_json::from_str(&text).unwrap();
        declared(&exchange, &mut |parameters| {
            let text = parameters.to_string();
            schema(text.as_bytes());
            let ours = Normalised::of(&text);
            count += 1;
            lossless += i32::from(ours.is_lossless);
            told.extend(ours.notes.into_iter().filter(|note| !note.starts_with('=')));
        });
    }
    println!("{lossless} of {count} declarations without loss; else: {told:#?}");
    assert!(count > 0 && lossless * 10 > count * 9, "{lossless} of {count}: {told:#?}");
}

#[test]
fn the_checker_refuses() {
    let of = |property: Value| json!({"type": "object", "properties": {"a": property}});
    let bad = [
        json!([]),
        json!({}),
        json!({"type": "string"}),
        json!({"type": "object"}),
        json!({"type": "object", "properties": {}, "title": "x"}),
        json!({"type": "object", "properties": {}, "required": ["a"]}),
        json!({"type": "object", "properties": {}, "required": []}),
        of(json!({"type": "string"})),
        of(json!({"type": "date", "description": ""})),
        of(json!({"type": ["string"], "description": ""})),
        of(json!({"type": "string", "description": "", "format": "uuid"})),
        of(json!({"type": "integer", "description": "", "format": "date"})),
        of(json!({"type": "string", "description": "", "enum": []})),
        of(json!({"type": "string", "description": "", "enum": ["a", "a"]})),
        of(json!({"type": "string", "description": "", "enum": [1]})),
        of(json!({"type": "integer", "description": "", "enum": ["a"]})),
        of(json!({"type": "array", "description": ""})),
        of(json!({"type": "array", "description": "", "items": {}})),
        of(json!({"type": "string", "description": "", "items": {"type": "string"}})),
        of(json!({"type": "object", "description": ""})),
    ];
    for schema in bad {
        assert!(accepted(&schema).is_err(), "{schema}");
    }
    let good = of(json!({"type": "array", "description": "", "items": {"type": "string"}}));
    assert_eq!(accepted(&good), Ok(()));
}

#[test]
fn the_validator_judges() {
    let table = [
        (json!({"type": "integer"}), json!(1), json!(1.5)),
        (json!({"type": ["string", "null"]}), json!(null), json!(1)),
        (json!({"enum": ["a"]}), json!("a"), json!("b")),
        (json!({"const": 1}), json!(1), json!(2)),
        (json!({"properties": {"a": false}}), json!({"b": 1}), json!({"a": 1})),
        (json!({"required": ["a"]}), json!({"a": 1}), json!({})),
        (json!({"additionalProperties": false}), json!({}), json!({"a": 1})),
        (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1])),
        (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), json!(3)),
        (json!({"oneOf": [{"type": "number"}, {"const": 2}]}), json!(1), json!(2)),
        (json!({"allOf": [{"type": "number"}, {"const": 2}]}), json!(2), json!(1)),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}), json!(1), json!(2)),
        (json!({"minimum": 2}), json!(2), json!(1)),
        (json!({"maxLength": 2}), json!("ab"), json!("abc")),
        (json!({"minItems": 1}), json!([1]), json!([])),
    ];
    for (schema, good, bad) in table {
        assert!(valid(&good, &schema), "{good} by {schema}");
        assert!(!valid(&bad, &schema), "{bad} by {schema}");
    }
}

#[test]
fn samples_are_valid() {
    let text = r#"{"properties":{"a":{"enum":["x","y"]},"b":{"type":"array","items":{"type":
        "integer"}},"c":{"type":"object","properties":{"d":{"type":"boolean"}}}},"required":["a"]}"#;
    let schema: Value = serde_json::from_str(&Normalised::of(text).text).unwrap();
    let all = samples(&schema);
    assert!(all.iter().all(|value| valid(value, &schema)), "{all:?}");
    assert!(all.contains(&json!({"a": "x"})), "{all:?}");
    assert!(all.iter().any(|value| value["a"] == "y" && value["b"].is_array()), "{all:?}");
}
