//! What a client wants of upstreams.

use crate::dialect::{self, Dialect};
use crate::proxy::models::Ask;

/// What a client wants of upstreams.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// An answer, asked for and told in the words of this dialect.
    Answer(&'static dyn Dialect),
    /// Vectors for texts.
    Embeddings,
    /// Models that upstreams may have.
    Models(Ask),
}

impl Operation {
    /// The dialect of its errors.
    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        match self {
            Self::Answer(dialect) => *dialect,
            Self::Embeddings | Self::Models(_) => dialect::OPENAI,
        }
    }

    /// The method of its requests.
    pub(crate) const fn method(&self) -> &'static str {
        match self {
            Self::Answer(_) | Self::Embeddings => "POST",
            Self::Models(_) => "GET",
        }
    }

    /// Whether it counts against how often and how much at once a client may ask.
    pub(crate) const fn is_limited(&self) -> bool {
        !matches!(self, Self::Models(_))
    }
}
