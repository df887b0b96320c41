//! The cursor beside `serde_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::json::document(bytes));
