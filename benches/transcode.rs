//! Whole translations of streamed answers: split, decode, encode, from the first byte to the last,
//! with the transcoder's beginning and end. A row is
//!
//! ```text
//! transcode/UPSTREAM to CLIENT/KIND/FEEDING
//! transcode/DIALECT relayed[ as another model]/KIND/FEEDING
//! KIND     text, escapes, cjk, arguments, reasoning, varied (frames differ in more than the delta)
//! FEEDING  coalesced (16 KB reads), frames (one frame a read), bytes (one byte a read)
//! ```
//! An element is one delta; bytes are those of the upstream. One row, or all of a kind:
//!
//! ```text
//! cargo bench --bench transcode -- 'chat to responses/text/coalesced'
//! cargo bench --bench transcode -- /coalesced
//! cargo bench --bench transcode -- --list
//! ```
//! `benches/instructions.rs` counts the instructions of the same rows.
#![allow(missing_docs, reason = "the macros of criterion write public functions")]
#![allow(clippy::panic, reason = "a broken input ends the benchmark")]

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "support/cases.rs"]
mod cases;
#[path = "support/inputs.rs"]
mod inputs;
#[path = "support/requests.rs"]
mod requests;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/streams.rs"]
mod streams;

fn transcode(criterion: &mut Criterion) {
    cases::measure(criterion, cases::transcode());
}

criterion_group! { name = benches; config = settings::short(); targets = transcode }
criterion_main!(benches);
