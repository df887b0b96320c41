//! Ranges in which limits and timeouts make sense.

use super::{Limits, Timeouts};
use std::time::Duration;

/// Every limit has a range in which the proxy works, and some must stand in an order.
pub(super) fn check_limits(it: &Limits) -> Result<(), String> {
    const GIB: usize = 1 << 30;
    let (informational, uses) = (it.informational_max as usize, it.pool_uses_max as usize);
    let ranges = [
        ("head_bytes_max", it.head_bytes_max, 1 << 10, 16 << 20),
        ("request_line_bytes_max", it.request_line_bytes_max, 128, 16 << 20),
        ("headers_max", it.headers_max, 8, 10_000),
        ("body_bytes_max", it.body_bytes_max, 1 << 10, GIB),
        ("inline_bytes_max", it.inline_bytes_max, 0, GIB),
        ("chunk_overhead_bytes_max", it.chunk_overhead_bytes_max, 0, 16 << 20),
        ("frame_bytes_max", it.frame_bytes_max, 4 << 10, GIB),
        ("pending_high_bytes", it.pending_high_bytes, 4 << 10, GIB),
        ("pending_low_bytes", it.pending_low_bytes, 0, GIB),
        ("informational_max", informational, 0, 10_000),
        ("pool_idle_max", it.pool_idle_max, 0, 1 << 20),
        ("pool_uses_max", uses, 1, u32::MAX as usize),
        ("connecting_max", it.connecting_max, 1, 1 << 20),
        ("clients_max", it.clients_max, 1, 1 << 24),
    ];
    for (name, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(format!("[limits] {name} is {value}: it must be from {min} to {max}"));
        }
    }
    if it.pending_low_bytes >= it.pending_high_bytes {
        return Err(format!(
            "[limits] pending_low_bytes ({}) must be below pending_high_bytes ({})",
            it.pending_low_bytes, it.pending_high_bytes
        ));
    }
    if it.request_line_bytes_max > it.head_bytes_max {
        return Err(format!(
            "[limits] request_line_bytes_max ({}) must not be above head_bytes_max ({})",
            it.request_line_bytes_max, it.head_bytes_max
        ));
    }
    Ok(())
}

/// No patience at all and patience for more than a day are mistakes.
pub(super) fn check_timeouts(it: &Timeouts) -> Result<(), String> {
    let all = [
        ("client_head_ms", it.client_head),
        ("client_idle_ms", it.client_idle),
        ("client_body_ms", it.client_body),
        ("client_write_ms", it.client_write),
        ("connect_ms", it.connect),
        ("tls_ms", it.tls),
        ("upstream_write_ms", it.upstream_write),
        ("upstream_head_ms", it.upstream_head),
        ("upstream_idle_ms", it.upstream_idle),
        ("pool_idle_ms", it.pool_idle),
        ("keep_alive_ms", it.keep_alive),
        ("drain_ms", it.drain),
    ];
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, value) in all {
        if value > day || (value.is_zero() && name != "drain_ms") {
            let ms = value.as_millis();
            return Err(format!("[timeouts] {name} is {ms}: it must be from 1 to 86400000"));
        }
    }
    Ok(())
}
