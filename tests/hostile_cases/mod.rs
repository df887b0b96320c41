//! Hostile and odd HTTP/1.1 messages as data: what is sent, and what must come of it. The parsers
//! are run over them in `http1.rs`, the whole program over real sockets in `hostile.rs`.

#![allow(dead_code, reason = "each test binary uses its part of the tables")]
#![allow(clippy::too_many_lines, reason = "a row of a table is one thing to read")]

pub(crate) mod bodies;
pub(crate) mod fields;
pub(crate) mod heads;
pub(crate) mod replies;

/// What must come of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Refused by the HTTP layer with one of these statuses; the connection closes, nothing after
    /// it is served, nothing of it reaches the upstream.
    Refuse(&'static [u16]),
    /// So many complete requests, each of them served.
    Serve(usize),
    /// Well-formed, but answered by the proxy itself with one of these statuses; so many requests
    /// after it on the same connection are served (or none, when the proxy closes).
    Answer { statuses: &'static [u16], after: usize },
    /// Never complete: nothing of it reaches the upstream, whatever the answer.
    Cut,
}

/// A request, or several.
#[derive(Clone, Debug)]
pub(crate) struct RequestCase {
    /// Unique; the row of the table before the slash.
    pub(crate) name: String,
    /// What the client sends.
    pub(crate) bytes: Vec<u8>,
    /// What must come of it.
    pub(crate) want: Want,
}

/// A JSON document that asks for a streamed chat completion.
pub(crate) const DOCUMENT: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// The line that a good request begins with.
pub(crate) const LINE: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\n";

/// The fields that a good request has, next to its body's length.
pub(crate) const FIELDS: &[u8] = b"Host: localhost\r\nContent-Type: application/json\r\n";

/// Joins parts.
pub(crate) fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A request with these further field lines (each with its CRLF) and these bytes after the head.
pub(crate) fn post(fields: &[u8], after: &[u8]) -> Vec<u8> {
    cat(&[LINE, FIELDS, fields, b"\r\n", after])
}

/// `Content-Length` for [`DOCUMENT`].
pub(crate) fn length() -> Vec<u8> {
    format!("Content-Length: {}\r\n", DOCUMENT.len()).into_bytes()
}

/// A good request. What must never be served is put behind a bad one as one of these.
pub(crate) fn good() -> Vec<u8> {
    post(&length(), DOCUMENT.as_bytes())
}

/// [`DOCUMENT`] in one chunk, with the size line's end, the data's end and the body's end given.
pub(crate) fn chunked(size_end: &[u8], data_end: &[u8], end: &[u8]) -> Vec<u8> {
    let size = format!("{:x}", DOCUMENT.len());
    cat(&[size.as_bytes(), size_end, DOCUMENT.as_bytes(), data_end, end])
}

/// A request with a chunked body.
pub(crate) fn post_chunked(body: &[u8]) -> Vec<u8> {
    post(b"Transfer-Encoding: chunked\r\n", body)
}

/// Collects cases of one row.
pub(crate) struct Row<'t> {
    cases: &'t mut Vec<RequestCase>,
    row: &'static str,
    want: Want,
}

impl<'t> Row<'t> {
    pub(crate) fn new(cases: &'t mut Vec<RequestCase>, row: &'static str, want: Want) -> Self {
        Self { cases, row, want }
    }

    /// Adds a case whose name is `row/what`.
    pub(crate) fn add(&mut self, what: &str, bytes: Vec<u8>) -> &mut Self {
        let name = format!("{}/{what}", self.row);
        self.cases.push(RequestCase { name, bytes, want: self.want.clone() });
        self
    }

    /// Adds a case for each of `parts`, named by its bytes.
    pub(crate) fn each(&mut self, parts: &[&[u8]], make: impl Fn(&[u8]) -> Vec<u8>) -> &mut Self {
        for part in parts {
            let shown: String = part.escape_ascii().to_string().chars().take(60).collect();
            self.add(&format!("'{shown}'"), make(part));
        }
        self
    }
}

/// All request cases.
pub(crate) fn requests() -> Vec<RequestCase> {
    let mut cases = Vec::new();
    heads::lengths(&mut cases);
    heads::codings(&mut cases);
    fields::field_lines(&mut cases);
    heads::request_lines(&mut cases);
    heads::targets(&mut cases);
    fields::hosts(&mut cases);
    fields::sizes(&mut cases);
    heads::upgrades(&mut cases);
    bodies::chunk_sizes(&mut cases);
    bodies::chunk_lines(&mut cases);
    bodies::extensions(&mut cases);
    bodies::trailers(&mut cases);
    bodies::cut(&mut cases);
    bodies::early_answers(&mut cases);
    bodies::must_work(&mut cases);
    cases
}
