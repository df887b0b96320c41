//! What the Responses dialect puts on the wire, byte for byte.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use patchbay::dialect::event::{Call, CallKind, Event, Part, Stop, Usage};
use patchbay::dialect::fold::Answer;
use patchbay::dialect::ids::Ids;
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::{self, Dialect, Reply, Sent};
use patchbay::fault::{Failure, Fault, Kind, Retry};
use patchbay::transcode::{Form, Transcoder};
use patchbay::wire::json::{Escaped, Raw};

const PLAIN: &str = r#"{"model":"m","input":"hi","stream":true}"#;

fn responses() -> &'static dyn Dialect {
    dialect::by_name("responses").unwrap()
}

fn reply(codex: bool) -> Reply {
    Reply { ids: Ids::new(1), created_at: 1_750_000_000, codex, done_marker: !codex }
}

fn e(text: &str) -> Escaped<'_> {
    Escaped::trusted(text)
}

fn open(part: u32, kind: Part<'_>) -> Event<'_> {
    Event::Open { part, kind }
}

fn delta(part: u32, text: &str) -> Event<'_> {
    Event::Delta { part, text: e(text), logprobs: None }
}

fn close(part: u32) -> Event<'static> {
    Event::Close { part }
}

fn start() -> Event<'static> {
    Event::Start { id: e("up-1"), model: e("up-model") }
}

fn usage() -> Event<'static> {
    Event::Usage(Usage {
        input: 11,
        cached: 3,
        cache_write: 0,
        output: 10,
        reasoning: 4,
        total: 21,
    })
}

fn call<'a>(kind: CallKind, id: &'a str, namespace: &'a str, name: &'a str) -> Part<'a> {
    Part::Call(Call { kind, id: e(id), namespace: e(namespace), name: e(name) })
}

/// Encodes events as a stream for the client that sent `request`.
fn stream(request: &str, codex: bool, events: &[Event<'_>]) -> String {
    let request = responses().decode_request(request).unwrap();
    let mut encoder = responses().encoder(&request, reply(codex));
    let mut out = Vec::new();
    for event in events {
        encoder.event(*event, 1_750_000_001, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// Encodes events as one document.
fn document(request: &str, events: &[Event<'_>]) -> String {
    let request = responses().decode_request(request).unwrap();
    let mut answer = Answer::default();
    for event in events {
        answer.push(*event);
    }
    let mut out = Vec::new();
    responses().encoder(&request, reply(false)).answer(&answer, 1_750_000_001, &mut out);
    String::from_utf8(out).unwrap()
}

fn whole_answer<'a>() -> Vec<Event<'a>> {
    let annotation =
        r#"{"type":"url_citation","start_index":0,"end_index":2,"url":"https://e.x","title":"E"}"#;
    vec![
        start(),
        open(0, Part::Reasoning { raw: false }),
        delta(0, "**Plan**\\n"),
        delta(0, "look"),
        Event::Seal { part: 0, opaque: e("sealed==") },
        close(0),
        open(1, Part::Text { message: 0 }),
        delta(1, "Hé"),
        Event::Delta {
            part: 1,
            text: e(" \\\"you\\\""),
            logprobs: Some(
                Raw::check(
                    "[{\"token\":\"x\",\n\"logprob\":-0.1,\"bytes\":[120],\"top_logprobs\":[]}]",
                )
                .unwrap(),
            ),
        },
        Event::Annotation { part: 1, object: Raw::check(annotation).unwrap() },
        close(1),
        open(2, Part::Refusal { message: 0 }),
        delta(2, "but no"),
        close(2),
        open(3, call(CallKind::Function, "call_1", "mcp__calc", "add")),
        delta(3, "{\\\"a\\\":"),
        delta(3, "1}"),
        close(3),
        open(4, call(CallKind::Custom, "call_2", "", "apply_patch")),
        delta(4, "*** Begin\\n"),
        close(4),
        open(5, call(CallKind::Search, "call_3", "", "tool_search")),
        delta(5, "{\\\"query\\\":\\n\\\"x\\\"}"),
        close(5),
        open(6, call(CallKind::Function, "call_4", "", "now")),
        close(6),
        usage(),
        Event::Stop(Stop::Tool),
    ]
}

const SETTINGS: &str = r#"{
  "model": "m", "stream": true, "instructions": "Be \"brief\".", "max_output_tokens": 100,
  "max_tool_calls": 3, "metadata": {"a": "b"}, "parallel_tool_calls": false,
  "prompt_cache_key": "k", "reasoning": {"effort": "low", "summary": "auto"}, "safety_identifier": "s",
  "service_tier": "priority", "temperature": 0.5, "top_p": 0.9, "top_logprobs": 2, "truncation": "disabled",
  "user": "u", "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
  "tool_choice": {"type": "function", "name": "add"},
  "tools": [{"type": "function", "name": "add"},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "web_search"}],
  "input": "hi"}"#;

#[test]
fn a_whole_answer_as_a_stream() {
    insta::assert_snapshot!("whole_stream", stream(PLAIN, false, &whole_answer()));
}

#[test]
fn a_whole_answer_as_a_stream_for_codex() {
    let codex = stream(PLAIN, true, &whole_answer());
    assert!(!codex.contains("refusal"), "a refusal part makes Codex drop the message: {codex}");
    insta::assert_snapshot!("whole_stream_codex", codex);
}

#[test]
fn a_whole_answer_as_a_document() {
    insta::assert_snapshot!("whole_document", document(PLAIN, &whole_answer()));
}

#[test]
fn the_settings_are_repeated() {
    let events = [start(), Event::Stop(Stop::End)];
    insta::assert_snapshot!("settings", stream(SETTINGS, false, &events));
}

#[test]
fn cut_answers() {
    let text = [start(), open(0, Part::Text { message: 0 }), delta(0, "Hal"), usage()];
    let mut snapshot = String::new();
    for (codex, stop) in [(false, Stop::Length), (true, Stop::Length), (false, Stop::Filter)] {
        let mut events = text.to_vec();
        events.push(Event::Stop(stop));
        snapshot += &format!("--- codex {codex} {stop:?}\n{}", stream(PLAIN, codex, &events));
    }
    insta::assert_snapshot!("cut_text", snapshot);
    let calls = [
        start(),
        open(0, call(CallKind::Function, "call_1", "", "shell")),
        delta(0, "{\\\"cm"),
        Event::Stop(Stop::Length),
    ];
    let standard = stream(PLAIN, false, &calls);
    let codex = stream(PLAIN, true, &calls);
    assert!(!codex.contains("response.output_item.done"), "half a call would be run: {codex}");
    insta::assert_snapshot!("cut_call", format!("{standard}--- codex\n{codex}"));
}

#[test]
fn failures_in_the_middle() {
    let mut limited = Failure::new(Fault::upstream(Kind::RateLimited), "Slow down.");
    limited.fault.retry = Retry::After(3);
    let events = [
        start(),
        open(0, Part::Text { message: 0 }),
        delta(0, "one"),
        close(0),
        open(1, Part::Text { message: 1 }),
        delta(1, "tw"),
        Event::Fail(&limited),
    ];
    let (standard, codex) = (stream(PLAIN, false, &events), stream(PLAIN, true, &events));
    insta::assert_snapshot!("failed", format!("{standard}--- codex\n{codex}"));
}

#[test]
fn a_failure_of_a_relayed_stream_repeats_no_start() {
    let failure = Failure::new(Fault::upstream(Kind::Truncated), "cut");
    let out = stream(PLAIN, false, &[Event::Fail(&failure)]);
    assert!(out.starts_with("event: error\n"), "{out}");
    assert!(!out.contains("response.created") && out.contains("response.failed"), "{out}");
}

#[test]
fn a_compaction_is_one_item_that_comes_back_as_a_summary() {
    let request = r#"{"model":"m","stream":true,"input":[{"role":"user","content":"hi"},{"type":"compaction_trigger"}]}"#;
    let events = [
        start(),
        open(0, Part::Reasoning { raw: false }),
        delta(0, "hm"),
        close(0),
        open(1, Part::Text { message: 0 }),
        delta(1, "All \\\"is\\\" "),
        delta(1, "done."),
        close(1),
        usage(),
        Event::Stop(Stop::End),
    ];
    let out = stream(request, true, &events);
    insta::assert_snapshot!("compaction", out);
    let empty = stream(request, true, &[start(), Event::Stop(Stop::End)]);
    assert!(empty.contains("event: response.failed"), "{empty}");
}

#[test]
fn keep_alives() {
    let request = responses().decode_request(PLAIN).unwrap();
    for (codex, started, expected) in [
        (true, true, "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":2}\n\n"),
        (true, false, "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
        (false, true, ": keepalive\n\n"),
        (false, false, ": keepalive\n\n"),
    ] {
        let mut encoder = responses().encoder(&request, reply(codex));
        if started {
            encoder.event(start(), 0, &mut Vec::new());
        }
        let mut out = Vec::new();
        encoder.keep_alive(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

/// Passes a reply through the upstream's side and back to the client's.
fn again(bytes: &[u8], form: Form) -> (String, Transcoder) {
    let request = responses().decode_request(PLAIN).unwrap();
    let decoder = responses().decoder(Sent::default(), &Quirks::default());
    let encoder = responses().encoder(&request, reply(false));
    let mut transcoder = Transcoder::new(decoder, encoder, form, form, 1 << 20);
    let mut out = Vec::new();
    let used = transcoder.push(bytes, 1_750_000_001, &mut out).unwrap();
    transcoder.finish(&bytes[used..], 1_750_000_001, &mut out);
    (String::from_utf8(out).unwrap(), transcoder)
}

#[test]
fn what_is_written_is_read_as_the_same_answer() {
    let written = stream(PLAIN, false, &whole_answer());
    assert_eq!(again(written.as_bytes(), Form::Stream).0, written);
    let written = document(PLAIN, &whole_answer());
    assert_eq!(again(written.as_bytes(), Form::Document).0, written);
}

#[test]
fn a_stream_cut_anywhere_never_looks_complete() {
    let written = stream(PLAIN, false, &whole_answer());
    let terminal = written.find("event: response.completed").unwrap();
    for cut in (0..terminal).step_by(53) {
        let (out, transcoder) = again(&written.as_bytes()[..cut], Form::Stream);
        assert!(transcoder.outcome().failure.is_some(), "cut at {cut}");
        assert!(!out.contains("response.completed"), "cut at {cut}");
        assert!(out.contains("event: response.failed"), "cut at {cut}");
    }
}
