//! Frames, however a stream is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::frames(bytes));
