//! Upstream replies that are wrong, or odd and right.

use super::cat;

/// What must come of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplyWant {
    /// The head is refused: the client gets a 502.
    BadHead,
    /// The head is fine, the body is broken or ends too soon: the client gets a 502, or a stream
    /// that visibly fails, and never a complete answer.
    BadBody,
    /// Well-formed, whole, and this status; what a client gets of it is the proxy's decision.
    Status(u16),
    /// A complete stream; whether the connection may be used again.
    Whole { reusable: bool },
}

/// A reply, then the orderly end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct ReplyCase {
    /// Unique; the row of the table before the slash.
    pub(crate) name: String,
    /// What the upstream sends.
    pub(crate) bytes: Vec<u8>,
    /// What must come of it.
    pub(crate) want: ReplyWant,
}

/// A streamed chat completion without its end.
pub(crate) const BEGUN: &str = concat!(
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",",
    "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hello\"},",
    "\"finish_reason\":null}]}\n\n",
);

/// Its end.
pub(crate) const ENDED: &str = concat!(
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",",
    "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);

/// The fields that a good reply has, next to its body's length.
pub(crate) const TYPE: &[u8] = b"Content-Type: text/event-stream\r\n";

/// The whole stream.
pub(crate) fn stream() -> Vec<u8> {
    cat(&[BEGUN.as_bytes(), ENDED.as_bytes()])
}

/// The stream in one chunk and the last chunk.
fn chunks() -> Vec<u8> {
    let stream = stream();
    cat(&[format!("{:x}\r\n", stream.len()).as_bytes(), &stream, b"\r\n0\r\n\r\n"])
}

/// A 200 with these field lines and this body.
fn reply(fields: &[u8], body: &[u8]) -> Vec<u8> {
    cat(&[b"HTTP/1.1 200 OK\r\n", TYPE, fields, b"\r\n", body])
}

/// A good reply.
pub(crate) fn good() -> Vec<u8> {
    reply(b"Transfer-Encoding: chunked\r\n", &chunks())
}

struct Rows {
    cases: Vec<ReplyCase>,
}

impl Rows {
    fn add(&mut self, name: &str, want: &ReplyWant, bytes: Vec<u8>) {
        self.cases.push(ReplyCase { name: name.to_owned(), bytes, want: want.clone() });
    }

    fn each(
        &mut self,
        row: &str,
        want: &ReplyWant,
        parts: &[&[u8]],
        make: impl Fn(&[u8]) -> Vec<u8>,
    ) {
        for part in parts {
            let shown: String = part.escape_ascii().to_string().chars().take(60).collect();
            self.add(&format!("{row}/'{shown}'"), want, make(part));
        }
    }
}

/// All reply cases.
pub(crate) fn replies() -> Vec<ReplyCase> {
    let mut rows = Rows { cases: Vec::new() };
    status_lines(&mut rows);
    lengths(&mut rows);
    fields(&mut rows);
    bodies(&mut rows);
    odd(&mut rows);
    rows.cases
}

fn status_lines(rows: &mut Rows) {
    let rest = cat(&[b"\r\n", TYPE, b"Transfer-Encoding: chunked\r\n\r\n", &chunks()]);
    let lines: &[&[u8]] = &[
        b"HTTP/1.1 000 x",
        b"HTTP/1.1 99 x",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 20 x",
        b"HTTP/1.1 2 x",
        b"HTTP/1.1  x",
        b"HTTP/1.1 -20 x",
        b"HTTP/1.1 +200 x",
        b"HTTP/1.1 abc x",
        b"HTTP/1.1 2 00 x",
        b"HTTP/1.1 0x1 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/0.9 200 OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/1.10 200 OK",
        b"http/1.1 200 OK",
        b"HTTP 200 OK",
        b"HTTP/1,1 200 OK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 200 \x1b",
        b"\r\nHTTP/1.1 200 OK",
        b"\nHTTP/1.1 200 OK",
        b"<html>hello</html>",
        b"hello",
        b"SSH-2.0-OpenSSH",
        b"220 mail.example ESMTP",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        b"{\"error\":{}}",
        b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK",
        b"HTTP/1.1 101 Switching Protocols",
    ];
    rows.each("status_line", &ReplyWant::BadHead, lines, |line| cat(&[line, &rest]));
    let lines: &[&[u8]] = &[
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 Fine by me",
        b"HTTP/1.1 200 \xc3\xa9",
        b"HTTP/1.1 299 x",
        b"HTTP/1.1 200 a\tb",
    ];
    rows.each("status_line_fine", &ReplyWant::Whole { reusable: true }, lines, |line| {
        cat(&[line, &rest])
    });
    let heads: &[&[u8]] = &[
        b"",
        b"H",
        b"HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n\r",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 2",
    ];
    rows.each("head_cut", &ReplyWant::BadHead, heads, <[u8]>::to_vec);
}

fn lengths(rows: &mut Rows) {
    let body = stream();
    let n = body.len().to_string();
    let n = n.as_bytes();
    let hex = format!("0x{:x}", body.len());
    let wrapped = (u128::from(u64::MAX) + 1 + body.len() as u128).to_string();
    let values: [Vec<u8>; 17] = [
        b"-1".to_vec(),
        cat(&[b"-", n]),
        cat(&[b"+", n]),
        hex.into_bytes(),
        b"abc".to_vec(),
        b"".to_vec(),
        b"18446744073709551616".to_vec(),
        b"18446744073709551621".to_vec(),
        wrapped.into_bytes(),
        cat(&[n, b", ", n]),
        cat(&[n, b",5"]),
        cat(&[n, b" 5"]),
        cat(&[n, b".0"]),
        cat(&[n, b"\0"]),
        cat(&[b"\xa0", n]),
        cat(&[n, b"\n5"]),
        b"1".repeat(100),
    ];
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let bad = ReplyWant::BadHead;
    let one = |value: &[u8]| cat(&[b"Content-Length: ", value, b"\r\n"]);
    rows.each("length_value", &bad, &values, |value| reply(&one(value), &body));
    rows.add("length_twice/different", &bad, reply(&cat(&[&one(b"5"), &one(n)]), &body));
    rows.add("length_twice/same", &bad, reply(&cat(&[&one(n), &one(n)]), &body));
    rows.add("length_twice/empty", &bad, reply(&cat(&[&one(b""), &one(n)]), &body));

    let codings: &[&[u8]] = &[
        b"gzip",
        b"x",
        b"identity",
        b"chunked, chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked,",
        b",chunked",
        b"\"chunked\"",
        b"chunked;q=1",
        b"",
        b"\x0bchunked",
        b"chunked\xa0",
        b"chunked\0",
        b"\r\n chunked",
        b"xchunked",
    ];
    rows.each("coding_value", &bad, codings, |value| {
        reply(&cat(&[b"Transfer-Encoding: ", value, b"\r\n"]), &chunks())
    });
    let te: &[u8] = b"Transfer-Encoding: chunked\r\n";
    rows.add("coding_twice", &bad, reply(&cat(&[te, te]), &chunks()));
    rows.add("coding_and_length/coding_first", &bad, reply(&cat(&[te, &one(n)]), &chunks()));
    rows.add("coding_and_length/length_first", &bad, reply(&cat(&[&one(b"5"), te]), &chunks()));
    let old = cat(&[b"HTTP/1.0 200 OK\r\n", TYPE, te, b"\r\n", &chunks()]);
    rows.add("coding_in_http_1_0", &bad, old);
}

fn fields(rows: &mut Rows) {
    let bad = ReplyWant::BadHead;
    let te: &[u8] = b"Transfer-Encoding: chunked\r\n";
    let around = |line: &[u8]| reply(&cat(&[line, te]), &chunks());
    let lines: &[&[u8]] = &[
        b"X: a\0b\r\n",
        b"X: a\rb\r\n",
        b"X: a\r\r\n",
        b"X: a\n",
        b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n",
        b"X : a\r\n",
        b"X\r\n",
        b": a\r\n",
        b"X y: a\r\n",
        b"\0: a\r\n",
        b"X: \x1b\r\n",
        b"X: \x7f\r\n",
        b"\xc3\xa9: a\r\n",
        b"X: a\rHTTP/1.1 200 OK\rContent-Length: 0\r\r\n",
        b"Content-Type: text/html\r\n",
        b"Content-Encoding: gzip\r\nContent-Encoding: br\r\n",
    ];
    rows.each("field", &bad, lines, around);
    let long =
        |name: usize, value: usize| cat(&[&b"a".repeat(name), b": ", &b"b".repeat(value), b"\r\n"]);
    rows.add("size/100_kb_name", &bad, around(&long(100_000, 1)));
    rows.add("size/100_kb_value", &bad, around(&long(1, 100_000)));
    rows.add("size/4_mb_value", &bad, around(&long(1, 4_000_000)));
    rows.add("size/10000_fields", &bad, around(&b"X: y\r\n".repeat(10_000)));
    let reason = cat(&[b"HTTP/1.1 200 ", &b"x".repeat(100_000), b"\r\n\r\n"]);
    rows.add("size/100_kb_reason", &bad, reason);

    let fine: &[&[u8]] = &[
        b"X-Hop: 1\r\nConnection: X-Hop\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"X: \xe9\r\n",
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n",
        b"Upgrade: h2c\r\n",
        b"X:\r\n",
    ];
    rows.each("field_fine", &ReplyWant::Whole { reusable: true }, fine, around);
    let close = &ReplyWant::Whole { reusable: false };
    rows.add("field_fine/close", close, around(b"Connection: close\r\n"));
}

fn bodies(rows: &mut Rows) {
    let bad = ReplyWant::BadBody;
    let begun = BEGUN.as_bytes();
    let n = begun.len();
    let te: &[u8] = b"Transfer-Encoding: chunked\r\n";
    let chunk = cat(&[format!("{n:x}\r\n").as_bytes(), begun, b"\r\n"]);
    let ends: &[&[u8]] = &[
        b"",
        b"5",
        b"5\r",
        b"5\r\n",
        b"5\r\ndat",
        b"5\r\ndata:",
        b"5\r\ndata:\r",
        b"0",
        b"0\r\n",
        b"0\r\n\r",
        b"0\r\nA: b\r\n",
        b"g\r\n",
        b"-5\r\n",
        b"0x5\r\ndata:\r\n0\r\n\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b";a=b\r\n\r\n",
        b"ffffffffffffffff\r\ndata: x",
        b"7fffffffffffffff\r\ndata: x",
        b"8000000000000000\r\ndata: x",
        b"10000000000000005\r\ndata:\r\n0\r\n\r\n",
        b"100000005\r\ndata:\r\n0\r\n\r\n",
        b"5\r\ndata:0\r\n\r\n",
        b"5\ndata:\r\n0\r\n\r\n",
        b"5 \r\ndata:\r\n0\r\n\r\n",
        b"5\r\ndata:\n0\r\n\r\n",
        b"5;\r\ndata:\r\n0\r\n\r\n",
        b"5;a=\"\n\"\r\ndata:\r\n0\r\n\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nA: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ];
    rows.each("chunks", &bad, ends, |end| reply(te, &cat(&[&chunk, end])));
    let bomb = cat(&[b"0\r\n", &b"a: b\r\n".repeat(10_000), b"\r\n"]);
    rows.add("chunks/trailer_bomb", &bad, reply(te, &cat(&[&chunk, &bomb])));
    let bomb = cat(&[b"5;", &b"a".repeat(65_536), b"\r\ndata:\r\n0\r\n\r\n"]);
    rows.add("chunks/extension_bomb", &bad, reply(te, &cat(&[&chunk, &bomb])));

    let lengths = [n + 1, n + 1000, 1 << 40];
    for length in lengths {
        let fields = format!("Content-Length: {length}\r\n");
        rows.add(&format!("length_cut/{length}"), &bad, reply(fields.as_bytes(), begun));
    }
    let huge = b"Content-Length: 18446744073709551615\r\n";
    rows.add("length_cut/u64_max", &bad, reply(huge, begun));
}

fn odd(rows: &mut Rows) {
    let te: &[u8] = b"Transfer-Encoding: chunked\r\n";
    let body = stream();
    let length = format!("Content-Length: {}\r\n", body.len());
    let reusable = &ReplyWant::Whole { reusable: true };
    let once = &ReplyWant::Whole { reusable: false };
    rows.add("fine/chunked", reusable, good());
    rows.add("fine/length", reusable, reply(length.as_bytes(), &body));
    rows.add("fine/until_close", once, reply(b"", &body));
    rows.add("fine/http_1_0", once, cat(&[b"HTTP/1.0 200 OK\r\n", TYPE, b"\r\n", &body]));
    let bytewise: Vec<u8> =
        body.iter().flat_map(|&byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n']).collect();
    rows.add("fine/byte_chunks", reusable, reply(te, &cat(&[&bytewise, b"0\r\n\r\n"])));
    let extended = cat(&[format!("{:X};a=\"b\"\r\n", body.len()).as_bytes(), &body, b"\r\n"]);
    let extended = cat(&[&extended, b"000;z\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n"]);
    rows.add("fine/extension_and_trailers", reusable, reply(te, &extended));
    rows.add("fine/100", reusable, cat(&[b"HTTP/1.1 100 Continue\r\n\r\n", &good()]));
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    rows.add("fine/103_twice", reusable, cat(&[hints, hints, &good()]));

    for (status, line) in [
        (204, "204 No Content"),
        (205, "205 Reset Content"),
        (206, "206 Partial Content"),
        (300, "300 Multiple Choices"),
        (301, "301 Moved"),
        (302, "302 Found"),
        (303, "303 x"),
        (304, "304 Not Modified"),
        (307, "307 x"),
        (308, "308 x"),
        (400, "400 x"),
        (401, "401 x"),
        (404, "404 x"),
        (429, "429 x"),
        (500, "500 x"),
        (503, "503 x"),
        (529, "529 x"),
        (599, "599"),
    ] {
        let head = format!(
            "HTTP/1.1 {line}\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:1/\r\n\
             Retry-After: 7\r\n\r\n"
        );
        rows.add(&format!("status/{status}"), &ReplyWant::Status(status), head.into_bytes());
    }
}
