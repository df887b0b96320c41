//! Requests with wrong, foreign, many or large fields, or odd and right ones.

use super::heads::{filler, with_lines};
use super::{DOCUMENT, FIELDS, LINE, RequestCase, Row, Want, cat, length, post};

const BAD: Want = Want::Refuse(&[400]);

pub(crate) fn field_lines(cases: &mut Vec<RequestCase>) {
    let lines: &[&[u8]] = &[
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding\0: chunked\r\n",
        b"Transfer-Encoding\x85: chunked\r\n",
        b"Transfer-Encoding\xa0: chunked\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n",
        b"Transfer-\r\nEncoding: chunked\r\n",
        b"Transfer-\r\n Encoding: chunked\r\n",
        b"Transfer-Encoding\r\n: chunked\r\n",
        b"Transfer-Encoding chunked\r\n",
        b"\0Transfer-Encoding: chunked\r\n",
        b"Transfer Encoding: chunked\r\n",
        b"Transfer-Encoding(x): chunked\r\n",
        b"\"Transfer-Encoding\": chunked\r\n",
        b"X: a\nTransfer-Encoding: chunked\r\n",
        b"X: a\rTransfer-Encoding: chunked\r\n",
        b"X: a\r\rTransfer-Encoding: chunked\r\n",
        b"X: a\r\r\nTransfer-Encoding: chunked\r\n",
        b"X: a\n\rTransfer-Encoding: chunked\r\n",
        b"X: a\n\nTransfer-Encoding: chunked\r\n",
        b"X: a\0Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\n",
        b"Content-Length : 5\r\n",
        b"Content-Length\n: 5\r\n",
        b"Content Length: 5\r\n",
        b"\r Content-Length: 5\r\n",
    ];
    Row::new(cases, "field_hides_framing", BAD).each(lines, with_lines);

    let lines: &[&[u8]] = &[
        b": x\r\n",
        b"no colon\r\n",
        b"nocolon\r\n",
        b"a b: c\r\n",
        b"a(: c\r\n",
        b"a@b: c\r\n",
        b"a/b: c\r\n",
        b"{a}: b\r\n",
        b"\xc3\xa9: x\r\n",
        b"a\x01: b\r\n",
        b"a\x7f: b\r\n",
        b"X: a\0b\r\n",
        b"X: \x01\r\n",
        b"X: \x1b[31m\r\n",
        b"X: \x7f\r\n",
        b"X: \x08\r\n",
        b"X: a\x0bb\r\n",
        b"X: a\rb\r\n",
        b"X: a\r",
        b"X: a\n",
        b"=: \x00\r\n",
    ];
    let own = length();
    let around = |line: &[u8]| post(&cat(&[line, &own]), DOCUMENT.as_bytes());
    Row::new(cases, "field_bytes", BAD).each(lines, around);

    let lines: &[&[u8]] = &[
        b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n",
        b"X: a\r\n \r\n",
        b"X:\r\n a\r\n",
        b"X: a\r\n Content-Length: 5\r\n",
    ];
    Row::new(cases, "field_folded", BAD).each(lines, around);
    let body = DOCUMENT.as_bytes();
    Row::new(cases, "field_folded", BAD)
        .add("first_line", cat(&[LINE, b" Host: localhost\r\n", FIELDS, &own, b"\r\n", body]))
        .add("first_line_tab", cat(&[LINE, b"\tX: y\r\n", FIELDS, &own, b"\r\n", body]))
        .add("end", post(&cat(&[&own, b" \r\n"]), body));

    let lines: &[&[u8]] = &[
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Encoding: gzip\r\ncontent-encoding:\r\n",
        b"X-Api-Key: a\r\nx-api-key: b\r\n",
        b"Origin: http://localhost\r\norigin: null\r\n",
    ];
    Row::new(cases, "field_repeated", BAD).each(lines, around);

    let lines: &[&[u8]] = &[
        b"X:\r\n",
        b"X:a\r\n",
        b"X: \t a \t \r\n",
        b"X-Utf8: \xc3\xa9\r\n",
        b"X-Latin: \xe9\r\n",
        b"X: a:b:c\r\n",
        b"!#$%&'*+-.^_`|~09azAZ: x\r\n",
        b"X: (\"\\)\r\nX: again\r\n",
        b"Transfer_Encoding: chunked\r\n",
        b"X-Transfer-Encoding: chunked\r\n",
        b"Content_Length: 1\r\n",
        b"Content-Lengthx: 1\r\n",
    ];
    Row::new(cases, "field_fine", Want::Serve(1)).each(lines, around);
}

pub(crate) fn hosts(cases: &mut Vec<RequestCase>) {
    let rest =
        cat(&[b"Content-Type: application/json\r\n", &length(), b"\r\n", DOCUMENT.as_bytes()]);
    let lines = |lines: &[u8]| cat(&[LINE, lines, &rest]);
    let host = |value: &[u8]| lines(&cat(&[b"Host: ", value, b"\r\n"]));
    let values: &[&[u8]] = &[
        b"",
        b" ",
        b"u@localhost",
        b"u:p@localhost",
        b"localhost/",
        b"localhost/v1",
        b"local host",
        b"local\thost",
        b"localhost:",
        b"localhost:x",
        b"localhost:80x",
        b"localhost:-1",
        b"localhost:+80",
        b"localhost:65536",
        b"localhost:0x50",
        b"localhost:80:80",
        b"localhost:80/",
        b"localhost,evil.example",
        b"localhost, localhost",
        b"<script>",
        b"\"localhost\"",
        b"*",
        b"localhost?x",
        b"localhost#x",
        b"loc%61lhost",
        b"localhost\0",
        b"local\x01host",
        b"localhost\x7f",
        b"localhost\xa0",
        b"\xd0\xbb",
        b"[::1",
        b"::1",
        b"[]",
        b"[::1]x",
        b"[::1]80",
        b"[fe80::1%25eth0]",
        b"http://localhost",
        b"localhost;x",
        b"..",
        b".localhost",
        b"a..b",
        b"${jndi:ldap://evil.example/x}",
        b"localhost\\",
        b"@",
        b":80",
        b"localhost:8080@evil.example",
        b"'localhost'",
    ];
    Row::new(cases, "host", BAD).each(values, host);

    Row::new(cases, "host", BAD)
        .add("missing", lines(b""))
        .add("twice_same", lines(b"Host: localhost\r\nHost: localhost\r\n"))
        .add("twice_different", lines(b"Host: localhost\r\nhost: evil.example\r\n"))
        .add("empty_and_good", lines(b"Host:\r\nHost: localhost\r\n"))
        .add("space_before_colon", lines(b"Host : localhost\r\n"))
        .add("folded", lines(b"Host:\r\n localhost\r\n"))
        .add("absolute_without", {
            let line = b"POST http://localhost/v1/chat/completions HTTP/1.1\r\n";
            cat(&[line, &rest])
        })
        .add("absolute_with_bad", {
            let line = b"POST http://localhost/v1/chat/completions HTTP/1.1\r\nHost: a/b\r\n";
            cat(&[line, &rest])
        })
        .add("bad_in_http_1_0", {
            cat(&[b"POST /v1/chat/completions HTTP/1.0\r\nHost: u@localhost\r\n", &rest])
        });

    let foreign: &[&[u8]] = &[
        b"evil.example",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example:80",
        b"2130706433",
        b"0x7f.1",
        b"evil.example.",
        b"[2001:db8::1]:80",
        b"169.254.169.254",
    ];
    let answer = Want::Answer { statuses: &[403, 421], after: 0 };
    Row::new(cases, "host_foreign", answer.clone()).each(foreign, host);
    Row::new(cases, "host_foreign", answer)
        .add("origin", {
            let fields = b"Host: localhost\r\nOrigin: https://evil.example\r\n";
            lines(fields)
        })
        .add("origin_null", lines(b"Host: localhost\r\nOrigin: null\r\n"))
        .add("origin_prefix", {
            lines(b"Host: localhost\r\nOrigin: http://localhost.evil.example\r\n")
        });

    let fine: &[&[u8]] = &[
        b"localhost",
        b"LOCALHOST:8080",
        b"127.0.0.1:1",
        b"[::1]",
        b"[::1]:8080",
        b"\tlocalhost \t",
    ];
    Row::new(cases, "host_fine", Want::Serve(1)).each(fine, host);
}

pub(crate) fn sizes(cases: &mut Vec<RequestCase>) {
    let own = length();
    let body = DOCUMENT.as_bytes();
    let around = |line: &[u8]| post(&cat(&[line, &own]), body);
    let too_much = Want::Refuse(&[400, 413, 414, 431]);
    Row::new(cases, "size", too_much)
        .add("10000_fields", around(&filler(10_000)))
        .add("101_fields", around(&filler(101)))
        .add("100_kb_name", around(&cat(&[&b"a".repeat(100_000), b": x\r\n"])))
        .add("1_mb_value", around(&cat(&[b"X: ", &b"a".repeat(1_000_000), b"\r\n"])))
        .add("70_kb_of_spaces", around(&cat(&[b"X: ", &b" ".repeat(70_000), b"\r\n"])))
        .add("100_kb_target", {
            cat(&[b"POST /", &b"a".repeat(100_000), b" HTTP/1.1\r\n", FIELDS, b"\r\n"])
        })
        .add("100_kb_method", cat(&[&b"A".repeat(100_000), b" / HTTP/1.1\r\n\r\n"]))
        .add("100_kb_of_nothing", b"a".repeat(100_000))
        .add("50_000_empty_lines", b"\r\n".repeat(50_000));
    Row::new(cases, "size_fine", Want::Serve(1))
        .add("8_kb_value", around(&cat(&[b"X: ", &b"a".repeat(8192), b"\r\n"])))
        .add("90_fields", around(&filler(90)))
        .add("7_kb_target", {
            let query = b"a".repeat(7000);
            let line = cat(&[b"POST /v1/chat/completions?", &query, b" HTTP/1.1\r\n"]);
            cat(&[&line, FIELDS, &own, b"\r\n", body])
        });
}
