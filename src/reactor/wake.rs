//! How other threads reach a worker that sleeps in its poll.

use mio::Waker;
use std::sync::atomic::{AtomicU8, Ordering};

const NAMES: u8 = 1;
const DRAIN: u8 = 2;
const STOP: u8 = 4;
const TOKENS: u8 = 8;
const ORDERS: u8 = 16;
const LAUNCHES: u8 = 32;

/// Wakes one worker and leaves it a note.
#[derive(Debug)]
pub(super) struct Wake {
    waker: Waker,
    notes: AtomicU8,
}

/// The notes since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notes(u8);

impl Notes {
    /// Names were resolved.
    pub(super) fn names(self) -> bool {
        self.0 & NAMES != 0
    }

    /// Tokens came, or cannot come.
    pub(super) fn tokens(self) -> bool {
        self.0 & TOKENS != 0
    }

    /// Requests were translated.
    pub(super) fn orders(self) -> bool {
        self.0 & ORDERS != 0
    }

    /// Processes started, failed to, or ended.
    pub(super) fn launches(self) -> bool {
        self.0 & LAUNCHES != 0
    }

    /// Finish what runs, take nothing new.
    pub(super) fn drain(self) -> bool {
        self.0 & DRAIN != 0
    }

    /// Leave at once.
    pub(super) fn stop(self) -> bool {
        self.0 & STOP != 0
    }
}

impl Wake {
    pub(super) fn new(waker: Waker) -> Self {
        Self { waker, notes: AtomicU8::new(0) }
    }

    /// Says that names were resolved.
    pub(super) fn names(&self) {
        self.note(NAMES);
    }

    /// Says that tokens came, or cannot come.
    pub(super) fn tokens(&self) {
        self.note(TOKENS);
    }

    /// Says that requests were translated.
    pub(super) fn orders(&self) {
        self.note(ORDERS);
    }

    /// Says that processes started, failed to, or ended.
    pub(super) fn launches(&self) {
        self.note(LAUNCHES);
    }

    /// Asks to finish what runs and to take nothing new.
    pub(super) fn drain(&self) {
        self.note(DRAIN);
    }

    /// Asks to leave at once.
    pub(super) fn stop(&self) {
        self.note(STOP);
    }

    /// Takes the notes.
    pub(super) fn take(&self) -> Notes {
        Notes(self.notes.swap(0, Ordering::AcqRel))
    }

    fn note(&self, note: u8) {
        self.notes.fetch_or(note, Ordering::AcqRel);
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake a worker: {error}");
        }
    }
}
