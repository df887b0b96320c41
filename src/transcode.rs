//! Ring 2.
