//! What the fuzz targets do, here so that ordinary tests run it too. Each function takes any input
//! and panics when a property does not hold. Not part of the public interface.

pub mod frames;
pub mod gigachat;
pub mod http1;
pub mod json;
pub mod learned;
pub mod lists;
pub mod readers;
pub mod request;
pub mod schema;
pub mod sse;
pub mod token;
pub mod transcode;
pub mod worker;

use crate::wire::coding::{Refused, decode};

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its file in `fuzz/fuzz_targets`, its dictionary and its seeds.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
}

/// Every fuzz target.
pub const TARGETS: &[Target] = &[
    Target { name: "json", run: json::document },
    Target { name: "text", run: json::text },
    Target { name: "sse", run: frames },
    Target { name: "coding", run: coding },
    Target { name: "learned", run: learned::streams },
    Target { name: "lists", run: lists::lists },
    Target { name: "request", run: request::request },
    Target { name: "schema", run: schema::schema },
    Target { name: "token", run: token::token },
    Target { name: "worker", run: worker::worker },
    Target { name: "http1_request", run: http1::request },
    Target { name: "http1_reply", run: http1::reply },
    Target { name: "chat_stream", run: transcode::chat_stream },
    Target { name: "responses_stream", run: transcode::responses_stream },
    Target { name: "gigachat_stream", run: transcode::gigachat_stream },
    Target { name: "exec_stream", run: transcode::exec_stream },
];

/// The first byte chooses the cuts, the others are a stream.
///
/// # Panics
/// When a cut changes what the stream says.
pub fn frames(bytes: &[u8]) {
    if let Some((&seed, stream)) = bytes.split_first() {
        sse::cut(stream, u64::from(seed));
    }
}

/// A compressed body never becomes larger than its limit, and a smaller limit only refuses.
///
/// # Panics
/// When it does.
pub fn coding(body: &[u8]) {
    const BYTES_MAX: usize = 1024 * 1024;
    let decoded = decode("zstd", body, BYTES_MAX);
    if let Ok(plain) = decoded {
        assert!(plain.len() <= BYTES_MAX);
        assert_eq!(decode("zstd", body, plain.len()).as_ref(), Ok(&plain));
        if let Some(less) = plain.len().checked_sub(1) {
            assert_eq!(decode("zstd", body, less), Err(Refused::TooLarge));
        }
    }
}
