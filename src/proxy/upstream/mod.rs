//! The upstream half: `Dial -> Shake -> Send -> Head -> Body -> Idle`, any -> closed. Knows nothing
//! of clients.

mod content;
mod dial;
mod head;
mod run;
mod words;

pub(crate) use head::{Head, retry_after_s};
pub(crate) use words::{bad_reply, unreachable_for};

use content::{Found, decode};
use head::summary;
use run::Running;
use words::{name, truncated, words};

use crate::config::{Config, Limits, Timeouts, Url};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::net::Net;
use crate::proxy::shared::Shared;
use crate::proxy::transport::{Got, Link};
use crate::wire::buffer::Buffer;
use crate::wire::http1::{BodyDecoder, BodyLimits, HeadLimits, HeadSearch};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the rest of a body is awaited whose answer is whole, so that the connection can be kept.
const REST_WAIT: Duration = Duration::from_secs(1);
/// How much of it is read.
const REST_BYTES_MAX: usize = 8 << 10;
/// Bytes of a request that are sent in one turn: the system copies what it is given while all others
/// wait.
const TURN_BYTES_MAX: usize = 256 << 10;
/// How long a stranger's reply is awaited: a file, not a thought.
const STRANGER_WAIT: Duration = Duration::from_secs(30);
/// How long the body of an error reply is awaited.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TCP connects.
    Dial,
    /// TLS shakes hands.
    Shake,
    /// The request goes out.
    Send,
    /// The request is out, the reply's head is awaited.
    Head,
    /// The reply's body comes.
    Body,
    /// The body of an error reply comes.
    Refusal,
    /// In the pool.
    Idle,
    /// Nobody needs the rest of the body, but the connection may be worth keeping.
    Rest,
}

/// What [`Upstream::ask`] came to.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Nothing more now.
    Blocked,
    /// More can be sent, but not in this turn.
    Spent,
    /// The final reply's head.
    Head(Head),
}

/// What [`Upstream::send`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// It is all out, or cannot go out.
    All,
    /// The socket takes no more now.
    Blocked,
    /// The budget of this turn is spent.
    Spent,
}

/// What [`Upstream::read_body`] came to.
#[derive(Debug)]
pub(crate) enum Read {
    /// Something was done; there may be more in `payload`.
    Some,
    /// Nothing now.
    Blocked,
    /// The body ended as its framing says.
    End,
    /// It broke off.
    Broken(Failure),
}

/// A request on its way out.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The head; with a small body behind it.
    pub(crate) head: Vec<u8>,
    /// The body, if it is not small.
    pub(crate) body: Vec<u8>,
    /// Bytes of both that were sent.
    pub(crate) sent: usize,
    /// Where the body begins in `head`, when it is small.
    pub(crate) head_bytes: usize,
}

impl Outgoing {
    /// The body.
    pub(crate) fn content(&self) -> &[u8] {
        if self.body.is_empty() {
            self.head.get(self.head_bytes..).unwrap_or_default()
        } else {
            &self.body
        }
    }

    /// The body alone.
    pub(crate) fn into_content(mut self) -> Vec<u8> {
        if self.body.is_empty() {
            self.head.split_off(self.head_bytes.min(self.head.len()))
        } else {
            self.body
        }
    }

    fn rest(&self) -> &[u8] {
        match self.sent.checked_sub(self.head.len()) {
            None => self.head.get(self.sent..).unwrap_or_default(),
            Some(sent) => self.body.get(sent..).unwrap_or_default(),
        }
    }
}

/// One connection to an upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) link: Link,
    pub(crate) provider: usize,
    /// Where it leads instead of to the provider's own URL.
    pub(crate) detour: Option<Url>,
    /// It leads to a host that is not the provider's, and gets nothing of it.
    pub(crate) stranger: bool,
    /// The reply's head is awaited no longer than this, and than any other's.
    pub(crate) patience_s: Option<u16>,
    /// The slot of the client that it works for.
    pub(crate) owner: Option<usize>,
    pub(crate) phase: Phase,
    /// When the phase's clock began, or was set back by progress.
    pub(crate) since: Instant,
    /// We are not reading: the client is too slow. The upstream's clock stands still.
    pub(crate) paused: bool,
    /// Content of the body that was not used yet.
    pub(crate) payload: Buffer,
    /// It came from the pool for this exchange.
    pub(crate) reused: bool,
    /// Bytes of a reply came.
    pub(crate) answered: bool,
    /// It counts among the connects under way.
    pub(crate) counted: bool,
    input: Buffer,
    addresses: Arc<[SocketAddr]>,
    tried: usize,
    dial_until: Instant,
    search: HeadSearch,
    informational: u32,
    body: Option<BodyDecoder>,
    keep: bool,
    uses: u32,
    /// The request could not be sent to its end.
    cut: bool,
    rest_bytes: usize,
    /// The run that it is the input and output of.
    run: Option<Box<Running>>,
}

impl Upstream {
    /// One that has served nothing yet.
    fn fresh(link: Link, provider: usize, phase: Phase, now: Instant) -> Self {
        Self {
            link,
            provider,
            detour: None,
            stranger: false,
            patience_s: None,
            owner: None,
            phase,
            since: now,
            paused: false,
            payload: Buffer::new(),
            reused: false,
            answered: false,
            counted: false,
            input: Buffer::new(),
            addresses: Arc::new([]),
            tried: 0,
            dial_until: now,
            search: HeadSearch::default(),
            informational: 0,
            body: None,
            keep: true,
            uses: 0,
            cut: false,
            rest_bytes: 0,
            run: None,
        }
    }

    /// When to stop waiting for this peer; `None` while we do not wait for it.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        if let Some(run) = &self.run {
            return Some(run.until);
        }
        let wait = match self.phase {
            Phase::Dial => {
                // What is left is shared by the addresses that are left.
                let left = self.addresses.len().saturating_sub(self.tried).saturating_add(1);
                let whole = self.dial_until.saturating_duration_since(self.since);
                whole / u32::try_from(left).unwrap_or(u32::MAX)
            }
            Phase::Shake => timeouts.tls,
            Phase::Send => timeouts.upstream_write,
            Phase::Head if self.stranger => STRANGER_WAIT,
            Phase::Head => {
                let own = self.patience_s.map(|s| Duration::from_secs(s.into()));
                own.map_or(timeouts.upstream_head, |own| own.min(timeouts.upstream_head))
            }
            Phase::Body if self.paused => return None,
            Phase::Body => timeouts.upstream_idle,
            Phase::Refusal => REFUSAL_WAIT,
            Phase::Idle => timeouts.pool_idle,
            Phase::Rest => REST_WAIT,
        };
        Some(self.since + wait)
    }

    /// What to say of a deadline that passed.
    pub(crate) fn expired(&self, config: &Config) -> Failure {
        if self.run.is_some() {
            return words::run_too_long(config, self.provider);
        }
        let what = match self.phase {
            Phase::Dial => "did not accept the connection in time",
            Phase::Shake => "did not finish the TLS handshake in time",
            Phase::Send => "stopped taking the request",
            Phase::Head => "did not begin to answer in time",
            _ => "stopped sending in the middle of its answer",
        };
        let kind = Fault::upstream(Kind::Timeout);
        Failure::new(kind, format!("the provider {} {what}", name(config, self.provider)))
    }

    /// Goes on until the final reply's head is here.
    ///
    /// # Errors
    /// The connection failed or broke off, or the reply is none. See [`Upstream::died_unused`].
    pub(crate) fn ask<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        request: &mut Outgoing,
        now: Instant,
    ) -> Result<Asked, Failure> {
        loop {
            match self.phase {
                Phase::Dial => {
                    if !self.dialled(shared, now)? {
                        return Ok(Asked::Blocked);
                    }
                    self.since = now;
                    self.phase = Phase::Shake;
                    self.begin_tls(shared)?;
                }
                Phase::Shake => {
                    let Shared { net, scratch, .. } = shared;
                    match self.link.handshake(net, scratch, &mut self.input) {
                        Ok(false) => return Ok(Asked::Blocked),
                        Ok(true) => self.begin(now),
                        Err(why) => {
                            let told = self.explain(shared, &why).unwrap_or_else(|| words(&why));
                            let why = format!("TLS failed: {told}");
                            return Err(unreachable_for(&shared.config, self.provider, &why));
                        }
                    }
                }
                Phase::Send => match self.send(shared, request, now) {
                    Sent::All if self.run.is_some() => return Ok(self.await_output(shared)),
                    Sent::All => {
                        self.since = now;
                        self.phase = Phase::Head;
                    }
                    Sent::Blocked if self.run.is_some() => return Ok(self.hear_early(shared)),
                    Sent::Blocked => return self.read_head(shared, now),
                    Sent::Spent => return Ok(Asked::Spent),
                },
                Phase::Head => return self.read_head(shared, now),
                _ => return Ok(Asked::Blocked),
            }
        }
    }

    /// Makes ready for a request.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.phase = Phase::Send;
        self.since = now;
        self.reused = self.uses > 0;
        self.uses = self.uses.saturating_add(1);
        self.answered = false;
        self.informational = 0;
        self.body = None;
        self.paused = false;
    }

    /// True when a request was lost on a connection that had been idle: its end crossed our
    /// request, so the upstream never began to answer it.
    pub(crate) fn died_unused(&self) -> bool {
        self.reused && !self.answered && matches!(self.phase, Phase::Send | Phase::Head)
    }

    /// Reads content into `payload`, with one read of the socket at most.
    pub(crate) fn read_body<N: Net>(&mut self, shared: &mut Shared<N>, now: Instant) -> Read {
        loop {
            let Some(body) = &mut self.body else { return Read::End };
            let Shared { net, scratch, buffers, meter, config, .. } = shared;
            let (mut found, used) = if self.input.is_empty() && !body.is_complete() {
                (Found::Nothing, 0)
            } else {
                decode(body, self.input.filled(), &mut self.payload, buffers)
            };
            self.input.consume(used);
            if matches!(found, Found::Nothing) {
                if !self.link.is_plain() {
                    self.input.rent(buffers);
                }
                let count = match self.link.receive(net, scratch, &mut self.input) {
                    Ok((Got::Bytes(0), _)) => return Read::Some,
                    Ok((Got::Bytes(count), plain)) => {
                        // Decoded where it lies: only what belongs to no content is kept.
                        let (next, used) = decode(body, plain, &mut self.payload, buffers);
                        if let Some(rest @ [_, ..]) = plain.get(used..) {
                            self.input.rent(buffers);
                            self.input.extend(rest);
                        }
                        found = next;
                        count
                    }
                    Ok((Got::Blocked, _)) => return Read::Blocked,
                    Ok((Got::End, _)) if self.run.is_some() => return self.end_run(config),
                    Ok((Got::End, _)) if self.ends_by_close() => return Read::End,
                    Ok((Got::End, _)) => {
                        return Read::Broken(truncated(config, self.provider, None));
                    }
                    Err(why) if self.is_end_of_run(&why) => return self.end_run(config),
                    Err(why) => {
                        return Read::Broken(truncated(config, self.provider, Some(&why)));
                    }
                };
                meter.upstream_bytes[0] += count as u64;
                self.note_progress(now);
            }
            match found {
                Found::Content => return Read::Some,
                Found::End => return Read::End,
                Found::Fault(why) => {
                    return Read::Broken(bad_reply(&shared.config, self.provider, &why));
                }
                Found::Nothing => {}
            }
        }
    }

    /// The client has what it needs. True when the connection is ready for another request now;
    /// otherwise it is in [`Phase::Rest`] (more may come of it) or of no use.
    pub(crate) fn release(&mut self, limits: &Limits, now: Instant) -> bool {
        self.owner = None;
        self.paused = false;
        self.payload.clear();
        let ended = self.body.as_ref().is_none_or(BodyDecoder::is_complete);
        let worth = self.keep && !self.stranger && !self.cut && self.uses < limits.pool_uses_max;
        self.since = now;
        if !worth || (ended && !self.input.is_empty()) || !self.link.is_flushed() {
            self.keep = false;
        } else if ended {
            self.body = None;
            self.phase = Phase::Idle;
            return true;
        }
        self.phase = Phase::Rest;
        false
    }

    /// Whether the connection can still become ready for another request.
    pub(crate) fn is_worth_waiting(&self) -> bool {
        self.keep
    }

    /// Reads on behind a finished answer; `None` while it is undecided, else whether the connection
    /// is ready for another request.
    pub(crate) fn read_rest<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        now: Instant,
    ) -> Option<bool> {
        let since = self.since;
        let ended = loop {
            let read = self.read_body(shared, now);
            self.rest_bytes += self.payload.len();
            self.payload.clear();
            match read {
                Read::Some if self.rest_bytes <= REST_BYTES_MAX => {}
                Read::Blocked => {
                    self.since = since;
                    return None;
                }
                Read::End => break true,
                Read::Some | Read::Broken(_) => break false,
            }
        };
        self.rest_bytes = 0;
        Some(ended && self.keep && self.release(&shared.config.limits, now))
    }

    /// Looks whether an idle connection is still silent. Anything but silence makes it useless: an
    /// end, an error, or a reply that nobody asked for. The system has told if there is anything:
    /// what comes just now crosses the next request on its way, and no look could prevent that.
    pub(crate) fn is_silent<N: Net>(&mut self, shared: &mut Shared<N>) -> bool {
        const READS_MAX: u32 = 8;
        for _ in 0..READS_MAX {
            if !self.link.readable {
                return !self.link.read_closed && self.input.is_empty();
            }
            match self.read(shared) {
                Ok(Got::Blocked) => return !self.link.read_closed && self.input.is_empty(),
                Ok(Got::Bytes(0)) => {}
                Ok(Got::Bytes(_) | Got::End) | Err(_) => return false,
            }
        }
        false
    }

    /// Gives memory back that holds nothing.
    pub(crate) fn rest<N: Net>(&mut self, shared: &mut Shared<N>) {
        self.input.rest(&mut shared.buffers);
        self.payload.rest(&mut shared.buffers);
    }

    /// Closes the connection, whatever it was doing.
    pub(crate) fn close<N: Net>(&mut self, shared: &mut Shared<N>) {
        self.input.abandon(&mut shared.buffers);
        self.payload.abandon(&mut shared.buffers);
        self.link.close(&mut shared.net);
    }

    /// How many buffers it holds.
    pub(crate) fn buffers(&self) -> usize {
        usize::from(self.input.capacity() > 0) + usize::from(self.payload.capacity() > 0)
    }

    fn note_progress(&mut self, now: Instant) {
        // An error's body and a leftover have a total, everything else a gap.
        if self.phase == Phase::Body {
            self.since = now;
        }
    }

    fn ends_by_close(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.finish().is_ok())
    }

    /// Sends what can be sent in one turn.
    fn send<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        request: &mut Outgoing,
        now: Instant,
    ) -> Sent {
        let mut budget = TURN_BYTES_MAX;
        loop {
            let rest = request.rest();
            if rest.is_empty() && self.link.is_flushed() {
                return Sent::All;
            }
            if budget == 0 {
                return Sent::Spent;
            }
            let result = match rest.is_empty() {
                true => self.link.flush(&mut shared.net).map(|()| 0),
                false => self.link.write(&mut shared.net, rest.get(..budget).unwrap_or(rest)),
            };
            match result {
                Ok(0) if rest.is_empty() && self.link.is_flushed() => return Sent::All,
                Ok(0) => return Sent::Blocked,
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    request.sent += count;
                    shared.meter.upstream_bytes[1] += count as u64;
                    self.since = now;
                }
                // It may have answered before it hung up.
                Err(_) => {
                    self.cut = true;
                    self.link.readable = true;
                    return Sent::All;
                }
            }
        }
    }

    fn read_head<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        now: Instant,
    ) -> Result<Asked, Failure> {
        let limits = head_limits(&shared.config.limits);
        loop {
            while !self.input.is_empty() {
                let found = self.search.reply(self.input.filled(), &limits, false);
                let found = found.map_err(|why| bad_reply(&shared.config, self.provider, &why))?;
                let Some((head, used)) = found else { break };
                if head.is_informational() {
                    self.input.consume(used);
                    self.informational += 1;
                    if self.informational > shared.config.limits.informational_max {
                        let why = "it sends informational replies without end";
                        return Err(bad_reply(&shared.config, self.provider, &why));
                    }
                    continue;
                }
                let limits = BodyLimits {
                    body_bytes_max: u64::MAX,
                    overhead_bytes_max: shared.config.limits.chunk_overhead_bytes_max,
                };
                let body = BodyDecoder::new(head.framing, limits);
                let body = body.map_err(|why| bad_reply(&shared.config, self.provider, &why))?;
                // A reply before the request's end: the rest of the request is never read.
                self.keep = head.keep_alive && !self.cut && self.phase == Phase::Head;
                let mut head = summary(&head, shared.unix_s);
                if shared.config.capture.is_some() {
                    head.raw = self.input.filled().get(..used).unwrap_or_default().to_vec();
                }
                self.input.consume(used);
                self.body = Some(body);
                let refused = !(200..300).contains(&head.status);
                self.phase = if refused { Phase::Refusal } else { Phase::Body };
                self.since = now;
                return Ok(Asked::Head(head));
            }
            match self.read(shared) {
                Ok(Got::Bytes(count)) => self.answered |= count > 0,
                Ok(Got::Blocked) if !self.cut => return Ok(Asked::Blocked),
                Ok(Got::Blocked) => return Err(self.no_answer(shared, None)),
                Ok(Got::End) => return Err(self.no_answer(shared, None)),
                Err(why) => return Err(self.no_answer(shared, Some(&why))),
            }
        }
    }

    fn no_answer<N: Net>(&self, shared: &Shared<N>, why: Option<&io::Error>) -> Failure {
        let config = &shared.config;
        // In TLS 1.3 the server looks at our certificate when our side of the handshake is done.
        if let Some(told) = why.and_then(|why| self.explain(shared, why)) {
            return unreachable_for(config, self.provider, &format!("TLS failed: {told}"));
        }
        let when = if self.answered { "in the middle of" } else { "before" };
        let why = why.map_or(String::new(), |why| format!(": {}", words(why)));
        let name = name(config, self.provider);
        let message = format!("the provider {name} closed the connection {when} its reply{why}");
        Failure::new(Fault::upstream(Kind::Truncated), message)
    }

    fn read<N: Net>(&mut self, shared: &mut Shared<N>) -> io::Result<Got> {
        self.input.rent(&mut shared.buffers);
        let got = self.link.read(&mut shared.net, &mut shared.scratch, &mut self.input)?;
        if let Got::Bytes(count) = got {
            shared.meter.upstream_bytes[0] += count as u64;
        }
        Ok(got)
    }
}

/// The bounds of a head.
pub(crate) fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits {
        head_bytes_max: limits.head_bytes_max,
        request_line_bytes_max: limits.request_line_bytes_max,
        headers_max: limits.headers_max,
    }
}
