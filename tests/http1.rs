//! The HTTP/1.1 parsers over every hostile and every odd message, whole, in two pieces at every
//! place, and byte by byte: the verdict must be the expected one, and always the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile_cases;

use hostile_cases::replies::{ReplyWant, replies, stream};
use hostile_cases::{DOCUMENT, Want, good, requests};
use patchbay::wire::http1::{BodyDecoder, BodyFraming, BodyLimits, BodyStep};
use patchbay::wire::http1::{HeadLimits, HeadSearch};
use std::collections::HashSet;

const HEAD: HeadLimits =
    HeadLimits { head_bytes_max: 64 << 10, request_line_bytes_max: 8 << 10, headers_max: 100 };
const BODY: BodyLimits = BodyLimits { body_bytes_max: 64 << 20, overhead_bytes_max: 16 << 10 };

/// Messages longer than this are not cut at every place.
const CUT_BYTES_MAX: usize = 1500;

/// What a connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Refused, with the status for it and the words.
    Fault { status: u16, words: String },
    /// Everything was read; the connection is between messages.
    Between,
    /// A message has begun and is not whole.
    Within,
    /// The last message said that none follows.
    Closed,
}

/// A message as it was understood: its line and framing, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    line: String,
    fields: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
    whole: bool,
}

/// Reads messages like a connection does, from pieces.
struct Connection {
    requests: bool,
    buffer: Vec<u8>,
    search: HeadSearch,
    body: Option<BodyDecoder>,
    keep_alive: bool,
    messages: Vec<Message>,
    fault: Option<(u16, String)>,
}

impl Connection {
    fn new(requests: bool) -> Self {
        Self {
            requests,
            buffer: Vec::new(),
            search: HeadSearch::default(),
            body: None,
            keep_alive: true,
            messages: Vec::new(),
            fault: None,
        }
    }

    fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while self.fault.is_none() && self.step() {}
    }

    /// True when there may be more to do.
    fn step(&mut self) -> bool {
        let Some(body) = &mut self.body else { return self.keep_alive && self.head() };
        let (step, used) = match body.decode(&self.buffer) {
            Ok(found) => found,
            Err(fault) => {
                self.fault = Some((fault.status(), fault.to_string()));
                return false;
            }
        };
        assert!(used <= self.buffer.len());
        let message = self.messages.last_mut().unwrap();
        match step {
            BodyStep::Data(data) => {
                assert!(!data.is_empty());
                message.content.extend_from_slice(data);
            }
            BodyStep::NeedMore => assert_eq!(used, self.buffer.len(), "framing is never kept"),
            BodyStep::End => {
                assert!(body.is_complete());
                message.whole = true;
                self.body = None;
            }
        }
        let more = step != BodyStep::NeedMore;
        self.buffer.drain(..used);
        more
    }

    fn head(&mut self) -> bool {
        let found = if self.requests {
            self.search.request(&self.buffer, &HEAD).map(|found| {
                found.map(|(head, used)| {
                    let line = format!("{:?} {} {:?}", head.method, head.path, head.query);
                    let line = format!("{line} {:?} {:?}", head.host, head.framing);
                    (line, head.fields(), head.framing, head.keep_alive, used)
                })
            })
        } else {
            self.search.reply(&self.buffer, &HEAD, false).map(|found| {
                found.map(|(head, used)| {
                    let keep_alive = head.keep_alive || head.is_informational();
                    (head.status.to_string(), head.fields(), head.framing, keep_alive, used)
                })
            })
        };
        let (line, fields, framing, keep_alive, used) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(fault) => {
                self.fault = Some((fault.status(), fault.to_string()));
                return false;
            }
        };
        let fields =
            fields.map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect();
        self.messages.push(Message { line, fields, content: Vec::new(), whole: false });
        self.keep_alive = keep_alive;
        match BodyDecoder::new(framing, BODY) {
            Ok(body) => self.body = Some(body),
            Err(fault) => self.fault = Some((fault.status(), fault.to_string())),
        }
        self.buffer.drain(..used);
        true
    }

    /// What it came to, at the orderly end of the connection.
    fn finish(self) -> (Vec<Message>, Verdict) {
        let verdict = match (self.fault, &self.body) {
            (Some((status, words)), _) => Verdict::Fault { status, words },
            (None, Some(body)) if body.finish().is_ok() => Verdict::Closed,
            (None, Some(_)) => Verdict::Within,
            (None, None) if !self.keep_alive => Verdict::Closed,
            (None, None) if self.buffer.iter().all(|byte| b"\r\n".contains(byte)) => {
                Verdict::Between
            }
            (None, None) => Verdict::Within,
        };
        (self.messages, verdict)
    }
}

fn read(requests: bool, pieces: &[&[u8]]) -> (Vec<Message>, Verdict) {
    let mut connection = Connection::new(requests);
    for piece in pieces {
        connection.push(piece);
    }
    connection.finish()
}

/// Reads the bytes in every way of cutting them and returns what they all came to.
fn read_all_ways(name: &str, requests: bool, bytes: &[u8]) -> (Vec<Message>, Verdict) {
    let whole = read(requests, &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(requests, &single), whole, "{name}: byte by byte");
    if bytes.len() <= CUT_BYTES_MAX {
        for at in 1..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(read(requests, &[front, back]), whole, "{name}: cut at {at}");
        }
    } else {
        let pieces: Vec<&[u8]> = bytes.chunks(777).collect();
        assert_eq!(read(requests, &pieces), whole, "{name}: in 777s");
    }
    whole
}

#[test]
fn requests_come_to_what_the_table_says() {
    let cases = requests();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (messages, verdict) = read_all_ways(&case.name, true, &case.bytes);
        let whole = messages.iter().filter(|message| message.whole).count();
        let right = match (&case.want, &verdict) {
            (Want::Refuse(statuses), Verdict::Fault { status, .. }) => {
                whole == 0 && statuses.contains(status)
            }
            (Want::Serve(count), Verdict::Between | Verdict::Closed) => {
                whole == *count && messages.iter().all(|found| found.content == DOCUMENT.as_bytes())
            }
            (Want::Answer { after, .. }, Verdict::Between | Verdict::Closed) => whole == after + 1,
            (Want::Cut, Verdict::Between | Verdict::Within) => whole == 0,
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: want {:?}, got {whole}, {verdict:?}", case.name, case.want));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_follows_a_refused_request_is_never_read() {
    for case in requests() {
        if !matches!(case.want, Want::Refuse(_)) {
            continue;
        }
        let bytes = [case.bytes.clone(), good(), good()].concat();
        let (messages, verdict) = read(true, &[&bytes]);
        assert!(matches!(verdict, Verdict::Fault { .. }), "{}: {verdict:?}", case.name);
        assert!(messages.iter().all(|message| !message.whole), "{}: {messages:?}", case.name);
    }
}

#[test]
fn replies_come_to_what_the_table_says() {
    let cases = replies();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (mut messages, verdict) = read_all_ways(&case.name, false, &case.bytes);
        messages.retain(|message| !message.line.starts_with('1'));
        let right = match (&case.want, messages.as_slice()) {
            (ReplyWant::BadHead, []) => {
                !case.name.starts_with("head_cut") || !matches!(verdict, Verdict::Fault { .. })
            }
            (ReplyWant::BadBody, [message]) => {
                !message.whole && matches!(verdict, Verdict::Fault { .. } | Verdict::Within)
            }
            (ReplyWant::Status(status), [message]) => {
                message.line == status.to_string() && message.content.is_empty()
            }
            (ReplyWant::Whole { reusable }, [message]) => {
                message.content == stream()
                    && verdict == if *reusable { Verdict::Between } else { Verdict::Closed }
            }
            _ => false,
        };
        if !right {
            let found: Vec<_> = messages.iter().map(|found| (&found.line, found.whole)).collect();
            wrong.push(format!("{}: want {:?}, got {found:?}, {verdict:?}", case.name, case.want));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn case_names_are_unique() {
    let mut names = HashSet::new();
    for name in requests().into_iter().map(|case| case.name) {
        assert!(names.insert(name.clone()), "{name}");
    }
    names.clear();
    for name in replies().into_iter().map(|case| case.name) {
        assert!(names.insert(name.clone()), "{name}");
    }
}

#[test]
fn bodies_are_bounded() {
    let decoder = |framing, body_bytes_max| {
        BodyDecoder::new(framing, BodyLimits { body_bytes_max, overhead_bytes_max: 8 })
    };
    assert!(decoder(BodyFraming::Length(11), 10).is_err());
    assert!(decoder(BodyFraming::Length(10), 10).is_ok());

    // Refused when announced, before the content comes.
    let mut body = decoder(BodyFraming::Chunked, 10).unwrap();
    assert_eq!(body.decode(b"6\r\n123456\r\n").unwrap().0, BodyStep::Data(b"123456"));
    let fault = body.decode(b"\r\n5\r\n").unwrap_err();
    assert_eq!(fault.status(), 413);

    let mut body = decoder(BodyFraming::UntilClose, 10).unwrap();
    assert_eq!(body.decode(b"12345678").unwrap(), (BodyStep::Data(b"12345678"), 8));
    assert_eq!(body.decode(b"90123").unwrap(), (BodyStep::Data(b"90"), 2));
    assert!(body.finish().is_ok());
    assert!(body.decode(b"123").is_err());

    let mut body = decoder(BodyFraming::Chunked, 10).unwrap();
    assert!(body.decode(b"1;1234567\r\n1\r\n0\r\n").is_ok());
}
