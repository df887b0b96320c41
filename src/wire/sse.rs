//! Server-sent events (WHATWG HTML, section 9.2): bytes in, frames out, any line ending, any cut.
//!
//! A frame is returned only when its closing blank line is in the input, so it borrows from it; a
//! frame whose `data` spans several lines is joined in the decoder's own buffer.

/// One event: its `event` field (empty when absent) and its `data` (lines joined by LF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The `event` field; empty when the block had none.
    pub name: &'a [u8],
    /// The `data` field; UTF-8 is not checked here.
    pub data: &'a [u8],
}

/// What [`Decoder::step`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An event that carries data.
    Frame(Frame<'a>),
    /// A block without data (comments, `retry`, blank lines): nothing to dispatch.
    Skip,
    /// The block is not complete; zero bytes are used, and the decoder remembers how far it looked.
    NeedMore,
}

/// Splits a byte stream into frames. Feed it the same bytes again, with more behind them, after
/// [`Step::NeedMore`].
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the pending block that were searched already, up to the start of a line.
    searched: usize,
    /// False until the first bytes were looked at for a byte order mark.
    started: bool,
    /// True when the last used byte was a CR whose LF may still come.
    after_cr: bool,
    /// Joined data of a block with several `data` lines.
    joined: Vec<u8>,
}

impl Decoder {
    /// Looks for one block at the front of `input`; returns what it is and how many bytes it took.
    pub fn step<'a>(&'a mut self, input: &'a [u8]) -> (Step<'a>, usize) {
        let mut skip = 0;
        if !self.started {
            const BOM: &[u8] = b"\xef\xbb\xbf";
            if input.len() < BOM.len() && BOM.starts_with(input) {
                return (Step::NeedMore, 0);
            }
            self.started = true;
            if input.starts_with(BOM) {
                return (Step::Skip, BOM.len());
            }
        }
        if self.after_cr {
            match input.first() {
                None => return (Step::NeedMore, 0),
                Some(b'\n') => skip = 1,
                Some(_) => {}
            }
            self.after_cr = false;
            if skip == 1 {
                return (Step::Skip, 1);
            }
        }
        match self.block_end(input) {
            None => (Step::NeedMore, 0),
            Some(end) => {
                self.searched = 0;
                self.after_cr = input[end - 1] == b'\r' && input.get(end).is_none();
                let end_used =
                    end + usize::from(input[end - 1] == b'\r' && input.get(end) == Some(&b'\n'));
                (self.parse(&input[..end]), end_used)
            }
        }
    }

    /// Takes what is left when the stream has ended. The standard discards a block without its
    /// blank line; some senders forget it, so the caller gets it and decides by its data.
    pub fn finish<'a>(&'a mut self, rest: &'a [u8]) -> Step<'a> {
        self.searched = 0;
        self.after_cr = false;
        self.parse(rest)
    }

    /// Bytes just behind the blank line that ends the first block of `input`, if it is there.
    fn block_end(&mut self, input: &[u8]) -> Option<usize> {
        let mut line = self.searched;
        loop {
            let length = memchr::memchr2(b'\n', b'\r', &input[line..]);
            let Some(length) = length else {
                self.searched = line;
                return None;
            };
            let end = line + length;
            let crlf = input[end] == b'\r' && input.get(end + 1) == Some(&b'\n');
            if length == 0 {
                return Some(end + 1);
            }
            if input[end] == b'\r' && input.get(end + 1).is_none() {
                // The LF of this CR may still come; the line stays unread until then.
                self.searched = line;
                return None;
            }
            line = end + 1 + usize::from(crlf);
        }
    }

    fn parse<'a>(&'a mut self, block: &'a [u8]) -> Step<'a> {
        let (mut name, mut data, mut count): (&[u8], &[u8], usize) = (b"", b"", 0);
        self.joined.clear();
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (line, mut next) = (&rest[..end], end + 1);
            if rest[end..].starts_with(b"\r\n") {
                next += 1;
            }
            rest = rest.get(next..).unwrap_or_default();
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"data" => {
                    match count {
                        0 => data = value,
                        1 => {
                            self.joined.extend_from_slice(data);
                            self.joined.push(b'\n');
                            self.joined.extend_from_slice(value);
                        }
                        _ => {
                            self.joined.push(b'\n');
                            self.joined.extend_from_slice(value);
                        }
                    }
                    count += 1;
                }
                b"event" => name = value,
                _ => {}
            }
        }
        match count {
            0 => Step::Skip,
            1 => Step::Frame(Frame { name, data }),
            _ => Step::Frame(Frame { name, data: &self.joined }),
        }
    }
}
