//! The JSON cursor beside `serde_json` and `simd-json`, on what a proxy sees: a stream's chunk, a
//! large request whose texts need few escapes, and one whose texts are dense with them. A row is
//! `json/DOCUMENT/READER`; an element is one document.
//!
//! ```text
//! cargo bench --bench json -- 'json/200 KB dense'
//! cargo bench --bench json -- /cursor
//! ```
#![allow(missing_docs, reason = "the macros of criterion write public functions")]
#![allow(clippy::unwrap_used, reason = "a broken input ends the benchmark")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use patchbay::wire::json::{self, Bad, Cursor, Escaped, Raw};
use requests::Filling;
use std::hint::black_box;

#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/requests.rs"]
mod requests;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/streams.rs"]
mod streams;

/// The members of a chunk that a proxy reads.
#[derive(serde::Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(serde::Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(serde::Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<std::borrow::Cow<'a, str>>,
}

fn content<'a>(cursor: &mut Cursor<'a>) -> Result<Escaped<'a>, Bad> {
    let mut found = Escaped::EMPTY;
    cursor.object(|key, cursor| match key {
        "choices" => cursor.array(|cursor| {
            cursor.object(|key, cursor| match key {
                "delta" => cursor.object(|key, cursor| {
                    if key == "content" {
                        found = cursor.string()?;
                    }
                    Ok(())
                }),
                _ => Ok(()),
            })
        }),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// Every reader on the same documents; the cursor checks all of each.
fn documents(criterion: &mut Criterion) {
    let chunk = streams::chat_chunk("\"content\":\" hello\"", "null");
    for (name, document) in [
        ("chat chunk", chunk),
        ("responses event", streams::responses_delta()),
        ("200 KB code", requests::responses(Filling::Code, 200_000)),
        ("200 KB dense", requests::responses(Filling::Dense, 200_000)),
        ("200 KB images", requests::responses(Filling::Images, 200_000)),
    ] {
        let mut group = criterion.benchmark_group(format!("json/{name}"));
        let bytes = document.as_bytes();
        group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: bytes.len() as u64 });
        group.bench_function("cursor", |bencher| {
            bencher.iter(|| {
                let text = json::utf8(black_box(bytes)).unwrap();
                Raw::check(text).unwrap().text().len()
            });
        });
        group.bench_function("serde_json value", |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(bytes)));
        });
        group.bench_function("serde_json ignored", |bencher| {
            bencher.iter(|| serde_json::from_slice::<serde::de::IgnoredAny>(black_box(bytes)));
        });
        // It overwrites what it reads, so each time gets a copy; making it is not measured.
        group.bench_function("simd-json tape", |bencher| {
            let mut buffers = simd_json::Buffers::default();
            bencher.iter_batched_ref(
                || bytes.to_vec(),
                |bytes| simd_json::to_tape_with_buffers(bytes, &mut buffers).unwrap().0.len(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("simd-json value", |bencher| {
            bencher.iter_batched_ref(
                || bytes.to_vec(),
                |bytes| simd_json::to_borrowed_value(bytes).is_ok(),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

/// Only what is wanted of a chunk.
fn wanted(criterion: &mut Criterion) {
    let chunk = streams::chat_chunk("\"content\":\" hello\"", "null");
    let mut group = criterion.benchmark_group("json/content of a chat chunk");
    let bytes = chunk.len() as u64;
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes });
    group.bench_function("cursor", |bencher| {
        bencher.iter(|| {
            let text = json::utf8(black_box(chunk.as_bytes())).unwrap();
            json::document(text, content).unwrap().raw().len()
        });
    });
    group.bench_function("serde_json typed", |bencher| {
        bencher.iter(|| {
            let chunk: Chunk<'_> = serde_json::from_slice(black_box(chunk.as_bytes())).unwrap();
            chunk.choices[0].delta.content.as_ref().unwrap().len()
        });
    });
    group.finish();
}

fn text(criterion: &mut Criterion) {
    let plain = inputs::code(&mut inputs::Random::new(3), 100_000);
    let mut group = criterion.benchmark_group("json/100 KB text");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    let mut out = Vec::with_capacity(2 * plain.len());
    group.bench_function("escape", |bencher| {
        bencher.iter(|| {
            out.clear();
            json::escape(black_box(&plain), &mut out);
            out.len()
        });
    });
    group.bench_function("serde_json escape", |bencher| {
        let mut out = Vec::with_capacity(2 * plain.len());
        bencher.iter(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&plain)).unwrap();
            out.len()
        });
    });
    out.clear();
    json::escape(&plain, &mut out);
    let raw = json::utf8(&out).unwrap();
    let mut text = String::with_capacity(plain.len());
    group.bench_function("unescape", |bencher| {
        bencher.iter(|| {
            text.clear();
            json::unescape(black_box(raw), &mut text);
            text.len()
        });
    });
    let (mut surrogates, mut scratch) = (json::Surrogates::default(), String::new());
    group.bench_function("surrogates, none", |bencher| {
        let text = Escaped::trusted(raw);
        bencher.iter(|| surrogates.pass(black_box(text), &mut scratch).raw().len());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings::short();
    targets = documents, wanted, text
}
criterion_main!(benches);
