//! Schemas of functions' arguments for GigaChat, judged by what the scripted one takes and by a small
//! validator of JSON Schema.

use crate::dialect::gigachat::schema::{BESIDES_BYTES_MAX, GROWTH_MAX, Loss, normalise};
use crate::mock::gigachat::accepted;
use serde_json::{Map, Value, json};

/// References and alternatives followed within each other; what is deeper counts as valid.
const VALID_DEPTH_MAX: usize = 64;

/// Subschemas looked at for one value; what comes behind them counts as valid.
const VALID_STEPS_MAX: usize = 100_000;

/// A normalised schema and what was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// The schema.
    pub text: String,
    /// What was changed, each with `=` in front when nothing is lost, `~` when the description tells
    /// of it, and `-` when it is lost.
    pub notes: Vec<String>,
    /// How many changes there were besides.
    pub more: usize,
    /// Whether every change takes nothing away.
    pub is_lossless: bool,
}

impl Normalised {
    /// Normalises a schema.
    ///
    /// # Panics
    /// When the result is not UTF-8.
    #[must_use]
    pub fn of(parameters: &str) -> Self {
        let mut out = Vec::new();
        let report = normalise(parameters, &mut out);
        let told = report.notes().iter().map(|note| match note.loss() {
            Loss::None => format!("= {note}"),
            Loss::Told => format!("~ {note}"),
            Loss::Lost => format!("- {note}"),
        });
        let notes = told.collect();
        let text = String::from_utf8(out).unwrap_or_else(|bad| panic!("{bad}"));
        Self { text, notes, more: report.more(), is_lossless: report.is_lossless() }
    }
}

/// Any text becomes a schema that GigaChat takes, of bounded size, that does not change any more;
/// where nothing was lost, what is valid by it was valid before.
///
/// # Panics
/// When it does not.
pub fn schema(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let ours = Normalised::of(text);
    assert!(ours.text.len() <= text.len() * GROWTH_MAX + BESIDES_BYTES_MAX, "it grew");
    for note in &ours.notes {
        assert!(note.len() < 400 && note.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{note}");
    }
    let schema: Value = match serde_json::from_str(&ours.text) {
        Ok(schema) => schema,
        Err(bad) => panic!("{bad}: {}", ours.text),
    };
    if let Err(why) = accepted(&schema) {
        panic!("{why}: {} from {text}", ours.text);
    }
    let again = Normalised::of(&ours.text);
    assert_eq!(again.text, ours.text, "changes again");
    assert!(again.notes.is_empty() && again.is_lossless, "{:?} of {}", again.notes, ours.text);
    if let (true, Ok(original)) = (ours.is_lossless, serde_json::from_str::<Value>(text)) {
        for value in samples(&schema) {
            assert!(valid(&value, &original), "{value} fits {schema}, but not {original}");
        }
    }
}

/// Values that are valid by a normalised schema: with all that is optional, with nothing of it, and
/// with each of its constants.
#[must_use]
pub fn samples(schema: &Value) -> Vec<Value> {
    let mut some = vec![sample(schema, 0, true), sample(schema, 0, false)];
    some.extend((1..4).map(|turn| sample(schema, turn, true)));
    some
}

fn sample(schema: &Value, turn: usize, all: bool) -> Value {
    let constants = schema["enum"].as_array();
    if let Some(constant) = constants.and_then(|list| list.get(turn % list.len().max(1))) {
        return constant.clone();
    }
    match schema["type"].as_str() {
        Some("integer") => json!([7, 0, -3, 1_000_000][turn % 4]),
        Some("number") => json!([1.5, 0.0, -2.25, 8.0][turn % 4]),
        Some("boolean") => json!(turn.is_multiple_of(2)),
        Some("array") if !all => json!([]),
        Some("array") => {
            let count = 1 + turn % 3;
            (0..count).map(|at| sample(&schema["items"], turn + at, all)).collect()
        }
        Some("object") => {
            let required = |name: &String| {
                schema["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name))
            };
            let properties = schema["properties"].as_object().into_iter().flatten();
            let told = properties.filter(|(name, _)| all || required(name));
            let told = told.enumerate().map(|(at, (name, schema))| {
                (name.clone(), sample(schema, turn + at * usize::from(turn > 0), all))
            });
            Value::Object(told.collect())
        }
        _ => match schema["format"].as_str() {
            Some("date") => json!("2026-02-28"),
            Some("date-time") => json!("2026-02-28T23:59:59Z"),
            Some("time") => json!("23:59:59Z"),
            _ => json!(["text", "", "a b", "\u{434}"][turn % 4]),
        },
    }
}

/// Whether `value` is valid by `schema`, as far as the keywords go that can be kept: what the
/// others demand counts as fulfilled, and so does what lies too deep.
#[must_use]
pub fn valid(value: &Value, schema: &Value) -> bool {
    let mut validator = Validator { root: schema, steps: VALID_STEPS_MAX, cut: false };
    validator.valid(value, schema, 0) || validator.cut
}

struct Validator<'s> {
    root: &'s Value,
    steps: usize,
    /// Something was not looked at.
    cut: bool,
}

impl<'s> Validator<'s> {
    fn valid(&mut self, value: &Value, schema: &Value, depth: usize) -> bool {
        self.steps = self.steps.saturating_sub(1);
        if depth >= VALID_DEPTH_MAX || self.steps == 0 {
            self.cut = true;
            return true;
        }
        let members = match schema {
            Value::Object(members) => members,
            Value::Bool(valid) => return *valid,
            _ => return true,
        };
        let root: &'s Value = self.root;
        members.iter().all(|(key, rule)| match (key.as_str(), rule) {
            ("$ref", Value::String(reference)) => {
                let target = reference.strip_prefix('#').and_then(|path| root.pointer(path));
                target.is_none_or(|target| self.valid(value, target, depth + 1))
            }
            ("allOf", Value::Array(list)) => {
                list.iter().all(|schema| self.valid(value, schema, depth + 1))
            }
            ("anyOf", Value::Array(list)) => {
                list.iter().any(|schema| self.valid(value, schema, depth + 1))
            }
            ("oneOf", Value::Array(list)) => {
                list.iter().filter(|schema| self.valid(value, schema, depth + 1)).count() == 1
            }
            ("type", Value::Array(list)) => list.iter().any(|name| is_of(value, name)),
            ("type", name) => is_of(value, name),
            ("const", constant) => value == constant,
            ("enum", Value::Array(list)) => list.contains(value),
            ("items" | "properties" | "required" | "additionalProperties", rule) => {
                self.inside(key, rule, value, members, depth)
            }
            _ => bounds(key, rule, value),
        })
    }

    /// The keywords about what is in an array or object.
    fn inside(
        &mut self,
        key: &str,
        rule: &Value,
        value: &Value,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> bool {
        match (key, rule, value) {
            ("items", Value::Object(_) | Value::Bool(_), Value::Array(list)) => {
                list.iter().all(|one| self.valid(one, rule, depth + 1))
            }
            ("properties", Value::Object(rules), Value::Object(members)) => {
                members.iter().all(|(name, one)| {
                    rules.get(name).is_none_or(|rule| self.valid(one, rule, depth + 1))
                })
            }
            ("required", Value::Array(names), Value::Object(members)) => {
                names.iter().filter_map(Value::as_str).all(|name| members.contains_key(name))
            }
            ("additionalProperties", rule, Value::Object(members)) => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = members
                    .iter()
                    .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                let mut others = others.map(|(_, one)| one);
                others.all(|one| self.valid(one, rule, depth + 1))
            }
            _ => true,
        }
    }
}

/// The keywords about how large a value is.
fn bounds(key: &str, rule: &Value, value: &Value) -> bool {
    let Some(bound) = rule.as_f64() else { return true };
    #[allow(clippy::cast_precision_loss, reason = "lengths of test values are small")]
    let (number, length) = match value {
        Value::Number(number) => (number.as_f64(), None),
        Value::String(text) => (None, Some(("Length", text.chars().count() as f64))),
        Value::Array(list) => (None, Some(("Items", list.len() as f64))),
        Value::Object(members) => (None, Some(("Properties", members.len() as f64))),
        _ => (None, None),
    };
    match (key, number, length) {
        ("minimum", Some(number), _) => number >= bound,
        ("maximum", Some(number), _) => number <= bound,
        ("exclusiveMinimum", Some(number), _) => number > bound,
        ("exclusiveMaximum", Some(number), _) => number < bound,
        ("minLength" | "minItems" | "minProperties", _, Some((what, length))) => {
            !key.ends_with(what) || length >= bound
        }
        ("maxLength" | "maxItems" | "maxProperties", _, Some((what, length))) => {
            !key.ends_with(what) || length <= bound
        }
        _ => true,
    }
}

/// Whether a value is of a type; anything is of a type that is none.
fn is_of(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    }
}
