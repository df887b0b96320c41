//! Events as a Responses stream.

use super::object::{self, Layout, Shape, Spot, Status, write_item};
use super::{answer, compact, fault, one_line};
use crate::dialect::event::{CallKind, Event, Stop};
use crate::dialect::fold::{Answer, AnswerKind, AnswerPart};
use crate::dialect::request::Request;
use crate::dialect::{Encode, Reply, faults};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Escaped, Raw};

/// What is told when an answer ended normally although a call in it did not.
pub(super) const STOPPED_IN_CALL: &str =
    "The upstream ended its answer in the middle of a tool call; nothing of that call was run.";

/// Writes one answer.
#[derive(Debug)]
pub(super) struct Encoder {
    shape: Shape,
    layout: Layout,
    /// What was answered so far: the closing events repeat it.
    answer: Answer,
    codex: bool,
    done_marker: bool,
    /// The client wants one `compaction` item, so nothing is shown before the end.
    compact: bool,
    sequence: u64,
    stage: Stage,
    /// The part that is open.
    open: Option<Open>,
    /// The open part's delta frame up to the sequence number.
    prefix: Vec<u8>,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Started,
    Done,
}

/// A part under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    spot: Spot,
    body: Body,
    /// The frame that opens the part's body was written: reasoning without text has no body.
    begun: bool,
    annotations: u64,
}

/// The event family of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Text,
    Refusal,
    Summary,
    Raw,
    Arguments,
    Input,
    /// No events of its own: a tool search, an opaque item.
    None,
}

impl Body {
    fn of(kind: &AnswerKind, codex: bool) -> Self {
        match kind {
            AnswerKind::Text { .. } => Self::Text,
            AnswerKind::Refusal { .. } if codex => Self::Text,
            AnswerKind::Refusal { .. } => Self::Refusal,
            AnswerKind::Reasoning { raw: false } => Self::Summary,
            AnswerKind::Reasoning { raw: true } => Self::Raw,
            AnswerKind::Call { kind: CallKind::Function, .. } => Self::Arguments,
            AnswerKind::Call { kind: CallKind::Custom, .. } => Self::Input,
            AnswerKind::Call { kind: CallKind::Search, .. } | AnswerKind::Opaque { .. } => {
                Self::None
            }
        }
    }

    /// The event's name without `.delta` or `.done`.
    fn event(self) -> &'static str {
        match self {
            Self::Text => "response.output_text",
            Self::Refusal => "response.refusal",
            Self::Summary => "response.reasoning_summary_text",
            Self::Raw => "response.reasoning_text",
            Self::Arguments => "response.function_call_arguments",
            Self::Input => "response.custom_tool_call_input",
            Self::None => "",
        }
    }

    /// The member that counts parts inside an item.
    fn index(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::Refusal | Self::Raw => Some("content_index"),
            Self::Summary => Some("summary_index"),
            _ => None,
        }
    }

    /// The member of the done event that holds the whole.
    fn whole(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Arguments => "arguments",
            Self::Input => "input",
            _ => "text",
        }
    }
}

impl Encoder {
    pub(super) fn new(request: &Request<'_>, mut reply: Reply) -> Self {
        let shape = Shape::new(request, &mut reply);
        Self {
            shape,
            layout: Layout::new(reply.ids, reply.codex),
            answer: Answer::default(),
            codex: reply.codex,
            done_marker: reply.done_marker,
            compact: request.compact,
            sequence: 0,
            stage: Stage::Waiting,
            open: None,
            prefix: Vec::new(),
        }
    }

    /// Writes one frame; `members` appends what follows the sequence number.
    fn frame(&mut self, kind: &str, out: &mut Vec<u8>, members: impl FnOnce(&Self, &mut Vec<u8>)) {
        frame_start(kind, out);
        json::member_number("sequence_number", self.sequence, out);
        members(self, out);
        out.extend_from_slice(b"}\n\n");
        self.sequence += 1;
    }

    fn response(&mut self, kind: &str, status: Status<'_>, now_s: u64, out: &mut Vec<u8>) {
        self.frame(kind, out, |this, out| {
            json::key("response", out);
            let usage = this.answer.usage;
            this.shape.write(status, usage, now_s, out, |out| {
                this.layout.write_all(&this.answer.parts, out);
            });
        });
    }

    fn start(&mut self, now_s: u64, out: &mut Vec<u8>) {
        self.stage = Stage::Started;
        self.response("response.created", Status::InProgress, now_s, out);
        self.response("response.in_progress", Status::InProgress, now_s, out);
    }

    /// The parts of an item.
    fn parts(&self, item: &object::Item) -> &[AnswerPart] {
        self.answer.parts.get(item.parts.clone()).unwrap_or_default()
    }

    fn item_frame(&mut self, kind: &str, index: usize, status: &str, out: &mut Vec<u8>) {
        self.frame(kind, out, |this, out| {
            json::member_number("output_index", index as u64, out);
            json::key("item", out);
            if let Some(item) = this.layout.items.get(index) {
                write_item(item, this.parts(item), status, this.codex, out);
            }
        });
    }

    /// Ends the last item, unless it ended already.
    fn end_item(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let index = self.layout.items.len().wrapping_sub(1);
        let Some(item) = self.layout.items.get_mut(index).filter(|item| !item.done) else { return };
        item.done = true;
        item.status = status;
        self.item_frame("response.output_item.done", index, status, out);
    }

    fn open_part(&mut self, out: &mut Vec<u8>) {
        let index = self.answer.parts.len().wrapping_sub(1);
        let Some(part) = self.answer.parts.get(index) else { return };
        self.open = None;
        if self.compact {
            return;
        }
        let kind = &part.kind;
        let (body, opaque) =
            (Body::of(kind, self.codex), matches!(kind, AnswerKind::Opaque { .. }));
        if !self.layout.continues(kind) {
            self.end_item("completed", out);
        }
        let Some(part) = self.answer.parts.get(index) else { return };
        let Some(spot) = self.layout.place(index, &part.kind) else { return };
        if spot.content == 0 {
            self.item_frame("response.output_item.added", spot.item, "in_progress", out);
        }
        if opaque {
            return self.end_item("completed", out);
        }
        self.open = Some(Open { spot, body, begun: false, annotations: 0 });
        if matches!(body, Body::Text | Body::Refusal) {
            self.begin_body(out);
        }
        self.prefix.clear();
        if body == Body::None {
            return;
        }
        frame_start_named(body.event(), ".delta", &mut self.prefix);
        let mut prefix = std::mem::take(&mut self.prefix);
        self.write_spot(&mut prefix);
        json::key("sequence_number", &mut prefix);
        self.prefix = prefix;
    }

    /// Appends what addresses the open part.
    fn write_spot(&self, out: &mut Vec<u8>) {
        let Some(open) = self.open else { return };
        let id = self.layout.items.get(open.spot.item).map_or("", |item| item.id.as_str());
        json::member("item_id", id, out);
        json::member_number("output_index", open.spot.item as u64, out);
        if let Some(name) = open.body.index() {
            json::member_number(name, open.spot.content as u64, out);
        }
    }

    /// Writes the frame that opens the part's body, once.
    fn begin_body(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.as_mut().filter(|open| !open.begun) else { return };
        open.begun = true;
        let (kind, part) = match open.body {
            Body::Text => (
                "response.content_part.added",
                r#"{"type":"output_text","annotations":[],"logprobs":[],"text":""}"#,
            ),
            Body::Refusal => ("response.content_part.added", r#"{"type":"refusal","refusal":""}"#),
            Body::Raw => ("response.content_part.added", r#"{"type":"reasoning_text","text":""}"#),
            Body::Summary => {
                ("response.reasoning_summary_part.added", r#"{"type":"summary_text","text":""}"#)
            }
            Body::Arguments | Body::Input | Body::None => return,
        };
        self.frame(kind, out, |this, out| {
            this.write_spot(out);
            json::member_raw("part", part, out);
        });
    }

    #[inline]
    fn delta(&mut self, text: Escaped<'_>, logprobs: Option<Raw<'_>>, out: &mut Vec<u8>) {
        let Some(open) = self.open else { return };
        if open.body == Body::None {
            return;
        }
        if !open.begun {
            self.begin_body(out);
        }
        // Room for all of it at once, so that nothing below has to grow.
        out.reserve(self.prefix.len() + text.raw().len() + 64);
        out.extend_from_slice(&self.prefix);
        json::number(self.sequence, out);
        out.extend_from_slice(b",\"delta\":\"");
        out.extend_from_slice(text.raw().as_bytes());
        match logprobs.filter(|_| open.body == Body::Text) {
            Some(list) => {
                out.extend_from_slice(b"\",\"logprobs\":");
                one_line(list.text(), out);
                out.extend_from_slice(b"}\n\n");
            }
            None if open.body == Body::Text => {
                out.extend_from_slice(b"\",\"logprobs\":[]}\n\n");
            }
            None => out.extend_from_slice(b"\"}\n\n"),
        }
        self.sequence += 1;
    }

    fn annotation(&mut self, object: Raw<'_>, out: &mut Vec<u8>) {
        let Some(open) = self.open.as_mut().filter(|open| open.body == Body::Text) else { return };
        let index = open.annotations;
        open.annotations += 1;
        self.frame("response.output_text.annotation.added", out, |this, out| {
            this.write_spot(out);
            json::member_number("annotation_index", index, out);
            json::key("annotation", out);
            one_line(object.text(), out);
        });
    }

    /// Ends the open part's body.
    fn end_body(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open else { return };
        match open.body {
            Body::None => return,
            Body::Arguments | Body::Input => {}
            _ if !open.begun => return,
            _ => {}
        }
        self.frame_named(open.body.event(), ".done", out, |this, out| {
            this.write_spot(out);
            let Some(part) = this.answer.parts.last() else { return };
            json::member_quoted(open.body.whole(), part.text(), out);
            if open.body == Body::Text {
                json::key("logprobs", out);
                object::write_list(&part.logprobs, out);
            }
            if let (Body::Arguments, AnswerKind::Call { name, .. }) = (open.body, &part.kind) {
                json::member_quoted("name", Escaped::trusted(name), out);
            }
        });
        let kind = match open.body {
            Body::Arguments | Body::Input | Body::None => return,
            Body::Summary => "response.reasoning_summary_part.done",
            Body::Text | Body::Refusal | Body::Raw => "response.content_part.done",
        };
        self.frame(kind, out, |this, out| {
            this.write_spot(out);
            json::key("part", out);
            let Some(part) = this.answer.parts.last() else { return };
            let kind = match open.body {
                Body::Summary => "summary_text",
                Body::Raw => "reasoning_text",
                _ => return object::write_content(part, this.codex, out),
            };
            out.push(b'{');
            json::member("type", kind, out);
            json::member_quoted("text", part.text(), out);
            out.push(b'}');
        });
    }

    fn frame_named(
        &mut self,
        family: &str,
        suffix: &str,
        out: &mut Vec<u8>,
        members: impl FnOnce(&Self, &mut Vec<u8>),
    ) {
        frame_start_named(family, suffix, out);
        json::member_number("sequence_number", self.sequence, out);
        members(self, out);
        out.extend_from_slice(b"}\n\n");
        self.sequence += 1;
    }

    fn close_part(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open else { return };
        let empty = self.answer.parts.last().is_some_and(|part| part.text.is_empty());
        if open.body == Body::Arguments && empty {
            // A call without arguments is a call with none of them: clients parse the text.
            self.delta(Escaped::trusted("{}"), None, out);
            if let Some(part) = self.answer.parts.last_mut() {
                part.text.push_str("{}");
            }
        }
        self.end_body(out);
        self.open = None;
        if !matches!(open.body, Body::Text | Body::Refusal) {
            self.end_item("completed", out);
        }
    }

    fn stop(&mut self, stop: Stop, now_s: u64, out: &mut Vec<u8>) {
        if self.compact && !self.summarise(out) {
            let why = "The upstream gave no text that could stand for the conversation.";
            let failure = Failure::new(Fault::upstream(Kind::BadReply), why);
            return self.fail(&failure, now_s, out);
        }
        let cut = match stop {
            Stop::Length => Some("max_output_tokens"),
            Stop::Filter => Some("content_filter"),
            Stop::End | Stop::Tool => None,
        };
        if let Some(failure) = self.cut_call(stop) {
            return self.fail(&failure, now_s, out);
        }
        self.end_body(out);
        self.open = None;
        self.end_item(if cut.is_some() { "incomplete" } else { "completed" }, out);
        let (kind, status) = match (cut, stop) {
            (None, _) => ("response.completed", Status::Completed),
            // Codex ends the turn with an error after `response.incomplete`; this way it keeps
            // what there is.
            (Some(reason), Stop::Length) if self.codex => {
                ("response.completed", Status::Incomplete(reason))
            }
            (Some(reason), _) => ("response.incomplete", Status::Incomplete(reason)),
        };
        self.response(kind, status, now_s, out);
        self.end(out);
    }

    /// The failure that a call cut in its middle is, unless the client understands its status.
    fn cut_call(&self, stop: Stop) -> Option<Failure> {
        let AnswerKind::Call { name, .. } = &self.answer.parts.last()?.kind else { return None };
        self.open?;
        let length = matches!(stop, Stop::Length | Stop::Filter);
        match (length, self.codex) {
            (true, false) => None,
            (false, _) => {
                let fault = Fault::upstream(Kind::Server);
                Some(Failure::new(fault, STOPPED_IN_CALL))
            }
            (true, true) => {
                let limit =
                    if stop == Stop::Length { "output-token limit" } else { "content filter" };
                let name = Escaped::trusted(name).decode();
                let message = format!(
                    "The answer reached the {limit} in the middle of a call of '{name}', so \
                     nothing of that call was run. Ask for smaller steps, or raise the limit."
                );
                // The same request would be cut again.
                Some(Failure::new(Fault::upstream(Kind::BadRequest), message))
            }
        }
    }

    /// Writes the one item of a compaction. False when there is no text to make it from.
    fn summarise(&mut self, out: &mut Vec<u8>) -> bool {
        let parts = std::mem::take(&mut self.answer.parts);
        let Some(part) = compact::part(&parts, &self.layout.id("cmp_")) else { return false };
        self.answer.parts.push(part);
        self.compact = false;
        self.open_part(out);
        true
    }

    fn fail(&mut self, failure: &Failure, now_s: u64, out: &mut Vec<u8>) {
        let (code, message) = fault::told(failure, self.codex);
        if self.open.is_none() {
            self.end_item("completed", out);
        } else if let Some(item) = self.layout.items.last_mut() {
            // Never written as done: a client could take the half for the whole.
            item.status = "incomplete";
        }
        self.frame("error", out, |_, out| {
            json::member("code", code, out);
            json::member("message", &message, out);
            json::key("param", out);
            match &failure.param {
                Some(param) => json::string(param, out),
                None => out.extend_from_slice(b"null"),
            }
            json::key("error", out);
            let mut told = failure.clone();
            told.code = Some(code.to_owned());
            told.message = message.clone().into_owned();
            faults::object(&told, out);
        });
        let status = Status::Failed { code, message: &message };
        self.response("response.failed", status, now_s, out);
        self.end(out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Done;
        self.open = None;
        if self.done_marker {
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
    }
}

impl Encode for Encoder {
    fn event(&mut self, event: Event<'_>, now_s: u64, out: &mut Vec<u8>) {
        if let (Stage::Started, Event::Delta { text, logprobs, .. }) = (self.stage, event) {
            self.answer.push_delta(text, logprobs);
            self.delta(text, logprobs, out);
            return;
        }
        match (self.stage, &event) {
            (Stage::Done, _) => return,
            // Whoever fails before the start has sent a start of his own (a relayed stream), or
            // has sent nothing and answers with a status.
            (Stage::Waiting, Event::Fail(_)) | (Stage::Started, _) => {}
            (Stage::Waiting, _) => self.start(now_s, out),
        }
        self.answer.push(event);
        match event {
            Event::Start { .. } | Event::Usage(_) | Event::Seal { .. } => {}
            Event::Open { .. } => self.open_part(out),
            Event::Delta { text, logprobs, .. } => self.delta(text, logprobs, out),
            Event::Annotation { object, .. } => self.annotation(object, out),
            Event::Close { .. } => self.close_part(out),
            Event::Stop(stop) => self.stop(stop, now_s, out),
            Event::Fail(failure) => self.fail(failure, now_s, out),
        }
    }

    fn answer(&mut self, answer: &Answer, now_s: u64, out: &mut Vec<u8>) {
        if !self.compact {
            return answer::write(&self.shape, &mut self.layout, answer, now_s, out);
        }
        let part = compact::part(&answer.parts, &self.layout.id("cmp_"));
        let answer = Answer { parts: part.into_iter().collect(), ..answer.clone() };
        answer::write(&self.shape, &mut self.layout, &answer, now_s, out);
    }

    fn resume(&mut self, frames: u64, id: Escaped<'_>) {
        self.sequence = frames;
        if !id.is_empty() {
            self.shape.id = id.decode().into_owned();
        }
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        // Codex's idle timer counts events, not comments.
        match self.stage {
            Stage::Started if self.codex => self.frame("keepalive", out, |_, _| {}),
            // Not numbered: the stream's numbers begin with its first event, and those of a relayed
            // stream are the upstream's.
            _ if self.codex => {
                out.extend_from_slice(b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n");
            }
            _ => out.extend_from_slice(b": keepalive\n\n"),
        }
    }
}

fn frame_start(kind: &str, out: &mut Vec<u8>) {
    frame_start_named(kind, "", out);
}

/// Appends a frame's start, its type given in two halves.
fn frame_start_named(family: &str, suffix: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(family.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.extend_from_slice(b"\ndata: {\"type\":\"");
    out.extend_from_slice(family.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.push(b'"');
}
