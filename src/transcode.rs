//! Ring 2: framing, decoding and encoding in one pass. Bytes of an upstream's reply go in, bytes of
//! the client's reply come out; no sockets, no clock, no reference kept.

mod learned;

use crate::dialect::event::{Event, Stop, Usage};
use crate::dialect::fold::Answer;
use crate::dialect::mend::Mend;
use crate::dialect::pattern::place_of;
use crate::dialect::{Decode, Encode};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Cursor, Escaped};
use crate::wire::lines;
use crate::wire::sse::{self, Frame, Step};
use learned::{Hit, Learned};
use std::ops::Range;

/// A frame that comes in pieces is compared with the learned one again after each of them, as long as
/// it is no longer than this: bytes that were looked at once must not be looked at for ever.
const LOOKED_AT_AGAIN_MAX: usize = 8 * 1024;

/// The form of a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Server-sent events.
    Stream,
    /// One JSON document.
    Document,
    /// JSON Lines, of upstreams only.
    Lines,
}

/// Turns one reply of an upstream into one reply for a client.
///
/// Feed it with [`push`](Self::push) as bytes come, then call [`finish`](Self::finish) when the
/// body ended as its framing says, or [`fail`](Self::fail) when it did not.
pub struct Transcoder {
    framing: Framing,
    learned: Learned,
    from: Form,
    decoder: Box<dyn Decode>,
    side: ClientSide,
    frame_bytes_max: usize,
}

/// What cuts a reply into frames.
#[derive(Debug)]
enum Framing {
    Events(sse::Decoder),
    Lines(lines::Decoder),
}

/// The half of a [`Transcoder`] that a decoder's events go to.
struct ClientSide {
    mend: Mend,
    output: Output,
    encoder: Box<dyn Encode>,
    outcome: Outcome,
}

/// What is written for the client.
enum Output {
    /// The encoder's stream.
    Stream,
    /// The encoder's document, once everything is here.
    Document(Answer),
    /// The upstream's own frames; the decoder only listens.
    Relay {
        /// The client's name of the model, if the upstream's is another.
        model: Option<String>,
        /// The frames that the client got, so that a failure can be told behind them.
        frames: u64,
        /// The id of the answer that the client got.
        id: String,
    },
}

/// What became of a reply, for logs, metrics and the decision between a status and an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Token counts.
    pub usage: Option<Usage>,
    /// Why the answer ended.
    pub stop: Option<Stop>,
    /// How it failed.
    pub failure: Option<Failure>,
    /// Parts that began: as long as there is none, a failure can still be an HTTP status.
    pub parts: u32,
    /// Frames that were no JSON, and were passed over.
    pub bad_frames: u32,
}

impl Outcome {
    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Open { .. } => self.parts += 1,
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop(stop) => self.stop = Some(*stop),
            Event::Fail(failure) => self.failure = Some((*failure).clone()),
            _ => {}
        }
    }
}

impl std::fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transcoder").field("outcome", self.outcome()).finish_non_exhaustive()
    }
}

impl Transcoder {
    /// Translates a reply of form `from` into one of form `to`. `frame_bytes_max` bounds one event
    /// of a stream, and a whole document.
    #[must_use]
    pub fn new(
        decoder: Box<dyn Decode>,
        encoder: Box<dyn Encode>,
        from: Form,
        to: Form,
        frame_bytes_max: usize,
    ) -> Self {
        let output = match to {
            Form::Stream | Form::Lines => Output::Stream,
            Form::Document => Output::Document(Answer::default()),
        };
        let (mend, outcome) = Default::default();
        let side = ClientSide { mend, output, encoder, outcome };
        let framing = match from {
            Form::Lines => Framing::Lines(lines::Decoder::default()),
            Form::Stream | Form::Document => Framing::Events(sse::Decoder::default()),
        };
        Self { framing, learned: Learned::default(), from, decoder, side, frame_bytes_max }
    }

    /// Passes a reply through in its own dialect and form, but for the model's name if `model` is
    /// given. The encoder only writes keep-alives and failures.
    #[must_use]
    pub fn relay(
        decoder: Box<dyn Decode>,
        encoder: Box<dyn Encode>,
        form: Form,
        model: Option<String>,
        frame_bytes_max: usize,
    ) -> Self {
        let mut relay = Self::new(decoder, encoder, form, form, frame_bytes_max);
        relay.side.output = Output::Relay { model, frames: 0, id: String::new() };
        relay
    }

    /// The same, with every frame read in full: what recognising frames is compared with.
    #[doc(hidden)]
    #[must_use]
    pub fn without_learning(mut self) -> Self {
        self.learned = Learned::never();
        self
    }

    /// Takes whole frames off the front of `input`, appends what they are for the client, and
    /// returns how many bytes it used; the rest must come again with more behind it. A document is
    /// used only by [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Kind::TooLarge`] of the upstream's when a frame or document exceeds its limit; the caller
    /// goes on with [`fail`](Self::fail).
    pub fn push(&mut self, input: &[u8], now_s: u64, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let used = match self.from {
            Form::Stream => self.push_events(input, now_s, out),
            Form::Lines => self.push_lines(input, now_s, out),
            Form::Document => 0,
        };
        if !self.decoder.is_done() && input.len() - used > self.frame_bytes_max {
            return Err(Fault::upstream(Kind::TooLarge));
        }
        Ok(used)
    }

    fn push_events(&mut self, input: &[u8], now_s: u64, out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while !self.decoder.is_done()
            && let Framing::Events(frames) = &mut self.framing
        {
            if frames.block_bytes().is_some_and(|seen| seen <= LOOKED_AT_AGAIN_MAX)
                && let Some(hit) = self.learned.find(&input[used..])
            {
                frames.skip_block();
                used += hit.whole.len();
                self.side.sink(now_s, out).again(&mut *self.decoder, hit);
                continue;
            }
            let (step, bytes) = frames.step(&input[used..]);
            let whole = &input[used..used + bytes];
            match step {
                Step::NeedMore => break,
                Step::Skip if matches!(self.side.output, Output::Relay { .. }) => {
                    out.extend_from_slice(whole);
                }
                Step::Skip => {}
                Step::Frame(frame) => {
                    let mut sink = self.side.sink(now_s, out);
                    if sink.frame(&mut *self.decoder, frame, whole).is_err() {
                        self.side.outcome.bad_frames += 1;
                    }
                    let place = place_of(frame.data, whole).map(|place| place.start);
                    self.learned.learn(self.decoder.pattern(), place, whole);
                    if self.learned.is_active()
                        && let Output::Relay { model: Some(_), .. } = self.side.output
                        && let Some(span) = model_span(whole)
                    {
                        self.learned.mark_model(&span);
                    }
                }
            }
            used += bytes;
        }
        used
    }

    fn push_lines(&mut self, input: &[u8], now_s: u64, out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while !self.decoder.is_done()
            && let Framing::Lines(lines) = &mut self.framing
            && let Some((line, bytes)) = lines.step(&input[used..])
        {
            used += bytes;
            self.line(line, now_s, out);
        }
        used
    }

    /// No more bytes come, however that came about: where lines are read, what
    /// [`push`](Self::push) left is the last one, though its end is missing.
    pub fn push_last(&mut self, rest: &[u8], now_s: u64, out: &mut Vec<u8>) {
        if !self.decoder.is_done()
            && let Framing::Lines(lines) = &mut self.framing
            && let Some(line) = lines.finish(rest)
        {
            self.line(line, now_s, out);
        }
    }

    fn line(&mut self, line: &[u8], now_s: u64, out: &mut Vec<u8>) {
        let mut sink = self.side.sink(now_s, out);
        let frame = Frame { name: b"", data: line };
        if sink.frame(&mut *self.decoder, frame, line).is_err() {
            self.side.outcome.bad_frames += 1;
        }
    }

    /// The body ended as its framing says; `rest` is what [`push`](Self::push) left. Appends the
    /// end of the client's reply: for a client that wants a document and a reply that failed,
    /// nothing (see [`outcome`](Self::outcome)).
    pub fn finish(&mut self, rest: &[u8], now_s: u64, out: &mut Vec<u8>) {
        self.push_last(rest, now_s, out);
        let mut sink = self.side.sink(now_s, out);
        if !self.decoder.is_done() {
            match self.from {
                Form::Stream | Form::Lines => {
                    if let Framing::Events(frames) = &mut self.framing
                        && let Step::Frame(frame) = frames.finish(rest)
                    {
                        sink.last_frame(&mut *self.decoder, frame, rest);
                    }
                    self.decoder.finish(&mut |event| match event {
                        // Nobody upstream has told the client of it.
                        Event::Fail(failure) => sink.failure(failure),
                        event => sink.event(event),
                    });
                }
                Form::Document => sink.document(&mut *self.decoder, rest),
            }
        }
        sink.end();
    }

    /// The body broke off or took too long. A reply whose terminal event came is whole all the
    /// same; any other ends with `failure`.
    pub fn fail(&mut self, failure: &Failure, now_s: u64, out: &mut Vec<u8>) {
        let mut sink = self.side.sink(now_s, out);
        if !self.decoder.is_done() {
            match self.from {
                Form::Document => sink.failure(failure),
                Form::Stream | Form::Lines => self.decoder.finish(&mut |event| match event {
                    // The decoder only knows that bytes are missing; the caller knows why.
                    Event::Fail(own) if own.fault.kind == Kind::Truncated => sink.failure(failure),
                    event => sink.event(event),
                }),
            }
        }
        sink.end();
    }

    /// Appends something that keeps a waiting client's idle timer from firing; nothing for a client
    /// that waits for a document.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>) {
        if !self.wants_document() {
            self.side.encoder.keep_alive(out);
        }
    }

    /// True once the answer's terminal event came: whatever follows in the body is not needed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// What is known of the answer so far.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.side.outcome
    }

    /// The failure, as long as it can still be told by an HTTP status: nothing of the answer came
    /// before it, or the client gets a document. What was appended to `out` is then void.
    #[must_use]
    pub fn early_failure(&self) -> Option<&Failure> {
        let early = self.side.outcome.parts == 0 || self.wants_document();
        self.side.outcome.failure.as_ref().filter(|_| early)
    }

    fn wants_document(&self) -> bool {
        match self.side.output {
            Output::Document(_) => true,
            Output::Stream => false,
            Output::Relay { .. } => self.from == Form::Document,
        }
    }
}

impl ClientSide {
    fn sink<'t>(&'t mut self, now_s: u64, out: &'t mut Vec<u8>) -> ClientSink<'t> {
        ClientSink { side: self, now_s, out }
    }
}

/// The client's side while something is written to it.
struct ClientSink<'t> {
    side: &'t mut ClientSide,
    now_s: u64,
    out: &'t mut Vec<u8>,
}

impl ClientSink<'_> {
    #[inline]
    fn event(&mut self, event: Event<'_>) {
        let ClientSide { mend, output, encoder, .. } = &mut *self.side;
        // Nearly every event is this one, and nothing else is to be known of it.
        if let (Event::Delta { part, text, logprobs: None }, Output::Stream) = (&event, &*output) {
            if let Some(text) = mend.delta(*text) {
                let event = Event::Delta { part: *part, text, logprobs: None };
                encoder.event(event, self.now_s, self.out);
            }
            return;
        }
        self.other(event);
    }

    fn other(&mut self, event: Event<'_>) {
        self.side.outcome.note(&event);
        let ClientSide { mend, output, encoder, .. } = &mut *self.side;
        match output {
            Output::Stream => mend.event(event, &mut |event| {
                encoder.event(event, self.now_s, self.out);
            }),
            Output::Document(answer) => mend.event(event, &mut |event| answer.push(event)),
            Output::Relay { id, .. } => {
                if let Event::Start { id: own, .. } = event {
                    own.raw().clone_into(id);
                }
            }
        }
    }

    /// Hands a frame to the decoder; `whole` is the frame as it came.
    fn frame(
        &mut self,
        decoder: &mut dyn Decode,
        frame: Frame<'_>,
        whole: &[u8],
    ) -> Result<(), Bad> {
        if let Output::Relay { model, frames, .. } = &mut self.side.output {
            *frames += 1;
            relay(whole, model.as_deref(), self.out);
        }
        let read = decoder.frame(frame, &mut |event| self.event(event));
        if decoder.is_done()
            && matches!(self.side.output, Output::Relay { .. })
            && whole.ends_with(b"\r")
        {
            // The LF of this CR is not waited for, and half a line end confuses some clients.
            self.out.push(b'\n');
        }
        read
    }

    /// As [`ClientSink::frame`], for a frame that was recognised.
    fn again(&mut self, decoder: &mut dyn Decode, hit: Hit<'_>) {
        if let Output::Relay { model, frames, .. } = &mut self.side.output {
            *frames += 1;
            relay_at(hit.whole, model.as_deref().zip(hit.model), self.out);
        }
        decoder.again(hit.text, &mut |event| self.event(event));
    }

    /// As [`ClientSink::frame`], for bytes that no blank line ends: they may be half a frame.
    fn last_frame(&mut self, decoder: &mut dyn Decode, frame: Frame<'_>, rest: &[u8]) {
        if frame.data.trim_ascii().is_empty() {
            // Cut in front of its data.
            return;
        }
        if decoder.frame(frame, &mut |event| self.event(event)).is_err() {
            self.side.outcome.bad_frames += 1;
        } else if let Output::Relay { model, frames, .. } = &mut self.side.output {
            *frames += 1;
            relay(rest.trim_ascii_end(), model.as_deref(), self.out);
            self.out.extend_from_slice(b"\n\n");
        }
    }

    fn document(&mut self, decoder: &mut dyn Decode, body: &[u8]) {
        let read = decoder.document(body, &mut |event| self.event(event));
        if let Err(bad) = read {
            let message = format!("the upstream's reply is not the JSON document expected: {bad}");
            self.failure(&Failure::new(Fault::upstream(Kind::BadReply), message));
        } else if let Output::Relay { model, .. } = &self.side.output
            && self.side.outcome.failure.is_none()
        {
            relay(body, model.as_deref(), self.out);
        }
    }

    /// Ends the answer with a failure that no decoder pushed.
    fn failure(&mut self, failure: &Failure) {
        self.event(Event::Fail(failure));
        if let Output::Relay { frames, id, .. } = &self.side.output {
            self.side.encoder.resume(*frames, Escaped::trusted(id));
            self.side.encoder.event(Event::Fail(failure), self.now_s, self.out);
        }
    }

    fn end(&mut self) {
        if let Output::Document(answer) = &self.side.output
            && answer.failure.is_none()
        {
            self.side.encoder.answer(answer, self.now_s, self.out);
        }
    }
}

/// Appends `bytes`, with the model's name in their JSON replaced if another is given.
fn relay(bytes: &[u8], model: Option<&str>, out: &mut Vec<u8>) {
    relay_at(bytes, model.and_then(|model| Some((model, model_span(bytes)?))), out);
}

/// Appends `bytes` with another model's name in the place given.
fn relay_at(bytes: &[u8], model: Option<(&str, Range<usize>)>, out: &mut Vec<u8>) {
    let Some((model, span)) = model else {
        out.extend_from_slice(bytes);
        return;
    };
    out.extend_from_slice(&bytes[..span.start]);
    json::escape(model, out);
    out.extend_from_slice(&bytes[span.end..]);
}

/// Where the model's name stands in a document, a chunk or an event: the member `model` of the
/// object or of its member `response`.
fn model_span(bytes: &[u8]) -> Option<Range<usize>> {
    let text = std::str::from_utf8(bytes).ok()?;
    memchr::memmem::find(bytes, b"\"model\"")?;
    let start = memchr::memchr(b'{', bytes)?;
    let mut span = None;
    let mut cursor = Cursor::new(&text[start..]);
    cursor
        .object(|key, cursor| match key {
            "model" => model_at(cursor, &mut span),
            "response" if cursor.kind()? == json::Kind::Object => {
                cursor.object(
                    |key, cursor| {
                        if key == "model" { model_at(cursor, &mut span) } else { Ok(()) }
                    },
                )
            }
            _ => Ok(()),
        })
        .ok()?;
    span.map(|Range { start: from, end }| start + from..start + end)
}

fn model_at(cursor: &mut Cursor<'_>, span: &mut Option<Range<usize>>) -> Result<(), Bad> {
    if let Some(name) = cursor.string_or_null()? {
        let end = cursor.position() - 1;
        *span = Some(end - name.raw().len()..end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_frame_keeps_every_byte_but_the_model() {
        let frame =
            b"event: response.created\ndata: {\"type\":\"x\",\"response\":{\"model\":\"up\",\
            \"metadata\":{\"model\":\"keep\"}}}\n\n";
        let mut out = Vec::new();
        relay(frame, Some("mine"), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("\"response\":{\"model\":\"mine\",\"metadata\":{\"model\":\"keep\"}}")
        );
        let mut same = Vec::new();
        relay(frame, None, &mut same);
        assert_eq!(same, frame);
    }
}
