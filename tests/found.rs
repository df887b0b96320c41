//! What fuzzing found, each as the plain case that it is. The inputs themselves are among the seeds
//! of their targets.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::{Target, by_name};
use patchbay::fuzzing::transcode::Setup;
use patchbay::transcode::Form;

/// What an upstream gets of a client's request.
fn translated(client: &str, upstream: &str, body: &str) -> String {
    let request = by_name(client).unwrap().decode_request(body).unwrap();
    let quirks = Quirks::for_host("api.openai.com");
    let target =
        Target { model: "m", quirks: &quirks, provider: "p", strict: false, stream: false };
    let mut out = Vec::new();
    by_name(upstream).unwrap().encode_request(&request, &target, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What a client gets of an upstream's stream.
fn told(upstream: &str, client: &str, stream: &str) -> String {
    let (out, _) = Setup::streams(upstream, client).unwrap().run(&[stream.as_bytes()]);
    String::from_utf8(out).unwrap()
}

/// Upstreams refuse the whole body for one, and clients that cut a tool's output send them.
#[test]
fn halves_of_surrogate_pairs_reach_no_responses_upstream() {
    let body = r#"{"model":"m","instructions":"\udc00","input":[
        {"role":"user","content":"cut \ud83d, whole \ud83d\ude00, escaped \\ud83d"},
        {"type":"function_call_output","call_id":"a","output":"\ude00"}]}"#;
    let out = translated("responses", "responses", body);
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read["instructions"], "\u{fffd}");
    let text = "cut \u{fffd}, whole \u{1f600}, escaped \\ud83d";
    assert_eq!(read["input"][0]["content"][0]["text"], text);
    assert_eq!(read["input"][1]["output"], "\u{fffd}");
}

/// No client could tell what it is, and SDKs fail on it.
#[test]
fn an_item_without_a_type_reaches_no_client() {
    let stream = r#"event: response.created
data: {"type":"response.created","response":{"id":"r","output":[]}}

data: {"type":"response.output_item.done","output_index":0,"item":{"tYpe":"reasoning","id":"x"}}

data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}

"#;
    let out = told("responses", "responses", stream);
    assert!(out.contains("response.completed"), "{out}");
    assert!(!out.contains("tYpe") && !out.contains("output_item"), "{out}");
}

/// Parts that the upstream does not know are dropped; a message of nothing else goes with them.
#[test]
fn nothing_empty_is_left_of_what_was_dropped() {
    let body = r#"{"model":"m","input":[
        {"role":"developer","content":[{"type":"x"}]},
        {"role":"user","content":"hi"},
        {"type":"function_call","call_id":"a","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"a","output":[{"type":"x"}]}]}"#;
    let out = translated("responses", "responses", body);
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read["input"][0]["role"], "user");
    assert_eq!(read["input"][2]["output"], "");
}

/// The id of a call that is not there stands in a text.
#[test]
fn halves_of_surrogate_pairs_in_ids_reach_no_chat_upstream() {
    let body = r#"{"model":"m","input":[
        {"type":"function_call_output","call_id":"a\ud83db","output":"x"}]}"#;
    let out = translated("responses", "chat", body);
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read["messages"][0]["content"], "[tool result a\u{fffd}b]\nx");
}

/// A reasoning text ends before it is sealed, half a character at its end included.
#[test]
fn no_text_comes_behind_a_seal() {
    let stream = r#"data: {"type":"response.reasoning_summary_text.delta","delta":"a\ud83d"}

data: {"type":"response.output_item.done","item":{"type":"reasoning","encrypted_content":"s"}}

data: {"type":"response.completed","response":{"status":"completed","output":[]}}

"#;
    let (out, _) = Setup::streams("responses", "responses").unwrap().run(&[stream.as_bytes()]);
    let out = String::from_utf8(out).unwrap();
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("no {text} in {out}"));
    assert!(at("\"delta\":\"a\"") < at("\"delta\":\"\\ufffd\""), "{out}");
    assert!(at("\"delta\":\"\\ufffd\"") < at("encrypted_content"), "{out}");
    assert!(out.contains("\"text\":\"a\\ufffd\""), "{out}");
}

/// What stands where a number belongs is shown as it came, and takes no part in our own JSON.
#[test]
fn an_exit_code_that_is_a_text_breaks_no_event() {
    let lines = r#"{"type":"item.completed","item":{"type":"command_execution","command":"ls","exit_code":"1\"","status":"failed"}}
{"type":"item.completed","item":{"type":"todo_list","items":[{"text":"look","completed":"x"}]}}
{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}
"#;
    let streams = Setup::streams("codex-exec", "responses").unwrap();
    let setup = Setup { from: Form::Lines, thinking: true, ..streams };
    let (out, _) = setup.run(&[lines.as_bytes()]);
    let out = String::from_utf8(out).unwrap();
    let datas =
        out.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|it| *it != "[DONE]");
    let events: Vec<serde_json::Value> =
        datas.map(|data| serde_json::from_str(data).unwrap()).collect();
    let told: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(told, "Ran `ls` (exit code \"1\\\"\")Plan:\n[ ] look");
}
