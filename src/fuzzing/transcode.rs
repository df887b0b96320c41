//! Whole translations: any bytes of an upstream, any cut, any pair of dialects.

use super::frames;
use super::readers::{self, End, Seen, strict};
use super::sse::frames_slowly;
use crate::dialect::event::{CallKind, Event, Grammar, Part, Stop};
use crate::dialect::exec::Run;
use crate::dialect::ids::Ids;
use crate::dialect::mend::Mend;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::{Request, Tool, ToolKind, ToolName};
use crate::dialect::tools::ToolTable;
use crate::dialect::{self, Decode, Dialect, Encode, Reply, Sent, stops};
use crate::fault::{Failure, Fault, Kind};
use crate::transcode::{Form, Outcome, Transcoder};
use crate::wire::json::{Escaped, Raw};
use crate::wire::sse::Frame;

/// Large enough that no limit depends on the cut.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// Longer streams are cut into as many pieces instead: a fuzzer learns more from many short runs.
const BYTE_BY_BYTE_MAX: usize = 1024;

/// The dialect of runs of the Codex CLI.
const EXEC: &str = "codex-exec";

/// Unix time in seconds.
const NOW_S: u64 = 1_750_000_000;

/// What one byte of an upstream may become at most, and what any answer may have besides. A frame of
/// a few bytes can open an item, which is told of in five events and once more at the end.
const GROWTH_MAX: usize = 100;
const BESIDES_BYTES_MAX: usize = 64 << 10;

/// Who speaks what.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Setup {
    /// The upstream's dialect.
    pub upstream: &'static dyn Dialect,
    /// The client's dialect.
    pub client: &'static dyn Dialect,
    /// What the upstream sends.
    pub from: Form,
    /// What the client wants.
    pub to: Form,
    /// The client is the Codex CLI.
    pub codex: bool,
    /// The reply is passed on as it is, where dialects and forms are the same.
    pub relayed: bool,
    /// Answers may hold `<think>` tags, and reasoning is shown as raw text. A run of the Codex CLI tells
    /// of its work.
    pub thinking: bool,
    /// The text is cut at stop sequences. Of a run of the Codex CLI only the last message counts.
    pub stops: bool,
    /// What few clients do: another name of the model when relayed, `functions` and sealed reasoning
    /// in Chat, compaction in Responses.
    pub odd: bool,
}

impl Setup {
    /// A stream for a stream, between two dialects named as in [`dialect::by_name`].
    #[must_use]
    pub fn streams(upstream: &str, client: &str) -> Option<Self> {
        let (upstream, client) = (dialect::by_name(upstream)?, dialect::by_name(client)?);
        Some(Self {
            upstream,
            client,
            from: Form::Stream,
            to: Form::Stream,
            codex: false,
            relayed: false,
            thinking: false,
            stops: false,
            odd: false,
        })
    }

    fn chosen(upstream: &str, by: u8) -> Option<Self> {
        let client = if by & 2 == 0 { "chat" } else { "responses" };
        let form = |bit: u8| if by & bit == 0 { Form::Stream } else { Form::Document };
        let (mut from, to) = (form(4), form(8));
        if upstream == EXEC {
            from = Form::Lines;
        }
        Some(Self {
            from,
            to,
            codex: by & 16 != 0 && client == "responses",
            relayed: by & 1 != 0 && upstream == client && from == to,
            thinking: by & 32 != 0,
            stops: by & 64 != 0,
            odd: by & 128 != 0,
            ..Self::streams(upstream, client)?
        })
    }

    /// A decoder for a request that declared a function and a custom tool, both plain and wrapped.
    #[must_use]
    pub fn decoder(&self) -> Box<dyn Decode> {
        let mut tools = ToolTable::default();
        let named = |name| ToolName { namespace: Escaped::EMPTY, name: Escaped::trusted(name) };
        tools.add(CallKind::Function, false, named("shell"));
        tools.add(CallKind::Custom, true, named("apply_patch"));
        let run = Run {
            show_activity: Some(self.thinking),
            hide_reasoning: Some(self.odd),
            last_message: self.stops,
            ..Run::default()
        };
        let provider = "p".to_owned();
        let sent = Sent { tools, provider, run: Some(Box::new(run)), ..Sent::default() };
        let quirks =
            Quirks { think_tags: self.thinking, raw_reasoning: self.thinking, ..Quirks::default() };
        let decoder = self.upstream.decoder(sent, &quirks);
        if self.stops {
            stops::cut_at(Raw::trusted(r#"["END","\n\n\n","\ud83d\ude00"]"#), decoder)
        } else {
            decoder
        }
    }

    /// An encoder for a plain request.
    #[must_use]
    pub fn encoder(&self) -> Box<dyn Encode> {
        let chat = self.client.name() == "chat";
        let mut request = Request {
            model: Escaped::trusted("m"),
            stream: self.to == Form::Stream,
            include_usage: true,
            compact: self.odd && !chat,
            ..Request::default()
        };
        if self.odd && chat {
            request.settings.legacy_functions = true;
            request.settings.include_sealed = true;
        } else if self.thinking {
            request.tools.push(Tool {
                kind: ToolKind::Custom { syntax: None, grammar: None },
                name: ToolName { namespace: Escaped::EMPTY, name: Escaped::trusted("apply_patch") },
                description: None,
                raw: Raw::trusted("{}"),
            });
        }
        let ids = Ids::new(7);
        let reply = Reply { ids, created_at: NOW_S, codex: self.codex, done_marker: !self.codex };
        self.client.encoder(&request, reply)
    }

    /// A transcoder from the one to the other.
    #[must_use]
    pub fn transcoder(&self) -> Transcoder {
        let (decoder, encoder) = (self.decoder(), self.encoder());
        if self.relayed {
            let model = self.odd.then(|| "m".to_owned());
            return Transcoder::relay(decoder, encoder, self.from, model, FRAME_BYTES_MAX);
        }
        Transcoder::new(decoder, encoder, self.from, self.to, FRAME_BYTES_MAX)
    }

    /// Translates a reply that comes in pieces and ends in order.
    ///
    /// # Panics
    /// When the transcoder refuses to go on.
    #[must_use]
    pub fn run(&self, pieces: &[&[u8]]) -> (Vec<u8>, Outcome) {
        let (mut transcoder, waiting, mut out) = self.feed(pieces, false);
        transcoder.finish(&waiting, NOW_S, &mut out);
        (out, transcoder.outcome().clone())
    }

    /// Feeds pieces, and tells the client in between that it is not forgotten if `keep_alive`.
    fn feed(&self, pieces: &[&[u8]], keep_alive: bool) -> (Transcoder, Vec<u8>, Vec<u8>) {
        let mut transcoder = self.transcoder();
        let (mut waiting, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            match transcoder.push(&waiting, NOW_S, &mut out) {
                Ok(used) => drop(waiting.drain(..used)),
                Err(fault) => panic!("{fault}"),
            }
            if keep_alive && !transcoder.is_done() {
                transcoder.keep_alive(&mut out);
            }
        }
        (transcoder, waiting, out)
    }

    /// What a client understands of `out`, if a strict reader can tell.
    fn read(&self, out: &[u8]) -> Option<Seen> {
        match (self.to, self.client.name()) {
            _ if self.relayed => None,
            (Form::Document, _) => {
                if !out.is_empty() {
                    let _ = strict(out);
                }
                None
            }
            (_, "chat") => readers::chat(out),
            _ => readers::responses(out),
        }
    }
}

/// Replies of a Chat Completions upstream. The first byte chooses the set-up, the second the cuts, and
/// whether the others are the stream or stand for its frames.
///
/// # Panics
/// When a cut changes the translation, a decoder breaks the grammar of events, text or calls get
/// lost, an answer ends never or twice, or a client gets what a strict reader refuses.
pub fn chat_stream(bytes: &[u8]) {
    reply("chat", frames::chat, bytes);
}

/// The same for a Responses upstream.
///
/// # Panics
/// When a cut changes the translation, a decoder breaks the grammar of events, text or calls get
/// lost, an answer ends never or twice, or a client gets what a strict reader refuses.
pub fn responses_stream(bytes: &[u8]) {
    reply("responses", frames::responses, bytes);
}

/// The same for GigaChat; the other bytes are the stream.
///
/// # Panics
/// When a cut changes the translation, a decoder breaks the grammar of events, text or calls get
/// lost, an answer ends never or twice, or a client gets what a strict reader refuses.
pub fn gigachat_stream(bytes: &[u8]) {
    reply("gigachat", <[u8]>::to_vec, bytes);
}

/// The same for a run of the Codex CLI.
///
/// # Panics
/// When a cut changes the translation, a decoder breaks the grammar of events, text or calls get
/// lost, an answer ends never or twice, or a client gets what a strict reader refuses.
pub fn exec_stream(bytes: &[u8]) {
    reply(EXEC, frames::exec, bytes);
}

/// Translates a reply of `upstream` whole and cut, and broken off or with keep-alives between its
/// pieces.
fn reply(upstream: &str, frames: fn(&[u8]) -> Vec<u8>, bytes: &[u8]) {
    let Some((&[by, seed], script)) = bytes.split_first_chunk() else { return };
    let Some(setup) = Setup::chosen(upstream, by) else { return };
    let told_in_frames = seed & 128 != 0 && setup.from != Form::Document;
    let stream = if told_in_frames { &*frames(script) } else { script };
    let told = events(&setup, stream);
    let whole = setup.run(&[stream]);
    let (out, outcome) = &whole;
    assert!(outcome.stop.is_some() || outcome.failure.is_some(), "an answer without an end");
    let most = GROWTH_MAX * stream.len() + BESIDES_BYTES_MAX;
    assert!(out.len() <= most, "{} bytes became {}", stream.len(), out.len());
    let seen = setup.read(out);
    if let Some(seen) = &seen {
        ended(seen, outcome);
        if !setup.odd && outcome.failure.is_none() && seen.end == End::Whole {
            understood(&setup, seen, &told, outcome);
        }
    }
    if setup.relayed && !setup.odd && outcome.failure.is_none() && setup.from == Form::Stream {
        let out = out.trim_ascii_end();
        assert!(stream.starts_with(out), "relayed: {}", out.escape_ascii());
    }
    // One way of each kind a run: a fuzzer learns more from many short runs.
    let at = usize::from(seed) * 257 % (stream.len() + 1);
    let pieces: Vec<&[u8]> = match seed % 3 {
        0 => stream.chunks(1 + stream.len() / BYTE_BY_BYTE_MAX).collect(),
        1 => cut(stream, u64::from(seed)),
        _ => vec![&stream[..at], &stream[at..]],
    };
    assert_same(&setup.run(&pieces), &whole, "cut");
    if seed & 64 == 0 {
        broken_off(&setup, &stream[..at]);
    } else {
        let (mut kept, waiting, mut out) = setup.feed(&pieces, true);
        kept.finish(&waiting, NOW_S, &mut out);
        assert_eq!(setup.read(&out), seen, "with keep-alives");
    }
}

/// The stream is cut by the network, here: no success, unless its terminal event came.
fn broken_off(setup: &Setup, front: &[u8]) {
    let (mut transcoder, _, mut out) = setup.feed(&[front], false);
    let done = transcoder.is_done();
    let failure = Failure::new(Fault::upstream(Kind::Truncated), "the connection broke");
    transcoder.fail(&failure, NOW_S, &mut out);
    let outcome = transcoder.outcome();
    assert!(outcome.failure.is_some() || outcome.stop.is_some(), "an answer without an end");
    if !done && setup.from == Form::Document {
        assert_eq!(outcome.failure.as_ref(), Some(&failure));
    }
    if let Some(seen) = setup.read(&out) {
        ended(&seen, outcome);
    }
}

/// The client's end is that of the answer.
fn ended(seen: &Seen, outcome: &Outcome) {
    match (seen.end, &outcome.failure) {
        (End::Missing, _) => panic!("a stream without its end"),
        (End::Whole, failure) => assert_eq!(failure, &None, "a failure told as a success"),
        // A call that a limit cut is a failure to the Codex CLI.
        (End::Failed, Some(_)) => {}
        (End::Failed, None) => assert!(outcome.stop.is_some()),
    }
}

/// What the decoder said is what the client sees.
fn understood(setup: &Setup, seen: &Seen, told: &Seen, outcome: &Outcome) {
    let chat = setup.client.name() == "chat";
    // Messages, and parts of a summary, stand apart in Chat.
    let close = |text: &str| if chat { text.replace("\n\n", "") } else { text.to_owned() };
    assert_eq!(close(&seen.text), close(&told.text));
    assert_eq!(close(&seen.reasoning), close(&told.reasoning));
    // The last call may be cut by a limit.
    let cut = usize::from(!matches!(outcome.stop, Some(Stop::End | Stop::Tool)));
    let whole = told.calls.len().saturating_sub(cut);
    assert!(seen.calls.len() >= whole && seen.calls.len() <= told.calls.len());
    for (seen, told) in seen.calls.iter().zip(&told.calls).take(whole) {
        let wrapped = || serde_json::from_str::<serde_json::Value>(seen).unwrap_or_default();
        let same = seen == told || (told.is_empty() && seen == "{}");
        assert!(same || (chat && wrapped()["input"] == **told), "{seen} is not {told}");
    }
}

fn assert_same(found: &(Vec<u8>, Outcome), expected: &(Vec<u8>, Outcome), how: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&found.0), text(&expected.0), "{how}");
    assert_eq!(found.1, expected.1, "{how}");
}

/// Cuts into pieces of up to 64 bytes.
#[must_use]
pub fn cut(mut bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let (mut pieces, mut random) = (Vec::new(), seed);
    while !bytes.is_empty() {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let length = usize::try_from(random >> 58).unwrap_or(0) + 1;
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The decoder's events keep the grammar, whatever comes. Returns what they say.
fn events(setup: &Setup, stream: &[u8]) -> Seen {
    let (mut decoder, mut grammar) = (setup.decoder(), Grammar::default());
    let searches = setup.client.name() == "chat";
    let (mut mend, mut told) = (Mend::default(), Told { searches, ..Told::default() });
    let mut sink = |event: Event<'_>| {
        if let Err(rule) = grammar.check(&event) {
            panic!("{rule}: {event:?}");
        }
        mend.event(event, &mut |event| told.event(&event));
    };
    match setup.from {
        Form::Stream => {
            for frame in frames_slowly(stream) {
                // A frame that is no JSON is passed over.
                let _ = decoder.frame(Frame { name: &frame.name, data: &frame.data }, &mut sink);
            }
            decoder.finish(&mut sink);
            assert!(grammar.is_over(), "the stream ended, the answer did not");
        }
        Form::Lines => {
            for line in stream.split(|byte| *byte == b'\n') {
                // As with frames.
                let _ = decoder.frame(Frame { name: b"", data: line }, &mut sink);
            }
            decoder.finish(&mut sink);
            assert!(grammar.is_over(), "the lines ended, the answer did not");
        }
        Form::Document => {
            if decoder.document(stream, &mut sink).is_ok() {
                assert!(grammar.is_over(), "the document ended, the answer did not");
            }
        }
    }
    told.seen
}

/// Collects what events say, in plain text.
#[derive(Default)]
struct Told {
    /// A search of tools is a call like any other to the client.
    searches: bool,
    open: Option<Shown>,
    seen: Seen,
}

enum Shown {
    Text,
    Reasoning,
    Call,
    Nothing,
}

impl Told {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Open { kind, .. } => {
                self.open = Some(match kind {
                    Part::Text { .. } | Part::Refusal { .. } => Shown::Text,
                    Part::Reasoning { .. } => Shown::Reasoning,
                    Part::Call(call) if call.kind == CallKind::Search && !self.searches => {
                        Shown::Nothing
                    }
                    Part::Call(_) => {
                        self.seen.calls.push(String::new());
                        Shown::Call
                    }
                    Part::Opaque { .. } => Shown::Nothing,
                });
            }
            Event::Delta { text, .. } => {
                let plain = text.decode();
                match self.open {
                    Some(Shown::Text) => self.seen.text.push_str(&plain),
                    Some(Shown::Reasoning) => self.seen.reasoning.push_str(&plain),
                    Some(Shown::Call) => {
                        self.seen.calls.last_mut().into_iter().for_each(|c| c.push_str(&plain));
                    }
                    Some(Shown::Nothing) | None => {}
                }
            }
            _ => {}
        }
    }
}
