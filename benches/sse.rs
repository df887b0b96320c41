//! Splitting a stream into frames: whole, in network-sized pieces, and with other line ends. An
//! element is one frame.
//!
//! ```text
//! cargo bench --bench sse -- 'sse/16 KB pieces'
//! ```
#![allow(missing_docs, reason = "the macros of criterion write public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use patchbay::wire::sse::{Decoder, Step};
use std::hint::black_box;
use streams::Kind;

#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/streams.rs"]
mod streams;

const DELTAS: u64 = 1000;

/// Reads a stream that comes in pieces of `piece` bytes; returns the bytes of data found.
fn read(stream: &[u8], piece: usize) -> usize {
    let mut decoder = Decoder::default();
    let (mut start, mut end, mut data) = (0, 0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        loop {
            match decoder.step(&stream[start..end]) {
                (Step::NeedMore, _) => break,
                (Step::Skip, used) => start += used,
                (Step::Frame(frame), used) => {
                    data += frame.data.len();
                    start += used;
                }
            }
        }
    }
    data
}

fn sse(criterion: &mut Criterion) {
    let lf = streams::chat(Kind::Text, DELTAS).bytes;
    let crlf: Vec<u8> = String::from_utf8_lossy(&lf).replace('\n', "\r\n").into_bytes();
    let mut group = criterion.benchmark_group("sse");
    for (name, stream, piece) in [
        ("whole", &lf, usize::MAX / 2),
        ("16 KB pieces", &lf, 16 * 1024),
        ("100 B pieces", &lf, 100),
        ("CRLF, whole", &crlf, usize::MAX / 2),
    ] {
        group.throughput(Throughput::ElementsAndBytes {
            elements: DELTAS,
            bytes: stream.len() as u64,
        });
        group.bench_function(name, |bencher| bencher.iter(|| read(black_box(stream), piece)));
    }
    let mut long = b"data: ".to_vec();
    long.resize(4 * 1024 * 1024, b'x');
    long.extend_from_slice(b"\n\n");
    group.throughput(Throughput::Bytes(long.len() as u64));
    group.bench_function("one 4 MB frame in 16 KB pieces", |bencher| {
        bencher.iter(|| read(black_box(&long), 16 * 1024));
    });
    group.finish();
}

criterion_group! { name = benches; config = settings::short(); targets = sse }
criterion_main!(benches);
