//! What the Chat dialect puts on the wire, and what it makes of what servers send.

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
use patchbay::dialect::quirks::{Quirks, ReasoningBack};
use patchbay::dialect::request::ToolName;
use patchbay::dialect::tools::ToolTable;
use patchbay::dialect::{self, Decode, Dialect, Reply, Sent, Target};
use patchbay::fault::{Failure, Kind};
use patchbay::wire::json::Escaped;
use patchbay::wire::sse::Frame;
use std::fmt::Write as _;

fn chat() -> &'static dyn Dialect {
    dialect::by_name("chat").unwrap()
}

fn responses() -> &'static dyn Dialect {
    dialect::by_name("responses").unwrap()
}

/// Translates a client's request for a Chat upstream.
fn translate(
    from: &dyn Dialect,
    body: &str,
    quirks: &Quirks,
    strict: bool,
) -> Result<(String, Sent), Failure> {
    let request = from.decode_request(body)?;
    let target =
        Target { model: "up-model", quirks, provider: "up", strict, stream: request.stream };
    let mut out = Vec::new();
    let sent = chat().encode_request(&request, &target, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), sent))
}

/// A body as people read it, and what was dropped.
fn golden(from: &dyn Dialect, body: &str, quirks: &Quirks) -> String {
    let (body, sent) = translate(from, body, quirks, false).unwrap();
    if let Some(folder) = std::env::var_os("PATCHBAY_GOLDEN_OUT") {
        let folder = std::path::PathBuf::from(folder);
        let name = format!("{}.json", sent.seed ^ quirks.custom_tools as u64);
        std::fs::write(folder.join(name), &body).unwrap();
    }
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut told = serde_json::to_string_pretty(&value).unwrap();
    let _ = write!(told, "\ndropped: {}", sent.dropped.join(", "));
    told
}

const AGENT: &str = include_str!("golden/chat/agent.json");
const STRUCTURED: &str = include_str!("golden/chat/structured.json");

#[test]
fn requests_are_written_as_each_upstream_takes_them() {
    let profiles = [
        ("default", Quirks::default()),
        ("openai", Quirks::for_host("api.openai.com")),
        ("openrouter", Quirks::for_host("openrouter.ai")),
        ("deepseek", Quirks::for_host("api.deepseek.com")),
        (
            "plain",
            Quirks {
                one_system_message: true,
                images: false,
                json_schema: false,
                include_usage: false,
                think_tags: true,
                reasoning_back: ReasoningBack::Always,
                ..Quirks::default()
            },
        ),
    ];
    for (name, quirks) in profiles {
        insta::assert_snapshot!(format!("agent_{name}"), golden(responses(), AGENT, &quirks));
        insta::assert_snapshot!(
            format!("structured_{name}"),
            golden(responses(), STRUCTURED, &quirks)
        );
    }
}

#[test]
fn what_has_no_form_upstream_is_refused_by_its_name() {
    let input =
        |part: &str| format!(r#"{{"model":"m","input":[{{"role":"user","content":[{part}]}}]}}"#);
    let cases = [
        (input(r#"{"type":"input_file","file_url":"https://e.x/a"}"#), "input_file.file_url"),
        (input(r#"{"type":"input_image","file_id":"file-1"}"#), "input_image.file_id"),
        (r#"{"model":"m","input":"x","tools":[{"type":"web_search"}]}"#.to_owned(), "tools"),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"web_search"},{"type":"function","name":"f","parameters":{}}],"tool_choice":{"type":"web_search"}}"#.to_owned(),
            "tool_choice",
        ),
    ];
    for (body, param) in cases {
        let failure = translate(responses(), &body, &Quirks::default(), false).unwrap_err();
        assert_eq!((failure.status(), failure.param.as_deref()), (400, Some(param)), "{body}");
    }
    let failure = translate(responses(), AGENT, &Quirks::default(), true).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("tools.web_search"));
}

#[test]
fn bad_chat_requests_name_what_is_wrong() {
    let message = |members: &str| format!(r#"{{"model":"m","messages":[{{{members}}}]}}"#);
    let hi = r#""model":"m","messages":[{"role":"user","content":"hi"}]"#;
    let cases: &[(String, &str, &str)] = &[
        ("{".to_owned(), "", ""),
        ("[]".to_owned(), "", ""),
        (r#"{"messages":[]}"#.to_owned(), "model", "missing_required_parameter"),
        (r#"{"model":"m"}"#.to_owned(), "messages", "missing_required_parameter"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), "messages", ""),
        (message(r#""role":"user","content":3"#), "messages[0].content", "invalid_type"),
        (message(r#""role":"user""#), "messages[0].content", "missing_required_parameter"),
        (message(r#""role":"robot","content":"x""#), "messages[0].role", "unsupported_value"),
        (
            message(r#""role":"tool","content":"x""#),
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            message(
                r#""role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":3}}]"#,
            ),
            "messages[0].tool_calls[0].function.arguments",
            "invalid_type",
        ),
        (
            message(r#""role":"user","content":[{"type":"image_url"}]"#),
            "messages[0].content[0].image_url",
            "missing_required_parameter",
        ),
        (
            message(r#""role":"user","role":"system","content":"x""#),
            "messages[0].role",
            "duplicate_parameter",
        ),
        (format!(r#"{{{hi},"n":2}}"#), "n", "unsupported_value"),
        (format!(r#"{{{hi},"modalities":["text","audio"]}}"#), "modalities", "unsupported_value"),
        (format!(r#"{{{hi},"temperature":"hot"}}"#), "temperature", "invalid_type"),
        (format!(r#"{{{hi},"model":"other"}}"#), "model", "duplicate_parameter"),
        (
            format!(r#"{{{hi},"tools":[{{"type":"function","function":{{}}}}]}}"#),
            "tools[0].function.name",
            "missing_required_parameter",
        ),
        (format!(r#"{{{hi},"tool_choice":"maybe"}}"#), "tool_choice", "unsupported_value"),
        (
            format!(r#"{{{hi},"response_format":{{"type":"xml"}}}}"#),
            "response_format.type",
            "unsupported_value",
        ),
        (format!(r#"{{{hi},"max_tokens":-1}}"#), "max_tokens", "invalid_type"),
    ];
    for (body, param, code) in cases {
        let failure = chat().decode_request(body).unwrap_err();
        assert_eq!(failure.status(), 400, "{body}");
        assert_eq!(failure.param.as_deref().unwrap_or(""), *param, "{body}");
        assert_eq!(failure.code.as_deref().unwrap_or(""), *code, "{body}");
    }
}

#[test]
fn a_chat_conversation_comes_back_as_it_was() {
    let body = r#"{"model":"m","stream":true,"stop":["x"],"seed":3,"vendor_thing":1,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"custom","custom":{"name":"c","format":{"type":"text"}}}],"messages":[{"role":"system","content":"S"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u","detail":"low"}}]},{"role":"assistant","content":"t","reasoning_content":"why","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"2","type":"custom","custom":{"name":"c","input":"in"}}]},{"role":"tool","tool_call_id":"1","content":"one"},{"role":"tool","tool_call_id":"2","content":"two"}]}"#;
    insta::assert_snapshot!("chat_to_chat", golden(chat(), body, &Quirks::default()));
    let request = chat().decode_request(body).unwrap();
    assert_eq!(request.dropped, ["vendor_thing"]);
}

/// Decodes `data:` lines and tells the events in one line each.
fn decode(lines: &[&str], sent: Sent, quirks: &Quirks, document: bool) -> (Answer, String) {
    let mut decoder = chat().decoder(sent, quirks);
    let (mut answer, mut grammar) = (Answer::default(), Grammar::default());
    let mut sink = |event: Event<'_>| {
        grammar.check(&event).unwrap_or_else(|rule| panic!("{rule}: {event:?}"));
        answer.push(event);
    };
    if document {
        decoder.document(lines[0].as_bytes(), &mut sink).unwrap();
    } else {
        feed(&mut *decoder, lines, &mut sink);
    }
    let told = tell(&answer);
    (answer, told)
}

fn feed(decoder: &mut dyn Decode, lines: &[&str], sink: &mut dyn FnMut(Event<'_>)) {
    for line in lines {
        let (name, data) =
            line.split_once('|').filter(|(n, _)| *n == "error").unwrap_or(("", line));
        // A line that is no JSON is the caller's to count.
        let _ = decoder.frame(Frame { name: name.as_bytes(), data: data.as_bytes() }, sink);
    }
    decoder.finish(sink);
}

fn tell(answer: &Answer) -> String {
    let mut told = String::new();
    for part in &answer.parts {
        let text = part.text().decode();
        let _ = match &part.kind {
            AnswerKind::Text { message } => write!(told, "T{message}({text})"),
            AnswerKind::Refusal { .. } => write!(told, "R({text})"),
            AnswerKind::Reasoning { .. } => write!(told, "r({text})"),
            AnswerKind::Call { kind, id, name, .. } => {
                let id = if id.len() > 8 { "made" } else { id };
                let kind = if *kind == CallKind::Custom { "X" } else { "F" };
                write!(told, "{kind}[{id} {name}]({text})")
            }
            AnswerKind::Opaque { .. } => write!(told, "O"),
        };
        if part.sealed.is_some() {
            told.push('*');
        }
        if !part.closed {
            told.push('?');
        }
        told.push(' ');
    }
    if let Some(usage) = answer.usage {
        let _ = write!(told, "{}+{}={} ", usage.input, usage.output, usage.total);
    }
    let _ = match (&answer.stop, &answer.failure) {
        (Some(stop), _) => write!(told, "{stop:?}"),
        (_, Some(failure)) => write!(told, "{:?}", failure.fault.kind),
        _ => write!(told, "nothing"),
    };
    told
}

/// A chunk around a delta.
fn chunk(delta: &str) -> String {
    format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta}}}]}}"#)
}

fn call(entry: &str) -> String {
    chunk(&format!(r#"{{"tool_calls":[{entry}]}}"#))
}

fn end(reason: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#)
}

#[test]
fn the_habits_of_servers_are_absorbed() {
    let text = chunk(r#"{"content":"hi"}"#);
    let done = "[DONE]".to_owned();
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    let stop = end("stop");
    let tools = end("tool_calls");
    let open =
        call(r#"{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}"#);
    let more = |text: &str| call(&format!(r#"{{"index":0,"function":{{"arguments":"{text}"}}}}"#));
    let whole = |id: &str, index: &str| {
        call(&format!(r#"{{{index}"id":"{id}","function":{{"name":"f","arguments":"{{}}"}}}}"#))
    };
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("usage_with_choices", vec![text.clone(), format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],{usage}}}"#), done.clone()], "T0(hi) 3+2=5 End"),
        ("usage_every_chunk", vec![format!(r#"{{"choices":[{{"delta":{{"content":"hi"}}}}],"usage":{{"prompt_tokens":3,"completion_tokens":0}}}}"#), format!(r#"{{"choices":[],{usage}}}"#), stop.clone()], "T0(hi) 3+2=5 End"),
        ("usage_null_choices", vec![text.clone(), stop.clone(), format!(r#"{{"choices":null,{usage}}}"#)], "T0(hi) 3+2=5 End"),
        ("usage_missing_choices", vec![text.clone(), stop.clone(), format!("{{{usage}}}")], "T0(hi) 3+2=5 End"),
        ("usage_after_done", vec![text.clone(), stop.clone(), done.clone(), format!("{{{usage}}}")], "T0(hi) End"),
        ("usage_total_extra", vec![text.clone(), stop.clone(), r#"{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":9}}"#.into()], "T0(hi) 3+6=9 End"),
        ("usage_beside_the_cache", vec![text.clone(), stop.clone(), r#"{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"precached_prompt_tokens":4}}"#.into()], "T0(hi) 7+2=9 End"),
        ("usage_x_groq", vec![text.clone(), stop.clone(), format!(r#"{{"x_groq":{{{usage}}}}}"#)], "T0(hi) 3+2=5 End"),
        ("no_usage, no_done", vec![text.clone(), stop.clone()], "T0(hi) End"),
        ("no_finish", vec![text.clone(), done.clone()], "T0(hi) End"),
        ("neither", vec![text.clone()], "T0(hi)? Truncated"),
        ("finish_empty", vec![r#"{"choices":[{"delta":{"content":"hi"},"finish_reason":""}]}"#.into(), done.clone()], "T0(hi) End"),
        ("finish_twice", vec![text.clone(), end("length"), stop.clone(), done.clone()], "T0(hi) Length"),
        ("nothing at all", vec![done.clone()], "BadReply"),
        ("empty answer", vec![stop.clone(), done.clone()], "End"),
        ("role_every_chunk", vec![chunk(r#"{"role":"assistant","content":"h"}"#), chunk(r#"{"role":"assistant","content":"i"}"#), stop.clone()], "T0(hi) End"),
        ("azure_first_chunk", vec![r#"{"id":"","object":"","model":"","choices":[],"prompt_filter_results":[]}"#.into(), text.clone(), stop.clone()], "T0(hi) End"),
        ("content_null", vec![chunk(r#"{"content":null}"#), text.clone(), stop.clone()], "T0(hi) End"),
        ("content_array", vec![chunk(r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"w"}]}]}"#), chunk(r#"{"content":[{"type":"text","text":"hi"}]}"#), stop.clone()], "r(w) T0(hi) End"),
        ("created_float, extra_fields, service_tier_vendor", vec![r#"{"created":1.5,"service_tier":"on_demand","p":"x","choices":[{"delta":{"content":"hi","q":[{}]}}]}"#.into(), stop.clone()], "T0(hi) End"),
        ("leading white space", vec![format!("\n  {text}"), stop.clone()], "T0(hi) End"),
        ("garbage_line", vec![text.clone(), "not json".into(), stop.clone()], "T0(hi) End"),
        ("cut json at the end", vec![text.clone(), r#"{"choices":[{"delta":{"content":"lo"#.into()], "T0(hi)? Truncated"),
        ("other choices", vec![r#"{"choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"hi"}}]}"#.into(), stop.clone()], "T0(hi) End"),
        ("refusal", vec![chunk(r#"{"refusal":"no"}"#), stop.clone()], "R(no) End"),
        ("both reasoning fields", vec![chunk(r#"{"reasoning_content":"w","reasoning":"w"}"#), text.clone(), stop.clone()], "r(w) T0(hi) End"),
        ("reasoning after text", vec![text.clone(), chunk(r#"{"reasoning":"w"}"#), text.clone(), stop.clone()], "T0(hi) r(w) T1(hi) End"),
        ("details without text", vec![chunk(r#"{"reasoning_details":[{"type":"reasoning.text","text":"w","index":0}]}"#), text.clone(), stop.clone()], "r(w)* T0(hi) End"),
        ("details behind the text", vec![text.clone(), chunk(r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"d"}]}"#), stop.clone()], "T0(hi) r()* End"),
        ("extra_content", vec![call(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}"#), tools.clone()], "r()* F[a f]({}) Tool"),
        ("whole message repeated", vec![text.clone(), r#"{"object":"chat.completion.done","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#.into()], "T0(hi) End"),
        ("json as a frame", vec![r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#.into()], "T0(hi) End"),
        ("tool deltas", vec![open.clone(), more(r#"{\"a\""#), more(":1}"), tools.clone(), done.clone()], r#"F[a f]({"a":1}) Tool"#),
        ("tool_all_at_once", vec![whole("a", r#""index":0,"#), tools.clone()], "F[a f]({}) Tool"),
        ("tool_no_index", vec![whole("a", ""), whole("b", ""), tools.clone()], "F[a f]({}) F[b f]({}) Tool"),
        ("parallel_same_index", vec![whole("a", r#""index":0,"#), whole("b", r#""index":0,"#), tools.clone()], "F[a f]({}) F[b f]({}) Tool"),
        ("parallel_index_from_1", vec![whole("a", r#""index":1,"#), whole("b", r#""index":2,"#), tools.clone()], "F[a f]({}) F[b f]({}) Tool"),
        ("tool_no_id", vec![call(r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#), tools.clone()], "F[made f]({}) Tool"),
        ("tool_id_repeated", vec![open.clone(), call(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#), tools.clone()], "F[a f]({}) Tool"),
        ("tool_args_object", vec![call(r#"{"index":0,"id":"a","function":{"name":"f","arguments":{"q":"\"x\""}}}"#), tools.clone()], r#"F[a f]({"q":"\"x\""}) Tool"#),
        ("tool_null_fields", vec![open.clone(), call(r#"{"index":0,"id":null,"type":null,"function":{"name":null,"arguments":null}}"#), more("{}"), tools.clone()], "F[a f]({}) Tool"),
        ("tool_empty_args", vec![open.clone(), tools.clone()], "F[a f]({}) Tool"),
        ("tool_bad_json", vec![open.clone(), more("{oops"), tools.clone()], "F[a f]({oops) Tool"),
        ("tool_length", vec![open.clone(), more("{half"), end("length")], "F[a f]({half)? Length"),
        ("tool cut, marked", vec![open.clone(), more("{half"), done.clone()], "F[a f]({half)? Truncated"),
        ("tool_finish_stop", vec![open.clone(), stop.clone()], "F[a f]({}) Tool"),
        ("parallel_interleaved", vec![open.clone(), call(r#"{"index":1,"id":"b","function":{"name":"g","arguments":"["}}"#), more("{"), call(r#"{"index":1,"function":{"arguments":"]"}}"#), more("}"), tools.clone()], "F[a f]({}) F[b g]([]) Tool"),
        ("legacy_function_call", vec![chunk(r#"{"function_call":{"name":"f","arguments":"{"}}"#), chunk(r#"{"function_call":{"arguments":"}"}}"#), end("function_call")], "F[made f]({}) Tool"),
        ("tool_text", vec![whole("a", r#""index":0,"#), text.clone(), tools.clone()], "F[a f]({}) T0(hi) Tool"),
        ("arguments with the finish", vec![open.clone(), r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#.into()], "F[a f]({}) Tool"),
        ("name later than the id", vec![call(r#"{"index":0,"id":"a","function":{"arguments":"{"}}"#), call(r#"{"index":0,"function":{"name":"f","arguments":"}"}}"#), tools.clone()], "F[a f]({}) Tool"),
        ("never a name", vec![call(r#"{"index":0,"id":"a","function":{"arguments":"{}"}}"#), tools.clone()], "BadReply"),
        ("error_200", vec![r#"{"error":{"message":"no","code":429}}"#.into()], "RateLimited"),
        ("error as text", vec![text.clone(), r#"{"error":"overloaded"}"#.into()], "T0(hi)? Overloaded"),
        ("error event", vec!["error|oh no".into()], "Server"),
        ("error in the choice", vec![r#"{"choices":[{"delta":{"content":""},"finish_reason":"error","error":{"code":502,"message":"x"}}]}"#.into()], "Server"),
        ("error null", vec![r#"{"error":null,"choices":[{"delta":{"content":"hi"}}]}"#.into(), stop.clone()], "T0(hi) End"),
        ("finish error", vec![text.clone(), end("error"), done.clone()], "T0(hi)? Server"),
        ("google's array", vec![r#"[{"error":{"code":503,"message":"x"}}]"#.into()], "Overloaded"),
        ("filtered", vec![text.clone(), end("content_filter")], "T0(hi) Filter"),
        ("half a pair", vec![chunk(r#"{"content":"a\ud83d"}"#), chunk(r#"{"content":"\ude00b\ud800"}"#), stop.clone()], "T0(a😀b\u{fffd}) End"),
    ];
    for (name, lines, told) in cases {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_, said) = decode(&lines, Sent::default(), &Quirks::default(), false);
        assert_eq!(said, told, "{name}");
    }
}

fn wrapped() -> Sent {
    let mut tools = ToolTable::default();
    let name = Escaped::trusted("apply_patch");
    tools.add(CallKind::Custom, true, ToolName { namespace: Escaped::EMPTY, name });
    Sent { tools, ..Sent::default() }
}

#[test]
fn wrapped_custom_calls_come_out_as_their_input() {
    let entry = |text: &str| {
        call(&format!(
            r#"{{"index":0,"id":"a","function":{{"name":"apply_patch","arguments":"{text}"}}}}"#
        ))
    };
    let tools = end("tool_calls");
    let cases = [
        (
            vec![
                entry(r#"{\"inp"#),
                entry(r#"ut\":\"a\\n\\\"b\\ud8"#),
                entry(r#"3d\\ude00\"}"#),
                tools.clone(),
            ],
            "X[a apply_patch](a\n\"b😀) Tool",
        ),
        (vec![entry(r#"{\"patch\":\"p\"}"#), tools.clone()], "X[a apply_patch](p) Tool"),
        (vec![entry("bare"), tools.clone()], "X[a apply_patch](bare) Tool"),
        (vec![entry(""), tools.clone()], "X[a apply_patch]() Tool"),
        (vec![entry(r#"{\"input\":\"half"#), tools], "X[a apply_patch](half)? BadReply"),
        (vec![entry(r#"{\"input\":\"half"#), end("length")], "X[a apply_patch](half)? Length"),
    ];
    for (lines, told) in cases {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(decode(&lines, wrapped(), &Quirks::default(), false).1, told, "{lines:?}");
    }
}

#[test]
fn documents_give_the_same_events_as_streams() {
    let think = Quirks { think_tags: true, ..Quirks::default() };
    let cases = [
        (
            r#"{"id":"x","choices":[{"message":{"content":"hi","reasoning_content":"w","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
            "r(w) T0(hi) F[a f]({}) 1+1=2 Tool",
        ),
        (
            r#"{"choices":[{"message":{"content":"why</think>\n\nso"},"finish_reason":"stop"}]}"#,
            "r(why) T0(so) End",
        ),
        (r#"{"error":{"message":"no","type":"insufficient_quota"}}"#, "Quota"),
        (r#"{"detail":"no"}"#, "Server"),
        (r#"{"choices":[]}"#, "BadReply"),
        (r#"{}"#, "BadReply"),
    ];
    for (document, told) in cases {
        assert_eq!(decode(&[document], Sent::default(), &think, true).1, told, "{document}");
    }
}

#[test]
fn sealed_state_goes_back_to_its_provider_only() {
    let details = r#"{"type":"reasoning.encrypted","data":"d","id":"rs_1","format":"f","index":0}"#;
    let lines = [
        chunk(r#"{"reasoning":"w"}"#),
        chunk(&format!(r#"{{"reasoning_details":[{details}]}}"#)),
        call(
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":{"g":"s"}}"#,
        ),
        end("tool_calls"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let sent = Sent { provider: "up".to_owned(), ..Sent::default() };
    let (answer, _) = decode(&lines, sent, &Quirks::default(), false);
    let sealed = answer.parts[0].sealed.clone().unwrap();
    let request = format!(
        r#"{{"model":"m","input":[{{"role":"user","content":"x"}},{{"type":"reasoning","summary":[{{"type":"summary_text","text":"w"}}],"encrypted_content":"{sealed}"}},{{"type":"function_call","call_id":"a","name":"f","arguments":"{{}}"}},{{"type":"function_call_output","call_id":"a","output":"o"}}]}}"#
    );
    let (body, _) = translate(responses(), &request, &Quirks::default(), false).unwrap();
    assert!(body.contains(&format!(r#""reasoning_details":[{details}]"#)), "{body}");
    assert!(body.contains(r#""extra_content":{"g":"s"}"#), "{body}");
    let foreign = request.replace(&sealed, "gAAAAABforeign");
    let (body, _) = translate(responses(), &foreign, &Quirks::default(), false).unwrap();
    assert!(
        body.contains(r#""reasoning_content":"w""#) && !body.contains("extra_content"),
        "{body}"
    );
}

/// Encodes what a decoded stream says, for the client that sent `request`.
fn encode(request: &str, lines: &[&str], sent: Sent, document: bool) -> String {
    let request = chat().decode_request(request).unwrap();
    let reply =
        Reply { ids: Ids::new(1), created_at: 1_750_000_000, codex: false, done_marker: false };
    let mut encoder = chat().encoder(&request, reply);
    let mut decoder = chat().decoder(sent, &Quirks::default());
    let (mut out, mut answer) = (Vec::new(), Answer::default());
    feed(&mut *decoder, lines, &mut |event| {
        if document {
            answer.push(event);
        } else {
            encoder.event(event, 0, &mut out);
        }
    });
    if document {
        encoder.answer(&answer, 0, &mut out);
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn chunks_and_documents_are_written_in_full() {
    let lines = [
        chunk(r#"{"reasoning_content":"w"}"#),
        chunk(r#"{"content":"hi\n"}"#),
        call(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}"#),
        call(r#"{"index":1,"id":"b","function":{"name":"apply_patch","arguments":"{\"input\":\"\\n\"}"}}"#),
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}}"#.to_owned(),
        end("tool_calls"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let plain = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let custom = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"custom","custom":{"name":"apply_patch"}}]}"#;
    let legacy =
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"functions":[{"name":"f"}]}"#;
    for (name, request) in [("plain", plain), ("custom", custom), ("legacy", legacy)] {
        insta::assert_snapshot!(
            format!("chunks_{name}"),
            encode(request, &lines, wrapped(), false)
        );
        insta::assert_snapshot!(
            format!("document_{name}"),
            encode(request, &lines, wrapped(), true)
        );
    }
    let broken = encode(plain, &lines[..2], Sent::default(), false);
    assert!(broken.ends_with("\"code\":\"upstream_disconnected\"}}\n\n"), "{broken}");
    let failure = chat().decode_fault(429, b"slow down");
    assert_eq!(failure.fault.kind, Kind::RateLimited);
}
