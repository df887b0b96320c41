//! What HTTP costs: a request head as Codex sends it, a reply head, a chunked body, and the framing
//! of our own chunks. An element is one head or one chunk.
//!
//! ```text
//! cargo bench --bench http1 -- http1/head/request
//! ```
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use patchbay::wire::http1::{
    BodyDecoder, BodyFraming, BodyLimits, BodyStep, HeadLimits, HeadSearch, chunk_begin, chunk_end,
};
use std::hint::black_box;

#[path = "support/settings.rs"]
mod settings;

const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 64 << 10, request_line_bytes_max: 8 << 10, headers_max: 100 };
const BODY: BodyLimits = BodyLimits { body_bytes_max: 64 << 20, overhead_bytes_max: 16 << 10 };

const REQUEST: &[u8] = b"POST /v1/responses HTTP/1.1\r\n\
    authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    user-agent: codex_cli_rs/0.1 (Linux; x86_64) terminal\r\n\
    session_id: 01234567-89ab-cdef-0123-456789abcdef\r\n\
    conversation_id: 01234567-89ab-cdef-0123-456789abcdef\r\n\
    accept: text/event-stream\r\ncontent-type: application/json\r\n\
    host: 127.0.0.1:8787\r\ncontent-length: 24680\r\n\r\n";

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\
    Connection: keep-alive\r\nX-Request-Id: req_0123456789abcdef0123456789abcdef\r\n\
    Cache-Control: no-cache\r\nServer: x\r\n\r\n";

/// One element of so many bytes.
fn one(bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes { elements: 1, bytes: bytes as u64 }
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1/head");
    group.throughput(one(REQUEST.len()));
    group.bench_function("request", |b| {
        let mut search = HeadSearch::default();
        b.iter(|| search.request(black_box(REQUEST), &HEAD).unwrap().unwrap().1);
    });
    group.throughput(one(REPLY.len()));
    group.bench_function("reply", |b| {
        let mut search = HeadSearch::default();
        b.iter(|| search.reply(black_box(REPLY), &HEAD, false).unwrap().unwrap().1);
    });
    group.finish();
}

/// Reads a whole body; returns its length.
fn read(framing: BodyFraming, mut input: &[u8]) -> usize {
    let mut decoder = BodyDecoder::new(framing, BODY).unwrap();
    let mut length = 0;
    loop {
        let (step, used) = decoder.decode(input).unwrap();
        input = &input[used..];
        match step {
            BodyStep::Data(data) => length += black_box(data).len(),
            BodyStep::NeedMore | BodyStep::End => return length,
        }
    }
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1/body");
    for (name, size) in [("chunks of 200 B", 200), ("chunks of 4 KB", 4000)] {
        let mut input = Vec::new();
        for _ in 0..100 {
            input.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            input.resize(input.len() + size, b'x');
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        let bytes = input.len() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: 100, bytes });
        group.bench_function(name, |b| b.iter(|| read(BodyFraming::Chunked, black_box(&input))));
    }
    group.throughput(one(200));
    group.bench_function("framing of a chunk", |b| {
        let mut out = Vec::with_capacity(512);
        b.iter(|| {
            out.clear();
            let mark = chunk_begin(&mut out);
            out.extend_from_slice(black_box(&[b'x'; 200]));
            chunk_end(mark, &mut out);
            out.len()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = settings::short(); targets = heads, bodies }
criterion_main!(benches);
