//! A worker between two hands: the test is the client and the upstream, byte by byte.

use crate::config::{
    Config, Credential, Defaults, Limits, Model, Provider, Route, Timeouts, UpstreamTls, Url,
    Variables,
};
use crate::dialect;
use crate::dialect::quirks::Quirks;
use crate::proxy::capture::Record;
use crate::proxy::desk::Job;
use crate::proxy::limit::LimitTable;
use crate::proxy::net::{Lookup, Net, Ready, SocketId};
use crate::proxy::shared::Now;
use crate::proxy::transport::TlsTable;
use crate::proxy::worker::{Counts, Worker};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod capture;
mod desk;
mod images;
mod limits;
mod models;
mod slots;

const LISTENER: SocketId = SocketId { slot: 0, generation: 0 };
const ADDRESS: &str = "127.0.0.1:9";

#[derive(Debug, Default)]
struct Socket {
    inbox: VecDeque<u8>,
    outbox: Vec<u8>,
    ended: bool,
    closed: bool,
    room: Option<usize>,
}

#[derive(Debug, Default)]
struct Hands {
    waiting: usize,
    sockets: Vec<Socket>,
    accept_error: Option<i32>,
    panics: bool,
    pending_name: bool,
    records: Vec<Record>,
    /// Where connects went.
    connects: Vec<SocketAddr>,
    /// The addresses of hosts that clients chose.
    strangers: Vec<(&'static str, &'static [&'static str])>,
    /// What lies at the desk, where there is one.
    desk: Option<Vec<Job>>,
}

impl Hands {
    fn socket(&mut self, id: SocketId) -> io::Result<&mut Socket> {
        let socket = (id.slot as usize).checked_sub(1).and_then(|at| self.sockets.get_mut(at));
        socket.filter(|socket| !socket.closed).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn open(&mut self) -> SocketId {
        self.sockets.push(Socket::default());
        SocketId { slot: u32::try_from(self.sockets.len()).unwrap(), generation: 0 }
    }
}

impl Net for Hands {
    fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        if let Some(code) = self.accept_error {
            return Err(io::Error::from_raw_os_error(code));
        }
        self.waiting = self.waiting.checked_sub(1).ok_or(ErrorKind::WouldBlock)?;
        Ok((self.open(), ADDRESS.parse().unwrap()))
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<SocketId> {
        self.connects.push(address);
        Ok(self.open())
    }

    fn connected(&mut self, socket: SocketId) -> io::Result<()> {
        self.socket(socket).map(|_| ())
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        assert!(!self.panics, "a defect, on purpose");
        let socket = self.socket(socket)?;
        let count = into.len().min(socket.inbox.len());
        if count == 0 {
            return if socket.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (to, from) in into.iter_mut().zip(socket.inbox.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        let socket = self.socket(socket)?;
        let count = from.len().min(socket.room.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        socket.outbox.extend_from_slice(&from[..count]);
        socket.room = socket.room.map(|room| room - count);
        Ok(count)
    }

    fn shutdown(&mut self, _: SocketId) {}

    fn close(&mut self, socket: SocketId) {
        if let Ok(socket) = self.socket(socket) {
            socket.closed = true;
        }
    }

    fn resolve(&mut self, _: &str, _: u16) -> Lookup {
        if self.pending_name {
            return Lookup::Pending;
        }
        Lookup::Found(Arc::new([ADDRESS.parse().unwrap()]))
    }

    fn resolve_stranger(&mut self, host: &str, port: u16) -> Lookup {
        let known = self.strangers.iter().find(|(name, _)| *name == host);
        let Some((_, addresses)) = known else { return Lookup::Failed("no such name".to_owned()) };
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), port);
        Lookup::Found(addresses.iter().map(address).collect())
    }

    fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    fn translate(&mut self, job: Job) -> Option<Job> {
        let Some(desk) = &mut self.desk else { return Some(job) };
        desk.push(job);
        None
    }
}

/// The worker, the time, and who is who.
struct Stage {
    worker: Worker<Hands>,
    limits: Arc<LimitTable>,
    now: Now,
}

impl Stage {
    fn new(upstream: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::with_tls(upstream, TlsTable::new(&[]).unwrap(), change)
    }

    fn with_tls(upstream: &str, tls: TlsTable, change: impl FnOnce(&mut Config)) -> Self {
        let provider = Provider {
            exec: None,
            name: "up".to_owned(),
            dialect: dialect::by_name(upstream).unwrap(),
            url: Url {
                tls: false,
                host: "up.example".to_owned(),
                port: 80,
                path: format!("/v1{}", dialect::by_name(upstream).unwrap().path()),
            },
            credential: Credential::Key("sk-secret".to_owned()),
            callers: None,
            headers: vec![("X-Team".to_owned(), "blue".to_owned())],
            tls: UpstreamTls::default(),
            delay_acks: false,
            list_models: false,
            embeddings_model: None,
            quirks: Quirks::default(),
            models: vec![Model {
                id: "mine".to_owned(),
                context_window: 1000,
                images: false,
                reasoning: false,
                apply_patch: true,
            }],
            allow: Vec::new(),
            bridge: None,
            instructions: None,
        };
        let mut config = Config {
            listen: vec![ADDRESS.parse().unwrap()],
            workers: 1,
            providers: vec![provider],
            routes: vec![Route {
                pattern: "mine".to_owned(),
                provider: 0,
                model: Some("theirs".to_owned()),
                defaults: Defaults::default(),
            }],
            client_keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            strict: false,
            retry_stale: true,
            http_shutdown: false,
            server_info: None,
            tls: None,
            address_rate: None,
            capture: None,
            log_level: None,
            variables: Variables::default(),
        };
        change(&mut config);
        let now = Now { instant: Instant::now(), unix_s: 1_800_000_000 };
        let tls = Arc::new(tls);
        let limits = Arc::new(LimitTable::new(&config, now.instant, 1));
        let (net, config) = (Hands::default(), Arc::new(config));
        let worker = Worker::new(net, config, tls, Arc::clone(&limits), vec![LISTENER], 1, now);
        Self { worker, limits, now }
    }

    fn turn(&mut self, ready: &[Ready]) {
        let mut next = self.worker.turn(ready, self.now);
        for _ in 0..1000 {
            if next.is_none_or(|at| at > self.now.instant) {
                return;
            }
            next = self.worker.turn(&[], self.now);
        }
        panic!("the worker never rests");
    }

    /// A new client; returns the number of its socket.
    fn client(&mut self) -> usize {
        self.worker.net_mut().waiting += 1;
        self.turn(&[Self::ready(0)]);
        self.worker.net_mut().sockets.len()
    }

    const fn ready(slot: u32) -> Ready {
        let socket = SocketId { slot, generation: 0 };
        Ready { socket, readable: true, writable: true, read_closed: false }
    }

    /// Bytes arrive at a socket.
    fn give(&mut self, socket: usize, bytes: &str) {
        self.worker.net_mut().sockets[socket - 1].inbox.extend(bytes.as_bytes());
        self.turn(&[Self::ready(u32::try_from(socket).unwrap())]);
    }

    /// The peer of a socket ends.
    fn end(&mut self, socket: usize) {
        self.worker.net_mut().sockets[socket - 1].ended = true;
        let ready = Self::ready(u32::try_from(socket).unwrap());
        self.turn(&[Ready { read_closed: true, ..ready }]);
    }

    /// What was written to a socket since the last look.
    fn take(&mut self, socket: usize) -> String {
        let bytes = std::mem::take(&mut self.worker.net_mut().sockets[socket - 1].outbox);
        String::from_utf8(bytes).unwrap()
    }

    fn is_closed(&mut self, socket: usize) -> bool {
        self.worker.net_mut().sockets[socket - 1].closed
    }

    fn sockets(&mut self) -> usize {
        self.worker.net_mut().sockets.len()
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.turn(&[]);
    }

    /// A client's request arrives; returns the upstream's socket, connected.
    fn ask(&mut self, client: usize, request: &str) -> usize {
        self.give(client, request);
        let upstream = self.sockets();
        self.give(upstream, "");
        upstream
    }
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const REQUEST: &str = r#"{"model":"mine","input":"hi","stream":true}"#;

fn sse(text: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    format!("{head}{}", chunk(text))
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

const CHAT_START: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\
    \"model\":\"theirs\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
    \"content\":\"Hel\"},\"finish_reason\":null}]}\n\n";
const CHAT_END: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\
    \"model\":\"theirs\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\
    \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

#[test]
fn a_stream_is_translated_while_it_comes_and_both_connections_stay() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    let sent = stage.take(upstream);
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: up.example\r\n"));
    assert!(sent.contains("\r\nauthorization: Bearer sk-secret\r\n"), "{sent}");
    assert!(sent.contains("\r\nx-team: blue\r\n") && sent.contains("\"theirs\""), "{sent}");
    assert!(!sent.contains("accept-encoding"), "{sent}");
    assert_eq!(stage.take(client), "");

    stage.give(upstream, &sse(CHAT_START));
    let first = stage.take(client);
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(first.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{first}");
    assert!(first.contains("\"delta\":\"Hel\""), "{first}");

    stage.give(upstream, &format!("{}0\r\n\r\n", chunk(CHAT_END)));
    let last = stage.take(client);
    assert!(last.contains("event: response.completed\n"), "{last}");
    assert!(last.ends_with("\r\n0\r\n\r\n"), "{last}");
    let counts = stage.worker.counts();
    assert_eq!(counts, Counts { clients: 1, upstreams: 1, pooled: 1, timers: 2, ..counts });
    assert_eq!((counts.exchanges, counts.buffers), (0, 0));

    // The next request finds the connection, and its death is no fault of the client's.
    stage.give(client, &post("/responses", REQUEST));
    assert_eq!((stage.sockets(), stage.take(upstream).is_empty()), (upstream, false));
    stage.end(upstream);
    let fresh = stage.sockets();
    assert!(fresh > upstream && stage.is_closed(upstream));
    stage.give(fresh, "");
    assert!(stage.take(fresh).starts_with("POST "));
    // Only once.
    stage.end(fresh);
    let answer = stage.take(client);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream_disc"), "{answer}");
}

#[test]
fn a_stream_that_comes_in_one_piece_is_whole() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    let answer = stage.take(client);
    assert!(answer.contains("event: response.completed\n"), "{answer}");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn a_document_is_translated_whole_and_has_a_true_status() {
    let request = REQUEST.replace("true", "false");
    let whole = r#"{"id":"c","object":"chat.completion","created":1,"model":"theirs","choices":[
        {"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}"#;
    for (reply, status, text) in [
        (whole, 200, "\"text\":\"Hello\""),
        (r#"{"error":{"message":"too many","code":429}}"#, 429, "too many"),
        ("{", 502, "bad_upstream_response"),
        ("", 502, "error"),
    ] {
        let mut stage = Stage::new("chat", |_| {});
        let client = stage.client();
        let upstream = stage.ask(client, &post("/v1/responses", &request));
        let length = reply.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stage.give(upstream, &head);
        stage.give(upstream, reply);
        let answer = stage.take(client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{reply} {answer}");
        assert!(answer.contains(text), "{reply} {answer}");
        assert_eq!(stage.worker.counts().pooled, 1);
    }
}

#[test]
fn an_upstreams_status_is_the_clients() {
    for (codex, status, expected) in [(false, 401, 401), (true, 401, 400), (true, 429, 429)] {
        let mut stage = Stage::new("chat", |_| {});
        let client = stage.client();
        let mut request = post("/v1/responses", REQUEST);
        if codex {
            request = request.replace("host:", "originator: codex_exec\r\nhost:");
        }
        let upstream = stage.ask(client, &request);
        let body = r#"{"error":{"message":"no","type":"t","code":"c"}}"#;
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status} X\r\nretry-after: 7\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stage.give(upstream, &reply);
        let answer = stage.take(client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{answer}");
        assert_eq!(answer.contains("\r\nretry-after: 7\r\n"), expected == 429, "{answer}");
        assert!(answer.contains("\"code\":\"c\""), "{answer}");
        assert_eq!(stage.worker.counts().pooled, 1);
    }
}

#[test]
fn a_client_that_leaves_takes_its_upstream_along() {
    for answered in [false, true] {
        let mut stage = Stage::new("chat", |_| {});
        let client = stage.client();
        let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
        if answered {
            stage.give(upstream, &sse(CHAT_START));
        }
        stage.end(client);
        assert!(stage.is_closed(upstream) && stage.is_closed(client));
        assert_eq!(stage.worker.counts(), Counts::default());
    }
}

#[test]
fn a_stream_that_breaks_off_never_looks_like_success() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.give(upstream, &sse(CHAT_START));
    stage.take(client);
    stage.end(upstream);
    let last = stage.take(client);
    assert!(last.contains("response.failed") && !last.ends_with("0\r\n\r\n"), "{last}");
    assert!(stage.is_closed(upstream));
    stage.end(client);
    assert_eq!(stage.worker.counts(), Counts::default());
}

#[test]
fn a_slow_client_slows_its_upstream() {
    let mut stage = Stage::new("chat", |config| {
        config.limits.pending_high_bytes = 4000;
        config.limits.pending_low_bytes = 1000;
    });
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.worker.net_mut().sockets[client - 1].room = Some(0);
    let delta = CHAT_START.replace("Hel", &"x".repeat(900));
    stage.give(upstream, &sse(&delta));
    for _ in 0..200 {
        stage.give(upstream, &chunk(&delta));
    }
    let waiting = stage.worker.net_mut().sockets[upstream - 1].inbox.len();
    assert!(waiting > 100_000, "{waiting}");
    // Silence of our making is not the upstream's.
    stage.pass(Duration::from_secs(59));
    assert!(!stage.is_closed(upstream));
    stage.worker.net_mut().sockets[client - 1].room = None;
    stage.give(client, "");
    assert_eq!(stage.worker.net_mut().sockets[upstream - 1].inbox.len(), 0);
    assert!(stage.take(client).len() > 180_000);
    // The client that takes nothing is left.
    stage.worker.net_mut().sockets[client - 1].room = Some(0);
    stage.give(upstream, &chunk(&delta));
    stage.pass(Duration::from_secs(61));
    assert!(stage.is_closed(upstream) && stage.is_closed(client));
    assert_eq!(stage.worker.counts(), Counts::default());
}

#[test]
fn silence_is_filled_and_ends() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.give(upstream, &sse(CHAT_START));
    stage.take(client);
    for _ in 0..19 {
        stage.pass(Duration::from_secs(15));
        assert_ne!(stage.take(client), "");
    }
    stage.pass(Duration::from_secs(15));
    assert!(stage.take(client).contains("response.failed"));
    assert!(stage.is_closed(upstream));
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let row = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n\
               HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n\
               GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n\
               GET /v1/responses HTTP/1.1\r\nhost: localhost\r\n\r\n\
               GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
               upgrade: websocket\r\n\r\n\
               GET /shutdown HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stage.give(client, row);
    let answers = stage.take(client);
    let statuses: Vec<&str> =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "404", "405", "426", "404"], "{answers}");
    assert!(answers.contains("\r\nallow: POST\r\n"), "{answers}");
    assert!(answers.contains("connection: close\r\n"), "{answers}");
    stage.pass(Duration::from_secs(3));
    assert_eq!(stage.worker.counts(), Counts::default());
}

#[test]
fn a_foreign_name_is_refused_and_a_body_is_limited() {
    let mut stage = Stage::new("chat", |config| config.limits.body_bytes_max = 100);
    for (request, status) in [
        ("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n".to_owned(), 403),
        (post("/v1/responses", &"x".repeat(101)), 413),
        (post("/v1/responses", "{"), 400),
        (post("/v1/responses", r#"{"model":"other","input":"hi"}"#), 404),
        (post("/v1/responses", REQUEST).replace("host:", "content-encoding: br\r\nhost:"), 415),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
    ] {
        let client = stage.client();
        stage.give(client, &request);
        let answer = stage.take(client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
        assert!(answer.contains("\"error\":{\"message\":"), "{answer}");
    }
}

#[test]
fn a_client_that_waits_for_a_continue_gets_it() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let request = post("/v1/responses", REQUEST).replace("host:", "expect: 100-continue\r\nhost:");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    stage.give(client, &format!("{head}\r\n\r\n"));
    assert_eq!(stage.take(client), "HTTP/1.1 100 Continue\r\n\r\n");
    let upstream = stage.ask(client, body);
    assert!(stage.take(upstream).starts_with("POST "));
}

#[test]
fn slow_heads_and_idle_connections_end_in_time() {
    let mut stage = Stage::new("chat", |_| {});
    let (slow, idle) = (stage.client(), stage.client());
    for _ in 0..9 {
        stage.give(slow, "G");
        stage.pass(Duration::from_secs(1));
    }
    assert_eq!(stage.take(slow), "");
    stage.pass(Duration::from_secs(1));
    assert!(stage.take(slow).starts_with("HTTP/1.1 408 "));
    stage.pass(Duration::from_secs(3));
    assert!(stage.is_closed(slow) && !stage.is_closed(idle));
    stage.pass(Duration::from_secs(75));
    assert!(stage.is_closed(idle));
}

#[test]
fn accepting_pauses_when_descriptors_run_out() {
    let mut stage = Stage::new("chat", |_| {});
    let net = stage.worker.net_mut();
    (net.accept_error, net.waiting) = (Some(24), 1);
    stage.turn(&[Stage::ready(0)]);
    let again = stage.worker.turn(&[], stage.now).unwrap();
    assert!(again > stage.now.instant);
    stage.worker.net_mut().accept_error = None;
    stage.pass(Duration::from_millis(100));
    assert_eq!(stage.worker.counts().clients, 1);
}

#[test]
fn a_client_that_takes_its_reply_slowly_is_not_idle() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.worker.net_mut().sockets[client - 1].room = Some(10);
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    assert_eq!(stage.worker.counts().exchanges, 0);
    for _ in 0..5 {
        stage.pass(Duration::from_secs(40));
        stage.worker.net_mut().sockets[client - 1].room = Some(10);
        stage.give(client, "");
        assert_eq!(stage.take(client).len() % 10, 0);
        assert!(!stage.is_closed(client));
    }
    stage.worker.net_mut().sockets[client - 1].room = None;
    stage.give(client, "");
    assert!(stage.take(client).ends_with("\r\n0\r\n\r\n"));
    // Its idleness begins now.
    stage.pass(Duration::from_secs(74));
    assert!(!stage.is_closed(client));
    stage.pass(Duration::from_secs(1));
    assert!(stage.is_closed(client));
}

#[test]
fn a_drain_closes_what_is_idle_and_lets_the_rest_finish() {
    let mut stage = Stage::new("chat", |_| {});
    let (idle, busy, endless) = (stage.client(), stage.client(), stage.client());
    let upstream = stage.ask(busy, &post("/v1/responses", REQUEST));
    let other = stage.ask(endless, &post("/v1/responses", REQUEST));
    stage.give(other, &sse(CHAT_START));
    stage.take(endless);
    stage.worker.drain(stage.now);
    stage.turn(&[]);
    assert!(stage.is_closed(idle) && !stage.worker.is_drained());
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    let answer = stage.take(busy);
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("0\r\n\r\n"), "{answer}");
    stage.end(busy);
    stage.pass(Duration::from_secs(30));
    assert!(stage.take(endless).contains("response.failed"));
    assert!(stage.worker.is_drained());
    assert_eq!(stage.worker.counts(), Counts::default());
}

#[test]
fn what_came_before_a_drain_is_still_answered() {
    let mut stage = Stage::new("chat", |_| {});
    let idle = stage.client();
    let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // One request lies unread on a kept connection, one connection waits to be accepted.
    stage.worker.net_mut().sockets[idle - 1].inbox.extend(health.as_bytes());
    stage.worker.net_mut().waiting += 1;
    stage.worker.drain(stage.now);
    let waiting = stage.sockets();
    stage.worker.net_mut().sockets[waiting - 1].inbox.extend(health.as_bytes());
    stage.turn(&[]);
    for client in [idle, waiting] {
        let answer = stage.take(client);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{client}: {answer:?}");
        assert!(answer.contains("connection: close"), "{client}: {answer:?}");
        stage.end(client);
    }
    assert!(waiting != idle && stage.worker.is_drained());
}

#[test]
fn an_idle_client_is_small() {
    let bytes = size_of::<crate::proxy::client::Client>();
    assert!(bytes <= 400, "{bytes}");
}
