//! The Response object: the settings it repeats, its items, and its frame around them.

use super::one_line;
use crate::dialect::Reply;
use crate::dialect::event::{CallKind, Usage};
use crate::dialect::fold::{AnswerKind, AnswerPart};
use crate::dialect::ids::Ids;
use crate::dialect::request::{Format, Request};
use crate::wire::json::{self, Escaped, Raw};
use std::ops::Range;

/// What stays the same over one answer.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) id: String,
    created_at: u64,
    /// The members that repeat the request, written once: the request is gone when the answer
    /// comes.
    echo: Vec<u8>,
}

/// How far an answer is, for the members `status`, `error` and `incomplete_details`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Status<'a> {
    /// Nothing is decided yet.
    InProgress,
    /// All is there.
    Completed,
    /// Cut, for this reason.
    Incomplete(&'static str),
    /// Broken off, with a code and a message for people.
    Failed { code: &'a str, message: &'a str },
}

impl Shape {
    pub(super) fn new(request: &Request<'_>, reply: &mut Reply) -> Self {
        let mut echo = vec![b'{'];
        write_echo(request, &mut echo);
        echo.push(b'}');
        // A client may send half a surrogate pair; strict parsers refuse to read one.
        if request.halves
            && let Ok(text) = json::utf8(&echo)
        {
            let mut scratch = String::new();
            echo = Raw::trusted(text).paired(&mut scratch).text().as_bytes().to_vec();
        }
        // Kept as long as the answer comes.
        echo.shrink_to_fit();
        Self { id: reply.ids.make("resp_"), created_at: reply.created_at, echo }
    }

    /// Appends the object; `output` appends the elements of its array.
    pub(super) fn write(
        &self,
        status: Status<'_>,
        usage: Option<Usage>,
        now_s: u64,
        out: &mut Vec<u8>,
        output: impl FnOnce(&mut Vec<u8>),
    ) {
        out.push(b'{');
        json::member("id", &self.id, out);
        json::member("object", "response", out);
        json::member_number("created_at", self.created_at, out);
        json::key("completed_at", out);
        match status {
            Status::Completed => json::number(now_s.max(self.created_at), out),
            _ => null(out),
        }
        let word = match status {
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Incomplete(_) => "incomplete",
            Status::Failed { .. } => "failed",
        };
        json::member("status", word, out);
        json::key("error", out);
        match status {
            Status::Failed { code, message } => {
                out.push(b'{');
                json::member("code", code, out);
                json::member("message", message, out);
                out.push(b'}');
            }
            _ => null(out),
        }
        json::key("incomplete_details", out);
        match status {
            Status::Incomplete(reason) => {
                out.push(b'{');
                json::member("reason", reason, out);
                out.push(b'}');
            }
            _ => null(out),
        }
        json::key("output", out);
        out.push(b'[');
        output(out);
        out.push(b']');
        json::key("usage", out);
        match usage {
            Some(usage) => write_usage(usage, out),
            None => null(out),
        }
        out.push(b',');
        // Its first brace was for the commas.
        out.extend_from_slice(self.echo.get(1..).unwrap_or_default());
    }
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

/// Appends `usage`. The sum is always that of its two halves: SDKs check it.
fn write_usage(usage: Usage, out: &mut Vec<u8>) {
    out.push(b'{');
    json::member_number("input_tokens", usage.input, out);
    json::key("input_tokens_details", out);
    out.push(b'{');
    json::member_number("cached_tokens", usage.cached, out);
    json::member_number("cache_write_tokens", usage.cache_write, out);
    out.push(b'}');
    json::member_number("output_tokens", usage.output, out);
    json::key("output_tokens_details", out);
    out.push(b'{');
    json::member_number("reasoning_tokens", usage.reasoning, out);
    out.push(b'}');
    json::member_number("total_tokens", usage.input.saturating_add(usage.output), out);
    out.push(b'}');
}

/// Appends the members that repeat the request, with the API's defaults where it is silent.
fn write_echo(request: &Request<'_>, out: &mut Vec<u8>) {
    let settings = &request.settings;
    json::member_raw("background", "false", out);
    string_or_null("instructions", request.instructions, out);
    number_or_null("max_output_tokens", settings.output_tokens_max, out);
    number_or_null("max_tool_calls", settings.max_tool_calls, out);
    json::member_quoted("model", request.model, out);
    let parallel = if request.parallel.unwrap_or(true) { "true" } else { "false" };
    json::member_raw("parallel_tool_calls", parallel, out);
    json::member_raw("previous_response_id", "null", out);
    string_or_null("prompt_cache_key", settings.prompt_cache_key, out);
    raw_or("prompt_cache_retention", settings.prompt_cache_retention, "null", out);
    json::key("reasoning", out);
    out.push(b'{');
    string_or_null("effort", settings.effort, out);
    string_or_null("summary", settings.summary, out);
    out.push(b'}');
    string_or_null("safety_identifier", settings.safety_identifier, out);
    let tier = settings
        .service_tier
        .filter(|tier| ["default", "flex", "priority", "scale"].iter().any(|known| tier.is(known)));
    json::member_quoted("service_tier", tier.unwrap_or(Escaped::trusted("default")), out);
    // Whatever the client asked for: nothing is kept here.
    json::member_raw("store", "false", out);
    raw_or("temperature", settings.temperature, "1.0", out);
    write_text(request, out);
    raw_or("tool_choice", request.echo.choice, "\"auto\"", out);
    json::key("tools", out);
    out.push(b'[');
    if let Some(tools) = request.echo.tools {
        write_tools(tools, out);
    }
    out.push(b']');
    json::member_number("top_logprobs", settings.top_logprobs.unwrap_or(0), out);
    raw_or("top_p", settings.top_p, "1.0", out);
    let truncation = settings.truncation.unwrap_or(Escaped::trusted("disabled"));
    json::member_quoted("truncation", truncation, out);
    raw_or("presence_penalty", settings.presence_penalty, "0.0", out);
    raw_or("frequency_penalty", settings.frequency_penalty, "0.0", out);
    string_or_null("user", settings.user, out);
    raw_or("metadata", settings.metadata, "{}", out);
}

fn write_text(request: &Request<'_>, out: &mut Vec<u8>) {
    json::key("text", out);
    out.push(b'{');
    json::key("format", out);
    write_format(&request.settings.format, out);
    let verbosity = request.settings.verbosity.unwrap_or(Escaped::trusted("medium"));
    json::member_quoted("verbosity", verbosity, out);
    out.push(b'}');
}

/// Appends `text.format`, as requests and answers have it.
pub(super) fn write_format(format: &Format<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    match format {
        Format::Text => json::member("type", "text", out),
        Format::JsonObject => json::member("type", "json_object", out),
        Format::JsonSchema { name, description, schema, strict } => {
            json::member("type", "json_schema", out);
            json::member_quoted("name", *name, out);
            if let Some(description) = description {
                json::member_quoted("description", *description, out);
            }
            json::key("schema", out);
            one_line(schema.text(), out);
            if let Some(strict) = strict {
                json::member_raw("strict", if *strict { "true" } else { "false" }, out);
            }
        }
    }
    out.push(b'}');
}

/// Appends the elements of `tools`; function tools get every member that the API's answers have.
fn write_tools(tools: Raw<'_>, out: &mut Vec<u8>) {
    // The array was walked when the request was read.
    let _ = tools.cursor().array(|cursor| {
        json::comma(out);
        out.push(b'{');
        let mut missing = [("description", "null"), ("parameters", "null"), ("strict", "false")];
        let mut function = false;
        cursor.object(|key, cursor| {
            let value = cursor.skip()?;
            function |= key == "type" && value.string().is_some_and(|kind| kind.is("function"));
            for slot in &mut missing {
                if slot.0 == key {
                    slot.1 = "";
                }
            }
            json::key(key, out);
            one_line(value.text(), out);
            Ok(())
        })?;
        for (name, value) in missing.iter().filter(|(_, value)| function && !value.is_empty()) {
            json::member_raw(name, value, out);
        }
        out.push(b'}');
        Ok(())
    });
}

fn string_or_null(name: &str, text: Option<Escaped<'_>>, out: &mut Vec<u8>) {
    match text {
        Some(text) => json::member_quoted(name, text, out),
        None => json::member_raw(name, "null", out),
    }
}

fn number_or_null(name: &str, value: Option<u64>, out: &mut Vec<u8>) {
    match value {
        Some(value) => json::member_number(name, value, out),
        None => json::member_raw(name, "null", out),
    }
}

fn raw_or(name: &str, value: Option<Raw<'_>>, default: &str, out: &mut Vec<u8>) {
    json::key(name, out);
    one_line(value.map_or(default, Raw::text), out);
}

/// One output item: the parts of an answer that it is made of.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its id; empty for opaque items, which have their own.
    pub(super) id: String,
    /// Indexes into the answer's parts.
    pub(super) parts: Range<usize>,
    /// The ordinal of the message that it is.
    message: Option<u32>,
    /// `output_item.done` was written.
    pub(super) done: bool,
    /// What the item ended as: `completed` or `incomplete`.
    pub(super) status: &'static str,
}

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// `output_index`.
    pub(super) item: usize,
    /// `content_index` of a message's part, 0 for every other.
    pub(super) content: usize,
}

/// The output items of an answer, made as its parts come.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) items: Vec<Item>,
    ids: Ids,
    /// Refusals become text.
    pub(super) codex: bool,
}

impl Layout {
    pub(super) fn new(ids: Ids, codex: bool) -> Self {
        Self { items: Vec::new(), ids, codex }
    }

    /// True when a part of this kind continues the last item.
    pub(super) fn continues(&self, kind: &AnswerKind) -> bool {
        let message = message_of(kind);
        message.is_some() && self.items.last().is_some_and(|item| item.message == message)
    }

    /// Places the answer's part number `index`; `None` when it has no form here.
    pub(super) fn place(&mut self, index: usize, kind: &AnswerKind) -> Option<Spot> {
        if self.continues(kind)
            && let Some(item) = self.items.last_mut()
            && item.parts.end == index
        {
            item.parts.end += 1;
            let content = item.parts.len() - 1;
            return Some(Spot { item: self.items.len() - 1, content });
        }
        let id = match kind {
            AnswerKind::Text { .. } | AnswerKind::Refusal { .. } => self.ids.make("msg_"),
            AnswerKind::Reasoning { .. } => self.ids.make("rs_"),
            AnswerKind::Call { kind: CallKind::Function, .. } => self.ids.make("fc_"),
            AnswerKind::Call { kind: CallKind::Custom, .. } => self.ids.make("ctc_"),
            AnswerKind::Call { kind: CallKind::Search, .. } => self.ids.make("tsc_"),
            AnswerKind::Opaque { dialect, .. } if *dialect == super::NAME => String::new(),
            AnswerKind::Opaque { .. } => return None,
        };
        let (parts, message) = (index..index + 1, message_of(kind));
        if self.items.is_empty() {
            // Most answers are one item, and a first push takes room for four.
            self.items.reserve_exact(1);
        }
        self.items.push(Item { id, parts, message, done: false, status: "completed" });
        Some(Spot { item: self.items.len() - 1, content: 0 })
    }

    /// A fresh id that no part has.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        self.ids.make(prefix)
    }

    /// Appends all items as elements of `output`.
    pub(super) fn write_all(&self, parts: &[AnswerPart], out: &mut Vec<u8>) {
        for item in &self.items {
            json::comma(out);
            let parts = parts.get(item.parts.clone()).unwrap_or_default();
            write_item(item, parts, item.status, self.codex, out);
        }
    }
}

fn message_of(kind: &AnswerKind) -> Option<u32> {
    match kind {
        AnswerKind::Text { message } | AnswerKind::Refusal { message } => Some(*message),
        _ => None,
    }
}

/// Appends an item. `in_progress` as its status means that it just began: all of it is empty.
pub(super) fn write_item(
    item: &Item,
    parts: &[AnswerPart],
    status: &str,
    codex: bool,
    out: &mut Vec<u8>,
) {
    let Some(first) = parts.first() else { return };
    let begins = status == "in_progress";
    let text = if begins { Escaped::EMPTY } else { first.text() };
    match &first.kind {
        AnswerKind::Opaque { item, .. } => return one_line(item, out),
        AnswerKind::Text { .. } | AnswerKind::Refusal { .. } => {
            head("message", &item.id, out);
            json::member("status", status, out);
            json::member("role", "assistant", out);
            json::key("content", out);
            out.push(b'[');
            for part in parts.iter().filter(|_| !begins) {
                json::comma(out);
                write_content(part, codex, out);
            }
            out.push(b']');
        }
        AnswerKind::Reasoning { raw } => {
            head("reasoning", &item.id, out);
            write_reasoning(*raw, text, out);
            if let Some(sealed) = first.sealed.as_deref().filter(|_| !begins) {
                json::member_quoted("encrypted_content", Escaped::trusted(sealed), out);
            }
        }
        AnswerKind::Call { kind, id, namespace, name } => {
            let kind_name = match kind {
                CallKind::Function => "function_call",
                CallKind::Custom => "custom_tool_call",
                CallKind::Search => "tool_search_call",
            };
            head(kind_name, &item.id, out);
            json::member("status", status, out);
            json::member_quoted("call_id", Escaped::trusted(id), out);
            if *kind == CallKind::Search {
                json::member("execution", "client", out);
                json::key("arguments", out);
                write_object(text, out);
            } else {
                json::member_quoted("name", Escaped::trusted(name), out);
                if !namespace.is_empty() {
                    json::member_quoted("namespace", Escaped::trusted(namespace), out);
                }
                let member = if *kind == CallKind::Custom { "input" } else { "arguments" };
                let empty = text.is_empty() && *kind == CallKind::Function && status == "completed";
                let text = if empty { Escaped::trusted("{}") } else { text };
                json::member_quoted(member, text, out);
            }
        }
    }
    out.push(b'}');
}

fn head(kind: &str, id: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    json::member("type", kind, out);
    json::member("id", id, out);
}

fn write_reasoning(raw: bool, text: Escaped<'_>, out: &mut Vec<u8>) {
    let mut list = |name: &str, kind: &str, shown: bool| {
        json::key(name, out);
        out.push(b'[');
        if shown && !text.is_empty() {
            out.push(b'{');
            json::member("type", kind, out);
            json::member_quoted("text", text, out);
            out.push(b'}');
        }
        out.push(b']');
    };
    // Codex drops a reasoning item without the key `summary`.
    list("summary", "summary_text", !raw);
    if raw {
        list("content", "reasoning_text", true);
    }
}

/// Appends the object that `text` is the escaped text of; `{}` when it is none.
fn write_object(text: Escaped<'_>, out: &mut Vec<u8>) {
    let plain = text.decode();
    match Raw::check(plain.trim()) {
        Ok(raw) if raw.kind() == json::Kind::Object => one_line(raw.text(), out),
        _ => out.extend_from_slice(b"{}"),
    }
}

/// Appends a content part of a message, whole.
pub(super) fn write_content(part: &AnswerPart, codex: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    if is_refusal(&part.kind, codex) {
        json::member("type", "refusal", out);
        json::member_quoted("refusal", part.text(), out);
    } else {
        json::member("type", "output_text", out);
        json::key("annotations", out);
        write_list(&part.annotations, out);
        json::key("logprobs", out);
        write_list(&part.logprobs, out);
        json::member_quoted("text", part.text(), out);
    }
    out.push(b'}');
}

/// Appends an array, given its elements.
pub(super) fn write_list(elements: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    one_line(elements, out);
    out.push(b']');
}

/// True for a refusal that is shown as one.
pub(super) fn is_refusal(kind: &AnswerKind, codex: bool) -> bool {
    matches!(kind, AnswerKind::Refusal { .. }) && !codex
}
