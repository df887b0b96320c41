//! Escaping, unescaping and half characters.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::json::text(bytes));
