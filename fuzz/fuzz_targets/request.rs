//! Requests from one dialect into another.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::request::request(bytes));
