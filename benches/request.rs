//! Requests as the proxy translates them: UTF-8 check, `Peek`, decode, encode. A row is
//!
//! ```text
//! request/CLIENT to UPSTREAM/FILLING/SIZE      request/DIALECT relayed/FILLING/SIZE
//! FILLING  code (few escapes), dense (an escape every few bytes), images (data URLs)
//! SIZE     2 KB, 200 KB, 1 MB
//! ```
//! An element is one request; bytes are those of the client. One row, or all of a kind:
//!
//! ```text
//! cargo bench --bench request -- 'responses to chat/dense/200 KB'
//! cargo bench --bench request -- /dense/
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

fn request(criterion: &mut Criterion) {
    cases::measure(criterion, cases::request());
}

criterion_group! { name = benches; config = settings::short(); targets = request }
criterion_main!(benches);
