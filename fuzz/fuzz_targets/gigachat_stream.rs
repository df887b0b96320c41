//! Whole replies of a Responses upstream, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::transcode::gigachat_stream(bytes));
