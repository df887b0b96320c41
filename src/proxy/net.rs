//! The only seam to the operating system: sockets that never block. The worker is generic over it,
//! so the same code runs on `mio` and in the simulator.

use crate::config::Url;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::capture::Record;
use crate::proxy::desk::Job;
use crate::proxy::launch::{Launch, Progress};
use crate::proxy::meter::Calls;
use crate::proxy::token::Caller;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A socket or a listener of a [`Net`]. The generation makes a stale id of a closed socket harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// Slot in the `Net`'s table.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// What became possible on a socket since the last turn (edge-triggered: said once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The socket.
    pub socket: SocketId,
    /// Bytes, an end or an error can be read; on a listener, connections can be accepted; on a
    /// connecting socket nothing.
    pub readable: bool,
    /// Bytes can be written; on a connecting socket, the connect is decided.
    pub writable: bool,
    /// The peer has ended its sending side, or the connection is broken: a short read is not
    /// the last word.
    pub read_closed: bool,
}

/// What the worker knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses, in the order to try them; never empty.
    Found(Arc<[SocketAddr]>),
    /// Being looked up: ask again after [`Net`]'s driver said that names changed.
    Pending,
    /// Cannot be resolved, with the resolver's words.
    Failed(String),
}

/// What proves to an upstream who asks, at the moment.
#[derive(PartialEq, Eq)]
pub struct Token {
    /// The value of `Authorization`.
    pub authorization: String,
    /// The value of `ChatGPT-Account-ID`.
    pub account: Option<String>,
    /// Where requests go instead of the provider's own URL.
    pub url: Option<Url>,
}

impl std::fmt::Debug for Token {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the worker knows of a token.
#[derive(Clone, Debug)]
pub enum TokenState {
    /// Use it.
    Ready(Arc<Token>),
    /// Being refreshed: ask again after the driver said that tokens changed.
    Pending,
    /// There is none, and why, for the client: a 401 that says what to do, or a 503 while it may
    /// pass by itself.
    Failed(Arc<Failure>),
}

/// Sockets, names, and what is done elsewhere. Every call returns at once; [`io::ErrorKind::WouldBlock`] means that the
/// driver will say [`Ready`] when trying again makes sense.
pub trait Net {
    /// Takes the next waiting connection of a listener.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; out of descriptors and the like.
    fn accept(&mut self, listener: SocketId) -> io::Result<(SocketId, SocketAddr)>;

    /// Begins a TCP connect. The socket is writable once it is decided; [`Net::connected`] tells how.
    ///
    /// # Errors
    /// The connect could not even begin.
    fn connect(&mut self, address: SocketAddr) -> io::Result<SocketId>;

    /// After the first writable: whether the connect succeeded.
    ///
    /// # Errors
    /// Why the connect failed; `WouldBlock` when it is not decided yet.
    fn connected(&mut self, socket: SocketId) -> io::Result<()>;

    /// Reads what is there; `Ok(0)` is the peer's orderly end.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is broken.
    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what fits.
    ///
    /// # Errors
    /// `WouldBlock`, or why the connection is broken.
    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize>;

    /// Lets the system acknowledge what comes on this socket later, and several reads at once: fewer
    /// packets and less work, but a peer that keeps its next small piece back until the last one is
    /// acknowledged (RFC 896) waits for that, 40 ms at most on Linux. A wish: it may be ignored.
    fn delay_acks(&mut self, socket: SocketId) {
        let _ = socket;
    }

    /// Ends the sending side, after the queued bytes. Errors do not matter: a close follows.
    fn shutdown(&mut self, socket: SocketId);

    /// Closes a socket or a listener; its id is dead.
    fn close(&mut self, socket: SocketId);

    /// The addresses of a host and port from the configuration.
    fn resolve(&mut self, host: &str, port: u16) -> Lookup;

    /// The addresses of a host and port that a client chose, who may choose any number of them: what
    /// is kept of these is bounded, and they never make a configured name wait.
    fn resolve_stranger(&mut self, host: &str, port: u16) -> Lookup {
        let _ = port;
        Lookup::Failed(format!("{host} is not resolved here"))
    }

    /// The token of a provider whose credential is refreshed outside of the worker: a caller's own, or
    /// the server's.
    fn token(&mut self, provider: usize, caller: Option<&Arc<Caller>>) -> TokenState {
        let _ = caller;
        let message = format!("provider {provider} has no tokens");
        TokenState::Failed(Arc::new(Failure::new(Fault::proxy(Kind::Server), message)))
    }

    /// The upstream refused this token (401): get another unless there is a newer one already.
    /// The next [`Net::token`] is [`TokenState::Pending`] until that is decided, and the same token
    /// again where there will be no other.
    fn token_refused(&mut self, provider: usize, caller: Option<&Arc<Caller>>, token: &Arc<Token>) {
        let _ = (provider, caller, token);
    }

    /// Runs a command as soon as it is its turn; the driver says
    /// [`Worker::launches_changed`](crate::proxy::worker::Worker::launches_changed) after every step
    /// of it.
    fn launch(&mut self, launch: &Arc<Launch>) {
        let message = "no command can be run here";
        let failure = Failure::new(Fault::proxy(Kind::Server), message);
        launch.note(Progress::Failed(Arc::new(failure)));
    }

    /// Makes a socket of a run that has started, once: what is written to it is the command's standard
    /// input, what is read its standard output, and its end is the command's.
    ///
    /// # Errors
    /// There is no such run (any more), or no room for a socket.
    fn adopt(&mut self, launch: &Launch) -> io::Result<SocketId> {
        let _ = launch;
        Err(io::ErrorKind::NotFound.into())
    }

    /// Has a request translated elsewhere, so that nobody waits for it but its client; the driver
    /// says [`Worker::orders_changed`](crate::proxy::worker::Worker::orders_changed) when it was
    /// run. Gives the job back where there is no elsewhere: then it is run at once.
    fn translate(&mut self, job: Job) -> Option<Job> {
        Some(job)
    }

    /// How many system calls were made, where that is counted.
    fn calls(&self) -> Calls {
        Calls::default()
    }

    /// Takes an exchange that is over, where exchanges are written down. Never blocks: what cannot
    /// be taken is lost.
    fn record(&mut self, record: Record) {
        drop(record);
    }
}
