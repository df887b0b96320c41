//! Schemas of functions' arguments, as GigaChat takes them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::schema::schema(bytes));
