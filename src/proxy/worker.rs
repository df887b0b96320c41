//! One worker: every connection of one thread, advanced by [`Worker::turn`].

use crate::config::Config;
use crate::proxy::net::{Net, Ready, SocketId};
use crate::proxy::transport::TlsTable;
use std::sync::Arc;
use std::time::Instant;

/// The time, as the driver read it once for a whole turn.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// Unix time in seconds, for what is shown to people.
    pub unix_s: u64,
}

/// What a worker holds at the moment. All are zero after a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Client connections.
    pub clients: usize,
    /// Upstream connections, those in the pool included.
    pub upstreams: usize,
    /// Of those, idle in the pool.
    pub pooled: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Connections waiting for a connect slot or for a name.
    pub waiting: usize,
    /// Armed timers.
    pub timers: usize,
    /// Buffers in use.
    pub buffers: usize,
}

/// All connections of one thread.
#[derive(Debug)]
pub struct Worker<N: Net> {
    net: N,
    config: Arc<Config>,
    tls: Arc<TlsTable>,
    listeners: Vec<SocketId>,
    seed: u64,
    draining: bool,
}

impl<N: Net> Worker<N> {
    /// A worker that accepts from `listeners`. The same `seed` gives the same ids.
    pub fn new(
        net: N,
        config: Arc<Config>,
        tls: Arc<TlsTable>,
        listeners: Vec<SocketId>,
        seed: u64,
        now: Now,
    ) -> Self {
        let _ = now;
        Self { net, config, tls, listeners, seed, draining: false }
    }

    /// Handles what is ready, then everything that can go on. Returns when to be called again at
    /// the latest: `now` or earlier means at once, `None` means only when something is ready.
    pub fn turn(&mut self, ready: &[Ready], now: Now) -> Option<Instant> {
        let _ = (ready, now, &self.config, &self.tls, self.seed);
        None
    }

    /// Answers of the resolver arrived: exchanges that wait for a name go on in the next turn.
    pub fn names_changed(&mut self) {}

    /// Stops accepting, closes idle connections, and lets exchanges finish with
    /// `Connection: close`. What still runs after `timeouts.drain` is cut.
    pub fn drain(&mut self, now: Now) {
        let _ = now;
        for listener in self.listeners.drain(..) {
            self.net.close(listener);
        }
        self.draining = true;
    }

    /// True once [`Worker::drain`] was called and nothing is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining
    }

    /// True once `GET /shutdown` was answered.
    #[must_use]
    pub fn shutdown_requested(&self) -> bool {
        false
    }

    /// What is held at the moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// The network, for the driver.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }
}
