//! Requests whose body is wrong, or odd and right.

use super::post_chunked;
use super::{DOCUMENT, FIELDS, LINE, RequestCase, Row, Want, cat, chunked, good, length, post};

const BAD: Want = Want::Refuse(&[400]);
const END: &[u8] = b"0\r\n\r\n";

/// [`DOCUMENT`] behind this size line, which has its line end.
fn sized(line: &[u8]) -> Vec<u8> {
    post_chunked(&cat(&[line, DOCUMENT.as_bytes(), b"\r\n", END]))
}

pub(crate) fn chunk_sizes(cases: &mut Vec<RequestCase>) {
    let hex = format!("{:x}", DOCUMENT.len());
    let n = hex.as_bytes();
    let wrap_32 = format!("{:x}", (1_u64 << 32) + DOCUMENT.len() as u64);
    let wrap_64 = format!("{:x}", (1_u128 << 64) + DOCUMENT.len() as u128);
    let lines: Vec<Vec<u8>> = vec![
        cat(&[b"0x", n, b"\r\n"]),
        cat(&[b"0X", n, b"\r\n"]),
        cat(&[b"+", n, b"\r\n"]),
        cat(&[b"-", n, b"\r\n"]),
        cat(&[b"-1\r\n"]),
        cat(&[b"4_7\r\n"]),
        cat(&[b" ", n, b"\r\n"]),
        cat(&[n, b" \r\n"]),
        cat(&[n, b"\t\r\n"]),
        cat(&[b"\t", n, b"\r\n"]),
        cat(&[b"4 7\r\n"]),
        cat(&[n, b" junk\r\n"]),
        cat(&[n, b"junk\r\n"]),
        cat(&[n, b"h\r\n"]),
        cat(&[n, b",0\r\n"]),
        cat(&[n, b".0\r\n"]),
        cat(&[n, b"\0\r\n"]),
        cat(&[b"\0", n, b"\r\n"]),
        cat(&[n, b"\xa0\r\n"]),
        cat(&[b"\xa0", n, b"\r\n"]),
        cat(&[b"\"", n, b"\"\r\n"]),
        b"\r\n".to_vec(),
        cat(&[b"\r\n", n, b"\r\n"]),
        b";\r\n".to_vec(),
        b";a=b\r\n".to_vec(),
        b"g\r\n".to_vec(),
        b"\xef\xbc\x94\xef\xbc\x97\r\n".to_vec(),
        cat(&[&b"0".repeat(15), n, b"\r\n"]),
        cat(&[&b"0".repeat(65_536), n, b"\r\n"]),
        cat(&[wrap_32.as_bytes(), b"\r\n"]),
        cat(&[wrap_64.as_bytes(), b"\r\n"]),
        b"100000000\r\n".to_vec(),
        b"7fffffffffffffff\r\n".to_vec(),
        b"8000000000000000\r\n".to_vec(),
        b"ffffffffffffffff\r\n".to_vec(),
        b"FFFFFFFFFFFFFFFFF\r\n".to_vec(),
        b"10000000000000000\r\n".to_vec(),
    ];
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    Row::new(cases, "chunk_size", BAD).each(&lines, sized);
    // Read as "0", each of these would be a clean end.
    Row::new(cases, "chunk_size_as_end", BAD)
        .each(&[b"\r\n\r\n", b";a=b\r\n\r\n", b";\r\n\r\n"], post_chunked);
    Row::new(cases, "chunk_size_large", Want::Refuse(&[400, 413]))
        .add("u32_max", sized(b"ffffffff\r\n"))
        .add("2_gib", sized(b"80000000\r\n"));
    let upper = format!("{:X}", DOCUMENT.len());
    let fine = [cat(&[upper.as_bytes(), b"\r\n"]), cat(&[b"00000", n, b"\r\n"])];
    let fine: Vec<&[u8]> = fine.iter().map(Vec::as_slice).collect();
    Row::new(cases, "chunk_size_fine", Want::Serve(1)).each(&fine, sized);
}

pub(crate) fn chunk_lines(cases: &mut Vec<RequestCase>) {
    let whole = |size: &[u8], data: &[u8], end: &[u8]| post_chunked(&chunked(size, data, end));
    Row::new(cases, "chunk_line_end", BAD)
        .add("size_lf", whole(b"\n", b"\r\n", END))
        .add("size_cr", whole(b"\r", b"\r\n", END))
        .add("size_cr_x", whole(b"\rX", b"\r\n", END))
        .add("size_cr_cr_lf", whole(b"\r\r\n", b"\r\n", END))
        .add("size_lf_cr", whole(b"\n\r", b"\r\n", END))
        .add("size_none", whole(b"", b"\r\n", END))
        .add("data_lf", whole(b"\r\n", b"\n", END))
        .add("data_cr", whole(b"\r\n", b"\r", END))
        .add("data_cr_x", whole(b"\r\n", b"\rX", END))
        .add("data_none", whole(b"\r\n", b"", END))
        .add("data_x", whole(b"\r\n", b"XX", END))
        .add("data_too_long", whole(b"\r\n", b"X\r\n", END))
        .add("data_cr_cr_lf", whole(b"\r\n", b"\r\r\n", END))
        .add("last_lf", whole(b"\r\n", b"\r\n", b"0\n\n"))
        .add("last_cr_x", whole(b"\r\n", b"\r\n", b"0\rX\r\n\r\n"))
        .add("last_then_lf", whole(b"\r\n", b"\r\n", b"0\r\n\n"))
        .add("last_then_cr_x", whole(b"\r\n", b"\r\n", b"0\r\n\rX"))
        .add("last_glued", whole(b"\r\n", b"\r\n", &cat(&[b"0\r\n", &good()])));

    // A line end that one reader sees inside an extension and another as the end of it.
    let hidden = good();
    Row::new(cases, "chunk_terminator", BAD)
        .add("ext_lf", whole(b";a\n", b"\r\n", END))
        .add("ext_lf_crlf", whole(b";\n\r\n", b"\r\n", END))
        .add("ext_cr", whole(b";a\rb\r\n", b"\r\n", END))
        .add("ext_lf_hidden", post_chunked(&cat(&[b"2;\nxx\r\n47\r\n0\r\n\r\n", &hidden, END])))
        .add("last_ext_lf", whole(b"\r\n", b"\r\n", &cat(&[b"0;\n\r\n\r\n", &hidden])))
        .add("spill", post_chunked(&cat(&[b"5\r\nAAAAAXX2\r\n45\r\n", &hidden, END])))
        .add("spill_crlf", post_chunked(&cat(&[b"5\r\nAAAAA\rX2\r\n", &hidden, END])));
}

pub(crate) fn extensions(cases: &mut Vec<RequestCase>) {
    let ext = |ext: &[u8]| post_chunked(&chunked(&cat(&[ext, b"\r\n"]), b"\r\n", END));
    let bad: &[&[u8]] = &[
        b";",
        b";;a",
        b";=b",
        b";a=",
        b";a==b",
        b";a=b=c",
        b";a=\"b",
        b";a=\"b\"c",
        b";a=\"\r\n\"",
        b";a=\"b\rc\"",
        b";a=\"b\nc\"",
        b";a=\"\\\r\n\"",
        b";a\0",
        b";a=\0",
        b";a=\"\0\"",
        b";a=\"\\\0\"",
        b"; a=b",
        b" ;a=b",
        b";a =b",
        b";a= b",
        b";a=b ",
        b";\ta",
        b";a b",
        b";\xc3\xa9=x",
        b";a=\xff",
        b";(a)",
        b";a=b,c",
        b";\x7f",
        b";a=\"\x01\"",
        b";a\x0b",
        b"\n;a=b",
        b";a\n0\r\n\r\nGET / HTTP/1.1",
    ];
    Row::new(cases, "extension", BAD).each(bad, ext);
    let big = cat(&[b";a=", &b"b".repeat(65_536)]);
    let quoted = cat(&[b";a=\"", &b" ".repeat(65_536), b"\""]);
    let names = b";a".repeat(10_000);
    let spread: Vec<u8> =
        b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=bbbbbbbbbbbbbbbbbbbbb\r\nx\r\n".repeat(20_000);
    Row::new(cases, "extension", BAD)
        .add("64_kib", ext(&big))
        .add("64_kib_quoted", ext(&quoted))
        .add("10000_names", ext(&names))
        .add("1_mib_in_all", post_chunked(&cat(&[&spread, END])))
        .add("64_kib_last", {
            post_chunked(&chunked(b"\r\n", b"\r\n", &cat(&[b"0", &big, b"\r\n\r\n"])))
        });
    let fine: &[&[u8]] = &[
        b";a",
        b";a=b",
        b";a=b;c;d=e",
        b";a=\"\"",
        b";a=\"b c\td\"",
        b";a=\"\\\"\\\\\"",
        b";chunk-signature=0123456789abcdef",
        b";a=\"\xc3\xa9\"",
        b";a=\"\\\xc3\xa9\"",
        b";a=\";\"",
        b";!#$%&'*+-.^_`|~=x",
    ];
    Row::new(cases, "extension_fine", Want::Serve(1)).each(fine, ext);
}

pub(crate) fn trailers(cases: &mut Vec<RequestCase>) {
    let with =
        |lines: &[u8]| post_chunked(&chunked(b"\r\n", b"\r\n", &cat(&[b"0\r\n", lines, b"\r\n"])));
    let bad: &[&[u8]] = &[
        b"x\r\n",
        b": x\r\n",
        b"a b: c\r\n",
        b"a : c\r\n",
        b" a: b\r\n",
        b"\ta: b\r\n",
        b"a: b\r\n c\r\n",
        b"a: \0\r\n",
        b"a\0: b\r\n",
        b"a: b\n",
        b"a: b\rc\r\n",
        b"a: \x7f\r\n",
        b"a: b\r\r\n",
        b"\xc3\xa9: b\r\n",
        b"a\r\n: b\r\n",
        b"GET / HTTP/1.1\r\n",
    ];
    Row::new(cases, "trailer", BAD).each(bad, with);
    Row::new(cases, "trailer", BAD)
        .add("64_kib_value", with(&cat(&[b"a: ", &b"b".repeat(65_536), b"\r\n"])))
        .add("64_kib_name", with(&cat(&[&b"a".repeat(65_536), b": b\r\n"])))
        .add("10000_lines", with(&b"a: b\r\n".repeat(10_000)));
    let dropped: &[&[u8]] = &[
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: evil.example\r\n",
        b"Authorization: Bearer stolen\r\n",
        b"X-Checksum: 1\r\nX-Other:\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Connection: close\r\n",
    ];
    let twice = |lines: &[u8]| cat(&[&with(lines), &good()]);
    Row::new(cases, "trailer_dropped", Want::Serve(2)).each(dropped, twice);
}

pub(crate) fn cut(cases: &mut Vec<RequestCase>) {
    let n = DOCUMENT.len();
    let body = DOCUMENT.as_bytes();
    let more = format!("Content-Length: {}\r\n", n + 1);
    let chunks = |end: &[u8]| post_chunked(&chunked(b"\r\n", b"\r\n", end));
    Row::new(cases, "cut", Want::Cut)
        .add("nothing", Vec::new())
        .add("empty_lines", b"\r\n\r\n".to_vec())
        .add("method", b"POST".to_vec())
        .add("request_line", LINE.to_vec())
        .add("request_line_cr", LINE[..LINE.len() - 1].to_vec())
        .add("fields", cat(&[LINE, FIELDS]))
        .add("last_lf", cat(&[LINE, FIELDS, &length(), b"\r"]))
        .add("body_none", post(&length(), b""))
        .add("body_half", post(&length(), &body[..n / 2]))
        .add("body_but_one", post(&length(), &body[..n - 1]))
        .add("body_one_more_said", post(more.as_bytes(), body))
        .add("chunked_none", post_chunked(b""))
        .add("chunked_size", post_chunked(b"4"))
        .add("chunked_size_cr", post_chunked(b"47\r"))
        .add("chunked_half", post_chunked(&cat(&[b"47\r\n", &body[..n / 2]])))
        .add("chunked_data", chunks(b""))
        .add("chunked_last_size", chunks(b"0"))
        .add("chunked_last_line", chunks(b"0\r\n"))
        .add("chunked_last_cr", chunks(b"0\r\n\r"))
        .add("chunked_trailer", chunks(b"0\r\nA: b\r\n"));
}

pub(crate) fn early_answers(cases: &mut Vec<RequestCase>) {
    // The body of a request that is answered before it is read looks like a request itself.
    let hidden = good();
    let head = |line: &str, fields: &str| {
        let length = hidden.len();
        format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{fields}\r\n"
        )
        .into_bytes()
    };
    let answer = |statuses| Want::Answer { statuses, after: 0 };
    Row::new(cases, "early", answer(&[400, 404, 405]))
        .add("unknown_path", cat(&[&head("POST /none", ""), &hidden]))
        .add("wrong_method", cat(&[&head("DELETE /v1/chat/completions", ""), &hidden]))
        .add("get_with_body", cat(&[&head("GET /v1/chat/completions", ""), &hidden]))
        .add("unknown_method", cat(&[&head("BREW /v1/chat/completions", ""), &hidden]))
        .add("not_json", cat(&[&head("POST /v1/chat/completions", ""), &hidden]));
    Row::new(cases, "early", answer(&[200]))
        .add("health_with_body", cat(&[&head("GET /healthz", ""), &hidden]));
    Row::new(cases, "early", answer(&[415, 400])).add(
        "unknown_coding",
        cat(&[&head("POST /v1/chat/completions", "Content-Encoding: x\r\n"), &hidden]),
    );
    let size = format!("{:x}\r\n", hidden.len());
    let chunks = cat(&[size.as_bytes(), &hidden, b"\r\n0\r\n\r\n"]);
    Row::new(cases, "early", answer(&[400, 404])).add(
        "unknown_path_chunked",
        cat(&[
            b"POST /none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            &chunks,
        ]),
    );
    Row::new(cases, "early", Want::Answer { statuses: &[404], after: 1 }).add(
        "unknown_path_then_good",
        cat(&[b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", &hidden]),
    );
}

pub(crate) fn must_work(cases: &mut Vec<RequestCase>) {
    let body = DOCUMENT.as_bytes();
    let n = DOCUMENT.len();
    let lengths = |value: String| post(format!("Content-Length:{value}\r\n").as_bytes(), body);
    let bytewise: Vec<u8> =
        body.iter().flat_map(|&byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n']).collect();
    Row::new(cases, "works", Want::Serve(1))
        .add("plain", good())
        .add("length_after_tab", lengths(format!("\t{n}")))
        .add("length_padded", lengths(format!(" \t {n} \t ")))
        .add("length_glued", lengths(n.to_string()))
        .add("length_leading_zeros", lengths(format!(" 000{n}")))
        .add("coding_other_case", {
            post(b"TRANSFER-ENCODING:\tChUnKeD \r\n", &chunked(b"\r\n", b"\r\n", END))
        })
        .add("byte_chunks", post_chunked(&cat(&[&bytewise, END])))
        .add("one_empty_line_first", cat(&[b"\r\n", &good()]))
        .add("two_empty_lines_first", cat(&[b"\r\n\r\n", &good()]))
        .add("expect", post(&cat(&[&length(), b"Expect: 100-continue\r\n"]), body))
        .add("expect_other_case", post(&cat(&[b"expect:100-Continue\r\n", &length()]), body))
        .add("http_1_0", {
            let line = b"POST /v1/chat/completions HTTP/1.0\r\n";
            cat(&[line, FIELDS, &length(), b"\r\n", body])
        })
        .add("close", post(&cat(&[&length(), b"Connection: close\r\n"]), body))
        .add("close_hides_rest", {
            cat(&[&post(&cat(&[&length(), b"Connection: x, CLOSE\r\n"]), body), &good()])
        });
    Row::new(cases, "works", Want::Serve(3))
        .add("pipelined", cat(&[&good(), &good(), &good()]))
        .add("pipelined_mixed", {
            let chunks = post_chunked(&chunked(b"\r\n", b"\r\n", END));
            cat(&[&chunks, &good(), &chunks])
        })
        .add("pipelined_with_empty_line", cat(&[&good(), b"\r\n", &good(), b"\r\n\r\n", &good()]));
}
