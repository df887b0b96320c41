//! Where the upstream is a command: its run is begun instead of a connection.

use super::{Exchange, Held, Parked, Step};
use crate::config::exec::Exec;
use crate::fault::{Failure, Fault, Kind, Retry};
use crate::proxy::client::Client;
use crate::proxy::launch::{Launch, Progress, Run};
use crate::proxy::net::Net;
use crate::proxy::shared::Now;
use crate::proxy::upstream::Upstream;
use crate::proxy::worker::Worker;
use std::sync::Arc;
use std::time::Instant;

/// What a client is told to wait when all runs are busy, in seconds.
const RETRY_AFTER_S: u32 = 10;

impl<N: Net> Worker<N> {
    /// Begins the run, or sees how far it is.
    pub(super) fn launch(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        held: &mut Option<Held>,
        exec: &Exec,
        now: Now,
    ) -> Step {
        let launch = match self.begin_run(exchange, exec, now) {
            Some(Ok(launch)) => launch,
            Some(Err(failure)) => {
                self.fail(client, exchange, &failure, now);
                return Step::Again;
            }
            None => return self.lose(client, exchange, now),
        };
        let begun = match launch.progress() {
            Progress::Waiting => {
                exchange.parked = Some(Parked::Launch);
                return Step::Wait;
            }
            Progress::Started => self.shared.net.adopt(&launch).map_err(|why| {
                let message = format!("the run cannot be taken over: {why}");
                Failure::new(Fault::proxy(Kind::Server), message)
            }),
            Progress::Failed(failure) => Err((*failure).clone()),
            Progress::Over(_) => {
                let message = "the run ended before it began";
                Err(Failure::new(Fault::upstream(Kind::Truncated), message))
            }
        };
        exchange.parked = None;
        match begun {
            Ok(socket) => {
                let until = now.instant + exec.timeout;
                let upstream = Upstream::running(socket, &launch, until, now.instant);
                *held = Some(self.hold_run(Box::new(upstream)));
            }
            Err(failure) => self.fail(client, exchange, &failure, now),
        }
        Step::Again
    }

    /// The run of an exchange, asked for if that was not done yet.
    fn begin_run(
        &mut self,
        exchange: &mut Exchange,
        exec: &Exec,
        now: Now,
    ) -> Option<Result<Arc<Launch>, Failure>> {
        let order = exchange.order.as_mut()?;
        let provider = order.call.provider;
        if let Run::Begun { launch, .. } = order.run.as_deref()? {
            return Some(Ok(Arc::clone(launch)));
        }
        let Run::Wanted(mut run) = *order.run.take()? else { return None };
        let list = self.shared.limits.models().list(provider);
        let known: Vec<&str> =
            list.iter().flat_map(|list| list.iter()).map(|it| it.id.as_str()).collect();
        if let Err(failure) = run.find_model(&known) {
            return Some(Err(failure));
        }
        let launch = Launch::new(provider, run);
        let (mine, until) = (Arc::clone(&launch), now.instant + exec.queue);
        self.shared.net.launch(&launch);
        order.run = Some(Box::new(Run::Begun { launch, until }));
        Some(Ok(mine))
    }
}

impl Exchange {
    /// When a run that was asked for has to have begun.
    pub(super) fn run_until(&self) -> Option<Instant> {
        match self.order.as_ref()?.run.as_deref()? {
            Run::Begun { until, .. } => Some(*until),
            Run::Wanted(_) => None,
        }
    }

    /// What a client is told whose run did not begin in time; `None` where no run is wanted.
    pub(crate) fn no_run(&self) -> Option<Failure> {
        self.run_until()?;
        let mut fault = Fault::upstream(Kind::Overloaded);
        fault.retry = Retry::After(RETRY_AFTER_S);
        Some(Failure::new(fault, "all runs of the provider are busy: try again later"))
    }
}
