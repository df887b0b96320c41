//! The generator's sockets: non-blocking over `mio`, registered once, edge-triggered.

use crate::proxy::net::{Lookup, Net, Ready, SocketId};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

/// Receive buffer of a reader with bounded speed: what the kernel holds for it is not held back.
const SLOW_BUFFER_BYTES: usize = 64 << 10;

/// A slot of the table. The generation goes up when the slot is emptied.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    stream: Option<TcpStream>,
}

/// The sockets of one thread.
#[derive(Debug)]
pub(super) struct Sockets {
    registry: Registry,
    slots: Vec<Slot>,
    free: Vec<u32>,
    slow: bool,
}

impl Sockets {
    /// An empty table whose sockets report to `registry`; `slow` for readers of bounded speed.
    pub(super) fn new(registry: Registry, slow: bool) -> Self {
        Self { registry, slots: Vec::new(), free: Vec::new(), slow }
    }

    /// What an event means for the socket that has its slot now.
    pub(super) fn ready(&self, event: &Event) -> Option<Ready> {
        let slot = u32::try_from(event.token().0).ok()?;
        let entry = self.slots.get(slot as usize).filter(|entry| entry.stream.is_some())?;
        let broken = event.is_error();
        let read_closed = event.is_read_closed() || broken;
        Some(Ready {
            socket: SocketId { slot, generation: entry.generation },
            readable: event.is_readable() || read_closed,
            writable: event.is_writable() || event.is_write_closed() || broken,
            read_closed,
        })
    }

    fn stream(&self, socket: SocketId) -> io::Result<&TcpStream> {
        match self.slots.get(socket.slot as usize) {
            Some(Slot { generation, stream: Some(stream) }) if *generation == socket.generation => {
                Ok(stream)
            }
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn begin(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.slow {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        }
        match socket.connect(&address.into()) {
            Err(why) if !is_under_way(&why) => Err(why),
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }
}

/// Whether a connect that "failed" goes on (EINPROGRESS).
fn is_under_way(why: &io::Error) -> bool {
    const EINPROGRESS: i32 = 115;
    why.kind() == ErrorKind::WouldBlock
        || why.raw_os_error() == Some(if cfg!(target_os = "linux") { EINPROGRESS } else { 36 })
}

impl Net for Sockets {
    fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        Err(ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<SocketId> {
        let mut stream = self.begin(address)?;
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None => u32::try_from(self.slots.len()).map_err(io::Error::other)?,
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(slot as usize), both)?;
        if self.slots.len() == slot as usize {
            self.slots.push(Slot::default());
        } else {
            self.free.pop();
        }
        let entry = self.slots.get_mut(slot as usize).ok_or(ErrorKind::NotFound)?;
        entry.stream = Some(stream);
        Ok(SocketId { slot, generation: entry.generation })
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        let stream = self.stream(socket)?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(()),
            Err(why) if why.kind() == ErrorKind::NotConnected => Err(ErrorKind::WouldBlock.into()),
            Err(why) => Err(why),
        }
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        self.stream(socket)?.read(into)
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
        let Some(entry) = self.slots.get_mut(socket.slot as usize) else { return };
        if entry.generation == socket.generation && entry.stream.take().is_some() {
            entry.generation = entry.generation.wrapping_add(1);
            self.free.push(socket.slot);
        }
    }

    fn resolve(&mut self, host: &str, _: u16) -> Lookup {
        Lookup::Failed(format!("{host}: names are looked up before the load begins"))
    }
}

/// Why no connection could begin, when going on makes no sense: what is missing, and what to do.
pub(super) fn exhausted(why: &io::Error, address: SocketAddr, open: usize) -> Option<String> {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    match (why.kind(), why.raw_os_error()) {
        (_, Some(EMFILE | ENFILE)) => Some(format!(
            "no file descriptor is left at connection {open}: raise the limit of the shell that \
             starts the bench (`ulimit -n 65536`), or take fewer --connections"
        )),
        (ErrorKind::AddrNotAvailable, _) => Some(format!(
            "no local port is left towards {address} at connection {open}: Linux has about 28,000 \
             for each address of a target (sysctl net.ipv4.ip_local_port_range), and one that was \
             just closed from this side rests for a minute; take fewer --connections, or a lower \
             --rate with --churn"
        )),
        _ => None,
    }
}
