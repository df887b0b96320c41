//! Recorded streams of real providers, where a folder of them is at hand: `PATCHBAY_CORPUS` names it
//! (`<source>/{chat,responses}/<name>.sse`). Without it these tests have nothing to do.
//!
//! What a decoder makes of a stream is compared with what a plain reader of its JSON finds in it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test: helpers fail by panicking, and tables are long"
)]

use patchbay::dialect::event::{CallKind, Event, Grammar};
use patchbay::dialect::fold::{Answer, AnswerKind};
use patchbay::dialect::ids::Ids;
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::{self, Dialect, Reply, Sent};
use patchbay::transcode::{Form, Transcoder};
use patchbay::wire::json::Escaped;
use patchbay::wire::sse::{self, Step};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FRAME_BYTES_MAX: usize = 16 << 20;

fn streams(kind: &str) -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("PATCHBAY_CORPUS") else { return Vec::new() };
    let mut found = Vec::new();
    for source in std::fs::read_dir(root).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(source.path().join(kind)) else { continue };
        found.extend(
            files
                .flatten()
                .map(|file| file.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "sse")),
        );
    }
    found.sort();
    assert!(!found.is_empty(), "PATCHBAY_CORPUS has no {kind} stream");
    found
}

/// What a stream says, as plain text.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    refusal: String,
    reasoning: String,
    /// Name and arguments, in order of appearance.
    calls: Vec<(String, String)>,
    failed: bool,
}

/// Reads a Chat stream as naively as possible: lines, `serde_json`, the documented fields.
fn plain_chat(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    let mut keys: Vec<(String, String)> = Vec::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(chunk) = serde_json::from_str::<Value>(data.trim()) else { continue };
        said.failed |= chunk.get("error").is_some_and(|error| !error.is_null());
        let mut choices = chunk.get("choices").and_then(Value::as_array).into_iter().flatten();
        let first = |choice: &&Value| choice.get("index").is_none_or(|index| index == 0);
        let Some(delta) = choices.find(first).and_then(|c| c.get("delta")) else { continue };
        let string = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or("");
        said.text.push_str(string("content"));
        said.refusal.push_str(string("refusal"));
        let reasoning = match string("reasoning_content") {
            "" => string("reasoning"),
            text => text,
        };
        said.reasoning.push_str(reasoning);
        for part in delta.get("content").and_then(Value::as_array).into_iter().flatten() {
            said.text.push_str(part.get("text").and_then(Value::as_str).unwrap_or(""));
            for thought in part.get("thinking").and_then(Value::as_array).into_iter().flatten() {
                said.reasoning.push_str(thought["text"].as_str().unwrap());
            }
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let id = call.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
            let index = call.get("index").map(ToString::to_string).unwrap_or_default();
            let function = |name: &str| call["function"].get(name).and_then(Value::as_str);
            let begins = function("name").is_some_and(|name| !name.is_empty()) && !id.is_empty();
            let known = |(old_index, old_id): &(String, String)| {
                *old_index == index && (!begins || *old_id == id)
            };
            let at = keys.iter().rposition(known).unwrap_or_else(|| {
                keys.push((index.clone(), id.clone()));
                said.calls.push(Default::default());
                keys.len() - 1
            });
            let (name, arguments) = &mut said.calls[at];
            if name.is_empty() {
                name.push_str(function("name").unwrap_or(""));
            }
            arguments.push_str(function("arguments").unwrap_or(""));
        }
        if let Some(call) = delta.get("function_call").filter(|call| call.is_object()) {
            if said.calls.is_empty() {
                said.calls.push(Default::default());
            }
            said.calls[0].0.push_str(call.get("name").and_then(Value::as_str).unwrap_or(""));
            said.calls[0].1.push_str(call.get("arguments").and_then(Value::as_str).unwrap_or(""));
        }
    }
    for (_, arguments) in &mut said.calls {
        if arguments.trim().is_empty() {
            "{}".clone_into(arguments);
        }
    }
    said
}

/// Decodes a stream whole.
fn answer(dialect: &dyn Dialect, bytes: &[u8]) -> Answer {
    let mut decoder = dialect.decoder(Sent::default(), &Quirks::default());
    let (mut answer, mut grammar) = (Answer::default(), Grammar::default());
    let mut sink = |event: Event<'_>| {
        grammar.check(&event).unwrap();
        answer.push(event);
    };
    let (mut frames, mut rest) = (sse::Decoder::default(), bytes);
    loop {
        let (step, used) = frames.step(rest);
        match step {
            Step::NeedMore => break,
            Step::Skip => {}
            Step::Frame(frame) if decoder.frame(frame, &mut sink).is_err() => {
                assert!(serde_json::from_slice::<Value>(frame.data).is_err(), "refused good JSON");
            }
            Step::Frame(_) => {}
        }
        rest = &rest[used..];
    }
    if let Step::Frame(frame) = frames.finish(rest) {
        decoder.frame(frame, &mut sink).unwrap();
    }
    decoder.finish(&mut sink);
    answer
}

fn said(answer: &Answer) -> Said {
    let mut said = Said { failed: answer.failure.is_some(), ..Said::default() };
    for part in &answer.parts {
        let text = part.text().decode();
        match &part.kind {
            AnswerKind::Text { .. } => said.text.push_str(&text),
            AnswerKind::Refusal { .. } => said.refusal.push_str(&text),
            AnswerKind::Reasoning { .. } => said.reasoning.push_str(&text),
            AnswerKind::Call { kind: CallKind::Search, .. } => {
                said.calls.push(("tool_search".to_owned(), text.into_owned()));
            }
            AnswerKind::Call { namespace, name, .. } => {
                let plain = |text: &str| Escaped::trusted(text).decode().into_owned();
                said.calls.push((joined(&plain(namespace), &plain(name)), text.into_owned()));
            }
            AnswerKind::Opaque { .. } => {}
        }
    }
    said
}

/// A tool's name as it travels where there are no namespaces.
fn joined(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}__{name}") }
}

fn named(dialect: &str) -> &'static dyn Dialect {
    dialect::by_name(dialect).unwrap()
}

/// Reads a Responses stream as naively as possible: the items that it says are done, in their
/// order. `None` for a recording that was edited, so that its deltas say something else.
fn plain_responses(bytes: &[u8]) -> Option<Said> {
    let mut deltas = BTreeMap::<Option<u64>, String>::new();
    let mut items = BTreeMap::new();
    let mut said = Said { failed: true, ..Said::default() };
    for line in String::from_utf8_lossy(bytes).lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        match event["type"].as_str() {
            Some("response.output_text.delta") => {
                let text = deltas.entry(event["output_index"].as_u64()).or_default();
                text.push_str(event["delta"].as_str().unwrap_or(""));
            }
            Some("response.output_item.done") => {
                items.insert(event["output_index"].as_u64(), event["item"].clone());
            }
            Some("response.completed" | "response.incomplete") => {
                said.failed = false;
                break;
            }
            Some("response.failed") => break,
            _ => {}
        }
    }
    for item in items.values() {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let list = |name: &str| item[name].as_array().cloned().unwrap_or_default();
        match item["type"].as_str() {
            Some("message") => list("content").iter().for_each(|part| {
                said.text += &text(&part["text"]);
                said.refusal += &text(&part["refusal"]);
            }),
            Some("reasoning") => {
                let part = |part: &Value| said.reasoning += &text(&part["text"]);
                list("summary").iter().chain(&list("content")).for_each(part);
            }
            Some("function_call") => {
                let name = joined(&text(&item["namespace"]), &text(&item["name"]));
                said.calls.push((name, text(&item["arguments"])));
            }
            Some("tool_search_call") if item["execution"] == "client" => {
                said.calls.push(("tool_search".to_owned(), item["arguments"].to_string()));
            }
            Some("custom_tool_call") => {
                said.calls.push((text(&item["name"]), text(&item["input"])));
            }
            _ => {}
        }
    }
    let streamed: String = deltas.into_values().collect();
    (streamed.is_empty() || streamed == said.text).then_some(said)
}

/// Streams that were recorded without their end: no finish reason and no `[DONE]`.
fn is_cut(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    !text.contains("[DONE]")
        && !text.contains("\"finish_reason\":\"")
        && !text.contains("\"finish_reason\": \"")
}

#[test]
fn chat_streams_decode_to_what_their_vendors_sent() {
    for path in streams("chat") {
        let bytes = std::fs::read(&path).unwrap();
        let mut plain = plain_chat(&bytes);
        plain.failed |= is_cut(&bytes);
        assert_eq!(said(&answer(named("chat"), &bytes)), plain, "{}", path.display());
    }
}

#[test]
fn gigachat_streams_say_the_same_in_both_dialects() {
    for path in streams("chat") {
        if path.components().any(|folder| folder.as_os_str() == "gigachat") {
            let bytes = std::fs::read(&path).unwrap();
            let plain = plain_chat(&bytes);
            assert_eq!(said(&answer(named("gigachat"), &bytes)), plain, "{}", path.display());
            translations_say("gigachat", &path, &bytes, &plain);
        }
    }
}

/// Runs a stream through the transcoder, cut into pieces.
fn transcode(
    from: &dyn Dialect,
    to: &dyn Dialect,
    request: &str,
    bytes: &[u8],
    piece: usize,
) -> Vec<u8> {
    let request = to.decode_request(request).unwrap();
    let reply =
        Reply { ids: Ids::new(7), created_at: 1_750_000_000, codex: false, done_marker: true };
    let mut transcoder = Transcoder::new(
        from.decoder(Sent::default(), &Quirks::default()),
        to.encoder(&request, reply),
        Form::Stream,
        Form::Stream,
        FRAME_BYTES_MAX,
    );
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        held.extend_from_slice(piece);
        let used = transcoder.push(&held, 1_750_000_001, &mut out).unwrap();
        held.drain(..used);
    }
    transcoder.finish(&held, 1_750_000_001, &mut out);
    out
}

/// Translates into both dialects, and reads the translations back.
fn translations_say(from: &str, path: &Path, bytes: &[u8], plain: &Said) {
    let chat_request = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let responses_request = r#"{"model":"m","input":"x","stream":true}"#;
    let dump = std::env::var_os("PATCHBAY_CORPUS_OUT").map(|dump| PathBuf::from(dump).join(from));
    for (name, request) in [("chat", chat_request), ("responses", responses_request)] {
        let (from, to) = (named(from), named(name));
        let whole = transcode(from, to, request, bytes, bytes.len().max(1));
        assert_eq!(transcode(from, to, request, bytes, 61), whole, "{}", path.display());
        keep(dump.as_deref(), name, path, &whole, plain.failed);
        let again = said(&answer(to, &whole));
        assert_eq!(without_gaps(&again), without_gaps(plain), "{name} {}", path.display());
    }
}

#[test]
fn transcoded_chat_streams_say_the_same_in_both_dialects() {
    for path in streams("chat") {
        let bytes = std::fs::read(&path).unwrap();
        let mut plain = plain_chat(&bytes);
        plain.failed |= is_cut(&bytes);
        translations_say("chat", &path, &bytes, &plain);
    }
}

#[test]
fn transcoded_responses_streams_say_the_same_in_both_dialects() {
    for path in streams("responses") {
        let bytes = std::fs::read(&path).unwrap();
        let plain = plain_responses(&bytes);
        let Some(plain) = plain else { continue };
        let decoded = said(&answer(named("responses"), &bytes));
        assert_eq!(without_gaps(&decoded), without_gaps(&plain), "{}", path.display());
        translations_say("responses", &path, &bytes, &plain);
    }
}

/// Leaves the translations for other validators, when a folder for them is named.
fn keep(dump: Option<&Path>, dialect: &str, path: &Path, bytes: &[u8], failed: bool) {
    if let (Some(dump), Some(name)) = (dump, path.file_name()) {
        let folder = dump.join(if failed { "failed" } else { "whole" }).join(dialect);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Encoders put an empty line between separate messages and thoughts; what is said is the same.
fn without_gaps(said: &Said) -> Said {
    let plain = |text: &str| text.replace('\n', "");
    Said {
        text: plain(&said.text),
        refusal: plain(&said.refusal),
        reasoning: plain(&said.reasoning),
        calls: said.calls.iter().map(|(name, text)| (name.clone(), unwrapped(text))).collect(),
        failed: said.failed,
    }
}

/// A custom tool's input, also where a Chat client that declared none gets it as a function's.
fn unwrapped(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(members)) if members.len() == 1 => match members.get("input") {
            Some(Value::String(input)) => input.clone(),
            _ => arguments.to_owned(),
        },
        _ => arguments.to_owned(),
    }
}
