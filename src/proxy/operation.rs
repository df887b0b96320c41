//! What a client wants of upstreams.

use crate::dialect::{self, Dialect};

/// What a client wants of upstreams.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// An answer, asked for and told in the words of this dialect.
    Answer(&'static dyn Dialect),
    /// Vectors for texts.
    Embeddings,
}

impl Operation {
    /// The dialect of its errors.
    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        match self {
            Self::Answer(dialect) => *dialect,
            Self::Embeddings => dialect::OPENAI,
        }
    }
}
