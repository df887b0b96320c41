//! Replies of Responses upstreams, as the events that every encoder gets.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::dialect::event::{CallKind, Event, Grammar, Part};
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::request::ToolName;
use patchbay::dialect::tools::ToolTable;
use patchbay::dialect::{self, Decode, Sent};
use patchbay::fuzzing::transcode::Setup;
use patchbay::wire::json::{Escaped, Raw};
use patchbay::wire::sse::Frame;
use std::fmt::Write as _;

fn decoder(tools: ToolTable) -> Box<dyn Decode> {
    let sent = Sent { tools, ..Sent::default() };
    dialect::by_name("responses").unwrap().decoder(sent, &Quirks::default())
}

/// Events in short: `Text0:` opens, words are deltas, `.` closes.
#[derive(Default)]
struct Notes {
    text: String,
    grammar: Grammar,
}

impl Notes {
    fn note(&mut self, event: &Event<'_>) {
        if let Err(rule) = self.grammar.check(event) {
            let _ = write!(self.text, "!! {rule} !! ");
        }
        let out = &mut self.text;
        let _ = match event {
            Event::Start { id, model } => write!(out, "Start({},{}) ", id.raw(), model.raw()),
            Event::Open { kind: Part::Text { message }, .. } => write!(out, "Text{message}: "),
            Event::Open { kind: Part::Refusal { message }, .. } => {
                write!(out, "Refusal{message}: ")
            }
            Event::Open { kind: Part::Reasoning { raw }, .. } => {
                write!(out, "{}: ", if *raw { "Raw" } else { "Summary" })
            }
            Event::Open { kind: Part::Call(call), .. } => write!(
                out,
                "{:?}({},{},{}): ",
                call.kind,
                call.id.raw(),
                call.namespace.raw(),
                call.name.raw()
            ),
            Event::Open { kind: Part::Opaque { item, .. }, .. } => {
                write!(out, "Opaque {} ", item.text())
            }
            Event::Delta { text, logprobs, .. } => {
                let more = logprobs.map(Raw::text).unwrap_or_default();
                write!(out, "<{}>{more} ", text.raw())
            }
            Event::Annotation { .. } => write!(out, "Note "),
            Event::Seal { opaque, .. } => write!(out, "Seal({}) ", opaque.raw()),
            Event::Close { .. } => write!(out, ". "),
            Event::Usage(usage) => write!(out, "Usage({},{}) ", usage.input, usage.output),
            Event::Stop(stop) => write!(out, "{stop:?}"),
            Event::Fail(failure) => write!(out, "Fail({failure})"),
        };
    }
}

fn stream_with(tools: ToolTable, frames: &[&str]) -> String {
    let (mut decoder, mut notes) = (decoder(tools), Notes::default());
    for data in frames {
        let frame = Frame { name: b"", data: data.as_bytes() };
        decoder.frame(frame, &mut |event| notes.note(&event)).unwrap();
    }
    decoder.finish(&mut |event| notes.note(&event));
    assert!(decoder.is_done());
    notes.text
}

fn stream(frames: &[&str]) -> String {
    stream_with(ToolTable::default(), frames)
}

fn document(body: &str) -> String {
    let (mut decoder, mut notes) = (decoder(ToolTable::default()), Notes::default());
    decoder.document(body.as_bytes(), &mut |event| notes.note(&event)).unwrap();
    assert!(decoder.is_done());
    notes.text
}

const CREATED: &str = r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","output":[]}}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":2}}}"#;
const INCOMPLETE: &str = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}}"#;
const ADDED_CALL: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":""}}"#;

#[test]
fn text_streams_and_what_deltas_left_out_follows() {
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hel","logprobs":[{"token":"H"}]}"#;
    let done =
        r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"Hello"}"#;
    let item = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"other","content":[{"type":"output_text","text":"Hello","annotations":[{"type":"url_citation","url":"u","title":"t","start_index":0,"end_index":1},{"type":"file_citation"}]}]}}"#;
    let whole = "Text0: <Hel>[{\"token\":\"H\"}] <lo> Note . Usage(1,2) End";
    assert_eq!(stream(&[CREATED, delta, done, item, COMPLETED]), format!("Start(r,m) {whole}"));
    assert_eq!(stream(&[delta, done, item, COMPLETED]), format!("Start(,) {whole}"));
    // The same item told twice, and deltas behind its end, change nothing.
    let twice = stream(&[CREATED, delta, done, item, item, delta, COMPLETED]);
    assert_eq!(twice, format!("Start(r,m) {whole}"));
    // No delta at all; no closing events at all.
    assert!(stream(&[CREATED, item, COMPLETED]).contains("Text0: <Hello> Note . "));
    assert!(stream(&[CREATED, delta, COMPLETED]).contains("<Hel>[{\"token\":\"H\"}] . Usage"));
}

#[test]
fn the_final_output_counts_for_what_was_not_streamed() {
    let done = r#"{"type":"response.completed","response":{"status":"completed","output":[
        {"type":"message","content":[{"type":"output_text","text":"Hello"}]},
        {"type":"function_call","call_id":"c2","name":"g","arguments":"{}"}]}}"#;
    let delta =
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hel"}"#;
    let whole = "<lo> . Function(c2,,g): <{}> . Tool";
    assert_eq!(stream(&[CREATED, delta, done]), format!("Start(r,m) Text0: <Hel> {whole}"));
    assert_eq!(stream(&[done]), "Start(,) Text0: <Hello> . Function(c2,,g): <{}> . Tool");
    // An upstream that counts from 1 in the stream: the stream counts.
    let one = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"message","content":[{"type":"output_text","text":"x"}]}}"#;
    assert_eq!(stream(&[CREATED, one, done]), "Start(r,m) Text0: <x> . End");
}

#[test]
fn calls_are_opened_once_their_name_is_known() {
    let delta = r#"{"type":"response.function_call_arguments.delta","output_index":0,"item_id":"rotates","delta":"{\"a\""}"#;
    let done = r#"{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"a\":1}"}"#;
    let item = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"c1","name":"f","namespace":"ns","arguments":"{\"a\":1}"}}"#;
    assert_eq!(
        stream(&[CREATED, ADDED_CALL, delta, done, item, COMPLETED]),
        r#"Start(r,m) Function(c1,,f): <{\"a\"> <:1}> . Usage(1,2) Tool"#
    );
    for frames in [&[delta, done, item, COMPLETED][..], &[done, item, COMPLETED]] {
        let notes = stream(frames);
        assert!(notes.contains("Function(c1,ns,f): ") && notes.contains(":1}> . Usage"), "{notes}");
    }
    let custom = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"custom_tool_call","call_id":"c1","name":"patch","input":"*** x\n"}}"#;
    assert!(stream(&[custom, COMPLETED]).contains("Custom(c1,,patch): <*** x\\n> . "));
    let search = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"tool_search_call","call_id":"c1","execution":"client","arguments":{"q":"x"}}}"#;
    assert!(
        stream(&[search, COMPLETED]).contains(r#"Search(c1,,tool_search): <{\"q\":\"x\"}> . "#)
    );
}

#[test]
fn a_call_that_was_streamed_as_text_is_a_call_in_the_end() {
    let delta =
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"{}"}"#;
    let done = r#"{"type":"response.completed","response":{"status":"completed","output":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}]}}"#;
    assert_eq!(stream(&[delta, done]), "Start(,) Text0: <{}> . Function(c,,f): <{}> . Tool");
    // A call of nothing is no call.
    let nameless = done.replace(r#","name":"f""#, "");
    assert_eq!(stream(&[&nameless]), "Start(,) End");
}

#[test]
fn parallel_calls_come_one_behind_the_other() {
    let second = ADDED_CALL.replace("\"output_index\":0", "\"output_index\":1").replace("c1", "c2");
    let delta = |index: u32, text: &str| {
        format!(
            r#"{{"type":"response.function_call_arguments.delta","output_index":{index},"delta":"{text}"}}"#
        )
    };
    let done = |index: u32| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":{index},"item":{{"type":"function_call","call_id":"c{}","name":"f"}}}}"#,
            index + 1
        )
    };
    let frames = [
        ADDED_CALL.to_owned(),
        second,
        delta(0, "a"),
        delta(1, "x"),
        delta(0, "b"),
        delta(1, "y"),
        done(1),
        done(0),
        COMPLETED.to_owned(),
    ];
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    assert_eq!(
        stream(&frames),
        "Start(,) Function(c1,,f): <a> <b> . Function(c2,,f): <xy> . Usage(1,2) Tool"
    );
}

#[test]
fn reasoning_is_shown_in_one_of_its_forms_and_sealed() {
    let summary = |index: u32, text: &str| {
        format!(
            r#"{{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":{index},"delta":"{text}"}}"#
        )
    };
    let raw = r#"{"type":"response.reasoning_text.delta","output_index":0,"content_index":0,"delta":"raw"}"#;
    let item = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}],"content":[{"type":"reasoning_text","text":"raw"}],"encrypted_content":"E="}}"#;
    let sealed = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","summary":[],"encrypted_content":"E="}}"#;
    let both = "Start(,) Summary: <a> <\\n\\n> <b> Seal(E=) . Usage(1,2) End";
    assert_eq!(stream(&[&summary(0, "a"), &summary(1, "b"), raw, item, COMPLETED]), both);
    assert_eq!(stream(&[item, COMPLETED]), both);
    assert_eq!(stream(&[raw, item, COMPLETED]), "Start(,) Raw: <raw> Seal(E=) . Usage(1,2) End");
    assert_eq!(stream(&[sealed, COMPLETED]), "Start(,) Summary: Seal(E=) . Usage(1,2) End");
}

#[test]
fn a_call_that_a_limit_cut_stays_open() {
    let delta =
        r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"a"}"#;
    let cut = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","status":"incomplete","call_id":"c1","name":"f","arguments":"{\"a"}}"#;
    let expected = r#"Start(,) Function(c1,,f): <{\"a> Length"#;
    assert_eq!(stream(&[ADDED_CALL, delta, INCOMPLETE]), expected);
    assert_eq!(stream(&[ADDED_CALL, delta, cut, INCOMPLETE]), expected);
    let filtered = INCOMPLETE.replace("max_output_tokens", "content_filter");
    assert_eq!(stream(&[CREATED, &filtered]), "Start(r,m) Filter");
}

#[test]
fn other_items_pass_whole_and_unknown_events_are_passed_over() {
    let item = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"web_search_call","id":"ws_1"}}"#;
    let other = r#"{"type":"response.web_search_call.searching","output_index":0}"#;
    let keep = r#"{"type":"keepalive","sequence_number":3}"#;
    assert_eq!(
        stream(&[CREATED, keep, other, item, COMPLETED, "[DONE]", COMPLETED]),
        r#"Start(r,m) Opaque {"type":"web_search_call","id":"ws_1"} . Usage(1,2) End"#
    );
}

#[test]
fn half_characters_are_joined_or_replaced() {
    let delta = |text: &str| {
        format!(
            r#"{{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"{text}"}}"#
        )
    };
    let frames = [&delta("a\\ud83d"), &delta("\\ude00b\\ud83d"), COMPLETED];
    let stream: String = frames.iter().map(|data| format!("data: {data}\n\n")).collect();
    for client in ["chat", "responses"] {
        let (out, _) = Setup::streams("responses", client).unwrap().run(&[stream.as_bytes()]);
        let out = String::from_utf8(out).unwrap();
        let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("no {text} in {out}"));
        assert!(at("\"a\"") < at("\"\\ud83d\\ude00b\""), "{out}");
        assert!(at("\"\\ud83d\\ude00b\"") < at("\"\\ufffd\""), "{out}");
    }
}

#[test]
fn every_way_to_fail() {
    let flat = r#"{"type":"error","code":"rate_limit_exceeded","message":"slow","param":null}"#;
    let nested = r#"{"type":"error","error":{"type":"rate_limit_error","code":"rate_limit_exceeded","message":"slow"}}"#;
    let bare = r#"{"error":{"code":"rate_limit_exceeded","message":"slow"}}"#;
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"slow"}}}"#;
    for frame in [flat, nested, bare, failed] {
        assert_eq!(
            stream(&[CREATED, frame]),
            "Start(r,m) Fail(rate_limit_exceeded: slow)",
            "{frame}"
        );
    }
    for error in [flat, nested] {
        // A relay has to hand on the `response.failed` too: some clients know only that.
        let mut decoder = decoder(ToolTable::default());
        let frame = |data: &'static str| Frame { name: b"", data: data.as_bytes() };
        decoder.frame(frame(error), &mut |_| ()).unwrap();
        assert!(!decoder.is_done(), "{error}");
        decoder.frame(frame(failed), &mut |_| ()).unwrap();
        assert!(decoder.is_done(), "{error}");
        let silent = r#"{"type":"response.failed","response":{"status":"failed"}}"#;
        assert_eq!(
            stream(&[CREATED, error, silent]),
            "Start(r,m) Fail(rate_limit_exceeded: slow)",
            "{error}"
        );
    }
    let silent = r#"{"type":"response.failed","response":{"status":"failed"}}"#;
    assert!(stream(&[CREATED, silent]).contains("Fail(server_error"));
    let cut =
        stream(&[CREATED, r#"{"type":"response.output_text.delta","output_index":0,"delta":"x"}"#]);
    assert!(cut.starts_with("Start(r,m) Text0: <x> Fail(upstream_disconnected"), "{cut}");
    assert!(stream(&[]).starts_with("Fail(upstream_disconnected"));
    let mut decoder = decoder(ToolTable::default());
    for data in [&b"{\"type\":\"x\""[..], b"\xff", b"[1", b"nonsense"] {
        assert!(decoder.frame(Frame { name: b"", data }, &mut |_| ()).is_err(), "{data:?}");
    }
}

#[test]
fn documents_give_the_events_of_a_stream() {
    let body = r#"{
      "id": "r", "model": "m", "status": "completed",
      "output": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
                 {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
                 {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
      "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}"#;
    assert_eq!(
        document(body),
        "Start(r,m) Summary: <s> . Text0: <a> . Refusal0: <b> . Function(c,,f): <{}> . Usage(3,4) Tool"
    );
    let incomplete = r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}"#;
    assert_eq!(document(incomplete), "Start(,) Length");
    assert!(document(r#"{"error":{"message":"no","code":"x"}}"#).starts_with("Fail(x: no"));
    assert!(document(r#"{"choices":[]}"#).starts_with("Fail(bad_upstream_response"));
}

#[test]
fn renamed_tools_get_their_names_back() {
    let mut tools = ToolTable::default();
    let name = |namespace, name| ToolName {
        namespace: Escaped::trusted(namespace),
        name: Escaped::trusted(name),
    };
    tools.add(CallKind::Function, false, name("mcp__calc", "add"));
    tools.add(CallKind::Search, false, name("", "tool_search"));
    for (upstream, expected) in [
        ("mcp__calc__add", "Function(c1,mcp__calc,add): "),
        ("tool_search", "Search(c1,,tool_search): "),
        ("else", "Function(c1,,else): "),
    ] {
        let added = ADDED_CALL.replace("\"f\"", &format!("\"{upstream}\""));
        let notes = stream_with(tools.clone(), &[&added, COMPLETED]);
        assert!(notes.contains(expected), "{notes}");
    }
    // A custom tool that nobody declared is the upstream's own.
    let own = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"custom_tool_call","call_id":"x","name":"x_search","input":""}}"#;
    assert!(stream_with(tools, &[own, COMPLETED]).contains("Opaque {"));
}
