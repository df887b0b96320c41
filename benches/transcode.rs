//! Whole translations: split, parse, write. One stream of text deltas, in reads of one frame (a
//! paced stream) and of 16 KB (a burst), and with chunks that differ in more than their delta.
#![allow(missing_docs, reason = "the macros of criterion write public functions")]
#![allow(clippy::unwrap_used, reason = "a broken input ends the benchmark")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use patchbay::fuzzing::transcode::Setup;
use patchbay::transcode::Transcoder;
use std::hint::black_box;

#[path = "support/inputs.rs"]
mod inputs;

const DELTAS: usize = 1000;
const NOW_S: u64 = 1_750_000_000;

/// Translates a stream that is read `piece` bytes at a time; returns the bytes written.
fn translate(transcoder: &mut Transcoder, stream: &[u8], piece: usize, out: &mut Vec<u8>) -> usize {
    let (mut start, mut end, mut written) = (0, 0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        out.clear();
        start += transcoder.push(&stream[start..end], NOW_S, out).unwrap();
        written += out.len();
    }
    out.clear();
    transcoder.finish(&stream[start..], NOW_S, out);
    written + out.len()
}

fn transcode(criterion: &mut Criterion) {
    let chat = inputs::chat_stream(DELTAS);
    let unusual = inputs::unusual_chat_stream(DELTAS);
    // What a Responses upstream sends for the same text.
    let (responses, _) = Setup::streams("chat", "responses").unwrap().run(&[&chat]);
    let mut group = criterion.benchmark_group("transcode");
    for (upstream, client, name, stream, piece) in [
        ("chat", "responses", "16 KB reads", &chat, 16 * 1024),
        ("chat", "responses", "a frame a read", &chat, chat.len() / DELTAS),
        ("chat", "responses", "unusual frames", &unusual, 16 * 1024),
        ("responses", "chat", "16 KB reads", &responses, 16 * 1024),
        ("chat", "chat", "16 KB reads", &chat, 16 * 1024),
    ] {
        group.throughput(Throughput::ElementsAndBytes {
            elements: DELTAS as u64,
            bytes: stream.len() as u64,
        });
        let setup = Setup::streams(upstream, client).unwrap();
        let mut out = Vec::with_capacity(1 << 20);
        group.bench_function(format!("{upstream} to {client}, {name}"), |bencher| {
            bencher.iter_batched_ref(
                || setup.transcoder(),
                |transcoder| translate(transcoder, black_box(stream), piece, &mut out),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, transcode);
criterion_main!(benches);
