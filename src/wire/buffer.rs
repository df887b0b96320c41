//! Bytes that wait: leased buffers.
