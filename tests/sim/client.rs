//! Simulated clients: each connection follows a plan of requests, at its own pace, and may leave.

use crate::sim::http::{Message, Reader, Side};
use crate::sim::net::{ConnId, Got, SimNet};
use crate::sim::script::Api;
use crate::sim::tokens::Account;
use crate::sim::{Profile, Random};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How images begin.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// One that many requests show.
pub(crate) const SHARED: &[u8] = b"\x89PNG\r\n\x1a\nshared";

/// One request of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) marker: String,
    pub(crate) api: Api,
    pub(crate) stream: bool,
    /// It shows an image that others show too.
    pub(crate) shared: bool,
    /// Broken on purpose: must be refused with a 4xx, and never reach an upstream.
    pub(crate) broken: bool,
    /// Whose account it is to be served with; the proxy's in most worlds.
    pub(crate) account: Account,
    bytes: Vec<u8>,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Close,
    Reset,
    /// Ends its sending side and goes on reading.
    HalfClose,
}

/// When a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Sent(usize),
    Got(usize),
    After(u64),
}

/// How fast a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Fast,
    Slow {
        bytes: usize,
        every_us: u64,
    },
    /// Reads so much, then nothing for so long.
    Stall {
        after: usize,
        for_us: u64,
    },
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A whole reply.
    Whole(Message),
    /// The connection ended inside the reply, or before it.
    Cut { message: Message, has_head: bool },
    /// Nobody listened.
    Refused,
    /// The client left before the reply was whole.
    Left,
    /// The reply is not HTTP.
    Bad(String),
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) ask: Ask,
    pub(crate) outcome: Outcome,
    pub(crate) at_us: u64,
    /// Requests that this connection had served before.
    pub(crate) served: usize,
    pub(crate) half_closed: bool,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Client {
    random: Random,
    starts_us: u64,
    asks: Vec<Ask>,
    pipelined: bool,
    send_gap: u64,
    pace: Pace,
    lazy: bool,
    leave: Option<(When, How)>,
    pub(crate) conn: Option<ConnId>,
    reader: Reader,
    out: Vec<u8>,
    sent: usize,
    got: usize,
    asked: usize,
    next_send_us: u64,
    /// What it waited between the pieces of what it sends now.
    pauses_us: u64,
    next_read_us: u64,
    /// When the request that waits was sent whole.
    pub(crate) waits_since_us: Option<u64>,
    half_closed: bool,
    pub(crate) over: bool,
    pub(crate) records: Vec<Record>,
}

impl Client {
    pub(crate) fn new(number: u64, profile: &Profile, random: &mut Random) -> Self {
        let mut random = random.fork();
        let count = 1 + random.below(4);
        let asks = (0..count).map(|at| ask(number * 16 + at, profile, &mut random)).collect();
        let leave = random.chance(profile.leave).then(|| {
            let when = match random.below(3) {
                0 => When::Sent(random.below(600) as usize),
                1 => When::Got(random.below(3_000) as usize),
                _ => When::After(random.below(3_000_000)),
            };
            (when, *random.pick(&[How::Close, How::Reset, How::HalfClose]))
        });
        let pace = match random.below(1000) {
            n if n < profile.slow / 2 => Pace::Slow {
                bytes: 1 + random.below(900) as usize,
                every_us: 1 + random.below(60_000),
            },
            n if n < profile.slow => {
                let for_us = *random.pick(&[2_000_000, 5_000_000, 100_000_000]);
                Pace::Stall { after: random.below(2_000) as usize, for_us }
            }
            _ => Pace::Fast,
        };
        Self {
            starts_us: random.below(profile.spread_us),
            pipelined: random.chance(200),
            send_gap: if random.chance(300) { 200 } else { 0 },
            asks,
            lazy: matches!(pace, Pace::Stall { for_us, .. } if for_us > 10_000_000),
            pace,
            leave,
            conn: None,
            reader: Reader::new(Side::Replies),
            out: Vec::new(),
            sent: 0,
            got: 0,
            asked: 0,
            next_send_us: 0,
            pauses_us: 0,
            next_read_us: 0,
            waits_since_us: None,
            half_closed: false,
            over: false,
            records: Vec::new(),
            random,
        }
    }

    /// True when this client may fail without anybody else's fault: it stalls for ever.
    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// True when its connection may look idle while it still reads what was sent long ago.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.pace, Pace::Slow { .. })
    }

    /// The markers of its requests.
    pub(crate) fn owns(&self, marker: &str) -> bool {
        self.asks.iter().any(|ask| ask.marker == marker)
    }

    /// Does what can be done now; returns when there is more.
    pub(crate) fn step(&mut self, net: &mut SimNet) -> Option<u64> {
        if self.over {
            return None;
        }
        let now = net.now_us;
        if now < self.starts_us {
            return Some(self.starts_us);
        }
        let Some(conn) = self.conn.or_else(|| net.peer_connect()) else {
            self.end_all(&Outcome::Refused, now);
            return None;
        };
        if self.conn.is_none() {
            let markers: Vec<&str> = self.asks.iter().map(|ask| &*ask.marker).collect();
            net.log(conn, format_args!("asks {markers:?}, {:?}, {:?}", self.pace, self.leave));
        }
        self.conn = Some(conn);
        self.read(conn, net);
        if !self.over {
            self.send(conn, net);
        }
        self.leave(conn, net);
        if self.over {
            return None;
        }
        let leave = match self.leave {
            Some((When::After(after), _)) => Some(self.starts_us + after),
            _ => None,
        };
        let waits = [Some(self.next_send_us), Some(self.next_read_us), leave];
        waits.into_iter().flatten().filter(|at| *at > now).min()
    }

    fn send(&mut self, conn: ConnId, net: &mut SimNet) {
        let idle = self.records.len() == self.asked;
        if self.out.is_empty() && self.asked < self.asks.len() && (idle || self.pipelined) {
            let end = if self.pipelined { self.asks.len() } else { self.asked + 1 };
            for ask in &self.asks[self.asked..end] {
                self.out.extend_from_slice(&ask.bytes);
            }
            self.asked = end;
            self.pauses_us = 0;
            self.waits_since_us = None;
        }
        while !self.out.is_empty() && self.next_send_us <= net.now_us && !self.half_closed {
            let span = *self.random.pick(&[20, 500, 20_000]);
            let mut most = (1 + self.random.below(span) as usize).min(self.out.len());
            if let Some((When::Sent(limit), _)) = self.leave {
                most = most.min(limit.saturating_sub(self.sent).max(1));
            }
            let taken = net.peer_send(conn, &self.out[..most]);
            self.out.drain(..taken);
            self.sent += taken;
            if taken == 0 || self.leaves_now(net.now_us) {
                break;
            }
            // Nobody has to wait for a body that takes longer than the proxy's patience.
            if self.pauses_us < 8_000_000 && self.random.chance(self.send_gap) {
                let pause_us = 1 + self.random.below(300_000);
                self.pauses_us += pause_us;
                self.next_send_us = net.now_us + pause_us;
            }
        }
        if self.out.is_empty() && self.records.len() < self.asked {
            self.waits_since_us.get_or_insert(net.now_us);
        }
    }

    fn read(&mut self, conn: ConnId, net: &mut SimNet) {
        while !self.over && self.next_read_us <= net.now_us {
            let most = match self.pace {
                Pace::Fast => 64 << 10,
                Pace::Slow { bytes, .. } => bytes,
                Pace::Stall { after, .. } => after.saturating_sub(self.got).clamp(1, 64 << 10),
            };
            match net.peer_recv(conn, most) {
                Got::Nothing => return,
                Got::Bytes(bytes) => {
                    self.got += bytes.len();
                    self.reader.feed(&bytes);
                    self.take_replies(conn, net);
                }
                Got::Fin => {
                    self.take_close(net.now_us);
                    net.peer_close(conn);
                    return;
                }
                Got::Rst => {
                    self.cut(net.now_us);
                    net.peer_close(conn);
                    return;
                }
            }
            match self.pace {
                Pace::Slow { every_us, .. } => self.next_read_us = net.now_us + every_us,
                Pace::Stall { after, for_us } if self.got >= after => {
                    self.next_read_us = net.now_us + for_us;
                    self.pace = Pace::Fast;
                }
                _ => {}
            }
            if self.leaves_now(net.now_us) {
                return;
            }
        }
    }

    fn take_replies(&mut self, conn: ConnId, net: &mut SimNet) {
        while !self.over {
            match self.reader.next() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    let closes = message.closes();
                    self.record(Outcome::Whole(message), net.now_us);
                    if closes || self.records.len() == self.asks.len() {
                        self.end_all(&Outcome::Refused, net.now_us);
                        net.peer_close(conn);
                    } else if !self.pipelined && self.random.chance(500) {
                        self.next_send_us = net.now_us + self.random.below(2_000_000);
                    }
                }
                Err(error) => {
                    self.record(Outcome::Bad(error), net.now_us);
                    self.end_all(&Outcome::Left, net.now_us);
                    net.peer_close(conn);
                }
            }
        }
    }

    fn take_close(&mut self, now: u64) {
        match self.reader.close() {
            Some(message) => {
                self.record(Outcome::Whole(message), now);
                self.end_all(&Outcome::Refused, now);
            }
            None => self.cut(now),
        }
    }

    fn cut(&mut self, now: u64) {
        if self.reader.is_between() && self.records.len() == self.asked {
            self.end_all(&Outcome::Refused, now);
            return;
        }
        let has_head = self.reader.has_head();
        let message = std::mem::take(&mut self.reader.message);
        self.record(Outcome::Cut { message, has_head }, now);
        self.end_all(&Outcome::Refused, now);
    }

    fn record(&mut self, outcome: Outcome, at_us: u64) {
        self.waits_since_us = (self.records.len() + 1 < self.asked).then_some(at_us);
        let Some(ask) = self.asks.get(self.records.len()) else { return };
        let (ask, served) = (ask.clone(), self.records.len());
        let half_closed = self.half_closed;
        self.records.push(Record { ask, outcome, at_us, served, half_closed });
    }

    fn end_all(&mut self, outcome: &Outcome, at_us: u64) {
        while self.records.len() < self.asks.len() {
            self.record(outcome.clone(), at_us);
        }
        self.over = true;
    }

    fn leaves_now(&self, now: u64) -> bool {
        match self.leave {
            Some((When::Sent(count), _)) => self.sent >= count,
            Some((When::Got(count), _)) => self.got >= count,
            Some((When::After(after), _)) => now >= self.starts_us + after,
            None => false,
        }
    }

    fn leave(&mut self, conn: ConnId, net: &mut SimNet) {
        if self.over || !self.leaves_now(net.now_us) {
            return;
        }
        let Some((_, how)) = self.leave.take() else { return };
        match how {
            How::Close => net.peer_close(conn),
            How::Reset => net.peer_rst(conn),
            How::HalfClose => {
                net.peer_fin(conn);
                self.half_closed = true;
                return;
            }
        }
        self.end_all(&Outcome::Left, net.now_us);
    }
}

/// Writes one request.
fn ask(number: u64, profile: &Profile, random: &mut Random) -> Ask {
    let marker = format!("mk_{:08x}", number ^ 0x5eed_0000);
    let account = if profile.accounts { Account::of(&marker) } else { Account::Server };
    let api = if random.chance(500) { Api::Chat } else { Api::Responses };
    let stream = random.chance(750);
    let model = match random.below(1000) {
        0..550 => "chat-a",
        550..800 => "resp-a",
        _ => "giga-a",
    };
    let images = if model == "giga-a" { images(&marker, random) } else { Vec::new() };
    let shared = images.last().is_some_and(|image| image == SHARED);
    let url = |image: &Vec<u8>| format!("data:image/png;base64,{}", STANDARD.encode(image));
    let most = if random.chance(50) { 40_000 } else { 60 };
    let padding = random.below(most) as usize;
    let text = format!("{marker} {} {marker}", "x\n".repeat(padding / 2));
    let schema = json!({ "type": "object", "properties": { "query": { "type": "string" } } });
    let (path, body) = match api {
        Api::Responses => (
            "/v1/responses",
            json!({ "model": model, "stream": stream,
            "input": content(&text, "input_text", images.iter().map(|image| {
                json!({ "type": "input_image", "image_url": url(image) })
            })),
            "store": false,
            "tools": [{ "type": "function", "name": "lookup", "parameters": schema }] }),
        ),
        Api::Chat | Api::Giga => (
            "/v1/chat/completions",
            json!({ "model": model, "stream": stream,
            "messages": content(&text, "text", images.iter().map(|image| {
                json!({ "type": "image_url", "image_url": { "url": url(image) } })
            })),
            "tools": [{ "type": "function",
                "function": { "name": "lookup", "parameters": schema } }] }),
        ),
    };
    let body = body.to_string();
    let broken = random.chance(profile.broken);
    let bytes = if broken {
        broken_request(path, &body, random)
    } else {
        whole(path, &account.field(), &body, random)
    };
    Ask { marker, api, stream, shared, broken, account, bytes }
}

/// A user's message.
fn content(text: &str, kind: &str, images: impl Iterator<Item = Value>) -> Value {
    let mut parts = vec![json!({ "type": kind, "text": text })];
    parts.extend(images);
    json!([{ "role": "user", "content": parts }])
}

/// The images of a request: up to two of its own, which hold its marker, and maybe one that many
/// requests have.
fn images(marker: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let mut images: Vec<Vec<u8>> = (0..random.below(3))
        .map(|index| {
            let most = if random.chance(100) { 60_000 } else { 300 };
            let padding = vec![index as u8; random.below(most) as usize];
            [PNG, marker.as_bytes(), &padding].concat()
        })
        .collect();
    if random.chance(300) {
        images.push(SHARED.to_vec());
    }
    images
}

fn whole(path: &str, field: &str, body: &str, random: &mut Random) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         User-Agent: sim\r\nX-Api-Key: sim-client\r\n{field}"
    );
    if random.chance(700) {
        return format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    }
    let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let mut rest = body.as_bytes();
    while !rest.is_empty() {
        let size = rest.len().min(1 + random.below(6_000) as usize);
        bytes.extend_from_slice(format!("{size:X}\r\n").as_bytes());
        bytes.extend_from_slice(&rest[..size]);
        bytes.extend_from_slice(b"\r\n");
        rest = &rest[size..];
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn broken_request(path: &str, body: &str, random: &mut Random) -> Vec<u8> {
    let length = body.len();
    let text = match random.below(8) {
        0 => format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n{{\"a\""),
        1 => format!(
            "POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
        2 => format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
        3 => format!("POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"),
        4 => format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{body}"
        ),
        5 => "\u{16}\u{3}\u{1}\u{2} no HTTP at all\r\n\r\n".to_owned(),
        6 => format!(
            "POST {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
        _ => format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\nzz\r\n\r\n"
        ),
    };
    text.into_bytes()
}
