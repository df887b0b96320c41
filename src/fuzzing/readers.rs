//! Strict readers of the streams that clients get, written apart from the encoders: they know the
//! wire APIs' grammar and nothing of how the translation is made. They panic at what no good server
//! sends.

use super::sse::frames_slowly;
use serde_json::Value;

/// What a client understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The words for the user, refusals too.
    pub text: String,
    /// The reasoning.
    pub reasoning: String,
    /// Arguments or input of every call of a function or custom tool that is done.
    pub calls: Vec<String>,
    /// How it ended.
    pub end: End,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// No terminal event.
    #[default]
    Missing,
    /// It is whole, or was cut by a limit.
    Whole,
    /// It says that it failed.
    Failed,
}

/// Reads JSON as strictly as `serde_json`; `None` for a number that has no place in 64 bits, which
/// is JSON all the same.
///
/// # Panics
/// When it is no JSON.
#[must_use]
pub fn strict(bytes: &[u8]) -> Option<Value> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) => panic!("{error}: {}", bytes.escape_ascii()),
    }
}

/// The frames of a stream with their data read; `Null` stands for `[DONE]`. `None` as for
/// [`strict`].
fn values(out: &[u8]) -> Option<Vec<(String, Value)>> {
    assert!(out.is_empty() || out.ends_with(b"\n\n"), "frames are whole");
    let read = |data: &[u8]| match data {
        b"[DONE]" => Some(Value::Null),
        data => {
            assert!(!data.contains(&b'\n'), "one line a frame: {}", data.escape_ascii());
            strict(data)
        }
    };
    let frames = frames_slowly(out).into_iter();
    let owned = |name: Vec<u8>| String::from_utf8_lossy(&name).into_owned();
    frames.map(|frame| Some((owned(frame.name), read(&frame.data)?))).collect()
}

fn text_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no string `{key}` in {value}"))
}

/// Reads a stream of Responses events.
///
/// # Panics
/// When it breaks the API's grammar.
#[must_use]
pub fn responses(out: &[u8]) -> Option<Seen> {
    let mut stream = Responses::default();
    for (name, event) in values(out)? {
        if event.is_null() {
            assert!(stream.terminal && !stream.marker, "[DONE] once, at the end");
            stream.marker = true;
            continue;
        }
        assert!(!stream.terminal, "behind the terminal event: {event}");
        let kind = text_of(&event, "type");
        assert_eq!(name, kind, "the event's two names");
        stream.event(kind, &event);
    }
    Some(stream.seen)
}

#[derive(Default)]
struct Responses {
    sequence: u64,
    id: Option<String>,
    began: bool,
    /// An `error` came.
    failing: bool,
    terminal: bool,
    marker: bool,
    items: Vec<Value>,
    open: Option<Open>,
    seen: Seen,
}

/// The item under way.
struct Open {
    added: Value,
    kind: String,
    /// Texts of the parts that are done.
    parts: Vec<String>,
    part_open: bool,
    text: String,
    text_done: bool,
}

impl Responses {
    fn event(&mut self, kind: &str, event: &Value) {
        if kind == "keepalive" && self.id.is_none() && event.get("sequence_number").is_none() {
            return;
        }
        assert_eq!(event["sequence_number"].as_u64(), Some(self.sequence), "{event}");
        self.sequence += 1;
        match kind {
            "response.created" => {
                assert_eq!(self.id, None, "created twice");
                self.id = Some(text_of(&event["response"], "id").to_owned());
                assert_eq!(event["response"]["status"], "in_progress");
                assert_eq!(event["response"]["output"], Value::Array(Vec::new()));
            }
            "response.in_progress" => {
                assert!(!self.began && self.id.is_some(), "{kind}");
                assert_eq!(self.id.as_deref(), event["response"]["id"].as_str());
                self.began = true;
            }
            "keepalive" => {}
            "error" => {
                assert!(!self.failing && !text_of(event, "message").is_empty(), "{event}");
                self.failing = true;
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.end(kind, &event["response"]);
            }
            _ => {
                assert!(self.began, "{kind} before response.in_progress");
                assert_eq!(event["output_index"].as_u64(), Some(self.items.len() as u64), "{kind}");
                self.inside(kind, event);
            }
        }
    }

    fn inside(&mut self, kind: &str, event: &Value) {
        if kind == "response.output_item.added" {
            assert!(self.open.is_none(), "an item is still open: {event}");
            let added = event["item"].clone();
            let kind = text_of(&added, "type").to_owned();
            self.open = Some(Open {
                added,
                kind,
                parts: Vec::new(),
                part_open: false,
                text: String::new(),
                text_done: false,
            });
            return;
        }
        if kind == "response.output_item.done" {
            let open = self.open.take().unwrap_or_else(|| panic!("no item is open: {event}"));
            self.item_done(&open, &event["item"]);
            return;
        }
        let open = self.open.as_mut().unwrap_or_else(|| panic!("no item is open: {event}"));
        assert_eq!(event["item_id"], open.added["id"], "{kind}");
        let (text, reasoning) = (&mut self.seen.text, &mut self.seen.reasoning);
        match kind {
            "response.content_part.added" | "response.reasoning_summary_part.added" => {
                open.part_added(event);
            }
            "response.content_part.done" | "response.reasoning_summary_part.done" => {
                open.part_done(event);
            }
            "response.output_text.annotation.added" => {
                assert!(open.part_open && !open.text_done, "{kind}");
            }
            _ if kind.ends_with(".delta") => {
                let delta = open.delta(kind, event);
                match open.kind.as_str() {
                    "message" => text.push_str(delta),
                    "reasoning" => reasoning.push_str(delta),
                    _ => {}
                }
            }
            _ if kind.ends_with(".done") => open.text_done(kind, event),
            _ => panic!("an event that no client knows: {event}"),
        }
    }

    fn item_done(&mut self, open: &Open, item: &Value) {
        for key in ["id", "type", "call_id", "name", "namespace", "role"] {
            assert_eq!(item.get(key), open.added.get(key), "{key} of an item that is done");
        }
        if *item == open.added && open.text.is_empty() && open.parts.is_empty() {
            // An item of a kind that only its own API knows: it comes whole, twice.
            self.items.push(item.clone());
            return;
        }
        let cut = item["status"] == "incomplete";
        assert!(!open.part_open || cut, "done before its part: {item}");
        match open.kind.as_str() {
            "message" => assert_eq!(part_texts(&item["content"]), open.all_parts()),
            "reasoning" => {
                let mut shown = part_texts(&item["summary"]);
                shown.extend(part_texts(&item["content"]));
                assert_eq!(shown, open.all_parts());
            }
            "function_call" | "custom_tool_call" => {
                let member = if open.kind == "function_call" { "arguments" } else { "input" };
                assert_eq!(text_of(item, member), open.text, "{item}");
                assert!(open.text_done, "a call without its done event: {item}");
                self.seen.calls.push(open.text.clone());
            }
            _ => {}
        }
        self.items.push(item.clone());
    }

    fn end(&mut self, kind: &str, response: &Value) {
        self.terminal = true;
        assert_eq!(self.failing, kind == "response.failed", "told as an error, and as {kind}");
        assert_eq!(
            format!("response.{}", text_of(response, "status")),
            expected_end(kind, response)
        );
        if let Some(id) = &self.id {
            assert_eq!(id, text_of(response, "id"));
        }
        if kind == "response.failed" {
            assert!(!text_of(&response["error"], "message").is_empty());
            self.seen.end = End::Failed;
            return;
        }
        assert!(self.began, "the end of what never began");
        assert!(self.open.is_none(), "the end inside an item");
        assert_eq!(response["output"], Value::Array(std::mem::take(&mut self.items)));
        self.seen.end = End::Whole;
    }
}

/// The event's name as the status has it. The Codex CLI gets an answer that a limit cut as
/// completed, with its reason beside it.
fn expected_end(kind: &str, response: &Value) -> String {
    match (kind, response["status"].as_str()) {
        ("response.completed", Some("incomplete")) => {
            assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
            "response.incomplete".to_owned()
        }
        _ => kind.to_owned(),
    }
}

fn part_text(part: &Value) -> String {
    let text = part["text"].as_str().or_else(|| part["refusal"].as_str());
    text.unwrap_or_else(|| panic!("a part without text: {part}")).to_owned()
}

fn part_texts(parts: &Value) -> Vec<String> {
    parts.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(part_text).collect()
}

impl Open {
    /// The texts of all parts, one that is cut included.
    fn all_parts(&self) -> Vec<String> {
        let mut parts = self.parts.clone();
        if self.part_open {
            parts.push(self.text.clone());
        }
        parts
    }

    fn check_index(&self, event: &Value) {
        let index = event["content_index"].as_u64().or(event["summary_index"].as_u64());
        assert_eq!(index, Some(self.parts.len() as u64), "{event}");
    }

    fn part_added(&mut self, event: &Value) {
        assert!(!self.part_open, "a part inside a part: {event}");
        self.check_index(event);
        assert_eq!(part_text(&event["part"]), "");
        self.part_open = true;
        self.text_done = false;
        self.text.clear();
    }

    fn part_done(&mut self, event: &Value) {
        assert!(self.part_open && self.text_done, "{event}");
        self.check_index(event);
        assert_eq!(part_text(&event["part"]), self.text);
        self.parts.push(std::mem::take(&mut self.text));
        self.part_open = false;
    }

    fn delta<'v>(&mut self, kind: &str, event: &'v Value) -> &'v str {
        let family = match self.kind.as_str() {
            "message" => &["response.output_text.delta", "response.refusal.delta"][..],
            "reasoning" => {
                &["response.reasoning_summary_text.delta", "response.reasoning_text.delta"]
            }
            "function_call" => &["response.function_call_arguments.delta"],
            "custom_tool_call" => &["response.custom_tool_call_input.delta"],
            other => panic!("{kind} in an item of type {other}"),
        };
        assert!(family.contains(&kind), "{kind} in a {}", self.kind);
        assert!(!self.text_done, "a delta behind its done event: {event}");
        if matches!(self.kind.as_str(), "message" | "reasoning") {
            assert!(self.part_open, "a delta outside of a part: {event}");
            self.check_index(event);
        }
        let delta = text_of(event, "delta");
        self.text.push_str(delta);
        delta
    }

    fn text_done(&mut self, kind: &str, event: &Value) {
        let member = match kind {
            "response.function_call_arguments.done" => "arguments",
            "response.custom_tool_call_input.done" => "input",
            "response.refusal.done" => "refusal",
            _ => "text",
        };
        assert!(!self.text_done, "done twice: {event}");
        self.text_done = true;
        assert_eq!(text_of(event, member), self.text, "{kind}");
    }
}

/// Reads a stream of Chat Completions chunks.
///
/// # Panics
/// When it breaks the API's grammar.
#[must_use]
pub fn chat(out: &[u8]) -> Option<Seen> {
    let mut stream = Chat::default();
    for (name, chunk) in values(out)? {
        assert_eq!(name, "", "Chat knows no event names");
        assert!(!stream.marker && stream.seen.end != End::Failed, "behind the end: {chunk}");
        if chunk.is_null() {
            assert!(stream.finished, "[DONE] without a finish_reason");
            stream.marker = true;
            stream.seen.end = End::Whole;
        } else if let Some(error) = chunk.get("error") {
            assert!(!text_of(error, "message").is_empty());
            stream.seen.end = End::Failed;
        } else {
            stream.chunk(&chunk);
        }
    }
    Some(stream.seen)
}

#[derive(Default)]
struct Chat {
    head: Option<[Value; 4]>,
    finished: bool,
    usage: bool,
    marker: bool,
    seen: Seen,
}

impl Chat {
    fn chunk(&mut self, chunk: &Value) {
        let head = ["id", "object", "created", "model"].map(|key| chunk[key].clone());
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let first = self.head.is_none();
        assert_eq!(self.head.get_or_insert(head.clone()), &head);
        let choices = chunk["choices"].as_array().unwrap_or_else(|| panic!("no choices: {chunk}"));
        let Some(choice) = choices.first() else {
            assert!(!self.usage && self.finished && chunk["usage"].is_object(), "{chunk}");
            self.usage = true;
            return;
        };
        assert!(choices.len() == 1 && !self.usage && !self.finished, "{chunk}");
        assert_eq!(choice["index"], 0);
        let delta = &choice["delta"];
        assert!(delta.is_object(), "{chunk}");
        assert_eq!(delta.get("role").is_some(), first, "the role comes first, and once");
        self.delta(delta);
        self.finished = choice["finish_reason"].is_string();
    }

    fn delta(&mut self, delta: &Value) {
        let text = |key: &str| delta[key].as_str().unwrap_or_default();
        self.seen.text.push_str(text("content"));
        self.seen.text.push_str(text("refusal"));
        self.seen.reasoning.push_str(text("reasoning_content"));
        if let Some(call) = delta.get("function_call") {
            if call.get("name").is_some() {
                assert!(self.seen.calls.is_empty(), "one function_call at most");
                self.seen.calls.push(String::new());
            }
            let last = self.seen.calls.last_mut().unwrap_or_else(|| panic!("no name: {call}"));
            last.push_str(text_of(call, "arguments"));
        }
        for call in delta["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let index = call["index"].as_u64().and_then(|index| usize::try_from(index).ok());
            let index = index.unwrap_or_else(|| panic!("a call without index: {call}"));
            let (kind, member) = match call.get("custom") {
                Some(_) => ("custom", "input"),
                None => ("function", "arguments"),
            };
            let more = text_of(&call[kind], member);
            if index == self.seen.calls.len() {
                assert!(!text_of(call, "id").is_empty(), "{call}");
                assert_eq!(call["type"], kind);
                text_of(&call[kind], "name");
                self.seen.calls.push(String::new());
            } else {
                assert!(call.get("id").is_none(), "an id given twice: {call}");
            }
            let known = self.seen.calls.get_mut(index);
            known.unwrap_or_else(|| panic!("an index with a gap: {call}")).push_str(more);
        }
    }
}
