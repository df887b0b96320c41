//! Runs of a local command as an upstream: what is wanted goes out, and what came of it is left where
//! the exchange and whoever keeps the process both see it.
//!
//! To an exchange a run is a connection: its request is the command's standard input, its reply the
//! standard output. Closing the connection ends the process.

use crate::dialect::exec;
use crate::fault::Failure;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// A run that an exchange wants. Whoever drops it wants it no more.
#[derive(Debug)]
pub struct Launch {
    number: u64,
    /// Index of the provider.
    pub provider: usize,
    /// What is to be run.
    pub run: Box<exec::Run>,
    progress: Mutex<Progress>,
}

/// The run of an order.
#[derive(Debug)]
pub(crate) enum Run {
    /// It is to be begun.
    Wanted(Box<exec::Run>),
    /// It was asked for.
    Begun {
        launch: Arc<Launch>,
        /// When its process has to be there.
        until: Instant,
    },
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It waits for its turn.
    #[default]
    Waiting,
    /// The process is there: [`Net::adopt`](crate::proxy::net::Net::adopt) makes a socket of it.
    Started,
    /// There will be no process, and why.
    Failed(Arc<Failure>),
    /// The process is gone.
    Over(Ended),
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// `exit code 1`, `signal 9`.
    pub how: String,
    /// The last lines of its standard error, a few hundred characters at most.
    pub words: String,
}

/// The name of a run, the same for a wanted and a running one. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaunchId(u64);

impl Launch {
    /// A run for a provider, which nobody knows of yet.
    #[must_use]
    pub fn new(provider: usize, run: Box<exec::Run>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { number, provider, run, progress: Mutex::default() })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> LaunchId {
        LaunchId(self.number)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far it is; the driver then says
    /// [`Worker::launches_changed`](crate::proxy::worker::Worker::launches_changed).
    pub fn note(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// What whoever keeps processes holds of a run: it does not keep the exchange's interest alive.
#[derive(Clone, Debug)]
pub struct Wanted(Weak<Launch>);

impl Wanted {
    /// Of a run.
    #[must_use]
    pub fn new(launch: &Arc<Launch>) -> Self {
        Self(Arc::downgrade(launch))
    }

    /// The run, as long as its exchange wants it.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Launch>> {
        self.0.upgrade()
    }
}
