//! What a server did so far.

use super::gigachat::{GigaChat, Service};
use crate::wire::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn take(&self, less: u64) {
        self.0.store(self.get().wrapping_sub(less), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) requests: Count,
    pub(super) deltas: Count,
    pub(super) bytes: Count,
    pub(super) open: Count,
    pub(super) answers: Count,
}

/// What a server did so far and holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered as a script says.
    pub requests: u64,
    /// Deltas that went out: of text, reasoning and arguments.
    pub deltas: u64,
    /// Bytes that the system took for sending, heads and chunk framing included, TLS not.
    pub bytes: u64,
    /// Connections that are open.
    pub open: u64,
    /// Answers that are under way.
    pub answers: u64,
}

/// What all workers write on: the counters of each, and what GigaChat's clients have.
#[derive(Debug)]
pub(super) struct Board {
    workers: Vec<Arc<Counters>>,
    pub(super) gigachat: Service,
}

impl Board {
    pub(super) fn new(workers: usize, gigachat: GigaChat) -> Self {
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Self { workers, gigachat: Service::new(gigachat) }
    }

    /// The counters of each worker.
    pub(super) fn workers(&self) -> impl Iterator<Item = Arc<Counters>> {
        self.workers.iter().map(Arc::clone)
    }

    /// The sums.
    pub(super) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for one in &self.workers {
            all.requests += one.requests.get();
            all.deltas += one.deltas.get();
            all.bytes += one.bytes.get();
            all.open += one.open.get();
            all.answers += one.answers.get();
        }
        all
    }

    /// The sums as JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        let counts = self.counts();
        let mut out = vec![b'{'];
        json::member_number("requests", counts.requests, &mut out);
        json::member_number("deltas", counts.deltas, &mut out);
        json::member_number("bytes", counts.bytes, &mut out);
        json::member_number("open", counts.open, &mut out);
        json::member_number("answers", counts.answers, &mut out);
        self.gigachat.write_counters(&mut out);
        out.push(b'}');
        out
    }
}
