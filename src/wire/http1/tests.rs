//! The parts together: what is written can be read, and the shapes that must work do.

use super::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 << 10, request_line_bytes_max: 8 << 10, headers_max: 100 };
const BODY: BodyLimits = BodyLimits { body_bytes_max: 1 << 20, overhead_bytes_max: 16 << 10 };

#[test]
fn a_request_is_taken_apart() {
    let input = b"\r\nPOST http://Proxy.example:81/v1/x%2F?a=?b HTTP/1.1\r\nHost: other\r\n\
        Content-Length:\t5 \r\nConnection: x, Close\r\nExpect: 100-Continue\r\n\
        X-Odd: \xc3\xa9\r\nx-odd: second\r\n\r\nhello";
    let (head, used) = HeadSearch::default().request(input, &LIMITS).unwrap().unwrap();
    assert_eq!(&input[used..], b"hello");
    assert_eq!((head.method, head.version), (Method::Post, Version::Http11));
    assert_eq!((head.path, head.query), ("/v1/x%2F", Some("a=?b")));
    assert_eq!(head.host, Some(Host { name: "Proxy.example", port: Some(81) }));
    assert_eq!(head.framing, BodyFraming::Length(5));
    assert!(!head.keep_alive && head.expect_continue && !head.upgrade_websocket);
    assert_eq!(head.header("X-ODD"), Some(&b"\xc3\xa9"[..]));
    assert_eq!(head.text("x-odd"), None);
    assert_eq!(head.fields().count(), 6);
}

#[test]
fn a_websocket_is_asked_for_only_in_full() {
    let asks = |head: &str| {
        let input = format!("{head}\r\nhost: a\r\n\r\n");
        let found = HeadSearch::default().request(input.as_bytes(), &LIMITS).unwrap();
        found.unwrap().0.upgrade_websocket
    };
    let both = "\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade";
    assert!(asks(&format!("GET / HTTP/1.1{both}")));
    assert!(!asks(&format!("POST / HTTP/1.1{both}")));
    assert!(!asks(&format!("GET / HTTP/1.0{both}")));
    assert!(!asks("GET / HTTP/1.1\r\nUpgrade: websocket"));
    assert!(!asks("GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade"));
}

#[test]
fn written_heads_are_read_back() {
    let mut out = Vec::new();
    let headers = [("accept", "text/event-stream"), ("authorization", "Bearer k")];
    write_request_head("POST", "/v1/c?x=1", "api:443", headers, BodyLength::Known(7), &mut out)
        .unwrap();
    let (head, used) = HeadSearch::default().request(&out, &LIMITS).unwrap().unwrap();
    assert_eq!(used, out.len());
    assert_eq!((head.path, head.query), ("/v1/c", Some("x=1")));
    assert_eq!(head.authorization, Some("Bearer k"));
    assert_eq!(head.framing, BodyFraming::Length(7));

    out.clear();
    let headers = [("content-type", "application/json"), ("retry-after", "7")];
    write_reply_head(429, headers, BodyLength::Chunked, false, &mut out).unwrap();
    let (head, used) = HeadSearch::default().reply(&out, &LIMITS, false).unwrap().unwrap();
    assert_eq!((used, head.status), (out.len(), 429));
    assert_eq!((head.framing, head.keep_alive), (BodyFraming::Chunked, false));
    assert_eq!(head.text("retry-after"), Some("7"));
    assert_eq!(head.content_type, Some("application/json"));
}

#[test]
fn nothing_injected_is_written() {
    let mut out = b"before".to_vec();
    let bad = [
        ("a", "b\r\nc: d"),
        ("a", "b\nc"),
        ("a", "b\rc"),
        ("a", "\0"),
        ("a", "\x7f"),
        ("a\r\n", "b"),
        ("", "b"),
        ("a b", "c"),
        ("a:", "c"),
        ("Content-Length", "5"),
        ("HOST", "h"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "close"),
        ("Upgrade", "x"),
    ];
    for header in bad {
        let headers = [("fine", "fine"), header];
        let known = BodyLength::Known(0);
        assert!(write_request_head("POST", "/", "h", headers, known, &mut out).is_err());
        assert!(write_reply_head(200, headers, known, true, &mut out).is_err(), "{header:?}");
    }
    let none: [(&str, &str); 0] = [];
    for (method, target, host) in [
        ("PO ST", "/", "h"),
        ("", "/", "h"),
        ("GET", "/a b", "h"),
        ("GET", "/\r\n", "h"),
        ("GET", "", "h"),
        ("GET", "/\u{e9}", "h"),
        ("GET", "/", "h\r\nx: y"),
        ("GET", "/", ""),
    ] {
        let result = write_request_head(method, target, host, none, BodyLength::None, &mut out);
        assert!(result.is_err(), "{method} {target} {host}");
    }
    for status in [0, 99, 100, 199, 600, 2000] {
        assert!(write_reply_head(status, none, BodyLength::None, true, &mut out).is_err());
    }
    assert_eq!(out, b"before");
}

#[test]
fn written_chunks_are_read_back() {
    let mut out = Vec::new();
    for content in ["", "a", "", &"b".repeat(300), ""] {
        let mark = chunk_begin(&mut out);
        out.extend_from_slice(content.as_bytes());
        chunk_end(mark, &mut out);
    }
    assert!(out.starts_with(b"00000001\r\na\r\n0000012c\r\nb"));
    last_chunk(&mut out);
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked, BODY).unwrap();
    let (mut at, mut content) = (0, Vec::new());
    loop {
        let (step, used) = decoder.decode(&out[at..]).unwrap();
        at += used;
        match step {
            BodyStep::Data(data) => content.extend_from_slice(data),
            BodyStep::End => break,
            BodyStep::NeedMore => panic!("incomplete"),
        }
    }
    assert_eq!((at, content.len()), (out.len(), 301));
}

fn refused(input: &[u8]) -> Option<HeadFault> {
    HeadSearch::default().request(input, &LIMITS).err()
}

fn reply_refused(input: &[u8]) -> Option<HeadFault> {
    HeadSearch::default().reply(input, &LIMITS, false).err()
}

#[test]
fn hopeless_heads_are_refused_before_they_end() {
    let bytes: [(&[u8], u8); 4] =
        [(b"\x16\x03\x01", 0x16), (b"\x80\x2e", 0x80), (b"GET /\xff", 0xff), (b"G\tT", 9)];
    for (input, byte) in bytes {
        assert_eq!(refused(input), Some(HeadFault::ForbiddenByte(byte)));
    }
    assert_eq!(refused(b"GET /\r\n"), Some(HeadFault::RequestLine));
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n"), Some(HeadFault::Version));
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\r\n c"), None);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n"), Some(HeadFault::Folded));
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\rc"), Some(HeadFault::BareCr));
    assert_eq!(refused(b"GET / HTTP/1.1\r\nA: b\n"), Some(HeadFault::BareLf));
    assert_eq!(refused(&[b'A'; 8193]), None);
    assert_eq!(refused(&[b'A'; 8194]), Some(HeadFault::RequestLineTooLong(8192)));
    assert_eq!(reply_refused(b"hello"), Some(HeadFault::StatusLine));
    assert_eq!(reply_refused(b"HTTP/1.1 200OK\r\n"), Some(HeadFault::StatusLine));
    assert_eq!(reply_refused(b"HTTP/2"), Some(HeadFault::StatusLine));
}

#[test]
fn limits_are_exact() {
    let with = |count: usize| {
        let fields = "A: b\r\n".repeat(count - 1);
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    assert_eq!(refused(&with(100)), None);
    assert_eq!(refused(&with(101)), Some(HeadFault::TooManyFields(100)));
    let wide = HeadLimits { headers_max: 1000, ..LIMITS };
    assert!(HeadSearch::default().request(&with(HEADERS), &wide).is_ok());
    let fault = HeadSearch::default().request(&with(HEADERS + 1), &wide).unwrap_err();
    assert_eq!(fault, HeadFault::TooManyFields(HEADERS));
    let exact = with(3);
    let limits = |head_bytes_max| HeadLimits { head_bytes_max, ..LIMITS };
    assert!(HeadSearch::default().request(&exact, &limits(exact.len())).unwrap().is_some());
    let fault = HeadSearch::default().request(&exact, &limits(exact.len() - 1)).unwrap_err();
    assert_eq!(fault, HeadFault::HeadTooLong(exact.len() - 1));
}

const HEADERS: usize = head::HEADERS_MAX;

#[test]
fn replies_that_end_their_connection() {
    let read = |input: &'static [u8]| {
        let (head, _) = HeadSearch::default().reply(input, &LIMITS, false).unwrap().unwrap();
        (head.framing, head.keep_alive)
    };
    assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), (BodyFraming::UntilClose, false));
    assert_eq!(read(b"HTTP/1.1 204 x\r\n\r\n"), (BodyFraming::None, true));
    let unclear = b"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(read(unclear), (BodyFraming::None, false));
    let not_modified = b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(read(not_modified), (BodyFraming::None, true));
    let switching = b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(reply_refused(switching), Some(HeadFault::Switching));
}
