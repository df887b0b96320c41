//! Whole translations: any bytes of an upstream, any cut, any pair of dialects.

use super::sse::frames_slowly;
use crate::dialect::event::{CallKind, Grammar};
use crate::dialect::ids::Ids;
use crate::dialect::quirks::Quirks;
use crate::dialect::request::{Request, ToolName};
use crate::dialect::tools::ToolTable;
use crate::dialect::{self, Decode, Dialect, Encode, Reply, Sent};
use crate::transcode::{Form, Outcome, Transcoder};
use crate::wire::json::Escaped;
use crate::wire::sse::Frame;

/// Large enough that no limit depends on the cut.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// Unix time in seconds.
const NOW_S: u64 = 1_750_000_000;

/// Who speaks what.
#[derive(Clone, Copy, Debug)]
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
}

impl Setup {
    /// A stream for a stream, between two dialects named as in [`dialect::by_name`].
    #[must_use]
    pub fn streams(upstream: &str, client: &str) -> Option<Self> {
        let (upstream, client) = (dialect::by_name(upstream)?, dialect::by_name(client)?);
        Some(Self { upstream, client, from: Form::Stream, to: Form::Stream, codex: false })
    }

    fn chosen(by: u8) -> Option<Self> {
        let side = |bit: u8| if by & bit == 0 { "chat" } else { "responses" };
        let form = |bit: u8| if by & bit == 0 { Form::Stream } else { Form::Document };
        let streams = Self::streams(side(1), side(2))?;
        Some(Self { from: form(4), to: form(8), codex: by & 16 != 0, ..streams })
    }

    /// A decoder for a request that declared a function and a custom tool, both plain and wrapped.
    #[must_use]
    pub fn decoder(&self) -> Box<dyn Decode> {
        let mut tools = ToolTable::default();
        let named = |name| ToolName { namespace: Escaped::EMPTY, name: Escaped::trusted(name) };
        tools.add(CallKind::Function, false, named("shell"));
        tools.add(CallKind::Custom, true, named("apply_patch"));
        let sent = Sent { tools, provider: "p".to_owned(), ..Sent::default() };
        self.upstream.decoder(sent, &Quirks::default())
    }

    /// An encoder for a plain request.
    #[must_use]
    pub fn encoder(&self) -> Box<dyn Encode> {
        let stream = self.to == Form::Stream;
        let request = Request {
            model: Escaped::trusted("m"),
            stream,
            include_usage: true,
            ..Request::default()
        };
        let ids = Ids::new(7);
        let reply = Reply { ids, created_at: NOW_S, codex: self.codex, done_marker: !self.codex };
        self.client.encoder(&request, reply)
    }

    /// A transcoder from the one to the other.
    #[must_use]
    pub fn transcoder(&self) -> Transcoder {
        let (decoder, encoder) = (self.decoder(), self.encoder());
        Transcoder::new(decoder, encoder, self.from, self.to, FRAME_BYTES_MAX)
    }

    /// Translates a reply that comes in pieces and ends in order.
    ///
    /// # Panics
    /// When the transcoder refuses to go on.
    #[must_use]
    pub fn run(&self, pieces: &[&[u8]]) -> (Vec<u8>, Outcome) {
        let mut transcoder = self.transcoder();
        let (mut waiting, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            match transcoder.push(&waiting, NOW_S, &mut out) {
                Ok(used) => drop(waiting.drain(..used)),
                Err(fault) => panic!("{fault}"),
            }
        }
        transcoder.finish(&waiting, NOW_S, &mut out);
        (out, transcoder.outcome().clone())
    }
}

/// The first byte chooses the dialects and forms, the second the cuts; the rest is the reply.
///
/// # Panics
/// When a cut changes the translation, a decoder breaks the grammar of events, or a client gets
/// what a strict reader refuses.
pub fn reply(bytes: &[u8]) {
    let Some((&[by, seed], stream)) = bytes.split_first_chunk() else { return };
    let Some(setup) = Setup::chosen(by) else { return };
    events(&setup, stream);
    let (out, outcome) = setup.run(&[stream]);
    assert!(outcome.stop.is_some() || outcome.failure.is_some(), "an answer without an end");
    readable(&out, setup.to);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_same(&setup.run(&single), &(out.clone(), outcome.clone()), "byte by byte");
    for cut in 1..4usize {
        let at = (usize::from(seed) * 257 * cut) % (stream.len() + 1);
        let (front, back) = stream.split_at(at);
        assert_same(&setup.run(&[front, back]), &(out.clone(), outcome.clone()), "cut in two");
    }
}

fn assert_same(found: &(Vec<u8>, Outcome), expected: &(Vec<u8>, Outcome), how: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&found.0), text(&expected.0), "{how}");
    assert_eq!(found.1, expected.1, "{how}");
}

/// The decoder's events keep the grammar, whatever comes.
fn events(setup: &Setup, stream: &[u8]) {
    let (mut decoder, mut grammar) = (setup.decoder(), Grammar::default());
    let mut sink = |event: dialect::event::Event<'_>| {
        if let Err(rule) = grammar.check(&event) {
            panic!("{rule}: {event:?}");
        }
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
        Form::Document => {
            if decoder.document(stream, &mut sink).is_ok() {
                assert!(grammar.is_over(), "the document ended, the answer did not");
            }
        }
    }
}

/// What goes to a client is JSON in UTF-8 to a strict reader.
fn readable(out: &[u8], form: Form) {
    let strict = |bytes: &[u8]| match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(_) => {}
        // Numbers are passed on as they came; this one is JSON all the same.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => panic!("{error}: {}", bytes.escape_ascii()),
    };
    match form {
        Form::Document if out.is_empty() => {}
        Form::Document => strict(out),
        Form::Stream => {
            assert!(out.is_empty() || out.ends_with(b"\n\n"), "frames are whole");
            let frames = frames_slowly(out);
            frames.iter().filter(|frame| frame.data != b"[DONE]").for_each(|f| strict(&f.data));
        }
    }
}
