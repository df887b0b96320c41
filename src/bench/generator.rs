//! The loop that makes the load: one thread, its connections, and when each of them asks.

use super::connection::{Connection, Job, PAUSE, Tools, Turn};
use super::net::{Sockets, exhausted};
use super::plan::Amount;
use super::process;
use super::tally::Tally;
use crate::proxy::net::Ready;
use crate::proxy::transport::TlsTable;
use mio::{Events, Poll};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// How long the loop sleeps at most, so that it sees that it is to stop.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// How often silent connections are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a server may leave a connection open that it was asked to close.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// After a connect failed, before the next one on the same connection.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a phase of the load is.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// How much is asked by this thread.
    pub(super) amount: Amount,
    /// Requests begun a second by this thread; `None`: whenever a connection is free.
    pub(super) rate: Option<f64>,
    /// Over how long the first requests are spread.
    pub(super) ramp: Duration,
    /// Connects under way at once; 0 for any number.
    pub(super) connects_max: usize,
    /// Longest silence.
    pub(super) timeout: Duration,
}

/// How far all threads are, for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) answers: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) deltas: AtomicU64,
    pub(super) under_way: AtomicU64,
    /// Give up what is under way and return.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a phase came to.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) tally: Tally,
    /// How long it took.
    pub(super) wall: Duration,
    /// The thread's own processor time.
    pub(super) cpu: Duration,
    /// It was stopped before its end.
    pub(super) stopped: bool,
}

/// Something that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    /// The reader of this connection may go on.
    Resume(usize),
    /// This connection may ask again.
    Retry(usize),
}

/// One thread's part of the load.
#[derive(Debug)]
pub(super) struct Generator {
    poll: Poll,
    net: Sockets,
    tls: Arc<TlsTable>,
    scratch: Vec<u8>,
    connections: Vec<Connection>,
    /// The connection of each socket slot.
    by_slot: Vec<usize>,
}

/// What is under way in a phase.
struct State<'p> {
    phase: &'p Phase,
    started: Instant,
    tally: Tally,
    /// Requests begun.
    issued: u64,
    connections: usize,
    /// Of these, those that have not been given their first request.
    fresh: usize,
    under_way: usize,
    connecting: usize,
    /// Connections that have nothing to do.
    free: Vec<usize>,
    /// Requests that wait until fewer connects are under way.
    waiting: VecDeque<usize>,
    /// Connections that could go on.
    again: VecDeque<usize>,
    later: BinaryHeap<Reverse<(Instant, Later)>>,
    looked: Instant,
    told: (u64, u64, u64, u64),
}

impl Generator {
    /// A generator with so many connections, none of them open.
    ///
    /// # Errors
    /// The system gives no poll.
    pub(super) fn new(connections: usize, tls: Arc<TlsTable>, slow: bool) -> Result<Self, String> {
        let failed = |why: std::io::Error| format!("cannot wait for sockets: {why}");
        let poll = Poll::new().map_err(failed)?;
        let net = Sockets::new(poll.registry().try_clone().map_err(failed)?, slow);
        let now = Instant::now();
        Ok(Self {
            poll,
            net,
            tls,
            scratch: vec![0; READ_BYTES],
            connections: (0..connections).map(|_| Connection::new(now)).collect(),
            by_slot: Vec::new(),
        })
    }

    /// Runs one phase to its end, or until it is stopped.
    ///
    /// # Errors
    /// What the system ran out of, and what to do.
    pub(super) fn run(
        &mut self,
        job: &Job,
        phase: &Phase,
        progress: &Progress,
    ) -> Result<Ran, String> {
        let cpu = process::own_thread();
        let now = Instant::now();
        let mut state = State {
            phase,
            started: now,
            tally: Tally::default(),
            issued: 0,
            connections: self.connections.len(),
            fresh: self.connections.len(),
            under_way: 0,
            connecting: 0,
            free: (0..self.connections.len()).rev().collect(),
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            later: BinaryHeap::new(),
            looked: now,
            told: (0, 0, 0, 0),
        };
        let mut events = Events::with_capacity(1024);
        let stopped = loop {
            let now = Instant::now();
            self.begin_due(&mut state, job, now)?;
            let next = state.next_start(now);
            if state.under_way == 0 && next.is_none() {
                break false;
            }
            if progress.stop.load(Ordering::Relaxed) {
                break true;
            }
            self.wait(&mut events, state.sleep(now, next))?;
            self.serve(&mut state, job, &events)?;
            self.timers(&mut state, job)?;
            state.publish(progress);
        };
        if stopped {
            self.abandon(&mut state, job);
        }
        state.publish(progress);
        progress.under_way.fetch_sub(state.told.3, Ordering::Relaxed);
        Ok(Ran {
            wall: state.started.elapsed(),
            cpu: process::own_thread().saturating_sub(cpu),
            tally: state.tally,
            stopped,
        })
    }

    /// Closes all connections.
    pub(super) fn close(&mut self, job: &Job) {
        let mut tally = Tally::default();
        for index in 0..self.connections.len() {
            let (connection, mut tools) = self.at(index, job, &mut tally);
            connection.close(&mut tools);
        }
    }

    fn at<'g>(
        &'g mut self,
        index: usize,
        job: &'g Job,
        tally: &'g mut Tally,
    ) -> (&'g mut Connection, Tools<'g>) {
        let tools =
            Tools { net: &mut self.net, tls: &self.tls, job, scratch: &mut self.scratch, tally };
        (&mut self.connections[index], tools)
    }

    fn wait(&mut self, events: &mut Events, sleep: Duration) -> Result<(), String> {
        match self.poll.poll(events, Some(sleep)) {
            Err(why) if why.kind() != ErrorKind::Interrupted => {
                Err(format!("cannot wait for sockets: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Begins the requests that are due.
    fn begin_due(&mut self, state: &mut State<'_>, job: &Job, now: Instant) -> Result<(), String> {
        while state.next_start(now).is_some_and(|due| due <= now) {
            let due = state.due().filter(|_| state.phase.rate.is_some()).unwrap_or(now);
            let Some(index) = state.free.pop() else { break };
            state.issued += 1;
            state.fresh = state.fresh.saturating_sub(1);
            state.under_way += 1;
            self.begin(state, job, index, due)?;
        }
        while state.may_connect() {
            let Some(index) = state.waiting.pop_front() else { break };
            self.open(state, job, index)?;
        }
        Ok(())
    }

    /// Begins the request of a connection that has nothing to do.
    fn begin(
        &mut self,
        state: &mut State<'_>,
        job: &Job,
        index: usize,
        due: Instant,
    ) -> Result<(), String> {
        let connection = &mut self.connections[index];
        connection.ask(due, Instant::now());
        if connection.socket().is_some() {
            return self.turn(state, job, index);
        }
        if state.may_connect() {
            return self.open(state, job, index);
        }
        state.waiting.push_back(index);
        Ok(())
    }

    fn open(&mut self, state: &mut State<'_>, job: &Job, index: usize) -> Result<(), String> {
        let (connection, mut tools) = self.at(index, job, &mut state.tally);
        if let Err(why) = connection.open(&mut tools) {
            let open = self.connections.iter().filter(|it| it.socket().is_some()).count();
            if let Some(words) = exhausted(&why, job.address, open) {
                return Err(words);
            }
            return Err(format!("cannot connect to {}: {why}", job.address));
        }
        state.connecting += 1;
        if let Some(socket) = self.connections[index].socket() {
            let slot = socket.slot as usize;
            if self.by_slot.len() <= slot {
                self.by_slot.resize(slot + 1, 0);
            }
            self.by_slot[slot] = index;
        }
        Ok(())
    }

    fn serve(&mut self, state: &mut State<'_>, job: &Job, events: &Events) -> Result<(), String> {
        for index in std::mem::take(&mut state.again) {
            self.turn(state, job, index)?;
        }
        for event in events {
            let Some(ready) = self.net.ready(event) else { continue };
            let index = self.by_slot[ready.socket.slot as usize];
            self.note(index, &ready);
            self.turn(state, job, index)?;
        }
        Ok(())
    }

    fn note(&mut self, index: usize, ready: &Ready) {
        let connection = &mut self.connections[index];
        if connection.socket() == Some(ready.socket) {
            connection.note(ready);
        }
    }

    /// Lets a connection go on, and does what follows from it.
    fn turn(&mut self, state: &mut State<'_>, job: &Job, index: usize) -> Result<(), String> {
        let (connection, mut tools) = self.at(index, job, &mut state.tally);
        let turn = connection.turn(&mut tools);
        self.after(state, job, index, turn)
    }

    fn after(
        &mut self,
        state: &mut State<'_>,
        job: &Job,
        index: usize,
        turn: Turn,
    ) -> Result<(), String> {
        match turn {
            Turn::Blocked => Ok(()),
            Turn::Again => {
                state.again.push_back(index);
                Ok(())
            }
            Turn::Paused => {
                let connection = &mut self.connections[index];
                if !connection.paused {
                    connection.paused = true;
                    state.later.push(Reverse((Instant::now() + PAUSE, Later::Resume(index))));
                }
                Ok(())
            }
            Turn::Connected => {
                state.connecting -= 1;
                self.turn(state, job, index)
            }
            Turn::Stale => {
                let connection = &mut self.connections[index];
                connection.ask_again();
                state.waiting.push_front(index);
                Ok(())
            }
            Turn::Answered => self.answered(state, job, index),
            Turn::Unreachable => {
                state.connecting -= 1;
                state.later.push(Reverse((Instant::now() + RETRY_AFTER, Later::Retry(index))));
                Ok(())
            }
        }
    }

    /// A connection has its answer: it asks again if there is more to ask.
    fn answered(&mut self, state: &mut State<'_>, job: &Job, index: usize) -> Result<(), String> {
        let now = Instant::now();
        if state.phase.rate.is_none() && state.may_ask_again(now) {
            state.issued += 1;
            return self.begin(state, job, index, now);
        }
        state.under_way -= 1;
        state.free.push(index);
        Ok(())
    }

    fn timers(&mut self, state: &mut State<'_>, job: &Job) -> Result<(), String> {
        let now = Instant::now();
        while let Some(Reverse((due, later))) = state.later.peek().copied() {
            if due > now {
                break;
            }
            state.later.pop();
            match later {
                Later::Resume(index) => {
                    self.connections[index].resume(job.pause_bytes.unwrap_or_default());
                    self.turn(state, job, index)?;
                }
                Later::Retry(index) => self.answered(state, job, index)?,
            }
        }
        if now.duration_since(state.looked) < LOOK_EVERY {
            return Ok(());
        }
        state.looked = now;
        let silent = now.checked_sub(state.phase.timeout);
        let unclosed = now.checked_sub(CLOSE_MAX);
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let limit = if connection.is_closing() { unclosed } else { silent };
            if limit.is_some_and(|limit| connection.is_silent_since(limit)) {
                // One that waits for its turn to connect waits for us.
                if connection.socket().is_some() {
                    let timeout = state.phase.timeout;
                    let (connection, mut tools) = self.at(index, job, &mut state.tally);
                    let turn = connection.silent(&mut tools, timeout);
                    self.after(state, job, index, turn)?;
                }
            }
        }
        Ok(())
    }

    /// Gives up what is under way.
    fn abandon(&mut self, state: &mut State<'_>, job: &Job) {
        for index in 0..self.connections.len() {
            let (connection, mut tools) = self.at(index, job, &mut state.tally);
            if connection.is_asking() {
                tools.tally.abandoned += 1;
                connection.close(&mut tools);
            }
        }
    }
}

impl State<'_> {
    fn may_connect(&self) -> bool {
        self.phase.connects_max == 0 || self.connecting < self.phase.connects_max
    }

    /// Whether a connection that has its answer asks again. Each is given one request before any
    /// is given its second.
    fn may_ask_again(&self, now: Instant) -> bool {
        match self.phase.amount {
            Amount::Requests(count) => self.issued + (self.fresh as u64) < count,
            Amount::Time(time) => now.duration_since(self.started) < time,
        }
    }

    /// When the next request is due that no answer has to wait for; `None` when there is no more.
    fn next_start(&self, now: Instant) -> Option<Instant> {
        let more = match self.phase.amount {
            Amount::Requests(count) => self.issued < count,
            Amount::Time(time) => now.duration_since(self.started) < time,
        };
        self.due().filter(|_| more)
    }

    fn due(&self) -> Option<Instant> {
        let offset = match self.phase.rate {
            #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests")]
            Some(rate) => Duration::try_from_secs_f64(self.issued as f64 / rate).ok()?,
            None if self.fresh == 0 => return None,
            None => {
                let begun = self.connections - self.fresh;
                self.phase.ramp.mul_f64(ratio(begun, self.connections))
            }
        };
        Some(self.started + offset)
    }

    /// How long the loop may sleep.
    fn sleep(&self, now: Instant, next: Option<Instant>) -> Duration {
        if !self.again.is_empty() || (!self.waiting.is_empty() && self.may_connect()) {
            return Duration::ZERO;
        }
        // A start that is due and waits for a free connection is woken by an answer.
        let start = next.filter(|_| !self.free.is_empty());
        let timer = self.later.peek().map(|Reverse((due, _))| *due);
        let first = start.into_iter().chain(timer).min();
        first.map_or(SLEEP_MAX, |due| due.saturating_duration_since(now).min(SLEEP_MAX))
    }

    /// Tells how far this thread is.
    fn publish(&mut self, progress: &Progress) {
        let now = (self.tally.answers, self.tally.wrong, self.tally.deltas, self.under_way as u64);
        let add = |counter: &AtomicU64, now: u64, told: u64| {
            if now != told {
                counter.fetch_add(now.wrapping_sub(told), Ordering::Relaxed);
            }
        };
        add(&progress.answers, now.0, self.told.0);
        add(&progress.wrong, now.1, self.told.1);
        add(&progress.deltas, now.2, self.told.2);
        add(&progress.under_way, now.3, self.told.3);
        self.told = now;
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of connections")]
fn ratio(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}
