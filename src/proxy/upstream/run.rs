//! A run of a command, which is an upstream without a head: its input takes the request's body alone,
//! and what it says until its end is the reply's.

use super::words::run_ended;
use super::{Asked, Head, Phase, Read, Upstream};
use crate::config::Config;
use crate::proxy::launch::{Launch, Progress};
use crate::proxy::net::{Net, SocketId};
use crate::proxy::shared::Shared;
use crate::proxy::transport::{Got, Link};
use crate::transcode::Form;
use crate::wire::http1::{BodyDecoder, BodyFraming, BodyLimits};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

/// Of what a command says before it was told everything, so much is read.
const EARLY_BYTES_MAX: usize = 1 << 20;

/// A run of a command.
#[derive(Debug)]
pub(super) struct Running {
    launch: Arc<Launch>,
    /// When it has to be over.
    pub(super) until: Instant,
    /// Its output ended.
    ended: bool,
}

impl Upstream {
    /// A run of a command that has started, which has to be over at `until`.
    pub(crate) fn running(
        socket: SocketId,
        launch: &Arc<Launch>,
        until: Instant,
        now: Instant,
    ) -> Self {
        let provider = launch.provider;
        let run = Running { launch: Arc::clone(launch), until, ended: false };
        let fresh = Self::fresh(Link::accepted(socket), provider, Phase::Send, now);
        Self { run: Some(Box::new(run)), uses: 1, keep: false, ..fresh }
    }

    /// Whether its output ended, and how the command did is not known yet.
    pub(crate) fn is_parting(&self) -> bool {
        let parting = |run: &Running| {
            run.ended && !matches!(run.launch.progress(), Progress::Over(_) | Progress::Failed(_))
        };
        self.run.as_deref().is_some_and(parting)
    }

    /// The command takes no more at the moment. It may talk before it listens, and would not listen
    /// before somebody has heard it.
    pub(super) fn hear_early<N: Net>(&mut self, shared: &mut Shared<N>) -> Asked {
        while self.input.len() < EARLY_BYTES_MAX {
            match self.read(shared) {
                Ok(Got::Bytes(_)) => {}
                Ok(Got::Blocked) => return Asked::Blocked,
                // It is gone, and with it who was to hear the rest.
                Ok(Got::End) | Err(_) => return self.await_output(shared),
            }
        }
        Asked::Blocked
    }

    /// The command was told everything: what it says until its end is the reply.
    pub(super) fn await_output<N: Net>(&mut self, shared: &mut Shared<N>) -> Asked {
        shared.net.shutdown(self.link.socket);
        let limits = BodyLimits { body_bytes_max: u64::MAX, overhead_bytes_max: 0 };
        self.body = BodyDecoder::new(BodyFraming::UntilClose, limits).ok();
        self.phase = Phase::Body;
        Asked::Head(Head {
            status: 200,
            form: Some(Form::Lines),
            has_body: true,
            ..Head::default()
        })
    }

    /// Whether it is a run whose output ends with this error: it ended before it had read its input.
    pub(super) fn is_end_of_run(&self, why: &io::Error) -> bool {
        self.run.is_some() && why.kind() == ErrorKind::ConnectionReset
    }

    /// The command's output ended: what is known of the command's own end.
    pub(super) fn end_run(&mut self, config: &Config) -> Read {
        let Some(run) = &mut self.run else { return Read::End };
        run.ended = true;
        match run.launch.progress() {
            Progress::Over(ended) => Read::Broken(run_ended(config, self.provider, &ended)),
            Progress::Failed(failure) => Read::Broken((*failure).clone()),
            Progress::Waiting | Progress::Started => Read::Blocked,
        }
    }
}
