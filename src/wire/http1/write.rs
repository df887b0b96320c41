//! Heads and chunks of our own. Everything that goes into a head is checked here once more, so that
//! no value from a body, a file or a peer can ever begin a second line.

use super::fields::{is_token, is_value};
use std::fmt;

/// How the body of a message that we send is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none, and nothing is said about it (a GET, a 204).
    None,
    /// So many bytes.
    Known(u64),
    /// In chunks.
    Chunked,
    /// Up to the end of the connection: a stream to an HTTP/1.0 client. Replies only, and not with
    /// `keep_alive`.
    UntilClose,
}

/// Why a head is not written. Nothing was appended then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The method is not a token, or the target is not visible ASCII.
    RequestLine,
    /// The status is not 200 to 599.
    Status(u16),
    /// A field name is not a token, or is one that only this module writes.
    Name(String),
    /// The value of this field has a control byte.
    Value(String),
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestLine => f.write_str("the request line cannot be written as it is"),
            Self::Status(status) => write!(f, "{status} is not a status that can be sent"),
            Self::Name(name) => {
                write!(f, "the header name '{}' cannot be sent", name.escape_default())
            }
            Self::Value(name) => {
                write!(f, "the value of the header '{name}' has bytes that cannot be sent")
            }
        }
    }
}

impl std::error::Error for WriteFault {}

/// Appends a request head with the given headers, `Host` and the fields that delimit the body.
/// `headers` may carry none of the latter, nor any that speak of the connection.
///
/// # Errors
/// [`WriteFault`] when a part has bytes that would change the head's meaning.
pub fn write_request_head<'h>(
    method: &str,
    target: &str,
    host: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: BodyLength,
    out: &mut Vec<u8>,
) -> Result<(), WriteFault> {
    let legal_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method.as_bytes()) || !legal_target || body == BodyLength::UntilClose {
        return Err(WriteFault::RequestLine);
    }
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(WriteFault::Value("host".to_owned()));
    }
    let start = out.len();
    for part in [method, " ", target, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    rest(headers, body, out).inspect_err(|_| out.truncate(start))
}

/// Appends a reply head with the given headers, the fields that delimit the body, and
/// `Connection: close` unless the connection stays.
///
/// # Errors
/// [`WriteFault`] when a part has bytes that would change the head's meaning.
pub fn write_reply_head<'h>(
    status: u16,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: BodyLength,
    keep_alive: bool,
    out: &mut Vec<u8>,
) -> Result<(), WriteFault> {
    if !(200..=599).contains(&status) {
        return Err(WriteFault::Status(status));
    }
    let start = out.len();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let close = !keep_alive || body == BodyLength::UntilClose;
    let connection: &[u8] = match (status, close) {
        // What is spoken here instead (RFC 9110 section 15.5.22).
        (426, true) => b"upgrade: HTTP/1.1\r\nconnection: close, upgrade\r\n",
        (426, false) => b"upgrade: HTTP/1.1\r\nconnection: upgrade\r\n",
        (_, true) => b"connection: close\r\n",
        (_, false) => b"",
    };
    out.extend_from_slice(connection);
    rest(headers, body, out).inspect_err(|_| out.truncate(start))
}

/// Appends the interim reply that a client with `Expect: 100-continue` waits for.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Fields that this module alone writes, or that belong to one connection (RFC 9110 section 7.6.1).
fn is_own(name: &str) -> bool {
    let own: &[&str] = match name.len() {
        2 => &["te"],
        4 => &["host"],
        6 => &["expect"],
        7 => &["trailer", "upgrade"],
        10 => &["connection", "keep-alive"],
        14 => &["content-length"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        _ => &[],
    };
    own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Appends the fields and the empty line.
fn rest<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    body: BodyLength,
    out: &mut Vec<u8>,
) -> Result<(), WriteFault> {
    for (name, value) in headers {
        if !is_token(name.as_bytes()) || is_own(name) {
            return Err(WriteFault::Name(name.to_owned()));
        }
        if !is_value(value.as_bytes()) {
            return Err(WriteFault::Value(name.to_owned()));
        }
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    match body {
        BodyLength::None | BodyLength::UntilClose => {}
        BodyLength::Known(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Digits reserved for a chunk's length: leading zeros are legal (RFC 9112 section 7.1).
const CHUNK_DIGITS: usize = 8;

/// A chunk that was begun: where its length goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a chunk that is not ended has no length"]
pub struct ChunkMark(usize);

/// Begins a chunk: what is appended to `out` until [`chunk_end`] is its content. One chunk for each
/// turn, however many events it brings, makes one record and one write.
pub fn chunk_begin(out: &mut Vec<u8>) -> ChunkMark {
    let mark = ChunkMark(out.len());
    out.extend_from_slice(b"00000000\r\n");
    mark
}

/// Ends a chunk: writes its length into the reserved place, or takes the place back when nothing
/// was appended, since an empty chunk would end the body. Nothing before the mark may have been
/// taken from `out` meanwhile. Content is at most 4 GiB.
pub fn chunk_end(mark: ChunkMark, out: &mut Vec<u8>) {
    let ChunkMark(start) = mark;
    let content = start + CHUNK_DIGITS + 2;
    let length = out.len().saturating_sub(content);
    if length == 0 {
        out.truncate(start);
        return;
    }
    debug_assert!(u32::try_from(length).is_ok(), "a chunk of {length} bytes");
    if let Some(place) = out.get_mut(start..start + CHUNK_DIGITS) {
        let mut left = length;
        for digit in place.iter_mut().rev() {
            *digit = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the chunk that ends the body as complete.
pub fn last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// The reason phrase of a status; for people only (RFC 9112 section 4).
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}
