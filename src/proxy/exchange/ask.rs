//! Asking: the call at hand gets its token and a connection, goes out, and its reply's head decides
//! what follows.

use super::{Exchange, Held, Parked, Stage, Step, at_hand};
use crate::config::{Credential, Provider};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::client::Client;
use crate::proxy::net::{Lookup, Net, TokenState};
use crate::proxy::order::Intake;
use crate::proxy::public;
use crate::proxy::shared::Now;
use crate::proxy::token::FORMS;
use crate::proxy::upstream::{self, Asked, Upstream};
use crate::proxy::worker::Worker;
use std::sync::Arc;

impl<N: Net> Worker<N> {
    /// Gets the token that the request is to show, where there is one.
    pub(super) fn find_token(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        now: Now,
    ) -> Step {
        let config = Arc::clone(&self.shared.config);
        let Some(call) = at_hand(&mut exchange.errands, &mut exchange.order) else {
            return self.lose(client, exchange, now);
        };
        if let Some(provider) = config.providers.get(call.provider)
            && !call.is_to_stranger()
            && let Some(state) =
                token_of(provider, call.provider, &exchange.intake, &mut self.shared.net)
        {
            let shown = match state {
                TokenState::Pending => {
                    exchange.parked = Some(Parked::Token);
                    return Step::Wait;
                }
                TokenState::Ready(token) => match call.refusal_of(&token) {
                    Some(failure) => Err(failure.clone()),
                    None => call.show(provider, &exchange.intake, token),
                },
                TokenState::Failed(failure) => Err((*failure).clone()),
            };
            if let Err(failure) = shown {
                exchange.parked = None;
                self.fail(client, exchange, &failure, now);
                return Step::Again;
            }
        }
        exchange.parked = None;
        exchange.stage = Stage::Seek;
        exchange.heard = now.instant;
        Step::Again
    }

    /// Finds a connection: an idle one, or a new one when there is a slot and the name is known.
    pub(super) fn seek(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        held: &mut Option<Held>,
        now: Now,
    ) -> Step {
        let Some(call) = at_hand(&mut exchange.errands, &mut exchange.order) else {
            return self.lose(client, exchange, now);
        };
        let (provider, patience_s) = (call.provider, call.patience_s);
        let config = Arc::clone(&self.shared.config);
        if let Some(exec) = config.providers.get(provider).and_then(|it| it.exec.as_ref()) {
            return self.launch(client, exchange, held, exec, now);
        }
        if !call.retried
            && !call.is_to_stranger()
            && let Some(mut idle) = self.take_idle(provider, call.detour())
        {
            idle.upstream.begin(now.instant);
            idle.upstream.patience_s = patience_s;
            self.shared.meter.reuses += 1;
            exchange.parked = None;
            *held = Some(idle);
            return Step::Again;
        }
        if !self.may_connect(exchange.called) {
            exchange.parked = Some(Parked::Slot);
            return Step::Wait;
        }
        let own = config.providers.get(provider).map(|provider| &provider.url);
        let Some(url) = call.detour().or(own) else {
            let failure = Failure::new(Fault::proxy(Kind::Server), "the provider is gone");
            self.fail(client, exchange, &failure, now);
            return Step::Again;
        };
        let stranger = call.is_to_stranger();
        let lookup = match stranger {
            true => self.shared.net.resolve_stranger(&url.host, url.port),
            false => self.shared.net.resolve(&url.host, url.port),
        };
        let addresses = match lookup {
            Lookup::Pending => {
                exchange.parked = Some(Parked::Name);
                return Step::Wait;
            }
            Lookup::Failed(_) if stranger => Err(nowhere("its host has no address")),
            Lookup::Failed(why) => Err(upstream::unreachable_for(&config, provider, &why)),
            // The connection goes to what was checked, whatever the name leads to later.
            Lookup::Found(addresses) if stranger => {
                public::only_public(&addresses).map_err(|why| nowhere(&why))
            }
            Lookup::Found(addresses) => Ok(addresses),
        };
        let dialled = addresses.and_then(|addresses| {
            let detour = call.detour().cloned();
            Upstream::dial(&mut self.shared, provider, detour, addresses, now.instant)
        });
        exchange.parked = None;
        match dialled {
            Ok(mut upstream) => {
                upstream.stranger = stranger;
                upstream.patience_s = patience_s;
                *held = Some(self.hold(Box::new(upstream)));
            }
            Err(failure) => self.fail(client, exchange, &failure, now),
        }
        Step::Again
    }

    /// Sends the request and awaits the reply's head.
    pub(super) fn ask(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        held: &mut Option<Held>,
        now: Now,
    ) -> Step {
        let errand = !exchange.errands.is_empty();
        let streams = !errand && exchange.streams();
        let call = at_hand(&mut exchange.errands, &mut exchange.order);
        let (Some(call), Some(at)) = (call, held.as_mut()) else {
            return Step::Wait;
        };
        if let Some(tape) = &mut exchange.tape {
            tape.ask(&call.outgoing);
        }
        match at.upstream.ask(&mut self.shared, &mut call.outgoing, now.instant) {
            Ok(Asked::Blocked) => return Step::Wait,
            Ok(Asked::Spent) => return Step::More,
            Ok(Asked::Head(head)) => {
                let provider = call.provider;
                if head.status < 300 {
                    let sent = std::mem::take(&mut call.outgoing);
                    self.shared.give_back_body(sent.body);
                    if let Some(order) = exchange.order.as_mut().filter(|_| !errand) {
                        order.album = None;
                    }
                }
                let delays =
                    self.shared.config.providers.get(provider).is_some_and(|p| p.delay_acks);
                if streams && delays {
                    self.shared.net.delay_acks(at.upstream.link.socket);
                }
                exchange.heard = now.instant;
                exchange.first = Some(now.instant);
                exchange.head = head;
                exchange.tape_reply_head();
                self.begin_reply(client, exchange, provider, now);
            }
            Err(_)
                if at.upstream.died_unused() && self.shared.config.retry_stale && !call.retried =>
            {
                log::info!("a kept connection was dead: asking once more on a fresh one");
                self.shared.meter.retries += 1;
                call.outgoing.sent = 0;
                call.retried = true;
                exchange.stage = Stage::Seek;
                exchange.heard = now.instant;
                if let Some(held) = held.take() {
                    self.close_held(held);
                }
            }
            Err(failure) => self.fail(client, exchange, &failure, now),
        }
        Step::Again
    }

    /// The upstream's head decides what kind of reply follows.
    fn begin_reply(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        provider: usize,
        now: Now,
    ) {
        let errand = exchange.errands.front();
        if errand.is_some_and(|errand| errand.call.is_to_stranger()) {
            // Nothing of what a stranger says goes on to the client.
            exchange.head.be_strange();
        }
        let head = &exchange.head;
        self.shared.limits.usage().note(provider, &head.passed, now.unix_s);
        let redirect = (300..400).contains(&head.status)
            && errand.is_some_and(|errand| errand.purpose.takes_redirects());
        let wrong = match head.status {
            204..=206 => Some("it has no whole body"),
            200..=299 if head.coded => Some("it is compressed, though nobody asked for that"),
            300..=399 if !redirect => Some("it is a redirect, and redirects are not followed"),
            _ => None,
        };
        exchange.stage = match head.status {
            200..=299 if errand.is_some() => Stage::Gather,
            200..=299 => Stage::Answer,
            _ => Stage::Refusal,
        };
        if let Some(wrong) = wrong {
            let why = format!("with status {}, {wrong}", head.status);
            let failure = upstream::bad_reply(&self.shared.config, provider, &why);
            self.fail(client, exchange, &failure, now);
        } else if redirect {
            // Its body says nothing that its head does not.
            exchange.broken = true;
            self.finish_errand(client, exchange, &[], now);
        } else if !head.has_body && exchange.stage == Stage::Refusal {
            self.judge(client, exchange, &[], now);
        }
    }
}

/// Where a client sends us there is nothing for it.
fn nowhere(why: &str) -> Failure {
    Failure::new(Fault::upstream(Kind::NotFound), why)
}

/// The token of the account that a request is made with: the client's, else the server's own. `None`
/// where it needs none.
fn token_of<N: Net>(
    provider: &Provider,
    index: usize,
    intake: &Intake,
    net: &mut N,
) -> Option<TokenState> {
    if let Some(caller) = intake.caller(provider) {
        return Some(match caller.token() {
            Some(token) => TokenState::Ready(Arc::clone(token)),
            None => net.token(index, Some(caller)),
        });
    }
    match provider.credential {
        Credential::CodexAuth(_) | Credential::Grant(_) => Some(net.token(index, None)),
        Credential::None if provider.callers.is_some() => {
            let message = format!(
                "the proxy has no account of its own at the provider \"{}\": send yours as {FORMS}",
                provider.name
            );
            let failure = Failure::new(Fault::client(Kind::Unauthorized), message);
            Some(TokenState::Failed(Arc::new(failure)))
        }
        Credential::None | Credential::Key(_) | Credential::Client => None,
    }
}
