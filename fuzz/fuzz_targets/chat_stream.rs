//! Whole replies of a Chat Completions upstream, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::transcode::chat_stream(bytes));
