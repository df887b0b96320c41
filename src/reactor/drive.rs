//! One worker's loop: sleep until something is ready or due, read the clock once, advance.

use super::poll::{MioNet, WAKER};
use super::resolve::Resolver;
use super::tokens::Tokens;
use super::wake::Wake;
use crate::config::Config;
use crate::proxy::limit::LimitTable;
use crate::proxy::net::Ready;
use crate::proxy::shared::Now;
use crate::proxy::transport::TlsTable;
use crate::proxy::worker::Worker;
use mio::{Events, Poll, Waker};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events taken from the system at a time; what does not fit comes with the next poll.
const EVENTS_MAX: usize = 1024;

/// A worker's loop before it has its own thread.
#[derive(Debug)]
pub(super) struct Drive {
    poll: Poll,
    wake: Arc<Wake>,
}

impl Drive {
    /// Sets up the poll, so that others can wake the worker before it runs.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let wake = Arc::new(Wake::new(Waker::new(poll.registry(), WAKER)?));
        Ok(Self { poll, wake })
    }

    /// How to reach the worker.
    pub(super) fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Makes the worker.
    ///
    /// # Errors
    /// A listener could not be registered.
    pub(super) fn worker(
        &self,
        config: Arc<Config>,
        tls: Arc<TlsTable>,
        limits: Arc<LimitTable>,
        listeners: Vec<TcpListener>,
        resolver: Resolver,
        tokens: Tokens,
    ) -> io::Result<Worker<MioNet>> {
        let mut net = MioNet::new(self.poll.registry().try_clone()?, resolver, tokens);
        let listeners =
            listeners.into_iter().map(|it| net.listen(it)).collect::<io::Result<Vec<_>>>()?;
        Ok(Worker::new(net, config, tls, limits, listeners, seed(), now()))
    }

    /// Runs until the worker is drained or told to stop. `on_shutdown` is called when a client
    /// asked for the end of the process, once.
    ///
    /// # Errors
    /// The poll itself failed: nothing can go on.
    pub(super) fn run(
        mut self,
        mut worker: Worker<MioNet>,
        on_shutdown: impl FnOnce(),
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut ready: Vec<Ready> = Vec::with_capacity(EVENTS_MAX);
        let mut on_shutdown = Some(on_shutdown);
        let mut time = now();
        let mut next = Some(time.instant);
        loop {
            let timeout = next.map(|at| at.saturating_duration_since(time.instant));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            time = now();
            ready.clear();
            let mut noted = false;
            for event in &events {
                if event.token() == WAKER {
                    noted = true;
                } else {
                    ready.extend(worker.net_mut().ready(event));
                }
            }
            if noted {
                let notes = self.wake.take();
                if notes.stop() {
                    return Ok(());
                }
                if notes.drain() {
                    worker.drain(time);
                }
                if notes.names() {
                    worker.names_changed();
                }
                if notes.tokens() {
                    worker.tokens_changed();
                }
            }
            next = worker.turn(&ready, time);
            if worker.shutdown_requested()
                && let Some(tell) = on_shutdown.take()
            {
                tell();
            }
            if worker.is_drained() {
                return Ok(());
            }
        }
    }
}

/// The hasher's keys are random: all that ids need is to differ between workers and runs, and all
/// that a table needs is to be unknown to strangers.
pub(super) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Reads the clocks. A system clock before 1970 shows as 1970.
fn now() -> Now {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Now { instant: Instant::now(), unix_s }
}
