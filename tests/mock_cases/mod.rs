//! Reads answers of every wire API as trees, to compare them with their scripts.

use super::support::Reply;
use super::{CHAT, CODEX, GIGACHAT, RESPONSES};
use patchbay::mock::script::Script;
use patchbay::mock::{MODEL, PROMPT_TOKENS};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Read;

/// What an answer says, whichever wire API it came in.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Text deltas, or the whole text of a document.
    pub(crate) text: Vec<String>,
    pub(crate) reasoning: Vec<String>,
    /// Name and arguments of each call.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) finish: String,
    /// Prompt, answer, of those reasoning.
    pub(crate) usage: Option<(u64, u64, u64)>,
    /// Every id in it.
    pub(crate) ids: HashSet<String>,
}

pub(crate) fn texts(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The data of a stream's events; checks that each event is named as its data is.
pub(crate) fn events(reply: &Reply, marker: bool) -> Vec<Value> {
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = reply.text();
    let mut values = Vec::new();
    let mut frames: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(frames.pop(), Some(""), "the last frame is whole");
    if marker {
        assert_eq!(frames.pop(), Some("data: [DONE]"));
    }
    for frame in frames {
        let (event, data) = match frame.split_once('\n') {
            Some((event, data)) => (Some(event.strip_prefix("event: ").unwrap()), data),
            None => (None, frame),
        };
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(value["type"].as_str(), event, "{frame}");
        values.push(value);
    }
    values
}

fn chat_usage(usage: &Value) -> Option<(u64, u64, u64)> {
    let number = |value: &Value| value.as_u64().unwrap();
    let (input, output) =
        (number(usage.get("prompt_tokens")?), number(&usage["completion_tokens"]));
    assert_eq!(number(&usage["total_tokens"]), input + output);
    let reasoning = &usage["completion_tokens_details"]["reasoning_tokens"];
    Some((input, output, reasoning.as_u64().unwrap_or(0)))
}

pub(crate) fn chat_stream(reply: &Reply) -> Said {
    let mut said = Said::default();
    for chunk in events(reply, true) {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["model"], MODEL);
        said.ids.insert(texts(&chunk["id"]));
        if chunk["choices"] == json!([]) {
            said.usage = chat_usage(&chunk["usage"]);
            continue;
        }
        let choice = &chunk["choices"][0];
        said.finish += choice["finish_reason"].as_str().unwrap_or_default();
        let delta = &choice["delta"];
        said.text.extend(delta["content"].as_str().filter(|it| !it.is_empty()).map(str::to_owned));
        said.reasoning.extend(delta["reasoning_content"].as_str().map(str::to_owned));
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if call["id"].is_string() {
                said.ids.insert(texts(&call["id"]));
                said.calls.push((texts(&call["function"]["name"]), String::new()));
            }
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            said.calls[index].1 += call["function"]["arguments"].as_str().unwrap();
        }
    }
    said
}

pub(crate) fn chat_document(reply: &Reply) -> Said {
    let body = reply.json();
    assert_eq!(
        (body["object"].as_str(), body["model"].as_str()),
        (Some("chat.completion"), Some(MODEL))
    );
    let message = &body["choices"][0]["message"];
    let mut said = Said {
        text: message["content"].as_str().map(str::to_owned).into_iter().collect(),
        reasoning: message["reasoning_content"].as_str().map(str::to_owned).into_iter().collect(),
        finish: texts(&body["choices"][0]["finish_reason"]),
        usage: chat_usage(&body["usage"]),
        ..Said::default()
    };
    said.ids.insert(texts(&body["id"]));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        said.ids.insert(texts(&call["id"]));
        let function = &call["function"];
        said.calls.push((texts(&function["name"]), texts(&function["arguments"])));
    }
    said
}

/// Reads the object of a Responses answer.
fn response(body: &Value) -> Said {
    assert_eq!((body["object"].as_str(), body["model"].as_str()), (Some("response"), Some(MODEL)));
    let mut said = Said { finish: texts(&body["status"]), ..Said::default() };
    said.ids.insert(texts(&body["id"]));
    for item in body["output"].as_array().unwrap() {
        said.ids.insert(texts(&item["id"]));
        match item["type"].as_str().unwrap() {
            "message" => said.text.push(texts(&item["content"][0]["text"])),
            "reasoning" => said.reasoning.push(texts(&item["summary"][0]["text"])),
            "function_call" => {
                said.ids.insert(texts(&item["call_id"]));
                said.calls.push((texts(&item["name"]), texts(&item["arguments"])));
            }
            other => panic!("an item {other}"),
        }
    }
    let usage = &body["usage"];
    said.usage = usage["input_tokens"].as_u64().map(|input| {
        let reasoning = usage["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        (input, usage["output_tokens"].as_u64().unwrap(), reasoning)
    });
    said
}

/// Reads a Responses stream: the deltas, which the closing events must repeat.
fn responses_stream(reply: &Reply, marker: bool) -> Said {
    let events = events(reply, marker);
    let numbers = events.iter().map(|event| event["sequence_number"].as_u64().unwrap());
    assert!(numbers.eq(0..events.len() as u64));
    let deltas = |kind: &str| -> Vec<String> {
        events.iter().filter(|it| it["type"] == kind).map(|it| texts(&it["delta"])).collect()
    };
    let (text, reasoning) =
        (deltas("response.output_text.delta"), deltas("response.reasoning_summary_text.delta"));
    for event in &events {
        match event["type"].as_str().unwrap() {
            "response.output_text.done" => assert_eq!(event["text"], text.concat()),
            "response.content_part.done" => assert_eq!(event["part"]["text"], text.concat()),
            _ => {}
        }
    }
    assert_eq!(events[0]["type"], "response.created");
    let last = &events.last().unwrap()["response"];
    let said = response(last);
    assert_eq!(said.text.concat(), text.concat());
    assert_eq!(said.reasoning.concat(), reasoning.concat());
    let arguments: String = said.calls.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(deltas("response.function_call_arguments.delta").concat(), arguments);
    Said { text, reasoning, ..said }
}

fn gigachat_call(message: &Value, said: &mut Said) {
    if let Some(call) = message.get("function_call") {
        assert!(call["arguments"].is_object(), "{message}");
        said.ids.insert(texts(&message["functions_state_id"]));
        said.calls.push((texts(&call["name"]), call["arguments"].to_string()));
    }
}

fn gigachat_stream(reply: &Reply) -> Said {
    let mut said = Said::default();
    let chunks = events(reply, true);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    for chunk in &chunks {
        assert_eq!(
            (chunk["object"].as_str(), chunk["model"].as_str()),
            (Some("chat.completion"), Some(MODEL))
        );
        assert!(chunk["created"].is_u64() && chunk.get("id").is_none());
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        said.text.extend(delta["content"].as_str().filter(|it| !it.is_empty()).map(str::to_owned));
        said.reasoning.extend(delta["reasoning_content"].as_str().map(str::to_owned));
        gigachat_call(delta, &mut said);
        said.finish += choice["finish_reason"].as_str().unwrap_or_default();
        assert_eq!(choice["finish_reason"].is_string(), chunk.get("usage").is_some());
        said.usage = chat_usage(&chunk["usage"]);
    }
    said
}

fn gigachat_document(reply: &Reply) -> Said {
    let body = reply.json();
    let choice = &body["choices"][0];
    let message = &choice["message"];
    let mut said = Said {
        text: vec![texts(&message["content"])],
        reasoning: message["reasoning_content"].as_str().map(str::to_owned).into_iter().collect(),
        finish: texts(&choice["finish_reason"]),
        usage: chat_usage(&body["usage"]),
        ..Said::default()
    };
    gigachat_call(message, &mut said);
    said
}

pub(crate) fn read(path: &str, stream: bool, reply: &Reply) -> Said {
    match (path, stream) {
        (CHAT, true) => chat_stream(reply),
        (CHAT, false) => chat_document(reply),
        (RESPONSES, true) => responses_stream(reply, true),
        (CODEX, true) => responses_stream(reply, false),
        (GIGACHAT, true) => gigachat_stream(reply),
        (GIGACHAT, false) => gigachat_document(reply),
        _ => response(&reply.json()),
    }
}

/// Checks what an answer says against its script.
pub(crate) fn check(path: &str, script: &Script, stream: bool, said: &Said) {
    let concat = said.text.concat();
    assert_eq!(concat, script.whole_text(), "{path} {script} {stream}");
    assert_eq!(said.reasoning.concat(), script.whole_reasoning());
    if stream {
        assert_eq!(said.text.len(), script.deltas as usize, "{path} {script}");
        assert_eq!(said.reasoning.len(), script.reasoning as usize);
    }
    let calls = if path == GIGACHAT { script.calls.min(1) } else { script.calls };
    assert_eq!(said.calls.len(), calls as usize);
    for (index, (name, arguments)) in (0..).zip(&said.calls) {
        assert_eq!(name, "look");
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let whole = script.arguments(index).concat();
        assert_eq!(parse(arguments), parse(&whole));
        assert!(path == GIGACHAT || *arguments == whole);
    }
    let finish = match (path, calls) {
        (CHAT | GIGACHAT, 0) => "stop",
        (CHAT, _) => "tool_calls",
        (GIGACHAT, _) => "function_call",
        _ => "completed",
    };
    assert_eq!(said.finish, finish, "{path}");
    let output = script.deltas + script.reasoning + calls * script.call_deltas;
    let reasoning = if path == GIGACHAT { 0 } else { script.reasoning };
    let usage = (PROMPT_TOKENS, u64::from(output), u64::from(reasoning));
    if !(path == CHAT && stream) {
        assert_eq!(said.usage, Some(usage), "{path} {script}");
    }
}

/// A reply taken apart: the head, every chunk, and whether the body came to its end.
pub(crate) struct Chunks {
    pub(crate) head: String,
    pub(crate) chunks: Vec<String>,
    pub(crate) complete: bool,
}

/// Reads a connection to its end.
pub(crate) fn chunks(stream: &mut impl Read) -> Chunks {
    let mut bytes = Vec::new();
    // A connection that is torn off may end in an error.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let (mut chunks, mut complete) = (Vec::new(), false);
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            complete = behind == "\r\n";
            break;
        }
        chunks.push(behind[..size].to_owned());
        rest = behind[size..].strip_prefix("\r\n").unwrap();
    }
    Chunks { head: head.to_owned(), chunks, complete }
}
