//! A worker pays nothing for captures that nobody asked for: the turns of a running stream allocate
//! nothing. In a test binary of its own, because the counting allocator is the whole binary's.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use allocation_counter::measure;
use patchbay::config::{Capture, Overrides, World, load};
use patchbay::proxy::capture::Record;
use patchbay::proxy::limit::LimitTable;
use patchbay::proxy::net::{Lookup, Net, Ready, SocketId};
use patchbay::proxy::shared::Now;
use patchbay::proxy::transport::TlsTable;
use patchbay::proxy::worker::Worker;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const LISTENER: u32 = 0;
const CLIENT: u32 = 1;
const UPSTREAM: u32 = 2;
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9);
const DELTAS: usize = 200;

/// One client and one upstream, whose inboxes are large enough from the start.
#[derive(Debug)]
struct Pair {
    waiting: bool,
    inboxes: [VecDeque<u8>; 2],
    written: [usize; 2],
    records: usize,
}

const fn id(slot: u32) -> SocketId {
    SocketId { slot, generation: 0 }
}

const fn place(socket: SocketId) -> usize {
    (socket.slot - 1) as usize
}

impl Net for Pair {
    fn accept(&mut self, _: SocketId) -> io::Result<(SocketId, SocketAddr)> {
        let waited = std::mem::take(&mut self.waiting);
        if waited { Ok((id(CLIENT), ADDRESS.into())) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn connect(&mut self, _: SocketAddr) -> io::Result<SocketId> {
        Ok(id(UPSTREAM))
    }

    fn connected(&mut self, _: SocketId) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let inbox = &mut self.inboxes[place(socket)];
        let count = into.len().min(inbox.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        into.iter_mut().zip(inbox.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }

    fn write(&mut self, socket: SocketId, from: &[u8]) -> io::Result<usize> {
        self.written[place(socket)] += from.len();
        Ok(from.len())
    }

    fn shutdown(&mut self, _: SocketId) {}

    fn close(&mut self, _: SocketId) {}

    fn resolve(&mut self, _: &str, _: u16) -> Lookup {
        Lookup::Found(Arc::from([ADDRESS.into()]))
    }

    fn record(&mut self, record: Record) {
        drop(record);
        self.records += 1;
    }
}

/// Lets `bytes` arrive and the worker do all that it can.
fn give(worker: &mut Worker<Pair>, slot: u32, bytes: &str, now: Now) {
    if slot != LISTENER {
        worker.net_mut().inboxes[place(id(slot))].extend(bytes.as_bytes());
    }
    let ready = Ready { socket: id(slot), readable: true, writable: true, read_closed: false };
    let mut next = worker.turn(&[ready], now);
    while next.is_some_and(|at| at <= now.instant) {
        next = worker.turn(&[], now);
    }
}

/// Allocations of the turns of a running stream, those of a whole exchange, and its records.
fn count(capture: Option<Capture>) -> (u64, u64, usize) {
    let overrides =
        Overrides { upstream_url: Some("http://127.0.0.1:9".to_owned()), ..Overrides::default() };
    let mut config = load(None, &overrides, World { var: &|_| None, cores: 1 }).unwrap();
    config.capture = capture;
    let config = Arc::new(config);
    let now = Now { instant: Instant::now(), unix_s: 1_800_000_000 };
    let limits = Arc::new(LimitTable::new(&config, now.instant, 1));
    let tls = Arc::new(TlsTable::new(&[]).unwrap());
    let inboxes = [VecDeque::with_capacity(1 << 16), VecDeque::with_capacity(1 << 16)];
    let net = Pair { waiting: true, inboxes, written: [0; 2], records: 0 };
    let mut worker = Worker::new(net, config, tls, limits, vec![id(LISTENER)], 1, now);
    give(&mut worker, LISTENER, "", now);

    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let chunk = |finish: &str| {
        let data = format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word\"}},\"finish_reason\":{finish}}}]}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len())
    };
    let (delta, end) = (chunk("null"), chunk("\"stop\""));
    let mut turns = 0;
    let whole = measure(|| {
        give(&mut worker, CLIENT, &request, now);
        give(&mut worker, UPSTREAM, "", now);
        give(&mut worker, UPSTREAM, head, now);
        for _ in 0..10 {
            give(&mut worker, UPSTREAM, &delta, now);
        }
        let before = worker.net_mut().written[0];
        turns = measure(|| (0..DELTAS).for_each(|_| give(&mut worker, UPSTREAM, &delta, now)))
            .count_total;
        assert!(worker.net_mut().written[0] > before + DELTAS * 100);
        give(&mut worker, UPSTREAM, &end, now);
        give(&mut worker, UPSTREAM, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", now);
    });
    (turns, whole.count_total, worker.net_mut().records)
}

#[test]
fn nothing_is_paid_when_nothing_is_captured() {
    let capture = Capture { folder: PathBuf::new(), side_bytes_max: 1 << 20 };
    let (turns, whole, records) = count(None);
    assert_eq!((turns, records), (0, 0));
    let (captured_turns, captured, records) = count(Some(capture));
    assert_eq!(records, 1);
    // The counting sees what a capture costs.
    assert!(captured_turns > 0 && captured > whole, "{captured_turns} {captured} {whole}");
}
