//! Finds the end of a head while it arrives, and refuses it at the first byte that no good head
//! has: a peer that speaks TLS or HTTP/0.9 here is told at once, not at the head's deadline.

use super::fault::HeadFault;
use super::fields::VALUE;
use super::head::{HEADERS_MAX, ReplyHead, RequestHead, RequestLine, status_line};
use super::scan;

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The head, whole.
    pub head_bytes_max: usize,
    /// The request line, or the status line.
    pub request_line_bytes_max: usize,
    /// Header fields; never more than 128.
    pub headers_max: usize,
}

/// Empty lines that may stand before a request line (RFC 9112 section 2.2 asks for one at least).
const LEADING_LINES_MAX: u8 = 2;

/// Which kind of head is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Reply,
}

/// How far a head was searched: nothing is looked at twice while it trickles in. One for each
/// direction of a connection; ready for the next head once one was returned.
#[derive(Clone, Debug, Default)]
pub struct HeadSearch {
    /// Where the line begins whose end was not seen yet.
    line: usize,
    /// Bytes of it that were checked.
    checked: usize,
    /// Where the first line begins, after empty ones.
    start: usize,
    /// Where the first field begins; 0 while the first line is not whole.
    fields: usize,
    /// Empty lines before the first.
    leading: u8,
    /// Field lines so far.
    count: usize,
}

impl HeadSearch {
    /// Looks for a request head at the front of `input`; returns it and the bytes it took, or
    /// `None` when more must come. Pass the same bytes again then, with more behind them.
    ///
    /// # Errors
    /// What is wrong with the head: answer with [`HeadFault::status`] and close, since nothing
    /// after it can be trusted.
    pub fn request<'b>(
        &mut self,
        input: &'b [u8],
        limits: &HeadLimits,
    ) -> Result<Option<(RequestHead<'b>, usize)>, HeadFault> {
        let Some(end) = self.end(input, limits, Kind::Request)? else { return Ok(None) };
        let (head, fields) = self.take(input, end);
        Ok(Some((RequestHead::decode(head, fields)?, end)))
    }

    /// Looks for a reply head at the front of `input`, as [`HeadSearch::request`] does. `to_head`:
    /// the request was a `HEAD`, so no body follows.
    ///
    /// # Errors
    /// What is wrong with the head: the connection is of no use any more.
    pub fn reply<'b>(
        &mut self,
        input: &'b [u8],
        limits: &HeadLimits,
        to_head: bool,
    ) -> Result<Option<(ReplyHead<'b>, usize)>, HeadFault> {
        let Some(end) = self.end(input, limits, Kind::Reply)? else { return Ok(None) };
        let (head, fields) = self.take(input, end);
        Ok(Some((ReplyHead::decode(head, fields, to_head)?, end)))
    }

    /// The head without empty lines before it, and its field lines alone; forgets the head.
    fn take<'b>(&mut self, input: &'b [u8], end: usize) -> (&'b [u8], &'b [u8]) {
        let head = input.get(self.start..end).unwrap_or_default();
        let fields = input.get(self.fields..end.saturating_sub(2)).unwrap_or_default();
        *self = Self::default();
        (head, fields)
    }

    /// The offset after the empty line that ends the head. Every decision is made in the order of
    /// the bytes, so that the answer does not depend on how they were cut.
    fn end(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
        kind: Kind,
    ) -> Result<Option<usize>, HeadFault> {
        let max = limits.head_bytes_max;
        let seen = input.get(..max).unwrap_or(input);
        loop {
            let pending = seen.get(self.line..).unwrap_or_default();
            if let Some(line) = self.usual(pending, limits) {
                self.line += line.len() + 2;
                if self.whole(line, limits, kind)? {
                    return Ok(Some(self.line));
                }
                continue;
            }
            let fresh = pending.get(self.checked..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', fresh) else {
                self.tail(pending, limits, kind)?;
                self.checked = pending.len();
                return if seen.len() < max { Ok(None) } else { Err(HeadFault::HeadTooLong(max)) };
            };
            let length = self.checked + found;
            let line = pending.get(..length).unwrap_or_default();
            self.tail(line, limits, kind)?;
            let Some(line) = line.strip_suffix(b"\r") else { return Err(HeadFault::BareLf) };
            self.line += length + 1;
            self.checked = 0;
            if self.whole(line, limits, kind)? {
                return Ok(Some(self.line));
            }
        }
    }

    /// The next line if it is whole and has nothing that [`Self::tail`] could refuse, told at once
    /// instead of byte for byte. `None` when it needs a closer look.
    fn usual<'b>(&self, pending: &'b [u8], limits: &HeadLimits) -> Option<&'b [u8]> {
        if self.checked > 0 {
            return None;
        }
        let (line, rest) = pending.split_at_checked(scan::visible(pending))?;
        let fits = self.fields > 0 || line.len() <= limits.request_line_bytes_max;
        (fits && rest.starts_with(b"\r\n")).then_some(line)
    }

    /// Checks the bytes of a line that were not checked yet; its LF is not among them.
    fn tail(&self, pending: &[u8], limits: &HeadLimits, kind: Kind) -> Result<(), HeadFault> {
        let first = self.fields == 0;
        let max = if first { limits.request_line_bytes_max.saturating_add(1) } else { usize::MAX };
        let known = pending.get(..max).unwrap_or(pending);
        if first && kind == Kind::Reply {
            let expected = b"HTTP/1.";
            if !known.iter().zip(expected).all(|(found, expected)| found == expected) {
                return Err(HeadFault::StatusLine);
            }
        }
        // The byte before the fresh ones may be a CR whose LF did not come.
        let from = self.checked.saturating_sub(1);
        let mut bytes = known.get(from..).unwrap_or_default().iter().peekable();
        while let Some(&byte) = bytes.next() {
            if byte == b'\r' {
                if bytes.peek().is_some() {
                    return Err(HeadFault::BareCr);
                }
            } else if !VALUE[usize::from(byte)]
                || (first && kind == Kind::Request && (byte == b'\t' || byte >= 0x80))
            {
                return Err(HeadFault::ForbiddenByte(byte));
            }
        }
        if pending.len() > max {
            return Err(HeadFault::RequestLineTooLong(limits.request_line_bytes_max));
        }
        Ok(())
    }

    /// Takes a whole line without its CRLF; true when it was the one that ends the head.
    fn whole(&mut self, line: &[u8], limits: &HeadLimits, kind: Kind) -> Result<bool, HeadFault> {
        if self.fields == 0 {
            if line.is_empty() && kind == Kind::Request {
                self.leading += 1;
                self.start = self.line;
                let few = self.leading <= LEADING_LINES_MAX;
                return if few { Ok(false) } else { Err(HeadFault::LeadingLines) };
            }
            match kind {
                Kind::Request => RequestLine::decode(line).map(drop)?,
                Kind::Reply => status_line(line)?,
            }
            self.fields = self.line;
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(HeadFault::Folded);
        }
        self.count += 1;
        let max = limits.headers_max.min(HEADERS_MAX);
        if self.count > max { Err(HeadFault::TooManyFields(max)) } else { Ok(false) }
    }
}
