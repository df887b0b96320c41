//! Ring 4.
