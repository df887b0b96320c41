//! Chat Completions replies, streamed or whole, into events.
//!
//! Written for what servers send, not for what the API's reference says: see the tests for the
//! habits that are absorbed.

mod calls;
mod chunk;
mod ends;
mod parts;
mod think;
mod unwrap;

use crate::dialect::chat::sealed::Opaque;
use crate::dialect::event::{Event, Part, Sink, Usage};
use crate::dialect::ids::Ids;
use crate::dialect::lanes::Lanes;
use crate::dialect::pattern::Pattern;
use crate::dialect::quirks::Quirks;
use crate::dialect::{Decode, Sent, faults};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Escaped, Kind as Json, Raw};
use crate::wire::sse::Frame;
use calls::OpenCall;
use chunk::{CallDelta, Chunk, Delta, Only};
use think::{Piece, Think};

/// Bytes kept back of one answer (interleaved calls, opaque state) before it is refused: as much as
/// one frame may hold.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Decodes one reply.
#[derive(Debug)]
pub(super) struct Decoder {
    sent: Sent,
    raw_reasoning: bool,
    think: Option<Think>,
    lanes: Lanes,
    /// The part that takes text now.
    open: Option<(u32, Voice)>,
    /// Ordinal of the current assistant message.
    message: u32,
    calls: Vec<OpenCall>,
    opaque: Opaque,
    ids: Option<Ids>,
    usage: Option<Usage>,
    finish: Option<Finish>,
    started: bool,
    /// The reply is a document, not a stream.
    whole: bool,
    /// Text or a refusal came.
    worded: bool,
    /// Anything of an answer came.
    spoke: bool,
    done: bool,
    held_bytes: usize,
    unwrapped: String,
    /// What the last chunk looked like and where its text went, if it was nothing but text.
    again: Option<(Pattern, Place)>,
}

/// Where the text of a chunk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To the user, through the tag splitter.
    Text,
    Reasoning,
    /// Into the arguments of the call in this slot.
    Call(usize),
}

/// Who speaks in a part without calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Text,
    Refusal,
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
            "length"
            | "max_tokens"
            | "model_length"
            | "model_context_window_exceeded"
            | "MAX_TOKENS" => Self::Length,
            "content_filter" | "sensitive" | "safety" | "recitation" | "blacklist" | "SAFETY"
            | "RECITATION" => Self::Filter,
            "error" | "network_error" | "insufficient_system_resource" | "abort" => Self::Error,
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
            self.start(Escaped::EMPTY, Escaped::EMPTY, sink);
            self.fail(&faults::from_body(0, data), sink);
            return Ok(());
        }
        let chunk = read(data)?;
        self.take(&chunk, sink)?;
        self.again = self.repeatable(&chunk, frame.data);
        Ok(())
    }

    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad> {
        let chunk = read(body)?;
        if chunk.error.is_none() && !chunk.has_choices {
            self.start(chunk.id, chunk.model, sink);
            let message = "the upstream's reply is not a chat completion";
            self.fail(&Failure::new(Fault::upstream(Kind::BadReply), message), sink);
            return Ok(());
        }
        self.whole = true;
        self.take(&chunk, sink)?;
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
        match self.again {
            Some((_, Place::Text)) if self.think.is_some() => self.text(text, None, sink),
            Some((_, Place::Text)) => self.speak(Voice::Text, text, None, sink),
            Some((_, Place::Reasoning)) => self.speak(Voice::Reasoning, text, None, sink),
            Some((_, Place::Call(at))) => self.feed(at, text, sink),
            None => {}
        }
        self.bound_held(sink);
    }
}

fn read(bytes: &[u8]) -> Result<Chunk<'_>, Bad> {
    Chunk::read(json::utf8(bytes)?)
}

impl Decoder {
    /// A decoder for the reply to a sent request.
    pub(super) fn new(sent: Sent, quirks: &Quirks) -> Self {
        Self {
            sent,
            raw_reasoning: quirks.raw_reasoning,
            think: quirks.think_tags.then(Think::default),
            lanes: Lanes::default(),
            open: None,
            message: 0,
            calls: Vec::new(),
            opaque: Opaque::default(),
            ids: None,
            usage: None,
            finish: None,
            started: false,
            whole: false,
            worded: false,
            spoke: false,
            done: false,
            held_bytes: 0,
            unwrapped: String::new(),
            again: None,
        }
    }

    fn take(&mut self, chunk: &Chunk<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        self.start(chunk.id, chunk.model, sink);
        self.usage = chunk.usage.or(self.usage);
        let mut error = chunk.error;
        if let Some(choice) = &chunk.choice {
            // Some repeat the whole message at the end of the stream.
            let repeated = choice.delta.is_none() && self.spoke;
            if let (Some(delta), false) = (choice.fields()?, repeated) {
                self.delta(&delta, choice.logprobs, sink)?;
            }
            if let (Some(reason), None) = (choice.finish, self.finish) {
                self.finish = Some(Finish::from_reason(reason));
            }
            error = error.or(choice.error);
        }
        if let (Some(error), false) = (error, self.done) {
            self.fail(&faults::from_body(0, error.text().as_bytes()), sink);
        } else {
            self.bound_held(sink);
        }
        Ok(())
    }

    #[inline]
    fn bound_held(&mut self, sink: &mut Sink<'_>) {
        if self.held_bytes > HELD_BYTES_MAX && !self.done {
            self.hold_no_more(sink);
        }
    }

    #[cold]
    fn hold_no_more(&mut self, sink: &mut Sink<'_>) {
        let message = "the upstream's answer keeps too much of itself for later";
        self.fail(&Failure::new(Fault::upstream(Kind::TooLarge), message), sink);
    }

    /// What the chunk that was just taken looks like, if it was one piece of text and did nothing
    /// else.
    fn repeatable(&self, chunk: &Chunk<'_>, data: &[u8]) -> Option<(Pattern, Place)> {
        let choice = chunk.choice?;
        let ends = choice.finish.is_some() || choice.error.is_some() || chunk.error.is_some();
        if self.done || ends || chunk.usage.is_some() || choice.logprobs.is_some() {
            return None;
        }
        let (text, place) = match choice.delta?.only_text()? {
            Only::Text(text) => (text, Place::Text),
            Only::Reasoning(text) => (text, Place::Reasoning),
            Only::Call(call) => {
                let at = calls::find(&self.calls, &call)?;
                // A name may begin another call, depending on what came so far.
                let known = self.calls.get(at)?.part.is_some() && call.name.is_empty();
                let text = call.text.filter(|_| known && call.extra.is_none())?.string()?;
                (text, Place::Call(at))
            }
        };
        Some((Pattern::of(text, &chunk.unneeded, data)?, place))
    }

    fn start(&mut self, id: Escaped<'_>, model: Escaped<'_>, sink: &mut Sink<'_>) {
        if !self.started {
            self.started = true;
            sink(Event::Start {
                id: if id.raw().contains('\\') { Escaped::EMPTY } else { id },
                model,
            });
            let seed = id.raw().bytes().fold(self.sent.seed, |seed, byte| {
                (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
            self.ids = Some(Ids::new(seed));
        }
    }

    fn fail(&mut self, failure: &Failure, sink: &mut Sink<'_>) {
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Fail(failure));
        self.done = true;
    }

    fn delta(
        &mut self,
        delta: &Delta<'_>,
        logprobs: Option<Raw<'_>>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        if let Some(details) = delta.details {
            self.held_bytes += self.opaque.add_details(details)?;
        }
        if let Some(text) = delta.reasoning_text() {
            self.speak(Voice::Reasoning, text, None, sink);
        } else if let Some(details) = delta.details {
            self.reasoning_of(details, sink)?;
        }
        match delta.content {
            Some(content) if content.kind() == Json::Array => self.parts(content, sink)?,
            Some(content) => {
                let text = content.string().unwrap_or_default();
                if !text.is_empty() || logprobs.is_some() {
                    self.text(text, logprobs, sink);
                }
            }
            None => {
                if let Some(audio) = delta.audio {
                    self.transcript(audio, sink)?;
                }
            }
        }
        if let Some(refusal) = delta.refusal.and_then(Raw::string).filter(|t| !t.is_empty()) {
            self.speak(Voice::Refusal, refusal, None, sink);
        }
        if let Some(list) = delta.annotations {
            self.annotations(list, sink)?;
        }
        if let Some(list) = delta.tool_calls.filter(|list| list.kind() == Json::Array) {
            list.cursor().array(|each| {
                let call = CallDelta::read(each)?;
                self.call(&call, sink);
                Ok(())
            })?;
        }
        if let Some(legacy) = delta.function_call {
            self.call(&CallDelta::read_legacy(legacy)?, sink);
        }
        Ok(())
    }

    /// Text for the user, through the tag splitter where there is one.
    fn text(&mut self, text: Escaped<'_>, logprobs: Option<Raw<'_>>, sink: &mut Sink<'_>) {
        let Some(mut think) = self.think.take_if(|think| !think.is_over()) else {
            self.speak(Voice::Text, text, logprobs, sink);
            return;
        };
        let whole = self.whole;
        let mut each = |piece: Piece<'_>| self.piece(piece, sink);
        if whole {
            think.whole(text, &mut each);
        } else {
            think.push(text, &mut each);
        }
        self.think = Some(think);
    }

    fn piece(&mut self, piece: Piece<'_>, sink: &mut Sink<'_>) {
        let (voice, text) = match piece {
            Piece::Reasoning(text) => (Voice::Reasoning, text),
            Piece::Text(text) => (Voice::Text, text),
        };
        let mut escaped = Vec::with_capacity(text.len());
        json::escape(text, &mut escaped);
        let escaped = String::from_utf8_lossy(&escaped);
        self.speak(voice, Escaped::trusted(&escaped), None, sink);
    }

    #[inline]
    fn speak(
        &mut self,
        voice: Voice,
        text: Escaped<'_>,
        logprobs: Option<Raw<'_>>,
        sink: &mut Sink<'_>,
    ) {
        let part = match self.open {
            Some((part, open)) if open == voice => part,
            _ => self.open_voice(voice, sink),
        };
        if self.lanes.active() != Some(part) {
            self.held_bytes += text.raw().len();
        }
        self.lanes.delta(part, text, logprobs, sink);
    }

    fn open_voice(&mut self, voice: Voice, sink: &mut Sink<'_>) -> u32 {
        let same_message = matches!(self.open, Some((_, Voice::Text | Voice::Refusal)));
        self.hush(sink);
        self.close_whole_calls(sink);
        if voice != Voice::Reasoning {
            self.message += u32::from(self.worded && !same_message);
            self.worded = true;
        }
        let message = self.message;
        let part = self.lanes.open(
            match voice {
                Voice::Text => Part::Text { message },
                Voice::Refusal => Part::Refusal { message },
                Voice::Reasoning => Part::Reasoning { raw: self.raw_reasoning },
            },
            sink,
        );
        self.spoke = true;
        self.open = Some((part, voice));
        part
    }

    /// Closes the part that takes text.
    fn hush(&mut self, sink: &mut Sink<'_>) {
        let Some((part, voice)) = self.open.take() else { return };
        if voice == Voice::Reasoning {
            self.seal(part, sink);
        }
        self.lanes.close(part, sink);
    }

    fn seal(&mut self, part: u32, sink: &mut Sink<'_>) {
        if !self.opaque.is_empty() {
            let sealed = self.opaque.seal(&self.sent.provider);
            self.lanes.seal(part, Escaped::trusted(&sealed), sink);
            self.opaque.clear();
        }
    }

    /// Opaque state that no reasoning part took gets one of its own, without text.
    fn seal_alone(&mut self, sink: &mut Sink<'_>) {
        if self.opaque.is_empty() || self.lanes.active().is_some() {
            return;
        }
        let part = self.lanes.open(Part::Reasoning { raw: self.raw_reasoning }, sink);
        self.seal(part, sink);
        self.lanes.close(part, sink);
    }
}
