//! Runs of a command as the upstream: begun late or never, talking before they listen, dying, hanging,
//! and left by their clients.

use crate::sim::check::{self, End, Seen};
use crate::sim::http::{Message, Reader, Side};
use crate::sim::net::{ConnId, Got, SimNet};
use crate::sim::run::{config, provider};
use crate::sim::{Profile, Random};
use patchbay::config::exec::{Exec, Sandbox};
use patchbay::config::{Credential, Defaults, Route};
use patchbay::fault::{Failure, Fault, Kind};
use patchbay::proxy::launch::{Ended, Progress, Wanted};
use patchbay::proxy::limit::LimitTable;
use patchbay::proxy::shared::Now;
use patchbay::proxy::transport::TlsTable;
use patchbay::proxy::worker::{Counts, Worker};
use serde_json::json;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const STEPS_MAX: u64 = 400_000;
/// How late something may happen, in microseconds.
const SLACK_US: u64 = 1_000_000;
const TIMEOUT_US: u64 = 20_000_000;
const QUEUE_US: u64 = 15_000_000;

/// What came of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) whole: u64,
    /// With the words of a run that ended, or was never begun.
    pub(crate) failed: u64,
    /// Ended because it took too long.
    pub(crate) late: u64,
    pub(crate) left: u64,
    /// Told that all runs are busy.
    pub(crate) busy: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, more: &Self) {
        self.whole += more.whole;
        self.failed += more.failed;
        self.late += more.late;
        self.left += more.left;
        self.busy += more.busy;
    }
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    /// It dies after so many bytes of its output.
    Dies(usize),
    /// It says no more after so many bytes.
    Hangs(usize),
}

/// A command that runs.
#[derive(Debug)]
struct Command {
    marker: String,
    wanted: Wanted,
    conn: ConnId,
    output: Vec<u8>,
    sent: usize,
    fate: Fate,
    /// It says so much before it reads.
    early: usize,
    heard: Vec<u8>,
    told: bool,
    began_us: u64,
    next_us: u64,
    /// When it is gone, once that is certain.
    gone_us: Option<u64>,
    over: bool,
}

/// One client with one request.
#[derive(Debug)]
struct Guest {
    marker: String,
    chat: bool,
    stream: bool,
    request: Vec<u8>,
    sent: usize,
    begins_us: u64,
    leaves_us: Option<u64>,
    conn: Option<ConnId>,
    reader: Reader,
    answer: Option<Message>,
    over_us: Option<u64>,
    left: bool,
}

/// The whole world.
struct World {
    base: Instant,
    random: Random,
    worker: Worker<SimNet>,
    guests: Vec<Guest>,
    most: usize,
    waiting: VecDeque<(u64, Wanted)>,
    commands: Vec<Command>,
    /// Markers of runs that could not be begun.
    refused: Vec<String>,
    deadline: Option<Instant>,
    drained: bool,
    /// The worker is not told of what became of its runs, to show that somebody notices.
    mute: bool,
}

fn text(marker: &str) -> String {
    format!("{marker} says \"größe\" \\ 🙂\n{marker}")
}

fn guest(number: u64, random: &mut Random) -> Guest {
    let marker = format!("mk_{number:08x}");
    let (chat, stream) = (random.chance(500), random.chance(600));
    let long = if random.chance(300) { "long ".repeat(4_000) } else { String::new() };
    let words = format!("{marker} {long}");
    let (path, body) = if chat {
        let messages = json!([{ "role": "user", "content": words }]);
        ("chat/completions", json!({ "model": marker, "stream": stream, "messages": messages }))
    } else {
        ("responses", json!({ "model": marker, "stream": stream, "input": words }))
    };
    let body = body.to_string();
    let request = format!(
        "POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let begins_us = random.below(3_000_000);
    let leaves_us = random.chance(250).then(|| begins_us + random.below(4_000_000));
    Guest {
        marker,
        chat,
        stream,
        request: request.into_bytes(),
        sent: 0,
        begins_us,
        leaves_us,
        conn: None,
        reader: Reader::new(Side::Replies),
        answer: None,
        over_us: None,
        left: false,
    }
}

impl Guest {
    /// Does what it can; returns when it goes on.
    fn step(&mut self, net: &mut SimNet) -> Result<Option<u64>, String> {
        if self.over_us.is_some() {
            return Ok(None);
        }
        if net.now_us < self.begins_us {
            return Ok(Some(self.begins_us));
        }
        let Some(conn) = self.conn.or_else(|| net.peer_connect()) else {
            return Err("nobody listens".to_owned());
        };
        self.conn = Some(conn);
        if self.leaves_us.is_some_and(|at| at <= net.now_us) {
            net.peer_close(conn);
            (self.left, self.over_us) = (true, Some(net.now_us));
            return Ok(None);
        }
        self.sent += net.peer_send(conn, &self.request[self.sent..]);
        loop {
            match net.peer_recv(conn, 64 << 10) {
                Got::Bytes(bytes) => self.reader.feed(&bytes),
                Got::Nothing => break,
                Got::Fin | Got::Rst => {
                    net.peer_close(conn);
                    self.over_us = Some(net.now_us);
                    // A failed stream has no last chunk.
                    self.reader.next()?;
                    self.answer = Some(std::mem::take(&mut self.reader.message));
                    return Ok(None);
                }
            }
            if let Some(message) = self.reader.next()? {
                net.peer_close(conn);
                (self.answer, self.over_us) = (Some(message), Some(net.now_us));
                return Ok(None);
            }
        }
        Ok(self.leaves_us)
    }

    fn seen(&self, message: &Message) -> Result<Seen, String> {
        let body = String::from_utf8_lossy(&message.body);
        match (self.chat, self.stream) {
            (true, true) => check::chat_stream(&body, false),
            (true, false) => check::chat_document(&body),
            (false, true) => check::responses_stream(&body, false),
            (false, false) => check::responses_document(&body),
        }
    }
}

impl Command {
    fn new(marker: String, wanted: Wanted, conn: ConnId, random: &mut Random) -> Self {
        let message = json!({ "type": "item.completed",
            "item": { "id": "item_1", "type": "agent_message", "text": text(&marker) } });
        let mut output = "{\"type\":\"thread.started\",\"thread_id\":\"t\"}\n".to_owned();
        let notes = if random.chance(200) { 200 } else { 4 };
        for _ in 0..random.below(notes) {
            output.push_str("{\"type\":\"item.updated\",\"item\":{\"type\":\"todo_list\"}}\n");
        }
        output.push_str(&format!("{message}\n"));
        output.push_str("{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":7}}\n");
        let some = |random: &mut Random| random.below(output.len() as u64) as usize;
        let fate = match random.below(10) {
            0 | 1 => Fate::Dies(some(random)),
            2 => Fate::Hangs(some(random)),
            _ => Fate::Whole,
        };
        let early = if random.chance(200) { some(random) } else { 0 };
        Self {
            marker,
            wanted,
            conn,
            output: output.into_bytes(),
            sent: 0,
            fate,
            early,
            heard: Vec::new(),
            told: false,
            began_us: 0,
            next_us: 0,
            gone_us: None,
            over: false,
        }
    }

    fn hangs(&self) -> bool {
        matches!(self.fate, Fate::Hangs(_))
    }

    /// Does what it can; returns when it goes on.
    fn step(&mut self, net: &mut SimNet, random: &mut Random) -> Result<Option<u64>, String> {
        if self.gone_us.is_some() {
            return Ok(self.gone_us);
        }
        // Nobody listens any more: it is told to end.
        let lost = self.wanted.get().is_none();
        if !net.is_held(self.conn) || lost {
            net.peer_close(self.conn);
            self.gone_us = Some(net.now_us + random.below(400_000));
            return Ok(self.gone_us);
        }
        if self.next_us > net.now_us {
            return Ok(Some(self.next_us));
        }
        if self.sent >= self.early {
            loop {
                match net.peer_recv(self.conn, 4 << 10) {
                    Got::Bytes(bytes) => self.heard.extend(bytes),
                    Got::Nothing => break,
                    Got::Fin | Got::Rst => {
                        self.told = true;
                        break;
                    }
                }
            }
        }
        let end = match self.fate {
            Fate::Dies(at) | Fate::Hangs(at) => at,
            Fate::Whole => self.output.len(),
        };
        let most = if self.told { end } else { self.early.min(end) };
        while self.sent < most {
            let to = most.min(self.sent + 1 + random.below(300) as usize);
            let taken = net.peer_send(self.conn, &self.output[self.sent..to]);
            self.sent += taken;
            if taken == 0 {
                return Ok(None);
            }
            if random.chance(300) {
                self.next_us = net.now_us + 1 + random.below(300_000);
                return Ok(Some(self.next_us));
            }
        }
        if self.sent < end || self.hangs() {
            return Ok(None);
        }
        if self.told && !String::from_utf8_lossy(&self.heard).starts_with(&self.marker) {
            return Err(format!("{} was told {:?}", self.marker, self.heard.len()));
        }
        net.peer_close(self.conn);
        self.gone_us = Some(net.now_us + random.below(600_000));
        Ok(self.gone_us)
    }
}

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let mut rates = Profile::of(&mut random).rates;
        (rates.aborted, rates.refused, rates.silent) = (0, 0, 0);
        let mut config = config(&mut random)?;
        let most = 1 + random.below(3) as usize;
        let mut provider = provider("run", "codex-exec", 0, "")?;
        provider.credential = Credential::None;
        provider.exec = Some(Exec {
            command: PathBuf::from("codex"),
            workdir: PathBuf::from("/"),
            home: None,
            sandbox: Sandbox::ReadOnly,
            network_access: false,
            effort: None,
            hide_reasoning: false,
            show_activity: false,
            local_only: false,
            allow_danger: false,
            timeout: Duration::from_micros(TIMEOUT_US),
            unset: Vec::new(),
            processes_max: most,
            queue: Duration::from_micros(QUEUE_US),
        });
        config.providers = vec![provider];
        let (pattern, defaults) = ("*".to_owned(), Defaults::default());
        config.routes = vec![Route { pattern, provider: 0, model: None, defaults }];
        let config = Arc::new(config);
        let mut net = SimNet::new(random.next(), rates);
        let listener = net.listen();
        let base = Instant::now();
        let now = Now { instant: base, unix_s: 1_800_000_000 };
        let limits = Arc::new(LimitTable::new(&config, base, 1));
        let (tls, seed) = (Arc::new(TlsTable::new(&[])?), random.next());
        let worker = Worker::new(net, config, tls, limits, vec![listener], seed, now);
        let guests = (0..3 + random.below(12)).map(|n| guest(n, &mut random)).collect();
        Ok(Self {
            base,
            random,
            worker,
            guests,
            most,
            waiting: VecDeque::new(),
            commands: Vec::new(),
            refused: Vec::new(),
            deadline: Some(base),
            drained: false,
            mute: false,
        })
    }

    /// Starts runs and sees them end. True when the worker has to hear of it.
    fn runs(&mut self, wake: &mut Vec<u64>) -> Result<bool, String> {
        let mut news = false;
        let Self { random, commands, waiting, .. } = self;
        let net = self.worker.net_mut();
        let now_us = net.now_us;
        for wanted in std::mem::take(&mut net.wanted) {
            waiting.push_back((now_us + random.below(50_000), wanted));
        }
        for command in commands.iter_mut().filter(|command| !command.over) {
            wake.extend(command.step(net, random)?);
            if command.gone_us.is_some_and(|at| at <= now_us) {
                command.over = true;
                if let Some(launch) = command.wanted.get() {
                    let (how, words) = ("exit code 3".to_owned(), command.marker.clone());
                    launch.note(Progress::Over(Ended { how, words }));
                    news = true;
                }
            }
        }
        while let Some((due_us, wanted)) = waiting.front() {
            if commands.iter().filter(|command| !command.over).count() >= self.most {
                break;
            }
            if *due_us > now_us {
                wake.push(*due_us);
                break;
            }
            let found = wanted.get();
            let Some((_, wanted)) = waiting.pop_front() else { break };
            let Some(launch) = found else { continue };
            let marker = launch.run.model.clone();
            news = true;
            if random.chance(60) {
                let message = format!("{marker} cannot be run");
                let failure = Failure::new(Fault::upstream(Kind::Unreachable), message);
                launch.note(Progress::Failed(Arc::new(failure)));
                self.refused.push(marker);
                continue;
            }
            let conn = net.peer_start(launch.id());
            let command = Command::new(marker, wanted, conn, random);
            commands.push(Command { began_us: now_us, ..command });
            launch.note(Progress::Started);
        }
        Ok(news)
    }

    fn finish(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let before = self.worker.net_mut().moved;
            let mut wake = Vec::new();
            let mut changed = self.worker.net_mut().advance();
            let news = self.runs(&mut wake)?;
            for guest in &mut self.guests {
                wake.extend(guest.step(self.worker.net_mut())?);
            }
            changed |= self.worker.net_mut().advance();
            if news && !self.mute {
                self.worker.launches_changed();
            }
            if changed {
                self.worker.orders_changed();
            }
            if news || changed {
                self.deadline = Some(self.base);
            }
            self.turn();
            self.check()?;
            if self.worker.net_mut().moved != before || news {
                continue;
            }
            if self.drained && self.worker.is_drained() && self.commands.iter().all(|it| it.over) {
                return Ok(());
            }
            self.sleep(wake)?;
        }
        Err("the run does not end".to_owned())
    }

    fn turn(&mut self) {
        let now_us = self.worker.net_mut().now_us;
        let instant = self.base + Duration::from_micros(now_us);
        let now = Now { instant, unix_s: 1_800_000_000 + now_us / 1_000_000 };
        if !self.drained && self.guests.iter().all(|guest| guest.over_us.is_some()) {
            self.drained = true;
            self.worker.drain(now);
            self.deadline = Some(instant);
        }
        let ready = self.worker.net_mut().take_ready();
        if !ready.is_empty() || self.deadline.is_some_and(|at| at <= instant) {
            self.deadline = self.worker.turn(&ready, now);
        }
    }

    fn sleep(&mut self, wake: Vec<u64>) -> Result<(), String> {
        let base = self.base;
        let net = self.worker.net_mut();
        let micros = |at: Instant| at.saturating_duration_since(base).as_nanos().div_ceil(1000);
        let deadline = self.deadline.map(|at| micros(at) as u64);
        let until = wake.into_iter().chain(net.next_us()).chain(deadline).min();
        let until = until.ok_or("stuck for ever: nothing is due")?;
        net.now_us = until.max(net.now_us + u64::from(until <= net.now_us));
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let net = self.worker.net_mut();
        if let Some(violation) = net.violations.first() {
            return Err(violation.clone());
        }
        let now_us = net.now_us;
        let late = |at: u64| now_us > at + SLACK_US;
        for command in self.commands.iter().filter(|command| command.gone_us.is_none()) {
            if late(command.began_us) && !net.is_taken(command.conn) {
                return Err(format!("{} has begun, and nobody takes it over", command.marker));
            }
        }
        for guest in &self.guests {
            let marker = &guest.marker;
            let mut its = self.commands.iter().filter(|it| it.marker == *marker && !it.over);
            if guest.over_us.is_some_and(late) && its.any(|it| it.gone_us.is_none()) {
                return Err(format!("the client of {marker} is gone, its run goes on"));
            }
            if guest.over_us.is_none() && late(guest.begins_us + QUEUE_US + TIMEOUT_US) {
                return Err(format!("{marker} waits for nothing"));
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<Stats, String> {
        let counts = self.worker.counts();
        let net = self.worker.net_mut();
        if counts != Counts::default() || net.open_sockets() > 0 || net.open_upstreams() > 0 {
            return Err(format!("drained, but not empty: {counts:?}"));
        }
        let mut stats = Stats::default();
        for guest in &self.guests {
            let marker = &guest.marker;
            let runs = self.commands.iter().filter(|it| it.marker == *marker).collect::<Vec<_>>();
            let refused = self.refused.contains(marker);
            if runs.len() + usize::from(refused) > 1 {
                return Err(format!("{marker} was run {} times", runs.len()));
            }
            if guest.left {
                stats.left += 1;
                continue;
            }
            let message = guest.answer.as_ref().ok_or("no answer")?;
            let told = verdict(guest, message, runs.first().copied(), refused);
            told.map_err(|why| format!("{marker}: {why}: {message:?}, {:?}", runs.first()))
                .map(|count| *count(&mut stats) += 1)?;
        }
        Ok(stats)
    }
}

type Count = fn(&mut Stats) -> &mut u64;

/// Which of the counts an answer belongs to, if it is the right one.
fn verdict(
    guest: &Guest,
    message: &Message,
    run: Option<&Command>,
    refused: bool,
) -> Result<Count, String> {
    let body = String::from_utf8_lossy(&message.body);
    if check::markers(&message.body).iter().any(|it| *it != guest.marker) {
        return Err("another's words".to_owned());
    }
    let said = |words: &str| if body.contains(words) { Ok(()) } else { Err(format!("no {words}")) };
    let seen = if message.status() == 200 { guest.seen(message)? } else { Seen::default() };
    let failed = |words: &str, status: u16| match (message.status(), &seen.end) {
        (200, End::Whole(_)) => Err("a success".to_owned()),
        (200, _) => said(words),
        (found, _) if found == status => said(words),
        (found, _) => Err(format!("{found} is not {status}")),
    };
    match run {
        None if refused => failed("cannot be run", 502).map(|()| (|it| &mut it.failed) as Count),
        None => failed("busy", 503).map(|()| (|it| &mut it.busy) as Count),
        // The last line counts without its end, if nothing can follow.
        Some(run) if run.sent + usize::from(!run.hangs()) >= run.output.len() => {
            let whole = matches!(seen.end, End::Whole(_)) && seen.text == text(&guest.marker);
            if whole { Ok(|it| &mut it.whole) } else { Err("not what the run said".to_owned()) }
        }
        Some(run) if run.hangs() => {
            failed("not over in", 504).map(|()| (|it| &mut it.late) as Count)
        }
        Some(_) => failed("exit code 3", 502).map(|()| (|it| &mut it.failed) as Count),
    }
}

/// Runs a seed to its end. The error says what went wrong.
pub(crate) fn run(seed: u64, mute: bool) -> Result<Stats, String> {
    let mut world = World::new(seed)?;
    world.mute = mute;
    world.finish()?;
    world.judge()
}
