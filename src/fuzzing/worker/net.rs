//! A network whose every call may go as badly as a network's calls can, in one thread.
//!
//! Readiness is edge-triggered as epoll's is: an edge comes when bytes, an end or an error arrive,
//! and when room appears after a write was refused; never because something is merely still there.

use crate::proxy::net::{Lookup, Net, Ready, SocketId};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

/// What goes wrong, and how much fits.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches")]
pub(super) struct Weather {
    /// Reads and writes do less than they could.
    pub(super) short: bool,
    /// Reads and writes say `WouldBlock` although they could do something.
    pub(super) block: bool,
    /// Edges also tell of what is there anyway.
    pub(super) level: bool,
    /// Connects fail, or are never answered, and accepts find nobody.
    pub(super) refuse: bool,
    /// Bytes that a peer takes before it reads.
    pub(super) room: usize,
}

/// What became of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connect {
    Pending,
    Done,
    Failed,
}

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Conn {
    socket: Option<SocketId>,
    /// It leads to an upstream.
    pub(super) is_upstream: bool,
    connect: Connect,
    inbox: Vec<u8>,
    /// Bytes of `inbox` that were read.
    read: usize,
    fin: bool,
    reset: bool,
    /// All that the worker ever wrote.
    pub(super) written: Vec<u8>,
    /// Bytes of it that the peer took.
    taken: usize,
    write_blocked: bool,
    shut: bool,
    edge: Ready,
    /// All that the peer ever sent.
    pub(super) sent: Vec<u8>,
}

impl Conn {
    /// The worker holds its end, and the peer has not left.
    pub(super) fn is_up(&self) -> bool {
        self.socket.is_some() && !self.reset && self.connect == Connect::Done
    }

    /// The worker's connect waits for its answer.
    pub(super) fn is_dialing(&self) -> bool {
        self.socket.is_some() && self.connect == Connect::Pending
    }

    fn has_room(&self, weather: Weather) -> bool {
        self.written.len() - self.taken < weather.room
    }

    fn mark(&mut self, readable: bool, writable: bool, read_closed: bool) {
        self.edge.readable |= readable;
        self.edge.writable |= writable;
        self.edge.read_closed |= read_closed;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Free,
    Listener,
    Conn(usize),
}

/// The network.
#[derive(Debug)]
pub(super) struct FuzzNet {
    pub(super) weather: Weather,
    random: u64,
    slots: Vec<(u32, What)>,
    pub(super) conns: Vec<Conn>,
    backlog: Vec<usize>,
    listener: Option<SocketId>,
    listener_edge: bool,
    /// There are no descriptors left.
    pub(super) starved: bool,
    /// Names are not known yet.
    pub(super) nameless: bool,
    /// Counts everything that the worker did to the world.
    pub(super) moved: u64,
}

impl FuzzNet {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            weather,
            random: seed | 1,
            slots: Vec::new(),
            conns: Vec::new(),
            backlog: Vec::new(),
            listener: None,
            listener_edge: false,
            starved: false,
            nameless: false,
            moved: 0,
        }
    }

    pub(super) fn listen(&mut self) -> SocketId {
        let socket = self.open(What::Listener);
        self.listener = Some(socket);
        socket
    }

    /// Sockets that the worker holds.
    pub(super) fn open_sockets(&self) -> usize {
        self.slots.iter().filter(|(_, what)| *what != What::Free).count()
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(times)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.once_in(2);
        usize::try_from(self.random >> 33).unwrap_or(0) % limit.max(1)
    }

    fn open(&mut self, what: What) -> SocketId {
        let free = self.slots.iter().position(|(_, what)| *what == What::Free);
        let slot = free.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push((0, What::Free));
        }
        let generation = self.slots[slot].0 + 1;
        self.slots[slot] = (generation, what);
        SocketId { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation }
    }

    fn what(&self, socket: SocketId) -> What {
        let slot = usize::try_from(socket.slot).ok().and_then(|slot| self.slots.get(slot));
        match slot {
            Some((generation, what)) if *generation == socket.generation && *what != What::Free => {
                *what
            }
            _ => panic!("a call on the closed socket {socket:?}"),
        }
    }

    fn stream(&self, socket: SocketId) -> usize {
        match self.what(socket) {
            What::Conn(at) if self.conns[at].connect != Connect::Pending => at,
            other => panic!("{socket:?} is no stream yet: {other:?}"),
        }
    }

    fn add(&mut self, is_upstream: bool, connect: Connect) -> usize {
        let nobody = SocketId { slot: u32::MAX, generation: 0 };
        self.conns.push(Conn {
            socket: None,
            is_upstream,
            connect,
            inbox: Vec::new(),
            read: 0,
            fin: false,
            reset: false,
            written: Vec::new(),
            taken: 0,
            write_blocked: false,
            shut: false,
            edge: Ready { socket: nobody, readable: false, writable: false, read_closed: false },
            sent: Vec::new(),
        });
        self.conns.len() - 1
    }
}

/// The peers' side.
impl FuzzNet {
    /// A client connects; nobody may listen.
    pub(super) fn peer_connect(&mut self) {
        if self.listener.is_some() {
            let conn = self.add(false, Connect::Done);
            self.backlog.push(conn);
            self.listener_edge = true;
        }
    }

    /// The connections of one side that `up` takes.
    pub(super) fn list(&self, upstreams: bool, up: fn(&Conn) -> bool) -> Vec<usize> {
        let list = self.conns.iter().enumerate();
        let list = list.filter(|(_, conn)| conn.is_upstream == upstreams && up(conn));
        list.map(|(at, _)| at).collect()
    }

    pub(super) fn peer_send(&mut self, at: usize, bytes: &[u8]) {
        let conn = &mut self.conns[at];
        if !conn.fin && !bytes.is_empty() {
            conn.inbox.extend_from_slice(bytes);
            conn.sent.extend_from_slice(bytes);
            conn.mark(true, false, false);
        }
    }

    /// Ends the peer's sending side.
    pub(super) fn peer_fin(&mut self, at: usize) {
        self.conns[at].fin = true;
        self.conns[at].mark(true, false, true);
    }

    /// Resets; what was on its way may be lost.
    pub(super) fn peer_reset(&mut self, at: usize) {
        let lose = self.once_in(2);
        let conn = &mut self.conns[at];
        conn.reset = true;
        if lose {
            conn.read = conn.inbox.len();
        }
        conn.mark(true, true, true);
    }

    /// Takes up to `most` bytes of what the worker wrote.
    pub(super) fn peer_take(&mut self, at: usize, most: usize) {
        let weather = self.weather;
        let conn = &mut self.conns[at];
        conn.taken += most.min(conn.written.len() - conn.taken);
        if conn.write_blocked && conn.has_room(weather) {
            conn.write_blocked = false;
            conn.mark(false, true, false);
        }
    }

    /// Answers a connect.
    pub(super) fn decide(&mut self, at: usize, connected: bool) {
        let conn = &mut self.conns[at];
        conn.connect = if connected { Connect::Done } else { Connect::Failed };
        conn.mark(!connected, true, !connected);
    }

    /// The edges since the last call.
    pub(super) fn take_ready(&mut self) -> Vec<Ready> {
        let mut ready = Vec::new();
        if let Some(socket) = self.listener.filter(|_| std::mem::take(&mut self.listener_edge)) {
            ready.push(Ready { socket, readable: true, writable: false, read_closed: false });
        }
        let weather = self.weather;
        for conn in &mut self.conns {
            let Some(socket) = conn.socket else { continue };
            let nothing = Ready { socket, readable: false, writable: false, read_closed: false };
            let mut edge = Ready { socket, ..std::mem::replace(&mut conn.edge, nothing) };
            if edge == nothing {
                continue;
            }
            let ended = conn.fin || conn.reset;
            edge.read_closed |= edge.readable && ended;
            if weather.level && conn.connect == Connect::Done {
                edge.readable |= conn.read < conn.inbox.len() || ended;
                edge.writable |= conn.has_room(weather);
            }
            ready.push(edge);
        }
        if weather.level {
            ready.reverse();
        }
        ready
    }
}

impl Net for FuzzNet {
    fn accept(&mut self, listener: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        assert_eq!(self.what(listener), What::Listener);
        if self.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.starved {
            return Err(io::Error::from_raw_os_error(24));
        }
        let at = self.backlog.remove(0);
        self.moved += 1;
        if self.weather.refuse && self.once_in(8) {
            self.conns[at].reset = true;
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let socket = self.open(What::Conn(at));
        let conn = &mut self.conns[at];
        conn.socket = Some(socket);
        let ended = conn.fin || conn.reset;
        conn.mark(conn.read < conn.inbox.len() || ended, true, ended);
        Ok((socket, (Ipv4Addr::LOCALHOST, 4000).into()))
    }

    fn connect(&mut self, _address: SocketAddr) -> io::Result<SocketId> {
        if self.starved {
            return Err(io::Error::from_raw_os_error(24));
        }
        self.moved += 1;
        let at = self.add(true, Connect::Pending);
        let socket = self.open(What::Conn(at));
        self.conns[at].socket = Some(socket);
        // Others wait until somebody decides.
        if !self.weather.refuse || self.once_in(3) {
            self.decide(at, true);
        }
        Ok(socket)
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        let What::Conn(at) = self.what(socket) else { panic!("{socket:?} is no stream") };
        match self.conns[at].connect {
            Connect::Pending => Err(ErrorKind::WouldBlock.into()),
            Connect::Done => Ok(()),
            Connect::Failed => Err(ErrorKind::ConnectionRefused.into()),
        }
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let at = self.stream(socket);
        let (block, short) = (
            self.weather.block && self.once_in(5),
            if self.weather.short { 1 + self.below(200) } else { usize::MAX },
        );
        let conn = &mut self.conns[at];
        let rest = &conn.inbox[conn.read..];
        if rest.is_empty() {
            return match conn {
                Conn { reset: true, .. } => Err(ErrorKind::ConnectionReset.into()),
                Conn { fin: true, .. } => Ok(0),
                _ => Err(ErrorKind::WouldBlock.into()),
            };
        }
        if block {
            conn.mark(true, false, false);
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(rest.len()).min(short);
        into[..count].copy_from_slice(&rest[..count]);
        conn.read += count;
        if count < into.len() && conn.read < conn.inbox.len() {
            // A short read has emptied the socket, unless a new edge follows.
            conn.mark(true, false, false);
        }
        self.moved += 1;
        Ok(count)
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        let at = self.stream(socket);
        let (block, short) = (
            self.weather.block && self.once_in(5),
            if self.weather.short { 1 + self.below(200) } else { usize::MAX },
        );
        let room = self.weather.room;
        let conn = &mut self.conns[at];
        assert!(!conn.shut, "a write behind a shutdown");
        if conn.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = room.saturating_sub(conn.written.len() - conn.taken);
        if room == 0 {
            conn.write_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if block {
            conn.mark(false, true, false);
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = from.len().min(room).min(short);
        conn.written.extend_from_slice(&from[..count]);
        if count == room {
            conn.write_blocked = true;
        } else if count < from.len() {
            conn.mark(false, true, false);
        }
        self.moved += 1;
        Ok(count)
    }

    fn shutdown(&mut self, socket: SocketId) {
        let at = self.stream(socket);
        self.conns[at].shut = true;
        self.moved += 1;
    }

    fn close(&mut self, socket: SocketId) {
        let what = self.what(socket);
        if let Some(entry) =
            usize::try_from(socket.slot).ok().and_then(|slot| self.slots.get_mut(slot))
        {
            entry.1 = What::Free;
        }
        self.moved += 1;
        match what {
            What::Listener => self.listener = None,
            What::Conn(at) => self.conns[at].socket = None,
            What::Free => {}
        }
    }

    fn resolve(&mut self, host: &str, port: u16) -> Lookup {
        if self.nameless {
            return Lookup::Pending;
        }
        assert!(host.ends_with(".fuzz"), "a name that no provider has: {host}");
        Lookup::Found([SocketAddr::from((Ipv4Addr::LOCALHOST, port))].into())
    }
}
