//! Compressed bodies under their limit.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::coding(bytes));
