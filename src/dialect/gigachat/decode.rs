//! GigaChat replies, streamed or whole, into events.

use super::chunk::{Call as WireCall, Chunk};
use super::state;
use crate::dialect::event::{Call, CallKind, Event, Part, Sink, Stop, Usage};
use crate::dialect::ids::Ids;
use crate::dialect::pattern::Pattern;
use crate::dialect::quirks::Quirks;
use crate::dialect::tools::Entry;
use crate::dialect::{Decode, Sent, faults};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Escaped, Kind as Json, Raw};
use crate::wire::sse::Frame;

/// Members that models use instead of a custom tool's `input`.
const OTHER_NAMES: &[&str] = &["patch", "code", "content", "text", "command", "cmd"];

/// Decodes one reply.
#[derive(Debug)]
pub(super) struct Decoder {
    sent: Sent,
    raw_reasoning: bool,
    ids: Ids,
    /// The next part's number.
    next: u32,
    /// The part that takes text now.
    open: Option<(u32, Voice)>,
    /// Ordinal of the current assistant message.
    message: u32,
    usage: Option<Usage>,
    finish: Option<Finish>,
    started: bool,
    /// Text came.
    worded: bool,
    /// Calls of the client's tools.
    calls: u32,
    /// A call's arguments are no object: it stays open until it is known why.
    broken: bool,
    /// The last `functions_state_id`, escaped.
    state: String,
    /// A call whose state may come behind it.
    held: Option<HeldCall>,
    done: bool,
    /// What the last chunk looked like and where its text went, if it was nothing but text.
    again: Option<(Pattern, Voice)>,
}

/// A call that waits for the next chunk, texts as they came: its state goes into its id, and an id
/// that was told cannot be changed.
#[derive(Debug)]
struct HeldCall {
    name: String,
    arguments: Option<String>,
}

/// Who speaks in a part without calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Text,
    Reasoning,
}

/// The families of finish reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Natural,
    Length,
    Filter,
    Error,
}

impl Finish {
    fn from_reason(reason: Escaped<'_>) -> Self {
        match reason.raw() {
            "length" => Self::Length,
            "blacklist" | "content_filter" => Self::Filter,
            "error" => Self::Error,
            _ => Self::Natural,
        }
    }
}

impl Decode for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let data = frame.data.trim_ascii();
        self.again = None;
        if self.done || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.conclude(true, sink);
            return Ok(());
        }
        if frame.name == b"error" {
            self.start(Escaped::EMPTY, sink);
            self.fail(&faults::from_body(0, data), sink);
            return Ok(());
        }
        let chunk = Chunk::read(json::utf8(data)?)?;
        self.take(&chunk, sink);
        self.again = self.repeatable(&chunk, frame.data);
        Ok(())
    }

    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad> {
        let chunk = Chunk::read(json::utf8(body)?)?;
        if chunk.error.is_none() && !chunk.has_choices {
            self.start(chunk.model, sink);
            let message = "the upstream's reply is not a chat completion";
            self.fail(&Failure::new(Fault::upstream(Kind::BadReply), message), sink);
            return Ok(());
        }
        self.take(&chunk, sink);
        self.conclude(true, sink);
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink<'_>) {
        self.conclude(false, sink);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn pattern(&self) -> Option<&Pattern> {
        self.again.as_ref().map(|(pattern, _)| pattern)
    }

    fn again(&mut self, text: Escaped<'_>, sink: &mut Sink<'_>) {
        if let Some((_, voice)) = self.again {
            self.speak(voice, text, sink);
        }
    }
}

impl Decoder {
    /// A decoder for the reply to a sent request.
    pub(super) fn new(sent: Sent, quirks: &Quirks) -> Self {
        Self {
            ids: Ids::new(sent.seed),
            sent,
            raw_reasoning: quirks.raw_reasoning,
            next: 0,
            open: None,
            message: 0,
            usage: None,
            finish: None,
            started: false,
            worded: false,
            calls: 0,
            broken: false,
            state: String::new(),
            held: None,
            done: false,
            again: None,
        }
    }

    fn take(&mut self, chunk: &Chunk<'_>, sink: &mut Sink<'_>) {
        self.start(chunk.model, sink);
        self.usage = chunk.usage.or(self.usage);
        if let Some(choice) = &chunk.choice {
            if let Some(message) = choice.message.filter(|it| !it.is_progress()) {
                if !message.state.is_empty() && self.state != message.state.raw() {
                    message.state.raw().clone_into(&mut self.state);
                }
                self.release(sink);
                if !message.reasoning.is_empty() {
                    self.speak(Voice::Reasoning, message.reasoning, sink);
                }
                if !message.content.is_empty() {
                    self.speak(Voice::Text, message.content, sink);
                }
                match message.call {
                    Some(call) if self.state.is_empty() && choice.finish.is_none() => {
                        self.hold(call);
                    }
                    Some(call) => self.call(call, sink),
                    None => {}
                }
            }
            if let (Some(reason), None) = (choice.finish, self.finish) {
                self.finish = Some(Finish::from_reason(reason));
            }
        }
        if let Some(error) = chunk.error {
            self.fail(&faults::from_body(0, error.text().as_bytes()), sink);
        }
    }

    /// What the chunk that was just taken looks like, if it was one piece of text and did nothing
    /// else.
    fn repeatable(&self, chunk: &Chunk<'_>, data: &[u8]) -> Option<(Pattern, Voice)> {
        let choice = chunk.choice?;
        let message = choice.message?;
        let more = choice.finish.is_some() || chunk.error.is_some() || chunk.usage.is_some();
        let other = message.call.is_some() || message.is_progress() || self.broken;
        if self.done || more || other {
            return None;
        }
        let (text, voice) = match (message.content.is_empty(), message.reasoning.is_empty()) {
            (false, true) => (message.content, Voice::Text),
            (true, false) => (message.reasoning, Voice::Reasoning),
            _ => return None,
        };
        Some((Pattern::of(text, &chunk.unneeded, data)?, voice))
    }

    fn start(&mut self, model: Escaped<'_>, sink: &mut Sink<'_>) {
        if !self.started {
            self.started = true;
            // Its answers have no id of their own.
            sink(Event::Start { id: Escaped::EMPTY, model });
        }
    }

    fn fail(&mut self, failure: &Failure, sink: &mut Sink<'_>) {
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Fail(failure));
        self.done = true;
    }

    #[inline]
    fn speak(&mut self, voice: Voice, text: Escaped<'_>, sink: &mut Sink<'_>) {
        let part = match self.open {
            Some((part, open)) if open == voice => part,
            // What stands behind a call that broke off belongs nowhere.
            _ if self.broken => return,
            _ => self.open_voice(voice, sink),
        };
        sink(Event::Delta { part, text, logprobs: None });
    }

    fn open_voice(&mut self, voice: Voice, sink: &mut Sink<'_>) -> u32 {
        self.hush(sink);
        if voice == Voice::Text {
            self.message += u32::from(self.worded);
            self.worded = true;
        }
        let kind = match voice {
            Voice::Text => Part::Text { message: self.message },
            Voice::Reasoning => Part::Reasoning { raw: self.raw_reasoning },
        };
        let part = self.open_part(kind, sink);
        self.open = Some((part, voice));
        part
    }

    fn open_part(&mut self, kind: Part<'_>, sink: &mut Sink<'_>) -> u32 {
        let part = self.next;
        self.next += 1;
        sink(Event::Open { part, kind });
        part
    }

    /// Closes the part that takes text.
    fn hush(&mut self, sink: &mut Sink<'_>) {
        if let Some((part, _)) = self.open.take() {
            sink(Event::Close { part });
        }
    }

    /// Keeps a call until the next chunk.
    fn hold(&mut self, call: WireCall<'_>) {
        let arguments = call.arguments.map(|arguments| arguments.text().to_owned());
        self.held = Some(HeldCall { name: call.name.raw().to_owned(), arguments });
    }

    /// Tells of the call that was kept: its state is here, or will not come.
    fn release(&mut self, sink: &mut Sink<'_>) {
        if let Some(HeldCall { name, arguments }) = self.held.take() {
            let arguments = arguments.as_deref().map(Raw::trusted);
            self.call(WireCall { name: Escaped::trusted(&name), arguments }, sink);
        }
    }

    /// A call comes whole.
    fn call(&mut self, call: WireCall<'_>, sink: &mut Sink<'_>) {
        if self.broken || call.name.is_empty() {
            return;
        }
        let object = Arguments::of(call.arguments);
        if self.sent.answer.as_deref().is_some_and(|answer| call.name.is(answer)) {
            let text = object.escaped();
            self.speak(Voice::Text, Escaped::trusted(&text), sink);
            return;
        }
        self.hush(sink);
        let entry = self.sent.tools.by_upstream(call.name);
        let kind = entry.map_or(CallKind::Function, |entry| entry.kind);
        let id = state::call_id(&self.state, &self.sent.provider, &mut self.ids);
        let tool = entry.map(Entry::tool);
        let part = Part::Call(Call {
            kind,
            id: Escaped::trusted(&id),
            namespace: tool.map_or(Escaped::EMPTY, |tool| tool.namespace),
            name: tool.map_or(call.name, |tool| tool.name),
        });
        let number = self.next;
        self.next += 1;
        sink(Event::Open { part: number, kind: part });
        self.calls += 1;
        let custom = kind == CallKind::Custom;
        let text = if custom { object.input() } else { object.escaped() };
        if !text.is_empty() {
            sink(Event::Delta { part: number, text: Escaped::trusted(&text), logprobs: None });
        }
        // Free text is as whole as it can be.
        if object.whole || (custom && object.is_text()) {
            sink(Event::Close { part: number });
        } else {
            self.broken = true;
        }
    }

    /// The answer ended: with its mark (`[DONE]`, or a document's end) or only with its bytes.
    fn conclude(&mut self, marked: bool, sink: &mut Sink<'_>) {
        if self.done {
            return;
        }
        self.start(Escaped::EMPTY, sink);
        self.release(sink);
        let broken = |kind, message: &str| Err(Failure::new(Fault::upstream(kind), message));
        let stop = match self.finish {
            Some(Finish::Error) => broken(
                Kind::Server,
                "the upstream's model made a call that is not valid, or broke off; try again",
            ),
            Some(Finish::Length) => Ok(Stop::Length),
            Some(Finish::Filter) => Ok(Stop::Filter),
            _ if self.broken => broken(
                Kind::BadReply,
                "the arguments of the upstream's tool call are no JSON object; try again",
            ),
            None if !marked => {
                broken(Kind::Truncated, "the upstream's answer broke off before its end; try again")
            }
            None if self.next == 0 => {
                broken(Kind::BadReply, "the upstream's answer is empty and gives no reason")
            }
            _ if self.calls > 0 => Ok(Stop::Tool),
            _ => Ok(Stop::End),
        };
        let stop = match stop {
            Ok(stop) => stop,
            Err(failure) => return self.fail(&failure, sink),
        };
        self.hush(sink);
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Stop(stop));
        self.done = true;
    }
}

/// The arguments of a call, as they came.
#[derive(Clone, Copy, Debug)]
struct Arguments<'a> {
    value: Option<Raw<'a>>,
    /// They are a whole object, or there are none.
    whole: bool,
}

impl<'a> Arguments<'a> {
    /// An object, they say; the object's text is understood too.
    fn of(value: Option<Raw<'a>>) -> Self {
        let whole = value.is_none_or(|value| match value.string() {
            Some(text) => {
                let plain = text.decode();
                let plain = plain.trim();
                plain.is_empty() || Raw::check(plain).is_ok_and(|it| it.kind() == Json::Object)
            }
            None => value.kind() == Json::Object,
        });
        Self { value, whole }
    }

    fn is_text(&self) -> bool {
        self.value.is_some_and(|value| value.kind() == Json::String)
    }

    /// The text of the object, escaped.
    fn escaped(&self) -> String {
        let Some(value) = self.value else { return "{}".to_owned() };
        match value.string() {
            Some(text) if text.decode().trim().is_empty() => "{}".to_owned(),
            Some(text) => text.raw().to_owned(),
            None => escaped(value.text()),
        }
    }

    /// The input of a custom tool, escaped: the string that the function was declared with, or what
    /// models put in its place.
    fn input(&self) -> String {
        let Some(value) = self.value else { return String::new() };
        let Some(text) = value.string() else { return input_of(value) };
        let plain = text.decode();
        match Raw::check(plain.trim()) {
            Ok(object) if object.kind() == Json::Object => input_of(object),
            _ => text.raw().to_owned(),
        }
    }
}

fn input_of(object: Raw<'_>) -> String {
    if object.kind() != Json::Object {
        return escaped(object.text());
    }
    let (mut named, mut other, mut only, mut members) = (None, None, None, 0);
    let mut cursor = object.cursor();
    let walked = cursor.object(|key, value| {
        let text = value.skip()?.string();
        members += 1;
        only = text;
        if key == "input" {
            named = text;
        } else if OTHER_NAMES.contains(&key) {
            other = other.or(text);
        }
        Ok(())
    });
    let found = named.or(other).or(only.filter(|_| members == 1)).filter(|_| walked.is_ok());
    match found {
        Some(text) => text.raw().to_owned(),
        None if members == 0 && walked.is_ok() => String::new(),
        None => escaped(object.text()),
    }
}

/// Plain text as escaped text.
fn escaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len() + 16);
    json::escape(text, &mut bytes);
    // Escaping changes ASCII only, so the bytes stay UTF-8.
    String::from_utf8(bytes).unwrap_or_default()
}
