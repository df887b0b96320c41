//! The rows of the benchmarks `transcode` and `request`, by name, so that `instructions` counts the
//! very same work.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use super::requests::{self, Filling};
use super::streams::{self, Kind, Stream};
use patchbay::dialect::{self, quirks::Quirks};
use patchbay::fuzzing::request::Way;
use patchbay::fuzzing::transcode::Setup;
use patchbay::transcode::{Form, Transcoder};
use std::hint::black_box;

/// Deltas in a stream.
pub(crate) const DELTAS: u64 = 1000;
const NOW_S: u64 = 1_750_000_000;
const FRAME_BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 16 << 10;

/// One row: a piece of work that can be done again and again.
pub(crate) struct Case {
    /// `transcode/chat to responses/text/coalesced`.
    pub(crate) name: String,
    /// Deltas in a stream; one for a request.
    pub(crate) events: u64,
    /// Bytes that go in.
    pub(crate) bytes: u64,
    /// Does the work once; returns the bytes that come out.
    pub(crate) run: Box<dyn FnMut() -> usize>,
}

/// How a stream arrives.
#[derive(Clone, Copy, Debug)]
enum Feeding {
    /// In reads of 16 KB: an upstream that is ahead.
    Coalesced,
    /// One frame a read: an upstream that is paced.
    Frames,
    /// Byte by byte: the worst case.
    Bytes,
}

impl Feeding {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Coalesced, "coalesced"), (Self::Frames, "frames"), (Self::Bytes, "bytes")];

    /// Where the reads of a stream end.
    fn ends(self, stream: &[u8]) -> Vec<usize> {
        match self {
            Self::Coalesced => {
                let whole = (1..).map(|read| read * READ_BYTES);
                whole.take_while(|end| *end < stream.len()).chain([stream.len()]).collect()
            }
            Self::Frames => {
                let last_two = |end: &usize| stream[..*end].ends_with(b"\n\n");
                (1..=stream.len()).filter(last_two).collect()
            }
            Self::Bytes => (1..=stream.len()).collect(),
        }
    }
}

/// Every row of `transcode`.
pub(crate) fn transcode() -> Vec<Case> {
    let mut cases = Vec::new();
    for (upstream, client) in
        [("chat", "responses"), ("responses", "chat"), ("chat", "chat"), ("responses", "responses")]
    {
        pair(&format!("{upstream} to {client}"), upstream, client, &mut cases, translating);
    }
    // What a frame costs that is not recognised.
    for (upstream, client) in [("chat", "responses"), ("responses", "chat")] {
        let name = format!("{upstream} to {client}, read in full");
        pair(&name, upstream, client, &mut cases, |setup| translating(setup).without_learning());
    }
    for dialect in ["chat", "responses"] {
        pair(&format!("{dialect} relayed"), dialect, dialect, &mut cases, |setup| {
            relay(setup, None)
        });
        pair(
            &format!("{dialect} relayed as another model"),
            dialect,
            dialect,
            &mut cases,
            |setup| relay(setup, Some("mine".to_owned())),
        );
    }
    cases
}

fn translating(setup: &Setup) -> Transcoder {
    let (decoder, encoder) = (setup.decoder(), setup.encoder());
    Transcoder::new(decoder, encoder, Form::Stream, Form::Stream, FRAME_BYTES_MAX)
}

fn relay(setup: &Setup, model: Option<String>) -> Transcoder {
    let (decoder, encoder) = (setup.decoder(), setup.encoder());
    Transcoder::relay(decoder, encoder, Form::Stream, model, FRAME_BYTES_MAX)
}

/// The rows of one upstream and one client.
fn pair(
    name: &str,
    upstream: &str,
    client: &str,
    cases: &mut Vec<Case>,
    transcoder: fn(&Setup) -> Transcoder,
) {
    let Some(setup) = Setup::streams(upstream, client) else { return };
    for kind in Kind::ALL {
        let stream = match upstream {
            "chat" => streams::chat(kind, DELTAS),
            _ => streams::responses(kind, DELTAS),
        };
        for (feeding, feeding_name) in Feeding::ALL {
            let Stream { bytes, deltas } = stream.clone();
            let ends = feeding.ends(&bytes);
            let mut out = Vec::with_capacity(1 << 20);
            cases.push(Case {
                name: format!("transcode/{name}/{}/{feeding_name}", kind.name()),
                events: deltas,
                bytes: bytes.len() as u64,
                run: Box::new(move || {
                    translate(&mut transcoder(&setup), black_box(&bytes), &ends, &mut out)
                }),
            });
        }
    }
}

/// Translates a stream whose reads end at `ends`; returns the bytes written. `out` is what one turn
/// writes.
fn translate(
    transcoder: &mut Transcoder,
    stream: &[u8],
    ends: &[usize],
    out: &mut Vec<u8>,
) -> usize {
    let (mut start, mut written) = (0, 0);
    for end in ends {
        out.clear();
        match transcoder.push(&stream[start..*end], NOW_S, out) {
            Ok(used) => start += used,
            Err(fault) => panic!("{fault}"),
        }
        written += out.len();
    }
    out.clear();
    transcoder.finish(&stream[start..], NOW_S, out);
    assert!(transcoder.outcome().failure.is_none(), "{:?}", transcoder.outcome());
    written + out.len()
}

/// Every row of `request`.
pub(crate) fn request() -> Vec<Case> {
    let mut cases = Vec::new();
    let backend = Quirks::for_host("chatgpt.com");
    for (name, client, upstream, quirks) in [
        ("responses to chat", "responses", "chat", Some(Quirks::default())),
        ("chat to responses", "chat", "responses", Some(Quirks::default())),
        ("responses to codex backend", "responses", "responses", Some(backend)),
        ("responses relayed", "responses", "responses", None),
        ("chat relayed", "chat", "chat", None),
    ] {
        let (Some(client), Some(upstream)) = (dialect::by_name(client), dialect::by_name(upstream))
        else {
            continue;
        };
        for filling in Filling::ALL {
            for (size_name, size) in [("2 KB", 2000), ("200 KB", 200_000), ("1 MB", 1_000_000)] {
                let body = match client.name() {
                    "chat" => requests::chat(filling, size),
                    _ => requests::responses(filling, size),
                };
                let way = Way { client, upstream, quirks: quirks.clone(), strict: false };
                cases.push(Case {
                    name: format!("request/{name}/{}/{size_name}", filling.name()),
                    events: 1,
                    bytes: body.len() as u64,
                    run: Box::new(move || match way.translate(black_box(body.as_bytes())) {
                        Ok((out, _)) => out.len(),
                        Err(failure) => panic!("{}", failure.message),
                    }),
                });
            }
        }
    }
    cases
}

/// Measures cases under their names.
pub(crate) fn measure(criterion: &mut criterion::Criterion, cases: Vec<Case>) {
    for mut case in cases {
        let Some((group, row)) = case.name.rsplit_once('/').and_then(|(rest, last)| {
            let (group, middle) = rest.rsplit_once('/')?;
            Some((group.to_owned(), format!("{middle}/{last}")))
        }) else {
            continue;
        };
        let mut group = criterion.benchmark_group(group);
        group.sampling_mode(criterion::SamplingMode::Flat);
        let Case { events: elements, bytes, .. } = case;
        group.throughput(criterion::Throughput::ElementsAndBytes { elements, bytes });
        group.bench_function(row, |bencher| bencher.iter(&mut case.run));
        group.finish();
    }
}
