//! One connection: requests in, answers out, one after the other.

use super::Options;
use super::count::{Board, Counters};
use super::gigachat::{Facts, Shown};
use super::memo::{Memo, Seen};
use super::net::Sockets;
use super::play::{Manner, Play};
use super::reply::{Cache, Key, Reply};
use super::route::{Document, Route};
use super::script::Script;
use super::wire::{Asked, Wire};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::net::Net as _;
use crate::proxy::transport::{Got, Link};
use crate::wire::buffer::{Buffer, Pool};
use crate::wire::coding;
use crate::wire::http1::{
    BodyDecoder, BodyFraming, BodyLength, BodyLimits, BodyStep, HeadLimits, HeadSearch, Method,
    RequestHead, Version, write_continue, write_reply_head,
};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The largest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 << 10, request_line_bytes_max: 8 << 10, headers_max: 128 };
const BODY_LIMITS: BodyLimits =
    BodyLimits { body_bytes_max: BODY_BYTES_MAX as u64, overhead_bytes_max: 64 << 10 };
/// Bytes of later requests that are read while one is answered.
const PIPELINED_BYTES_MAX: usize = 64 << 10;
/// Steps (a read, a write) that a connection may take before others have their turn.
const STEPS_MAX: usize = 64;
/// How long a client's leftover is read after the last word, so that a reset does not overtake it.
const LINGER: Duration = Duration::from_secs(1);

/// What all connections of a worker use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) net: Sockets,
    pub(super) options: Arc<Options>,
    pub(super) board: Arc<Board>,
    pub(super) counters: Arc<Counters>,
    pub(super) cache: Cache,
    pub(super) memo: Memo,
    pub(super) buffers: Pool,
    pub(super) scratch: Box<[u8]>,
    /// The number of the next answer; no two workers have the same.
    pub(super) id: u64,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its socket.
    Ready,
    /// Its socket or this time.
    At(Instant),
    /// Another turn.
    Turn,
    /// Nothing: it is to be closed.
    Gone,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) link: Link,
    /// It waits in the worker's queue.
    pub(super) queued: bool,
    input: Buffer,
    out: Buffer,
    search: HeadSearch,
    phase: Phase,
    torn: bool,
}

#[derive(Debug)]
enum Phase {
    /// Between requests, or in a head.
    Head,
    /// In a body.
    Body(Box<Intake>),
    /// An answer is under way.
    Play(Box<Play>),
    /// The last bytes go out.
    Close,
    /// Everything is said; what still comes is thrown away.
    Linger(Instant),
}

/// What is kept of a head until its body is whole.
#[derive(Debug)]
struct Intake {
    route: Route,
    /// The path, where the reply names it.
    path: String,
    manner: Manner,
    /// The reply is a head alone.
    bodiless: bool,
    /// Bytes of a body that is not chunked.
    length: usize,
    /// The decoder of a chunked body, and what it found.
    chunks: Option<(BodyDecoder, Vec<u8>)>,
    coding: Option<String>,
    /// The field `x-mock-script`.
    script: Option<String>,
    /// What GigaChat looks at in a head.
    shown: Shown,
}

impl Intake {
    /// # Errors
    /// The status and the words for a body that is not taken.
    fn new(head: &RequestHead<'_>, only: Option<Wire>) -> Result<Self, (u16, String)> {
        let decoder = BodyDecoder::new(head.framing, BODY_LIMITS)
            .map_err(|fault| (fault.status(), fault.to_string()))?;
        let route = Route::find(head, only);
        let told = matches!(route, Route::Missing | Route::Method(_) | Route::GigaChat(_));
        let script = match head.header("x-mock-script").map(std::str::from_utf8) {
            None => None,
            Some(Ok(script)) => Some(script.to_owned()),
            Some(Err(_)) => {
                return Err((400, "the header 'x-mock-script' is not UTF-8".to_owned()));
            }
        };
        Ok(Self {
            route,
            path: if told { head.path.to_owned() } else { String::new() },
            manner: Manner { chunks: head.version == Version::Http11, keep_alive: head.keep_alive },
            bodiless: head.method == Method::Head,
            length: match head.framing {
                // The decoder's limit fits.
                BodyFraming::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
                _ => 0,
            },
            chunks: (head.framing == BodyFraming::Chunked).then(|| (decoder, Vec::new())),
            coding: head.content_encoding.filter(|it| !coding::is_identity(it)).map(str::to_owned),
            script,
            shown: match route {
                Route::GigaChat(_) | Route::Answer(Wire::GigaChat) => Shown::new(head),
                _ => Shown::default(),
            },
        })
    }
}

/// What to do next.
enum Step {
    /// Go on.
    On,
    /// Stop here.
    Rest(Next),
}

/// What a request gets.
enum Reaction {
    Play(Box<Play>),
    Document(Document),
}

impl Conn {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            queued: false,
            input: Buffer::new(),
            out: Buffer::new(),
            search: HeadSearch::default(),
            phase: Phase::Head,
            torn: false,
        }
    }

    /// Does what can be done now.
    pub(super) fn run(&mut self, shared: &mut Shared, now: Instant) -> Next {
        let mut next = Next::Turn;
        for _ in 0..STEPS_MAX {
            if !self.flush(shared) {
                next = Next::Gone;
                break;
            }
            if let Step::Rest(rest) = self.step(shared, now) {
                next = rest;
                break;
            }
        }
        self.input.rest(&mut shared.buffers);
        self.out.rest(&mut shared.buffers);
        next
    }

    /// Ends the connection, whatever it was doing.
    pub(super) fn close(mut self, shared: &mut Shared) {
        self.input.abandon(&mut shared.buffers);
        self.out.abandon(&mut shared.buffers);
        if matches!(self.phase, Phase::Play(_)) {
            shared.counters.answers.take(1);
        }
        if self.torn {
            // Not even TLS says goodbye.
            shared.net.close(self.link.socket);
        } else {
            self.link.close(&mut shared.net);
        }
    }

    fn step(&mut self, shared: &mut Shared, now: Instant) -> Step {
        let blocked = !self.out.is_empty();
        match &self.phase {
            Phase::Play(_) => self.play(shared, now),
            // Nothing more is read of a client that does not take what it asked for.
            _ if blocked => Step::Rest(Next::Ready),
            Phase::Head => self.head(shared),
            Phase::Body(_) => self.body(shared, now),
            Phase::Close => match self.link.finish(&mut shared.net) {
                Ok(true) => {
                    self.phase = Phase::Linger(now + LINGER);
                    Step::On
                }
                Ok(false) => Step::Rest(Next::Ready),
                Err(_) => Step::Rest(Next::Gone),
            },
            Phase::Linger(until) if *until <= now => Step::Rest(Next::Gone),
            Phase::Linger(until) => {
                let until = *until;
                self.input.clear();
                match self.read(shared) {
                    Got::Bytes(_) => Step::On,
                    Got::Blocked => Step::Rest(Next::At(until)),
                    Got::End => Step::Rest(Next::Gone),
                }
            }
        }
    }

    /// Reads once. `Got::End` also when the connection is broken: there is nobody to tell.
    fn read(&mut self, shared: &mut Shared) -> Got {
        self.input.rent(&mut shared.buffers);
        let got = self.link.read(&mut shared.net, &mut shared.scratch, &mut self.input);
        got.unwrap_or(Got::End)
    }

    /// Reads more of a request.
    fn more(&mut self, shared: &mut Shared) -> Step {
        let got = self.read(shared);
        if self.link.is_misplaced() {
            return self.refuse(400, "this port speaks TLS: use https://");
        }
        match got {
            Got::Bytes(_) => Step::On,
            Got::Blocked => Step::Rest(Next::Ready),
            Got::End => Step::Rest(Next::Gone),
        }
    }

    /// Sends what waits, as far as the client takes it. False when it is gone.
    fn flush(&mut self, shared: &mut Shared) -> bool {
        if self.out.is_empty() {
            // TLS may have something of its own to say.
            return self.link.flush(&mut shared.net).is_ok();
        }
        match self.link.write(&mut shared.net, self.out.filled()) {
            Ok(count) => {
                shared.counters.bytes.add(count as u64);
                self.out.consume(count);
                true
            }
            Err(_) => false,
        }
    }

    fn head(&mut self, shared: &mut Shared) -> Step {
        if self.input.is_empty() {
            return self.more(shared);
        }
        let found = match self.search.request(self.input.filled(), &HEAD_LIMITS) {
            Ok(None) => return self.more(shared),
            Ok(Some((head, used))) => {
                let only = shared.options.wire;
                Intake::new(&head, only).map(|intake| (intake, used, head.expect_continue))
            }
            Err(fault) => Err((fault.status(), fault.to_string())),
        };
        match found {
            Err((status, why)) => self.refuse(status, &why),
            Ok((intake, used, expects)) => {
                self.input.consume(used);
                if expects && self.input.is_empty() {
                    self.out.append(write_continue);
                }
                self.phase = Phase::Body(Box::new(intake));
                Step::On
            }
        }
    }

    fn body(&mut self, shared: &mut Shared, now: Instant) -> Step {
        let Phase::Body(intake) = &mut self.phase else { return Step::On };
        if let Some((decoder, body)) = &mut intake.chunks {
            loop {
                match decoder.decode(self.input.filled()) {
                    Ok((BodyStep::Data(data), used)) => {
                        body.extend_from_slice(data);
                        self.input.consume(used);
                    }
                    Ok((BodyStep::End, used)) => {
                        self.input.consume(used);
                        break;
                    }
                    Ok((BodyStep::NeedMore, used)) => {
                        self.input.consume(used);
                        return self.more(shared);
                    }
                    Err(fault) => return self.refuse(fault.status(), &fault.to_string()),
                }
            }
        } else if self.input.len() < intake.length {
            return self.more(shared);
        }
        let Phase::Body(mut intake) = std::mem::replace(&mut self.phase, Phase::Head) else {
            return Step::On;
        };
        let whole = match intake.chunks.take() {
            Some((_, body)) => react(shared, &intake, &body, now),
            None => {
                let body = self.input.filled().get(..intake.length).unwrap_or_default();
                react(shared, &intake, body, now)
            }
        };
        self.input.consume(intake.length);
        match whole {
            Reaction::Play(play) => {
                shared.counters.requests.add(1);
                shared.counters.answers.add(1);
                self.phase = Phase::Play(play);
            }
            Reaction::Document(document) => {
                self.answer(&document, intake.bodiless, intake.manner.keep_alive);
            }
        }
        Step::On
    }

    /// Appends a whole reply.
    fn answer(&mut self, document: &Document, bodiless: bool, keep_alive: bool) {
        let fields = [("content-type", "application/json"), ("allow", "")];
        let (fields, count) = match document.allow {
            Some(allow) => ([fields[0], ("allow", allow)], 2),
            None => (fields, 1),
        };
        let length = BodyLength::Known(document.body.len() as u64);
        self.out.append(|out| {
            let fields = fields.into_iter().take(count);
            // Fixed fields and a checked status: nothing to refuse.
            let _ = write_reply_head(document.status, fields, length, keep_alive, out);
            if !bodiless {
                out.extend_from_slice(&document.body);
            }
        });
        if !keep_alive {
            self.phase = Phase::Close;
        }
    }

    /// Answers what is no request, and ends the connection: nothing behind it can be trusted.
    fn refuse(&mut self, status: u16, why: &str) -> Step {
        let mut failure = Failure::new(Fault::client(Kind::BadRequest), why);
        failure.status = Some(status);
        self.answer(&Document::failure(Wire::Chat, &failure), false, false);
        Step::On
    }

    fn play(&mut self, shared: &mut Shared, now: Instant) -> Step {
        let blocked = !self.out.is_empty();
        let Phase::Play(play) = &mut self.phase else { return Step::On };
        if !blocked && play.is_over() {
            shared.counters.answers.take(1);
            let (torn, keep_alive) = (play.is_cut(), play.keeps_alive());
            self.torn = torn;
            self.phase = if keep_alive { Phase::Head } else { Phase::Close };
            return if torn { Step::Rest(Next::Gone) } else { Step::On };
        }
        if blocked || play.due > now {
            let due = play.due;
            if !self.watch(shared) {
                return Step::Rest(Next::Gone);
            }
            return Step::Rest(if blocked { Next::Ready } else { Next::At(due) });
        }
        self.out.rent(&mut shared.buffers);
        let deltas = self.out.append(|out| play.compose(now_us, out));
        play.advance(now);
        shared.counters.deltas.add(u64::from(deltas));
        Step::On
    }

    /// While an answer waits: reads what belongs to later requests, and notices an end. False when
    /// the client is gone.
    fn watch(&mut self, shared: &mut Shared) -> bool {
        while self.link.readable && self.input.len() < PIPELINED_BYTES_MAX {
            match self.read(shared) {
                Got::Bytes(_) => {}
                Got::Blocked => break,
                Got::End => return false,
            }
        }
        !self.link.read_closed
    }
}

/// What a whole request gets.
fn react(shared: &mut Shared, intake: &Intake, body: &[u8], now: Instant) -> Reaction {
    let unix_s = now_us() / 1_000_000;
    let document = match intake.route {
        Route::Answer(wire) => match begin(shared, wire, intake, body, unix_s, now) {
            Ok(play) => return Reaction::Play(Box::new(play)),
            Err(failure) => Document::failure(wire, &failure),
        },
        Route::GigaChat(operation) => {
            shared.board.gigachat.react(operation, &intake.shown, &intake.path, body)
        }
        Route::Models(wire) => Document::models(wire, unix_s),
        Route::Model => Document::model(unix_s),
        Route::Health => Document::json(b"{\"status\":\"ok\"}".to_vec()),
        Route::Counters => Document::json(shared.board.json()),
        Route::Socket => Document::no_socket(Wire::Responses),
        Route::Missing => Document::missing(&intake.path, shared.options.wire),
        Route::Method(allow) => Document::method(&intake.path, allow),
    };
    Reaction::Document(document)
}

/// Finds the answer that a request is for.
fn begin(
    shared: &mut Shared,
    wire: Wire,
    intake: &Intake,
    body: &[u8],
    unix_s: u64,
    now: Instant,
) -> Result<Play, Failure> {
    let plain = match &intake.coding {
        None => None,
        Some(coding) => Some(coding::decode(coding, body, BODY_BYTES_MAX).map_err(|why| {
            let kind = match why {
                coding::Refused::Unsupported => Kind::MediaType,
                coding::Refused::TooLarge => Kind::TooLarge,
                coding::Refused::Bad => Kind::BadRequest,
            };
            Failure::new(Fault::client(kind), format!("the request body is {why}"))
        })?),
    };
    let body = plain.as_deref().unwrap_or(body);
    let board = Arc::clone(&shared.board);
    let account = match wire {
        Wire::GigaChat => Some(board.gigachat.admit(&intake.shown)?),
        _ => None,
    };
    let seen = Seen { wire, field: intake.script.as_deref(), body };
    let (script, reply) = match shared.memo.find(seen) {
        Some(found) => found,
        None => {
            let facts = account.map(|account| board.gigachat.read(&account, body)).transpose()?;
            let (script, reply) = read(shared, seen, facts.as_ref())?;
            // Files belong to an account, and may go.
            if facts.is_none_or(|facts| facts.attachments == 0) {
                shared.memo.keep(seen, &script, &reply);
            }
            (script, reply)
        }
    };
    shared.id += 1;
    Ok(Play::new(reply, &script, intake.manner, shared.id, unix_s, now))
}

/// Reads a request for an answer. `facts` are what GigaChat found in it.
fn read(
    shared: &mut Shared,
    seen: Seen<'_>,
    facts: Option<&Facts>,
) -> Result<(Script, Arc<Reply>), Failure> {
    let text = std::str::from_utf8(seen.body)
        .map_err(|_| Failure::bad_request("the request body is not UTF-8"))?;
    let asked = Asked::read(seen.wire, text).map_err(|bad| {
        Failure::bad_request(format!("the request body is not a JSON object of the API: {bad}"))
    })?;
    if let Some(failure) = asked.complaint(seen.wire) {
        return Err(failure);
    }
    let mut script = asked.script(&shared.options.script, seen.field)?;
    let mut form = asked.form(seen.wire, &script);
    if let Some(facts) = facts {
        facts.direct(&shared.options.scenes, &mut script, &mut form);
    }
    let reply = shared.cache.reply(Key::new(seen.wire, form, &script))?;
    Ok((script, reply))
}

/// The time since 1970 in microseconds. A clock before 1970 shows as 1970.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
