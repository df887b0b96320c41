//! The transcoder in all its forms: stream and document on either side, relays, cuts and failures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use patchbay::dialect::ids::Ids;
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::request::Request;
use patchbay::dialect::{Decode, Encode, Reply, Sent, by_name};
use patchbay::fault::{Failure, Fault, Kind};
use patchbay::transcode::{Form, Transcoder};
use serde_json::{Value, json};
use support::{chat_stream, chat_text};

const FRAME_BYTES_MAX: usize = 1 << 20;
const NOW_S: u64 = 1_750_000_100;

fn decoder(dialect: &str) -> Box<dyn Decode> {
    by_name(dialect).unwrap().decoder(Sent::default(), &Quirks::default())
}

fn encoder(dialect: &str, request: &str) -> Box<dyn Encode> {
    let dialect = by_name(dialect).unwrap();
    let request = dialect.decode_request(request).unwrap();
    let (ids, created_at) = (Ids::new(1), NOW_S);
    dialect.encoder(&request, Reply { ids, created_at, codex: false, done_marker: true })
}

const RESPONSES: &str = r#"{"model":"m","input":"hi","stream":true}"#;

fn to_responses(from: Form, to: Form) -> Transcoder {
    Transcoder::new(decoder("chat"), encoder("responses", RESPONSES), from, to, FRAME_BYTES_MAX)
}

/// A relay knows nothing of its request but that it passes.
fn chat_relay() -> Transcoder {
    let reply = Reply { ids: Ids::new(1), created_at: NOW_S, codex: false, done_marker: true };
    let encoder = by_name("chat").unwrap().encoder(&Request::default(), reply);
    Transcoder::relay(decoder("chat"), encoder, Form::Stream, None, FRAME_BYTES_MAX)
}

/// Pushes in pieces of `size` bytes, as a connection would, and finishes.
fn run(transcoder: &mut Transcoder, input: &str, size: usize) -> String {
    let (mut pending, mut out) = (Vec::new(), Vec::new());
    for piece in input.as_bytes().chunks(size) {
        pending.extend_from_slice(piece);
        let used = transcoder.push(&pending, NOW_S, &mut out).unwrap();
        pending.drain(..used);
    }
    transcoder.finish(&pending, NOW_S, &mut out);
    String::from_utf8(out).unwrap()
}

fn document(text: &str) -> String {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "u",
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    .to_string()
}

/// The last response object of a Responses stream.
fn last_response(stream: &str) -> Value {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut parsed = events.rev().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    parsed.find(|event| event["response"].is_object()).unwrap()["response"].clone()
}

#[test]
fn every_pair_of_forms_gives_the_same_answer() {
    let text = "grün \u{1f600} \"quoted\"\n";
    let mut seen = Vec::new();
    for (from, input) in [(Form::Stream, chat_text(text)), (Form::Document, document(text))] {
        for size in [1, 7, 4096] {
            let stream = run(&mut to_responses(from, Form::Stream), &input, size);
            seen.push(last_response(&stream)["output"][0]["content"].clone());
            let whole = run(&mut to_responses(from, Form::Document), &input, size);
            let whole: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(whole["status"], "completed");
            seen.push(whole["output"][0]["content"].clone());
        }
    }
    let part = json!([{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]);
    assert!(seen.iter().all(|content| *content == part), "{seen:?}");
}

#[test]
fn a_cut_stream_fails_with_the_callers_words_and_keeps_what_came() {
    let stream = chat_text("half an answer");
    let first = stream.find("\n\n").unwrap() + 2;
    let mut transcoder = to_responses(Form::Stream, Form::Stream);
    let mut out = Vec::new();
    let used = transcoder.push(&stream.as_bytes()[..first + 9], NOW_S, &mut out).unwrap();
    assert_eq!(used, first, "only whole frames are used");
    let cut = Failure::new(Fault::upstream(Kind::Timeout), "silent for 300 s");
    transcoder.fail(&cut, NOW_S, &mut out);
    let response = last_response(&String::from_utf8(out).unwrap());
    assert_eq!(response["status"], "failed");
    assert!(response["error"]["message"].as_str().unwrap().contains("silent for 300 s"));
    assert_eq!(response["output"][0]["content"][0]["text"], "half an answer");
    assert_eq!(transcoder.early_failure(), None, "text went out before");
}

#[test]
fn an_answer_whose_finish_reason_came_is_whole_however_the_connection_ends() {
    let stream = chat_text("all of it").replace("data: [DONE]\n\n", "");
    let mut transcoder = to_responses(Form::Stream, Form::Stream);
    let mut out = Vec::new();
    transcoder.push(stream.as_bytes(), NOW_S, &mut out).unwrap();
    transcoder.fail(&Failure::new(Fault::upstream(Kind::Truncated), "reset"), NOW_S, &mut out);
    assert_eq!(last_response(&String::from_utf8(out).unwrap())["status"], "completed");
}

#[test]
fn a_failure_before_the_first_part_can_still_be_a_status() {
    let error = "data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\n";
    let mut transcoder = to_responses(Form::Stream, Form::Stream);
    run(&mut transcoder, error, 4096);
    let failure = transcoder.early_failure().unwrap();
    assert_eq!((failure.status(), failure.message.as_str()), (429, "slow down"));

    let mut transcoder = to_responses(Form::Stream, Form::Document);
    let late = chat_stream(&[json!({"content": "x"})], "stop");
    let late = late.split_inclusive("\n\n").next().unwrap().to_owned() + error;
    let out = run(&mut transcoder, &late, 4096);
    assert_eq!(out, "", "a client that wants a document gets none");
    assert_eq!(transcoder.early_failure().unwrap().status(), 429);
}

#[test]
fn a_document_that_is_none_is_a_bad_reply() {
    for body in ["", "<html>busy</html>", "{\"choices\":[", "[]"] {
        let mut transcoder = to_responses(Form::Document, Form::Document);
        assert_eq!(run(&mut transcoder, body, 4096), "");
        let failure = transcoder.early_failure().unwrap();
        assert_eq!(failure.status(), 502, "{body}");
    }
}

#[test]
fn an_event_over_the_limit_is_a_fault_of_the_upstream() {
    let long = format!("data: {}", "x".repeat(FRAME_BYTES_MAX));
    let mut transcoder = to_responses(Form::Stream, Form::Stream);
    let fault = transcoder.push(long.as_bytes(), NOW_S, &mut Vec::new()).unwrap_err();
    assert_eq!(fault, Fault::upstream(Kind::TooLarge));
}

#[test]
fn frames_behind_the_end_are_not_read() {
    let stream = chat_text("x") + &"more".repeat(FRAME_BYTES_MAX);
    let mut transcoder = to_responses(Form::Stream, Form::Stream);
    let mut out = Vec::new();
    let used = transcoder.push(stream.as_bytes(), NOW_S, &mut out).unwrap();
    assert!(transcoder.is_done());
    assert_eq!(used, chat_text("x").len());
}

#[test]
fn a_relay_passes_every_byte_and_still_knows_the_answer() {
    let stream = ": comment\r\n\r\n".to_owned() + &chat_text("as is").replace("\n\n", "\r\n\r\n");
    for size in [1, 3, 4096] {
        let request = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
        let (decoder, encoder) = (decoder("chat"), encoder("chat", request));
        let mut relay = Transcoder::relay(decoder, encoder, Form::Stream, None, FRAME_BYTES_MAX);
        assert_eq!(run(&mut relay, &stream, size), stream);
        assert_eq!(relay.outcome().usage.unwrap().total, 10);
        assert!(relay.outcome().stop.is_some());
    }
}

#[test]
fn a_relayed_stream_that_breaks_off_says_so() {
    let mut relay = chat_relay();
    let stream = chat_text("some");
    let first = stream.split_inclusive("\n\n").next().unwrap();
    let mut out = Vec::new();
    relay.push(first.as_bytes(), NOW_S, &mut out).unwrap();
    relay.fail(&Failure::new(Fault::upstream(Kind::Truncated), "cut"), NOW_S, &mut out);
    let text = String::from_utf8(out).unwrap();
    let rest = text.strip_prefix(first).unwrap();
    assert!(rest.contains("\"error\":{"), "{rest}");
    assert!(!rest.contains("[DONE]"), "{rest}");
}

#[test]
fn a_failure_behind_a_relayed_responses_stream_fits_its_numbers() {
    let mut whole = to_responses(Form::Stream, Form::Stream);
    let stream = run(&mut whole, &chat_text("some text"), 4096);
    let frames: Vec<&str> = stream.split_inclusive("\n\n").collect();
    let sent = frames[..4].concat();
    let half = sent.clone() + &frames[4][..20];
    let id = last_response(&sent)["id"].clone();
    for clean in [true, false] {
        let reply = Reply { ids: Ids::new(9), created_at: NOW_S, codex: false, done_marker: false };
        let encoder = by_name("responses").unwrap().encoder(&Request::default(), reply);
        let mut relay =
            Transcoder::relay(decoder("responses"), encoder, Form::Stream, None, FRAME_BYTES_MAX);
        let mut out = Vec::new();
        let used = relay.push(half.as_bytes(), NOW_S, &mut out).unwrap();
        if clean {
            relay.finish(&half.as_bytes()[used..], NOW_S, &mut out);
        } else {
            relay.fail(&Failure::new(Fault::upstream(Kind::Truncated), "cut"), NOW_S, &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let rest = text.strip_prefix(&sent).expect("what came goes out, half an event does not");
        let events = rest.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = events.map(|data| serde_json::from_str(data).unwrap()).collect();
        let numbers: Vec<_> =
            events.iter().map(|event| event["sequence_number"].as_u64()).collect();
        assert_eq!(numbers, [Some(4), Some(5)], "clean {clean}: {rest}");
        assert_eq!(events[1]["type"], "response.failed", "clean {clean}");
        assert_eq!(events[1]["response"]["id"], id, "the id that the client knows");
    }
}

#[test]
fn a_relay_forwards_no_frame_that_was_cut_in_front_of_its_data() {
    let first = chat_text("some").split_inclusive("\n\n").next().unwrap().to_owned();
    for cut in ["data", "data:", "data: ", "event: x\ndata:"] {
        let mut relay = chat_relay();
        let out = run(&mut relay, &(first.clone() + cut), 4096);
        let rest = out.strip_prefix(first.as_str()).unwrap();
        assert!(rest.starts_with("data: {\"error\":{"), "{cut}: {rest}");
    }
}
