//! Requests that are made into an upstream's elsewhere, because that would keep every other
//! connection of the worker waiting: a job goes out, and what came of it lies in its tray.

use crate::config::Config;
use crate::dialect::ids::Ids;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::content::Content;
use crate::proxy::errand::Agenda;
use crate::proxy::order::Intake;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Outcome {
    Agenda(Box<Agenda>),
    Failure(Box<Failure>),
    /// It panicked.
    Panic,
}

/// Where the outcome of a job will lie. Whoever drops it wants it no more.
#[derive(Debug, Default)]
pub(crate) struct Tray {
    full: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
}

impl Tray {
    /// Whether there is something to take.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Takes what came of the job; once.
    pub(crate) fn take(&self) -> Option<Outcome> {
        if !self.is_full() {
            return None;
        }
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.full.store(true, Ordering::Release);
    }
}

/// A client's whole request, to be made into an upstream's.
pub struct Job {
    config: Arc<Config>,
    intake: Intake,
    content: Content,
    ids: Ids,
    unix_s: u64,
    tray: Weak<Tray>,
}

impl std::fmt::Debug for Job {
    /// Never shows what a client sent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("bytes", &self.content.len()).finish_non_exhaustive()
    }
}

impl Job {
    /// A job, and where its outcome will lie.
    pub(crate) fn new(
        config: Arc<Config>,
        intake: Intake,
        content: Content,
        ids: Ids,
        unix_s: u64,
    ) -> (Self, Arc<Tray>) {
        let tray = Arc::new(Tray::default());
        let wanted = Arc::downgrade(&tray);
        (Self { config, intake, content, ids, unix_s, tray: wanted }, tray)
    }

    /// Whether anybody still waits for it.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.tray.strong_count() > 0
    }

    /// Does the work, unless the client is gone. Never panics.
    pub fn run(self) {
        if !self.is_wanted() {
            return;
        }
        let Self { config, intake, content, ids, unix_s, tray } = self;
        let agenda = || Agenda::new(&config, &intake, content, Vec::new(), ids, unix_s);
        let outcome = match catch_unwind(AssertUnwindSafe(agenda)) {
            Ok(Ok(agenda)) => Outcome::Agenda(Box::new(agenda)),
            Ok(Err(failure)) => Outcome::Failure(Box::new(failure)),
            Err(_) => Outcome::Panic,
        };
        if let Some(tray) = tray.upgrade() {
            tray.put(outcome);
        }
    }
}

/// What a client is told of a job that panicked.
pub(crate) fn panicked() -> Failure {
    Failure::new(Fault::proxy(Kind::Server), "the request could not be translated: a defect")
}
