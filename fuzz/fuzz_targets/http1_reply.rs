//! Replies of an upstream beside a slow reader, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::http1::reply(bytes));
