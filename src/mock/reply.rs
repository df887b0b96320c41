//! The bytes of an answer, made once for each script and form by the proxy's own encoder, and where
//! in them each answer differs from the next.

use super::script::{STAMP_BLANK, Script};
use super::wire::{Form, MODEL, Wire};
use crate::dialect::event::{Call, CallKind, Event, Part, Stop, Usage};
use crate::dialect::fold::Answer;
use crate::dialect::ids::Ids;
use crate::dialect::{Encode, Reply as Start};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Escaped};
use memchr::memmem;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What the prompt is said to have had.
pub const PROMPT_TOKENS: u64 = 16;

/// What a delta costs besides its text, at least.
const FRAME_BYTES: u64 = 180;
/// A time that every answer is made with and that is put right when it is sent: 2099, ten digits.
const CREATED: u64 = 4_102_444_799;
/// Where the ids of every answer come from; the first half of each is put right when it is sent.
const IDS_SEED: u64 = 0x6d6f_636b;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// What decides the bytes of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) wire: Wire,
    pub(super) form: Form,
    script: Script,
}

impl Key {
    pub(super) fn new(wire: Wire, form: Form, script: &Script) -> Self {
        // When bytes go out does not change them.
        let usual = Script::default();
        let (first, pace) = (Duration::ZERO, Duration::ZERO);
        let (frames, slice) = (usual.frames, usual.slice);
        let one = wire == Wire::GigaChat || form.legacy;
        let calls = if one { script.calls.min(1) } else { script.calls };
        Self { wire, form, script: Script { first, pace, frames, slice, calls, ..*script } }
    }
}

/// One server-sent event, or a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it ends.
    pub(super) end: u32,
    /// Deltas up to here.
    pub(super) deltas: u32,
}

/// A place that is written anew each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) at: u32,
    pub(super) holds: Holds,
}

/// What stands at a [`Site`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Sixteen hexadecimal digits that no other answer has.
    Id,
    /// The time in seconds since 1970, ten digits.
    Created,
    /// The time in microseconds at which this text delta was first sent, sixteen digits.
    Stamp(u32),
}

impl Site {
    /// The bytes that it takes.
    pub(super) fn range(self) -> Range<usize> {
        let length = if self.holds == Holds::Created { 10 } else { 16 };
        let at = self.at as usize;
        at..at + length
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) stream: bool,
    /// Seconds for `Retry-After`.
    pub(super) retry_after: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<Frame>,
    /// In the order of their places.
    pub(super) sites: Vec<Site>,
    /// Text deltas with a stamp.
    pub(super) stamps: u32,
    /// The connection ends behind the bytes, though the answer does not.
    pub(super) cut: bool,
    /// The body's length as it is announced; more than there is when it is cut.
    pub(super) length: usize,
}

/// How far a script lets its text come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Fail,
    Cut,
}

/// The text deltas that are sent, and what follows them.
fn extent(script: &Script) -> (u32, End) {
    let all = script.deltas;
    match (script.fail_after, script.cut_after) {
        (Some(fail), cut) if cut.is_none_or(|cut| fail <= cut) => (fail.min(all), End::Fail),
        (_, Some(cut)) => (cut.min(all), End::Cut),
        _ => (all, End::Whole),
    }
}

impl Reply {
    /// Makes the answer, of at most so many bytes.
    ///
    /// # Errors
    /// It would be larger.
    pub(super) fn new(key: &Key, bytes_max: usize) -> Result<Self, Failure> {
        let script = &key.script;
        if script.status != 0 {
            return Ok(Self::error(key, &key.wire.failure(script.status)));
        }
        let (deltas, end) = extent(script);
        if end == End::Fail && !key.form.stream {
            // Nothing was sent yet that a status could not take back.
            return Ok(Self::error(key, &failure(deltas)));
        }
        let mut maker = Maker::new(key);
        let fits = weight(key) <= bytes_max as u64
            && match key.form.stream {
                true => maker.stream(deltas, end, bytes_max),
                false => maker.document(deltas, end),
            };
        if fits {
            Ok(maker.finish(end == End::Cut, deltas))
        } else {
            Err(too_large(script, bytes_max))
        }
    }

    fn error(key: &Key, failure: &Failure) -> Self {
        let mut bytes = Vec::new();
        key.wire.envelope(failure, &mut bytes);
        let status = failure.status();
        Self {
            status,
            stream: false,
            retry_after: matches!(status, 429 | 503),
            frames: vec![Frame { end: offset(bytes.len()), deltas: 0 }],
            sites: Vec::new(),
            stamps: 0,
            cut: false,
            length: bytes.len(),
            bytes,
        }
    }

    /// Whether a stamp stands in more than one place, as in a stream whose end repeats the text.
    pub(super) fn repeats_stamps(&self) -> bool {
        let stamps = self.sites.iter().filter(|site| matches!(site.holds, Holds::Stamp(_)));
        stamps.count() > self.stamps as usize
    }
}

/// The failure that `fail_after` makes.
fn failure(deltas: u32) -> Failure {
    let words = format!("the script ends here, behind {deltas} text deltas (fail_after)");
    Failure::new(Fault::upstream(Kind::Server), words)
}

/// What the answer takes at least, so that nothing is begun that memory cannot hold.
fn weight(key: &Key) -> u64 {
    let script = &key.script;
    let repeats = if matches!(key.wire, Wire::Responses | Wire::Codex) { 4 } else { 0 };
    let stamp = if script.stamp { STAMP_BLANK.len() as u64 } else { 0 };
    let call_deltas = u64::from(script.calls) * u64::from(script.call_deltas);
    let pieces = u64::from(script.deltas) + u64::from(script.reasoning) + call_deltas;
    let text = u64::from(script.bytes).max(stamp) * (1 + repeats);
    pieces.saturating_mul(text + FRAME_BYTES)
}

fn too_large(script: &Script, bytes_max: usize) -> Failure {
    let max = bytes_max >> 20;
    let Script { deltas, bytes, reasoning, calls, call_deltas, .. } = script;
    Failure::bad_request(format!(
        "an answer with deltas={deltas},bytes={bytes},reasoning={reasoning},calls={calls},\
         call_deltas={call_deltas} would be larger than {max} MiB, the most that is made here"
    ))
}

/// Offsets fit: the largest answer is far below 4 GiB.
fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// An answer while it is made.
struct Maker<'k> {
    key: &'k Key,
    encoder: Box<dyn Encode>,
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    length: Option<usize>,
}

impl<'k> Maker<'k> {
    fn new(key: &'k Key) -> Self {
        let ids = Ids::new(IDS_SEED);
        let start = Start { ids, created_at: CREATED, codex: false, done_marker: true };
        let encoder = key.wire.encoder(&key.form, start);
        Self { key, encoder, bytes: Vec::new(), frames: Vec::new(), length: None }
    }

    /// Whether it came to its end within its bounds.
    fn stream(&mut self, deltas: u32, end: End, bytes_max: usize) -> bool {
        let (mut count, mut from) = (0, 0);
        let (bytes, frames, encoder) = (&mut self.bytes, &mut self.frames, &mut self.encoder);
        tell(self.key, deltas, end, &mut |event| {
            encoder.event(event, CREATED, bytes);
            let fresh = bytes.get(from..).unwrap_or_default();
            for at in memmem::find_iter(fresh, b"\n\n") {
                frames.push(Frame { end: offset(from + at + 2), deltas: count });
            }
            if bytes.len() > from
                && matches!(event, Event::Delta { .. })
                && let Some(last) = frames.last_mut()
            {
                count += 1;
                last.deltas = count;
            }
            from = bytes.len();
            from <= bytes_max
        })
    }

    fn document(&mut self, deltas: u32, end: End) -> bool {
        let document = |deltas| {
            let mut answer = Answer::default();
            tell(self.key, deltas, End::Whole, &mut |event| {
                answer.push(event);
                true
            });
            let mut bytes = Vec::new();
            let start = Start {
                ids: Ids::new(IDS_SEED),
                created_at: CREATED,
                codex: false,
                done_marker: true,
            };
            let mut encoder = self.key.wire.encoder(&self.key.form, start);
            encoder.answer(&answer, CREATED, &mut bytes);
            bytes
        };
        self.bytes = document(self.key.script.deltas);
        if end == End::Cut {
            // It ends where the answer with fewer deltas goes on differently.
            let shorter = document(deltas);
            let same = self.bytes.iter().zip(&shorter).take_while(|(a, b)| a == b).count();
            self.length = Some(self.bytes.len());
            self.bytes.truncate(same.min(self.bytes.len().saturating_sub(1)));
        }
        self.frames = vec![Frame { end: offset(self.bytes.len()), deltas: 0 }];
        true
    }

    fn finish(self, cut: bool, deltas: u32) -> Reply {
        let script = &self.key.script;
        let stamps = if script.stamp { deltas } else { 0 };
        let parts = script.calls as usize + 2;
        let sites = sites(&self.bytes, stamps, parts);
        Reply {
            status: 200,
            stream: self.key.form.stream,
            retry_after: false,
            length: self.length.unwrap_or(self.bytes.len()),
            frames: self.frames,
            sites,
            stamps,
            cut,
            bytes: self.bytes,
        }
    }
}

/// The ids that calls are given.
fn call_ids() -> Ids {
    Ids::new(!IDS_SEED)
}

/// Finds what is written anew each time in the bytes of an answer with so many parts at most.
fn sites(bytes: &[u8], stamps: u32, parts: usize) -> Vec<Site> {
    let mut sites = Vec::new();
    let mut add = |at: usize, holds| sites.push(Site { at: offset(at), holds });
    if stamps > 0 {
        let found = memmem::find_iter(bytes, STAMP_BLANK.as_bytes());
        // The whole text comes again as often as the wire API likes, all of it.
        for (at, delta) in found.zip((0..stamps).cycle()) {
            add(at + 1, Holds::Stamp(delta));
        }
    }
    for at in memmem::find_iter(bytes, CREATED.to_string().as_bytes()) {
        add(at, Holds::Created);
    }
    let (mut own, mut calls) = (Ids::new(IDS_SEED), call_ids());
    let known: HashSet<String> = (0..=parts).flat_map(|_| [own.make(""), calls.make("")]).collect();
    for at in memchr::memchr2_iter(b'-', b'_', bytes).map(|at| at + 1) {
        let digits = bytes.get(at..at + ID_DIGITS).and_then(|it| std::str::from_utf8(it).ok());
        if digits.is_some_and(|digits| known.contains(digits)) {
            add(at, Holds::Id);
        }
    }
    sites.sort_unstable_by_key(|site| site.at);
    sites
}

/// Tells the events of an answer until `sink` says that it is enough; whether it never did.
fn tell(key: &Key, deltas: u32, end: End, sink: &mut dyn FnMut(Event<'_>) -> bool) -> bool {
    told(key, deltas, end, sink).is_some()
}

fn told(key: &Key, deltas: u32, end: End, sink: &mut dyn FnMut(Event<'_>) -> bool) -> Option<()> {
    let script = &key.script;
    let mut push = |event: Event<'_>| sink(event).then_some(());
    push(Event::Start { id: Escaped::EMPTY, model: Escaped::trusted(MODEL) })?;
    let mut text = Text::default();
    let mut part = 0;
    if script.reasoning > 0 {
        push(Event::Open { part, kind: Part::Reasoning { raw: false } })?;
        for index in 0..script.reasoning {
            text.push(part, |out| script.reasoning_delta(index, out), &mut push)?;
        }
        push(Event::Close { part })?;
        part += 1;
    }
    if deltas > 0 {
        push(Event::Open { part, kind: Part::Text { message: 0 } })?;
        for index in 0..deltas {
            text.push(part, |out| delta(key, index, out), &mut push)?;
        }
    }
    match end {
        End::Whole => {}
        End::Fail => return push(Event::Fail(&failure(deltas))),
        End::Cut => return Some(()),
    }
    if deltas > 0 {
        push(Event::Close { part })?;
        part += 1;
    }
    let mut ids = call_ids();
    for (index, part) in (0..script.calls).zip(part..) {
        let id = ids.make("call_");
        let call = Call {
            kind: CallKind::Function,
            id: Escaped::trusted(&id),
            namespace: Escaped::EMPTY,
            name: Escaped::trusted(&key.form.tool),
        };
        push(Event::Open { part, kind: Part::Call(call) })?;
        for piece in arguments(key, index) {
            text.push(part, |out| out.push_str(&piece), &mut push)?;
        }
        push(Event::Close { part })?;
    }
    push(Event::Usage(usage(script)))?;
    push(Event::Stop(if script.calls > 0 { Stop::Tool } else { Stop::End }))
}

/// Appends text delta `index`: the script's words, or a scene's.
fn delta(key: &Key, index: u32, out: &mut String) {
    match &key.form.line {
        None => key.script.delta(index, out),
        Some(line) => out.push_str(line.pieces.get(index as usize).map_or("", String::as_str)),
    }
}

/// The arguments of call `index`, in pieces.
fn arguments(key: &Key, index: u32) -> Vec<String> {
    match &key.form.line {
        None => key.script.arguments(index),
        Some(line) => line.call.iter().map(|(_, arguments)| arguments.clone()).collect(),
    }
}

/// The token counts of an answer: a delta counts as a token.
fn usage(script: &Script) -> Usage {
    let reasoning = u64::from(script.reasoning);
    let calls = u64::from(script.calls) * u64::from(script.call_deltas);
    let output = u64::from(script.deltas) + reasoning + calls;
    let total = PROMPT_TOKENS + output;
    Usage { input: PROMPT_TOKENS, output, reasoning, total, ..Usage::default() }
}

/// A delta's text, and what it is between quotes.
#[derive(Default)]
struct Text {
    plain: String,
    escaped: Vec<u8>,
}

impl Text {
    fn push(
        &mut self,
        part: u32,
        write: impl FnOnce(&mut String),
        sink: &mut dyn FnMut(Event<'_>) -> Option<()>,
    ) -> Option<()> {
        self.plain.clear();
        write(&mut self.plain);
        if self.plain.is_empty() {
            return Some(());
        }
        self.escaped.clear();
        json::escape(&self.plain, &mut self.escaped);
        // Escaping keeps UTF-8.
        let text = Escaped::trusted(std::str::from_utf8(&self.escaped).unwrap_or_default());
        sink(Event::Delta { part, text, logprobs: None })
    }
}

/// The answers that were made, so that each is made once.
#[derive(Debug)]
pub(super) struct Cache {
    replies: HashMap<Key, Arc<Reply>>,
    bytes: usize,
    replies_max: usize,
    bytes_max: usize,
    answer_bytes_max: usize,
}

impl Cache {
    /// A cache of so many answers of so many bytes, none of which is larger than the last number.
    pub(super) fn new(replies_max: usize, bytes_max: usize, answer_bytes_max: usize) -> Self {
        Self { replies: HashMap::new(), bytes: 0, replies_max, bytes_max, answer_bytes_max }
    }

    /// The answer of a key.
    ///
    /// # Errors
    /// It would be too large.
    pub(super) fn reply(&mut self, key: Key) -> Result<Arc<Reply>, Failure> {
        if let Some(reply) = self.replies.get(&key) {
            return Ok(Arc::clone(reply));
        }
        let reply = Arc::new(Reply::new(&key, self.answer_bytes_max)?);
        let bytes = reply.bytes.len();
        if self.replies.len() >= self.replies_max || self.bytes + bytes > self.bytes_max {
            // Whoever sends that many different scripts does not repeat them.
            self.replies.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.replies.insert(key, Arc::clone(&reply));
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcode::{Form as Shape, Transcoder};

    fn key(wire: Wire, stream: bool, script: &str) -> Key {
        let form = Form { stream, tool: "look".to_owned(), ..Form::default() };
        Key::new(wire, form, &script.parse().unwrap())
    }

    #[test]
    fn frames_and_sites_are_where_they_should_be() {
        for wire in Wire::ALL {
            let reply =
                Reply::new(&key(wire, true, "deltas=5,stamp=true,bytes=20,calls=1"), 1 << 20)
                    .unwrap();
            let bytes = &reply.bytes;
            let mut start = 0;
            for frame in &reply.frames {
                let text = std::str::from_utf8(&bytes[start..frame.end as usize]).unwrap();
                assert!(text.ends_with("\n\n") && text.matches("\n\n").count() == 1, "{text}");
                start = frame.end as usize;
            }
            assert_eq!(start, bytes.len());
            assert!(reply.sites.is_sorted_by_key(|site| site.at));
            let stamps =
                |delta| reply.sites.iter().filter(|site| site.holds == Holds::Stamp(delta)).count();
            let repeats = if matches!(wire, Wire::Chat | Wire::GigaChat) { 1 } else { 5 };
            assert!((0..5).all(|delta| stamps(delta) == repeats), "{wire:?}");
            assert_eq!(reply.repeats_stamps(), repeats > 1);
            for site in &reply.sites {
                let text = std::str::from_utf8(&bytes[site.range()]).unwrap();
                match site.holds {
                    Holds::Stamp(_) => assert_eq!(text, "0000000000000000"),
                    Holds::Created => assert_eq!(text, "4102444799"),
                    Holds::Id => assert!(text.bytes().all(|it| it.is_ascii_hexdigit())),
                }
            }
            let text = std::str::from_utf8(bytes).unwrap();
            let created = text.matches("4102444799").count();
            let sites = reply.sites.iter().filter(|site| site.holds == Holds::Created).count();
            assert_eq!(created, sites);
        }
    }

    #[test]
    fn the_proxys_own_reader_understands_every_answer() {
        for name in ["chat", "responses"] {
            let dialect = crate::dialect::by_name(name).unwrap();
            for (stream, shape) in [(true, Shape::Stream), (false, Shape::Document)] {
                let script: Script = "deltas=7,text=code,calls=2,reasoning=2".parse().unwrap();
                let key = key(name.parse().unwrap(), stream, &script.to_string());
                let reply = Reply::new(&key, 1 << 20).unwrap();
                let decoder = dialect.decoder(Default::default(), &Default::default());
                let start =
                    Start { ids: Ids::new(1), created_at: 1, codex: false, done_marker: false };
                let encoder = key.wire.encoder(&Form::default(), start);
                let mut through =
                    Transcoder::new(decoder, encoder, shape, Shape::Document, 1 << 20);
                let mut out = Vec::new();
                through.push(&reply.bytes, 1, &mut out).unwrap();
                through.finish(
                    &reply.bytes[..if stream { 0 } else { reply.bytes.len() }],
                    1,
                    &mut out,
                );
                let outcome = through.outcome();
                assert_eq!((outcome.failure.clone(), outcome.stop), (None, Some(Stop::Tool)));
                assert_eq!(outcome.usage.is_some(), name == "responses" || !stream);
                assert_eq!((outcome.parts, outcome.bad_frames), (4, 0));
            }
        }
    }

    #[test]
    fn answers_that_differ_in_pace_alone_are_made_once() {
        let mut cache = Cache::new(8, 1 << 20, 1 << 20);
        let make = |script: &str| key(Wire::Chat, true, script);
        let first = cache.reply(make("pace=1ms,first=2s")).unwrap();
        let second = cache.reply(make("frames=0,slice=5")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = cache.reply(make("deltas=17")).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        let document = cache.reply(key(Wire::Chat, false, "")).unwrap();
        assert!(!Arc::ptr_eq(&first, &document));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = Cache::new(20, 100 << 10, 50 << 10);
        for seed in 0..200 {
            let script = format!("deltas=1,bytes={},seed={seed}", seed * 200);
            cache.reply(key(Wire::GigaChat, true, &script)).unwrap();
            let held: usize = cache.replies.values().map(|reply| reply.bytes.len()).sum();
            assert!(held == cache.bytes && held <= 100 << 10 && cache.replies.len() <= 20);
        }
    }

    #[test]
    fn what_would_be_too_large_is_not_begun() {
        for script in ["deltas=6000", "bytes=9000,deltas=200", "calls=1000,call_deltas=9999999"] {
            for stream in [true, false] {
                assert!(Reply::new(&key(Wire::Responses, stream, script), 1 << 20).is_err());
            }
        }
        // Escapes make more of it, which shows only on the way.
        let escaped = key(Wire::Chat, true, "deltas=100,bytes=10000,text=code");
        assert!(weight(&escaped) < 1 << 20);
        assert!(Reply::new(&escaped, 1 << 20).is_err());
        assert!(Reply::new(&key(Wire::Chat, true, "deltas=100,bytes=10000"), 1 << 20).is_ok());
    }
}
