//! A client's connection from turn to turn: heads, bodies, and what is done when time runs out.

use crate::fault::{Failure, Fault, Kind};
use crate::proxy::admin::{self, Admitted};
use crate::proxy::auth;
use crate::proxy::client::{Client, Phase};
use crate::proxy::exchange::{Exchange, Held, Parked, Stage, Step};
use crate::proxy::net::Net;
use crate::proxy::operation::Operation;
use crate::proxy::order::Intake;
use crate::proxy::reply::Answer;
use crate::proxy::route::{self, Place};
use crate::proxy::shared::Now;
use crate::proxy::transport::Got;
use crate::proxy::upstream::head_limits;
use crate::proxy::worker::Worker;
use crate::wire::http1::{BodyDecoder, BodyLimits, Method, RequestHead, Version, write_continue};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Reads of a client's connection in one turn.
const TURN_READS_MAX: u32 = 16;

/// What becomes of a client's connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It waits.
    Keep,
    /// It has more to do.
    More,
    /// It is closed.
    Close,
}

/// What to do with a request whose head is here.
enum Plan {
    Answer { answer: Answer, bodiless: bool, keep_alive: bool, shutdown: bool },
    Serve { exchange: Box<Exchange>, expects: bool },
}

impl<N: Net> Worker<N> {
    /// Lets a client and its upstream do everything that they can. A panic in here costs these two
    /// connections and no other.
    /// `due`: a deadline of theirs may have passed.
    pub(crate) fn run_client(&mut self, slot: usize, due: bool, now: Now) {
        let Some(mut client) = self.take_client(slot) else { return };
        let upstream = client.exchange.as_mut().and_then(|exchange| exchange.upstream.take());
        let mut held = upstream.and_then(|slot| self.take_upstream(slot));
        let parked = client.exchange.as_ref().and_then(|exchange| exchange.parked);
        let after =
            catch_unwind(AssertUnwindSafe(|| match self.drive(&mut client, &mut held, now) {
                after if !due || after == After::Close => after,
                after => self.expire(&mut client, &mut held, now).max_with(after),
            }));
        let after = after.unwrap_or_else(|_| {
            self.shared.meter.panics += 1;
            log::error!("a connection was closed after a panic: this is a defect of patchbay");
            After::Close
        });
        if after == After::Close {
            self.drop_client(slot, client, held, now);
            return;
        }
        if let Some(mut held) = held {
            held.upstream.owner = Some(slot);
            if let Some(exchange) = &mut client.exchange {
                exchange.upstream = Some(held.slot);
            }
            self.put_upstream(held, now);
        }
        self.put_client(slot, client, parked, now);
        if after == After::More {
            self.enqueue(slot);
        }
    }

    /// The grace of a drain is over: what was begun is ended visibly.
    pub(crate) fn cut_client(&mut self, slot: usize, now: Now) {
        let Some(mut client) = self.take_client(slot) else { return };
        let upstream = client.exchange.as_mut().and_then(|exchange| exchange.upstream.take());
        let held = upstream.and_then(|slot| self.take_upstream(slot));
        if let Some(mut exchange) = client.exchange.take() {
            let message = "the proxy is shutting down";
            let failure = Failure::new(Fault::proxy(Kind::Overloaded), message);
            if exchange.stage != Stage::Over {
                self.fail(&mut client, &mut exchange, &failure, now);
            }
            client.exchange = Some(exchange);
            client.flush(&mut self.shared, now.instant);
        }
        self.drop_client(slot, client, held, now);
    }

    fn drop_client(&mut self, slot: usize, mut client: Box<Client>, held: Option<Held>, now: Now) {
        if let Some(held) = held {
            self.close_held(held);
        }
        if let Some(mut exchange) = client.exchange.take() {
            self.shared.meter.abandoned += 1;
            exchange.log(&self.shared, now.instant, "client_gone");
            exchange.record(&mut self.shared, now.instant, "client_gone");
        }
        self.close_client(slot, client);
    }

    fn drive(&mut self, client: &mut Client, held: &mut Option<Held>, now: Now) -> After {
        let silent = client.out.is_empty();
        let mut reads = 0;
        let after = loop {
            if !client.flush(&mut self.shared, now.instant) {
                break After::Close;
            }
            let step = match client.phase {
                Phase::Idle | Phase::Head => self.read_head(client, now),
                Phase::Body => self.read_body(client, now),
                Phase::Exchange => self.serve(client, held, now),
                Phase::Closing => self.finish(client, now),
                Phase::Linger => self.linger(client),
            };
            match step {
                Some(after) => break after,
                None if reads >= 4 * TURN_READS_MAX => break After::More,
                None => reads += 1,
            }
        };
        // What was sent was cut to a turn's measure, not by the client.
        let unsent = !client.out.is_empty() && client.link.writable;
        let after = if unsent && after == After::Keep { After::More } else { after };
        // The client's clock begins when it is given something after a silence.
        if silent && !client.out.is_empty() {
            client.moved = now.instant;
        }
        after
    }

    /// `None` means that something changed.
    fn read_head(&mut self, client: &mut Client, now: Now) -> Option<After> {
        // One reply at a time: the next request waits until this one is taken.
        if !client.out.is_empty() {
            return Some(After::Keep);
        }
        if client.input.is_empty() && self.is_draining() {
            // What was sent before the end is still served; who is silent is not waited for.
            return match client.read(&mut self.shared) {
                Got::Bytes(_) => None,
                Got::Blocked | Got::End => Some(After::Close),
            };
        }
        if !client.input.is_empty() {
            if client.phase == Phase::Idle {
                client.phase = Phase::Head;
                client.since = now.instant;
            }
            if self.take_head(client, now) {
                return None;
            }
        }
        match client.greet(&mut self.shared, now.instant) {
            Got::Bytes(_) => None,
            Got::Blocked => Some(After::Keep),
            Got::End => Some(After::Close),
        }
    }

    /// Acts on a whole head at the front of the input; false when there is none yet.
    fn take_head(&mut self, client: &mut Client, now: Now) -> bool {
        let limits = head_limits(&self.shared.config.limits);
        if client.link.is_misplaced() {
            let failure = Failure::bad_request("this port speaks TLS: use https://");
            let answer = Answer::failure(None, &failure, false);
            client.answer(&mut self.shared, &answer, false, false);
            client.phase = Phase::Closing;
            return true;
        }
        let (mut plan, used) = match client.search.request(client.input.filled(), &limits) {
            Ok(None) => return false,
            Ok(Some((head, used))) => (self.plan(&head, client.peer, now), used),
            Err(why) => {
                let message = format!("the request cannot be read: {why}");
                let mut failure = Failure::bad_request(message);
                failure.status = Some(why.status());
                let answer = Answer::failure(None, &failure, false);
                (Plan::Answer { answer, bodiless: false, keep_alive: false, shutdown: false }, 0)
            }
        };
        self.shared.meter.requests += 1;
        if let (Plan::Serve { exchange, .. }, Some(capture)) =
            (&mut plan, &self.shared.config.capture)
        {
            let head = client.input.filled().get(..used).unwrap_or_default();
            exchange.begin_tape(capture, head, now);
        }
        client.input.consume(used);
        client.since = now.instant;
        match plan {
            Plan::Answer { answer, bodiless, keep_alive, shutdown } => {
                self.shutdown |= shutdown;
                let keep_alive = keep_alive && !self.is_draining();
                client.answer(&mut self.shared, &answer, bodiless, keep_alive);
                client.phase = if keep_alive { Phase::Idle } else { Phase::Closing };
            }
            Plan::Serve { exchange, expects } => {
                client.exchange = Some(exchange);
                client.phase = Phase::Body;
                if expects && client.input.is_empty() {
                    client.out.rent(&mut self.shared.buffers);
                    client.out.append(write_continue);
                }
            }
        }
        true
    }

    fn plan(&mut self, head: &RequestHead<'_>, peer: std::net::SocketAddr, now: Now) -> Plan {
        let path = route::normal_path(head.path);
        let bodiless = head.method == Method::Head;
        // A body that nobody reads cannot be told from the next request.
        let keep_alive = head.keep_alive && head.framing.is_empty();
        let config = std::sync::Arc::clone(&self.shared.config);
        let refuse = |failure: &Failure, allow: Option<&str>, key: Option<usize>| {
            let (dialect, codex) = match route::place(&path) {
                Place::Operation(dialect) => (Some(dialect), Intake::is_codex(head)),
                Place::Embeddings => (Some(Operation::Embeddings.dialect()), false),
                _ => (None, false),
            };
            let mut answer = Answer::failure(dialect, failure, codex);
            if let Some(allow) = allow {
                answer = answer.with("allow", allow);
            }
            if failure.fault == Fault::client(Kind::Unauthorized) {
                // RFC 9110, section 15.5.2, wants to be told how.
                answer = answer.with("www-authenticate", "Bearer");
            }
            let (method, key) = (head.method.name(), auth::key_name(&config, key));
            log::info!("{method} {path} {} status={} key={key}", failure.code(), answer.status);
            Plan::Answer { answer, bodiless, keep_alive, shutdown: false }
        };
        let answer = |answer, shutdown| Plan::Answer { answer, bodiless, keep_alive, shutdown };
        let (limits, draining) = (&self.shared.limits, self.is_draining());
        let (operation, passed) = match admin::admit(&config, limits, head, &path, peer, draining) {
            Err(refused) => return refuse(&refused.failure, refused.allow, None),
            Ok(Admitted::Answer(said)) => return answer(said, false),
            Ok(Admitted::Shutdown(said)) => return answer(said, true),
            Ok(Admitted::Serve(operation, passed)) => (operation, passed),
        };
        let seat = match operation.is_limited() {
            true => limits.enter(&config, passed.key, peer.ip(), now.instant),
            false => Ok(None),
        };
        let begun =
            seat.and_then(|seat| Ok((seat, Intake::new(&config, operation, head, passed)?)));
        let (seat, intake) = match begun {
            Ok(begun) => begun,
            Err(failure) => return refuse(&failure, None, passed.key),
        };
        let limits = BodyLimits {
            body_bytes_max: config.limits.body_bytes_max as u64,
            overhead_bytes_max: config.limits.chunk_overhead_bytes_max,
        };
        match BodyDecoder::new(head.framing, limits) {
            Ok(body) => {
                let ids = self.ids.fork();
                let keep_alive = head.keep_alive && !self.is_draining();
                let mut exchange = Exchange::new(intake, path, body, keep_alive, ids, now.instant);
                exchange.seat = seat;
                // HTTP/1.0 promises nothing.
                exchange.last = !head.keep_alive && head.version == Version::Http11;
                Plan::Serve { exchange: Box::new(exchange), expects: head.expect_continue }
            }
            Err(why) => {
                let message = format!("the request body cannot be read: {why}");
                refuse(&Failure::new(Fault::client(Kind::TooLarge), message), None, passed.key)
            }
        }
    }

    fn read_body(&mut self, client: &mut Client, now: Now) -> Option<After> {
        let mut exchange = client.exchange.take()?;
        let received = exchange.receive(&mut client.input, &mut self.shared);
        let whole = match received {
            Ok(false) => false,
            Ok(true) => {
                self.order(client, &mut exchange, now);
                true
            }
            Err(failure) => {
                self.refuse(client, &mut exchange, &failure, now);
                true
            }
        };
        client.exchange = Some(exchange);
        if whole {
            client.phase = Phase::Exchange;
            return None;
        }
        match client.read(&mut self.shared) {
            Got::Bytes(_) => None,
            Got::Blocked => Some(After::Keep),
            Got::End => Some(After::Close),
        }
    }

    fn serve(&mut self, client: &mut Client, held: &mut Option<Held>, now: Now) -> Option<After> {
        let Some(mut exchange) = client.exchange.take() else {
            client.phase = Phase::Closing;
            return None;
        };
        if exchange.stage != Stage::Over && !client.watch(&mut self.shared) {
            client.exchange = Some(exchange);
            return Some(After::Close);
        }
        let step = self.exchange(client, &mut exchange, held, now);
        if step == Step::Settled {
            let stays = exchange.keep_alive && !self.is_draining();
            client.phase = if stays { Phase::Idle } else { Phase::Closing };
            client.last_said = exchange.is_last();
            client.since = now.instant;
            return None;
        }
        client.exchange = Some(exchange);
        match step {
            Step::Again | Step::Settled => None,
            Step::More if client.flush(&mut self.shared, now.instant) => Some(After::More),
            Step::Wait if client.flush(&mut self.shared, now.instant) => {
                // The client took so much just now that the upstream may go on.
                let paused = held.as_ref().is_some_and(|held| held.upstream.paused);
                let low = self.shared.config.limits.pending_low_bytes;
                if paused && client.out.len() <= low { None } else { Some(After::Keep) }
            }
            Step::More | Step::Wait => Some(After::Close),
        }
    }

    fn finish(&mut self, client: &mut Client, now: Now) -> Option<After> {
        if !client.out.is_empty() {
            return Some(After::Keep);
        }
        if client.is_silent_for_good() {
            return Some(After::Close);
        }
        match client.link.finish(&mut self.shared.net) {
            Ok(true) => {}
            Ok(false) => return Some(After::Keep),
            Err(_) => return Some(After::Close),
        }
        client.phase = Phase::Linger;
        client.since = now.instant;
        client.input.clear();
        None
    }

    fn linger(&mut self, client: &mut Client) -> Option<After> {
        for _ in 0..TURN_READS_MAX {
            match client.read(&mut self.shared) {
                Got::Bytes(_) => client.input.clear(),
                Got::Blocked => return Some(After::Keep),
                Got::End => return Some(After::Close),
            }
        }
        Some(After::More)
    }

    /// Acts on deadlines that are due: first the upstream's, of which the client hears.
    fn expire(&mut self, client: &mut Client, held: &mut Option<Held>, now: Now) -> After {
        let timeouts = self.shared.config.timeouts;
        let due = |at: Option<std::time::Instant>| at.is_some_and(|at| at <= now.instant);
        let mut after = After::Keep;
        if let Some(at) = held
            && due(at.upstream.deadline(&timeouts))
        {
            if !at.upstream.expire(&mut self.shared, now.instant)
                && let Some(mut exchange) = client.exchange.take()
            {
                let silent = client.out.is_empty();
                let failure = at.upstream.expired(&self.shared.config);
                if client.out.is_empty() {
                    // What it is told now is the first thing that it could take.
                    client.moved = now.instant;
                }
                self.fail_or_judge(client, &mut exchange, at, &failure, now);
                client.exchange = Some(exchange);
                if silent {
                    client.moved = now.instant;
                }
            }
            after = self.drive(client, held, now);
        }
        if after == After::Close || !due(client.deadline(&timeouts)) {
            return after;
        }
        if self.expire_client(client, now) { self.drive(client, held, now) } else { After::Close }
    }

    /// False when the connection is to be closed.
    fn expire_client(&mut self, client: &mut Client, now: Now) -> bool {
        if !client.out.is_empty() {
            return false;
        }
        match client.phase {
            Phase::Idle | Phase::Closing | Phase::Linger => return false,
            // Nothing can be said before there are keys.
            Phase::Head if client.link.is_handshaking() => return false,
            Phase::Head => {
                let message = "the request head did not arrive in time";
                let failure = Failure::new(Fault::client(Kind::Timeout), message);
                let answer = Answer::failure(None, &failure, false);
                client.answer(&mut self.shared, &answer, false, false);
                client.phase = Phase::Closing;
            }
            Phase::Body | Phase::Exchange => {
                let Some(mut exchange) = client.exchange.take() else { return false };
                self.expire_exchange(client, &mut exchange, now);
                client.exchange = Some(exchange);
            }
        }
        client.moved = now.instant;
        true
    }

    fn expire_exchange(&mut self, client: &mut Client, exchange: &mut Exchange, now: Now) {
        let (fault, message) = match exchange.stage {
            Stage::Receive => {
                let failure = Failure::new(
                    Fault::client(Kind::Timeout),
                    "the request body did not arrive in time",
                );
                self.refuse(client, exchange, &failure, now);
                client.phase = Phase::Exchange;
                return;
            }
            Stage::Order => {
                (Fault::proxy(Kind::Overloaded), "the request was not translated in time")
            }
            Stage::Token => {
                (Fault::upstream(Kind::Timeout), "no token for the provider was to be had in time")
            }
            Stage::Seek if let Some(failure) = exchange.no_run() => {
                self.fail(client, exchange, &failure, now);
                return;
            }
            Stage::Seek => match self.got_through(now) {
                // Others get through, so its turn will come.
                Some(at) if exchange.parked == Some(Parked::Slot) => {
                    exchange.heard = at;
                    return;
                }
                _ => (
                    Fault::upstream(Kind::Timeout),
                    "no connection to the provider was to be had in time",
                ),
            },
            Stage::Gather => {
                (Fault::upstream(Kind::Timeout), "the provider's reply did not end in time")
            }
            _ => {
                self.keep_alive(client, exchange, now);
                return;
            }
        };
        self.fail(client, exchange, &Failure::new(fault, message), now);
    }
}

impl After {
    /// What is more urgent of the two.
    fn max_with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Close, _) | (_, Self::Close) => Self::Close,
            (Self::More, _) | (_, Self::More) => Self::More,
            _ => Self::Keep,
        }
    }
}
