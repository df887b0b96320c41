//! patchbay: any coding agent on any model API, translated while the bytes stream.
//!
//! ```text
//! 0 wire        bytes <-> structure          json, sse, http1
//! 1 dialect     structure <-> meaning        chat, responses
//! 2 transcode   framing + decode + encode
//! 3 proxy       what an exchange is          client, upstream, pool, worker: generic over Net
//! 4 reactor     system calls, clock, threads
//! 5 mock, bench  a scripted upstream, and load with a check of every answer
//! 6 cli, main    wiring
//! ```
//! Imports point inwards only (`tests/tidy.rs` checks it). `config` and `fault` are leaves that any
//! ring from 1 up may use.

pub mod bench;
pub mod config;
pub mod dialect;
pub mod fault;
#[doc(hidden)]
pub mod fuzzing;
pub mod mock;
pub mod proxy;
pub mod reactor;
pub mod transcode;
pub mod wire;
