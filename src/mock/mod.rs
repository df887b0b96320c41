//! A scripted model server: what it answers is known to the byte, when it answers is set by the
//! script, and it costs much less than any proxy in front of it.

pub mod script;
