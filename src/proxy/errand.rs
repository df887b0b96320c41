//! Calls that an exchange makes before its order, or that are all it makes: a file is uploaded and
//! its id goes into the order's body, a list of models is asked for and becomes the client's answer.
//!
//! An [`Errand`] is a [`Call`] whose reply is gathered whole, within a bound, and then given to its
//! [`Purpose`], which says what is [`Next`]. Everything else is as for an order's call: tokens, the
//! retries after a 401 and on a connection that was dead, deadlines, error replies in the client's
//! envelope, captures.

use crate::config::{Config, Provider};
use crate::dialect::ids::Ids;
use crate::fault::Failure;
use crate::proxy::call::Call;
use crate::proxy::content::Content;
use crate::proxy::desk::Work;
use crate::proxy::embeddings;
use crate::proxy::operation::Operation;
use crate::proxy::order::{Intake, Order};
use crate::proxy::reply::Answer;
use crate::proxy::upload::UploadTable;
use crate::proxy::upstream::Head;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Instant;

/// A call with a purpose.
#[derive(Debug)]
pub(crate) struct Errand {
    /// Written already ([`Call::write`]).
    pub(crate) call: Call,
    /// A reply's content of more bytes fails the exchange.
    pub(crate) reply_bytes_max: usize,
    pub(crate) purpose: Box<dyn Purpose>,
}

/// What an errand is for.
pub(crate) trait Purpose: Debug + Send {
    /// The reply to the call is here, whole: its status is a 2xx, or a 3xx where those are wanted.
    ///
    /// # Errors
    /// What the client is told instead of an answer; the exchange is over.
    fn done(self: Box<Self>, reply: &Reply<'_>, setting: Setting<'_>) -> Result<Next, Failure>;

    /// Whether redirects are its own matter ([`Head::location`]). Nobody else follows any.
    fn takes_redirects(&self) -> bool {
        false
    }

    /// The call failed, or was answered with an error: what the client is told of it.
    fn failed(&self, failure: Failure) -> Failure {
        failure
    }

    /// The same for a purpose that can do without.
    ///
    /// # Errors
    /// It cannot: what the client is told; the exchange is over.
    fn recover(self: Box<Self>, failure: Failure, setting: Setting<'_>) -> Result<Next, Failure> {
        let _ = setting;
        Err(self.failed(failure))
    }
}

/// A reply to an errand's call.
#[derive(Debug)]
pub(crate) struct Reply<'r> {
    pub(crate) head: &'r Head,
    /// The content, at most [`Errand::reply_bytes_max`] bytes; it has no content coding.
    pub(crate) body: &'r [u8],
}

/// What a purpose can see and change.
#[derive(Debug)]
pub(crate) struct Setting<'s> {
    pub(crate) config: &'s Config,
    /// Whom the errand's call went to, or for whom.
    pub(crate) provider: &'s Provider,
    pub(crate) intake: &'s Intake,
    /// What the errand was made for, if it is no end in itself.
    pub(crate) order: Option<&'s mut Order>,
    /// What was uploaded to upstreams.
    pub(crate) uploads: &'s UploadTable,
    pub(crate) now: Instant,
    pub(crate) unix_s: u64,
}

/// What follows an errand.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next errand that waits, else the order.
    GoOn,
    /// These errands, in their order and before all that wait.
    Errands(Vec<Errand>),
    /// The client's answer. Errands that wait, and the order, are given up.
    Answer(Answer),
    /// The same, made beside the worker: it would keep all others waiting.
    Work(Work),
}

/// What an exchange has to ask of upstreams: its errands in their order, then its order if it has
/// one.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    pub(crate) errands: VecDeque<Errand>,
    pub(crate) order: Option<Order>,
    /// The client's answer, where nothing has to be asked.
    pub(crate) answer: Option<Answer>,
    /// Index of the provider that serves the exchange, for logs.
    pub(crate) provider: Option<usize>,
    /// The model as the client names it, for logs; empty where it names none.
    pub(crate) model: String,
    /// The value of `x-patchbay-dropped` where there is no order, for logs.
    pub(crate) dropped: String,
}

impl Agenda {
    /// Makes of a whole body what is to be asked, in `memory` if it is large enough.
    ///
    /// # Errors
    /// The body is not a request, or cannot be served.
    pub(crate) fn new(
        config: &Config,
        intake: &Intake,
        content: Content,
        memory: Vec<u8>,
        ids: Ids,
        unix_s: u64,
    ) -> Result<Self, Failure> {
        match &intake.operation {
            Operation::Answer(_) => {}
            Operation::Embeddings => return embeddings::agenda(config, intake, content),
            Operation::Models(ask) => return ask.agenda(config, intake, unix_s),
        }
        let mut order = Order::new(config, intake, content, memory, ids, unix_s)?;
        Ok(Self {
            errands: VecDeque::new(),
            provider: Some(order.call.provider),
            model: std::mem::take(&mut order.model),
            order: Some(order),
            ..Self::default()
        })
    }

    /// The memory of the client's request, which is needed no more.
    pub(crate) fn take_spent(&mut self) -> Vec<u8> {
        self.order.as_mut().map_or(Vec::new(), |order| std::mem::take(&mut order.spent))
    }
}
