//! Errands: their replies are gathered whole, and their purposes say what is next.

use super::{Exchange, Stage, Step};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::call::Call;
use crate::proxy::capture::Place;
use crate::proxy::client::Client;
use crate::proxy::desk::Job;
use crate::proxy::errand::{Next, Reply, Setting};
use crate::proxy::net::Net;
use crate::proxy::shared::Now;
use crate::proxy::upstream::{Read, Upstream};
use crate::proxy::worker::Worker;
use std::sync::Arc;

/// Reads of one connection in one turn.
const TURN_READS_MAX: u32 = 16;

impl<N: Net> Worker<N> {
    /// Gathers the reply to an errand's call.
    pub(super) fn gather(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        upstream: &mut Upstream,
        now: Now,
    ) -> Step {
        let bytes_max = exchange.errands.front().map_or(0, |errand| errand.reply_bytes_max);
        for _ in 0..TURN_READS_MAX {
            let read = upstream.read_body(&mut self.shared, now.instant);
            if upstream.payload.len() > bytes_max {
                // Of a reply that the client chose, it is the request that is too large.
                let chosen = exchange.call().is_some_and(Call::is_to_stranger);
                let kind = if chosen { Kind::TooLarge } else { Kind::BadReply };
                let message = format!("the upstream's reply has more than {bytes_max} bytes");
                let failure = Failure::new(Fault::upstream(kind), message);
                self.fail(client, exchange, &failure, now);
                return Step::Again;
            }
            match read {
                Read::Some => {}
                Read::Blocked => return Step::Wait,
                Read::End => {
                    self.finish_errand(client, exchange, upstream.payload.filled(), now);
                    return Step::Again;
                }
                Read::Broken(failure) => {
                    self.fail(client, exchange, &failure, now);
                    return Step::Again;
                }
            }
        }
        Step::More
    }

    /// Makes the errand that the order needs first, and writes the order when there is none left.
    pub(super) fn prepare(&mut self, exchange: &mut Exchange, now: Now) -> Result<(), Failure> {
        if !exchange.errands.is_empty() {
            return Ok(());
        }
        let Some(order) = &mut exchange.order else { return Ok(()) };
        let Some(provider) = self.shared.config.providers.get(order.call.provider) else {
            return Ok(());
        };
        let uploads = self.shared.limits.uploads();
        exchange.errands.extend(order.prepare(provider, &exchange.intake, uploads, now.instant)?);
        Ok(())
    }

    /// The reply to an errand's call is here: its purpose says what is next.
    pub(super) fn finish_errand(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        body: &[u8],
        now: Now,
    ) {
        exchange.tape_body(Place::UpstreamReply, body);
        let config = Arc::clone(&self.shared.config);
        let errand = exchange.errands.pop_front();
        let Some((errand, provider)) = errand.and_then(|errand| {
            let provider = config.providers.get(errand.call.provider)?;
            Some((errand, provider))
        }) else {
            self.lose(client, exchange, now);
            return;
        };
        // A stranger's connection is of no use to anybody else.
        exchange.broken |= errand.call.is_to_stranger();
        let reply = Reply { head: &exchange.head, body };
        let setting = Setting {
            config: &config,
            provider,
            intake: &exchange.intake,
            order: exchange.order.as_mut(),
            uploads: self.shared.limits.uploads(),
            now: now.instant,
            unix_s: now.unix_s,
        };
        match errand.purpose.done(&reply, setting) {
            Ok(next) => self.follow(client, exchange, next, now),
            Err(mut failure) => {
                exchange.errands.clear();
                let token = errand.call.token();
                exchange.intake.redact(&provider.credential, token, &mut failure);
                self.refuse(client, exchange, &failure, now);
            }
        }
    }

    /// Goes on as a purpose says.
    pub(super) fn follow(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        next: Next,
        now: Now,
    ) {
        exchange.stage = Stage::Next;
        match next {
            Next::GoOn => {}
            Next::Errands(errands) => {
                for errand in errands.into_iter().rev() {
                    exchange.errands.push_front(errand);
                }
            }
            Next::Answer(answer) => {
                exchange.errands.clear();
                self.tell(client, exchange, answer, now);
            }
            Next::Work(work) => {
                exchange.errands.clear();
                self.send_out(exchange, Job::reply(work));
            }
        }
    }

    /// What failed may be the errand at hand: its purpose says whether it can do without.
    ///
    /// # Errors
    /// What the client is told; no errand is left.
    pub(super) fn without_errand(
        &self,
        exchange: &mut Exchange,
        failure: Failure,
        now: Now,
    ) -> Result<Next, Failure> {
        let Some(errand) = exchange.errands.pop_front() else { return Err(failure) };
        let config = &*self.shared.config;
        let recovered = match config.providers.get(errand.call.provider) {
            None => Err(failure),
            Some(provider) => {
                let setting = Setting {
                    config,
                    provider,
                    intake: &exchange.intake,
                    order: exchange.order.as_mut(),
                    uploads: self.shared.limits.uploads(),
                    now: now.instant,
                    unix_s: now.unix_s,
                };
                errand.purpose.recover(failure, setting)
            }
        };
        if recovered.is_err() {
            exchange.errands.clear();
        }
        recovered
    }
}
