//! One request and its reply: the joint of a client and an upstream. The `match` in
//! [`Worker::exchange`] holds every row of the joint table; the two halves do not know each other.

mod ask;
mod errands;
mod launch;
mod pump;
mod tape;
mod translate;

use crate::config::Timeouts;
use crate::dialect::ids::Ids;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::auth;
use crate::proxy::call::Call;
use crate::proxy::capture::{Place, Tape};
use crate::proxy::client::Client;
use crate::proxy::content::Content;
use crate::proxy::desk::Tray;
use crate::proxy::errand::Errand;
use crate::proxy::limit::Seat;
use crate::proxy::net::Net;
use crate::proxy::order::{Intake, Order};
use crate::proxy::reply::Answer;
use crate::proxy::shared::{Now, Shared};
use crate::proxy::upstream::{Head, Phase, Read, Upstream};
use crate::proxy::worker::Worker;
use crate::transcode::Transcoder;
use crate::wire::buffer::Buffer;
use crate::wire::http1::{BodyDecoder, BodyStep, chunk_begin, chunk_end};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So much memory a request's body gets before it came.
const PROMISED_BYTES_MAX: usize = 1 << 20;
/// Of an error reply's body, so much is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// How long the translation of a request is awaited that is done elsewhere: much longer than any
/// takes, but not for ever.
const ORDER_WAIT: Duration = Duration::from_secs(60);
/// How long a token is awaited: longer than a refresh may take.
const TOKEN_WAIT: Duration = Duration::from_secs(45);

/// How long the whole content of a reply to an errand is awaited, from its head on.
const GATHER_WAIT: Duration = Duration::from_secs(60);

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request's body comes.
    Receive,
    /// The request is made into an upstream's, or an errand's reply into the client's.
    Order,
    /// A token is wanted.
    Token,
    /// An upstream connection is wanted.
    Seek,
    /// The request goes to the upstream, whose reply's head is awaited.
    Ask,
    /// The answer comes.
    Answer,
    /// The reply to an errand comes.
    Gather,
    /// The errand is done: the next one's turn, or the order's.
    Next,
    /// An error reply comes.
    Refusal,
    /// The request goes out anew, without a parameter that the upstream refused.
    Repeat,
    /// The request goes out anew, with another token than the one that the upstream refused.
    Renew,
    /// The client was told everything.
    Over,
}

/// Why an exchange waits for something that is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// For its request as an upstream's.
    Order,
    /// For a token.
    Token,
    /// For a name.
    Name,
    /// For a free connect slot.
    Slot,
    /// For its run of a command, to begin or to have ended.
    Launch,
}

/// An upstream connection while its exchange is worked on.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) slot: usize,
    pub(crate) upstream: Box<Upstream>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something changed: step again.
    Again,
    /// Nothing can be done now.
    Wait,
    /// The budget of this turn is spent.
    More,
    /// The exchange is settled.
    Settled,
}

/// One request and its reply.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) stage: Stage,
    pub(crate) upstream: Option<usize>,
    pub(crate) parked: Option<Parked>,
    /// It was called from the queue for connect slots.
    pub(crate) called: bool,
    /// The connection stays after the reply.
    pub(crate) keep_alive: bool,
    /// The client closes it after the reply.
    pub(crate) last: bool,
    pub(crate) intake: Intake,
    /// Its place among those that its key may have at once.
    pub(crate) seat: Option<Seat>,
    path: String,
    body: BodyDecoder,
    content: Content,
    /// Where its agenda will lie that is made elsewhere.
    tray: Option<Arc<Tray>>,
    /// Calls to make before the order; the first is at hand.
    errands: VecDeque<Errand>,
    order: Option<Order>,
    /// Index of the provider that serves it, once that is known.
    provider: Option<usize>,
    /// The model as the client names it.
    model: String,
    /// What was dropped on the way, where there is no order that knows it.
    dropped: String,
    ids: Ids,
    head: Head,
    transcoder: Option<Transcoder>,
    /// Written, but held back until it is known that the status is a good one.
    staged: Vec<u8>,
    /// The reply's head was sent.
    committed: bool,
    /// The reply broke off: the end of its framing is withheld too.
    cut: bool,
    /// The upstream connection is of no more use.
    broken: bool,
    /// Bytes of the reply's content that were used.
    taken: usize,
    began: Instant,
    first: Option<Instant>,
    /// When the client last heard something, or began to wait.
    pub(crate) heard: Instant,
    status: u16,
    label: Option<&'static str>,
    /// Where exchanges are written down: what was said.
    tape: Option<Box<Tape>>,
}

impl Exchange {
    pub(crate) fn new(
        intake: Intake,
        path: String,
        body: BodyDecoder,
        keep_alive: bool,
        ids: Ids,
        now: Instant,
    ) -> Self {
        let coded = intake.coding.is_some();
        Self {
            stage: Stage::Receive,
            upstream: None,
            parked: None,
            called: false,
            keep_alive,
            last: false,
            intake,
            seat: None,
            path,
            body,
            content: if coded { Content::coded() } else { Content::default() },
            tray: None,
            errands: VecDeque::new(),
            order: None,
            provider: None,
            model: String::new(),
            dropped: String::new(),
            ids,
            head: Head::default(),
            transcoder: None,
            staged: Vec::new(),
            committed: false,
            cut: false,
            broken: false,
            taken: 0,
            began: now,
            first: None,
            heard: now,
            status: 0,
            label: None,
            tape: None,
        }
    }

    /// Bytes of the body that came.
    pub(crate) fn received(&self) -> usize {
        self.content.len()
    }

    /// When to go on though no peer moved: a connection is not to be had, or the client waits in
    /// silence.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        match self.stage {
            Stage::Order => Some(self.heard + ORDER_WAIT),
            Stage::Token => Some(self.heard + TOKEN_WAIT),
            Stage::Seek => Some(self.run_until().unwrap_or(self.heard + timeouts.connect)),
            Stage::Gather => Some(self.heard + GATHER_WAIT),
            Stage::Answer if self.streams() => Some(self.heard + timeouts.keep_alive),
            _ => None,
        }
    }

    /// True when the client promised that this request is its last (RFC 9112 section 9.6), and all
    /// of it is here.
    pub(crate) fn is_last(&self) -> bool {
        self.last && self.body.is_complete()
    }

    /// Takes body bytes off the client's input; true when the body is whole.
    pub(crate) fn receive<N: Net>(
        &mut self,
        input: &mut Buffer,
        shared: &mut Shared<N>,
    ) -> Result<bool, Failure> {
        loop {
            match self.body.decode(input.filled()) {
                Ok((BodyStep::Data(data), used)) => {
                    let remaining = usize::try_from(self.body.remaining()).unwrap_or(usize::MAX);
                    self.make_room(data.len(), remaining, shared);
                    self.content.push(data);
                    input.consume(used);
                }
                Ok((BodyStep::NeedMore, used)) => {
                    input.consume(used);
                    return Ok(false);
                }
                Ok((BodyStep::End, used)) => {
                    input.consume(used);
                    return Ok(true);
                }
                Err(why) => {
                    let kind = if why.status() == 413 { Kind::TooLarge } else { Kind::BadRequest };
                    let message = format!("the request body cannot be read: {why}");
                    return Err(Failure::new(Fault::client(kind), message));
                }
            }
        }
    }

    /// Makes room for `data` more bytes of the body, and for some of the `remaining` ones that its
    /// head told of: a promise alone gets nobody much memory.
    fn make_room<N: Net>(&mut self, data: usize, remaining: usize, shared: &mut Shared<N>) {
        if self.content.len() == 0 {
            self.content.move_into(shared.lease_body(data.saturating_add(remaining)));
        }
        if remaining > 0 && self.content.capacity() - self.content.len() < data {
            let likely = remaining.min(self.content.len().max(PROMISED_BYTES_MAX));
            self.content.reserve(data + likely);
        }
    }

    /// Whether what it is parked for is there, as far as it can tell by itself.
    pub(crate) fn has_order(&self) -> bool {
        self.tray.as_ref().is_some_and(|tray| tray.is_full())
    }

    fn streams(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.stream)
    }

    fn same(&self) -> bool {
        self.call().is_some_and(Call::same)
    }

    /// The call at hand: the first errand's, else the order's.
    fn call(&self) -> Option<&Call> {
        let errand = self.errands.front().map(|errand| &errand.call);
        errand.or(self.order.as_ref().map(|order| &order.call))
    }
}

/// The call at hand of an exchange with these errands and this order.
fn at_hand<'e>(
    errands: &'e mut VecDeque<Errand>,
    order: &'e mut Option<Order>,
) -> Option<&'e mut Call> {
    let errand = errands.front_mut().map(|errand| &mut errand.call);
    errand.or(order.as_mut().map(|order| &mut order.call))
}

impl<N: Net> Worker<N> {
    /// The joint table: what to do next for an exchange whose request is whole.
    pub(crate) fn exchange(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        held: &mut Option<Held>,
        now: Now,
    ) -> Step {
        match (exchange.stage, held.as_mut().map(|held| (held.upstream.phase, held))) {
            (Stage::Receive, _) => Step::Wait,
            (Stage::Order, _) => self.take_order(client, exchange, now),
            (Stage::Token, _) => self.find_token(client, exchange, now),
            (Stage::Seek, None) => self.seek(client, exchange, held, now),
            (Stage::Seek, Some(_)) => {
                exchange.stage = Stage::Ask;
                Step::Again
            }
            (Stage::Ask, Some((Phase::Dial | Phase::Shake | Phase::Send | Phase::Head, _))) => {
                self.ask(client, exchange, held, now)
            }
            (Stage::Answer, Some((Phase::Body, held))) => {
                self.pump(client, exchange, &mut held.upstream, now)
            }
            (Stage::Gather, Some((Phase::Body, held))) => {
                self.gather(client, exchange, &mut held.upstream, now)
            }
            (Stage::Refusal, Some((Phase::Refusal, held))) => {
                self.collect(client, exchange, &mut held.upstream, now)
            }
            // The answer is made beside the worker.
            (Stage::Next, _) if exchange.tray.is_some() => {
                self.part(exchange, held, now);
                exchange.stage = Stage::Order;
                exchange.heard = now.instant;
                Step::Again
            }
            (Stage::Repeat | Stage::Renew | Stage::Next, _) => {
                self.part(exchange, held, now);
                exchange.tape_again();
                let was = exchange.stage;
                exchange.stage = if was == Stage::Repeat { Stage::Seek } else { Stage::Token };
                exchange.heard = now.instant;
                if was == Stage::Next
                    && let Err(failure) = self.prepare(exchange, now)
                {
                    self.fail(client, exchange, &failure, now);
                }
                Step::Again
            }
            (Stage::Over, _) => {
                self.settle(client, exchange, held, now);
                Step::Settled
            }
            (Stage::Ask | Stage::Answer | Stage::Gather | Stage::Refusal, _) => {
                self.lose(client, exchange, now)
            }
        }
    }

    /// It is in a state that it cannot be in: a defect of ours.
    fn lose(&mut self, client: &mut Client, exchange: &mut Exchange, now: Now) -> Step {
        let failure = Failure::new(Fault::proxy(Kind::Server), "the exchange was lost");
        self.fail(client, exchange, &failure, now);
        Step::Again
    }

    /// Collects an error reply's body.
    fn collect(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        upstream: &mut Upstream,
        now: Now,
    ) -> Step {
        loop {
            match upstream.read_body(&mut self.shared, now.instant) {
                Read::Some if upstream.payload.len() < REFUSAL_BYTES_MAX => {}
                Read::Blocked => return Step::Wait,
                Read::Some | Read::End | Read::Broken(_) => break,
            }
        }
        let body = if exchange.head.coded { &[][..] } else { upstream.payload.filled() };
        self.judge(client, exchange, body, now);
        Step::Again
    }

    /// Tells the client of an error reply in its own words.
    fn judge(&mut self, client: &mut Client, exchange: &mut Exchange, body: &[u8], now: Now) {
        exchange.tape_body(Place::UpstreamReply, body);
        let config = Arc::clone(&self.shared.config);
        let call = at_hand(&mut exchange.errands, &mut exchange.order);
        let Some((call, provider)) = call.and_then(|call| {
            let provider = config.providers.get(call.provider)?;
            Some((call, provider))
        }) else {
            self.lose(client, exchange, now);
            return;
        };
        let status = exchange.head.status;
        if call.is_to_stranger() {
            // Its words are nobody's: they may be a page for people.
            let message = format!("it is answered with status {status}");
            let failure = Failure::new(Fault::upstream(Kind::NotFound), message);
            exchange.broken = true;
            self.refuse(client, exchange, &failure, now);
            return;
        }
        let mut failure = provider.dialect.decode_fault(status, body);
        failure.fault.retry = failure.fault.retry.from_now(now.unix_s);
        let caller = exchange.intake.caller(provider);
        if status == 401 && caller.is_some() {
            let message = format!("{} refuses your account: {}", provider.name, failure.message);
            failure = Failure::new(Fault::client(Kind::Unauthorized), message);
        }
        // What a client brought ready cannot be fetched anew.
        if status == 401
            && caller.is_none_or(|caller| caller.token().is_none())
            && let Some(token) = call.take_back(&failure)
        {
            log::info!("provider {} refuses the token: asking with another", provider.name);
            self.shared.net.token_refused(call.provider, caller, &token);
            exchange.stage = Stage::Renew;
            return;
        }
        if exchange.errands.is_empty()
            && let Some(order) = &mut exchange.order
        {
            let uploads = self.shared.limits.uploads();
            if order.album.as_mut().is_some_and(|album| album.forgot(status, &failure, uploads)) {
                log::info!("provider {} has lost a file: uploading it again", provider.name);
                exchange.stage = Stage::Next;
                return;
            }
            if order.soften(provider, &exchange.intake, &failure) {
                exchange.stage = Stage::Repeat;
                return;
            }
        }
        self.refuse(client, exchange, &failure, now);
    }

    /// Something failed: an error with its status, or, when the answer has begun, inside of it.
    pub(crate) fn fail(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        failure: &Failure,
        now: Now,
    ) {
        exchange.broken = true;
        if !exchange.committed {
            self.refuse(client, exchange, failure, now);
            return;
        }
        exchange.cut = true;
        client.out.rent(&mut self.shared.buffers);
        let (chunks, transcoder) = (exchange.intake.chunks, &mut exchange.transcoder);
        let tape = &mut exchange.tape;
        client.out.append(|out| {
            let mark = chunks.then(|| chunk_begin(out));
            let start = out.len();
            if let Some(transcoder) = transcoder {
                transcoder.fail(failure, now.unix_s, out);
            }
            if let Some(tape) = tape {
                tape.body(Place::ClientReply, out.get(start..).unwrap_or_default());
            }
            if let Some(mark) = mark {
                chunk_end(mark, out);
            }
        });
        self.end_stream(client, exchange);
    }

    /// The upstream took too long. An error reply whose body does not end is told all the same.
    pub(crate) fn fail_or_judge(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        held: &Held,
        failure: &Failure,
        now: Now,
    ) {
        if exchange.stage == Stage::Refusal {
            exchange.broken = true;
            self.judge(client, exchange, held.upstream.payload.filled(), now);
        } else {
            self.fail(client, exchange, failure, now);
        }
    }

    /// Answers with an error; nothing of the reply was sent.
    pub(crate) fn refuse(
        &mut self,
        client: &mut Client,
        exchange: &mut Exchange,
        failure: &Failure,
        now: Now,
    ) {
        let mut failure = failure.clone();
        if let Some(call) = exchange.call()
            && let Some(provider) = self.shared.config.providers.get(call.provider)
        {
            exchange.intake.redact(&provider.credential, call.token(), &mut failure);
        }
        let same = exchange.same();
        failure = match self.without_errand(exchange, failure, now) {
            Ok(next) => return self.follow(client, exchange, next, now),
            Err(failure) => failure,
        };
        let intake = &exchange.intake;
        let mut answer = Answer::failure(Some(intake.dialect), &failure, intake.codex);
        answer.pass(&exchange.head, same);
        // What is left of the body cannot be told from the next request.
        exchange.keep_alive &= exchange.body.is_complete();
        exchange.label = Some(failure.fault.code());
        self.tell(client, exchange, answer, now);
    }

    /// Gives the client a whole answer, the only one.
    fn tell(&mut self, client: &mut Client, exchange: &mut Exchange, answer: Answer, now: Now) {
        let id = exchange.request_id();
        let answer = answer.with("x-request-id", &id);
        exchange.keep_alive &= !self.is_draining();
        exchange.heard = now.instant;
        exchange.status = answer.status;
        exchange.stage = Stage::Over;
        let start = client.out.len();
        client.answer(&mut self.shared, &answer, false, exchange.keep_alive);
        if let Some(tape) = &mut exchange.tape {
            tape.whole_reply(client.out.filled().get(start..).unwrap_or_default());
        }
    }

    /// Gives the upstream connection back, or closes it when it is of no more use.
    fn part(&mut self, exchange: &mut Exchange, held: &mut Option<Held>, now: Now) {
        let broken = std::mem::take(&mut exchange.broken);
        match held.take() {
            Some(held) if broken => self.close_held(held),
            Some(held) => self.release(held, now),
            None => {}
        }
    }

    /// Gives the upstream connection back and notes what happened.
    fn settle(
        &mut self,
        client: &Client,
        exchange: &mut Exchange,
        held: &mut Option<Held>,
        now: Now,
    ) {
        let _ = client;
        self.part(exchange, held, now);
        let staged = std::mem::take(&mut exchange.staged);
        self.shared.buffers.give_back(staged);
        let label = exchange.label.unwrap_or("ok");
        exchange.log(&self.shared, now.instant, label);
        exchange.record(&mut self.shared, now.instant, label);
    }
}

impl Exchange {
    /// The upstream's id of the request, or one of ours.
    fn request_id(&mut self) -> String {
        self.head.request_id.take().unwrap_or_else(|| self.ids.make("req_"))
    }

    /// One line for each exchange: no bodies, no secrets.
    pub(crate) fn log<N: Net>(&self, shared: &Shared<N>, now: Instant, label: &str) {
        let ms = |at: Instant| at.saturating_duration_since(self.began).as_millis();
        let provider = self.provider.and_then(|provider| shared.config.providers.get(provider));
        log::info!(
            "{} {} {label} status={} key={} model={:?} provider={} ttfb_ms={} ms={} dropped={:?}",
            self.intake.operation.method(),
            self.path,
            self.status,
            auth::key_name(&shared.config, self.intake.key),
            self.model,
            provider.map_or("-", |provider| provider.name.as_str()),
            self.first.map_or(0, ms),
            ms(now),
            self.order.as_ref().map_or(self.dropped.as_str(), |order| order.dropped.as_str()),
        );
    }
}
