//! One POST to the token endpoint: blocking, bounded in bytes and in time as a whole.

use crate::config::Url;
use crate::proxy::transport::TlsTable;
use crate::proxy::upstream::retry_after_s;
use crate::wire::http1::{
    BodyDecoder, BodyLength, BodyLimits, BodyStep, HeadLimits, HeadSearch, write_request_head,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// A whole exchange, the looking up of the name aside.
const WAIT: Duration = Duration::from_secs(20);
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A reply, head and body each.
const REPLY_BYTES_MAX: usize = 256 << 10;

/// A socket that ends at a moment, whatever its peer does.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Timed {
    /// What is left of the time.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    retry_after: Option<String>,
}

impl Reply {
    /// `Retry-After` in seconds from this Unix time on.
    pub(super) fn retry_after_s(&self, unix_s: u64) -> Option<u32> {
        retry_after_s(self.retry_after.as_deref(), None, unix_s)
    }
}

/// Posts a body with these header fields.
///
/// # Errors
/// There was no reply, in words without a secret.
pub(super) fn post(
    url: &Url,
    tls: &TlsTable,
    provider: usize,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply, String> {
    let failed = |why: io::Error| {
        let why = match why.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "it took too long".to_owned(),
            _ => why.to_string(),
        };
        format!("the token endpoint {} cannot be asked: {why}", url.host)
    };
    let stream = connect(url).map_err(failed)?;
    let mut stream = Timed { stream, until: Instant::now() + WAIT };
    let request = request(url, fields, body)?;
    if !url.tls {
        return talk(&mut stream, &request).map_err(failed);
    }
    let mut stream = tls.blocking(provider, &url.host, stream)?;
    talk(&mut stream, &request).map_err(failed)
}

fn connect(url: &Url) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, CONNECT_WAIT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn request(url: &Url, fields: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, String> {
    const AGENT: &str = concat!("patchbay/", env!("CARGO_PKG_VERSION"));
    let usual = if url.tls { 443 } else { 80 };
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let host = if url.port == usual { host } else { format!("{host}:{}", url.port) };
    let headers = fields.iter().copied().chain([("user-agent", AGENT)]);
    let mut request = Vec::new();
    let length = BodyLength::Known(body.len() as u64);
    write_request_head("POST", &url.path, &host, headers, length, &mut request)
        .map_err(|why| format!("the request to the token endpoint cannot be written: {why}"))?;
    request.extend_from_slice(body);
    Ok(request)
}

/// Sends a request and reads its reply.
fn talk(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Reply> {
    let limits = HeadLimits {
        head_bytes_max: REPLY_BYTES_MAX,
        request_line_bytes_max: 8 << 10,
        headers_max: 100,
    };
    let body_limits =
        BodyLimits { body_bytes_max: REPLY_BYTES_MAX as u64, overhead_bytes_max: 16 << 10 };
    stream.write_all(request)?;
    stream.flush()?;
    let (mut input, mut search) = (Vec::new(), HeadSearch::default());
    let (mut reply, framing) = loop {
        let found = search.reply(&input, &limits, false).map_err(io::Error::other)?;
        let found = found.map(|(head, used)| {
            let retry_after = head.text("retry-after").map(str::to_owned);
            let reply = Reply { status: head.status, body: Vec::new(), retry_after };
            (head.is_informational(), reply, head.framing, used)
        });
        match found {
            Some((true, .., used)) => drop(input.drain(..used)),
            Some((false, reply, framing, used)) => {
                input.drain(..used);
                break (reply, framing);
            }
            None if more(stream, &mut input)? => {}
            None => return Err(ErrorKind::UnexpectedEof.into()),
        }
    };
    let mut decoder = BodyDecoder::new(framing, body_limits).map_err(io::Error::other)?;
    loop {
        let (step, used) = decoder.decode(&input).map_err(io::Error::other)?;
        match step {
            BodyStep::End => return Ok(reply),
            BodyStep::Data(data) => reply.body.extend_from_slice(data),
            BodyStep::NeedMore => {
                input.clear();
                if !more(stream, &mut input)? {
                    decoder.finish().map_err(io::Error::other)?;
                    return Ok(reply);
                }
                continue;
            }
        }
        input.drain(..used);
    }
}

/// Reads on; false at the end.
fn more(stream: &mut impl Read, input: &mut Vec<u8>) -> io::Result<bool> {
    let mut bytes = [0; 4 << 10];
    let count = loop {
        match stream.read(&mut bytes) {
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    input.extend_from_slice(bytes.get(..count).unwrap_or_default());
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that has said everything already, so many bytes a read.
    struct Said(Vec<u8>, usize);

    impl Read for Said {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    impl Write for Said {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn replies_of_any_framing_and_cut_are_read_and_bounded() {
        let huge = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(REPLY_BYTES_MAX + 1));
        for (reply, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Some((200, "{}"))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\n\r\nnever", Some((401, "never"))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
                Some((200, "{}")),
            ),
            ("HTTP/1.1 204 No\r\n\r\n", Some((204, ""))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\ncontent-le", None),
            ("hello", None),
            ("", None),
            (huge.as_str(), None),
        ] {
            for step in [1, 7, usize::MAX] {
                let got = talk(&mut Said(reply.as_bytes().to_vec(), step), b"POST").ok();
                let got = got.map(|got| (got.status, String::from_utf8(got.body).unwrap()));
                let got = got.as_ref().map(|(status, body)| (*status, body.as_str()));
                assert_eq!(got, expected, "{:.60}", reply);
            }
        }
    }

    #[test]
    fn the_port_is_named_where_it_is_not_the_usual_one() {
        for (url, host) in [
            ("https://t.example/oauth/token", "host: t.example\r\n"),
            ("http://127.0.0.1:81/x?y", "host: 127.0.0.1:81\r\n"),
            ("http://[::1]:81/x", "host: [::1]:81\r\n"),
        ] {
            let request = request(&Url::parse(url).unwrap(), &[("accept", "a/b")], b"{}").unwrap();
            let request = String::from_utf8(request).unwrap();
            assert!(request.contains(host) && request.ends_with("\r\n\r\n{}"), "{request}");
        }
    }
}
