//! Ring 0: bytes to structure and back. No clock, no sockets, no policy.

pub mod buffer;
pub mod coding;
pub mod data_url;
pub mod http1;
pub mod json;
pub mod lines;
pub mod multipart;
pub mod sse;
