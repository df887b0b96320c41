//! What a simulated model answers, and the bytes of it in either dialect.

use crate::sim::Random;
use serde_json::{Value, json};

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) finish: &'static str,
}

/// A wire API of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Responses,
    /// GigaChat, as upstream only.
    Giga,
}

/// A reply body, and from which offset on its reader can know that it is whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) whole_from: usize,
    pub(crate) is_stream: bool,
}

const WORDS: [&str; 8] =
    ["plain ", "quoted \" and \\ ", "line\n", "tab\t", "Привет ", "語 ", "😀 ", "{\"a\":[1]} "];

/// An answer to the request with this marker.
pub(crate) fn content(marker: &str, random: &mut Random) -> Content {
    let words = |random: &mut Random, most: u64| {
        let mut text = format!("{marker} ");
        for _ in 0..random.below(most) {
            text.push_str(random.pick::<&str>(&WORDS));
        }
        text + marker
    };
    let long = if random.chance(60) { 4_000 } else { 12 };
    let mut content = Content {
        reasoning: if random.chance(300) { words(random, 6) } else { String::new() },
        text: if random.chance(850) { words(random, long) } else { String::new() },
        calls: Vec::new(),
        finish: if random.chance(100) { "length" } else { "stop" },
    };
    if content.text.is_empty() || random.chance(200) {
        content.finish = "tool_calls";
        for _ in 0..=random.below(3) {
            let arguments = json!({ "query": words(random, 8) }).to_string();
            content.calls.push(("lookup".to_owned(), arguments));
        }
    }
    content
}

/// Cuts a text into deltas, never inside a character.
fn deltas(text: &str, random: &mut Random) -> Vec<String> {
    let (mut list, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let count = 1 + random.below(if text.len() > 2_000 { 200 } else { 12 }) as usize;
        let end = rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at);
        list.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    list
}

fn usage(api: Api) -> Value {
    match api {
        Api::Chat => json!({ "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12 }),
        Api::Giga => json!({ "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
            "precached_prompt_tokens": 0 }),
        Api::Responses => json!({
            "input_tokens": 7, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": 12
        }),
    }
}

fn call_id(marker: &str, index: usize) -> String {
    format!("call_{marker}_{index}")
}

/// The body for `content`. With `fault`, an error event stands in place of the end.
pub(crate) fn body(
    api: Api,
    stream: bool,
    marker: &str,
    content: &Content,
    fault: bool,
    random: &mut Random,
) -> Body {
    match (api, stream) {
        (Api::Chat, true) => chat_stream(marker, content, fault, random),
        (Api::Chat, false) => document(&chat_document(marker, content)),
        (Api::Giga, true) => giga_stream(content, random),
        (Api::Giga, false) => document(&giga_document(content)),
        (Api::Responses, true) => Responses::new(marker).stream(content, fault, random),
        (Api::Responses, false) => document(&Responses::new(marker).document(content)),
    }
}

fn document(value: &Value) -> Body {
    let bytes = value.to_string().into_bytes();
    Body { whole_from: bytes.len(), bytes, is_stream: false }
}

fn chat_document(marker: &str, content: &Content) -> Value {
    let calls = content.calls.iter().enumerate().map(|(index, (name, arguments))| {
        json!({ "id": call_id(marker, index), "type": "function",
            "function": { "name": name, "arguments": arguments } })
    });
    let calls: Vec<Value> = calls.collect();
    let mut message = json!({ "role": "assistant", "content": null });
    if !content.text.is_empty() {
        message["content"] = json!(content.text);
    }
    if !content.reasoning.is_empty() {
        message["reasoning_content"] = json!(content.reasoning);
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({ "id": format!("chatcmpl-{marker}"), "object": "chat.completion", "created": 1,
        "model": "up-model", "usage": usage(Api::Chat),
        "choices": [{ "index": 0, "message": message, "finish_reason": content.finish }] })
}

fn chat_stream(marker: &str, content: &Content, fault: bool, random: &mut Random) -> Body {
    let end = *random.pick(&["\n\n", "\n\n", "\r\n\r\n", "\n\n: a comment\n\n"]);
    let chunk = |delta: Value, finish: Value| {
        let value = json!({ "id": format!("chatcmpl-{marker}"), "object": "chat.completion.chunk",
            "created": 1, "model": "up-model",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
        format!("data: {value}")
    };
    let mut events = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    for delta in deltas(&content.reasoning, random) {
        events.push(chunk(json!({ "reasoning_content": delta }), Value::Null));
    }
    for delta in deltas(&content.text, random) {
        events.push(chunk(json!({ "content": delta }), Value::Null));
    }
    for (index, (name, arguments)) in content.calls.iter().enumerate() {
        let first = json!({ "tool_calls": [{ "index": index, "id": call_id(marker, index),
            "type": "function", "function": { "name": name, "arguments": "" } }] });
        events.push(chunk(first, Value::Null));
        for delta in deltas(arguments, random) {
            let next = json!({ "tool_calls": [
                { "index": index, "function": { "arguments": delta } }] });
            events.push(chunk(next, Value::Null));
        }
    }
    let join = |events: &[String]| events.iter().map(|event| format!("{event}{end}")).collect();
    if fault {
        let kept = random.below(events.len() as u64) as usize;
        let mut bytes: String = join(&events[..kept]);
        bytes.push_str(&format!("data: {}{end}", upstream_error(marker, None)));
        return Body { whole_from: usize::MAX, bytes: bytes.into_bytes(), is_stream: true };
    }
    events.push(chunk(json!({}), json!(content.finish)));
    let mut bytes: String = join(&events);
    let whole_from =
        bytes.trim_end().len() - if end.contains(':') { ": a comment".len() } else { 0 };
    if random.chance(700) {
        let last = json!({ "id": format!("chatcmpl-{marker}"), "object": "chat.completion.chunk",
            "created": 1, "model": "up-model", "choices": [], "usage": usage(Api::Chat) });
        bytes.push_str(&format!("data: {last}{end}"));
    }
    if random.chance(900) {
        bytes.push_str(&format!("data: [DONE]{end}"));
    }
    Body { whole_from, bytes: bytes.into_bytes(), is_stream: true }
}

/// The reason for an end as GigaChat says it.
fn giga_finish(content: &Content) -> &'static str {
    if content.finish == "tool_calls" { "function_call" } else { content.finish }
}

/// The only call, its arguments an object.
fn giga_call(content: &Content) -> Option<Value> {
    let (name, arguments) = content.calls.first()?;
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    Some(json!({ "name": name, "arguments": arguments }))
}

fn giga_document(content: &Content) -> Value {
    let mut message = json!({ "role": "assistant", "content": content.text });
    if !content.reasoning.is_empty() {
        message["reasoning_content"] = json!(content.reasoning);
    }
    if let Some(call) = giga_call(content) {
        message["function_call"] = call;
    }
    json!({ "object": "chat.completion", "created": 1, "model": "up-model",
        "usage": usage(Api::Giga),
        "choices": [{ "index": 0, "message": message, "finish_reason": giga_finish(content) }] })
}

fn giga_stream(content: &Content, random: &mut Random) -> Body {
    let end = *random.pick(&["\n\n", "\r\n\r\n"]);
    let chunk = |choice: Value, usage: Value| {
        let mut value = json!({ "created": 1, "model": "up-model",
            "object": "chat.completion", "choices": [choice] });
        if usage.is_object() {
            value["usage"] = usage;
        }
        format!("data: {value}{end}")
    };
    let delta = |delta: Value| chunk(json!({ "index": 0, "delta": delta }), Value::Null);
    let mut bytes = String::new();
    for text in deltas(&content.reasoning, random) {
        bytes.push_str(&delta(json!({ "role": "assistant", "reasoning_content": text })));
    }
    for text in deltas(&content.text, random) {
        bytes.push_str(&delta(json!({ "content": text })));
    }
    if let Some(call) = giga_call(content) {
        bytes.push_str(&delta(json!({ "content": "", "function_call": call })));
    }
    let last =
        json!({ "index": 0, "delta": { "content": "" }, "finish_reason": giga_finish(content) });
    bytes.push_str(&chunk(last, usage(Api::Giga)));
    let whole_from = bytes.trim_end().len();
    bytes.push_str(&format!("data: [DONE]{end}"));
    Body { whole_from, bytes: bytes.into_bytes(), is_stream: true }
}

/// An error object as either API sends it in the middle of a stream.
pub(crate) fn upstream_error(marker: &str, shown: Option<&str>) -> Value {
    let words = shown.map_or("model fell over".to_owned(), |shown| format!("{shown} is over"));
    json!({ "error": { "message": format!("{words} for {marker}"), "type": "server_error",
        "param": null, "code": "server_error" } })
}

/// Writes Responses streams and documents.
struct Responses<'m> {
    marker: &'m str,
    sequence: u64,
    events: Vec<String>,
    items: Vec<Value>,
}

impl<'m> Responses<'m> {
    fn new(marker: &'m str) -> Self {
        Self { marker, sequence: 0, events: Vec::new(), items: Vec::new() }
    }

    fn push(&mut self, kind: &str, mut value: Value) {
        value["type"] = json!(kind);
        value["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.events.push(format!("event: {kind}\ndata: {value}\n\n"));
    }

    fn response(&self, status: &str) -> Value {
        json!({ "id": format!("resp_{}", self.marker), "object": "response", "created_at": 1,
            "status": status, "model": "up-model", "output": [], "usage": null, "error": null,
            "incomplete_details": null, "parallel_tool_calls": true, "tool_choice": "auto",
            "tools": [], "metadata": {}, "instructions": null })
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.marker, self.items.len())
    }

    fn item(&mut self, added: &Value, done: Value, inner: Vec<(&str, Value)>) {
        let index = self.items.len();
        self.push("response.output_item.added", json!({ "output_index": index, "item": added }));
        for (kind, mut value) in inner {
            value["output_index"] = json!(index);
            value["item_id"] = done["id"].clone();
            self.push(kind, value);
        }
        self.push("response.output_item.done", json!({ "output_index": index, "item": &done }));
        self.items.push(done);
    }

    fn reasoning(&mut self, text: &str, random: &mut Random) {
        let id = self.id("rs");
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        let kind = "response.reasoning_summary_part.added";
        let mut inner = vec![(kind, json!({ "summary_index": 0, "part": part("") }))];
        for delta in deltas(text, random) {
            let value = json!({ "summary_index": 0, "delta": delta });
            inner.push(("response.reasoning_summary_text.delta", value));
        }
        let value = json!({ "summary_index": 0, "text": text });
        inner.push(("response.reasoning_summary_text.done", value));
        let value = json!({ "summary_index": 0, "part": part(text) });
        inner.push(("response.reasoning_summary_part.done", value));
        self.item(
            &json!({ "id": id, "type": "reasoning", "summary": [] }),
            json!({ "id": id, "type": "reasoning", "summary": [part(text)] }),
            inner,
        );
    }

    fn message(&mut self, text: &str, random: &mut Random) {
        let id = self.id("msg");
        let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
        let whole = |status: &str, content: Value| {
            json!({ "id": id, "type": "message", "role": "assistant", "status": status,
                "content": content })
        };
        let value = json!({ "content_index": 0, "part": part("") });
        let mut inner = vec![("response.content_part.added", value)];
        for delta in deltas(text, random) {
            let value = json!({ "content_index": 0, "delta": delta, "logprobs": [] });
            inner.push(("response.output_text.delta", value));
        }
        let value = json!({ "content_index": 0, "text": text, "logprobs": [] });
        inner.push(("response.output_text.done", value));
        let value = json!({ "content_index": 0, "part": part(text) });
        inner.push(("response.content_part.done", value));
        self.item(&whole("in_progress", json!([])), whole("completed", json!([part(text)])), inner);
    }

    fn call(&mut self, name: &str, arguments: &str, random: &mut Random) {
        let (id, call) = (self.id("fc"), call_id(self.marker, self.items.len()));
        let whole = |status: &str, arguments: &str| {
            json!({ "id": id, "type": "function_call", "status": status, "call_id": call,
                "name": name, "arguments": arguments })
        };
        let mut inner = Vec::new();
        for delta in deltas(arguments, random) {
            let value = json!({ "delta": delta });
            inner.push(("response.function_call_arguments.delta", value));
        }
        let value = json!({ "arguments": arguments, "name": name });
        inner.push(("response.function_call_arguments.done", value));
        self.item(&whole("in_progress", ""), whole("completed", arguments), inner);
    }

    fn content(&mut self, content: &Content, random: &mut Random) {
        if !content.reasoning.is_empty() {
            self.reasoning(&content.reasoning, random);
        }
        if !content.text.is_empty() {
            self.message(&content.text, random);
        }
        for (name, arguments) in &content.calls {
            self.call(name, arguments, random);
        }
    }

    fn last(&self, content: &Content) -> Value {
        let cut = content.finish == "length";
        let mut response = self.response(if cut { "incomplete" } else { "completed" });
        if cut {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response["output"] = json!(self.items);
        response["usage"] = usage(Api::Responses);
        response
    }

    fn stream(mut self, content: &Content, fault: bool, random: &mut Random) -> Body {
        let begin = json!({ "response": self.response("in_progress") });
        self.push("response.created", begin.clone());
        self.push("response.in_progress", begin);
        self.content(content, random);
        if fault {
            self.events.truncate(2 + random.below(self.events.len() as u64 - 2) as usize);
            self.sequence = self.events.len() as u64;
            let mut response = self.response("failed");
            response["error"] = json!({ "code": "server_error",
                "message": format!("model fell over for {}", self.marker) });
            self.push("response.failed", json!({ "response": response }));
            let bytes = self.events.concat().into_bytes();
            return Body { whole_from: usize::MAX, bytes, is_stream: true };
        }
        let response = self.last(content);
        let status = response["status"].as_str().unwrap_or_default().to_owned();
        self.push(&format!("response.{status}"), json!({ "response": response }));
        let bytes = self.events.concat().into_bytes();
        Body { whole_from: bytes.len() - 2, bytes, is_stream: true }
    }

    fn document(mut self, content: &Content) -> Value {
        self.content(content, &mut Random::new(0));
        self.last(content)
    }
}
