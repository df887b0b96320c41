//! What the fuzz targets do, here so that ordinary tests run it too. Each function takes any input
//! and panics when a property does not hold. Not part of the public interface.

pub mod json;
pub mod sse;

use crate::wire::coding::{Refused, decode};

/// The fuzz targets by name. Each has its seeds in `fuzz/seeds`.
pub const TARGETS: &[(&str, fn(&[u8]))] =
    &[("json", json::document), ("text", json::text), ("sse", frames), ("coding", coding)];

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
