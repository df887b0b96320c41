//! The worker in a world where everything that can happen happens whenever it hurts.

mod net;
mod words;

use super::http1::{Message, Side, Verdict, read_slowly};
use super::readers::{self, End};
use crate::config::{
    ClientKey, Config, Credential, Defaults, Limits, Provider, Route, Timeouts, UpstreamTls, Url,
    Variables,
};
use crate::dialect;
use crate::dialect::quirks::Quirks;
use crate::proxy::limit::LimitTable;
use crate::proxy::shared::Now;
use crate::proxy::transport::TlsTable;
use crate::proxy::worker::{Counts, Worker};
use net::{Conn, FuzzNet, Weather};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Turns in a row that change nothing, before that counts as spinning.
const IDLE_TURNS_MAX: u32 = 50;
/// Seconds after which nothing is left of a world whose peers are all gone: more than any timeout.
const END_S: u32 = 100;

/// How far the clock goes at once, in milliseconds.
const STEPS_MS: [u64; 8] = [1, 20, 300, 1_000, 4_000, 11_000, 30_000, 1_000_000];

/// The first two bytes make the weather, the others are what happens, one after the other.
///
/// # Panics
/// When the worker panics, spins, calls a socket that it closed, sends what is no HTTP, ends a
/// stream as if it were whole, or keeps anything once everybody has left.
pub fn worker(bytes: &[u8]) {
    run(bytes);
}

/// Does what [`worker`] does; returns what the clients got.
fn run(bytes: &[u8]) -> Vec<Message> {
    let Some((&[by, seed], script)) = bytes.split_first_chunk() else { return Vec::new() };
    let Some(mut world) = World::new(by, seed) else { return Vec::new() };
    world.settle();
    let mut script = Script { bytes: script };
    while let Some(step) = script.next() {
        world.step(step & 15, usize::from(step >> 4), &mut script);
        world.settle();
    }
    world.end()
}

/// What is left of the input.
struct Script<'s> {
    bytes: &'s [u8],
}

impl<'s> Script<'s> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// A length, and so many bytes.
    fn piece(&mut self) -> &'s [u8] {
        let length = usize::from(self.next().unwrap_or(0)).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        piece
    }
}

struct World {
    base: Instant,
    ms: u64,
    worker: Worker<FuzzNet>,
    limits: Arc<LimitTable>,
    due: Option<Instant>,
    drained: bool,
    /// Somebody said something that is no part of a translation: what clients get is looked at as HTTP
    /// only.
    improvised: bool,
}

impl World {
    fn new(by: u8, seed: u8) -> Option<Self> {
        let weather = Weather {
            short: by & 1 != 0,
            block: by & 2 != 0,
            level: by & 4 != 0,
            refuse: by & 8 != 0,
            room: if by & 16 != 0 { 64 } else { 64 << 10 },
        };
        let mut net = FuzzNet::new(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15), weather);
        let listener = net.listen();
        let config = Arc::new(config(by & 32 != 0, by & 64 != 0)?);
        let base = Instant::now();
        let now = Now { instant: base, unix_s: 1_800_000_000 };
        let tls = Arc::new(TlsTable::new(&[]).ok()?);
        let limits = Arc::new(LimitTable::new(&config, base, 1));
        let worker =
            Worker::new(net, config, tls, limits.clone(), vec![listener], u64::from(seed), now);
        let due = Some(base);
        let (ms, drained, improvised) = (0, false, false);
        Some(Self { base, ms, worker, limits, due, drained, improvised })
    }

    fn now(&self) -> Now {
        let instant = self.base + Duration::from_millis(self.ms);
        Now { instant, unix_s: 1_800_000_000 + self.ms / 1000 }
    }

    /// Something happens: `what` of sixteen things, to the connection number `which`.
    fn step(&mut self, what: u8, which: usize, script: &mut Script<'_>) {
        let upstreams = (7..=11).contains(&what);
        let net = self.worker.net_mut();
        let list = net.list(upstreams, Conn::is_up);
        let conn = list.get(which % list.len().max(1)).copied();
        match (what, conn) {
            (0, _) => net.peer_connect(),
            (1 | 7, _) => {
                let number = script.next().unwrap_or(0);
                let text = if upstreams { words::reply(number) } else { words::request(number) };
                let translated = String::from_utf8_lossy(&text).contains(words::TRANSLATED);
                self.improvised |= !upstreams && !translated;
                conn.into_iter().for_each(|at| net.peer_send(at, &text));
            }
            (2 | 8, _) => {
                let piece = script.piece();
                self.improvised = true;
                conn.into_iter().for_each(|at| net.peer_send(at, piece));
            }
            (3 | 5 | 9, Some(at)) => net.peer_fin(at),
            (4 | 10, Some(at)) => net.peer_reset(at),
            (6 | 11, _) => {
                let most = 16 * (1 + usize::from(script.next().unwrap_or(0)));
                conn.into_iter().for_each(|at| net.peer_take(at, most));
            }
            (12, _) => self.ms += STEPS_MS[which % STEPS_MS.len()],
            (13, _) => {
                let list = net.list(true, Conn::is_dialing);
                list.first().into_iter().for_each(|at| net.decide(*at, !which.is_multiple_of(3)));
            }
            (14, _) if which.is_multiple_of(2) => {
                net.nameless = !net.nameless;
                self.worker.names_changed();
                self.due = Some(self.base);
            }
            (14, _) => net.starved = !net.starved,
            (15, _) if which == 15 => {
                self.drained = true;
                let now = self.now();
                self.worker.drain(now);
                self.due = Some(self.base);
            }
            _ => {}
        }
    }

    /// Lets the worker do all that it can do now.
    fn settle(&mut self) {
        let mut idle = 0;
        loop {
            let now = self.now();
            let moved = self.worker.net_mut().moved;
            let ready = self.worker.net_mut().take_ready();
            if ready.is_empty() && self.due.is_none_or(|due| due > now.instant) {
                return;
            }
            self.due = self.worker.turn(&ready, now);
            let still = ready.is_empty() && self.worker.net_mut().moved == moved;
            idle = if still { idle + 1 } else { 0 };
            assert!(idle < IDLE_TURNS_MAX, "turns without any effect: {:?}", self.worker.counts());
            assert_eq!(self.worker.meter().panics, 0);
            assert_eq!(usize::try_from(self.limits.seated()), Ok(self.worker.counts().seated));
        }
    }

    /// Everybody reads until there is nothing more to read.
    fn take_all(&mut self) {
        loop {
            let net = self.worker.net_mut();
            let moved = net.moved;
            (0..net.conns.len()).for_each(|at| net.peer_take(at, usize::MAX));
            self.settle();
            if self.worker.net_mut().moved == moved {
                return;
            }
        }
    }

    /// Everybody reads what there is and leaves; then nothing may be left.
    fn end(mut self) -> Vec<Message> {
        self.take_all();
        let net = self.worker.net_mut();
        (net.nameless, net.starved) = (false, false);
        for at in 0..net.conns.len() {
            if net.conns[at].is_dialing() {
                net.decide(at, false);
            } else if at.is_multiple_of(2) {
                net.peer_reset(at);
            } else {
                net.peer_fin(at);
            }
        }
        self.worker.names_changed();
        self.due = Some(self.base);
        // Nobody has to tell the worker to let go.
        for _ in 0..END_S {
            self.take_all();
            if self.worker.counts() == Counts::default() {
                break;
            }
            self.ms += 1000;
        }
        assert_eq!(self.worker.counts(), Counts::default(), "kept when all have left");
        let now = self.now();
        self.worker.drain(now);
        self.due = Some(self.base);
        self.settle();
        assert!(self.worker.is_drained());
        assert_eq!(self.limits.seated(), 0);
        let net = self.worker.net_mut();
        assert_eq!(net.open_sockets(), 0, "a socket is still open");
        net.conns.iter().flat_map(|conn| judge(conn, self.improvised)).collect()
    }
}

/// What a peer got is HTTP to a slow reader, and a stream that ended well has its terminal event.
fn judge(conn: &Conn, improvised: bool) -> Vec<Message> {
    let shown = conn.written.escape_ascii();
    if conn.is_upstream {
        let (_, verdict) = read_slowly(Side::Requests, &conn.written);
        assert_ne!(verdict, Verdict::Refused, "to an upstream: {shown}");
        return Vec::new();
    }
    if conn.sent.windows(5).any(|word| word.eq_ignore_ascii_case(b"HEAD ")) {
        // Which of its replies have a body, only the worker knows.
        return Vec::new();
    }
    let (messages, verdict) = read_slowly(Side::Replies { to_head: false }, &conn.written);
    assert_ne!(verdict, Verdict::Refused, "to a client: {shown}");
    let is_stream = |message: &&Message| {
        let named = |(name, value): &(String, Vec<u8>)| {
            name == "content-type" && value.starts_with(b"text/event-stream")
        };
        message.whole && message.fields.iter().any(named)
    };
    for message in messages.iter().filter(is_stream).filter(|_| !improvised) {
        let seen = if memchr::memmem::find(&message.content, b"event: ").is_some() {
            readers::responses(&message.content)
        } else {
            readers::chat(&message.content)
        };
        assert!(seen.is_none_or(|seen| seen.end != End::Missing), "a stream without end: {shown}");
    }
    messages
}

fn provider(name: &str, dialect: &str, port: u16) -> Option<Provider> {
    Some(Provider {
        exec: None,
        name: name.to_owned(),
        dialect: dialect::by_name(dialect)?,
        url: Url { tls: false, host: format!("{name}.fuzz"), port, path: "/v1/x".to_owned() },
        credential: Credential::Key("secret".to_owned()),
        callers: None,
        headers: Vec::new(),
        tls: UpstreamTls::default(),
        delay_acks: false,
        list_models: dialect == "gigachat",
        embeddings_model: None,
        quirks: Quirks::default(),
        models: Vec::new(),
        allow: Vec::new(),
        bridge: None,
        instructions: None,
    })
}

/// `tight` = the least of everything that makes sense; `keys` = clients need one, and may run two
/// exchanges at once.
fn config(tight: bool, keys: bool) -> Option<Config> {
    let seconds = Duration::from_secs;
    let route = |pattern: &str, provider: usize| Route {
        pattern: pattern.to_owned(),
        provider,
        model: Some("up".to_owned()),
        defaults: Defaults::default(),
    };
    let mut limits = Limits::default();
    if tight {
        limits = Limits {
            head_bytes_max: 600,
            body_bytes_max: 600,
            frame_bytes_max: 700,
            chunk_overhead_bytes_max: 16,
            pending_high_bytes: 256,
            pending_low_bytes: 64,
            informational_max: 1,
            pool_idle_max: 1,
            pool_uses_max: 2,
            connecting_max: 1,
            clients_max: 3,
            ..limits
        };
    }
    let key = ClientKey {
        name: "k".to_owned(),
        secret: "mine".to_owned(),
        rate: None,
        exchanges_max: Some(2),
        models: Vec::new(),
    };
    Some(Config {
        listen: Vec::new(),
        workers: 1,
        providers: vec![
            provider("chat", "chat", 80)?,
            provider("responses", "responses", 81)?,
            provider("giga", "gigachat", 82)?,
        ],
        routes: vec![route("chat-*", 0), route("responses-*", 1), route("giga-*", 2)],
        client_keys: if keys { vec![key] } else { Vec::new() },
        hosts: Vec::new(),
        origins: Vec::new(),
        limits,
        timeouts: Timeouts {
            client_head: seconds(10),
            client_idle: seconds(20),
            client_body: seconds(20),
            client_write: seconds(12),
            connect: seconds(5),
            tls: seconds(5),
            upstream_write: seconds(10),
            upstream_head: seconds(25),
            upstream_idle: seconds(15),
            pool_idle: seconds(8),
            keep_alive: seconds(3),
            drain: seconds(60),
        },
        strict: false,
        retry_stale: true,
        http_shutdown: false,
        server_info: None,
        tls: None,
        address_rate: None,
        capture: None,
        log_level: None,
        variables: Variables::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a seed's clients got: the statuses, and `+` behind those of whole messages.
    fn got(seed: &[u8]) -> String {
        let messages = run(seed);
        let shown = messages
            .iter()
            .map(|message| format!("{}{}", message.line, if message.whole { "+" } else { "" }));
        shown.collect::<Vec<_>>().join(" ")
    }

    macro_rules! seed {
        ($name:literal) => {
            include_bytes!(concat!("../../../fuzz/seeds/worker/", $name))
        };
    }

    /// The seeds lead where their names say, so that what is made of them begins there.
    #[test]
    fn seeds_come_to_whole_exchanges() {
        for (seed, expected) in [
            (&seed!("stream")[..], "200+"),
            (seed!("stream-pieces"), "200+"),
            (seed!("short"), "200+"),
            (seed!("narrow"), "200+"),
            (seed!("responses-upstream"), "200+"),
            (seed!("documents"), "200+ 200+"),
            (seed!("relayed"), "200+ 200+"),
            (seed!("pool"), "200+ 200+ 200+"),
            (seed!("two-at-once"), "200+ 200+"),
            (seed!("expect"), "100+ 200+"),
            (seed!("chunked"), "200+"),
            (seed!("interim"), "200+"),
            (seed!("softened"), "200+"),
            (seed!("until-close"), "200+"),
            (seed!("drain"), "200+"),
            (seed!("nameless"), "200+"),
            (seed!("starved"), "200+"),
            (seed!("raw"), "403+"),
            (seed!("keys"), "200+ 200+ 429+"),
            (seed!("cut"), "200"),
            (seed!("client-leaves"), "200"),
            (seed!("timeouts"), "408+ 504+"),
            (seed!("errors"), "429+ 401+"),
            (seed!("embeddings"), "200+ 200+"),
            (seed!("images"), "200+ 200+ 200+"),
            (seed!("images-fail"), "401+ 429+"),
            (seed!("models"), "200+ 200+ 200+"),
            (seed!("models-fail"), "429+ 429+"),
            (seed!("nonsense"), "502+ 502+ 404+ 400+ 400+"),
        ] {
            assert_eq!(got(seed), expected, "{}", seed.escape_ascii());
        }
    }
}
