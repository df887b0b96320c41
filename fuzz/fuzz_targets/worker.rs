//! The worker under whatever its peers and the network do.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::worker::worker(bytes));
