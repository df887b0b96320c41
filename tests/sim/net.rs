//! A network in one thread with a clock of its own: [`SimNet`] is what the worker sees, the
//! `peer_*` methods are what simulated clients and upstreams see of the same connections.
//!
//! Readiness is edge-triggered as epoll's is: an edge comes when bytes, an end or an error arrive,
//! and when room appears after a write was refused; never because something is merely still there.
//! A read that returns less than asked for has emptied the socket, unless a new edge follows.

mod calls;

use crate::sim::Random;
use crate::sim::tokens::Tokens;
use patchbay::proxy::desk::Job;
use patchbay::proxy::launch::{LaunchId, Wanted};
use patchbay::proxy::net::{Lookup, Ready, SocketId};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection, for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnId(pub(crate) usize);

/// How often things go wrong, in events of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// Reads and writes that do less than they could.
    pub(crate) short: u64,
    /// Reads and writes that say `WouldBlock` although they could do something.
    pub(crate) block: u64,
    /// Accepts that find their connection gone.
    pub(crate) aborted: u64,
    /// Connects that are refused.
    pub(crate) refused: u64,
    /// Connects that are never answered.
    pub(crate) silent: u64,
    /// Edges that also tell of what was there before.
    pub(crate) level: u64,
    /// Longest way of a segment, in microseconds.
    pub(crate) delay_us_max: u64,
}

#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connect {
    Pending { at_us: Option<u64>, ok: bool },
    Done,
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    readable: bool,
    writable: bool,
    closed: bool,
    at_us: u64,
}

/// Both ends of one connection.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: Option<SocketId>,
    /// The upstream's address; `None` for a client's connection.
    pub(crate) to: Option<SocketAddr>,
    connect: Connect,
    flying: VecDeque<(u64, Segment)>,
    inbox: VecDeque<u8>,
    fin_in: bool,
    rst_in: bool,
    window: usize,
    outbox: VecDeque<u8>,
    out_cap: usize,
    shut: bool,
    fin_out: bool,
    rst_out: bool,
    peer_closed: bool,
    write_blocked: bool,
    edge: Edge,
    /// When the peer's end or reset reached the worker's side.
    pub(crate) gone_at_us: Option<u64>,
    /// When the worker closed.
    pub(crate) closed_at_us: Option<u64>,
    /// Bytes that the worker has read.
    pub(crate) read_total: usize,
    /// Whether the peer reset it.
    pub(crate) was_reset: bool,
}

/// What a peer reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(Vec<u8>),
    Fin,
    Rst,
    Nothing,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Free,
    Listener,
    Conn(ConnId),
}

/// A name's states over time: each holds from its time on.
#[derive(Debug)]
struct Name {
    states: Vec<(u64, Lookup)>,
    told: usize,
}

/// What is broken on purpose, to show that somebody notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nothing,
    /// Some edges are forgotten, as by a worker that loses track of readiness.
    Edges,
    /// Sockets of upstreams are not closed.
    Closes,
    /// Some bytes of what is written get lost.
    Bytes,
    /// Some upstream ends are taken for good ones.
    Ends,
    /// Requests are sent twice.
    Twice,
    /// Replies of two clients are exchanged.
    Swapped,
    /// Every turn asks for the next one at once.
    Turns,
    /// Callers get the server's tokens.
    Accounts,
}

/// The network.
#[derive(Debug)]
pub(crate) struct SimNet {
    /// Microseconds since the run began.
    pub(crate) now_us: u64,
    random: Random,
    rates: Rates,
    slots: Vec<Slot>,
    conns: Vec<Conn>,
    backlog: VecDeque<ConnId>,
    listener: Option<SocketId>,
    listener_edge: bool,
    emfile_us: Vec<(u64, u64)>,
    /// Refusals for want of descriptors, in all.
    pub(crate) emfile_count: u64,
    names: BTreeMap<String, Name>,
    /// Requests that are being translated elsewhere, and when they are.
    jobs: Vec<(u64, Job)>,
    /// Where tokens are wanted.
    pub(crate) tokens: Option<Tokens>,
    fresh: Vec<ConnId>,
    /// Runs that the worker wants, since they were last taken.
    pub(crate) wanted: Vec<Wanted>,
    /// Runs that it may take over.
    started: HashMap<LaunchId, ConnId>,
    /// Counts everything that the worker did to the world.
    pub(crate) moved: u64,
    /// What the worker did that it must never do.
    pub(crate) violations: Vec<String>,
    /// Whether to print every call.
    pub(crate) trace: bool,
    pub(crate) broken: Broken,
}

impl SimNet {
    pub(crate) fn new(seed: u64, rates: Rates) -> Self {
        Self {
            now_us: 0,
            random: Random::new(seed),
            rates,
            slots: Vec::new(),
            conns: Vec::new(),
            backlog: VecDeque::new(),
            listener: None,
            listener_edge: false,
            emfile_us: Vec::new(),
            emfile_count: 0,
            names: BTreeMap::new(),
            jobs: Vec::new(),
            tokens: None,
            fresh: Vec::new(),
            wanted: Vec::new(),
            started: HashMap::new(),
            moved: 0,
            violations: Vec::new(),
            trace: false,
            broken: Broken::Nothing,
        }
    }

    /// Opens the listener.
    pub(crate) fn listen(&mut self) -> SocketId {
        let id = self.open(What::Listener);
        self.listener = Some(id);
        id
    }

    /// During this span there are no descriptors left.
    pub(crate) fn starve(&mut self, from_us: u64, to_us: u64) {
        self.emfile_us.push((from_us, to_us));
    }

    /// Plans what is known of a name, from which time on.
    pub(crate) fn plan_name(&mut self, host: &str, states: Vec<(u64, Lookup)>) {
        self.names.insert(host.to_owned(), Name { states, told: 0 });
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    pub(crate) fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id.0]
    }

    /// Sockets that the worker holds, listeners too.
    pub(crate) fn open_sockets(&self) -> usize {
        self.slots.iter().filter(|slot| slot.what != What::Free).count()
    }

    /// Connections to upstreams that the worker holds.
    pub(crate) fn open_upstreams(&self) -> usize {
        self.conns.iter().filter(|conn| conn.socket.is_some() && conn.to.is_some()).count()
    }

    /// True while something is on its way.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let conns = self.conns.iter().filter_map(|conn| {
            let flying = conn.flying.front().map(|(at, _)| *at);
            let edge = conn.edge;
            let edge = (conn.socket.is_some() && (edge.readable || edge.writable || edge.closed))
                .then_some(edge.at_us);
            let connect = match conn.connect {
                Connect::Pending { at_us, .. } if conn.socket.is_some() => at_us,
                _ => None,
            };
            [flying, edge, connect].into_iter().flatten().min()
        });
        let names = self.names.values().filter_map(|name| name.states.get(name.told + 1));
        let listener = (self.listener.is_some() && self.listener_edge).then_some(self.now_us);
        let names = names.map(|(at, _)| *at);
        let jobs = self.jobs.iter().map(|(at, _)| *at);
        let tokens = self.tokens.as_ref().and_then(Tokens::next_us);
        conns.chain(names).chain(listener).chain(jobs).chain(tokens).min()
    }

    /// Brings everything that is due to where it goes. True when a name's state changed, a
    /// request was translated, or tokens came.
    pub(crate) fn advance(&mut self) -> bool {
        let now = self.now_us;
        for conn in &mut self.conns {
            while conn.flying.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, segment)) = conn.flying.pop_front() else { break };
                conn.arrive(segment, now, &mut self.random);
            }
        }
        for index in 0..self.conns.len() {
            let conn = &mut self.conns[index];
            if let Connect::Pending { at_us: Some(at), ok } = conn.connect
                && at <= now
                && conn.socket.is_some()
            {
                conn.connect = if ok { Connect::Done } else { Connect::Failed };
                conn.edge.merge(!ok, true, !ok, now);
                if ok {
                    self.fresh.push(ConnId(index));
                }
            }
        }
        let mut changed = false;
        for name in self.names.values_mut() {
            while name.states.get(name.told + 1).is_some_and(|(at, _)| *at <= now) {
                name.told += 1;
                changed = true;
            }
        }
        let (due, later) = std::mem::take(&mut self.jobs).into_iter().partition(|job| job.0 <= now);
        self.jobs = later;
        for (_, job) in due {
            changed = true;
            job.run();
        }
        if let Some(tokens) = &mut self.tokens {
            changed |= tokens.advance(now);
            tokens.begin(now, &mut self.violations);
        }
        changed
    }

    /// The edges that are due, in any order.
    pub(crate) fn take_ready(&mut self) -> Vec<Ready> {
        let mut ready = Vec::new();
        if let Some(socket) = self.listener.filter(|_| self.listener_edge) {
            self.listener_edge = false;
            ready.push(Ready { socket, readable: true, writable: false, read_closed: false });
        }
        for conn in &mut self.conns {
            let Some(socket) = conn.socket else { continue };
            let edge = conn.edge;
            if edge.at_us > self.now_us || !(edge.readable || edge.writable || edge.closed) {
                continue;
            }
            conn.edge = Edge::default();
            if self.broken == Broken::Edges && self.random.chance(50) {
                continue;
            }
            let level = conn.connect == Connect::Done && self.random.chance(self.rates.level);
            let ended = conn.fin_in || conn.rst_in;
            ready.push(Ready {
                socket,
                readable: edge.readable || (level && (!conn.inbox.is_empty() || ended)),
                writable: edge.writable || (level && conn.has_room()),
                read_closed: edge.closed || (edge.readable && ended),
            });
        }
        self.random.shuffle(&mut ready);
        if self.trace && !ready.is_empty() {
            println!("{:>10} ready {ready:?}", self.now_us);
        }
        ready
    }

    fn delay(&mut self) -> u64 {
        if self.random.chance(400) { 0 } else { self.random.below(self.rates.delay_us_max + 1) }
    }

    fn starving(&mut self) -> bool {
        let now = self.now_us;
        let starving = self.emfile_us.iter().any(|(from, to)| (*from..*to).contains(&now));
        self.emfile_count += u64::from(starving);
        starving
    }

    fn open(&mut self, what: What) -> SocketId {
        let free = self.slots.iter().position(|slot| slot.what == What::Free);
        let slot = free.unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, what });
            self.slots.len() - 1
        });
        let entry = &mut self.slots[slot];
        entry.generation += 1;
        entry.what = what;
        SocketId { slot: slot as u32, generation: entry.generation }
    }

    fn what(&mut self, socket: SocketId, call: &str) -> What {
        let slot = self.slots.get(socket.slot as usize);
        let what = slot.filter(|slot| slot.generation == socket.generation).map(|slot| slot.what);
        let what = what.unwrap_or(What::Free);
        if what == What::Free {
            self.violations.push(format!("{call} on the closed socket {socket:?}"));
        }
        what
    }

    fn stream(&mut self, socket: SocketId, call: &str) -> io::Result<ConnId> {
        match self.what(socket, call) {
            What::Conn(id) if self.conns[id.0].connect == Connect::Done => Ok(id),
            What::Conn(_) => {
                // Linux says ENOTCONN to both while a connect is under way or has failed.
                self.violations
                    .push(format!("{call} before the connect of {socket:?} was decided"));
                Err(ErrorKind::NotConnected.into())
            }
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn add(&mut self, to: Option<SocketAddr>, connect: Connect) -> ConnId {
        let out_cap = *self.random.pick(&[256, 2_048, 16_384, 65_536]);
        let window = *self.random.pick(&[512, 4_096, 65_536]);
        self.conns.push(Conn {
            socket: None,
            to,
            connect,
            flying: VecDeque::new(),
            inbox: VecDeque::new(),
            fin_in: false,
            rst_in: false,
            window,
            outbox: VecDeque::new(),
            out_cap,
            shut: false,
            fin_out: false,
            rst_out: false,
            peer_closed: false,
            write_blocked: false,
            edge: Edge::default(),
            gone_at_us: None,
            closed_at_us: None,
            read_total: 0,
            was_reset: false,
        });
        ConnId(self.conns.len() - 1)
    }

    /// Says something in the trace.
    pub(crate) fn log(&self, conn: ConnId, what: std::fmt::Arguments<'_>) {
        if self.trace {
            println!("{:>10} c{} {what}", self.now_us, conn.0);
        }
    }
}

/// The peers' side.
impl SimNet {
    /// A client connects. `None` when nobody listens.
    pub(crate) fn peer_connect(&mut self) -> Option<ConnId> {
        self.listener?;
        let id = self.add(None, Connect::Done);
        self.backlog.push_back(id);
        self.listener_edge = true;
        self.log(id, format_args!("client connects"));
        Some(id)
    }

    /// A command starts: the worker may take its input and output over.
    pub(crate) fn peer_start(&mut self, launch: LaunchId) -> ConnId {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let id = self.add(Some(nowhere), Connect::Done);
        self.started.insert(launch, id);
        id
    }

    /// Whether the worker took the command's input and output over.
    pub(crate) fn is_taken(&self, id: ConnId) -> bool {
        !self.started.values().any(|started| *started == id)
    }

    /// Connections that reached an upstream since the last call.
    pub(crate) fn take_fresh(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.fresh)
    }

    /// Sends as much as the window takes.
    pub(crate) fn peer_send(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let delay = self.delay();
        let now = self.now_us;
        let conn = &mut self.conns[id.0];
        if conn.closed_at_us.is_some() {
            // The worker's side is gone: its kernel answers with a reset.
            conn.reset_peer(self.random.chance(500));
            return bytes.len();
        }
        let room = conn.window.saturating_sub(conn.inbox.len() + conn.flying_bytes());
        let taken = room.min(bytes.len());
        if taken > 0 {
            let last = conn.flying.back().map_or(0, |(at, _)| *at);
            let at = last.max(now + delay);
            conn.flying.push_back((at, Segment::Bytes(bytes[..taken].to_vec())));
        }
        taken
    }

    /// Ends the peer's sending side.
    pub(crate) fn peer_fin(&mut self, id: ConnId) {
        self.log(id, format_args!("peer FIN"));
        self.fly(id, Segment::Fin);
    }

    /// Resets.
    pub(crate) fn peer_rst(&mut self, id: ConnId) {
        self.log(id, format_args!("peer RST"));
        self.conns[id.0].peer_closed = true;
        self.conns[id.0].was_reset = true;
        self.fly(id, Segment::Rst);
    }

    /// Closes as a process that exits does: what it has not read makes it a reset.
    pub(crate) fn peer_close(&mut self, id: ConnId) {
        if self.conns[id.0].peer_closed {
            return;
        }
        self.log(id, format_args!("peer closes"));
        self.conns[id.0].peer_closed = true;
        let unread = !self.conns[id.0].outbox.is_empty();
        self.conns[id.0].was_reset |= unread;
        self.fly(id, if unread { Segment::Rst } else { Segment::Fin });
    }

    fn fly(&mut self, id: ConnId, segment: Segment) {
        let at = self.now_us + self.delay();
        let conn = &mut self.conns[id.0];
        if conn.closed_at_us.is_some() {
            return;
        }
        let last = conn.flying.back().map_or(0, |(at, _)| *at);
        conn.flying.push_back((last.max(at), segment));
    }

    /// Reads up to `most` bytes of what the worker wrote.
    pub(crate) fn peer_recv(&mut self, id: ConnId, most: usize) -> Got {
        let now = self.now_us;
        let conn = &mut self.conns[id.0];
        if !conn.outbox.is_empty() && most > 0 {
            let count = most.min(conn.outbox.len());
            let bytes = conn.outbox.drain(..count).collect();
            if conn.write_blocked && conn.has_room() {
                conn.write_blocked = false;
                conn.edge.merge(false, true, false, now);
            }
            return Got::Bytes(bytes);
        }
        match conn {
            Conn { rst_out: true, .. } => Got::Rst,
            Conn { fin_out: true, outbox, .. } if outbox.is_empty() => Got::Fin,
            _ => Got::Nothing,
        }
    }

    /// Whether the worker holds its end.
    pub(crate) fn is_held(&self, id: ConnId) -> bool {
        self.conns[id.0].closed_at_us.is_none()
    }

    /// Bytes that arrived and that the worker has neither read nor been told of just now.
    pub(crate) fn unread(&self, id: ConnId) -> usize {
        let conn = &self.conns[id.0];
        let told = conn.edge.readable || conn.edge.closed;
        if conn.socket.is_none() || told { 0 } else { conn.inbox.len() }
    }

    /// Whether the worker was told that the peer takes no more for now.
    pub(crate) fn is_blocked(&self, id: ConnId) -> bool {
        let conn = &self.conns[id.0];
        conn.write_blocked || conn.edge.writable
    }
}

impl Conn {
    fn has_room(&self) -> bool {
        self.outbox.len() < self.out_cap
    }

    fn flying_bytes(&self) -> usize {
        let size = |segment: &Segment| if let Segment::Bytes(b) = segment { b.len() } else { 0 };
        self.flying.iter().map(|(_, segment)| size(segment)).sum()
    }

    fn arrive(&mut self, segment: Segment, now: u64, random: &mut Random) {
        match segment {
            Segment::Bytes(bytes) => {
                self.inbox.extend(bytes);
                self.edge.merge(true, false, false, now);
            }
            Segment::Fin => {
                self.fin_in = true;
                self.gone_at_us.get_or_insert(now);
                self.edge.merge(true, false, true, now);
            }
            Segment::Rst => {
                self.rst_in = true;
                self.was_reset = true;
                self.gone_at_us.get_or_insert(now);
                if random.chance(500) {
                    self.inbox.clear();
                }
                self.edge.merge(true, true, true, now);
            }
        }
    }

    fn reset_peer(&mut self, lose: bool) {
        self.rst_out = true;
        if lose {
            self.outbox.clear();
        }
    }
}

impl Edge {
    fn merge(&mut self, readable: bool, writable: bool, closed: bool, at_us: u64) {
        let any = self.readable || self.writable || self.closed;
        self.at_us = if any { self.at_us.min(at_us) } else { at_us };
        self.readable |= readable;
        self.writable |= writable;
        self.closed |= closed;
    }
}

/// Addresses found for a name.
pub(crate) fn found(addresses: &[&str]) -> Lookup {
    let parsed: Result<Vec<SocketAddr>, _> = addresses.iter().map(|text| text.parse()).collect();
    Lookup::Found(Arc::from(parsed.unwrap_or_default()))
}
