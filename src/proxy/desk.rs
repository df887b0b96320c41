//! Requests that are made into an upstream's elsewhere, and replies into a client's, because that would
//! keep every other connection of the worker waiting: a job goes out, and what came of it lies in its
//! tray.

use crate::config::Config;
use crate::dialect::ids::Ids;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::content::Content;
use crate::proxy::errand::Agenda;
use crate::proxy::order::Intake;
use crate::proxy::reply::Answer;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Outcome {
    Agenda(Box<Agenda>),
    Answer(Box<Answer>),
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

/// Something to be translated: a client's whole request, or a whole reply to an errand.
pub struct Job {
    task: Task,
    tray: Weak<Tray>,
}

enum Task {
    Request { config: Arc<Config>, intake: Box<Intake>, content: Content, ids: Ids, unix_s: u64 },
    Reply(Work),
}

impl Task {
    fn run(self) -> Result<Outcome, Failure> {
        match self {
            Self::Request { config, intake, content, ids, unix_s } => {
                let agenda = Agenda::new(&config, &intake, content, Vec::new(), ids, unix_s)?;
                Ok(Outcome::Agenda(Box::new(agenda)))
            }
            Self::Reply(work) => work.run().map(|answer| Outcome::Answer(Box::new(answer))),
        }
    }
}

/// What makes a client's answer of a reply and needs nothing else.
pub(crate) struct Work(Box<dyn FnOnce() -> Result<Answer, Failure> + Send>);

impl Work {
    pub(crate) fn new(work: impl FnOnce() -> Result<Answer, Failure> + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    fn run(self) -> Result<Answer, Failure> {
        (self.0)()
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

impl std::fmt::Debug for Job {
    /// Never shows what a client sent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Job");
        if let Task::Request { content, .. } = &self.task {
            shown.field("bytes", &content.len());
        }
        shown.finish_non_exhaustive()
    }
}

impl Job {
    /// A job that translates a request, and where its outcome will lie.
    pub(crate) fn request(
        config: Arc<Config>,
        intake: Intake,
        content: Content,
        ids: Ids,
        unix_s: u64,
    ) -> (Self, Arc<Tray>) {
        let intake = Box::new(intake);
        Self::new(Task::Request { config, intake, content, ids, unix_s })
    }

    /// A job that translates a reply, and where its outcome will lie.
    pub(crate) fn reply(work: Work) -> (Self, Arc<Tray>) {
        Self::new(Task::Reply(work))
    }

    fn new(task: Task) -> (Self, Arc<Tray>) {
        let tray = Arc::new(Tray::default());
        (Self { task, tray: Arc::downgrade(&tray) }, tray)
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
        let Self { task, tray } = self;
        let outcome = match catch_unwind(AssertUnwindSafe(|| task.run())) {
            Ok(Ok(outcome)) => outcome,
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
    Failure::new(Fault::proxy(Kind::Server), "it could not be translated: a defect of the proxy")
}
