//! Embeddings and lists of models: what clients get says what upstreams said.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::lists::lists(bytes));
