//! HTTP/1.1 messages (RFC 9112), strict on purpose: where two readers could disagree about where a
//! message ends, it is refused. Heads and bodies are read incrementally; nothing is copied.
//!
//! Heads of our own are written from parsed parts only, never from a peer's raw bytes.

pub mod body;
mod fault;
pub mod fields;
pub mod head;
pub mod host;
mod scan;
mod search;
#[cfg(test)]
mod tests;
pub mod write;

pub use body::{BodyDecoder, BodyFault, BodyLimits, BodyStep};
pub use fault::HeadFault;
pub use fields::{Field, Fields};
pub use head::{Method, ReplyHead, RequestHead, Version};
pub use host::{Host, Origin};
pub use search::{HeadLimits, HeadSearch};
pub use write::{
    BodyLength, ChunkMark, WriteFault, chunk_begin, chunk_end, last_chunk, write_continue,
    write_reply_head, write_request_head,
};

/// How a message's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Up to the end of the connection; replies only.
    UntilClose,
}

impl BodyFraming {
    /// Whether no body byte can follow the head.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}
