//! A scripted model server: what it answers is known to the byte, when it answers is set by the
//! script, and it costs much less than any proxy in front of it.
//!
//! Every answer is made once by the proxy's own encoders (GigaChat's here, as the proxy has none)
//! and then copied, with its id and its times written in. The path of a request decides the wire
//! API; the script comes from the server's options, or whole from a model name that begins with
//! [`script::PREFIX`], and the field `x-mock-script` changes keys of either. GigaChat is as strict as
//! the real one ([`gigachat`]), and may answer in scenes ([`Scene`]).

mod conn;
mod count;
pub mod gigachat;
mod memo;
mod net;
mod play;
mod reply;
mod route;
mod scene;
pub mod script;
mod wire;
mod worker;

pub use count::Counts;
pub use gigachat::GigaChat;
pub use reply::PROMPT_TOKENS;
pub use scene::{Scene, read_scenes};
pub use wire::{MODEL, TOOL, Wire};

use crate::proxy::transport::TlsTable;
use crate::reactor::Notice;
use count::Board;
use script::Script;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use worker::{Stop, Worker};

/// Most worker threads.
const WORKERS_MAX: usize = 1024;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads, each with a listener of its own on the same port.
    pub workers: usize,
    /// The answer to requests that bring no script of their own.
    pub script: Script,
    /// The only wire API that is there; `None` for all.
    pub wire: Option<Wire>,
    /// TLS for clients, once a certificate was set ([`TlsTable::set_server`]).
    pub tls: Option<Arc<TlsTable>>,
    /// Who may use GigaChat.
    pub gigachat: GigaChat,
    /// What answers GigaChat's clients where it fits; the script answers the others.
    pub scenes: Vec<Scene>,
}

impl Default for Options {
    /// One thread on a free port of 127.0.0.1, every wire API, in the clear.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            workers: 1,
            script: Script::default(),
            wire: None,
            tls: None,
            gigachat: GigaChat::default(),
            scenes: Vec::new(),
        }
    }
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    stops: Vec<Stop>,
    threads: Vec<JoinHandle<()>>,
    sender: Sender<Notice>,
    mailbox: Receiver<Notice>,
}

impl Server {
    /// Binds the address and starts the threads. Clients can connect when this returns.
    ///
    /// # Errors
    /// What could not be set up, in words for people.
    pub fn start(options: &Options) -> Result<Self, String> {
        let (listen, workers) = (options.listen, options.workers);
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(format!("workers is {workers}: it must be from 1 to {WORKERS_MAX}"));
        }
        let (address, listeners) = net::bind(listen, workers)
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let board = Arc::new(Board::new(workers, options.gigachat.clone()));
        let options = Arc::new(options.clone());
        let (sender, mailbox) = channel();
        let mut server = Self {
            address,
            board: Arc::clone(&board),
            stops: Vec::new(),
            threads: Vec::new(),
            sender,
            mailbox,
        };
        for ((index, listener), counters) in (0..).zip(listeners).zip(board.workers()) {
            let started =
                Worker::new(listener, Arc::clone(&options), Arc::clone(&board), counters, index)
                    .and_then(|worker| server.run(worker, index));
            started.map_err(|error| format!("cannot start: {error}"))?;
        }
        Ok(server)
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it did so far and holds at the moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.board.counts()
    }

    /// The same and more as a JSON object, as `GET /counters` gives it.
    #[must_use]
    pub fn counters(&self) -> Vec<u8> {
        self.board.json()
    }

    /// A way to leave a notice for [`Server::keep`].
    #[must_use]
    pub fn mailbox(&self) -> Sender<Notice> {
        self.sender.clone()
    }

    /// Serves until a signal or another notice asks for the end, and then ends at once.
    ///
    /// # Errors
    /// A thread failed, and how.
    pub fn keep(self) -> Result<(), String> {
        loop {
            match self.mailbox.recv() {
                Ok(Notice::Worker(Some(why))) => return Err(format!("a worker ended: {why}")),
                Ok(Notice::Worker(None) | Notice::Reload) => {}
                Ok(Notice::Signal(_) | Notice::Shutdown) | Err(_) => return Ok(()),
            }
        }
    }

    /// Ends every connection and waits for the threads.
    pub fn stop(self) {
        drop(self);
    }

    fn run(&mut self, worker: Worker, index: u64) -> io::Result<()> {
        let (stop, keeper) = (worker.stop(), self.mailbox());
        let run = move || {
            let words = match catch_unwind(AssertUnwindSafe(|| worker.run())) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it panicked".to_owned()),
            };
            // Fails only when the server is being dropped.
            drop(keeper.send(Notice::Worker(words)));
        };
        self.threads.push(thread::Builder::new().name(format!("mock-{index}")).spawn(run)?);
        self.stops.push(stop);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stops.iter().for_each(Stop::stop);
        for thread in self.threads.drain(..) {
            // It caught its panics itself.
            let _ = thread.join();
        }
    }
}
