//! Bytes into streams that are well-formed and make little sense: every byte or three is a frame. So a
//! fuzzer looks for odd orders of events, where raw bytes would be spent on broken JSON.

use std::fmt::Write as _;

/// Texts, escaped: halves of characters, ends of other things, and what means something inside.
const TEXTS: [&str; 24] = [
    "",
    "a",
    "Hello",
    " EN",
    "END",
    "\\n",
    "\\n\\n",
    "\\\"",
    "\\\\",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\u{1f600}",
    "\u{e9}",
    "{}",
    "{\\\"input\\\":\\\"",
    "{\\\"input\\\":\\\"x\\\\n\\\"}",
    "\\\"}",
    "<think>",
    "</think>",
    "<thi",
    "\\u0000",
    "Hello, whole",
    "{\\\"a\\\":1}",
];

const NAMES: [&str; 5] = ["shell", "apply_patch", "unknown", "", "tool_search"];

/// The bytes that choose.
struct Choices<'b> {
    bytes: std::slice::Iter<'b, u8>,
}

impl Choices<'_> {
    fn next(&mut self) -> usize {
        self.bytes.next().map_or(0, |byte| usize::from(*byte))
    }

    fn text(&mut self) -> &'static str {
        TEXTS[self.next() % TEXTS.len()]
    }
}

/// A stream of a Chat Completions upstream.
#[must_use]
pub fn chat(bytes: &[u8]) -> Vec<u8> {
    let mut choices = Choices { bytes: bytes.iter() };
    let mut out = String::new();
    while choices.bytes.len() > 0 {
        let step = choices.next();
        let frame = chat_frame(step % 20, step / 20, &mut choices);
        // Writing to a String cannot fail.
        let _ = write!(out, "data: {frame}\n\n");
    }
    out.into_bytes()
}

fn chat_frame(what: usize, which: usize, choices: &mut Choices<'_>) -> String {
    let delta = |inside: String| {
        format!(r#"{{"id":"c","model":"um","choices":[{{"index":0,"delta":{{{inside}}}}}]}}"#)
    };
    let index = which % 4;
    match what {
        0 | 1 => delta(format!(r#""content":"{}""#, choices.text())),
        2 => delta(format!(r#""reasoning_content":"{}""#, choices.text())),
        3 => delta(format!(r#""reasoning":"{}","content":"{}""#, choices.text(), choices.text())),
        4 => delta(format!(r#""refusal":"{}""#, choices.text())),
        5 | 6 => {
            let (name, text) = (NAMES[choices.next() % NAMES.len()], choices.text());
            let id = ["call_a", "call_b", "", "call_\\ud83d"][which % 4];
            delta(format!(
                r#""tool_calls":[{{"index":{index},"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{text}"}}}}]"#
            ))
        }
        7 | 8 => delta(format!(
            r#""tool_calls":[{{"index":{index},"function":{{"arguments":"{}"}}}}]"#,
            choices.text()
        )),
        9 => delta(format!(
            r#""tool_calls":[{{"id":"call_{index}","type":"custom","custom":{{"name":"apply_patch","input":"{}"}}}}]"#,
            choices.text()
        )),
        10 => delta(format!(
            r#""function_call":{{"name":"{}","arguments":"{}"}}"#,
            NAMES[which % NAMES.len()],
            choices.text()
        )),
        11 => {
            let reason =
                ["stop", "tool_calls", "length", "content_filter", "function_call", "error"]
                    [which % 6];
            format!(
                r#"{{"id":"c","choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#
            )
        }
        12 => {
            format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{which},"completion_tokens":2}}}}"#)
        }
        13 => "[DONE]".to_owned(),
        14 => format!(r#"{{"error":{{"message":"{}","code":"server_error"}}}}"#, choices.text()),
        15 => delta(format!(
            r#""reasoning_details":[{{"type":"reasoning.encrypted","data":"s","id":"r","index":{index}}},{{"type":"reasoning.text","text":"{}"}}]"#,
            choices.text()
        )),
        16 => delta(format!(
            r#""content":[{{"type":"text","text":"{}"}},{{"type":"thinking","thinking":[{{"type":"text","text":"{}"}}]}}],"annotations":[{{"type":"url_citation","url_citation":{{"url":"u","title":"t","start_index":0,"end_index":1}}}}]"#,
            choices.text(),
            choices.text()
        )),
        17 => format!(
            r#"{{"choices":[{{"index":{index},"delta":{{"content":"{}"}},"logprobs":{{"content":[{{"token":"{}","logprob":-1}}]}}}}]}}"#,
            choices.text(),
            choices.text()
        ),
        18 => format!(
            r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}]}}"#,
            choices.text()
        ),
        _ => "{\"choices\":[{".to_owned(),
    }
}

/// A stream of a Responses upstream.
#[must_use]
pub fn responses(bytes: &[u8]) -> Vec<u8> {
    let mut choices = Choices { bytes: bytes.iter() };
    let mut out = String::new();
    while choices.bytes.len() > 0 {
        let step = choices.next();
        let frame = responses_frame(step % 16, step / 16, &mut choices);
        // Writing to a String cannot fail.
        let _ = write!(out, "data: {frame}\n\n");
    }
    out.into_bytes()
}

/// Deltas by their events, and the member that the done event has.
const FAMILIES: [(&str, &str); 6] = [
    ("output_text", "text"),
    ("refusal", "refusal"),
    ("function_call_arguments", "arguments"),
    ("custom_tool_call_input", "input"),
    ("reasoning_summary_text", "text"),
    ("reasoning_text", "text"),
];

fn responses_frame(what: usize, which: usize, choices: &mut Choices<'_>) -> String {
    let place = |which: usize| {
        let (index, content) = (which % 3, which / 3 % 3);
        format!(r#""output_index":{index},"content_index":{content}"#)
    };
    match what {
        0 => r#"{"type":"response.created","response":{"id":"r","model":"um","output":[]}}"#
            .to_owned(),
        1 | 2 => format!(
            r#"{{"type":"response.output_item.added","output_index":{},"item":{}}}"#,
            which % 3,
            item(choices.next(), "", "in_progress")
        ),
        3..=6 => {
            let (family, _) = FAMILIES[choices.next() % FAMILIES.len()];
            let (place, text) = (place(which), choices.text());
            format!(r#"{{"type":"response.{family}.delta",{place},"delta":"{text}"}}"#)
        }
        7 => {
            let (family, member) = FAMILIES[choices.next() % FAMILIES.len()];
            let (place, text) = (place(which), choices.text());
            format!(r#"{{"type":"response.{family}.done",{place},"{member}":"{text}"}}"#)
        }
        8..=10 => {
            let (kind, text) = (choices.next(), choices.text());
            let status = if which.is_multiple_of(5) { "incomplete" } else { "completed" };
            format!(
                r#"{{"type":"response.output_item.done","output_index":{},"item":{}}}"#,
                which % 3,
                item(kind, text, status)
            )
        }
        11 => format!(
            r#"{{"type":"response.output_text.annotation.added",{},"annotation":{{"type":"url_citation","url":"{}"}}}}"#,
            place(which),
            choices.text()
        ),
        12 => format!(
            r#"{{"type":"response.completed","response":{{"id":"r","status":"completed","output":[{}],"usage":{{"input_tokens":1,"output_tokens":2}}}}}}"#,
            item(choices.next(), choices.text(), "completed")
        ),
        13 => {
            let reason = ["max_output_tokens", "content_filter", "else"][which % 3];
            format!(
                r#"{{"type":"response.incomplete","response":{{"status":"incomplete","incomplete_details":{{"reason":"{reason}"}},"output":[]}}}}"#
            )
        }
        14 => format!(
            r#"{{"type":"{}","message":"{}","response":{{"status":"failed","error":{{"code":"server_error","message":"m"}}}}}}"#,
            ["error", "response.failed"][which % 2],
            choices.text()
        ),
        _ => r#"{"type":"response.content_part.added","output_index":0,"part":{"#.to_owned(),
    }
}

/// The lines of a run of the Codex CLI.
#[must_use]
pub fn exec(bytes: &[u8]) -> Vec<u8> {
    let mut choices = Choices { bytes: bytes.iter() };
    let mut out = String::new();
    while choices.bytes.len() > 0 {
        let step = choices.next();
        out.push_str(&exec_line(step % 16, step / 16, &mut choices));
        out.push('\n');
    }
    out.into_bytes()
}

fn exec_line(what: usize, which: usize, choices: &mut Choices<'_>) -> String {
    let completed = |item: String| format!(r#"{{"type":"item.completed","item":{item}}}"#);
    let status = ["completed", "failed", "declined", "in_progress"][which % 4];
    match what {
        0 => r#"{"type":"thread.started","thread_id":"t"}"#.to_owned(),
        1 => r#"{"type":"turn.started"}"#.to_owned(),
        2..=4 => {
            completed(format!(r#"{{"id":"i","type":"agent_message","text":"{}"}}"#, choices.text()))
        }
        5 | 6 => {
            completed(format!(r#"{{"id":"i","type":"reasoning","text":"{}"}}"#, choices.text()))
        }
        7 => r#"{"type":"error","message":"Reconnecting... 1/5"}"#.to_owned(),
        8 => format!(r#"{{"type":"error","message":"{}"}}"#, choices.text()),
        9 => r#"{"type":"item.started","item":{"id":"i","type":"command_execution"}}"#.to_owned(),
        10 => completed(format!(
            r#"{{"type":"command_execution","command":"{}","aggregated_output":"{}","exit_code":{},"status":"{status}"}}"#,
            choices.text(),
            choices.text(),
            ["0", "1", "null", "\"x\""][which / 4 % 4]
        )),
        11 => completed(format!(
            r#"{{"type":"file_change","changes":[{{"path":"{}","kind":"add"}},{{"kind":1}},7],"status":"{status}"}}"#,
            choices.text()
        )),
        12 => {
            let kind = ["mcp_tool_call", "collab_tool_call", "web_search", "error"][which % 4];
            let text = choices.text();
            completed(format!(
                r#"{{"type":"{kind}","server":"{text}","tool":"t","arguments":{{"a":"{text}"}},"query":"{text}","message":"{text}"}}"#
            ))
        }
        13 => completed(format!(
            r#"{{"type":"todo_list","items":[{{"text":"{}","completed":true}},{{"completed":"x"}},null]}}"#,
            choices.text()
        )),
        14 => format!(
            r#"{{"type":"{}","usage":{{"input_tokens":3,"cached_input_tokens":1,"output_tokens":2}}}}"#,
            ["turn.completed", "turn.completed", "turn.else", "item.completed"][which % 4]
        ),
        _ => format!(
            r#"{{"type":"turn.failed","error":{{"message":"{}{}"}}}}"#,
            [
                "stream disconnected before completion: ",
                "unexpected status 429 Too Many Requests: ",
                "stream disconnected before completion: Incomplete response returned, reason: \
                 max_output_tokens",
                "{\\\"error\\\":{\\\"message\\\":\\\"m\\\"}}",
            ][which % 4],
            choices.text()
        ),
    }
}

fn item(kind: usize, text: &str, status: &str) -> String {
    let name = NAMES[kind / 12 % NAMES.len()];
    match kind % 12 {
        0 => format!(
            r#"{{"type":"message","id":"m","role":"assistant","status":"{status}","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}"#
        ),
        1 => r#"{"type":"message","id":"m","role":"assistant","content":[]}"#.to_owned(),
        2 => format!(
            r#"{{"type":"message","id":"m","content":[{{"type":"output_text","text":"{text}","annotations":[{{"type":"url_citation","url":"u"}}]}},{{"type":"refusal","refusal":"{text}"}}]}}"#
        ),
        3 | 4 => format!(
            r#"{{"type":"function_call","id":"f","call_id":"c{}","name":"{name}","arguments":"{text}","status":"{status}"}}"#,
            kind % 3
        ),
        5 => format!(
            r#"{{"type":"custom_tool_call","id":"f","call_id":"c","name":"{name}","input":"{text}"}}"#
        ),
        6 => r#"{"type":"reasoning","id":"rs_1","summary":[]}"#.to_owned(),
        7 => format!(
            r#"{{"type":"reasoning","id":"rs_1","summary":[{{"type":"summary_text","text":"{text}"}},{{"type":"summary_text","text":"b"}}],"encrypted_content":"s"}}"#
        ),
        8 => format!(
            r#"{{"type":"reasoning","summary":[],"content":[{{"type":"reasoning_text","text":"{text}"}}],"encrypted_content":"{text}"}}"#
        ),
        9 => {
            r#"{"type":"tool_search_call","execution":"client","call_id":"t","arguments":{"q":1}}"#
                .to_owned()
        }
        10 => format!(r#"{{"type":"web_search_call","id":"ws","status":"{status}"}}"#),
        _ => format!(r#"{{"id":"x","note":"{text}"}}"#),
    }
}
