//! The lines of runs of the Codex CLI, however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| patchbay::fuzzing::transcode::exec_stream(bytes));
