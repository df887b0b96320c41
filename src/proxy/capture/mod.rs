//! What is written down of an exchange, for engineers: its four sides as they were on the wire, but
//! for transfer codings. Off unless the configuration names a folder; nothing is copied then.
//!
//! A tape only copies. The secrets are taken out where the files are made ([`Record::files`]), which
//! is not on a worker's thread; a [`Record`] shows its bytes to nobody else.

mod files;
mod redact;

pub use redact::Secrets;

use crate::proxy::upstream::Outgoing;

/// Which side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the client asked.
    ClientRequest,
    /// What the upstream was asked.
    UpstreamRequest,
    /// What the upstream answered.
    UpstreamReply,
    /// What the client was answered.
    ClientReply,
}

/// The sides by the names of their files, in the order of [`Place`].
const SIDES: [&str; 4] = ["client-request", "upstream-request", "upstream-reply", "client-reply"];

/// One side: the head as it came, and the start of the body.
#[derive(Default)]
struct Side {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the body, whole.
    bytes: u64,
}

impl Side {
    fn is_truncated(&self) -> bool {
        self.bytes > self.body.len() as u64
    }

    fn add(&mut self, bytes: &[u8], bytes_max: usize) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let room = bytes_max.saturating_sub(self.body.len());
        self.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Collects the sides while an exchange runs.
pub(crate) struct Tape {
    began_unix_s: u64,
    body_bytes_max: usize,
    sides: [Side; 4],
    /// Requests to an upstream, those that were repeated too.
    attempts: u32,
    /// The request of this attempt is on the tape.
    asked: bool,
}

impl std::fmt::Debug for Tape {
    /// Never shows what was said.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tape(..)")
    }
}

impl Tape {
    /// Begins with the head of a client's request.
    pub(crate) fn new(body_bytes_max: usize, began_unix_s: u64, head: &[u8]) -> Self {
        let sides: [Side; 4] = Default::default();
        let mut tape = Self { began_unix_s, body_bytes_max, sides, attempts: 0, asked: false };
        tape.head(Place::ClientRequest, head);
        tape
    }

    /// Notes a head.
    pub(crate) fn head(&mut self, place: Place, bytes: &[u8]) {
        if let Some(side) = self.sides.get_mut(place as usize) {
            side.head = bytes.to_vec();
        }
    }

    /// Notes more of a body.
    pub(crate) fn body(&mut self, place: Place, bytes: &[u8]) {
        if let Some(side) = self.sides.get_mut(place as usize) {
            side.add(bytes, self.body_bytes_max);
        }
    }

    /// Notes a reply of which head and body are in one piece.
    pub(crate) fn whole_reply(&mut self, bytes: &[u8]) {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let (head, body) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        self.head(Place::ClientReply, head);
        self.body(Place::ClientReply, body);
    }

    /// Notes what the upstream is asked, once for each attempt.
    pub(crate) fn ask(&mut self, outgoing: &Outgoing) {
        if std::mem::replace(&mut self.asked, true) {
            return;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.head(Place::UpstreamRequest, outgoing.head.get(..outgoing.head_bytes).unwrap_or(&[]));
        self.body(Place::UpstreamRequest, outgoing.content());
    }

    /// Another attempt begins: the last one is what counts.
    pub(crate) fn again(&mut self) {
        self.asked = false;
        for place in [Place::UpstreamRequest, Place::UpstreamReply] {
            if let Some(side) = self.sides.get_mut(place as usize) {
                *side = Side::default();
            }
        }
    }

    /// Ends the tape.
    pub(crate) fn end(self, facts: Facts) -> Record {
        Record {
            began_unix_s: self.began_unix_s,
            sides: self.sides,
            attempts: self.attempts,
            facts,
        }
    }
}

/// What is known of an exchange at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// An id for an exchange whose reply has none.
    pub(crate) id: String,
    /// How it ended: `ok`, or the code of a failure.
    pub(crate) result: String,
    /// The status that the client was told; 0 = none.
    pub(crate) status: u16,
    /// The upstream's status; 0 = none.
    pub(crate) upstream_status: u16,
    pub(crate) model: String,
    pub(crate) provider: String,
    /// From the request's head to the upstream's, in milliseconds.
    pub(crate) first_ms: Option<u64>,
    /// From the request's head to the end, in milliseconds.
    pub(crate) ms: u64,
    /// The client speaks TLS to us.
    pub(crate) client_tls: bool,
    /// We speak TLS to the upstream.
    pub(crate) upstream_tls: bool,
}

/// An exchange that is over, as it was heard. It holds secrets until its files are made.
pub struct Record {
    began_unix_s: u64,
    sides: [Side; 4],
    attempts: u32,
    facts: Facts,
}

impl Record {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sides.iter().map(|side| (side.head.len() + side.body.len()) as u64).sum()
    }

    /// One with this request and nothing else.
    #[cfg(test)]
    pub(crate) fn of_body(body: &[u8]) -> Self {
        let mut tape = Tape::new(body.len(), 0, &[]);
        tape.body(Place::ClientRequest, body);
        tape.end(Facts::default())
    }
}

impl std::fmt::Debug for Record {
    /// Never shows what was said.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record(..)")
    }
}
