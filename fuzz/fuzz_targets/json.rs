//! The cursor beside `serde_json` and `simd-json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::json::beside(bytes, |bytes| {
    simd_json::serde::from_slice(bytes).ok()
}));
