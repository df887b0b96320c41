//! Events into Chat Completions chunks, and whole answers into documents.
//!
//! Every chunk is the same text around its delta, so that text is rendered once; a delta is then
//! three copies.

use crate::dialect::event::{Call, CallKind, Event, Part, Stop, Usage};
use crate::dialect::fold::{Answer, AnswerKind, AnswerPart};
use crate::dialect::request::{Request, ToolKind};
use crate::dialect::{Encode, Reply, faults};
use crate::wire::json::{self, Escaped, Kind, Raw};

const LOGPROBS_NULL: &[u8] = b",\"logprobs\":null";
const FINISH_NULL: &[u8] = b",\"finish_reason\":null}]";

/// Encodes one answer.
#[derive(Debug)]
pub(super) struct Encoder {
    /// `"id":..,"object":..,"created":..,"model":..` of the stream, from `data: {` on, up to
    /// `"choices":`.
    head: Vec<u8>,
    /// What ends every chunk that is not the usage chunk.
    tail: &'static [u8],
    id: String,
    model: String,
    created_at: u64,
    include_usage: bool,
    /// Give opaque reasoning state as `reasoning_details`.
    sealed: bool,
    /// The client used `functions`: one call, as `function_call`.
    legacy: bool,
    /// Names of the custom tools that the client declared, escaped.
    custom: Vec<String>,
    started: bool,
    current: Current,
    /// The message ordinal of the last text or refusal that was written.
    message: Option<u32>,
    reasoned: bool,
    calls: u32,
    seals: u32,
    usage: Option<Usage>,
}

/// The part that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    None,
    Text {
        message: u32,
    },
    Refusal {
        message: u32,
    },
    Reasoning {
        written: bool,
    },
    Function {
        index: u32,
    },
    Custom {
        index: u32,
    },
    /// A custom call for a client that knows functions only.
    Wrapped {
        index: u32,
    },
    Legacy,
}

impl Encoder {
    /// An encoder for the reply to `request`.
    pub(super) fn new(request: &Request<'_>, mut reply: Reply) -> Self {
        let id = reply.ids.make("chatcmpl-");
        let mut scratch = String::new();
        let model = request.model.paired(&mut scratch).raw().to_owned();
        let mut head = b"data: {".to_vec();
        json::member("id", &id, &mut head);
        head.extend_from_slice(b",\"object\":\"chat.completion.chunk\"");
        json::member_number("created", reply.created_at, &mut head);
        json::member_quoted("model", Escaped::trusted(&model), &mut head);
        head.extend_from_slice(b",\"system_fingerprint\":null,\"choices\":");
        let custom = request.tools.iter().filter(|t| matches!(t.kind, ToolKind::Custom { .. }));
        Self {
            head,
            tail: if request.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" },
            id,
            model,
            created_at: reply.created_at,
            include_usage: request.include_usage,
            sealed: request.settings.include_sealed,
            legacy: request.settings.legacy_functions,
            custom: custom.map(|tool| tool.name.name.raw().to_owned()).collect(),
            started: false,
            current: Current::None,
            message: None,
            reasoned: false,
            calls: 0,
            seals: 0,
            usage: None,
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if !self.started {
            self.started = true;
            self.open_chunk(out);
            out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
            self.close_chunk(out);
        }
    }

    fn open_chunk(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"[{\"index\":0,\"delta\":");
    }

    fn close_chunk(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(LOGPROBS_NULL);
        out.extend_from_slice(FINISH_NULL);
        out.extend_from_slice(self.tail);
    }

    /// A chunk whose delta is one string.
    fn text_chunk(&self, before: &[u8], text: Escaped<'_>, after: &[u8], out: &mut Vec<u8>) {
        self.open_chunk(out);
        out.extend_from_slice(before);
        out.extend_from_slice(text.raw().as_bytes());
        out.extend_from_slice(after);
        self.close_chunk(out);
    }

    fn open(&mut self, kind: Part<'_>, out: &mut Vec<u8>) {
        self.current = match kind {
            Part::Text { message } => Current::Text { message },
            Part::Refusal { message } => Current::Refusal { message },
            Part::Reasoning { .. } => Current::Reasoning { written: false },
            Part::Call(call) => self.open_call(&call, out),
            Part::Opaque { .. } => Current::None,
        };
    }

    fn open_call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Current {
        let index = self.calls;
        self.calls += 1;
        let declared = || self.custom.iter().any(|name| name == call.name.raw());
        if self.legacy {
            if index > 0 {
                return Current::None;
            }
            self.open_chunk(out);
            out.extend_from_slice(b"{\"function_call\":{\"name\":\"");
            name(call, out);
            out.extend_from_slice(b"\",\"arguments\":\"\"}}");
            self.close_chunk(out);
            return Current::Legacy;
        }
        let (current, kind, text) = match call.kind {
            CallKind::Custom if declared() => (Current::Custom { index }, "custom", "input"),
            CallKind::Custom => (Current::Wrapped { index }, "function", "arguments"),
            _ => (Current::Function { index }, "function", "arguments"),
        };
        self.open_chunk(out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::number(u64::from(index), out);
        json::member_quoted("id", call.id, out);
        json::member("type", kind, out);
        json::key(kind, out);
        out.extend_from_slice(b"{\"name\":\"");
        name(call, out);
        out.push(b'"');
        json::member(text, "", out);
        out.extend_from_slice(b"}}]}");
        self.close_chunk(out);
        if matches!(current, Current::Wrapped { .. }) {
            self.call_chunk(index, "function", "arguments", Escaped::trusted(WRAP_OPEN), out);
        }
        current
    }

    fn call_chunk(
        &self,
        index: u32,
        kind: &str,
        member: &str,
        text: Escaped<'_>,
        out: &mut Vec<u8>,
    ) {
        self.open_call_chunk(index, kind, member, out);
        out.extend_from_slice(text.raw().as_bytes());
        out.extend_from_slice(b"\"}}]}");
        self.close_chunk(out);
    }

    fn open_call_chunk(&self, index: u32, kind: &str, member: &str, out: &mut Vec<u8>) {
        self.open_chunk(out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        json::number(u64::from(index), out);
        json::key(kind, out);
        out.push(b'{');
        json::key(member, out);
        out.push(b'"');
    }

    fn delta(&mut self, text: Escaped<'_>, logprobs: Option<Raw<'_>>, out: &mut Vec<u8>) {
        match self.current {
            Current::Text { message } => {
                self.separate(message, out);
                self.open_chunk(out);
                out.extend_from_slice(b"{\"content\":\"");
                out.extend_from_slice(text.raw().as_bytes());
                out.extend_from_slice(b"\"}");
                match logprobs {
                    None => out.extend_from_slice(LOGPROBS_NULL),
                    Some(list) => {
                        out.extend_from_slice(b",\"logprobs\":{\"content\":");
                        out.extend_from_slice(list.text().as_bytes());
                        out.extend_from_slice(b",\"refusal\":null}");
                    }
                }
                out.extend_from_slice(FINISH_NULL);
                out.extend_from_slice(self.tail);
            }
            Current::Refusal { .. } => self.text_chunk(b"{\"refusal\":\"", text, b"\"}", out),
            Current::Reasoning { written } => {
                if self.reasoned && !written {
                    let gap = Escaped::trusted(GAP);
                    self.text_chunk(b"{\"reasoning_content\":\"", gap, b"\"}", out);
                }
                self.reasoned = true;
                self.current = Current::Reasoning { written: true };
                self.text_chunk(b"{\"reasoning_content\":\"", text, b"\"}", out);
            }
            Current::Function { index } => {
                self.call_chunk(index, "function", "arguments", text, out);
            }
            Current::Custom { index } => self.call_chunk(index, "custom", "input", text, out),
            Current::Wrapped { index } => {
                self.open_call_chunk(index, "function", "arguments", out);
                json::escape_again(text, out);
                out.extend_from_slice(b"\"}}]}");
                self.close_chunk(out);
            }
            Current::Legacy => {
                self.text_chunk(b"{\"function_call\":{\"arguments\":\"", text, b"\"}}", out);
            }
            Current::None => {}
        }
    }

    /// An empty line between two messages of one answer.
    fn separate(&mut self, message: u32, out: &mut Vec<u8>) {
        if self.message.is_some_and(|last| last != message) {
            self.text_chunk(b"{\"content\":\"", Escaped::trusted(GAP), b"\"}", out);
        }
        self.message = Some(message);
    }

    fn seal(&mut self, opaque: Escaped<'_>, out: &mut Vec<u8>) {
        if self.sealed {
            self.open_chunk(out);
            out.extend_from_slice(b"{\"reasoning_details\":[");
            detail(opaque, self.seals, out);
            out.extend_from_slice(b"]}");
            self.close_chunk(out);
            self.seals += 1;
        }
    }

    fn stop(&self, stop: Stop, out: &mut Vec<u8>) {
        self.open_chunk(out);
        out.extend_from_slice(b"{}");
        out.extend_from_slice(LOGPROBS_NULL);
        json::member("finish_reason", self.reason(stop, self.calls > 0), out);
        out.extend_from_slice(b"}]");
        out.extend_from_slice(self.tail);
        if let (true, Some(usage)) = (self.include_usage, &self.usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"[]");
            write_usage(usage, out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn reason(&self, stop: Stop, calls: bool) -> &'static str {
        match stop {
            Stop::Length => "length",
            Stop::Filter => "content_filter",
            Stop::Tool | Stop::End if calls && self.legacy => "function_call",
            Stop::Tool | Stop::End if calls => "tool_calls",
            Stop::Tool | Stop::End => "stop",
        }
    }
}

/// Between two messages, or two parts of a summary.
const GAP: &str = "\\n\\n";
/// The front of a wrapped input, escaped once.
const WRAP_OPEN: &str = "{\\\"input\\\":\\\"";
/// Its end.
const WRAP_CLOSE: &str = "\\\"}";

impl Encode for Encoder {
    fn event(&mut self, event: Event<'_>, _now_s: u64, out: &mut Vec<u8>) {
        if !matches!(event, Event::Fail(_)) {
            self.start(out);
        }
        match event {
            Event::Start { .. } | Event::Annotation { .. } => {}
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { text, logprobs, .. } => self.delta(text, logprobs, out),
            Event::Seal { opaque, .. } => self.seal(opaque, out),
            Event::Close { .. } => {
                if let Current::Wrapped { index } = self.current {
                    let end = Escaped::trusted(WRAP_CLOSE);
                    self.call_chunk(index, "function", "arguments", end, out);
                }
                self.current = Current::None;
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop(stop, out),
            Event::Fail(failure) => {
                out.extend_from_slice(b"data: ");
                faults::envelope(failure, out);
                out.extend_from_slice(b"\n\n");
            }
        }
    }

    fn answer(&mut self, answer: &Answer, _now_s: u64, out: &mut Vec<u8>) {
        if let Some(failure) = &answer.failure {
            faults::envelope(failure, out);
            return;
        }
        out.push(b'{');
        json::member("id", &self.id, out);
        out.extend_from_slice(b",\"object\":\"chat.completion\"");
        json::member_number("created", self.created_at, out);
        json::member_quoted("model", Escaped::trusted(&self.model), out);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\"");
        let whole = Whole::new(answer);
        self.message(answer, &whole, out);
        out.extend_from_slice(b"},\"logprobs\":");
        if whole.logprobs.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            out.extend_from_slice(b"{\"content\":[");
            out.extend_from_slice(whole.logprobs.as_bytes());
            out.extend_from_slice(b"],\"refusal\":null}");
        }
        let stop = answer.stop.unwrap_or(Stop::End);
        json::member("finish_reason", self.reason(stop, answer.has_calls()), out);
        out.extend_from_slice(b"}]");
        if let Some(usage) = &answer.usage {
            write_usage(usage, out);
        }
        out.extend_from_slice(b",\"system_fingerprint\":null}");
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keepalive\n\n");
    }
}

/// The texts of an answer, put together.
#[derive(Debug, Default)]
struct Whole {
    content: Option<String>,
    refusal: Option<String>,
    reasoning: String,
    logprobs: String,
    annotations: Vec<u8>,
}

impl Whole {
    fn new(answer: &Answer) -> Self {
        let mut whole = Self::default();
        let mut last = None;
        for part in &answer.parts {
            match part.kind {
                AnswerKind::Text { message } => {
                    let content = whole.content.get_or_insert_default();
                    if last.is_some_and(|last| last != message) && !content.is_empty() {
                        content.push_str(GAP);
                    }
                    last = Some(message);
                    shifted(part, content, &mut whole.annotations);
                    content.push_str(&part.text);
                    if !part.logprobs.is_empty() {
                        if !whole.logprobs.is_empty() {
                            whole.logprobs.push(',');
                        }
                        whole.logprobs.push_str(&part.logprobs);
                    }
                }
                AnswerKind::Refusal { .. } => {
                    whole.refusal.get_or_insert_default().push_str(&part.text);
                }
                AnswerKind::Reasoning { .. } => {
                    if !whole.reasoning.is_empty() && !part.text.is_empty() {
                        whole.reasoning.push_str(GAP);
                    }
                    whole.reasoning.push_str(&part.text);
                }
                AnswerKind::Call { .. } | AnswerKind::Opaque { .. } => {}
            }
        }
        whole
    }
}

impl Encoder {
    /// The members of `message` behind its role.
    fn message(&self, answer: &Answer, whole: &Whole, out: &mut Vec<u8>) {
        let silent = answer.has_calls() || whole.refusal.is_some();
        let nullable = |name: &str, text: Option<&str>, out: &mut Vec<u8>| match text {
            Some(text) => json::member_quoted(name, Escaped::trusted(text), out),
            None => json::member_raw(name, "null", out),
        };
        let content = whole.content.as_deref();
        nullable("content", content.or((!silent).then_some("")), out);
        nullable("refusal", whole.refusal.as_deref(), out);
        if !whole.reasoning.is_empty() {
            nullable("reasoning_content", Some(&whole.reasoning), out);
        }
        let seals = || answer.parts.iter().filter_map(|part| part.sealed.as_deref());
        if self.sealed && seals().next().is_some() {
            json::key("reasoning_details", out);
            out.push(b'[');
            for (sealed, index) in seals().zip(0..) {
                json::comma(out);
                detail(Escaped::trusted(sealed), index, out);
            }
            out.push(b']');
        }
        json::key("annotations", out);
        out.push(b'[');
        out.extend_from_slice(&whole.annotations);
        out.push(b']');
        self.calls(answer, out);
    }

    fn calls(&self, answer: &Answer, out: &mut Vec<u8>) {
        let calls = answer.parts.iter().filter_map(|part| match &part.kind {
            AnswerKind::Call { kind, id, namespace, name } => Some((
                part.text(),
                Call {
                    kind: *kind,
                    id: Escaped::trusted(id),
                    namespace: Escaped::trusted(namespace),
                    name: Escaped::trusted(name),
                },
            )),
            _ => None,
        });
        let mut first = true;
        for (text, call) in calls {
            if self.legacy {
                json::key("function_call", out);
                function(&call, text, out);
                return;
            }
            if first {
                json::key("tool_calls", out);
                out.push(b'[');
                first = false;
            }
            json::comma(out);
            out.push(b'{');
            json::member_quoted("id", call.id, out);
            let custom = call.kind == CallKind::Custom
                && self.custom.iter().any(|name| name == call.name.raw());
            if custom {
                out.extend_from_slice(b",\"type\":\"custom\",\"custom\":{\"name\":\"");
                name(&call, out);
                out.push(b'"');
                json::member_quoted("input", text, out);
                out.extend_from_slice(b"}}");
            } else {
                out.extend_from_slice(b",\"type\":\"function\",\"function\":");
                function(&call, text, out);
                out.push(b'}');
            }
        }
        if !first {
            out.push(b']');
        }
    }
}

/// Appends `{"name":..,"arguments":..}`; a custom call's input is wrapped.
fn function(call: &Call<'_>, text: Escaped<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":\"");
    name(call, out);
    out.extend_from_slice(b"\",\"arguments\":\"");
    if call.kind == CallKind::Custom {
        out.extend_from_slice(WRAP_OPEN.as_bytes());
        json::escape_again(text, out);
        out.extend_from_slice(WRAP_CLOSE.as_bytes());
    } else {
        out.extend_from_slice(text.raw().as_bytes());
    }
    out.extend_from_slice(b"\"}");
}

/// Appends the tool's name; Chat has no namespaces.
fn name(call: &Call<'_>, out: &mut Vec<u8>) {
    if !call.namespace.is_empty() {
        out.extend_from_slice(call.namespace.raw().as_bytes());
        out.extend_from_slice(b"__");
    }
    out.extend_from_slice(call.name.raw().as_bytes());
}

/// Appends opaque state in the shape that clients of `reasoning_details` give back unread.
fn detail(opaque: Escaped<'_>, index: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"reasoning.encrypted\"");
    json::member_quoted("data", opaque, out);
    json::member("format", "openai-responses-v1", out);
    json::member_number("index", u64::from(index), out);
    out.push(b'}');
}

/// Appends the annotations of a text in their nested form; their offsets count the characters of
/// the whole content.
fn shifted(part: &AnswerPart, before: &str, out: &mut Vec<u8>) {
    if part.annotations.is_empty() {
        return;
    }
    let shift = Escaped::trusted(before).decode().chars().count() as u64;
    let list = format!("[{}]", part.annotations);
    // What does not read as a citation is left out; the list is ours, so that all do.
    let _ = Raw::trusted(&list).cursor().array(|each| {
        let object = each.skip()?;
        if object.kind() != Kind::Object {
            return Ok(());
        }
        let mut nested = Vec::new();
        let mut citation = false;
        object.cursor().object(|key, value| {
            let value = value.skip()?;
            match key {
                "type" => citation = value.text() == "\"url_citation\"",
                "start_index" | "end_index" => {
                    let index = value.text().parse::<u64>().unwrap_or(0);
                    json::member_number(key, index.saturating_add(shift), &mut nested);
                }
                "url" | "title" => json::member_raw(key, value.text(), &mut nested),
                _ => {}
            }
            Ok(())
        })?;
        if citation {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"type\":\"url_citation\",\"url_citation\":{");
            out.extend_from_slice(nested.strip_prefix(b",").unwrap_or(&nested));
            out.extend_from_slice(b"}}");
        }
        Ok(())
    });
}

fn write_usage(usage: &Usage, out: &mut Vec<u8>) {
    json::key("usage", out);
    out.push(b'{');
    json::member_number("prompt_tokens", usage.input, out);
    json::member_number("completion_tokens", usage.output, out);
    json::member_number("total_tokens", usage.total, out);
    json::key("prompt_tokens_details", out);
    out.push(b'{');
    json::member_number("cached_tokens", usage.cached, out);
    json::member_number("cache_write_tokens", usage.cache_write, out);
    out.push(b'}');
    json::key("completion_tokens_details", out);
    out.push(b'{');
    json::member_number("reasoning_tokens", usage.reasoning, out);
    out.extend_from_slice(b"}}");
}
