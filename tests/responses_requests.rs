//! Requests of Responses clients, and those written to Responses upstreams.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::dialect::event::CallKind;
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::request::{Choice, Content, Format, Item, Request, Role, ToolKind};
use patchbay::dialect::{self, Dialect, Target};
use patchbay::fault::Failure;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

fn responses() -> &'static dyn Dialect {
    dialect::by_name("responses").unwrap()
}

fn read(body: &str) -> Request<'_> {
    responses().decode_request(body).unwrap()
}

fn refused(body: &str) -> Failure {
    responses().decode_request(body).unwrap_err()
}

/// Items in short.
fn notes(request: &Request<'_>) -> String {
    let mut out = String::new();
    let content = |out: &mut String, list: &[Content<'_>]| {
        for part in list {
            let _ = match part {
                Content::Text(text) => write!(out, " {}", text.raw()),
                Content::Refusal(text) => write!(out, " refusal:{}", text.raw()),
                Content::Image { url, detail } => {
                    write!(out, " image:{},{}", url.raw(), detail.unwrap_or_default().raw())
                }
                Content::ImageFile { id, .. } => write!(out, " image-file:{}", id.raw()),
                Content::File { data, id, url, name } => {
                    let [data, id, url, name] =
                        [data, id, url, name].map(|t| t.unwrap_or_default());
                    write!(out, " file:{},{},{},{}", data.raw(), id.raw(), url.raw(), name.raw())
                }
                Content::Audio { data, format } => {
                    write!(out, " audio:{},{}", data.raw(), format.raw())
                }
                Content::Opaque(raw) => write!(out, " opaque:{}", raw.text()),
            };
        }
    };
    for item in &request.items {
        match item {
            Item::Message { role, content: list } => {
                let _ = write!(out, "{role:?}:");
                content(&mut out, list);
            }
            Item::Reasoning { id, summary, text, sealed } => {
                let join = |list: &[patchbay::wire::json::Escaped<'_>]| {
                    list.iter().map(|text| text.raw().to_owned()).collect::<Vec<_>>().join("+")
                };
                let _ = write!(
                    out,
                    "Reasoning: {} s={} t={} e={}",
                    id.unwrap_or_default().raw(),
                    join(summary),
                    join(text),
                    sealed.unwrap_or_default().raw()
                );
            }
            Item::Call { kind, id, tool, text } => {
                let (namespace, name) = (tool.namespace.raw(), tool.name.raw());
                let _ = write!(out, "{kind:?}: {id} {namespace}/{name} {text}");
            }
            Item::Output { kind, id, content: list } => {
                let _ = write!(out, "{kind:?} output: {id}");
                content(&mut out, list);
            }
            Item::Summary { text } => {
                let _ = write!(out, "Summary: {text}");
            }
            Item::Opaque { kind, .. } => {
                let _ = write!(out, "Opaque: {}", kind.raw());
            }
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_kind_of_item() {
    let items = include_str!("golden/responses/items.json");
    let request = read(items);
    insta::assert_snapshot!("items", notes(&request));
    let tools: Vec<String> = request
        .tools
        .iter()
        .map(|tool| format!("{}/{}", tool.name.namespace.raw(), tool.name.name.raw()))
        .collect();
    assert_eq!(tools, ["/exec", "/shell", "mcp__calc/add", "mcp__calc/sub"]);
    assert!(!request.compact);
}

#[test]
fn tools_of_every_kind() {
    let request = read(
        r#"{"model":"m","input":[],"tools":[
            {"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":true},
            {"type":"custom","name":"c","format":{"type":"grammar","syntax":"lark","definition":"g"}},
            {"type":"namespace","name":"ns","tools":[{"type":"function","name":"f","parameters":null},{"type":"namespace","name":"deeper","tools":[]}]},
            {"type":"tool_search","execution":"client","parameters":{}},
            {"type":"web_search","external_web_access":false},
            {"type":"never_heard_of"},
            {"type":"custom","name":"f"}]}"#,
    );
    let kinds: Vec<String> = request
        .tools
        .iter()
        .map(|tool| {
            let kind = match tool.kind {
                ToolKind::Function { parameters, strict } => {
                    format!("function {} {strict:?}", parameters.is_some())
                }
                ToolKind::Custom { syntax, grammar } => {
                    format!(
                        "custom {}{}",
                        syntax.unwrap_or_default().raw(),
                        grammar.unwrap_or_default().raw()
                    )
                }
                ToolKind::Search { parameters } => format!("search {}", parameters.is_some()),
                ToolKind::Hosted { kind } => format!("hosted {}", kind.raw()),
            };
            format!("{}/{} {kind}", tool.name.namespace.raw(), tool.name.name.raw())
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "/f custom ",
            "/c custom larkg",
            "ns/f function false None",
            "/ hosted namespace",
            "/tool_search search true",
            "/ hosted web_search",
            "/ hosted never_heard_of",
        ]
    );
}

#[test]
fn choices() {
    let choice = |value: &str| {
        let body = format!(r#"{{"model":"m","input":"x","tool_choice":{value}}}"#);
        let request = read(&body);
        let choice = match request.choice {
            Choice::Tool { kind, name } => {
                format!("{kind:?} {}/{}", name.namespace.raw(), name.name.raw())
            }
            Choice::Hosted { kind } => format!("hosted {}", kind.raw()),
            other => format!("{other:?}"),
        };
        (choice, request.allowed.len())
    };
    for (value, expected, allowed) in [
        (r#""auto""#, "Auto", 0),
        (r#""none""#, "None", 0),
        (r#""required""#, "Required", 0),
        ("null", "Unset", 0),
        (r#"{"type":"function","name":"f"}"#, "Function /f", 0),
        (r#"{"name":"f","namespace":"functions","type":"custom"}"#, "Custom /f", 0),
        (r#"{"type":"web_search"}"#, "hosted web_search", 0),
        (
            r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"mcp"}]}"#,
            "Required",
            1,
        ),
        (
            r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#,
            "Auto",
            1,
        ),
    ] {
        assert_eq!(choice(value), (expected.to_owned(), allowed), "{value}");
    }
}

#[test]
fn settings_and_what_is_dropped() {
    let request = read(
        r#"{"model":"m","input":"x","stream":true,"max_output_tokens":9,"temperature":0.50,"reasoning":{"effort":"high","summary":null,"context":"all_turns"},
            "text":{"format":{"type":"json_schema","name":"n","schema":{},"strict":true},"verbosity":"low"},"include":["reasoning.encrypted_content","message.output_text.logprobs","x"],
            "stream_options":{"include_obfuscation":false},"client_metadata":{"a":"b"},"background":false,"n":1,"previous_response_id":null,"truncation":"auto",
            "context_management":[],"access_programs":[],"bad,name":1,"store":false}"#,
    );
    let settings = &request.settings;
    assert!(request.stream && settings.include_sealed && settings.logprobs);
    assert_eq!(settings.output_tokens_max, Some(9));
    assert_eq!(settings.temperature.unwrap().text(), "0.50");
    assert_eq!(settings.effort.unwrap().raw(), "high");
    assert_eq!(settings.summary, None);
    assert_eq!(settings.include_obfuscation, Some(false));
    assert!(matches!(settings.format, Format::JsonSchema { strict: Some(true), .. }));
    assert_eq!(request.dropped, ["truncation", "context_management", "access_programs"]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn refusals_name_the_parameter() {
    let deep = format!(r#"{{"model":"m","input":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (body, param, code) in [
        (r#"{"input":"x"}"#, "model", "missing_required_parameter"),
        (r#"{"model":"m"}"#, "input", "missing_required_parameter"),
        (r#"{"model":"m","input":null}"#, "input", "missing_required_parameter"),
        (
            r#"{"model":"m","input":"x","previous_response_id":"r"}"#,
            "previous_response_id",
            "unsupported_parameter",
        ),
        (
            r#"{"model":"m","input":"x","conversation":"c"}"#,
            "conversation",
            "unsupported_parameter",
        ),
        (r#"{"model":"m","input":"x","prompt":{"id":"p"}}"#, "prompt", "unsupported_parameter"),
        (r#"{"model":"m","input":"x","background":true}"#, "background", "unsupported_value"),
        (r#"{"model":"m","input":"x","n":2}"#, "n", "unsupported_value"),
        (
            r#"{"model":"m","input":[{"type":"item_reference","id":"i"}]}"#,
            "input[0].id",
            "unsupported_value",
        ),
        (r#"{"model":"m","input":[{"id":"i"}]}"#, "input[0].id", "unsupported_value"),
        (r#"{"model":"m","input":["x",{}]}"#, "input[0]", "invalid_type"),
        (r#"{"model":"m","input":[{}]}"#, "input[0].type", "missing_required_parameter"),
        (
            r#"{"model":"m","input":[{"type":"message"}]}"#,
            "input[0].role",
            "missing_required_parameter",
        ),
        (r#"{"model":"m","input":[{"role":"robot"}]}"#, "input[0].role", "unsupported_value"),
        (
            r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_video"}]}]}"#,
            "input[0].content[0].type",
            "unsupported_value",
        ),
        (
            r#"{"model":"m","input":[{"role":"user","content":5}]}"#,
            "input[0].content",
            "invalid_type",
        ),
        (
            r#"{"model":"m","input":[{"role":"user"},{"type":"function_call","name":"f","arguments":"{}"}]}"#,
            "input[1].call_id",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call","call_id":"c","name":5}]}"#,
            "input[0].name",
            "invalid_type",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call","call_id":"c"}]}"#,
            "input[0].name",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call_output","call_id":"a","call_id":"b"}]}"#,
            "input[0].call_id",
            "duplicate_parameter",
        ),
        (r#"{"model":"m","model":"n","input":"x"}"#, "model", "duplicate_parameter"),
        (r#"{"model":5,"input":"x"}"#, "model", "invalid_type"),
        (
            r#"{"model":"m","input":"x","max_output_tokens":-1}"#,
            "max_output_tokens",
            "invalid_value",
        ),
        (r#"{"model":"m","input":"x","temperature":"hot"}"#, "temperature", "invalid_type"),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":"s"}]}"#,
            "tools[0].parameters",
            "invalid_type",
        ),
        (
            r#"{"model":"m","input":"x","tools":[{"name":"f"}]}"#,
            "tools[0].type",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"web_search"},{"type":"function"}]}"#,
            "tools[1].name",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"function","name":5}]}"#,
            "tools[0].name",
            "invalid_type",
        ),
        (r#"{"model":"m","input":"x","tool_choice":"maybe"}"#, "tool_choice", "unsupported_value"),
        (
            r#"{"model":"m","input":"x","tool_choice":{"type":"function"}}"#,
            "tool_choice.name",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":"x","text":{"format":{"type":"yaml"}}}"#,
            "text.format.type",
            "unsupported_value",
        ),
        (
            r#"{"model":"m","input":"x","text":{"format":{"type":"json_schema"}}}"#,
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            r#"{"model":"m","input":[{"type":"additional_tools","tools":[{"type":"function"}]}]}"#,
            "input[0].tools[0].name",
            "missing_required_parameter",
        ),
    ] {
        let failure = refused(body);
        assert_eq!(failure.param.as_deref(), Some(param), "{body}: {failure}");
        assert_eq!(failure.code(), code, "{body}: {failure}");
        assert_eq!(failure.status(), 400, "{body}");
    }
    for body in
        ["", "{", "[]", "nul", "{}x", r#"{"model":"m","input":"a"#, &deep, r#"{"mod\u0065l":"m"}"#]
    {
        assert_eq!(refused(body).status(), 400, "{body}");
    }
}

#[test]
fn a_compaction_asks_for_a_summary_and_forbids_calls() {
    let request = read(
        r#"{"model":"m","tools":[{"type":"function","name":"f"}],"tool_choice":"auto","input":[{"role":"user","content":"hi"},{"type":"compaction_trigger"}]}"#,
    );
    assert!(request.compact);
    assert_eq!(request.choice, Choice::None);
    let Some(Item::Message { role: Role::User, content }) = request.items.last() else { panic!() };
    assert!(matches!(content[..], [Content::Text(text)] if text.raw().contains("hand-over")));
}

fn write(
    body: &str,
    from: &str,
    model: &str,
    quirks: &Quirks,
    strict: bool,
) -> Result<Value, Failure> {
    let request = dialect::by_name(from).unwrap().decode_request(body)?;
    let target = Target { model, quirks, provider: "p", strict, stream: true };
    let mut out = Vec::new();
    responses().encode_request(&request, &target, &mut out)?;
    Ok(serde_json::from_slice(&out).unwrap())
}

#[test]
fn a_request_for_an_upstream() {
    let body = include_str!("golden/responses/items.json");
    let openai = Quirks::for_host("api.openai.com");
    let value = write(body, "responses", "gpt-5", &openai, false).unwrap();
    insta::assert_snapshot!("upstream_items", serde_json::to_string_pretty(&value).unwrap());
    let mut body: Value = serde_json::from_str(
        r#"{"model":"m","input":[{"role":"system","content":"a"},{"role":"developer","content":"b"},{"role":"user","content":"hi"},{"role":"system","content":"c"}],
            "tools":[{"type":"function","name":"f","parameters":{}},{"type":"function","name":"web.search"}],"tool_choice":{"type":"function","name":"web.search"},
            "max_output_tokens":3,"temperature":1,"text":{"verbosity":"low"},"include":["message.output_text.logprobs"],"seed":5}"#,
    )
    .unwrap();
    let value = write(&body.to_string(), "responses", "gpt-4.1", &openai, false).unwrap();
    assert_eq!(value["instructions"], json!("a\n\nb"));
    assert_eq!(value["input"][1]["role"], json!("developer"));
    assert_eq!(value["max_output_tokens"], json!(16));
    assert_eq!(value["store"], json!(false));
    assert_eq!(value["stream"], json!(true));
    assert_eq!(value["include"], json!(["message.output_text.logprobs"]));
    assert_eq!(value.get("reasoning"), None);
    assert_eq!(value["tools"][0]["strict"], json!(false));
    assert_eq!(value["tools"][1]["name"], value["tool_choice"]["name"]);
    assert_ne!(value["tools"][1]["name"], json!("web.search"));
    assert_eq!(value.get("seed"), None);
    let refused = write(&body.to_string(), "responses", "m", &openai, true).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("seed"));
    body["input"] = json!([{"role": "system", "content": "only"}]);
    let value = write(&body.to_string(), "responses", "gpt-5", &Quirks::default(), false).unwrap();
    assert_eq!(value["input"][0]["role"], json!("system"));
    assert_eq!(value["include"][0], json!("reasoning.encrypted_content"));
}

#[test]
fn long_call_ids_are_shortened_alike_for_call_and_output() {
    let id = "x".repeat(80);
    let body = format!(
        r#"{{"model":"m","input":[{{"type":"custom_tool_call","call_id":"{id}","name":"p","input":"i"}},{{"type":"function_call_output","call_id":"{id}","output":"o"}}]}}"#
    );
    let value = write(&body, "responses", "m", &Quirks::default(), false).unwrap();
    let input = &value["input"];
    assert_eq!(input[0]["call_id"], input[1]["call_id"]);
    assert!(input[0]["call_id"].as_str().unwrap().len() <= 64);
    assert_eq!(input[1]["type"], json!("custom_tool_call_output"), "the call decides");
}

#[test]
fn own_envelopes_of_other_dialects_stay_here() {
    let own = "eyJ2IjoxLCJwIjoiZGVlcHNlZWsifQ";
    let body = |sealed: &str| {
        format!(
            r#"{{"model":"m","input":[{{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"{sealed}"}},{{"role":"user","content":"x"}}]}}"#
        )
    };
    let openai = Quirks::for_host("api.openai.com");
    let kept = write(&body("gAAAA"), "responses", "m", &openai, false).unwrap();
    assert_eq!(kept["input"][0]["encrypted_content"], json!("gAAAA"));
    let dropped = write(&body(own), "responses", "m", &openai, false).unwrap();
    assert_eq!(dropped["input"].as_array().unwrap().len(), 1);
}

/// Every request that a real Codex sent must be readable: `PATCHBAY_CAPTURES` names a directory of
/// `*/exchange.json` with `{"kind":"request","body":{...}}` records.
#[test]
fn recorded_requests_are_readable() {
    let Some(folder) = std::env::var_os("PATCHBAY_CAPTURES") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(&folder)).unwrap() {
        let file = entry.unwrap().path().join("exchange.json");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let records: Vec<Value> = serde_json::from_str(&text).unwrap();
        for body in records.iter().filter(|record| record["kind"] == "request").map(|r| &r["body"])
        {
            if body.get("input").is_none() {
                continue;
            }
            let text = body.to_string();
            let request = responses().decode_request(&text);
            let request = request.unwrap_or_else(|failure| panic!("{}: {failure}", file.display()));
            assert!(request.dropped.is_empty(), "{}: {:?}", file.display(), request.dropped);
            let unknown = request.items.iter().find_map(|item| match item {
                Item::Message { content, .. } | Item::Output { content, .. } => {
                    content.iter().find(|part| matches!(part, Content::Opaque(_)))
                }
                _ => None,
            });
            assert_eq!(unknown, None, "{}", file.display());
            let calls = |kind| move |item: &&Item<'_>| matches!(item, Item::Call { kind: k, .. } if *k == kind);
            let _ = request.items.iter().filter(calls(CallKind::Function)).count();
            let mut out = Vec::new();
            let quirks = Quirks::default();
            let target =
                Target { model: "m", quirks: &quirks, provider: "p", strict: false, stream: true };
            responses().encode_request(&request, &target, &mut out).unwrap();
            serde_json::from_slice::<Value>(&out).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "no requests below {}", folder.display());
}

/// A strict reader refuses a whole body for one lone half of a surrogate pair.
#[test]
fn no_half_of_a_pair_goes_upstream_from_anywhere() {
    let half = r"x\ud83d";
    let bodies = [
        ("responses", format!(r#"{{"model":"m","input":"{half}"}}"#)),
        ("responses", format!(r#"{{"model":"m","input":"a","instructions":"{half}"}}"#)),
        (
            "responses",
            format!(r#"{{"model":"m","input":"a","user":"{half}","metadata":{{"k":"{half}"}}}}"#),
        ),
        (
            "responses",
            format!(
                r#"{{"model":"m","input":[{{"type":"custom_tool_call","call_id":"c","name":"t","input":"{half}"}},
                {{"type":"custom_tool_call_output","call_id":"c","output":[{{"type":"input_text","text":"{half}"}}]}},
                {{"type":"function_call","call_id":"d","name":"t","arguments":{{"a":"{half}"}}}},
                {{"type":"function_call_output","call_id":"d","output":"{half}"}},
                {{"type":"reasoning","summary":[{{"type":"summary_text","text":"{half}"}}]}},
                {{"role":"assistant","content":"{half}"}}]}}"#
            ),
        ),
        (
            "responses",
            format!(
                r#"{{"model":"m","input":"a","tools":[{{"type":"function","name":"f","description":"{half}",
                "parameters":{{"type":"object","description":"{half}"}}}},
                {{"type":"custom","name":"{half}","format":{{"type":"grammar","syntax":"lark","definition":"{half}"}}}}]}}"#
            ),
        ),
        ("chat", format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{half}"}}]}}"#)),
        (
            "chat",
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"{half}"}}]}},
                {{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{half}"}}}}]}},
                {{"role":"tool","tool_call_id":"c","content":"{half}"}}],"tools":[{{"type":"function","function":{{"name":"f","description":"{half}"}}}}]}}"#
            ),
        ),
    ];
    for (client, body) in &bodies {
        let request = dialect::by_name(client).unwrap().decode_request(body).unwrap();
        assert!(request.halves, "{body}");
        for upstream in ["chat", "responses"] {
            for host in ["api.openai.com", "chatgpt.com", "other.example"] {
                let quirks = Quirks::for_host(host);
                let target = Target {
                    model: "up",
                    quirks: &quirks,
                    provider: "p",
                    strict: false,
                    stream: true,
                };
                let mut out = Vec::new();
                let upstream = dialect::by_name(upstream).unwrap();
                upstream.encode_request(&request, &target, &mut out).unwrap();
                let read: Result<Value, _> = serde_json::from_slice(&out);
                assert!(read.is_ok(), "{read:?}: {}", String::from_utf8_lossy(&out));
            }
        }
    }
    assert!(!read(r#"{"model":"m","input":"\u00e9\\ud83d \ud7ff"}"#).halves);
}
