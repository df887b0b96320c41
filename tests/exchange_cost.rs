//! What an exchange and a delta cost a worker: calls to the network, and allocations. Gates on
//! counts, never on time; in a test binary of its own, because the counting allocator is the whole
//! binary's. `cargo test --test exchange_cost -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use allocation_counter::measure;
use patchbay::config::{Overrides, World, load};
use patchbay::proxy::limit::LimitTable;
use patchbay::proxy::net::{Lookup, Net, Ready, SocketId};
use patchbay::proxy::shared::Now;
use patchbay::proxy::transport::TlsTable;
use patchbay::proxy::worker::Worker;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const LISTENER: SocketId = SocketId { slot: 0, generation: 0 };
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9);
/// Exchanges that are made before counting begins, and while it is done.
const WARM: u64 = 20;
const COUNTED: u64 = 50;
/// Deltas of a streamed answer that comes in one read.
const DELTAS: usize = 16;

/// Calls to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    accepts: u64,
    connects: u64,
    reads: u64,
    writes: u64,
    shutdowns: u64,
    closes: u64,
}

impl Calls {
    fn since(self, before: Self) -> Self {
        Self {
            accepts: self.accepts - before.accepts,
            connects: self.connects - before.connects,
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            shutdowns: self.shutdowns - before.shutdowns,
            closes: self.closes - before.closes,
        }
    }

    /// The calls of one exchange, where all were alike.
    fn each(self, count: u64) -> Self {
        let one = |calls: u64| {
            assert!(calls.is_multiple_of(count), "{self:?} in {count}");
            calls / count
        };
        Self {
            accepts: one(self.accepts),
            connects: one(self.connects),
            reads: one(self.reads),
            writes: one(self.writes),
            shutdowns: one(self.shutdowns),
            closes: one(self.closes),
        }
    }
}

/// One end of a connection.
#[derive(Debug, Default)]
struct End {
    inbox: Vec<u8>,
    taken: usize,
    ended: bool,
    open: bool,
    written: Vec<u8>,
}

/// A network in memory, whose peers do what the test says.
#[derive(Debug)]
struct Wire {
    ends: Vec<End>,
    /// What clients have sent that wait to be accepted.
    backlog: Vec<String>,
    /// The last connection to an upstream.
    upstream: Option<SocketId>,
    calls: Calls,
}

impl Wire {
    fn new() -> Self {
        Self { ends: Vec::new(), backlog: Vec::new(), upstream: None, calls: Calls::default() }
    }

    fn open(&mut self) -> SocketId {
        let free = self.ends.iter().position(|end| !end.open);
        let place = free.unwrap_or_else(|| {
            let (inbox, written) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
            self.ends.push(End { inbox, written, ..End::default() });
            self.ends.len() - 1
        });
        let end = &mut self.ends[place];
        (end.open, end.ended, end.taken) = (true, false, 0);
        end.inbox.clear();
        end.written.clear();
        SocketId { slot: u32::try_from(place).unwrap() + 1, generation: 0 }
    }

    fn end(&mut self, socket: SocketId) -> &mut End {
        &mut self.ends[socket.slot as usize - 1]
    }
}

impl Net for Wire {
    fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        self.calls.accepts += 1;
        let sent = self.backlog.pop().ok_or(ErrorKind::WouldBlock)?;
        let socket = self.open();
        self.end(socket).inbox.extend_from_slice(sent.as_bytes());
        Ok((socket, ADDRESS.into()))
    }

    fn connect(&mut self, _: SocketAddr) -> io::Result<SocketId> {
        self.calls.connects += 1;
        let socket = self.open();
        self.upstream = Some(socket);
        Ok(socket)
    }

    fn connected(&mut self, _: SocketId) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        self.calls.reads += 1;
        let end = self.end(socket);
        let waiting = &end.inbox[end.taken..];
        let count = into.len().min(waiting.len());
        if count == 0 && !end.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&waiting[..count]);
        end.taken += count;
        Ok(count)
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        self.calls.writes += 1;
        self.end(socket).written.extend_from_slice(from);
        Ok(from.len())
    }

    fn shutdown(&mut self, _: SocketId) {
        self.calls.shutdowns += 1;
    }

    fn close(&mut self, socket: SocketId) {
        self.calls.closes += 1;
        self.end(socket).open = false;
    }

    fn resolve(&mut self, _: &str, _: u16) -> Lookup {
        Lookup::Found(Arc::from([ADDRESS.into()]))
    }
}

/// A worker and what its peers say.
struct Scene {
    worker: Worker<Wire>,
    now: Now,
    request: String,
    /// A streamed reply: its head with the first delta, a later delta, and its end.
    begin: String,
    delta: String,
    end: String,
}

/// One chunk of a Chat answer, framed as such.
fn chunk(delta: &str, finish: &str) -> String {
    let data = format!(
        "data: {{\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\"object\":\
         \"chat.completion.chunk\",\"created\":1741570283,\"model\":\"gpt-5\",\"choices\":[{{\
         \"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
    );
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// What the openai SDK for Python sends, to the letter but for the version of the system.
fn request(stream: bool, more: &str) -> String {
    let body = format!(
        r#"{{"input":"Say hello to the reader of this test.","model":"gpt-5","stream":{stream}}}"#
    );
    format!(
        "POST /v1/responses HTTP/1.1\r\nHost: localhost:8080\r\n\
         Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\n\
         X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.0\r\n\
         X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n\
         X-Stainless-Runtime-Version: 3.12.3\r\nAuthorization: Bearer sk-client\r\n\
         X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\n\
         x-stainless-read-timeout: 600\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const REPLY_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
     server: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
     cache-control: no-cache\r\nx-request-id: 7f0a1b2c\r\ntransfer-encoding: chunked\r\n\r\n";

impl Scene {
    fn new(request: String) -> Self {
        let overrides = Overrides {
            upstream_url: Some("http://127.0.0.1:9".to_owned()),
            ..Overrides::default()
        };
        let config = load(None, &overrides, World { var: &|_| None, cores: 1 }).unwrap();
        let config = Arc::new(config);
        let now = Now { instant: Instant::now(), unix_s: 1_800_000_000 };
        let limits = Arc::new(LimitTable::new(&config, now.instant, 1));
        let tls = Arc::new(TlsTable::new(&[]).unwrap());
        let listeners = vec![LISTENER];
        let worker = Worker::new(Wire::new(), config, tls, limits, listeners, 1, now);
        let role = chunk(r#"{"role":"assistant","content":""}"#, "null");
        let delta = chunk(r#"{"content":" word"}"#, "null");
        let stop = chunk("{}", "\"stop\"");
        Self {
            worker,
            now,
            request,
            begin: format!("{REPLY_HEAD}{role}{delta}"),
            delta,
            end: format!("{stop}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"),
        }
    }

    /// Says that something became possible, and lets the worker do all that it can.
    fn turn(&mut self, ready: &[Ready]) {
        let mut next = self.worker.turn(ready, self.now);
        while next.is_some_and(|at| at <= self.now.instant) {
            next = self.worker.turn(&[], self.now);
        }
    }

    /// A client connects, and sends something at once.
    fn connect(&mut self, sent: &str) -> SocketId {
        self.worker.net_mut().backlog.push(sent.to_owned());
        let free = self.worker.net_mut().ends.iter().position(|end| !end.open);
        let place = free.unwrap_or(self.worker.net_mut().ends.len());
        self.turn(&[readable(LISTENER)]);
        SocketId { slot: u32::try_from(place).unwrap() + 1, generation: 0 }
    }

    /// Bytes arrive.
    fn give(&mut self, socket: SocketId, bytes: &str) {
        self.put(socket, bytes);
        self.turn(&[readable(socket)]);
    }

    /// Makes room for so many connections, so that what they cost the worker can be told from it.
    fn prepare(&mut self, count: usize) {
        let net = self.worker.net_mut();
        let sockets: Vec<_> = (0..count).map(|_| net.open()).collect();
        sockets.into_iter().for_each(|socket| net.end(socket).open = false);
    }

    /// Bytes arrive, and nobody was told yet.
    fn put(&mut self, socket: SocketId, bytes: &str) {
        let end = self.worker.net_mut().end(socket);
        if end.taken == end.inbox.len() {
            end.inbox.clear();
            end.taken = 0;
        }
        end.inbox.extend_from_slice(bytes.as_bytes());
    }

    /// The client asks; returns the upstream's connection, which has the request.
    fn ask(&mut self, client: SocketId) -> SocketId {
        self.worker.net_mut().end(client).written.clear();
        let request = std::mem::take(&mut self.request);
        self.give(client, &request);
        self.request = request;
        self.asked()
    }

    /// The upstream's connection, which has a client's request.
    fn asked(&mut self) -> SocketId {
        let upstream = self.worker.net_mut().upstream.unwrap();
        if self.worker.net_mut().end(upstream).written.is_empty() {
            // A new connection is decided by its first writable.
            self.turn(&[Ready { writable: true, readable: false, ..readable(upstream) }]);
        }
        assert!(self.worker.net_mut().end(upstream).written.starts_with(b"POST /"));
        self.worker.net_mut().end(upstream).written.clear();
        upstream
    }

    fn written(&mut self, socket: SocketId) -> String {
        String::from_utf8(self.worker.net_mut().end(socket).written.clone()).unwrap()
    }

    fn calls(&mut self) -> Calls {
        self.worker.net_mut().calls
    }

    /// What `work` costs each time, after it was done a few times.
    fn count(&mut self, mut work: impl FnMut(&mut Self)) -> (Calls, u64) {
        (0..WARM).for_each(|_| work(self));
        let before = self.calls();
        let counted = measure(|| (0..COUNTED).for_each(|_| work(self))).count_total;
        (self.calls().since(before).each(COUNTED), counted.div_ceil(COUNTED))
    }
}

fn readable(socket: SocketId) -> Ready {
    Ready { socket, readable: true, writable: true, read_closed: false }
}

/// Allocations of one exchange, at most: what it is made of is kept in about as many pieces.
const EXCHANGE_ALLOCATIONS_MAX: u64 = 60;

/// Calls of a request on kept connections: one read and one write on either side.
const KEPT: Calls = Calls { accepts: 0, connects: 0, reads: 2, writes: 2, shutdowns: 0, closes: 0 };

#[test]
fn a_paced_delta_is_one_read_and_one_write() {
    let mut scene = Scene::new(request(true, ""));
    let client = scene.connect("");
    let upstream = scene.ask(client);
    let begin = scene.begin.clone();
    scene.give(upstream, &begin);
    let delta = scene.delta.clone();
    let (calls, allocations) = scene.count(|scene| scene.give(upstream, &delta));
    println!("a paced delta: {calls:?}, {allocations} allocations");
    assert_eq!(calls, Calls { reads: 1, writes: 1, ..Calls::default() });
    // The text that is told again at the end doubles its memory now and then.
    assert!(allocations <= 1, "{allocations}");
    assert_eq!(
        scene.written(client).matches("event: response.output_text.delta").count() as u64,
        WARM + COUNTED + 1
    );
}

#[test]
fn all_that_is_ready_in_a_turn_makes_one_write() {
    let mut scene = Scene::new(request(true, ""));
    let client = scene.connect("");
    let upstream = scene.ask(client);
    let (begin, delta) = (scene.begin.clone(), scene.delta.clone());
    scene.give(upstream, &begin);
    // Several edges, of both its connections; as much as fits into three reads.
    let more = (40 << 10) / delta.len();
    scene.put(upstream, &delta.repeat(more));
    let edges = [upstream, client, upstream, client].map(readable);
    let before = scene.calls();
    let told = scene.written(client).len();
    scene.turn(&edges);
    let calls = scene.calls().since(before);
    // One of the reads is of the client, which said nothing.
    assert_eq!(calls, Calls { reads: 4, writes: 1, ..Calls::default() });
    let written = scene.written(client);
    let new = &written[told..];
    assert_eq!(new.matches("event: response.output_text.delta").count(), more);
    // In one chunk, whose length is written in eight digits.
    let length = usize::from_str_radix(&new[..8], 16).unwrap();
    assert_eq!(new.len(), 8 + 2 + length + 2);
}

#[test]
fn a_streamed_exchange_on_kept_connections() {
    let mut scene = Scene::new(request(true, ""));
    let client = scene.connect("");
    let reply = format!("{}{}{}", scene.begin, scene.delta.repeat(DELTAS - 1), scene.end);
    let (calls, allocations) = scene.count(|scene| {
        let upstream = scene.ask(client);
        scene.give(upstream, &reply);
    });
    println!("a streamed exchange: {calls:?}, {allocations} allocations");
    assert_eq!(calls, KEPT);
    assert!(allocations <= EXCHANGE_ALLOCATIONS_MAX, "{allocations}");
    assert!(scene.written(client).contains("event: response.completed"));
}

#[test]
fn a_unary_exchange_on_kept_connections() {
    let mut scene = Scene::new(request(false, ""));
    let client = scene.connect("");
    let text = "word ".repeat(1200);
    let body = format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1741570283,\"model\":\
         \"gpt-5\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\
         \"{text}\",\"refusal\":null}},\"finish_reason\":\"stop\"}}],\"usage\":{{\
         \"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}}}"
    );
    let reply = format!(
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: uvicorn\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (calls, allocations) = scene.count(|scene| {
        let upstream = scene.ask(client);
        scene.give(upstream, &reply);
    });
    println!("a unary exchange: {calls:?}, {allocations} allocations");
    assert_eq!(calls, KEPT);
    assert!(allocations <= EXCHANGE_ALLOCATIONS_MAX, "{allocations}");
    assert!(scene.written(client).contains(&text));
}

#[test]
fn an_exchange_on_a_connection_of_its_own() {
    let mut scene = Scene::new(request(true, "").replace("keep-alive", "close"));
    let reply = format!("{}{}{}", scene.begin, scene.delta.repeat(DELTAS - 1), scene.end);
    let (calls, allocations) = scene.count(|scene| {
        let request = std::mem::take(&mut scene.request);
        let client = scene.connect(&request);
        scene.request = request;
        let upstream = scene.asked();
        scene.give(upstream, &reply);
        assert!(scene.written(client).contains("event: response.completed"));
        let end = scene.worker.net_mut().end(client);
        if end.open {
            end.ended = true;
            scene.turn(&[Ready { read_closed: true, ..readable(client) }]);
        }
        assert!(!scene.worker.net_mut().end(client).open);
    });
    println!("an exchange on a connection of its own: {calls:?}, {allocations} allocations");
    // One accept says that nobody else waits.
    let expected = Calls { accepts: 2, shutdowns: 0, closes: 1, ..KEPT };
    assert_eq!(calls, expected);
    assert!(allocations <= EXCHANGE_ALLOCATIONS_MAX, "{allocations}");
}

/// Bytes that a connection keeps while nothing is asked on it, at most.
const IDLE_BYTES_MAX: i64 = 512;
/// And while an answer comes, without the text that is told again at its end.
const ACTIVE_BYTES_MAX: i64 = 5000;

#[test]
fn connections_keep_little_memory() {
    const COUNT: usize = 100;
    let mut scene = Scene::new(request(true, ""));
    scene.prepare(2 * COUNT);
    let mut clients = Vec::with_capacity(COUNT);
    let idle = measure(|| clients.extend((0..COUNT).map(|_| scene.connect(""))));
    let (begin, delta) = (scene.begin.clone(), scene.delta.clone());
    let active = measure(|| {
        for client in &clients {
            let upstream = scene.ask(*client);
            scene.give(upstream, &begin);
            scene.give(upstream, &delta);
        }
    });
    assert_eq!(scene.worker.counts().exchanges, COUNT);
    // Buffers hold nothing between two deltas: what the pool keeps of them is everybody's.
    assert_eq!(scene.worker.counts().buffers, 0);
    let each = |bytes: i64| bytes / i64::try_from(COUNT).unwrap();
    let (idle, active) = (each(idle.bytes_current), each(active.bytes_current));
    println!("{idle} bytes for each idle connection, {active} more for each stream");
    assert!(idle <= IDLE_BYTES_MAX, "{idle}");
    assert!(idle + active <= ACTIVE_BYTES_MAX, "{idle} + {active}");
}
