//! Accounts that clients bring, and replies of token endpoints.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::token::token(bytes));
