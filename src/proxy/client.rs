//! The client half: `Idle -> Head -> Body -> Exchange -> Idle`, any -> `Closing -> Linger`. Knows
//! nothing of upstreams.
//!
//! A client that ends its sending side before its reply is whole is taken for gone: nobody can tell
//! a half-close from a close, and an upstream that works for nobody costs money.

use crate::config::Timeouts;
use crate::proxy::exchange::Exchange;
use crate::proxy::net::{Net, SocketId};
use crate::proxy::reply::Answer;
use crate::proxy::shared::Shared;
use crate::proxy::transport::{Got, Link};
use crate::wire::buffer::Buffer;
use crate::wire::http1::{BodyLength, HeadSearch, write_reply_head};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes of later requests that are read while one is served.
const PIPELINED_BYTES_MAX: usize = 64 << 10;
/// Bytes that are sent at a time: the system copies what it is given while all others wait.
const FLUSH_BYTES_MAX: usize = 256 << 10;
/// How long a client's leftover is read after our last word, so that a reset does not overtake it.
const LINGER: Duration = Duration::from_secs(2);
/// Body bytes that give a client another second.
const BODY_BYTES_S: usize = 64 << 10;

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests.
    Idle,
    /// A head has begun.
    Head,
    /// A body comes.
    Body,
    /// An exchange is under way.
    Exchange,
    /// The last bytes go out.
    Closing,
    /// Everything is said; what still comes is thrown away.
    Linger,
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) peer: SocketAddr,
    pub(crate) phase: Phase,
    /// When the phase's clock began.
    pub(crate) since: Instant,
    /// When the client last took something, or was last given something after a silence.
    pub(crate) moved: Instant,
    pub(crate) input: Buffer,
    pub(crate) out: Buffer,
    pub(crate) search: HeadSearch,
    pub(crate) exchange: Option<Box<Exchange>>,
    /// It promised to send nothing behind the request that was served.
    pub(crate) last_said: bool,
}

impl Client {
    pub(crate) fn new(link: Link, peer: SocketAddr, now: Instant) -> Self {
        Self {
            link,
            peer,
            phase: Phase::Idle,
            since: now,
            moved: now,
            input: Buffer::new(),
            out: Buffer::new(),
            search: HeadSearch::default(),
            exchange: None,
            last_said: false,
        }
    }

    /// A new connection, in TLS if that is configured. `None` when it had to be closed.
    pub(crate) fn accepted<N: Net>(
        shared: &mut Shared<N>,
        socket: SocketId,
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Self> {
        let mut link = Link::accepted(socket);
        if let Some(config) = shared.tls.server()
            && let Err(why) = link.accept_tls(config)
        {
            log::error!("a client is turned away: {why}");
            shared.net.close(socket);
            return None;
        }
        Some(Self::new(link, peer, now))
    }

    /// Closes a connection that is one too many. Who awaits TLS cannot be told why.
    pub(crate) fn turn_away<N: Net>(shared: &mut Shared<N>, socket: SocketId) {
        const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
            retry-after: 1\r\ncontent-length: 0\r\n\r\n";
        shared.meter.turned_away += 1;
        if shared.tls.server().is_none() {
            // Whoever does not take it is turned away all the same.
            let _ = shared.net.write(socket, BUSY);
        }
        shared.net.shutdown(socket);
        shared.net.close(socket);
    }

    /// When to stop waiting for this peer; `None` while we do not wait for it.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let stalled = (!self.out.is_empty()).then(|| self.moved + timeouts.client_write);
        let phase = match self.phase {
            // A reply that is still being taken is no idleness.
            Phase::Idle if !self.out.is_empty() => None,
            Phase::Idle => Some(self.since.max(self.moved) + timeouts.client_idle),
            Phase::Head => Some(self.since + timeouts.client_head),
            Phase::Body => {
                let bytes = self.exchange.as_ref().map_or(0, |exchange| exchange.received());
                let extra = Duration::from_secs((bytes / BODY_BYTES_S) as u64);
                Some(self.since + timeouts.client_body + extra)
            }
            Phase::Exchange if self.out.is_empty() => {
                self.exchange.as_ref().and_then(|exchange| exchange.deadline(timeouts))
            }
            Phase::Exchange => None,
            Phase::Closing => stalled.or(Some(self.moved + timeouts.client_write)),
            Phase::Linger => Some(self.since + LINGER),
        };
        [phase, stalled].into_iter().flatten().min()
    }

    /// Nothing was begun, and nothing waits to be taken.
    pub(crate) fn is_unused(&self) -> bool {
        self.phase == Phase::Idle && self.input.is_empty() && self.out.is_empty()
    }

    /// Whether nothing can come from the client any more, not even an alert of TLS: then a close
    /// cannot meet bytes on their way, which would make it a reset (RFC 9112 section 9.6).
    pub(crate) fn is_silent_for_good(&self) -> bool {
        self.last_said && self.input.is_empty() && self.link.is_plain() && !self.link.readable
    }

    /// Reads once. `Got::End` also when the connection is broken: there is nobody to tell.
    pub(crate) fn read<N: Net>(&mut self, shared: &mut Shared<N>) -> Got {
        self.input.rent(&mut shared.buffers);
        match self.link.read(&mut shared.net, &mut shared.scratch, &mut self.input) {
            Ok(got) => {
                if let Got::Bytes(count) = got {
                    shared.meter.client_bytes[0] += count as u64;
                }
                got
            }
            Err(_) => Got::End,
        }
    }

    /// Reads once between requests. A TLS handshake has the time of a request's head, from its first
    /// byte; the head's own time begins behind it.
    pub(crate) fn greet<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant) -> Got {
        let shook = self.link.is_handshaking();
        let got = self.read(shared);
        if shook && matches!(got, Got::Bytes(_)) {
            let phase = if self.link.is_handshaking() { Phase::Head } else { Phase::Idle };
            if phase != self.phase {
                self.phase = phase;
                self.since = now;
            }
        }
        got
    }

    /// Sends what waits, as far as the client takes it. False when it is gone.
    pub(crate) fn flush<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant) -> bool {
        if self.out.is_empty() {
            // TLS may have something of its own to say.
            return self.link.flush(&mut shared.net).is_ok();
        }
        let waiting = self.out.filled();
        let piece = waiting.get(..FLUSH_BYTES_MAX).unwrap_or(waiting);
        match self.link.write(&mut shared.net, piece) {
            Ok(0) => true,
            Ok(count) => {
                shared.meter.client_bytes[1] += count as u64;
                self.out.consume(count);
                self.moved = now;
                true
            }
            Err(_) => false,
        }
    }

    /// While a request is served: reads what belongs to later ones, and notices an end. False when
    /// the client is gone.
    pub(crate) fn watch<N: Net>(&mut self, shared: &mut Shared<N>) -> bool {
        while self.link.readable && self.input.len() < PIPELINED_BYTES_MAX {
            match self.read(shared) {
                Got::Bytes(_) => {}
                Got::Blocked => break,
                Got::End => return false,
            }
        }
        !self.link.read_closed
    }

    /// Appends a whole reply; without its body if that is what a `HEAD` asked for.
    pub(crate) fn answer<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        answer: &Answer,
        bodiless: bool,
        keep_alive: bool,
    ) {
        shared.meter.reply(answer.status);
        self.out.rent(&mut shared.buffers);
        let length = BodyLength::Known(answer.body.len() as u64);
        self.out.append(|out| {
            let headers = answer.headers.iter().map(|(name, value)| (&**name, &**value));
            if write_reply_head(answer.status, headers, length, keep_alive, out).is_err() {
                // A value of a peer's cannot be written: the reply matters more than it does.
                let plain = [("content-type", "application/json")];
                let status = answer.status.clamp(200, 599);
                // A checked status and one fixed field can always be written.
                let _ = write_reply_head(status, plain, length, keep_alive, out);
            }
            if !bodiless {
                out.extend_from_slice(&answer.body);
            }
        });
    }

    /// Gives memory back that holds nothing.
    pub(crate) fn rest<N: Net>(&mut self, shared: &mut Shared<N>) {
        self.input.rest(&mut shared.buffers);
        self.out.rest(&mut shared.buffers);
    }

    /// Closes the connection, whatever it was doing.
    pub(crate) fn close<N: Net>(&mut self, shared: &mut Shared<N>) {
        self.input.abandon(&mut shared.buffers);
        self.out.abandon(&mut shared.buffers);
        self.link.close(&mut shared.net);
    }

    /// How many buffers it holds.
    pub(crate) fn buffers(&self) -> usize {
        usize::from(self.input.capacity() > 0) + usize::from(self.out.capacity() > 0)
    }
}
