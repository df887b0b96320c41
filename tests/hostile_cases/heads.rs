//! Requests whose head is wrong, or odd and right.

use super::{DOCUMENT, FIELDS, RequestCase, Row, Want, cat, chunked, good, length, post};

const BAD: Want = Want::Refuse(&[400]);
const BAD_CODING: Want = Want::Refuse(&[400, 501]);

/// `Content-Length` with this value, and a body of the right length.
fn with_length(value: &[u8]) -> Vec<u8> {
    post(&cat(&[b"Content-Length: ", value, b"\r\n"]), DOCUMENT.as_bytes())
}

/// `Transfer-Encoding` with this value, and a chunked body.
fn with_coding(value: &[u8]) -> Vec<u8> {
    let fields = cat(&[b"Transfer-Encoding: ", value, b"\r\n"]);
    post(&fields, &chunked(b"\r\n", b"\r\n", b"0\r\n\r\n"))
}

/// Field lines instead of the length, and a chunked body: who sees the field reads it by chunks.
pub(crate) fn with_lines(lines: &[u8]) -> Vec<u8> {
    post(lines, &chunked(b"\r\n", b"\r\n", b"0\r\n\r\n"))
}

pub(crate) fn filler(count: usize) -> Vec<u8> {
    (0..count).flat_map(|at| format!("X-Filler-{at}: {at}\r\n").into_bytes()).collect()
}

pub(crate) fn lengths(cases: &mut Vec<RequestCase>) {
    let n = DOCUMENT.len().to_string();
    let n = n.as_bytes();
    let hex = format!("{:x}", DOCUMENT.len());
    let wrapped = (u128::from(u64::MAX) + 1 + DOCUMENT.len() as u128).to_string();
    let hundred = "1".repeat(100);
    let zeros = format!("{}{}", "0".repeat(100), DOCUMENT.len());
    let values: Vec<Vec<u8>> = vec![
        cat(&[b"+", n]),
        cat(&[b"-", n]),
        cat(&[b"0x", hex.as_bytes()]),
        cat(&[b"0X", hex.as_bytes()]),
        cat(&[hex.as_bytes(), b"h"]),
        b"7_1".to_vec(),
        b"7 1".to_vec(),
        b"7\t1".to_vec(),
        cat(&[n, b",", n]),
        cat(&[n, b", ", n]),
        cat(&[n, b","]),
        cat(&[b",", n]),
        cat(&[n, b" ", n]),
        cat(&[n, b";"]),
        cat(&[n, b".0"]),
        cat(&[n, b"e0"]),
        cat(&[b"0,", n]),
        b"".to_vec(),
        b" \t".to_vec(),
        cat(&[b"\"", n, b"\""]),
        cat(&[b"'", n, b"'"]),
        cat(&[b"\xa0", n]),
        cat(&[n, b"\xa0"]),
        cat(&[b"\xc2\xa0", n]),
        cat(&[b"\x85", n]),
        cat(&[b"\x0b", n]),
        cat(&[n, b"\x0c"]),
        cat(&[b"\0", n]),
        cat(&[n, b"\0"]),
        cat(&[n, b"\x7f"]),
        cat(&[n, b"\n0"]),
        cat(&[n, b"\r0"]),
        b"\xd9\xa7\xd9\xa1".to_vec(),
        b"\xef\xbc\x97\xef\xbc\x91".to_vec(),
        b"-0".to_vec(),
        b"+0".to_vec(),
        b"-1".to_vec(),
        b"chunked".to_vec(),
        b"NaN".to_vec(),
        b"18446744073709551616".to_vec(),
        wrapped.into_bytes(),
        b"99999999999999999999".to_vec(),
        hundred.into_bytes(),
        zeros.into_bytes(),
    ];
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    Row::new(cases, "length_value", BAD).each(&values, with_length);

    Row::new(cases, "length_huge", Want::Refuse(&[400, 413]))
        .add("u64_max", with_length(b"18446744073709551615"))
        .add("i64_max", with_length(b"9223372036854775807"))
        .add("4_gib", with_length(b"4294967296"));

    let own = length();
    let body = DOCUMENT.as_bytes();
    let mut row = Row::new(cases, "length_repeated", BAD);
    row.add("same", post(&cat(&[&own, &own]), body))
        .add("different", post(&cat(&[&own, b"Content-Length: 0\r\n"]), body))
        .add("zero_first", post(&cat(&[b"Content-Length: 0\r\n", &own]), body))
        .add("empty_first", post(&cat(&[b"Content-Length:\r\n", &own]), body))
        .add("empty_last", post(&cat(&[&own, b"Content-Length: \r\n"]), body))
        .add("other_case", post(&cat(&[&own, b"CONTENT-LENGTH: 1\r\n"]), body))
        .add("40_apart", post(&cat(&[&own, &filler(40), b"content-length: 5\r\n"]), body))
        .add("three", post(&cat(&[&own, &own, &own]), body));

    let te: &[u8] = b"Transfer-Encoding: chunked\r\n";
    let chunks = chunked(b"\r\n", b"\r\n", b"0\r\n\r\n");
    let mut row = Row::new(cases, "length_and_coding", BAD);
    row.add("length_first", post(&cat(&[&own, te]), &chunks))
        .add("coding_first", post(&cat(&[te, &own]), &chunks))
        .add("length_zero", post(&cat(&[b"Content-Length: 0\r\n", te]), &chunks))
        .add("40_apart", post(&cat(&[te, &filler(40), &own]), &chunks))
        .add("identity", post(&cat(&[&own, b"Transfer-Encoding: identity\r\n"]), body))
        .add("empty_coding", post(&cat(&[&own, b"Transfer-Encoding:\r\n"]), body))
        .add("unknown_coding", post(&cat(&[b"Transfer-Encoding: x\r\n", &own]), body))
        .add("tab", post(&cat(&[&own, b"Transfer-Encoding:\tchunked\r\n"]), &chunks))
        .add("classic", {
            let hidden = cat(&[b"0\r\n\r\n", &good()]);
            let fields = format!("Content-Length: {}\r\n", hidden.len());
            post(&cat(&[fields.as_bytes(), te]), &hidden)
        });
}

pub(crate) fn codings(cases: &mut Vec<RequestCase>) {
    let values: &[&[u8]] = &[
        b"x",
        b"identity",
        b"gzip",
        b"deflate",
        b"compress",
        b"br",
        b"trailers",
        b"gzip, chunked",
        b"identity, chunked",
        b"identity,chunked",
        b"x, chunked",
        b"chunked, chunked",
        b"chunked,chunked",
        b"chunked, identity",
        b"chunked, gzip",
        b"chunked chunked",
        b"chunked;q=1",
        b"chunked;q=0",
        b"chunked;",
        b"chunked; x=\"y\"",
        b"chunked,",
        b",chunked",
        b", chunked",
        b",,chunked,,",
        b"",
        b" \t",
        b",",
        b"\"chunked\"",
        b"'chunked'",
        b"(chunked)",
        b"[chunked]",
        b"chunked.",
        b".chunked",
        b"xchunked",
        b"chunkedx",
        b"chunke",
        b"ch unked",
        b"chun\tked",
        b"chunked/1",
        b"chunked:",
        b"\x0bchunked",
        b"chunked\x0b",
        b"\x0cchunked",
        b"chunked\x0c",
        b"\0chunked",
        b"chunked\0",
        b"\xa0chunked",
        b"chunked\xa0",
        b"\xc2\xa0chunked",
        b"\x85chunked",
        b"\xffchunked",
        b"chunked\xff",
        b"\x7fchunked",
        b"chun\xe2\x84\xaaed",
        b"c\x08chunked",
        b"chunked\r",
        b"\nchunked",
        b"x\nchunked",
        b"\rchunked",
        b"chunked\r\n , x",
        b"\r\n chunked",
        b"\r\n\tchunked",
    ];
    Row::new(cases, "coding_value", BAD_CODING).each(values, with_coding);

    let lines: &[&[u8]] = &[
        b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\ntransfer-encoding:\r\n",
        b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\nTRANSFER-ENCODING: chunked\r\n",
    ];
    Row::new(cases, "coding_repeated", BAD_CODING).each(lines, with_lines);

    let chunks = chunked(b"\r\n", b"\r\n", b"0\r\n\r\n");
    let old = |fields: &[u8]| {
        cat(&[b"POST /v1/chat/completions HTTP/1.0\r\n", FIELDS, fields, b"\r\n", &chunks])
    };
    Row::new(cases, "coding_in_http_1_0", BAD)
        .add("alone", old(b"Transfer-Encoding: chunked\r\n"))
        .add("with_length", old(&cat(&[&length(), b"Transfer-Encoding: chunked\r\n"])))
        .add("keep_alive", old(b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n"))
        .add("identity", old(b"Transfer-Encoding: identity\r\n"));

    // The nominations of `Connection` never change the framing.
    let body = DOCUMENT.as_bytes();
    Row::new(cases, "connection_names_framing", Want::Serve(1))
        .add("length", post(&cat(&[b"Connection: Content-Length\r\n", &length()]), body))
        .add("host", post(&cat(&[b"Connection: keep-alive, Host\r\n", &length()]), body))
        .add(
            "coding",
            post(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", &chunks),
        )
        .add("nonsense", post(&cat(&[b"Connection: ,;,\"\r\n", &length()]), body));
}

pub(crate) fn request_lines(cases: &mut Vec<RequestCase>) {
    let rest = cat(&[FIELDS, &length(), b"\r\n", DOCUMENT.as_bytes()]);
    let line = |line: &[u8]| cat(&[line, &rest]);
    let lines: &[&[u8]] = &[
        b"POST  /v1/chat/completions HTTP/1.1\r\n",
        b"POST /v1/chat/completions  HTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1 \r\n",
        b" POST /v1/chat/completions HTTP/1.1\r\n",
        b"POST\t/v1/chat/completions HTTP/1.1\r\n",
        b"POST /v1/chat/completions\tHTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1\t\r\n",
        b"POST /v1/chat/completions\r\n",
        b"POST /v1/chat/completions \r\n",
        b"POST HTTP/1.1\r\n",
        b"POST  HTTP/1.1\r\n",
        b"POST\r\n",
        b"/v1/chat/completions HTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.1\n",
        b"POST /v1/chat/completions HTTP/1.1\r",
        b"POST /v1/chat/completions HTTP/1.1\r\r\n",
        b"POST /v1/chat/completions http/1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.10\r\n",
        b"POST /v1/chat/completions HTTP/1\r\n",
        b"POST /v1/chat/completions HTTP/01.1\r\n",
        b"POST /v1/chat/completions HTTP 1.1\r\n",
        b"POST /v1/chat/completions HTTP/1,1\r\n",
        b"POST /v1/chat/completions HTTP/1.1x\r\n",
        b"POST /v1/chat/completions XTTP/1.1\r\n",
        b"POST /v1/chat/completions HTTP/-1.1\r\n",
        b"POST /v1/chat/completions HTTP/1.\r\n",
        b"POST /v1/chat/completions HTTP/a.b\r\n",
        b"POST /v1/chat /completions HTTP/1.1\r\n",
        b"PO\0ST /v1/chat/completions HTTP/1.1\r\n",
        b"POST /v1/chat\0completions HTTP/1.1\r\n",
        b"POST /v1/chat/\x01 HTTP/1.1\r\n",
        b"POST /v1/chat/\x7f HTTP/1.1\r\n",
        b"POST /v1/\x80 HTTP/1.1\r\n",
        b"POST /v1/\xc3\xa9 HTTP/1.1\r\n",
        b"POST /v1/\xff HTTP/1.1\r\n",
        b"P\xc3\x96ST / HTTP/1.1\r\n",
        b"P(ST / HTTP/1.1\r\n",
        b"P:ST / HTTP/1.1\r\n",
        b"\"POST\" / HTTP/1.1\r\n",
        b"POST,GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET /\r\n",
        b"GET / \r\n",
        b"GET\r\n",
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\n",
        b"\nPOST / HTTP/1.1\r\n",
        b"\rPOST / HTTP/1.1\r\n",
        b"\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x80\x2e\x01\x03\x01",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"\xef\xbb\xbfPOST / HTTP/1.1\r\n",
        b"{\"model\":\"m\"}\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"EHLO localhost\r\n",
        b"\x05\x01\x00",
        b"SSH-2.0-x\r\n",
    ];
    Row::new(cases, "request_line", BAD).each(lines, line);

    let lines: &[&[u8]] = &[
        b"POST /v1/chat/completions HTTP/2.0\r\n",
        b"POST /v1/chat/completions HTTP/0.9\r\n",
        b"POST /v1/chat/completions HTTP/1.2\r\n",
        b"POST /v1/chat/completions HTTP/3.0\r\n",
        b"POST /v1/chat/completions HTTP/9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    Row::new(cases, "request_version", Want::Refuse(&[400, 505])).each(lines, line);

    let long = [b"A".repeat(33), b"A".repeat(8000)];
    Row::new(cases, "request_method", Want::Refuse(&[400, 501]))
        .add("33_bytes", line(&cat(&[&long[0], b" / HTTP/1.1\r\n"])))
        .add("8000_bytes", line(&cat(&[&long[1], b" / HTTP/1.1\r\n"])));

    let lines: &[&[u8]] = &[
        b"CONNECT localhost:80 HTTP/1.1\r\n",
        b"CONNECT / HTTP/1.1\r\n",
        b"CONNECT http://169.254.169.254/ HTTP/1.1\r\n",
        b"TRACE / HTTP/1.1\r\n",
        b"TRACE /v1/chat/completions HTTP/1.1\r\n",
        b"connect / HTTP/1.1\r\n",
        b"TRACE * HTTP/1.1\r\n",
    ];
    Row::new(cases, "request_tunnel", Want::Refuse(&[405, 400, 501])).each(lines, line);

    let lines: &[&[u8]] = &[
        b"post /v1/chat/completions HTTP/1.1\r\n",
        b"PUT /v1/chat/completions HTTP/1.1\r\n",
        b"DELETE /v1/chat/completions HTTP/1.1\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"X!#$%&'*+-.^_`|~ / HTTP/1.1\r\n",
    ];
    let answer = Want::Answer { statuses: &[200, 204, 400, 403, 404, 405, 501], after: 0 };
    Row::new(cases, "request_method_other", answer).each(lines, line);
}

pub(crate) fn targets(cases: &mut Vec<RequestCase>) {
    let rest = cat(&[FIELDS, &length(), b"\r\n", DOCUMENT.as_bytes()]);
    let target = |target: &[u8]| cat(&[b"POST ", target, b" HTTP/1.1\r\n", &rest]);
    let bad: &[&[u8]] = &[
        b"*",
        b"@evil.example/v1/chat/completions",
        b"evil.example/v1/chat/completions",
        b"evil.example:80",
        b"v1/chat/completions",
        b"?x",
        b"#",
        b"/v1/chat/completions#x",
        b"/#@evil.example",
        b"http://",
        b"http:///v1/chat/completions",
        b"http:/v1",
        b"http://u@evil.example/",
        b"http://u:p@evil.example/v1/chat/completions",
        b"http://evil.example:x/",
        b"http://evil.example:99999/",
        b"http://[::1/",
        b"http://a b/",
        b"ftp://evil.example/",
        b"file:///etc/passwd",
        b"javascript:alert(1)",
        b"gopher://127.0.0.1:6379/_x",
        b"http://a,b/",
        b"http://%65vil/",
        b"://x/",
        b"\\\\evil\\x",
        b"http:\\\\evil.example\\",
        b"ws://evil.example/",
        b"http://evil.example\\@x/",
    ];
    Row::new(cases, "target", BAD).each(bad, target);

    // None of these is a path that is served, and none may move the upstream.
    let elsewhere: &[&[u8]] = &[
        b"//evil.example/v1/none",
        b"/@evil.example",
        b"///evil.example//",
        b"/\\evil.example",
        b"/v1/../../etc/passwd",
        b"/v1/chat/completions/../../none",
        b"/v1/chat%2fcompletions",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions%0d%0aX:%20y",
        b"/%2e%2e/%2e%2e/none",
        b"/v1/chat/completions%252e",
        b"/v1/chat/completions;x=y",
        b"/%76%31/chat/completions",
        b"/V1/Chat/Completions",
        b"http://169.254.169.254/latest/meta-data/",
        b"/latest/meta-data/",
    ];
    let answer = Want::Answer { statuses: &[400, 403, 404, 405, 421], after: 0 };
    Row::new(cases, "target_elsewhere", answer).each(elsewhere, target);

    let fine: &[&[u8]] = &[
        b"/v1/chat/completions",
        b"/v1/chat/completions?api-version=1&x=%20",
        b"/v1/chat/completions?",
        b"/v1/chat/completions?a?b=http://evil.example/",
        b"http://localhost/v1/chat/completions",
        b"HTTP://localhost/v1/chat/completions",
        b"http://localhost:8080/v1/chat/completions?x",
    ];
    Row::new(cases, "target_fine", Want::Serve(1)).each(fine, target);
}

pub(crate) fn upgrades(cases: &mut Vec<RequestCase>) {
    let own = length();
    let around = |line: &[u8]| post(&cat(&[line, &own]), DOCUMENT.as_bytes());
    let odd: &[&[u8]] = &[
        b"Expect: 200-ok\r\n",
        b"Expect: 100-continue, 100-continue\r\n",
        b"Expect: 100-continue\r\nExpect: 100-continue\r\n",
        b"Expect: \"100-continue\"\r\n",
        b"Expect: 100-continue;x\r\n",
        b"Expect: 100-continuex\r\n",
        b"Expect:\r\n",
        b"Expect: \xa0100-continue\r\n",
        b"Expect: x\r\nExpect: 100-continue\r\n",
    ];
    Row::new(cases, "expect", Want::Refuse(&[417, 400])).each(odd, around);
    let fine: &[&[u8]] = &[
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"Upgrade: TLS/1.0\r\n",
        b"Upgrade: \r\n",
        b"Connection: upgrade\r\n",
    ];
    let twice = |line: &[u8]| cat(&[&around(line), &good()]);
    Row::new(cases, "upgrade_ignored", Want::Serve(2)).each(fine, twice);
}
