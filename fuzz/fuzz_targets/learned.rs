//! Whole replies from one dialect into another, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::learned::streams(bytes));
