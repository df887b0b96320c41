//! What the real binary holds while it waits: memory, descriptors and processor time under slow
//! readers, idle crowds, vanishing clients and floods. Figures are printed; nothing is said of speed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

mod support;

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::{Patchbay, Received, Then, Upstream, Wire, wait_for};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A number from a line of `/proc/PID/status`.
fn status_of(child: &Child, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Resident memory in bytes.
fn resident(proxy: &Patchbay) -> u64 {
    status_of(&proxy.child, "VmRSS:") * KIB
}

fn descriptors(proxy: &Patchbay) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.child.id())).unwrap().count()
}

/// Processor time in clock ticks (100 a second on Linux).
fn ticks(proxy: &Patchbay) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", proxy.child.id())).unwrap();
    // The second field is the name in brackets and may hold spaces.
    let rest = text.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Waits until `read` gives the same value for half a second.
fn settled(what: &str, mut read: impl FnMut() -> u64) -> u64 {
    let (mut last, mut since) = (read(), Instant::now());
    wait_for(what, || {
        let now = read();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(500)).then_some(last)
    })
}

fn chat_request(text: &str) -> String {
    serde_json::json!({"model": "m", "stream": true,
        "messages": [{"role": "user", "content": text}]})
    .to_string()
}

/// One chunk of the answer: `size` bytes of text in one event.
fn big_event(size: usize) -> String {
    let text = "Z".repeat(size);
    let value = serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion.chunk",
        "created": 1, "model": "up",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {value}\n\n")
}

fn last_events() -> &'static str {
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
     \"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
     data: [DONE]\n\n"
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                           transfer-encoding: chunked\r\n\r\n";

fn chunk(wire: &mut dyn Wire, data: &str) -> io::Result<()> {
    wire.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())?;
    wire.flush()
}

/// An upstream that streams `total` bytes of text to each request and counts what left.
fn flood(total: u64, sent: &Arc<AtomicU64>) -> Upstream {
    let sent = sent.clone();
    Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        const EVENT: u64 = 32 * KIB;
        let event = big_event(EVENT as usize);
        let stream = (|| -> io::Result<()> {
            wire.write_all(STREAM_HEAD.as_bytes())?;
            for _ in 0..total / EVENT {
                chunk(wire, &event)?;
                sent.fetch_add(EVENT, Ordering::Relaxed);
            }
            chunk(wire, last_events())?;
            wire.write_all(b"0\r\n\r\n")
        })();
        if stream.is_ok() { Then::Keep } else { Then::Close }
    })
}

/// Reads a chunked reply to its end; returns how many bytes of text (`Z`) it held.
fn text_bytes(stream: &TcpStream) -> u64 {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let (mut line, mut count, mut done) = (String::new(), 0, false);
    while reader.read_line(&mut line).unwrap() > 2 {
        assert!(line.starts_with("HTTP/1.1 200") || line.contains(':'), "{line}");
        line.clear();
    }
    let mut body = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "closed after {count} bytes");
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        body.resize(size + 2, 0);
        reader.read_exact(&mut body).unwrap();
        if size == 0 {
            assert!(done, "the stream ended without [DONE]");
            return count;
        }
        count += memchr::memchr_iter(b'Z', &body).count() as u64;
        done |= memchr::memmem::find(&body, b"[DONE]").is_some();
    }
}

#[test]
fn a_client_that_reads_nothing_holds_its_upstream_back() {
    const TOTAL: u64 = 200 * MIB;
    let sent = Arc::new(AtomicU64::new(0));
    let upstream = flood(TOTAL, &sent);
    let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let before = resident(&proxy);
    let mut client = proxy.connect();
    client.send_post("/v1/chat/completions", &[], &chat_request("much"));
    wait_for("the upstream to send", || (sent.load(Ordering::Relaxed) > 0).then_some(()));
    let stalled = settled("the upstream to stall", || sent.load(Ordering::Relaxed));
    let held = resident(&proxy);
    println!(
        "a silent reader: upstream stalls after {} KiB, resident {} KiB -> {} KiB",
        stalled / KIB,
        before / KIB,
        held / KIB
    );
    assert!(stalled < TOTAL / 2, "the upstream was not held back: {stalled}");
    assert!(held < 32 * MIB, "resident {held}");
    assert_eq!(text_bytes(&client.stream), TOTAL, "not whole");
    let after = resident(&proxy);
    println!("and after reading all: resident {} KiB", after / KIB);
    assert!(after < 32 * MIB, "resident {after}");
}

#[test]
fn eight_stalled_readers_cost_little_each() {
    const TOTAL: u64 = 50 * MIB;
    let sent = Arc::new(AtomicU64::new(0));
    let upstream = flood(TOTAL, &sent);
    let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let before = resident(&proxy);
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let mut client = proxy.connect();
            client.send_post("/v1/chat/completions", &[], &chat_request(&number.to_string()));
            client
        })
        .collect();
    wait_for("the upstream to send", || (sent.load(Ordering::Relaxed) > 0).then_some(()));
    let stalled = settled("the upstreams to stall", || sent.load(Ordering::Relaxed));
    let grown = resident(&proxy).saturating_sub(before);
    println!("8 silent readers: {} KiB under way, {} KiB resident", stalled / KIB, grown / KIB);
    assert!(stalled < 8 * TOTAL / 2, "the upstreams were not held back: {stalled}");
    assert!(grown < 8 * 2 * MIB, "resident grew by {grown}");
    let readers: Vec<_> = readers
        .into_iter()
        .map(|client| thread::spawn(move || text_bytes(&client.stream)))
        .collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), TOTAL, "not whole");
    }
}

/// A helper process: holds connections until its input ends. Not a test of its own.
#[test]
#[ignore = "started by the idle crowd"]
fn holds_connections() {
    let Ok(order) = std::env::var("PATCHBAY_LOAD_HOLD") else { return };
    let (address, count) = order.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let held: Vec<TcpStream> = (0..count.parse().unwrap())
        .map(|_| TcpStream::connect_timeout(&address, support::PATIENCE).unwrap())
        .collect();
    println!("\nheld {}", held.len());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Runs this test binary once more, to hold `count` connections; kept until the input is dropped.
fn hold(address: SocketAddr, count: usize) -> (Child, ChildStdin) {
    let exe = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 8192; exec \"$0\" \"$@\""])
        .arg(exe)
        .args(["--exact", "holds_connections", "--ignored", "--nocapture"])
        .env("PATCHBAY_LOAD_HOLD", format!("{address} {count}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.into_iter().find(|line| line.starts_with("held "));
    assert_eq!(said.as_deref(), Some(format!("held {count}").as_str()));
    (child, stdin)
}

/// The hard limit of descriptors.
fn hard_limit() -> u64 {
    let output = Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(u64::MAX)
}

/// The binary under a limit of descriptors.
fn limited(descriptors: u64, upstream: &Upstream) -> Patchbay {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_patchbay")).args(["serve", "--workers", "1"]);
    command.args(["--upstream-url", &upstream.chat_url(), "--api-key-env", "PATCHBAY_TEST_KEY"]);
    Patchbay::spawn(command)
}

fn answers(text: &'static str) -> Upstream {
    Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        support::reply_stream(wire, &support::chat_text(text));
        Then::Keep
    })
}

#[test]
fn five_thousand_idle_connections_cost_little_each() {
    const CROWD: usize = 5_000;
    if hard_limit() < 8_192 {
        println!("SKIPPED: the hard limit of descriptors is {} (8192 needed)", hard_limit());
        return;
    }
    let upstream = answers("still here");
    let proxy = limited(8_192, &upstream);
    let request = support::responses_request("hi", true);
    assert_eq!(proxy.post("/v1/responses", &request).status, 200);
    let before = resident(&proxy);
    let (mut child, input) = hold(proxy.address, CROWD);
    wait_for("all to be accepted", || (descriptors(&proxy) >= CROWD).then_some(()));
    let grown = resident(&proxy).saturating_sub(before);
    println!("{CROWD} idle connections: {} bytes each", grown / CROWD as u64);
    assert!(grown < CROWD as u64 * 4 * KIB, "{grown} bytes in all");
    let reply = proxy.post("/v1/responses", &request);
    assert!(reply.complete && reply.text().contains("still here"), "{reply:?}");
    drop(input);
    child.wait().unwrap();
    wait_for("the descriptors to come back", || (descriptors(&proxy) < 100).then_some(()));
}

/// The names of the process's threads.
fn threads(child: &Child) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names.map_while(Result::ok).map(|name| name.trim_end().to_owned()).collect()
}

#[test]
fn a_large_request_is_translated_beside_its_worker() {
    const LARGE: usize = 5 << 20;
    let upstream = Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        let text = request.json()["messages"][0]["content"].as_str().unwrap().len();
        support::reply_stream(wire, &support::chat_text(&format!("{text} bytes")));
        Then::Keep
    });
    let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let ask = |bytes: usize| {
        let text = "a \u{e9} \\ ".repeat(bytes / 6 + 1)[..bytes].to_owned();
        let reply = proxy.post("/v1/responses", &support::responses_request(&text, true));
        assert!(reply.complete && reply.text().contains(&format!("{bytes} bytes")), "{reply:?}");
    };
    ask(1000);
    assert!(!threads(&proxy.child).contains(&"desk".to_owned()), "{:?}", threads(&proxy.child));
    // Several at once, and everybody else's meanwhile.
    thread::scope(|scope| {
        for size in [LARGE, LARGE + 1, 2000, LARGE + 2, 3000] {
            scope.spawn(move || ask(size));
        }
    });
    assert!(threads(&proxy.child).contains(&"desk".to_owned()), "{:?}", threads(&proxy.child));
}

/// Where an upstream stands when its client vanishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has said nothing.
    Silent,
    /// It has sent its head and an event, and is silent since.
    Begun,
    /// It sends without end.
    Streaming,
}

/// An upstream that stays in one stage until its connection ends, and counts the ends.
fn endless(stage: Stage, seen: &Arc<(AtomicU64, AtomicU64)>) -> Upstream {
    let seen = seen.clone();
    Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        seen.0.fetch_add(1, Ordering::SeqCst);
        if stage != Stage::Silent {
            let begun = wire.write_all(STREAM_HEAD.as_bytes());
            let _ = begun.and_then(|()| chunk(wire, &big_event(20)));
        }
        if stage == Stage::Streaming {
            let event = big_event(8 << 10);
            while chunk(wire, &event).is_ok() {}
        }
        // The proxy sends nothing here, so this returns when it closes.
        let _ = wire.read(&mut [0]);
        seen.1.fetch_add(1, Ordering::SeqCst);
        Then::Close
    })
}

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Close,
    Reset,
    HalfClose,
}

fn leave(stream: TcpStream, how: Leave) -> Option<TcpStream> {
    match how {
        Leave::Close => None,
        Leave::Reset => {
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            None
        }
        Leave::HalfClose => {
            stream.shutdown(Shutdown::Write).unwrap();
            Some(stream)
        }
    }
}

#[test]
fn a_client_that_vanishes_takes_its_upstream_along() {
    let cases = [
        (Stage::Silent, Leave::Close, true),
        (Stage::Silent, Leave::Reset, true),
        (Stage::Silent, Leave::Close, false),
        (Stage::Begun, Leave::Close, true),
        (Stage::Begun, Leave::Reset, true),
        (Stage::Begun, Leave::HalfClose, true),
        (Stage::Streaming, Leave::Close, true),
        (Stage::Streaming, Leave::Reset, true),
    ];
    for (stage, how, is_stream) in cases {
        let seen = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let upstream = endless(stage, &seen);
        let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
        let baseline = descriptors(&proxy);
        let mut client = proxy.connect();
        client.send_post("/v1/responses", &[], &support::responses_request("hi", is_stream));
        wait_for("the request to arrive", || (seen.0.load(Ordering::SeqCst) > 0).then_some(()));
        if stage != Stage::Silent {
            assert!(client.line().starts_with("HTTP/1.1 200"));
        }
        let stream = client.stream.try_clone().unwrap();
        drop(client);
        let gone = Instant::now();
        let left = leave(stream, how);
        wait_for("the upstream connection to end", || {
            (seen.1.load(Ordering::SeqCst) > 0).then_some(())
        });
        println!("{stage:?} {how:?}: the upstream ended after {:?}", gone.elapsed());
        assert!(gone.elapsed() < Duration::from_secs(2), "{stage:?} {how:?}");
        drop(left);
        wait_for("the descriptors to come back", || {
            (descriptors(&proxy) <= baseline).then_some(())
        });
    }
}

/// A door that opens once.
#[derive(Default)]
struct Door(Mutex<bool>, Condvar);

impl Door {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.lock().unwrap();
        let wait = self.1.wait_timeout_while(shut, support::PATIENCE, |open| !*open).unwrap();
        assert!(!wait.1.timed_out(), "the door stayed shut");
    }
}

#[test]
fn a_signal_lets_twenty_live_streams_end_whole() {
    let (door, begun) = (Arc::new(Door::default()), Arc::new(AtomicU64::new(0)));
    let (held, count) = (door.clone(), begun.clone());
    let upstream = Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        let _ = wire.write_all(STREAM_HEAD.as_bytes());
        let _ = chunk(wire, &big_event(10));
        count.fetch_add(1, Ordering::SeqCst);
        held.pass();
        let _ = chunk(wire, &big_event(10));
        let _ = chunk(wire, last_events());
        let _ = wire.write_all(b"0\r\n\r\n");
        Then::Keep
    });
    let mut proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut idle = proxy.connect();
    idle.send_get("/healthz");
    assert_eq!(idle.reply().status, 200);
    let mut live: Vec<_> = (0..20)
        .map(|number| {
            let mut client = proxy.connect();
            if number % 2 == 0 {
                client.send_post("/v1/chat/completions", &[], &chat_request("hi"));
            } else {
                let request = support::responses_request("hi", true);
                client.send_post("/v1/responses", &[], &request);
            }
            client
        })
        .collect();
    wait_for("20 streams", || (begun.load(Ordering::SeqCst) == 20).then_some(()));
    let pid = proxy.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(idle.is_closed(), "an idle connection is closed at once");
    wait_for("the listener to close", || TcpStream::connect(proxy.address).is_err().then_some(()));
    assert!(proxy.child.try_wait().unwrap().is_none(), "it ended under live streams");
    door.open();
    for client in &mut live {
        let reply = client.reply();
        assert!(reply.complete, "{reply:?}");
        let text = reply.text();
        assert!(text.contains("[DONE]") || text.contains("response.completed"), "{text}");
        assert_eq!(text.matches("ZZZZZZZZZZ").count() % 2, 0, "{text}");
    }
    let status = wait_for("the process to end", || proxy.child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

/// A connection that its owner closes when no next request comes within some milliseconds; at
/// times just when the next one comes, unread, as when the two cross on the way.
struct Impatient {
    stream: TcpStream,
    patience_ms: u64,
    inside: bool,
}

impl Read for Impatient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let patience = if self.inside { 20_000 } else { self.patience_ms.max(1) };
        self.stream.set_read_timeout(Some(Duration::from_millis(patience)))?;
        if !self.inside && self.patience_ms.is_multiple_of(5) {
            // Whether it came or not: nothing of it is read.
            let _ = self.stream.peek(&mut [0]);
            return Ok(0);
        }
        match self.stream.read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            read => {
                self.inside = true;
                read
            }
        }
    }
}

impl Write for Impatient {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        // The reply is one write; the next request may be late again.
        self.inside = false;
        self.patience_ms = (self.patience_ms * 29 + 7) % 41;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn upstreams_that_close_idle_connections_cost_no_request() {
    const THREADS: usize = 4;
    const EACH: usize = 150;
    let executed = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let (log, turn) = (executed.clone(), Arc::new(AtomicU64::new(3)));
    let upstream = Upstream::start_wrapped(
        move |request: &Received, wire: &mut dyn Wire| {
            let text = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
            *log.lock().unwrap().entry(text.clone()).or_default() += 1;
            support::reply_stream(wire, &support::chat_text(&text));
            Then::Keep
        },
        move |stream| {
            let patience_ms = turn.fetch_add(7, Ordering::Relaxed) % 41;
            Ok(Impatient { stream, patience_ms, inside: true })
        },
    );
    let proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let address = proxy.address;
    let clients = (0..THREADS).map(|thread| {
        thread::spawn(move || {
            let mut client = support::Client::connect(address);
            for number in 0..EACH {
                let marker = format!("request {thread}-{number}");
                client.send_post("/v1/chat/completions", &[], &chat_request(&marker));
                let reply = client.reply();
                assert!(reply.status == 200 && reply.complete, "{marker}: {reply:?}");
                assert!(reply.text().contains(&marker) && reply.text().contains("[DONE]"));
                // Pauses of every length around the upstream's patience.
                thread::park_timeout(Duration::from_millis((number as u64 * 13) % 45));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    let executed = executed.lock().unwrap();
    let twice = executed.values().filter(|count| **count > 1).count();
    let retried = proxy.log().matches("a kept connection was dead").count();
    println!(
        "{} requests, 0 errors, {retried} asked once more, {twice} executed twice",
        executed.len()
    );
    assert_eq!(executed.len(), THREADS * EACH);
    assert_eq!(twice, 0, "{executed:?}");
    assert!(retried > 0, "no request crossed the end of its connection: nothing was tested");
}

#[test]
fn running_out_of_descriptors_neither_spins_nor_lasts() {
    let upstream = answers("after the flood");
    let proxy = limited(40, &upstream);
    let mut known = proxy.connect();
    known.send_get("/healthz");
    assert_eq!(known.reply().status, 200);
    let flood: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(proxy.address).unwrap()).collect();
    wait_for("the descriptors to run out", || (descriptors(&proxy) >= 36).then_some(()));
    let (before, begun) = (ticks(&proxy), Instant::now());
    // A kept connection is served through all of it.
    while begun.elapsed() < Duration::from_secs(1) {
        known.send_get("/healthz");
        assert_eq!(known.reply().status, 200);
        thread::park_timeout(Duration::from_millis(50));
    }
    let used = ticks(&proxy) - before;
    let passed = begun.elapsed().as_millis() as u64 / 10;
    println!("without descriptors: {used} of {passed} ticks of processor time used");
    assert!(used * 100 < passed * 60, "it spins: {used} of {passed} ticks");
    drop(flood);
    wait_for("the descriptors to come back", || (descriptors(&proxy) < 30).then_some(()));
    let reply = proxy.post("/v1/responses", &support::responses_request("hi", true));
    assert!(reply.complete && reply.text().contains("after the flood"), "{reply:?}");
}
