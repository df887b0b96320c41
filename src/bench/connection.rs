//! One connection: it asks, reads the answer through the check, and asks again.

use super::check::{Check, Rules};
use super::defect::{Defect, shown};
use super::net::Sockets;
use super::tally::Tally;
use crate::proxy::net::{Net as _, Ready, SocketId};
use crate::proxy::transport::{Got, Link, TlsTable};
use crate::wire::buffer::Buffer;
use crate::wire::http1::{BodyDecoder, BodyFault, BodyLimits, BodyStep, HeadLimits, HeadSearch};
use crate::wire::sse::{Decoder, Step};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 << 10, request_line_bytes_max: 8 << 10, headers_max: 100 };

const BODY_LIMITS: BodyLimits =
    BodyLimits { body_bytes_max: 1 << 40, overhead_bytes_max: 64 << 10 };

/// Bytes of an error's body that are kept.
const REFUSAL_BYTES: usize = 4 << 10;

/// Most bytes of one event or one document: more is no answer but a flood.
const HELD_BYTES_MAX: usize = 256 << 20;

/// Bytes that are tried first to complete an event that came in pieces.
const STITCH_BYTES: usize = 512;

/// Reads of one connection before another gets its turn.
const READS_A_TURN: usize = 16;

/// How often a reader of bounded speed may go on.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// What every request of a run is, and what its answers must be.
#[derive(Debug)]
pub(super) struct Job {
    /// Head and body, as they are sent.
    pub(super) request: Vec<u8>,
    pub(super) rules: Rules,
    pub(super) address: SocketAddr,
    /// The host that its certificate must be for.
    pub(super) tls_host: Option<String>,
    pub(super) churn: bool,
    /// Bytes that may be read in each [`PAUSE`].
    pub(super) pause_bytes: Option<usize>,
    /// Deltas begin with the time at which they were sent.
    pub(super) stamped: bool,
}

/// What a connection works with and shares with the others.
#[derive(Debug)]
pub(super) struct Tools<'t> {
    pub(super) net: &'t mut Sockets,
    pub(super) tls: &'t TlsTable,
    pub(super) job: &'t Job,
    pub(super) scratch: &'t mut [u8],
    pub(super) tally: &'t mut Tally,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Waits for its socket.
    Blocked,
    /// Could go on.
    Again,
    /// May not read before [`PAUSE`] is over.
    Paused,
    /// The connection is up; it goes on by itself.
    Connected,
    /// The answer is over, right or wrong, and was counted; with `Closing`, after the server's end.
    Answered,
    /// The server had closed the connection before it was asked: ask once more on a fresh one.
    Stale,
    /// No connection could be made; counted as an answer.
    Unreachable,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing is asked; it may be open or not.
    #[default]
    Idle,
    Connecting,
    Handshake,
    Asking,
    /// The answer is over and the server is to close.
    Closing,
}

/// A connection and the answer on it.
#[derive(Debug)]
pub(super) struct Connection {
    link: Option<Link>,
    stage: Stage,
    /// Bytes of the request that were sent.
    sent: usize,
    /// A byte of the answer came.
    heard: bool,
    /// Answers that came on this connection.
    answers: u64,
    /// When the request was due.
    due: Instant,
    /// When bytes came last, or the request was begun.
    alive: Instant,
    last_delta: Option<Instant>,
    input: Buffer,
    head: HeadSearch,
    body: Option<BodyDecoder>,
    keep: bool,
    /// The body is kept whole: a document, or what an error says.
    collects: Collect,
    sse: Decoder,
    /// An event that is not whole, or the body that is collected.
    held: Vec<u8>,
    check: Check,
    pub(super) paused: bool,
    allowance: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Collect {
    #[default]
    Events,
    Document,
    Refusal,
}

/// The answer, or the connection, is over.
enum Over {
    Whole,
    Broken(Defect, &'static str, String),
}

impl Connection {
    /// A connection that is not open.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            link: None,
            stage: Stage::Idle,
            sent: 0,
            heard: false,
            answers: 0,
            due: now,
            alive: now,
            last_delta: None,
            input: Buffer::new(),
            head: HeadSearch::default(),
            body: None,
            keep: false,
            collects: Collect::Events,
            sse: Decoder::default(),
            held: Vec::new(),
            check: Check::default(),
            paused: false,
            allowance: 0,
        }
    }

    /// The socket, if it is open.
    pub(super) fn socket(&self) -> Option<SocketId> {
        self.link.as_ref().map(|link| link.socket)
    }

    /// Whether it waits for the other side since before `then`.
    pub(super) fn is_silent_since(&self, then: Instant) -> bool {
        self.stage != Stage::Idle && !self.paused && self.alive < then
    }

    /// Adds what the poll said.
    pub(super) fn note(&mut self, ready: &Ready) {
        if let Some(link) = &mut self.link {
            link.note(ready);
        }
    }

    /// Gets a request ready that was due at `due`. It is sent in the next turns, by way of
    /// [`Connection::open`] if no socket is open.
    pub(super) fn ask(&mut self, due: Instant, now: Instant) {
        self.sent = 0;
        self.heard = false;
        self.due = due;
        self.alive = now;
        self.last_delta = None;
        self.head = HeadSearch::default();
        self.body = None;
        self.input.clear();
        self.held.clear();
        self.sse = Decoder::default();
        self.check.begin();
        self.stage = Stage::Asking;
    }

    /// Gets the request of a connection ready once more that was closed before it was asked.
    pub(super) fn ask_again(&mut self) {
        self.ask(self.due, self.alive);
    }

    /// Whether an answer is awaited.
    pub(super) fn is_asking(&self) -> bool {
        !matches!(self.stage, Stage::Idle | Stage::Closing)
    }

    /// Whether the server is to close it.
    pub(super) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    /// Begins the connect for a request that is ready.
    ///
    /// # Errors
    /// The connect could not begin.
    pub(super) fn open(&mut self, tools: &mut Tools<'_>) -> io::Result<()> {
        let socket = tools.net.connect(tools.job.address)?;
        self.link = Some(Link::connecting(socket));
        self.stage = Stage::Connecting;
        self.answers = 0;
        tools.tally.opened += 1;
        Ok(())
    }

    /// Closes the socket, whatever it waits for.
    pub(super) fn close(&mut self, tools: &mut Tools<'_>) {
        if let Some(mut link) = self.link.take() {
            link.close(tools.net);
        }
        self.stage = Stage::Idle;
        self.paused = false;
    }

    /// Lets a reader of bounded speed go on.
    pub(super) fn resume(&mut self, bytes: usize) {
        self.paused = false;
        self.allowance = bytes;
    }

    /// Goes on as far as the socket lets it.
    pub(super) fn turn(&mut self, tools: &mut Tools<'_>) -> Turn {
        match self.stage {
            Stage::Idle => self.idle(tools),
            Stage::Connecting => self.connecting(tools),
            Stage::Handshake => self.handshake(tools),
            Stage::Asking => self.asking(tools),
            Stage::Closing => self.closing(tools),
        }
    }

    /// Nothing is due here: whatever comes ends the connection.
    fn idle(&mut self, tools: &mut Tools<'_>) -> Turn {
        if let Some(link) = &mut self.link {
            let got = link.read(tools.net, tools.scratch, &mut self.input);
            if !matches!(got, Ok(Got::Blocked | Got::Bytes(0))) {
                self.close(tools);
            }
        }
        Turn::Blocked
    }

    fn connecting(&mut self, tools: &mut Tools<'_>) -> Turn {
        let Some(link) = self.link.as_mut().filter(|link| link.writable) else {
            return Turn::Blocked;
        };
        match tools.net.connected(link.socket) {
            Ok(()) => {}
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                link.writable = false;
                return Turn::Blocked;
            }
            Err(why) => return self.unreachable(tools, &why.to_string()),
        }
        // Nothing may have come on the edge that told of the connect, but a try costs little.
        link.readable = true;
        let Some(host) = &tools.job.tls_host else {
            self.stage = Stage::Asking;
            return Turn::Connected;
        };
        let begun = tools.tls.config(0).ok_or_else(|| "no TLS was set up".to_owned());
        if let Err(why) = begun.and_then(|config| link.begin_tls(config, host)) {
            return self.unreachable(tools, &why);
        }
        self.stage = Stage::Handshake;
        self.handshake(tools)
    }

    fn handshake(&mut self, tools: &mut Tools<'_>) -> Turn {
        let Some(link) = &mut self.link else { return Turn::Blocked };
        match link.handshake(tools.net, tools.scratch, &mut self.input) {
            Ok(true) => {
                self.stage = Stage::Asking;
                Turn::Connected
            }
            Ok(false) => Turn::Blocked,
            Err(why) => self.unreachable(tools, &format!("TLS failed: {why}")),
        }
    }

    fn unreachable(&mut self, tools: &mut Tools<'_>, why: &str) -> Turn {
        let expected = format!("a connection to {}", tools.job.address);
        self.check.found.add(Defect::Connect, expected, why);
        tools.tally.answer(&mut self.check.found);
        self.close(tools);
        Turn::Unreachable
    }

    fn asking(&mut self, tools: &mut Tools<'_>) -> Turn {
        if let Err(why) = self.send(tools) {
            // A server that refuses early may have said why before it closed.
            if why.kind() != ErrorKind::BrokenPipe && why.kind() != ErrorKind::ConnectionReset {
                return self.lost(tools, &why.to_string());
            }
        }
        for _ in 0..READS_A_TURN {
            let Some(link) = &mut self.link else { return Turn::Blocked };
            let scratch = match tools.job.pause_bytes {
                None => &mut *tools.scratch,
                Some(_) if self.allowance == 0 => return Turn::Paused,
                Some(_) => {
                    let count = tools.scratch.len().min(self.allowance);
                    &mut tools.scratch[..count]
                }
            };
            match link.read(tools.net, scratch, &mut self.input) {
                Ok(Got::Bytes(count)) => {
                    self.allowance = self.allowance.saturating_sub(count);
                    match self.arrived(tools, count) {
                        None => {}
                        Some(Over::Whole) => return self.answered(tools),
                        Some(Over::Broken(defect, expected, came)) => {
                            self.check.broken(&tools.job.rules, defect, expected, came);
                            self.keep = false;
                            return self.answered(tools);
                        }
                    }
                }
                Ok(Got::Blocked) => return Turn::Blocked,
                Ok(Got::End) => return self.ended(tools),
                Err(why) => return self.lost(tools, &why.to_string()),
            }
        }
        Turn::Again
    }

    fn send(&mut self, tools: &mut Tools<'_>) -> io::Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let request = &tools.job.request;
        if self.sent < request.len() {
            let count = link.write(tools.net, &request[self.sent..])?;
            self.sent += count;
            tools.tally.bytes_out += count as u64;
            return Ok(());
        }
        link.flush(tools.net)
    }

    /// Bytes came; says when the answer is over.
    fn arrived(&mut self, tools: &mut Tools<'_>, count: usize) -> Option<Over> {
        let now = Instant::now();
        self.alive = now;
        tools.tally.bytes_in += count as u64;
        if !self.heard && count > 0 {
            self.heard = true;
            tools.tally.first_byte.add(now.saturating_duration_since(self.due));
        }
        let mut input = std::mem::take(&mut self.input);
        let over = self.parse(&tools.job.rules, &mut input);
        self.input = input;
        self.deltas(tools, now);
        over
    }

    /// Counts the deltas that came at `now`.
    fn deltas(&mut self, tools: &mut Tools<'_>, now: Instant) {
        let count = std::mem::take(&mut self.check.deltas);
        if count == 0 {
            return;
        }
        let tally = &mut *tools.tally;
        tally.deltas += count;
        match self.last_delta {
            None => tally.first_delta.add(now.saturating_duration_since(self.due)),
            Some(last) => tally.gap.add(now.saturating_duration_since(last)),
        }
        tally.gap.add_micros(0, count - 1);
        self.last_delta = Some(now);
        if tools.job.stamped {
            let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let micros = u64::try_from(micros.as_micros()).unwrap_or_default();
            for stamp in self.check.stamps.drain(..) {
                tally.delta.add_micros(micros.saturating_sub(stamp), 1);
            }
        }
        self.check.stamps.clear();
    }

    fn parse(&mut self, rules: &Rules, input: &mut Buffer) -> Option<Over> {
        while self.body.is_none() {
            match self.read_head(rules, input) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(over) => return Some(over),
            }
        }
        loop {
            let body = self.body.as_mut()?;
            let (data, used) = match body.decode(input.filled()) {
                Ok((BodyStep::Data(data), used)) => (data, used),
                Ok((BodyStep::NeedMore, used)) => {
                    input.consume(used);
                    return None;
                }
                Ok((BodyStep::End, used)) => {
                    input.consume(used);
                    self.end_of_body(rules);
                    return Some(Over::Whole);
                }
                Err(fault) => return Some(bad_body(fault, input.filled())),
            };
            self.content(rules, data);
            input.consume(used);
            if self.held.len() > HELD_BYTES_MAX {
                let came = format!("more than {HELD_BYTES_MAX} bytes without an end");
                return Some(Over::Broken(Defect::Framing, "an event or a document", came));
            }
        }
    }

    /// Reads the head; false when more must come.
    fn read_head(&mut self, rules: &Rules, input: &mut Buffer) -> Result<bool, Over> {
        let framing = |why: String, bytes: &[u8]| {
            Over::Broken(Defect::Framing, "an HTTP reply", format!("{why}: {}", shown(bytes)))
        };
        let used = match self.head.reply(input.filled(), &HEAD_LIMITS, false) {
            Err(why) => return Err(framing(why.to_string(), input.filled())),
            Ok(None) => return Ok(false),
            Ok(Some((head, used))) if head.is_informational() => used,
            Ok(Some((head, used))) => {
                self.keep = head.keep_alive;
                self.collects = match self.check.head(rules, &head) {
                    false => Collect::Refusal,
                    true if rules.stream => Collect::Events,
                    true => Collect::Document,
                };
                match BodyDecoder::new(head.framing, BODY_LIMITS) {
                    Ok(body) => self.body = Some(body),
                    Err(why) => return Err(framing(why.to_string(), b"")),
                }
                used
            }
        };
        input.consume(used);
        Ok(true)
    }

    /// Takes bytes of the body.
    fn content(&mut self, rules: &Rules, data: &[u8]) {
        match self.collects {
            Collect::Document => self.held.extend_from_slice(data),
            Collect::Refusal => {
                let room = REFUSAL_BYTES.saturating_sub(self.held.len());
                self.held.extend_from_slice(&data[..data.len().min(room)]);
            }
            Collect::Events => {
                let rest = if self.held.is_empty() { data } else { self.stitch(rules, data) };
                let used = self.events(rules, rest);
                self.held.extend_from_slice(&rest[used..]);
            }
        }
    }

    /// Completes the event that is held with bytes from the front of `data`; returns those that it
    /// did not need. Only few are copied behind it, not all that came.
    fn stitch<'d>(&mut self, rules: &Rules, data: &'d [u8]) -> &'d [u8] {
        let mut held = std::mem::take(&mut self.held);
        let (before, mut taken, mut step) = (held.len(), 0, STITCH_BYTES);
        let rest = loop {
            let more = step.min(data.len() - taken);
            held.extend_from_slice(&data[taken..taken + more]);
            taken += more;
            let used = self.events(rules, &held);
            debug_assert!(used == 0 || used >= before, "what was held had no whole event");
            if used >= before {
                // The decoder goes on at the front of what it has not used, wherever that lies.
                held.clear();
                break &data[used - before..];
            }
            if taken == data.len() {
                break &[];
            }
            step *= 2;
        };
        self.held = held;
        rest
    }

    /// Takes the events at the front of `bytes`; returns how many bytes they were.
    fn events(&mut self, rules: &Rules, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let (step, used) = self.sse.step(&bytes[at..]);
            match step {
                Step::Frame(frame) => self.check.frame(rules, &frame),
                Step::Skip => {}
                Step::NeedMore => return at,
            }
            at += used;
        }
    }

    fn end_of_body(&mut self, rules: &Rules) {
        match self.collects {
            Collect::Document => self.check.document(rules, &self.held),
            Collect::Refusal => self.check.refusal(rules, &self.held),
            Collect::Events => {
                if let Step::Frame(frame) = self.sse.finish(&self.held) {
                    if rules.expected.is_some() {
                        let came = format!("{} and the end of the body", shown(&self.held));
                        self.check.found.add(Defect::Framing, "an empty line", came);
                    }
                    self.check.frame(rules, &frame);
                }
            }
        }
        self.check.finish(rules);
    }

    /// The server has ended the connection.
    fn ended(&mut self, tools: &mut Tools<'_>) -> Turn {
        if self.body.as_ref().is_some_and(|body| body.finish().is_ok()) {
            self.end_of_body(&tools.job.rules);
            self.keep = false;
            return self.answered(tools);
        }
        self.lost(tools, "the server's end of the connection")
    }

    /// The connection broke, or ended in the middle.
    fn lost(&mut self, tools: &mut Tools<'_>, why: &str) -> Turn {
        if !self.heard && self.answers > 0 {
            self.close(tools);
            tools.tally.reopened += 1;
            return Turn::Stale;
        }
        let came = match (&self.body, self.heard) {
            (None, false) => format!("{why}, before any byte"),
            (None, true) => format!("{why}, in the head"),
            (Some(_), _) => format!("{why}, in the body"),
        };
        self.check.broken(&tools.job.rules, Defect::Cut, "a whole answer", came);
        self.keep = false;
        self.answered(tools)
    }

    /// Nothing has come for too long.
    pub(super) fn silent(&mut self, tools: &mut Tools<'_>, timeout: Duration) -> Turn {
        match self.stage {
            Stage::Idle => return Turn::Blocked,
            Stage::Closing => {
                self.close(tools);
                return Turn::Answered;
            }
            Stage::Connecting | Stage::Handshake => {
                let why = format!("nothing for {} s", timeout.as_secs_f64());
                return self.unreachable(tools, &why);
            }
            Stage::Asking => {}
        }
        let came = match (&self.body, self.sent < tools.job.request.len()) {
            (_, true) => format!("{} bytes of the request were taken", self.sent),
            (None, _) => "no whole head".to_owned(),
            (Some(_), _) => "a part of the body".to_owned(),
        };
        let expected = format!("bytes within {} s", timeout.as_secs_f64());
        self.check.broken(&tools.job.rules, Defect::Silence, &expected, came);
        self.keep = false;
        self.answered(tools)
    }

    /// Counts the answer and gets the connection ready for what comes next.
    fn answered(&mut self, tools: &mut Tools<'_>) -> Turn {
        let now = self.alive;
        if self.check.found.is_empty() {
            tools.tally.whole.add(now.saturating_duration_since(self.due));
        }
        if self.keep && !self.input.is_empty() {
            let came = shown(self.input.filled());
            self.check.found.add(Defect::Framing, "nothing behind the answer", came);
            self.keep = false;
        }
        tools.tally.answer(&mut self.check.found);
        self.answers += 1;
        self.input.clear();
        self.held.clear();
        let is_sent = self.sent >= tools.job.request.len();
        if self.keep && is_sent && !tools.job.churn {
            self.stage = Stage::Idle;
            return Turn::Answered;
        }
        if tools.job.churn && is_sent {
            // Whoever closes first keeps the port for a minute: that is left to the server.
            self.stage = Stage::Closing;
            return self.closing(tools);
        }
        self.close(tools);
        Turn::Answered
    }

    /// Waits for the server's end.
    fn closing(&mut self, tools: &mut Tools<'_>) -> Turn {
        let Some(link) = &mut self.link else { return Turn::Answered };
        loop {
            match link.read(tools.net, tools.scratch, &mut self.input) {
                Ok(Got::Bytes(_)) => self.input.clear(),
                Ok(Got::Blocked) => return Turn::Blocked,
                Ok(Got::End) | Err(_) => break,
            }
        }
        self.close(tools);
        Turn::Answered
    }
}

fn bad_body(fault: BodyFault, bytes: &[u8]) -> Over {
    Over::Broken(
        Defect::Framing,
        "a body framed as its head says",
        format!("{fault}: {}", shown(bytes)),
    )
}
