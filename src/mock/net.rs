//! The sockets of one worker: registered once for both directions, edge-triggered.

use super::worker::{LISTENER, WAKER};
use crate::proxy::net::{Lookup, Net, Ready, SocketId};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

/// Connections that wait for `accept`, at most; the kernel cuts it to its own limit.
const BACKLOG: i32 = 4096;

/// A listener and its connections. A socket's slot is its connection's, too.
#[derive(Debug)]
pub(super) struct Sockets {
    registry: Registry,
    listener: TcpListener,
    streams: Slab<TcpStream>,
}

impl Sockets {
    /// Takes over a listener that is bound and does not block.
    pub(super) fn new(registry: Registry, listener: std::net::TcpListener) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { registry, listener, streams: Slab::new() })
    }

    /// What an event means for the connection in its slot; `None` when it is no connection's.
    pub(super) fn ready(event: &Event) -> Option<Ready> {
        if matches!(event.token(), LISTENER | WAKER) {
            return None;
        }
        let slot = u32::try_from(event.token().0).ok()?;
        let broken = event.is_error();
        let read_closed = event.is_read_closed() || broken;
        Some(Ready {
            socket: SocketId { slot, generation: 0 },
            readable: event.is_readable() || read_closed,
            writable: event.is_writable() || event.is_write_closed() || broken,
            read_closed,
        })
    }

    fn stream(&self, socket: SocketId) -> io::Result<&TcpStream> {
        let stream = self.streams.get(socket.slot as usize);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Net for Sockets {
    /// Accepts; there is one listener, so that its id is of no matter.
    fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        let (mut stream, peer) = self.listener.accept()?;
        let entry = self.streams.vacant_entry();
        let slot = u32::try_from(entry.key()).map_err(io::Error::other)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(entry.key()), both)?;
        entry.insert(stream);
        Ok((SocketId { slot, generation: 0 }, peer))
    }

    fn connect(&mut self, _: SocketAddr) -> io::Result<SocketId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        self.stream(socket).map(drop)
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream(socket)?;
        loop {
            match stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        self.stream(socket)?.write(from)
    }

    fn shutdown(&mut self, socket: SocketId) {
        if let Ok(stream) = self.stream(socket) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, socket: SocketId) {
        // Closing the descriptor takes it off the poll by itself: it has no copy.
        let _ = self.streams.try_remove(socket.slot as usize);
    }

    fn resolve(&mut self, host: &str, _: u16) -> Lookup {
        Lookup::Failed(format!("{host}: this server looks nothing up"))
    }
}

/// Binds a listener for each of `workers`; the first decides what port 0 is.
pub(super) fn bind(
    address: SocketAddr,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let shared = workers > 1;
    if shared && address.port() != 0 {
        // SO_REUSEPORT alone would share the port with whoever has it already.
        listener(address, false)?;
    }
    let first = listener(address, shared)?;
    let bound = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..workers {
        all.push(listener(bound, shared)?);
    }
    Ok((bound, all))
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets have it from here on Linux.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn workers_share_a_port_that_nobody_else_has() {
        let (address, all) = bind((Ipv4Addr::LOCALHOST, 0).into(), 3).unwrap();
        assert_ne!(address.port(), 0);
        assert!(all.iter().all(|one| one.local_addr().unwrap() == address));
        for workers in [1, 2] {
            let taken = bind(address, workers).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        }
        drop(all);
        assert!(bind(address, 2).is_ok());
    }
}
