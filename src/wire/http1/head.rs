//! What a head means: method, target, status, and above all where its body ends.

use super::BodyFraming;
use super::fault::HeadFault;
use super::fields::{Field, Fields, is_token, list, trim_ows};
use super::host::Host;
use super::scan;
use std::mem::MaybeUninit;

/// Fields that are read at most, whatever the limit says: their places are on the stack.
pub(crate) const HEADERS_MAX: usize = 128;

/// What `httparse` found wrong, in our words; `line` is for everything about the first line.
const fn refusal(error: httparse::Error, line: HeadFault) -> HeadFault {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadFault::FieldLine,
        httparse::Error::TooManyHeaders => HeadFault::TooManyFields(HEADERS_MAX),
        _ => line,
    }
}

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'b> {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `OPTIONS`
    Options,
    /// Any other token of at most 32 bytes, but never `CONNECT` or `TRACE`.
    Other(&'b str),
}

impl<'b> Method<'b> {
    /// The method as it is written.
    #[must_use]
    pub const fn name(&self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Options => "OPTIONS",
            Self::Other(name) => name,
        }
    }

    fn decode(name: &'b str) -> Result<Self, HeadFault> {
        const METHOD_BYTES_MAX: usize = 32;
        if name.len() > METHOD_BYTES_MAX {
            return Err(HeadFault::RequestLine);
        }
        Ok(match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            _ if name.eq_ignore_ascii_case("CONNECT") || name.eq_ignore_ascii_case("TRACE") => {
                return Err(HeadFault::Method);
            }
            _ => Self::Other(name),
        })
    }
}

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// From the minor version of a first line that [`Version::decode`] accepted.
    const fn from_minor(minor: u8) -> Self {
        if minor == 0 { Self::Http10 } else { Self::Http11 }
    }

    fn decode(text: &[u8], other: HeadFault) -> Result<Self, HeadFault> {
        match text {
            b"HTTP/1.1" => Ok(Self::Http11),
            b"HTTP/1.0" => Ok(Self::Http10),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Err(HeadFault::Version)
            }
            _ => Err(other),
        }
    }
}

/// A request line, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine<'b> {
    method: Method<'b>,
    /// The authority of an absolute-form target.
    authority: Option<Host<'b>>,
    path: &'b str,
    query: Option<&'b str>,
    version: Version,
}

impl<'b> RequestLine<'b> {
    /// Reads `METHOD SP target SP version` (RFC 9112 section 3), with single spaces only, so that a
    /// bad line is refused before the rest of the head came.
    pub(crate) fn decode(line: &'b [u8]) -> Result<Self, HeadFault> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadFault::RequestLine);
        };
        let version = Version::decode(version, HeadFault::RequestLine)?;
        if !is_token(method) {
            return Err(HeadFault::RequestLine);
        }
        let method = std::str::from_utf8(method).map_err(|_| HeadFault::RequestLine)?;
        let target = std::str::from_utf8(target).map_err(|_| HeadFault::Target)?;
        Self::from_parts(method, target, version)
    }

    fn from_parts(method: &'b str, target: &'b str, version: Version) -> Result<Self, HeadFault> {
        let method = Method::decode(method)?;
        // A fragment never travels (RFC 9112 section 3.2); what follows it could hide a path.
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if target.is_empty() || !target.bytes().all(legal) {
            return Err(HeadFault::Target);
        }
        if target == "*" {
            return match method {
                Method::Options => {
                    Ok(Self { method, authority: None, path: target, query: None, version })
                }
                _ => Err(HeadFault::Target),
            };
        }
        let (authority, path) = if target.starts_with('/') {
            (None, target)
        } else {
            let (host, path) = absolute(target).ok_or(HeadFault::Target)?;
            (Some(host), path)
        };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { method, authority, path, query, version })
    }
}

/// Splits an absolute-form target (RFC 9112 section 3.2.2) into its authority and the rest, which
/// is empty or begins with `/` or `?`.
fn absolute(target: &str) -> Option<(Host<'_>, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some((Host::decode(authority)?, path))
}

/// Checks `HTTP/1.1 SP DDD [SP reason]` (RFC 9112 section 4), 100 to 599.
pub(crate) fn status_line(line: &[u8]) -> Result<(), HeadFault> {
    let fault = HeadFault::StatusLine;
    let (version, rest) = line.split_at_checked(8).ok_or(fault)?;
    Version::decode(version, fault).map_err(|_| fault)?;
    let [b' ', b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', reason @ ..] = rest else {
        return Err(fault);
    };
    if matches!(reason.first(), None | Some(b' ')) { Ok(()) } else { Err(fault) }
}

/// The fields that decide something here. Those of the first group may come once (RFC 9110
/// section 5.3): two values, or one said twice, are for two readers to disagree about.
#[derive(Default)]
struct Known<'b> {
    host: Option<&'b str>,
    content_length: Option<&'b str>,
    transfer_encoding: Option<&'b str>,
    content_type: Option<&'b str>,
    content_encoding: Option<&'b str>,
    authorization: Option<&'b str>,
    api_key: Option<&'b str>,
    origin: Option<&'b str>,
    /// The first of each, if it is ASCII.
    user_agent: Option<&'b str>,
    originator: Option<&'b str>,
    fetch_site: Option<&'b str>,
    expect: Option<&'b str>,
    expect_twice: bool,
    close: bool,
    upgrade: bool,
    websocket: bool,
}

impl<'b> Known<'b> {
    /// `parsed` decides; `fields`, which callers will walk, must show them the same.
    fn collect(parsed: &[httparse::Header<'b>], mut fields: Fields<'b>) -> Result<Self, HeadFault> {
        let mut known = Self::default();
        for header in parsed {
            let field = Field { name: header.name, value: trim_ows(header.value) };
            if !fields.agree(field) {
                return Err(HeadFault::FieldLine);
            }
            known.field(field)?;
        }
        if fields.is_empty() { Ok(known) } else { Err(HeadFault::FieldLine) }
    }

    fn field(&mut self, field: Field<'b>) -> Result<(), HeadFault> {
        let is = |name| scan::is_name(field.name.as_bytes(), name);
        let (slot, name) = match field.name.len() {
            4 if is("host") => (&mut self.host, "host"),
            6 if is("origin") => (&mut self.origin, "origin"),
            6 if is("expect") => {
                self.expect_twice |= self.expect.is_some();
                // Text that is not ASCII is no expectation that could be met either.
                self.expect = Some(field.text().unwrap_or_default());
                return Ok(());
            }
            7 if is("upgrade") => {
                self.websocket |= has(field.value, b"websocket");
                return Ok(());
            }
            9 if is("x-api-key") => (&mut self.api_key, "x-api-key"),
            10 if is("user-agent") => {
                self.user_agent = self.user_agent.or_else(|| field.text());
                return Ok(());
            }
            10 if is("originator") => {
                self.originator = self.originator.or_else(|| field.text());
                return Ok(());
            }
            14 if is("sec-fetch-site") => {
                self.fetch_site = self.fetch_site.or_else(|| field.text());
                return Ok(());
            }
            10 if is("connection") => {
                self.close |= has(field.value, b"close");
                self.upgrade |= has(field.value, b"upgrade");
                return Ok(());
            }
            12 if is("content-type") => (&mut self.content_type, "content-type"),
            13 if is("authorization") => (&mut self.authorization, "authorization"),
            14 if is("content-length") => (&mut self.content_length, "content-length"),
            16 if is("content-encoding") => (&mut self.content_encoding, "content-encoding"),
            17 if is("transfer-encoding") => (&mut self.transfer_encoding, "transfer-encoding"),
            _ => return Ok(()),
        };
        if slot.is_some() {
            return Err(HeadFault::Repeated(name));
        }
        *slot = Some(field.text().ok_or(HeadFault::BadValue(name))?);
        Ok(())
    }

    /// The body's length as the two length fields give it; `None` when neither is there.
    fn framing(&self, version: Version) -> Result<Option<BodyFraming>, HeadFault> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(HeadFault::TwoLengths),
            (Some(length), None) => content_length(length)
                .map(|length| Some(BodyFraming::Length(length)))
                .ok_or(HeadFault::BadValue("content-length")),
            (None, Some(_)) if version == Version::Http10 => Err(HeadFault::OldTransferCoding),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Some(BodyFraming::Chunked))
            }
            (None, Some(_)) => Err(HeadFault::TransferCoding),
        }
    }
}

/// Whether a comma list has this element, in any case.
fn has(value: &[u8], element: &[u8]) -> bool {
    list(value).any(|found| found.eq_ignore_ascii_case(element))
}

/// Reads 1 to 20 digits that fit; a sign, a space, a list or anything else is `None`.
fn content_length(value: &str) -> Option<u64> {
    if !(1..=20).contains(&value.len()) || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok()
}

/// A request head.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// The method.
    pub method: Method<'b>,
    /// The target's path as it was sent, nothing decoded; begins with `/`, or is `*` for `OPTIONS`.
    pub path: &'b str,
    /// What follows the target's first `?`.
    pub query: Option<&'b str>,
    /// The version.
    pub version: Version,
    /// Whom the client thinks it talks to: the authority of an absolute-form target (RFC 9112
    /// section 3.2.2), else `Host`. `None` only for HTTP/1.0.
    pub host: Option<Host<'b>>,
    /// Where the body ends; never [`BodyFraming::UntilClose`].
    pub framing: BodyFraming,
    /// The client may send another request on this connection. Always false for HTTP/1.0, which
    /// also cannot take a chunked reply.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// A `GET` that asks for a WebSocket. Any other upgrade is ignored.
    pub upgrade_websocket: bool,
    /// `Content-Type`.
    pub content_type: Option<&'b str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'b str>,
    /// `Authorization`.
    pub authorization: Option<&'b str>,
    /// `X-Api-Key`.
    pub api_key: Option<&'b str>,
    /// `Origin`, unchecked: see [`super::Origin`].
    pub origin: Option<&'b str>,
    /// `User-Agent`; the first that is ASCII, as of the two below.
    pub user_agent: Option<&'b str>,
    /// `Originator`, as Codex names itself.
    pub originator: Option<&'b str>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'b str>,
    fields: Fields<'b>,
}

impl<'b> RequestHead<'b> {
    /// Reads lines that [`super::HeadSearch`] has checked.
    pub(crate) fn decode(head: &'b [u8], fields: &'b [u8]) -> Result<Self, HeadFault> {
        let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let whole = parsed.parse_with_uninit_headers(head, &mut headers);
        let whole = whole.map_err(|error| refusal(error, HeadFault::RequestLine))?;
        let (Some(method), Some(target), Some(minor), true) =
            (parsed.method, parsed.path, parsed.version, whole.is_complete())
        else {
            return Err(HeadFault::RequestLine);
        };
        let line = RequestLine::from_parts(method, target, Version::from_minor(minor))?;
        let fields = Fields::new(fields);
        let known = Known::collect(parsed.headers, fields.clone())?;
        let framing = known.framing(line.version)?.unwrap_or(BodyFraming::None);
        let host = match known.host {
            Some(value) => Some(Host::decode(value).ok_or(HeadFault::BadValue("host"))?),
            None if line.version == Version::Http11 => return Err(HeadFault::NoHost),
            None => None,
        };
        let modern = line.version == Version::Http11;
        let expects = match known.expect {
            // An HTTP/1.0 client's Expect is to be ignored (RFC 9110 section 10.1.1).
            Some(_) if !modern => false,
            Some(value) if !known.expect_twice && value.eq_ignore_ascii_case("100-continue") => {
                true
            }
            Some(_) => return Err(HeadFault::Expectation),
            None => false,
        };
        Ok(Self {
            method: line.method,
            path: line.path,
            query: line.query,
            version: line.version,
            host: line.authority.or(host),
            framing,
            keep_alive: modern && !known.close,
            expect_continue: expects && !framing.is_empty(),
            upgrade_websocket: modern
                && line.method == Method::Get
                && known.upgrade
                && known.websocket,
            content_type: known.content_type,
            content_encoding: known.content_encoding,
            authorization: known.authorization,
            api_key: known.api_key,
            origin: known.origin,
            user_agent: known.user_agent,
            originator: known.originator,
            fetch_site: known.fetch_site,
            fields,
        })
    }

    /// All fields in their order.
    #[must_use]
    pub fn fields(&self) -> Fields<'b> {
        self.fields.clone()
    }

    /// The value of the first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.fields().named(name).map(|field| field.value)
    }

    /// The same, when it is ASCII.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'b str> {
        self.fields().named(name).and_then(|field| field.text())
    }
}

/// A reply head.
#[derive(Clone, Debug)]
pub struct ReplyHead<'b> {
    /// 100 to 599, never 101.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// Where the body ends.
    pub framing: BodyFraming,
    /// The connection may be used again once the body has ended.
    pub keep_alive: bool,
    /// `Content-Type`.
    pub content_type: Option<&'b str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'b str>,
    fields: Fields<'b>,
}

impl<'b> ReplyHead<'b> {
    /// Reads lines that [`super::HeadSearch`] has checked.
    pub(crate) fn decode(
        head: &'b [u8],
        fields: &'b [u8],
        to_head: bool,
    ) -> Result<Self, HeadFault> {
        let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let whole = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            head,
            &mut headers,
        );
        let whole = whole.map_err(|error| refusal(error, HeadFault::StatusLine))?;
        let (Some(status), Some(minor), true) = (parsed.code, parsed.version, whole.is_complete())
        else {
            return Err(HeadFault::StatusLine);
        };
        let version = Version::from_minor(minor);
        if status == 101 {
            return Err(HeadFault::Switching);
        }
        let fields = Fields::new(fields);
        let known = Known::collect(parsed.headers, fields.clone())?;
        let said = known.framing(version)?;
        let bodiless = matches!(status, 100..=199 | 204);
        let framing = if to_head || bodiless || status == 304 {
            BodyFraming::None
        } else {
            said.unwrap_or(BodyFraming::UntilClose)
        };
        // A length where there can be no body (RFC 9112 section 6.3): what the server thinks it
        // sent is unclear, so nothing more is read from it.
        let unclear = bodiless && said.is_some_and(|framing| !framing.is_empty());
        let keep_alive = version == Version::Http11
            && !known.close
            && !unclear
            && framing != BodyFraming::UntilClose;
        Ok(Self {
            status,
            version,
            framing,
            keep_alive,
            content_type: known.content_type,
            content_encoding: known.content_encoding,
            fields,
        })
    }

    /// Whether it is a 1xx: the final reply follows (RFC 9110 section 15.2).
    #[must_use]
    pub const fn is_informational(&self) -> bool {
        self.status < 200
    }

    /// All fields in their order.
    #[must_use]
    pub fn fields(&self) -> Fields<'b> {
        self.fields.clone()
    }

    /// The value of the first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.fields().named(name).map(|field| field.value)
    }

    /// The same, when it is ASCII.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'b str> {
        self.fields().named(name).and_then(|field| field.text())
    }
}
