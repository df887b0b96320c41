//! What the GigaChat dialect makes of what GigaChat sends, and what clients get of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test: helpers fail by panicking, and tables are long"
)]

use patchbay::dialect::event::{CallKind, Event, Grammar, Stop};
use patchbay::dialect::fold::{Answer, AnswerKind};
use patchbay::dialect::quirks::Quirks;
use patchbay::dialect::request::ToolName;
use patchbay::dialect::tools::ToolTable;
use patchbay::dialect::{self, Dialect, Sent, Target};
use patchbay::fuzzing::transcode::{self, Setup};
use patchbay::transcode::{Form, Transcoder};
use patchbay::wire::json::Escaped;
use patchbay::wire::sse::Frame;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fmt::Write as _;

fn named(dialect: &str) -> &'static dyn Dialect {
    dialect::by_name(dialect).unwrap()
}

/// What a provider's upstream gets of a client's request.
fn encode(from: &str, body: &str, quirks: &Quirks, provider: &str) -> (Value, Sent) {
    let request = named(from).decode_request(body).unwrap();
    let target = Target { model: "m", quirks, provider, strict: false, stream: request.stream };
    let mut out = Vec::new();
    let sent = named("gigachat").encode_request(&request, &target, &mut out).unwrap();
    (serde_json::from_slice(&out).unwrap(), sent)
}

const STRUCTURED: &str = include_str!("golden/gigachat/structured.json");

/// What a request declared: a function, a wrapped custom tool and one in a namespace.
fn sent() -> Sent {
    let mut tools = ToolTable::default();
    let name = |namespace, name| ToolName {
        namespace: Escaped::trusted(namespace),
        name: Escaped::trusted(name),
    };
    tools.add(CallKind::Function, false, name("", "shell"));
    tools.add(CallKind::Custom, true, name("", "apply_patch"));
    tools.add(CallKind::Function, false, name("mcp", "add"));
    Sent { tools, provider: "up".to_owned(), ..Sent::default() }
}

/// Decodes the frames of a stream, or a document.
fn decode(frames: &[&str], sent: Sent, document: bool) -> (Answer, String) {
    let mut decoder = named("gigachat").decoder(sent, &Quirks::default());
    let (mut answer, mut grammar) = (Answer::default(), Grammar::default());
    let mut sink = |event: Event<'_>| {
        grammar.check(&event).unwrap_or_else(|rule| panic!("{rule}: {event:?}"));
        answer.push(event);
    };
    if document {
        decoder.document(frames[0].as_bytes(), &mut sink).unwrap();
    } else {
        for data in frames {
            let (name, data) =
                data.split_once('|').filter(|(name, _)| *name == "error").unwrap_or(("", data));
            // What is no JSON is the caller's to count.
            let _ =
                decoder.frame(Frame { name: name.as_bytes(), data: data.as_bytes() }, &mut sink);
        }
        decoder.finish(&mut sink);
    }
    let told = tell(&answer);
    (answer, told)
}

fn tell(answer: &Answer) -> String {
    let mut told = String::new();
    for part in &answer.parts {
        let text = part.text().decode();
        let _ = match &part.kind {
            AnswerKind::Text { message } => write!(told, "T{message}({text})"),
            AnswerKind::Reasoning { .. } => write!(told, "r({text})"),
            AnswerKind::Call { kind, namespace, name, .. } => {
                let kind = if *kind == CallKind::Custom { "X" } else { "F" };
                write!(told, "{kind}[{namespace}.{name}]({text})")
            }
            _ => write!(told, "?"),
        };
        told.push_str(if part.closed { " " } else { "? " });
    }
    if let Some(usage) = answer.usage {
        let _ = write!(told, "{}({})+{}={} ", usage.input, usage.cached, usage.output, usage.total);
    }
    let _ = match (&answer.stop, &answer.failure) {
        (Some(stop), _) => write!(told, "{stop:?}"),
        (_, Some(failure)) => write!(told, "{:?}", failure.fault.kind),
        _ => write!(told, "nothing"),
    };
    told
}

fn chunk(delta: &str) -> String {
    format!(r#"{{"choices":[{{"delta":{delta},"index":0}}],"created":1,"model":"GigaChat:2"}}"#)
}

fn end(reason: &str) -> String {
    format!(r#"{{"choices":[{{"delta":{{"content":""}},"index":0,"finish_reason":"{reason}"}}]}}"#)
}

#[test]
fn every_form_of_answer_becomes_events() {
    let text = chunk(r#"{"content":"hi"}"#);
    let call = |name: &str, arguments: &str| {
        chunk(&format!(r#"{{"content":"","function_call":{{"name":"{name}"{arguments}}}}}"#))
    };
    let shell = call("shell", r#","arguments":{"cmd":"l\"s"}"#);
    let (stop, called, done) = (end("stop"), end("function_call"), "[DONE]".to_owned());
    let usage = |numbers: &str| {
        format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"usage":{{{numbers}}}}}"#)
    };
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("text", vec![text.clone(), text.clone(), stop.clone(), done.clone()], "T0(hihi) End"),
        ("no mark", vec![text.clone(), stop.clone()], "T0(hi) End"),
        ("no reason", vec![text.clone(), done.clone()], "T0(hi) End"),
        ("cut", vec![text.clone()], "T0(hi)? Truncated"),
        ("cut in front", vec![], "Truncated"),
        ("cut behind a call", vec![shell.clone()], "F[.shell]({\"cmd\":\"l\\\"s\"}) Truncated"),
        ("nothing", vec![done.clone()], "BadReply"),
        ("an empty answer", vec![stop.clone(), done.clone()], "End"),
        (
            "reasoning",
            vec![
                chunk(r#"{"reasoning_content":"w"}"#),
                text.clone(),
                chunk(r#"{"reasoning_content":"v","content":"x"}"#),
                stop.clone(),
            ],
            "r(w) T0(hi) r(v) T1(x) End",
        ),
        (
            "usage",
            vec![
                text.clone(),
                usage(
                    r#""prompt_tokens":17,"completion_tokens":42,"total_tokens":59,"precached_prompt_tokens":2"#,
                ),
                done.clone(),
            ],
            "T0(hi) 19(2)+42=61 End",
        ),
        (
            "usage, most of it cached",
            vec![
                text.clone(),
                usage(
                    r#""prompt_tokens":1,"completion_tokens":4,"total_tokens":5,"precached_prompt_tokens":37"#,
                ),
            ],
            "T0(hi) 38(37)+4=42 End",
        ),
        (
            "a call",
            vec![shell.clone(), called.clone(), done.clone()],
            "F[.shell]({\"cmd\":\"l\\\"s\"}) Tool",
        ),
        (
            "a call and its reason at once",
            vec![
                shell.replace(r#","index":0"#, r#","finish_reason":"function_call""#),
                done.clone(),
            ],
            "F[.shell]({\"cmd\":\"l\\\"s\"}) Tool",
        ),
        (
            "text and a call",
            vec![text.clone(), shell.clone(), called.clone()],
            "T0(hi) F[.shell]({\"cmd\":\"l\\\"s\"}) Tool",
        ),
        (
            "a call in a namespace",
            vec![call("mcp__add", r#","arguments":{}"#), called.clone()],
            "F[mcp.add]({}) Tool",
        ),
        (
            "a custom tool",
            vec![call("apply_patch", r#","arguments":{"input":"a\n\"b"}"#), called.clone()],
            "X[.apply_patch](a\n\"b) Tool",
        ),
        (
            "a custom tool in its own way",
            vec![call("apply_patch", r#","arguments":{"patch":"p"}"#), called.clone()],
            "X[.apply_patch](p) Tool",
        ),
        (
            "a custom tool, bare",
            vec![call("apply_patch", r#","arguments":"p""#), called.clone()],
            "X[.apply_patch](p) Tool",
        ),
        (
            "a custom tool without input",
            vec![call("apply_patch", r#","arguments":{}"#), called.clone()],
            "X[.apply_patch]() Tool",
        ),
        (
            "an unknown tool",
            vec![call("f", r#","arguments":{"a":1}"#), called.clone()],
            "F[.f]({\"a\":1}) Tool",
        ),
        ("no arguments", vec![call("shell", ""), called.clone()], "F[.shell]({}) Tool"),
        (
            "null arguments",
            vec![call("shell", r#","arguments":null"#), called.clone()],
            "F[.shell]({}) Tool",
        ),
        (
            "arguments as text",
            vec![call("shell", r#","arguments":"{\"a\":1}""#), called.clone()],
            "F[.shell]({\"a\":1}) Tool",
        ),
        (
            "arguments that are none",
            vec![call("shell", r#","arguments":"{half""#), called.clone(), done.clone()],
            "F[.shell]({half)? BadReply",
        ),
        (
            "arguments that a limit cut",
            vec![call("shell", r#","arguments":"{half""#), text.clone(), end("length")],
            "F[.shell]({half)? Length",
        ),
        (
            "an array as arguments",
            vec![call("shell", r#","arguments":[1]"#), called.clone()],
            "F[.shell]([1])? BadReply",
        ),
        (
            "a call whose state may come behind it, and an error does",
            vec![shell.clone(), r#"{"status":429,"message":"Too many requests"}"#.into()],
            "RateLimited",
        ),
        (
            "text behind a call",
            vec![shell.clone(), text.clone(), called.clone()],
            "F[.shell]({\"cmd\":\"l\\\"s\"}) T0(hi) Tool",
        ),
        ("length", vec![text.clone(), end("length")], "T0(hi) Length"),
        ("blacklist", vec![text.clone(), end("blacklist"), done.clone()], "T0(hi) Filter"),
        ("error", vec![text.clone(), end("error"), done.clone()], "T0(hi)? Server"),
        ("a call that is no call", vec![end("error"), done.clone()], "Server"),
        (
            "progress",
            vec![
                chunk(r#"{"role":"function_in_progress","content":"draws"}"#),
                text.clone(),
                stop.clone(),
            ],
            "T0(hi) End",
        ),
        (
            "an error",
            vec![text.clone(), r#"{"status":429,"message":"Too many requests"}"#.into()],
            "T0(hi)? RateLimited",
        ),
        (
            "an error at once",
            vec![r#"{"status":401,"message":"Token has expired"}"#.into()],
            "Unauthorized",
        ),
        (
            "an error of another form",
            vec![r#"{"error":{"message":"x","code":503}}"#.into()],
            "Overloaded",
        ),
        ("an error event", vec!["error|oh no".into()], "Server"),
        ("garbage between", vec![text.clone(), "not json".into(), stop.clone()], "T0(hi) End"),
        (
            "behind the end",
            vec![text.clone(), stop.clone(), done.clone(), text.clone()],
            "T0(hi) End",
        ),
    ];
    for (name, frames, told) in cases {
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        assert_eq!(decode(&frames, sent(), false).1, told, "{name}");
    }
}

#[test]
fn documents_give_the_same_events() {
    let whole = include_str!("golden/gigachat/call.json");
    for (document, told) in [
        (whole, "r(Надо глянуть.) T0(Смотрю.) F[.shell]({\"cmd\":\"ls\"}) 250(100)+20=270 Tool"),
        (
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":"blacklist"}]}"#,
            "T0(x) Filter",
        ),
        (r#"{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}"#, "T0(x)? Server"),
        (r#"{"status":404,"message":"No such model"}"#, "ModelNotFound"),
        (r#"{"choices":[]}"#, "BadReply"),
        ("{}", "BadReply"),
    ] {
        assert_eq!(decode(&[document], sent(), true).1, told, "{document}");
    }
}

#[test]
fn an_answer_that_came_as_a_function_is_text() {
    let quirks = Quirks { json_schema: false, ..Quirks::default() };
    let (body, made) = encode("chat", STRUCTURED, &quirks, "up");
    assert_eq!(body["function_call"], json!({"name": "structured_answer"}));
    let call =
        chunk(r#"{"function_call":{"name":"structured_answer","arguments":{"name":"A \"B\""}}}"#);
    let frames = [call.as_str(), &end("function_call"), "[DONE]"];
    assert_eq!(decode(&frames, made.clone(), false).1, r#"T0({"name":"A \"B\""}) End"#);
    // A tool of that name is a tool.
    let clash = STRUCTURED.replace(
        r#""seed":7"#,
        r#""tools":[{"type":"function","function":{"name":"structured_answer"}}]"#,
    );
    let (body, made) = encode("chat", &clash, &quirks, "up");
    assert_eq!(body["functions"][1]["name"], "structured_answer_");
    assert_eq!(body["function_call"], "auto");
    assert!(made.dropped.contains(&"text.format.schema".to_owned()));
    assert_eq!(
        decode(&frames, made, false).1,
        "F[.structured_answer]({\"name\":\"A \\\"B\\\"\"}) Tool"
    );
}

#[test]
fn the_state_of_a_call_comes_back_with_it() {
    const STATE: &str = r#""functions_state_id":"77d3fb14-457a-46ba-937e-8d856156d003""#;
    const CALL: &str = r#""function_call":{"name":"shell","arguments":{}}"#;
    let last =
        format!(r#"{{"choices":[{{"delta":{{{STATE}}},"finish_reason":"function_call"}}]}}"#);
    for (name, frames) in [
        ("with it", vec![chunk(&format!("{{{CALL},{STATE}}}")), end("function_call")]),
        ("before it", vec![chunk(&format!("{{{STATE}}}")), chunk(&format!("{{{CALL}}}"))]),
        ("behind it", vec![chunk(&format!("{{{CALL}}}")), chunk(&format!("{{{STATE}}}"))]),
        ("at the end", vec![chunk(&format!("{{{CALL}}}")), last]),
    ] {
        let mut frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        frames.push("[DONE]");
        let (answer, _) = decode(&frames, sent(), false);
        assert_eq!(answer.stop, Some(Stop::Tool), "{name}");
        let AnswerKind::Call { id, .. } = &answer.parts[0].kind else { panic!("{answer:?}") };
        for (provider, state) in
            [("up", json!("77d3fb14-457a-46ba-937e-8d856156d003")), ("other", Value::Null)]
        {
            let body = format!(
                r#"{{"model":"m","input":[{{"role":"user","content":"x"}},
                    {{"type":"function_call","call_id":"{id}","name":"shell","arguments":"{{}}"}},
                    {{"type":"function_call_output","call_id":"{id}","output":"y"}}]}}"#
            );
            let (body, _) = encode("responses", &body, &Quirks::default(), provider);
            assert_eq!(body["messages"][1]["functions_state_id"], state, "{name} {body}");
        }
    }
}

const STREAMS: &[(&str, &str)] = &[
    ("text", include_str!("golden/gigachat/text.sse")),
    ("call", include_str!("golden/gigachat/call.sse")),
    ("patch", include_str!("golden/gigachat/patch.sse")),
    ("error", include_str!("golden/gigachat/error.sse")),
];

fn setups() -> [Setup; 2] {
    ["chat", "responses"].map(|client| Setup::streams("gigachat", client).unwrap())
}

#[test]
fn streams_become_what_clients_read() {
    for (name, stream) in STREAMS {
        for setup in setups() {
            let (out, _) = setup.run(&[stream.as_bytes()]);
            let name = format!("{name}_to_{}", setup.client.name());
            insta::assert_snapshot!(name, String::from_utf8(out).unwrap());
        }
    }
}

#[test]
fn every_cut_gives_the_same_translation() {
    for (name, stream) in STREAMS {
        let stream = stream.as_bytes();
        for setup in setups() {
            let expected = setup.run(&[stream]);
            assert!(expected.0.len() > 100, "something was translated");
            for at in 0..=stream.len() {
                let (front, back) = stream.split_at(at);
                assert!(setup.run(&[front, back]) == expected, "{name} {setup:?} cut at {at}");
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert!(setup.run(&bytes) == expected, "{name} {setup:?}");
        }
    }
}

/// Runs a stream in pieces; the outcome stands behind the reply.
fn run(mut transcoder: Transcoder, stream: &[u8], piece: usize) -> Vec<u8> {
    let (mut start, mut out) = (0, Vec::new());
    for end in (piece..stream.len()).step_by(piece).chain([stream.len()]) {
        start += transcoder.push(&stream[start..end], 7, &mut out).unwrap();
    }
    transcoder.finish(&stream[start..], 7, &mut out);
    out.extend_from_slice(format!("{:?}", transcoder.outcome()).as_bytes());
    out
}

fn same_when_learned(stream: &[u8]) {
    for setup in setups() {
        let expected = run(setup.transcoder().without_learning(), stream, usize::MAX >> 1);
        for piece in [1, 7, 300, usize::MAX >> 1] {
            let found = run(setup.transcoder(), stream, piece);
            assert_eq!(
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(&expected),
                "{piece}: {}",
                String::from_utf8_lossy(stream)
            );
        }
    }
}

#[test]
fn text_is_learned_and_everything_else_is_read() {
    let frame = chunk(r#"{"content":"hi"}"#);
    let mut decoder = named("gigachat").decoder(sent(), &Quirks::default());
    let mut is_learned = |data: &str| {
        decoder.frame(Frame { name: b"", data: data.as_bytes() }, &mut |_| {}).unwrap();
        decoder.pattern().map(|pattern| data[pattern.text()].to_owned())
    };
    assert_eq!(is_learned(&frame).as_deref(), Some("hi"));
    assert_eq!(is_learned(&chunk(r#"{"role":"assistant","content":"a"}"#)).as_deref(), Some("a"));
    assert_eq!(
        is_learned(&chunk(r#"{"reasoning_content":"w","content":""}"#)).as_deref(),
        Some("w")
    );
    for other in [
        chunk(r#"{"content":""}"#),
        chunk(r#"{"content":"a","reasoning_content":"b"}"#),
        chunk(r#"{"content":"a","function_call":{"name":"f","arguments":{}}}"#),
        chunk(r#"{"role":"function_in_progress","content":"a"}"#),
        frame.replace(r#","index":0"#, r#","finish_reason":"stop""#),
    ] {
        assert_eq!(is_learned(&other), None, "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 96 } else { 512 }))]

    /// A frame repeated, each time with some bytes changed, is understood as without learning.
    #[test]
    fn learned_frames_change_nothing(
        text in "[a-zй\\\\\"😀]{1,9}",
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[ -~]{0,5}"), 0..6),
    ) {
        let escaped = serde_json::to_string(&text).unwrap();
        let frame = format!("data: {}\n\n", chunk(&format!(r#"{{"content":{escaped}}}"#)));
        let mut stream = frame.repeat(4).into_bytes();
        for (at, gone, new) in changes {
            let mut changed = frame.clone().into_bytes();
            let at = at.index(changed.len());
            changed.splice(at..(at + gone).min(frame.len()), new.bytes());
            stream.extend_from_slice(&changed);
            stream.extend_from_slice(frame.as_bytes());
        }
        same_when_learned(&stream);
    }

    /// Any damage keeps the grammar of events, and no cut, client or form changes what is said.
    #[test]
    fn damaged_streams_keep_every_rule(
        which in 0..STREAMS.len(),
        by in any::<u8>(),
        seed in any::<u8>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0usize..9, "[ -~\n]{0,8}"), 0..4),
    ) {
        let mut stream = vec![by, seed];
        let mut body = STREAMS[which].1.as_bytes().to_vec();
        for (at, gone, new) in damage {
            let at = at.index(body.len());
            let end = (at + gone).min(body.len());
            body.splice(at..end, new.bytes());
        }
        stream.extend_from_slice(&body);
        transcode::gigachat_stream(&stream);
    }
}

#[test]
fn whole_documents_and_streams_fold_into_the_same_answer() {
    let document = include_str!("golden/gigachat/call.json");
    for client in ["chat", "responses"] {
        let setup = Setup {
            from: Form::Document,
            to: Form::Document,
            ..Setup::streams("gigachat", client).unwrap()
        };
        let (out, _) = setup.run(&[document.as_bytes()]);
        let out: Value = serde_json::from_slice(&out).unwrap();
        let pretty = serde_json::to_string_pretty(&out).unwrap();
        insta::assert_snapshot!(format!("document_to_{client}"), pretty);
    }
}
