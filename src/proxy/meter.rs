//! Plain counters of one worker. Nothing here is an atomic: the driver reads them between turns.

/// What happened since the worker began. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Client connections accepted.
    pub accepted: u64,
    /// Client connections turned away because there were too many.
    pub turned_away: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Replies by the hundreds of their status: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub replies: [u64; 5],
    /// Replies that broke off after their head was sent.
    pub broken: u64,
    /// Exchanges whose client left before the end.
    pub abandoned: u64,
    /// Upstream connects begun.
    pub connects: u64,
    /// Requests sent on a pooled connection.
    pub reuses: u64,
    /// Requests sent again, because a pooled connection turned out to be dead.
    pub retries: u64,
    /// Bytes read from clients and written to them.
    pub client_bytes: [u64; 2],
    /// Bytes read from upstreams and written to them.
    pub upstream_bytes: [u64; 2],
    /// Panics that were contained.
    pub panics: u64,
}

impl Meter {
    /// Counts a reply.
    pub fn reply(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(count) = self.replies.get_mut(class) {
            *count += 1;
        }
    }
}

/// System calls of one worker since it began, those that failed included. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Waits for something to become ready.
    pub polls: u64,
    /// Connections taken from listeners, and attempts to.
    pub accepts: u64,
    /// Connects begun.
    pub connects: u64,
    /// Sockets registered for readiness, once each.
    pub registers: u64,
    /// Options set on sockets.
    pub options: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Sending sides ended.
    pub shutdowns: u64,
    /// Sockets closed.
    pub closes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_class() {
        let mut meter = Meter::default();
        for status in [200, 204, 404, 599, 700] {
            meter.reply(status);
        }
        assert_eq!(meter.replies, [0, 2, 0, 1, 2]);
    }
}
