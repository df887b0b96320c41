//! From a client's whole request to an upstream's: at once, or, where that takes long, at a desk.

use super::{Exchange, Parked, Stage, Step};
use crate::fault::Failure;
use crate::proxy::client::Client;
use crate::proxy::desk::{self, Job, Outcome, Tray};
use crate::proxy::errand::Agenda;
use crate::proxy::net::Net;
use crate::proxy::shared::Now;
use crate::proxy::worker::Worker;
use std::sync::Arc;

impl<N: Net> Worker<N> {
    /// The whole body is here: makes the upstream's request.
    pub(crate) fn order(&mut self, client: &mut Client, exchange: &mut Exchange, now: Now) {
        let content = std::mem::take(&mut exchange.content);
        exchange.tape_content(content.as_bytes(), &self.shared.config.limits);
        exchange.heard = now.instant;
        let ids = exchange.ids.fork();
        let config = &self.shared.config;
        // What a coding unfolds to is not known before.
        let long =
            content.len() > config.limits.inline_bytes_max || exchange.intake.coding.is_some();
        if !long {
            let memory = self.shared.lease_body(content.len());
            let config = &self.shared.config;
            let agenda = Agenda::new(config, &exchange.intake, content, memory, ids, now.unix_s);
            self.ordered(client, exchange, agenda.map_err(Box::new), now);
            return;
        }
        let config = Arc::clone(config);
        let intake = exchange.intake.clone();
        self.send_out(exchange, Job::request(config, intake, content, ids, now.unix_s));
        exchange.stage = Stage::Order;
    }

    /// Has a job done, beside the worker if that is possible.
    pub(super) fn send_out(&mut self, exchange: &mut Exchange, (job, tray): (Job, Arc<Tray>)) {
        exchange.tray = Some(tray);
        if let Some(job) = self.shared.net.translate(job) {
            job.run();
        }
    }

    /// Takes the upstream's request, or the client's answer, from the tray, once it is there.
    pub(super) fn take_order(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        now: Now,
    ) -> Step {
        let Some(outcome) = exchange.tray.as_ref().and_then(|tray| tray.take()) else {
            exchange.parked = Some(Parked::Order);
            return Step::Wait;
        };
        exchange.parked = None;
        exchange.tray = None;
        let agenda = match outcome {
            Outcome::Agenda(agenda) => Ok(*agenda),
            Outcome::Answer(answer) => {
                self.tell(client, exchange, *answer, now);
                return Step::Again;
            }
            Outcome::Failure(failure) => Err(failure),
            Outcome::Panic => {
                self.shared.meter.panics += 1;
                log::error!(
                    "a translation was given up after a panic: this is a defect of patchbay"
                );
                Err(Box::new(desk::panicked()))
            }
        };
        self.ordered(client, exchange, agenda, now);
        Step::Again
    }

    fn ordered(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        agenda: Result<Agenda, Box<Failure>>,
        now: Now,
    ) {
        match agenda {
            Ok(mut agenda) => {
                self.shared.give_back_body(agenda.take_spent());
                exchange.provider = agenda.provider;
                exchange.model = agenda.model;
                exchange.dropped = agenda.dropped;
                exchange.errands = agenda.errands;
                exchange.order = agenda.order;
                exchange.stage = Stage::Token;
                exchange.heard = now.instant;
                if let Some(answer) = agenda.answer {
                    self.tell(client, exchange, answer, now);
                } else if let Err(failure) = self.prepare(exchange, now) {
                    self.refuse(client, exchange, &failure, now);
                }
            }
            Err(failure) => self.refuse(client, exchange, &failure, now),
        }
    }
}
