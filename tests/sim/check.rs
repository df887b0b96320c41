//! What a legal reply is, written a second time and independently of the program: SSE, the
//! Responses stream and document, the Chat stream and document.

use serde_json::{Map, Value};

/// A reply as its reader understands it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Name and arguments or input of every call.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) end: End,
}

/// How a reply ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum End {
    /// No terminal event.
    #[default]
    Missing,
    /// The answer is whole, with the finish reason in Chat's words.
    Whole(String),
    /// The reply itself says that it failed.
    Failed(String),
}

/// One server-sent event.
#[derive(Debug, PartialEq)]
struct Block {
    name: String,
    data: String,
}

/// Splits a body into events, lines ended by LF or by CR LF. What stands behind the last blank line
/// is dropped, as the standard says, and reported as the second value.
fn blocks(body: &str) -> (Vec<Block>, String) {
    let body = body.replace("\r\n", "\n");
    let (mut list, mut rest) = (Vec::new(), &*body);
    while let Some(end) = rest.find("\n\n") {
        let mut block = Block { name: String::new(), data: String::new() };
        let mut lines = 0;
        for line in rest[..end].split('\n') {
            if let Some(data) = line.strip_prefix("data:") {
                if lines > 0 {
                    block.data.push('\n');
                }
                block.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                lines += 1;
            } else if let Some(name) = line.strip_prefix("event:") {
                block.name = name.trim_start().to_owned();
            }
        }
        if lines > 0 {
            list.push(block);
        }
        rest = &rest[end + 2..];
    }
    (list, rest.to_owned())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON ({error}): {text}"))
}

fn str_of<'v>(value: &'v Value, key: &str) -> Result<&'v str, String> {
    value[key].as_str().ok_or_else(|| format!("no string `{key}` in {value}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, left: &T, right: &T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left:?} is not {right:?}")) }
}

/// Reads a Responses stream. `whole` says whether the transport ended well: then nothing may stand
/// behind the last event.
pub(crate) fn responses_stream(body: &str, whole: bool) -> Result<Seen, String> {
    let (list, rest) = blocks(body);
    if whole && !rest.trim().is_empty() {
        return Err(format!("an unfinished event at the end: {rest:?}"));
    }
    let mut stream = Stream::default();
    for block in list {
        if block.data == "[DONE]" {
            same("[DONE] before the terminal event", &stream.done, &true)?;
            continue;
        }
        let event = json(&block.data)?;
        let kind = str_of(&event, "type")?;
        same("event name", &block.name.as_str(), &kind)?;
        stream.event(kind, &event).map_err(|error| format!("{kind}: {error}"))?;
    }
    Ok(stream.seen)
}

/// The state of a Responses stream.
#[derive(Default)]
struct Stream {
    sequence: u64,
    id: Option<String>,
    in_progress: bool,
    done: bool,
    /// Items that are done, as their `done` event gave them.
    items: Vec<Value>,
    open: Option<Item>,
    seen: Seen,
}

/// An item that is being streamed.
#[derive(Default)]
struct Item {
    added: Value,
    parts: Vec<Value>,
    /// Text of the open part, or the call's arguments.
    text: String,
    part_open: bool,
    text_done: bool,
    kind: String,
}

impl Stream {
    fn event(&mut self, kind: &str, event: &Value) -> Result<(), String> {
        same("sequence_number", &event["sequence_number"].as_u64(), &Some(self.sequence))?;
        self.sequence += 1;
        if self.done {
            return Err("an event behind the terminal one".to_owned());
        }
        match kind {
            "response.created" | "response.in_progress" => self.begin(kind, &event["response"]),
            "keepalive" => Ok(()),
            "error" => Ok(()),
            _ if !self.in_progress && kind != "response.failed" => {
                Err("before response.in_progress".to_owned())
            }
            "response.output_item.added" => self.added(event),
            "response.output_item.done" => self.item_done(event),
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.terminal(kind, &event["response"])
            }
            _ => self.inside(kind, event),
        }
    }

    fn begin(&mut self, kind: &str, response: &Value) -> Result<(), String> {
        same("early output", &response["output"], &Value::Array(Vec::new()))?;
        same("status", &str_of(response, "status")?, &"in_progress")?;
        let id = str_of(response, "id")?.to_owned();
        if kind == "response.created" {
            same("created twice", &self.id, &None)?;
            self.id = Some(id);
        } else {
            same("response id", &self.id, &Some(id))?;
            same("in_progress twice", &self.in_progress, &false)?;
            self.in_progress = true;
        }
        Ok(())
    }

    fn added(&mut self, event: &Value) -> Result<(), String> {
        if self.open.is_some() {
            return Err("an item is still open".to_owned());
        }
        self.index(event)?;
        let item = &event["item"];
        let kind = str_of(item, "type")?.to_owned();
        let empty = match kind.as_str() {
            "message" => item["content"] == Value::Array(Vec::new()),
            "reasoning" => item["summary"] == Value::Array(Vec::new()),
            "function_call" => item["arguments"] == "",
            "custom_tool_call" => item["input"] == "",
            _ => true,
        };
        same("a new item is empty", &empty, &true)?;
        str_of(item, "id")?;
        self.open = Some(Item { added: item.clone(), kind, ..Item::default() });
        Ok(())
    }

    fn index(&self, event: &Value) -> Result<(), String> {
        same("output_index", &event["output_index"].as_u64(), &Some(self.items.len() as u64))
    }

    fn inside(&mut self, kind: &str, event: &Value) -> Result<(), String> {
        self.index(event)?;
        let Some(item) = &mut self.open else { return Err("no item is open".to_owned()) };
        same("item_id", &event["item_id"], &item.added["id"])?;
        match kind {
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                item.part_added(event)
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                item.part_done(event)
            }
            _ if kind.ends_with(".delta") => item.delta(kind, event, &mut self.seen),
            _ if kind.ends_with(".done") => item.text_done(kind, event),
            _ => Err("an event that is not known".to_owned()),
        }
    }

    fn item_done(&mut self, event: &Value) -> Result<(), String> {
        self.index(event)?;
        let Some(open) = self.open.take() else { return Err("no item is open".to_owned()) };
        let item = &event["item"];
        for key in ["id", "type", "call_id", "name", "namespace", "role"] {
            same(key, &item[key], &open.added[key])?;
        }
        same("the part is closed", &open.part_open, &false)?;
        match open.kind.as_str() {
            "message" => same("content", &texts(&item["content"]), &open.part_texts())?,
            "reasoning" => {
                let mut shown = texts(&item["summary"]);
                shown.extend(texts(&item["content"]));
                same("summary", &shown, &open.part_texts())?;
            }
            "function_call" => {
                same("arguments", &str_of(item, "arguments")?, &open.text.as_str())?;
                same("arguments.done came", &open.text_done, &true)?;
            }
            "custom_tool_call" => {
                same("input", &str_of(item, "input")?, &open.text.as_str())?;
                same("input.done came", &open.text_done, &true)?;
            }
            _ => {}
        }
        if open.kind.ends_with("_call") {
            self.seen.calls.push((str_of(item, "name")?.to_owned(), open.text));
        }
        self.items.push(item.clone());
        Ok(())
    }

    fn terminal(&mut self, kind: &str, response: &Value) -> Result<(), String> {
        self.done = true;
        let id = str_of(response, "id")?.to_owned();
        if self.id.is_some() {
            same("response id", &self.id, &Some(id))?;
        }
        let status = str_of(response, "status")?;
        same("status", &format!("response.{status}").as_str(), &kind)?;
        if kind == "response.failed" {
            let error = &response["error"];
            str_of(error, "message")?;
            self.seen.end = End::Failed(str_of(error, "code")?.to_owned());
            return Ok(());
        }
        same("every item is done", &self.open.is_none(), &true)?;
        same("response.output", &response["output"], &Value::Array(self.items.clone()))?;
        self.seen.end = End::Whole(finish(response, &self.seen)?);
        Ok(())
    }
}

/// The finish reason that a Responses object stands for.
fn finish(response: &Value, seen: &Seen) -> Result<String, String> {
    let reason = match str_of(response, "status")? {
        "completed" if seen.calls.is_empty() => "stop",
        "completed" => "tool_calls",
        "incomplete" => match str_of(&response["incomplete_details"], "reason")? {
            "max_output_tokens" => "length",
            other => other,
        },
        other => return Err(format!("status {other:?}")),
    };
    Ok(reason.to_owned())
}

fn texts(parts: &Value) -> Vec<String> {
    let list = parts.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|part| part_text(part).unwrap_or_default()).collect()
}

fn part_text(part: &Value) -> Option<String> {
    part["text"].as_str().or_else(|| part["refusal"].as_str()).map(str::to_owned)
}

impl Item {
    fn part_texts(&self) -> Vec<String> {
        self.parts.iter().map(|part| part_text(part).unwrap_or_default()).collect()
    }

    fn part_index(&self, event: &Value, count: usize) -> Result<(), String> {
        let index = event["content_index"].as_u64().or(event["summary_index"].as_u64());
        same("part index", &index, &Some(count as u64))
    }

    fn part_added(&mut self, event: &Value) -> Result<(), String> {
        same("a part is open already", &self.part_open, &false)?;
        self.part_index(event, self.parts.len())?;
        same("a new part is empty", &part_text(&event["part"]), &Some(String::new()))?;
        self.part_open = true;
        self.text_done = false;
        self.text.clear();
        Ok(())
    }

    fn delta(&mut self, kind: &str, event: &Value, seen: &mut Seen) -> Result<(), String> {
        let delta = str_of(event, "delta")?;
        same("a delta behind done", &self.text_done, &false)?;
        if matches!(self.kind.as_str(), "message" | "reasoning") {
            same("a delta in an open part", &self.part_open, &true)?;
            self.part_index(event, self.parts.len())?;
        }
        self.text.push_str(delta);
        match self.kind.as_str() {
            "message" => seen.text.push_str(delta),
            "reasoning" => seen.reasoning.push_str(delta),
            "function_call" | "custom_tool_call" => {}
            other => return Err(format!("{kind} in an item of type {other}")),
        }
        Ok(())
    }

    fn text_done(&mut self, kind: &str, event: &Value) -> Result<(), String> {
        let key = match kind {
            "response.function_call_arguments.done" => "arguments",
            "response.custom_tool_call_input.done" => "input",
            "response.refusal.done" => "refusal",
            _ => "text",
        };
        same("done twice", &self.text_done, &false)?;
        self.text_done = true;
        same("deltas together", &self.text.as_str(), &str_of(event, key)?)
    }

    fn part_done(&mut self, event: &Value) -> Result<(), String> {
        same("a part is open", &self.part_open, &true)?;
        same("the text is done", &self.text_done, &true)?;
        self.part_index(event, self.parts.len())?;
        same("part text", &part_text(&event["part"]), &Some(self.text.clone()))?;
        self.parts.push(event["part"].clone());
        self.part_open = false;
        Ok(())
    }
}

/// Reads a Responses document.
pub(crate) fn responses_document(body: &str) -> Result<Seen, String> {
    let response = json(body)?;
    same("object", &str_of(&response, "object")?, &"response")?;
    let mut seen = Seen::default();
    let list = response["output"].as_array().ok_or("no output")?;
    for item in list {
        match str_of(item, "type")? {
            "message" => seen.text.push_str(&texts(&item["content"]).concat()),
            "reasoning" => {
                seen.reasoning.push_str(&texts(&item["summary"]).concat());
                seen.reasoning.push_str(&texts(&item["content"]).concat());
            }
            "function_call" => {
                seen.calls.push((str_of(item, "name")?.into(), str_of(item, "arguments")?.into()));
            }
            "custom_tool_call" => {
                seen.calls.push((str_of(item, "name")?.into(), str_of(item, "input")?.into()));
            }
            other => return Err(format!("an item of type {other:?}")),
        }
    }
    seen.end = End::Whole(finish(&response, &seen)?);
    Ok(seen)
}

/// Reads a Chat Completions stream.
pub(crate) fn chat_stream(body: &str, whole: bool) -> Result<Seen, String> {
    let (list, rest) = blocks(body);
    if whole && !rest.trim().is_empty() {
        return Err(format!("an unfinished event at the end: {rest:?}"));
    }
    let mut stream = Chat::default();
    for block in list {
        if stream.marker || matches!(stream.seen.end, End::Failed(_)) {
            return Err(format!("an event behind the end: {block:?}"));
        }
        if block.data == "[DONE]" {
            same("[DONE] without a finish_reason", &stream.finish.is_some(), &true)?;
            stream.marker = true;
            continue;
        }
        stream.chunk(&json(&block.data)?)?;
    }
    if let Some(finish) = stream.finish.filter(|_| stream.seen.end == End::Missing)
        && (stream.marker || whole)
    {
        stream.seen.end = End::Whole(finish);
    }
    Ok(stream.seen)
}

/// The state of a Chat stream.
#[derive(Default)]
struct Chat {
    head: Option<[Value; 4]>,
    finish: Option<String>,
    usage: bool,
    marker: bool,
    seen: Seen,
}

impl Chat {
    fn chunk(&mut self, chunk: &Value) -> Result<(), String> {
        if let Some(error) = chunk.get("error") {
            str_of(error, "message")?;
            let code = error["code"].as_str().unwrap_or("none");
            self.seen.end = End::Failed(code.to_owned());
            return Ok(());
        }
        let head = ["id", "object", "created", "model"].map(|key| chunk[key].clone());
        same("object", &str_of(chunk, "object")?, &"chat.completion.chunk")?;
        if let Some(first) = &self.head {
            same("id, object, created, model", &head, first)?;
        }
        let first = self.head.is_none();
        self.head = Some(head);
        let choices = chunk["choices"].as_array().ok_or("no choices")?;
        let Some(choice) = choices.first() else {
            same("usage twice", &self.usage, &false)?;
            self.usage = chunk["usage"].is_object();
            return same("a chunk without choices has usage", &self.usage, &true);
        };
        same("usage before the last choice", &self.usage, &false)?;
        same("a choice behind finish_reason", &self.finish, &None)?;
        let delta = choice["delta"].as_object().ok_or("no delta")?;
        same("role in the first chunk only", &delta.contains_key("role"), &first)?;
        self.delta(delta)?;
        self.finish = choice["finish_reason"].as_str().map(str::to_owned);
        Ok(())
    }

    fn delta(&mut self, delta: &Map<String, Value>) -> Result<(), String> {
        let text = |key: &str| delta.get(key).and_then(Value::as_str).unwrap_or_default();
        self.seen.text.push_str(text("content"));
        self.seen.text.push_str(text("refusal"));
        self.seen.reasoning.push_str(text("reasoning_content"));
        let calls = delta.get("tool_calls").and_then(Value::as_array);
        for call in calls.map(Vec::as_slice).unwrap_or_default() {
            let index = call["index"].as_u64().ok_or("a call without index")? as usize;
            let arguments = str_of(&call["function"], "arguments")?;
            if index == self.seen.calls.len() {
                str_of(call, "id")?;
                let name = str_of(&call["function"], "name")?;
                self.seen.calls.push((name.to_owned(), arguments.to_owned()));
            } else {
                let known = self.seen.calls.get_mut(index).ok_or("a call index with a gap")?;
                same("id given again", &call.get("id"), &None)?;
                known.1.push_str(arguments);
            }
        }
        Ok(())
    }
}

/// Reads a Chat Completions document.
pub(crate) fn chat_document(body: &str) -> Result<Seen, String> {
    let document = json(body)?;
    same("object", &str_of(&document, "object")?, &"chat.completion")?;
    let choice = &document["choices"][0];
    let message = &choice["message"];
    same("role", &str_of(message, "role")?, &"assistant")?;
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    let mut seen = Seen {
        text: text("content") + &text("refusal"),
        reasoning: text("reasoning_content"),
        ..Seen::default()
    };
    for call in message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let function = &call["function"];
        seen.calls.push((str_of(function, "name")?.into(), str_of(function, "arguments")?.into()));
    }
    seen.end = End::Whole(str_of(choice, "finish_reason")?.to_owned());
    Ok(seen)
}

/// Reads an error envelope; returns its code.
pub(crate) fn envelope(body: &str) -> Result<String, String> {
    let document = json(body)?;
    let error = document["error"].as_object().ok_or("no error object")?;
    for key in ["message", "type", "param", "code"] {
        if !error.contains_key(key) {
            return Err(format!("no `{key}` in {body}"));
        }
    }
    if error["message"].as_str().is_none_or(str::is_empty) {
        return Err(format!("no message in {body}"));
    }
    Ok(error["code"].as_str().unwrap_or("none").to_owned())
}

/// Every marker (`mk_` and eight hexadecimal digits) in a text.
pub(crate) fn markers(body: &[u8]) -> Vec<String> {
    let mut list = Vec::new();
    for window in body.windows(11) {
        if window.starts_with(b"mk_") && window[3..].iter().all(u8::is_ascii_hexdigit) {
            list.push(String::from_utf8_lossy(window).into_owned());
        }
    }
    list
}
