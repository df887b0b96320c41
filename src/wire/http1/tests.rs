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
    assert_eq!(head.retry_after_seconds(), Some(7));
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
