//! Sockets over `mio`: edge-triggered, registered once for both directions, never re-armed.

use super::capture::Recorder;
use super::children::{Guard, Launcher};
use super::desk::Desk;
use super::resolve::Resolver;
use super::tokens::Tokens;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::capture::Record;
use crate::proxy::desk::Job;
use crate::proxy::launch::{Launch, Progress};
use crate::proxy::meter::Calls;
use crate::proxy::net::{self, Lookup, Net, Ready, SocketId, TokenState};
use crate::proxy::token::Caller;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

/// Connections that wait for `accept`, at most; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// The token of the waker, which is no socket's: no slot has the last number.
pub(super) const WAKER: Token = Token(usize::MAX);
/// A token is a slot and, above these bits, the end of its generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = usize::MAX >> (usize::BITS - SLOT_BITS);

/// What a slot holds.
#[derive(Debug)]
enum Io {
    Listener(TcpListener),
    Stream(TcpStream),
    /// A run's standard input and output, and what ends it.
    Run {
        stream: UnixStream,
        _guard: Guard,
    },
}

/// A slot of the table. The generation goes up when the slot is emptied.
#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The system said that the socket failed.
    failed: bool,
    io: Option<Io>,
}

/// The sockets of one worker.
#[derive(Debug)]
pub struct MioNet {
    registry: Registry,
    resolver: Resolver,
    strangers: Option<Resolver>,
    tokens: Tokens,
    desk: Desk,
    launcher: Option<Launcher>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    recorder: Option<Recorder>,
    calls: Calls,
}

impl MioNet {
    /// Makes an empty table whose sockets report to `registry`.
    pub(super) fn new(registry: Registry, resolver: Resolver, tokens: Tokens, desk: Desk) -> Self {
        Self {
            registry,
            resolver,
            strangers: None,
            tokens,
            desk,
            slots: Vec::new(),
            free: Vec::new(),
            launcher: None,
            recorder: None,
            calls: Calls::default(),
        }
    }

    /// Counts a wait for readiness.
    pub(super) const fn polled(&mut self) {
        self.calls.polls += 1;
    }

    /// Leaves exchanges that are over with this recorder.
    pub(super) fn record_with(&mut self, recorder: Option<Recorder>) {
        self.recorder = recorder;
    }

    /// Looks names up that clients choose with this resolver.
    pub(super) fn resolve_strangers_with(&mut self, resolver: Option<Resolver>) {
        self.strangers = resolver;
    }

    /// Runs commands with this launcher.
    pub(super) fn run_with(&mut self, launcher: Launcher) {
        self.launcher = Some(launcher);
    }

    /// Takes over a listener that is bound and does not block.
    ///
    /// # Errors
    /// The listener could not be registered.
    pub(super) fn listen(&mut self, listener: std::net::TcpListener) -> io::Result<SocketId> {
        self.insert(Io::Listener(TcpListener::from_std(listener)))
    }

    /// What an event of `mio` means for its socket. `None` for one that was closed.
    pub(super) fn ready(&mut self, event: &Event) -> Option<Ready> {
        let token = event.token();
        let slot = u32::try_from(token.0 & SLOT_MASK).ok()?;
        let entry = self.slots.get_mut(slot as usize).filter(|entry| entry.io.is_some())?;
        if token_of(slot, entry.generation) != token {
            return None;
        }
        let broken = event.is_error();
        entry.failed |= broken;
        let read_closed = event.is_read_closed() || broken;
        Some(Ready {
            socket: SocketId { slot, generation: entry.generation },
            readable: event.is_readable() || read_closed,
            writable: event.is_writable() || event.is_write_closed() || broken,
            read_closed,
        })
    }

    /// Puts a socket into a free slot and registers it, once and for all.
    fn insert(&mut self, mut io: Io) -> io::Result<SocketId> {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None => u32::try_from(self.slots.len())
                .ok()
                .filter(|slot| (*slot as usize) < SLOT_MASK)
                .ok_or_else(|| io::Error::other("the socket table is full"))?,
        };
        self.calls.registers += 1;
        let generation = self.slots.get(slot as usize).map_or(0, |entry| entry.generation);
        let token = token_of(slot, generation);
        let both = Interest::READABLE | Interest::WRITABLE;
        match &mut io {
            Io::Listener(listener) => {
                self.registry.register(listener, token, Interest::READABLE)?;
            }
            Io::Stream(stream) => self.registry.register(stream, token, both)?,
            Io::Run { stream, .. } => self.registry.register(stream, token, both)?,
        }
        if let Some(entry) = self.slots.get_mut(slot as usize) {
            self.free.pop();
            entry.failed = false;
            entry.io = Some(io);
            return Ok(SocketId { slot, generation: entry.generation });
        }
        self.slots.push(Slot { generation: 0, failed: false, io: Some(io) });
        Ok(SocketId { slot, generation: 0 })
    }

    /// What is behind an id that is alive.
    fn io(&self, socket: SocketId) -> io::Result<&Io> {
        match self.slots.get(socket.slot as usize) {
            Some(Slot { generation, io: Some(io), .. }) if *generation == socket.generation => {
                Ok(io)
            }
            _ => Err(dead()),
        }
    }

    /// The connection behind an id that is alive.
    fn stream(&self, socket: SocketId) -> io::Result<&TcpStream> {
        match self.io(socket)? {
            Io::Stream(stream) => Ok(stream),
            Io::Listener(_) | Io::Run { .. } => Err(dead()),
        }
    }
}

/// What the poll calls a socket.
const fn token_of(slot: u32, generation: u32) -> Token {
    Token((slot as usize & SLOT_MASK) | (generation as usize) << SLOT_BITS)
}

/// The error for an id whose socket was closed.
fn dead() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}

impl Net for MioNet {
    fn accept(&mut self, listener: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        self.calls.accepts += 1;
        let (stream, peer) = match self.slots.get(listener.slot as usize) {
            Some(Slot { generation, io: Some(Io::Listener(it)), .. })
                if *generation == listener.generation =>
            {
                it.accept()?
            }
            _ => return Err(dead()),
        };
        // On Linux an accepted socket has it from its listener.
        if !cfg!(target_os = "linux") {
            stream.set_nodelay(true)?;
        }
        Ok((self.insert(Io::Stream(stream))?, peer))
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<SocketId> {
        self.calls.connects += 1;
        let stream = TcpStream::connect(address)?;
        self.calls.options += 1;
        // Undecided yet: some systems refuse options until then, and slow is better than broken.
        let _ = stream.set_nodelay(true);
        self.insert(Io::Stream(stream))
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        let stream = self.stream(socket)?;
        let failed = self.slots.get(socket.slot as usize).is_some_and(|slot| slot.failed);
        // Linux says writable only of a connect that is decided, and tells with it of a failure:
        // the two questions below would cost a call each to hear the same again.
        if cfg!(target_os = "linux") && !failed {
            return Ok(());
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        self.calls.reads += 1;
        let io = self.io(socket)?;
        loop {
            let read = match io {
                Io::Stream(stream) => (&*stream).read(into),
                Io::Run { stream, .. } => (&*stream).read(into),
                Io::Listener(_) => return Err(dead()),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        self.calls.writes += 1;
        let io = self.io(socket)?;
        loop {
            let written = match io {
                Io::Stream(stream) => (&*stream).write(from),
                Io::Run { stream, .. } => (&*stream).write(from),
                Io::Listener(_) => return Err(dead()),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn delay_acks(&mut self, socket: SocketId) {
        #[cfg(target_os = "linux")]
        if let Ok(stream) = self.stream(socket) {
            let _ = socket2::SockRef::from(stream).set_tcp_quickack(false);
            self.calls.options += 1;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = socket;
    }

    fn shutdown(&mut self, socket: SocketId) {
        self.calls.shutdowns += 1;
        let _ = match self.io(socket) {
            Ok(Io::Stream(stream)) => stream.shutdown(Shutdown::Write),
            Ok(Io::Run { stream, .. }) => stream.shutdown(Shutdown::Write),
            Ok(Io::Listener(_)) | Err(_) => Ok(()),
        };
    }

    fn close(&mut self, socket: SocketId) {
        let Some(entry) = self.slots.get_mut(socket.slot as usize) else { return };
        if entry.generation != socket.generation {
            return;
        }
        // Closing the descriptor takes it off the poll by itself, but for the moment in which a process
        // is being started, which has a copy of each until it is another program: what is told of it
        // then has the token of a generation that is over.
        if entry.io.take().is_some() {
            self.calls.closes += 1;
            entry.generation = entry.generation.wrapping_add(1);
            self.free.push(socket.slot);
        }
    }

    fn resolve(&mut self, host: &str, port: u16) -> Lookup {
        self.resolver.resolve(host, port)
    }

    fn resolve_stranger(&mut self, host: &str, port: u16) -> Lookup {
        match &self.strangers {
            Some(resolver) => resolver.resolve(host, port),
            None => Lookup::Failed("no names of clients are looked up here".to_owned()),
        }
    }

    fn launch(&mut self, launch: &Arc<Launch>) {
        match &self.launcher {
            Some(launcher) => launcher.launch(launch),
            None => launch.note(Progress::Failed(Arc::new(Failure::new(
                Fault::proxy(Kind::Server),
                "no command can be run here",
            )))),
        }
    }

    fn adopt(&mut self, launch: &Launch) -> io::Result<SocketId> {
        let found = self.launcher.as_ref().and_then(|launcher| launcher.take(launch.id()));
        let (stream, guard) = found.ok_or_else(dead)?;
        self.insert(Io::Run { stream: UnixStream::from_std(stream), _guard: guard })
    }

    fn translate(&mut self, job: Job) -> Option<Job> {
        self.desk.take(job)
    }

    fn calls(&self) -> Calls {
        self.calls
    }

    fn record(&mut self, record: Record) {
        if let Some(recorder) = &self.recorder {
            recorder.record(record);
        }
    }

    fn token(&mut self, provider: usize, caller: Option<&Arc<Caller>>) -> TokenState {
        self.tokens.token(provider, caller)
    }

    fn token_refused(
        &mut self,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        token: &Arc<net::Token>,
    ) {
        self.tokens.refused(provider, caller, token);
    }
}

/// Binds `copies` listeners to one address with `SO_REUSEPORT`; the first decides what port 0 is.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub(super) fn bind(
    address: SocketAddr,
    copies: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    if address.port() != 0 && is_shared(address) {
        log::warn!(
            "another process listens on {address} too: connections are shared with it until it ends"
        );
    }
    let first = listener(address)?;
    let bound = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..copies {
        all.push(listener(bound)?);
    }
    Ok((bound, all))
}

/// One listener.
fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = plain(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that may take over an address whose old connections linger.
fn plain(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Whether somebody listens on the address already; `SO_REUSEPORT` alone would not tell.
fn is_shared(address: SocketAddr) -> bool {
    plain(address)
        .and_then(|socket| socket.bind(&address.into()))
        .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream as StdStream};

    fn net() -> (Poll, MioNet) {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let waker = mio::Waker::new(poll.registry(), WAKER).unwrap();
        let desk = Desk::new(Arc::new(crate::reactor::wake::Wake::new(waker)));
        let resolver = Resolver::start(Vec::new()).unwrap();
        (poll, MioNet::new(registry, resolver, Tokens::none(), desk))
    }

    /// Polls until `done` says that what it wanted has come.
    fn until(poll: &mut Poll, net: &mut MioNet, mut done: impl FnMut(Ready) -> bool) {
        let mut events = Events::with_capacity(16);
        loop {
            poll.poll(&mut events, None).unwrap();
            let mut ready = events.iter().filter_map(|event| net.ready(event));
            if ready.any(&mut done) {
                return;
            }
        }
    }

    #[test]
    fn listeners_share_the_port_that_the_first_was_given() {
        let (address, all) = bind((Ipv4Addr::LOCALHOST, 0).into(), 3).unwrap();
        assert_ne!(address.port(), 0);
        for listener in &all {
            assert_eq!(listener.local_addr().unwrap(), address);
        }
        assert!(is_shared(address));
        drop(all);
        assert!(!is_shared(address));
    }

    #[test]
    fn bytes_go_both_ways_and_the_end_is_seen() {
        let (mut poll, mut net) = net();
        let (address, mut all) = bind((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
        let listener = net.listen(all.pop().unwrap()).unwrap();
        let mut peer = StdStream::connect(address).unwrap();
        until(&mut poll, &mut net, |ready| ready.socket == listener && ready.readable);
        let (socket, from) = net.accept(listener).unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
        assert!(net.stream(socket).unwrap().nodelay().unwrap());
        let again = net.accept(listener).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);

        peer.write_all(b"ping").unwrap();
        until(&mut poll, &mut net, |ready| ready.socket == socket && ready.readable);
        let mut buffer = [0; 16];
        assert_eq!(net.read(socket, &mut buffer).unwrap(), 4);
        assert_eq!(net.read(socket, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(net.write(socket, b"pong").unwrap(), 4);
        net.shutdown(socket);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "pong");

        drop(peer);
        until(&mut poll, &mut net, |ready| ready.socket == socket && ready.read_closed);
        assert_eq!(net.read(socket, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_connect_is_decided_after_the_first_writable() {
        let (mut poll, mut net) = net();
        let target = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = net.connect(target.local_addr().unwrap()).unwrap();
        until(&mut poll, &mut net, |ready| ready.socket == socket && ready.writable);
        net.connected(socket).unwrap();

        let address = target.local_addr().unwrap();
        drop(target);
        let refused = net.connect(address).unwrap();
        until(&mut poll, &mut net, |ready| ready.socket == refused && ready.writable);
        let error = net.connected(refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_dead_id_does_not_reach_the_slots_next_socket() {
        let (_poll, mut net) = net();
        let target = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = target.local_addr().unwrap();
        let old = net.connect(address).unwrap();
        net.close(old);
        net.close(old);
        let new = net.connect(address).unwrap();
        assert_eq!(new.slot, old.slot);
        assert_ne!(new.generation, old.generation);
        net.close(old);
        assert!(net.stream(new).is_ok());
        assert_eq!(net.read(old, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(net.write(old, b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(net.connected(old).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(net.accept(new).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn a_copy_of_a_closed_socket_is_not_taken_for_the_next_in_its_slot() {
        let (mut poll, mut net) = net();
        let pair = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let far = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            let near = listener.accept().unwrap().0;
            near.set_nonblocking(true).unwrap();
            (near, far)
        };
        let ((first, gone), (second, mut there)) = (pair(), pair());
        // As a process that is being started has one of each.
        let copy = first.try_clone().unwrap();
        let closed = net.insert(Io::Stream(TcpStream::from_std(first))).unwrap();
        net.close(closed);
        let next = net.insert(Io::Stream(TcpStream::from_std(second))).unwrap();
        assert_eq!((next.slot, next.generation), (closed.slot, closed.generation + 1));
        drop(gone);
        let mut events = Events::with_capacity(16);
        while !events.iter().any(Event::is_read_closed) {
            poll.poll(&mut events, None).unwrap();
            for ready in events.iter().filter_map(|event| net.ready(event)) {
                assert!(ready.socket == next && !ready.read_closed, "{ready:?}");
            }
        }
        there.write_all(b"x").unwrap();
        until(&mut poll, &mut net, |ready| ready.socket == next && ready.readable);
        drop(copy);
    }
}
