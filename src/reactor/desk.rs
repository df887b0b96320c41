//! A thread beside a worker that translates the requests that would keep the worker too long.

use super::wake::Wake;
use crate::proxy::desk::Job;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A worker's desk. Its thread begins with the first job, and ends with the worker.
#[derive(Debug)]
pub(super) struct Desk {
    wake: Arc<Wake>,
    jobs: Option<Sender<Job>>,
}

impl Desk {
    /// A desk for the worker that `wake` wakes.
    pub(super) const fn new(wake: Arc<Wake>) -> Self {
        Self { wake, jobs: None }
    }

    /// Takes a job; it waits behind those that were given before, of which each client can have
    /// one. Gives it back when there can be no thread.
    pub(super) fn take(&mut self, job: Job) -> Option<Job> {
        if self.jobs.is_none() {
            self.jobs = self.start();
        }
        let Some(jobs) = &self.jobs else { return Some(job) };
        jobs.send(job).err().map(|error| {
            // The thread is gone, and the next job begins another.
            self.jobs = None;
            error.0
        })
    }

    fn start(&self) -> Option<Sender<Job>> {
        let (jobs, waiting) = channel();
        let wake = Arc::clone(&self.wake);
        let thread = thread::Builder::new().name("desk".to_owned());
        match thread.spawn(move || work(&waiting, &wake)) {
            Ok(_) => Some(jobs),
            Err(error) => {
                log::warn!("large requests are translated in their worker: no thread: {error}");
                None
            }
        }
    }
}

fn work(jobs: &Receiver<Job>, wake: &Wake) {
    for job in jobs {
        job.run();
        wake.orders();
    }
}
