//! One thread's loop: sleep until something is ready or due, then do all of it.

use super::Options;
use super::conn::{Conn, Next, Shared};
use super::count::{Board, Counters};
use super::memo::Memo;
use super::net::Sockets;
use super::reply::Cache;
use crate::proxy::net::{Net as _, SocketId};
use crate::proxy::timer::Timers;
use crate::proxy::transport::Link;
use crate::wire::buffer::Pool;
use mio::{Events, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Tokens of what is no connection; slots are 32 bits wide and never reach them.
pub(super) const LISTENER: Token = Token(usize::MAX);
pub(super) const WAKER: Token = Token(usize::MAX - 1);

/// Events taken from the system at a time; what does not fit comes with the next poll.
const EVENTS_MAX: usize = 1024;
/// Timers handled in one turn, so that requests do not wait for all that is late.
const DUE_MAX: usize = 512;
/// Connections accepted in one turn.
const ACCEPTS_MAX: usize = 256;
/// How long nothing is accepted after the process ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of one read.
const READ_BYTES_MAX: usize = 64 << 10;
/// Buffers kept for use again, their usual size, and the size above which they are not kept.
const BUFFERS_KEPT: usize = 256;
const BUFFER_BYTES: usize = 4 << 10;
const BUFFER_BYTES_MAX: usize = 2 << 20;
/// The largest answer that is made, in bytes; answers that are kept, and their bytes.
const ANSWER_BYTES_MAX: usize = 128 << 20;
const CACHED_MAX: usize = 1024;
const CACHED_BYTES_MAX: usize = 256 << 20;

/// How another thread ends a worker.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    wanted: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.wanted.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake a worker: {error}");
        }
    }
}

/// All connections of one thread.
#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    stop: Stop,
    shared: Shared,
    /// By the slot of their sockets.
    conns: Vec<Option<Box<Conn>>>,
    queue: VecDeque<usize>,
    timers: Timers,
    accepting: bool,
    accept_at: Option<Instant>,
    /// The log says already why nothing is accepted.
    told: bool,
}

impl Worker {
    /// A worker on its listener. `index` tells its ids from those of others.
    pub(super) fn new(
        listener: TcpListener,
        options: Arc<Options>,
        board: Arc<Board>,
        counters: Arc<Counters>,
        index: u64,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let net = Sockets::new(poll.registry().try_clone()?, listener)?;
        let shared = Shared {
            net,
            options,
            board,
            counters,
            cache: Cache::new(CACHED_MAX, CACHED_BYTES_MAX, ANSWER_BYTES_MAX),
            memo: Memo::default(),
            buffers: Pool::new(BUFFERS_KEPT, BUFFER_BYTES, BUFFER_BYTES_MAX),
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            id: index << 48,
        };
        Ok(Self {
            poll,
            stop: Stop { wanted: Arc::default(), waker },
            shared,
            conns: Vec::new(),
            queue: VecDeque::new(),
            timers: Timers::default(),
            accepting: true,
            accept_at: None,
            told: false,
        })
    }

    /// How to end it.
    pub(super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is told to stop, then drops every connection.
    ///
    /// # Errors
    /// The poll failed.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if self.stop.wanted.load(Ordering::Acquire) {
                return Ok(());
            }
            let now = Instant::now();
            // All is noted before a slot can get another connection.
            for event in &events {
                self.accepting |= event.token() == LISTENER;
                let Some(ready) = Sockets::ready(event) else { continue };
                let slot = ready.socket.slot as usize;
                if let Some(Some(conn)) = self.conns.get_mut(slot) {
                    conn.link.note(&ready);
                    self.enqueue(slot);
                }
            }
            self.accept(now);
            for _ in 0..self.queue.len() {
                let Some(slot) = self.queue.pop_front() else { break };
                if let Some(Some(conn)) = self.conns.get_mut(slot) {
                    conn.queued = false;
                    self.run_one(slot, now);
                }
            }
            for _ in 0..DUE_MAX {
                let Some(slot) = self.timers.pop(now) else { break };
                self.run_one(slot, now);
            }
        }
    }

    /// How long there is nothing to do; `None` until something is ready.
    fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() || (self.accepting && self.accept_at.is_none()) {
            return Some(Duration::ZERO);
        }
        let next = self.timers.next().into_iter().chain(self.accept_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn run_one(&mut self, slot: usize, now: Instant) {
        let Some(Some(conn)) = self.conns.get_mut(slot) else { return };
        match conn.run(&mut self.shared, now) {
            Next::Ready => {}
            Next::At(due) => self.timers.arm(slot, due),
            Next::Turn => self.enqueue(slot),
            Next::Gone => self.close(slot),
        }
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(Some(conn)) = self.conns.get_mut(slot)
            && !std::mem::replace(&mut conn.queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        self.timers.disarm(slot);
        if let Some(conn) = self.conns.get_mut(slot).and_then(Option::take) {
            self.shared.counters.open.take(1);
            conn.close(&mut self.shared);
        }
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_at.is_some_and(|at| at > now) {
            return;
        }
        self.accept_at = None;
        for _ in 0..ACCEPTS_MAX {
            if !self.accepting {
                return;
            }
            match self.shared.net.accept(SocketId { slot: 0, generation: 0 }) {
                Ok((socket, _)) => {
                    self.told = false;
                    self.accepted(socket);
                }
                Err(why) => match why.kind() {
                    ErrorKind::WouldBlock => self.accepting = false,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    _ => {
                        if !std::mem::replace(&mut self.told, true) {
                            let open = self.shared.board.counts().open;
                            log::warn!(
                                "accepting pauses at {open} connections: {why}; if it is the limit \
                                 on open files, raise it (ulimit -n) and start anew"
                            );
                        }
                        self.accept_at = Some(now + ACCEPT_PAUSE);
                        return;
                    }
                },
            }
        }
    }

    fn accepted(&mut self, socket: SocketId) {
        let mut link = Link::accepted(socket);
        let config = self.shared.options.tls.as_ref().and_then(|tls| tls.server());
        if let Some(config) = config
            && let Err(why) = link.accept_tls(config)
        {
            log::error!("a client is turned away: {why}");
            return self.shared.net.close(socket);
        }
        let slot = socket.slot as usize;
        if self.conns.len() <= slot {
            self.conns.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.conns.get_mut(slot) {
            *place = Some(Box::new(Conn::new(link)));
        }
        self.shared.counters.open.add(1);
        self.enqueue(slot);
    }
}
