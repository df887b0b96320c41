//! HTTP/1.1 messages beside a slow reader that was written from RFC 9112 alone.

use super::transcode::cut;
use crate::wire::http1::fields::{is_token, is_value};
use crate::wire::http1::{
    BodyDecoder, BodyFraming, BodyLength, BodyLimits, BodyStep, HeadLimits, HeadSearch,
    RequestHead, write_request_head,
};
use std::net::Ipv6Addr;

/// Limits that no input of a fuzzer reaches.
const WIDE: (HeadLimits, BodyLimits) = (
    HeadLimits { head_bytes_max: 1 << 20, request_line_bytes_max: 1 << 20, headers_max: 128 },
    BodyLimits { body_bytes_max: u64::MAX, overhead_bytes_max: usize::MAX },
);

/// Limits that every input reaches.
const NARROW: (HeadLimits, BodyLimits) = (
    HeadLimits { head_bytes_max: 200, request_line_bytes_max: 40, headers_max: 4 },
    BodyLimits { body_bytes_max: 100, overhead_bytes_max: 20 },
);

/// Which side's messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client's.
    Requests,
    /// A server's; `to_head` = to `HEAD` requests.
    Replies {
        /// No message has a body.
        to_head: bool,
    },
}

/// A message as a reader understands it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Method and target without fragment, or the status.
    pub line: String,
    /// The fields, trimmed.
    pub fields: Vec<(String, Vec<u8>)>,
    /// What came of the body.
    pub content: Vec<u8>,
    /// The connection stays.
    pub keep_alive: bool,
    /// The body is all here, if the end of the connection is not needed to know it.
    pub whole: bool,
}

/// Where a connection stands once all its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What came breaks the protocol.
    Refused,
    /// A message has begun, or none did.
    Unfinished,
    /// The last message said that no other follows.
    Closed,
}

/// Requests: the first byte chooses limits and cuts, the others are what a client sends.
///
/// # Panics
/// When a cut changes what is understood, when the slow reader understands something else, or when
/// a head is accepted that two readers could read differently.
pub fn request(bytes: &[u8]) {
    if let Some((&by, stream)) = bytes.split_first() {
        messages(Side::Requests, by, stream);
    }
}

/// Replies: the first byte chooses limits, cuts and the method, the others are what a server sends.
///
/// # Panics
/// When a cut changes what is understood, when the slow reader understands something else, or when
/// a head is accepted that two readers could read differently.
pub fn reply(bytes: &[u8]) {
    if let Some((&by, stream)) = bytes.split_first() {
        messages(Side::Replies { to_head: by & 2 != 0 }, by, stream);
    }
}

/// Reads messages whole and cut.
fn messages(side: Side, by: u8, stream: &[u8]) {
    let limits = if by & 1 == 0 { WIDE } else { NARROW };
    let whole = read(side, &[stream], limits);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(side, &single, limits), whole, "byte by byte");
    assert_eq!(read(side, &cut(stream, u64::from(by)), limits), whole, "cut");
    let at = usize::from(by) * 73 % (stream.len() + 1);
    assert_eq!(read(side, &[&stream[..at], &stream[at..]], limits), whole, "cut at {at}");
    let (slow, verdict) = read_slowly(side, stream);
    let (ours, our_verdict) = &whole;
    if by & 1 == 1 {
        // Limits only refuse: what was understood before is the same, less the end of a body.
        for (ours, slow) in ours.iter().zip(&slow) {
            assert_eq!((&ours.line, &ours.fields), (&slow.line, &slow.fields));
            assert!(slow.content.starts_with(&ours.content));
        }
        assert!(ours.len() <= slow.len());
        return;
    }
    match (verdict, our_verdict) {
        // A bad beginning is refused before its end comes.
        (Verdict::Unfinished, Verdict::Refused) => {
            assert_eq!(ours[..], slow[..ours.len()]);
            assert!(slow.len() <= ours.len() + 1);
        }
        (verdict, ours) => assert_eq!(
            *ours,
            verdict,
            "the slow reader says {verdict:?}: {}",
            stream.escape_ascii()
        ),
    }
    if verdict == *our_verdict {
        assert_eq!(*ours, slow);
    }
}

/// Reads what a connection brings, as the proxy does.
fn read(
    side: Side,
    pieces: &[&[u8]],
    (head_limits, body_limits): (HeadLimits, BodyLimits),
) -> (Vec<Message>, Verdict) {
    let (mut buffer, mut search, mut messages) = (Vec::new(), HeadSearch::default(), Vec::new());
    let mut body: Option<BodyDecoder> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let Some(decoder) = &mut body else {
                match head(side, &buffer, &mut search, &head_limits) {
                    None => return (messages, Verdict::Refused),
                    Some(None) => break,
                    Some(Some((message, framing, used))) => {
                        never(&buffer[..used]);
                        buffer.drain(..used);
                        messages.push(message);
                        let Ok(decoder) = BodyDecoder::new(framing, body_limits) else {
                            return (messages, Verdict::Refused);
                        };
                        body = Some(decoder);
                    }
                }
                continue;
            };
            let Some(message) = messages.last_mut() else { break };
            let Ok((step, used)) = decoder.decode(&buffer) else {
                return (messages, Verdict::Refused);
            };
            match step {
                BodyStep::Data(data) => {
                    assert!(!data.is_empty() && used >= data.len());
                    message.content.extend_from_slice(data);
                }
                BodyStep::NeedMore => {
                    assert_eq!(used, buffer.len(), "framing is never kept");
                    buffer.clear();
                    break;
                }
                BodyStep::End => {
                    assert!(decoder.is_complete() && decoder.finish().is_ok());
                    message.whole = true;
                    body = None;
                    if !message.keep_alive {
                        return (messages, Verdict::Closed);
                    }
                }
            }
            buffer.drain(..used);
        }
    }
    (messages, Verdict::Unfinished)
}

/// A head at the front of `input`: `None` when it is refused, `Some(None)` when it is not whole.
#[allow(clippy::option_option, clippy::type_complexity, reason = "as said")]
fn head(
    side: Side,
    input: &[u8],
    search: &mut HeadSearch,
    limits: &HeadLimits,
) -> Option<Option<(Message, BodyFraming, usize)>> {
    let owned = |fields: crate::wire::http1::Fields<'_>| {
        fields.map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
    };
    let (line, fields, keep_alive, framing, used) = match side {
        Side::Requests => {
            let Some((head, used)) = search.request(input, limits).ok()? else { return Some(None) };
            assert_ne!(head.framing, BodyFraming::UntilClose);
            written_again(&head);
            let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
            let line = format!("{} {}{query}", head.method.name(), head.path);
            (line, owned(head.fields()), head.keep_alive, head.framing, used)
        }
        Side::Replies { to_head } => {
            let Some((head, used)) = search.reply(input, limits, to_head).ok()? else {
                return Some(None);
            };
            let keep_alive = head.keep_alive || head.is_informational();
            (head.status.to_string(), owned(head.fields()), keep_alive, head.framing, used)
        }
    };
    let message = Message { line, fields, keep_alive, ..Message::default() };
    Some(Some((message, framing, used)))
}

/// What no accepted head has, told from its bytes alone.
fn never(head: &[u8]) {
    let shown = head.escape_ascii();
    let mut decisive = 0;
    let mut rest = head;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or_else(|| panic!("a bare LF: {shown}"));
        rest = &rest[end + 1..];
        assert!(!line.contains(&b'\r'), "a bare CR: {shown}");
        assert!(!line.contains(&0), "a NUL: {shown}");
        assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "a folded line: {shown}");
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let bare = lower.trim_ascii();
        if bare == b"content-length" || bare == b"transfer-encoding" {
            assert_eq!(bare.len(), name.len(), "white space around a name: {shown}");
            decisive += 1;
        }
    }
    assert!(rest.is_empty(), "bytes behind the last line: {shown}");
    assert!(decisive <= 1, "more than one length: {shown}");
}

/// The head that the proxy would write from these parts says the same.
fn written_again(head: &RequestHead<'_>) {
    let Some(host) = head.host.map(|host| match (host.name.contains(':'), host.port) {
        (true, Some(port)) => format!("[{}]:{port}", host.name),
        (true, None) => format!("[{}]", host.name),
        (false, Some(port)) => format!("{}:{port}", host.name),
        (false, None) => host.name.to_owned(),
    }) else {
        return;
    };
    let target = match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    };
    let body = match head.framing {
        BodyFraming::Length(length) => BodyLength::Known(length),
        BodyFraming::Chunked => BodyLength::Chunked,
        _ => BodyLength::None,
    };
    let text = head.fields().filter_map(|field| Some((field.name, field.text()?)));
    let kept: Vec<(&str, &str)> = text
        .filter(|(name, _)| {
            let mut out = Vec::new();
            write_request_head("GET", "/", "h", [(*name, "")], BodyLength::None, &mut out).is_ok()
        })
        .collect();
    let mut out = Vec::new();
    let fields = kept.iter().copied();
    let written = write_request_head(head.method.name(), &target, &host, fields, body, &mut out);
    assert_eq!(written, Ok(()), "what was read can be written");
    let Ok(Some((again, used))) = HeadSearch::default().request(&out, &WIDE.0) else {
        panic!("what was written cannot be read: {}", out.escape_ascii());
    };
    assert_eq!(used, out.len());
    let shape = |head: &RequestHead<'_>| {
        (head.method.name().to_owned(), head.path.to_owned(), head.query.map(str::to_owned))
    };
    assert_eq!(shape(&again), shape(head));
    assert_eq!(again.host.map(|h| (h.name, h.port)), head.host.map(|h| (h.name, h.port)));
    let same = match body {
        BodyLength::None => again.framing.is_empty(),
        _ => again.framing == head.framing,
    };
    assert!(same, "{:?} became {:?}", head.framing, again.framing);
    let all: Vec<_> = again.fields().filter_map(|f| Some((f.name, f.text()?))).collect();
    assert!(kept.iter().all(|field| all.contains(field)), "a field got lost");
}

/// Reads a connection after the letter of the standard, whole lines at a time.
#[must_use]
pub fn read_slowly(side: Side, mut bytes: &[u8]) -> (Vec<Message>, Verdict) {
    let mut messages = Vec::new();
    loop {
        let (line, fields, rest) = match slow_head(side, bytes) {
            Slow::Refused => return (messages, Verdict::Refused),
            Slow::Unfinished => return (messages, Verdict::Unfinished),
            Slow::Found(found, rest) => (found.0, found.1, rest),
        };
        let Some((message, framing)) = slow_meaning(side, &line, fields) else {
            return (messages, Verdict::Refused);
        };
        let keep_alive = message.keep_alive;
        messages.push(message);
        let Some(message) = messages.last_mut() else { return (messages, Verdict::Refused) };
        match slow_body(framing, rest, &mut message.content) {
            Slow::Refused => return (messages, Verdict::Refused),
            Slow::Unfinished => return (messages, Verdict::Unfinished),
            Slow::Found((), rest) => {
                message.whole = true;
                if !keep_alive {
                    return (messages, Verdict::Closed);
                }
                bytes = rest;
            }
        }
    }
}

/// What the slow reader found at the front of its bytes.
enum Slow<'b, T> {
    Refused,
    Unfinished,
    Found(T, &'b [u8]),
}

type SlowFields = Vec<(String, Vec<u8>)>;

/// Splits at the first CRLF.
fn slow_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// The first line and the fields of a head.
fn slow_head(side: Side, mut bytes: &[u8]) -> Slow<'_, (String, SlowFields)> {
    let mut empty = 0;
    while side == Side::Requests && bytes.starts_with(b"\r\n") {
        empty += 1;
        bytes = &bytes[2..];
        if empty > 2 {
            return Slow::Refused;
        }
    }
    let (mut first, mut fields) = (None, Vec::new());
    // Lines are judged when all of them are here.
    let mut whole = bytes;
    while let Some((line, rest)) = slow_line(whole)
        && !line.is_empty()
    {
        whole = rest;
    }
    loop {
        let (Some((line, rest)), true) = (slow_line(bytes), whole.starts_with(b"\r\n")) else {
            return Slow::Unfinished;
        };
        bytes = rest;
        if !is_value(line) {
            return Slow::Refused;
        }
        let latin: String = line.iter().map(|&byte| char::from(byte)).collect();
        match first {
            None => first = Some(latin),
            Some(first) if line.is_empty() => return Slow::Found((first, fields), bytes),
            Some(_) => {
                let Some((name, value)) = latin.split_once(':') else { return Slow::Refused };
                if !is_token(name.as_bytes()) || fields.len() == WIDE.0.headers_max {
                    return Slow::Refused;
                }
                let value = value.trim_matches([' ', '\t']).chars();
                let value = value.filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
                fields.push((name.to_owned(), value));
            }
        }
    }
}

/// What a head says of its message and of where it ends; `None` when it must be refused.
fn slow_meaning(side: Side, line: &str, fields: SlowFields) -> Option<(Message, BodyFraming)> {
    let old = match side {
        Side::Requests => line.ends_with(" HTTP/1.0"),
        Side::Replies { .. } => line.starts_with("HTTP/1.0 "),
    };
    let said = slow_framing(&fields, old)?;
    let closes = all(&fields, "connection").iter().any(|value| {
        let value = value.to_ascii_lowercase();
        let mut elements = value.split(|&byte| byte == b',');
        elements.any(|element| element.trim_ascii() == b"close")
    });
    let (line, framing, keep_alive) = match side {
        Side::Requests => {
            let (line, absolute) = slow_request_line(line)?;
            let host = one(&fields, "host");
            if host.is_none() && !old || host.is_some_and(|host| !slow_host(&host)) {
                return None;
            }
            if absolute.is_some_and(|authority| !slow_host(&authority)) {
                return None;
            }
            let expected = all(&fields, "expect");
            let fine = matches!(expected[..], [one] if one.eq_ignore_ascii_case(b"100-continue"));
            if !old && !expected.is_empty() && !fine {
                return None;
            }
            (line, said.unwrap_or(BodyFraming::None), !old && !closes)
        }
        Side::Replies { to_head } => {
            let status = slow_status_line(line)?;
            let none = matches!(status, 100..=199 | 204);
            let framing = match said {
                _ if to_head || none || status == 304 => BodyFraming::None,
                None => BodyFraming::UntilClose,
                Some(said) => said,
            };
            let unclear = none && said.is_some_and(|said| said != BodyFraming::Length(0));
            let stays = !old && !closes && !unclear && framing != BodyFraming::UntilClose;
            (status.to_string(), framing, stays || status < 200)
        }
    };
    Some((Message { line, fields, keep_alive, ..Message::default() }, framing))
}

/// The values of a field.
fn all<'f>(fields: &'f SlowFields, name: &str) -> Vec<&'f [u8]> {
    let named = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_slice()).collect()
}

/// The value of a field that may be there once.
fn one(fields: &SlowFields, name: &str) -> Option<String> {
    all(fields, name).first().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// What the fields say of the body's end, if they do; `None` when they are not to be believed.
#[allow(clippy::option_option, reason = "nothing said and nonsense are two things")]
fn slow_framing(fields: &SlowFields, old: bool) -> Option<Option<BodyFraming>> {
    for name in [
        "host",
        "origin",
        "content-type",
        "content-encoding",
        "authorization",
        "x-api-key",
        "content-length",
        "transfer-encoding",
    ] {
        let found = all(fields, name);
        if found.len() > 1 || found.iter().any(|value| !value.is_ascii()) {
            return None;
        }
    }
    match (one(fields, "content-length"), one(fields, "transfer-encoding")) {
        (None, None) => Some(None),
        (Some(length), None) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits && length.len() <= 20)?;
            Some(Some(BodyFraming::Length(length)))
        }
        (None, Some(coding)) if !old && coding.eq_ignore_ascii_case("chunked") => {
            Some(Some(BodyFraming::Chunked))
        }
        _ => None,
    }
}

/// `METHOD target` of a request line, and the authority of an absolute target.
fn slow_request_line(line: &str) -> Option<(String, Option<String>)> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.0" | "HTTP/1.1"] = parts[..] else { return None };
    let forbidden = ["CONNECT", "TRACE"].iter().any(|no| method.eq_ignore_ascii_case(no));
    if !is_token(method.as_bytes()) || method.len() > 32 || forbidden {
        return None;
    }
    if target.is_empty() || !target.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return None;
    }
    if target == "*" {
        return (method == "OPTIONS").then(|| (format!("{method} *"), None));
    }
    if target.starts_with('/') {
        return Some((format!("{method} {target}"), None));
    }
    let lower = target.to_ascii_lowercase();
    let skip = ["http://", "https://"].iter().find(|scheme| lower.starts_with(**scheme))?.len();
    let rest = &target[skip..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some((format!("{method} {slash}{path}"), Some(authority.to_owned())))
}

/// The status of a status line.
fn slow_status_line(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    let digits = rest.get(..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let status = digits.parse().ok().filter(|status| (100..=599).contains(status))?;
    let fine = rest.len() == 3 || rest.as_bytes().get(3) == Some(&b' ');
    (fine && status != 101).then_some(status)
}

/// A name or an address, with or without a port.
fn slow_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(inner) => {
            let Some((address, rest)) = inner.split_once(']') else { return false };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                _ if rest.is_empty() => return true,
                Some(port) => ("v6", Some(port)),
                None => return false,
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() < 64 && label.chars().all(legal);
    let port = port.is_none_or(|port| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        digits && port.len() <= 5 && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    port && name.len() <= 253 && name.split('.').all(label)
}

/// Reads a body.
fn slow_body<'b>(framing: BodyFraming, bytes: &'b [u8], content: &mut Vec<u8>) -> Slow<'b, ()> {
    match framing {
        BodyFraming::None => Slow::Found((), bytes),
        BodyFraming::Length(length) => {
            let here = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
            content.extend_from_slice(&bytes[..here]);
            if here as u64 == length { Slow::Found((), &bytes[here..]) } else { Slow::Unfinished }
        }
        BodyFraming::UntilClose => {
            content.extend_from_slice(bytes);
            Slow::Unfinished
        }
        BodyFraming::Chunked => slow_chunks(bytes, content),
    }
}

fn slow_chunks<'b>(mut bytes: &'b [u8], content: &mut Vec<u8>) -> Slow<'b, ()> {
    loop {
        let Some((line, rest)) = slow_line(bytes) else { return Slow::Unfinished };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).unwrap_or_default();
        let size = u64::from_str_radix(size, 16).ok().filter(|size| *size <= u64::from(u32::MAX));
        let Some(size) = size.filter(|_| digits <= 16 && slow_extensions(&line[digits..])) else {
            return Slow::Refused;
        };
        bytes = rest;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        content.extend_from_slice(&bytes[..size.min(bytes.len())]);
        match bytes.get(size..) {
            Some([b'\r', b'\n', rest @ ..]) => bytes = rest,
            Some([b'\r'] | []) | None => return Slow::Unfinished,
            Some(_) => return Slow::Refused,
        }
    }
    loop {
        let Some((line, rest)) = slow_line(bytes) else { return Slow::Unfinished };
        bytes = rest;
        if line.is_empty() {
            return Slow::Found((), bytes);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Slow::Refused };
        if !is_token(&line[..colon]) || !is_value(&line[colon + 1..]) {
            return Slow::Refused;
        }
    }
}

/// `;name`, `;name=token` and `;name="text"`, any number of them.
fn slow_extensions(mut rest: &[u8]) -> bool {
    while let Some(after) = rest.strip_prefix(b";") {
        let end = after.iter().position(|b| matches!(b, b';' | b'=')).unwrap_or(after.len());
        if !is_token(&after[..end]) {
            return false;
        }
        rest = &after[end..];
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        if let Some(mut text) = value.strip_prefix(b"\"") {
            rest = loop {
                match text {
                    [b'"', rest @ ..] => break rest,
                    [b'\\', pair, rest @ ..] if is_value(&[*pair]) => text = rest,
                    [byte, rest @ ..] if *byte != b'\\' && is_value(&[*byte]) => text = rest,
                    _ => return false,
                }
            };
            continue;
        }
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        if !is_token(&value[..end]) {
            return false;
        }
        rest = &value[end..];
    }
    rest.is_empty()
}
