//! Server-sent events (WHATWG HTML, section 9.2): bytes in, frames out, any line ending, any cut.
//!
//! A frame is returned only when its closing blank line is in the input, so it borrows from it; a
//! frame whose `data` spans several lines is joined in the decoder's own buffer.

use std::ops::Range;

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

/// Keep at most so much memory for joined data from one frame to the next.
const JOINED_BYTES_KEPT: usize = 64 * 1024;

/// Splits a byte stream into frames. Feed it the same bytes again, with more behind them, after
/// [`Step::NeedMore`].
///
/// Every byte is looked at once: the lines of an incomplete block were read already, and so was
/// the front of its last line.
#[derive(Debug, Default)]
pub struct Decoder {
    /// False until the first bytes were looked at for a byte order mark.
    started: bool,
    /// True when the last used byte was a CR whose LF may still come.
    after_cr: bool,
    /// What is known of the block at the front of the input.
    block: Block,
    /// Joined data of a block with several `data` lines.
    joined: Vec<u8>,
}

/// A block that is being read. Offsets count from its first byte.
#[derive(Debug, Default)]
struct Block {
    /// Start of the first line that was not read.
    line: usize,
    /// No line ends between `line` and here.
    searched: usize,
    /// The value of the last `event` line.
    name: Range<usize>,
    /// The value of the first `data` line.
    data: Range<usize>,
    /// How many `data` lines there were.
    data_lines: usize,
}

impl Decoder {
    /// Looks for one block at the front of `input`; returns what it is and how many bytes it took.
    pub fn step<'a>(&'a mut self, input: &'a [u8]) -> (Step<'a>, usize) {
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
        if self.after_cr && !input.is_empty() {
            self.after_cr = false;
            if input.starts_with(b"\n") {
                return (Step::Skip, 1);
            }
        }
        while let Some(end) = self.line_end(input) {
            let next = match input.get(end..) {
                Some([b'\r', b'\n', ..]) => end + 2,
                // The LF of this CR may still come. A blank line need not wait for it: its block is
                // whole, and one who waits would hold back the last event of a quiet stream.
                Some([b'\r']) if end > self.block.line => return (Step::NeedMore, 0),
                Some([b'\r']) => {
                    self.after_cr = true;
                    end + 1
                }
                _ => end + 1,
            };
            if end == self.block.line {
                return (self.dispatch(input), next);
            }
            self.field(input, end);
            self.block.line = next;
            self.block.searched = next;
        }
        (Step::NeedMore, 0)
    }

    /// How many bytes were looked at of the block that begins at the front of the input. `None` when
    /// what stands there is not the beginning of one: a byte order mark or a late LF may come.
    #[must_use]
    pub fn block_bytes(&self) -> Option<usize> {
        (self.started && !self.after_cr).then_some(self.block.searched)
    }

    /// The caller took the block at the front of the input by itself. Its last byte was an LF.
    pub fn skip_block(&mut self) {
        self.block = Block::default();
    }

    /// Takes what is left when the stream has ended, after [`Step::NeedMore`]. The standard discards
    /// a block without its blank line; some senders forget it, so the caller gets it and decides by
    /// its data.
    pub fn finish<'a>(&'a mut self, rest: &'a [u8]) -> Step<'a> {
        self.after_cr = false;
        let end = self.line_end(rest).unwrap_or(rest.len());
        if end > self.block.line {
            self.field(rest, end);
        }
        self.dispatch(rest)
    }

    /// Offset of the byte that ends the first unread line, if it is there.
    fn line_end(&mut self, input: &[u8]) -> Option<usize> {
        let unseen = input.get(self.block.searched..)?;
        let found = memchr::memchr2(b'\n', b'\r', unseen);
        self.block.searched += found.unwrap_or(unseen.len());
        found.map(|_| self.block.searched)
    }

    /// Reads the line up to `end`.
    fn field(&mut self, input: &[u8], end: usize) {
        let line = input.get(self.block.line..end).unwrap_or_default();
        let colon = match line {
            // By far the most lines are these; there is nothing to search for.
            [b'd', b'a', b't', b'a', b':', ..] => 4,
            _ => memchr::memchr(b':', line).unwrap_or(line.len()),
        };
        let (name, value) = line.split_at(colon);
        let skip = match value {
            [b':', b' ', ..] => 2,
            [b':', ..] => 1,
            _ => 0,
        };
        let range = self.block.line + colon + skip..end;
        match name {
            b"event" => self.block.name = range,
            b"data" => {
                if self.block.data_lines == 0 {
                    self.block.data = range;
                } else {
                    if self.block.data_lines == 1 {
                        self.joined.clear();
                        let first = input.get(self.block.data.clone()).unwrap_or_default();
                        self.joined.extend_from_slice(first);
                    }
                    self.joined.push(b'\n');
                    self.joined.extend_from_slice(&value[skip..]);
                }
                self.block.data_lines += 1;
            }
            _ => {}
        }
    }

    /// The block is whole: hands it out and begins the next one.
    fn dispatch<'a>(&'a mut self, input: &'a [u8]) -> Step<'a> {
        let block = std::mem::take(&mut self.block);
        let name = input.get(block.name).unwrap_or_default();
        if block.data_lines < 2 && self.joined.capacity() > JOINED_BYTES_KEPT {
            self.joined = Vec::new();
        }
        match block.data_lines {
            0 => Step::Skip,
            1 => Step::Frame(Frame { name, data: input.get(block.data).unwrap_or_default() }),
            _ => Step::Frame(Frame { name, data: &self.joined }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing;
    use proptest::prelude::*;

    /// The first step's frame, or what it is instead, and the bytes it took.
    fn first(input: &[u8]) -> (Result<fuzzing::sse::OwnedFrame, String>, usize) {
        let mut decoder = Decoder::default();
        match decoder.step(input) {
            (Step::Frame(Frame { name, data }), used) => (Ok(owned(name, data)), used),
            (other, used) => (Err(format!("{other:?}")), used),
        }
    }

    fn owned(name: &[u8], data: &[u8]) -> fuzzing::sse::OwnedFrame {
        fuzzing::sse::OwnedFrame { name: name.to_vec(), data: data.to_vec() }
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        // A block, the event's name and data.
        let cases: [(&[u8], &[u8], &[u8]); 17] = [
            (b"data: a\n\n", b"", b"a"),
            (b"data:a\r\n\r\n", b"", b"a"),
            (b"data:  a \r\r", b"", b" a "),
            (b"data: a\r\n\n", b"", b"a"),
            (b"data: a\n\r\n", b"", b"a"),
            (b"data\n\n", b"", b""),
            (b"data:\n\n", b"", b""),
            (b"data: \n\n", b"", b""),
            (b"data\ndata\n\n", b"", b"\n"),
            (b"data: a\ndata:b\rdata\r\ndata: d\n\n", b"", b"a\nb\n\nd"),
            (b"event: x\ndata: a\n\n", b"x", b"a"),
            (b"data: a\nevent:x\n\n", b"x", b"a"),
            (b"event: x\nevent\ndata: a\n\n", b"", b"a"),
            (b": note\nid: 7\nretry: 9\n:\ndata: a:b: c\nfoo: bar\n\n", b"", b"a:b: c"),
            (b"Data: x\n data: y\ndata : z\ndatax: w\ndata: a\n\n", b"", b"a"),
            (b"data: a\0b\n\n", b"", b"a\0b"),
            (b"data: \xc3\xa9\xff\n\n", b"", b"\xc3\xa9\xff"),
        ];
        for (block, name, data) in cases {
            let expected = (Ok(owned(name, data)), block.len());
            assert_eq!(first(block), expected, "{:?}", block.escape_ascii());
        }
        for nothing in [&b"\n"[..], b"\r\n", b": note\n\n", b"event: x\n\n", b"id\n\r"] {
            assert_eq!(
                first(nothing),
                (Err("Skip".into()), nothing.len()),
                "{:?}",
                nothing.escape_ascii()
            );
            fuzzing::sse::cut(nothing, 0);
        }
    }

    #[test]
    fn the_mark_is_taken_off_once() {
        assert_eq!(first(b"\xef\xbb\xbfdata: a\n\n"), (Err("Skip".into()), 3));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.step(b"\xef\xbb"), (Step::NeedMore, 0));
        assert_eq!(decoder.step(b"\xef\xbb\xbf"), (Step::Skip, 3));
        let second = b"\xef\xbb\xbfdata: a\n\n";
        assert_eq!(decoder.step(second), (Step::Skip, second.len()), "an unknown field now");
    }

    #[test]
    fn a_blank_line_ended_by_cr_does_not_wait_for_lf() {
        let mut decoder = Decoder::default();
        let frame = Frame { name: b"", data: b"a" };
        assert_eq!(decoder.step(b"data: a\r\n\r"), (Step::Frame(frame), 10));
        assert_eq!(decoder.step(b""), (Step::NeedMore, 0));
        assert_eq!(decoder.step(b"\ndata: a\r\r"), (Step::Skip, 1));
        assert_eq!(decoder.step(b"data: a\r\r"), (Step::Frame(frame), 9));
        assert_eq!(decoder.step(b"data: a\n\n"), (Step::Frame(frame), 9));
    }

    #[test]
    fn what_was_searched_is_not_searched_again() {
        let mut decoder = Decoder::default();
        let mut input = b"event: x\ndata: ".to_vec();
        for _ in 0..100 {
            input.extend_from_slice(&[b'a'; 1000]);
            assert_eq!(decoder.step(&input), (Step::NeedMore, 0));
            assert_eq!(decoder.block.searched, input.len());
            assert_eq!(decoder.block.line, 9);
        }
        input.extend_from_slice(b"\n\n");
        let (step, used) = decoder.step(&input);
        assert!(matches!(step, Step::Frame(frame) if frame.data.len() == 100_000));
        assert_eq!(used, input.len());
    }

    #[test]
    fn a_large_join_is_forgotten() {
        let mut decoder = Decoder::default();
        let large = "data: x\n".repeat(JOINED_BYTES_KEPT) + "\n";
        assert!(matches!(decoder.step(large.as_bytes()), (Step::Frame(_), _)));
        assert!(decoder.joined.capacity() > JOINED_BYTES_KEPT);
        let frame = Frame { name: b"", data: b"a" };
        assert_eq!(decoder.step(b"data: a\n\n"), (Step::Frame(frame), 9));
        assert_eq!(decoder.joined.capacity(), 0);
    }

    #[test]
    fn the_end_of_the_stream_ends_a_block() {
        for rest in ["data: a", "data: a\n", "data: a\r", "data: a\r\n", "event: \ndata:a\n: x"] {
            let mut decoder = Decoder::default();
            assert_eq!(decoder.step(rest.as_bytes()), (Step::NeedMore, 0), "{rest:?}");
            let frame = Frame { name: b"", data: b"a" };
            assert_eq!(decoder.finish(rest.as_bytes()), Step::Frame(frame), "{rest:?}");
            assert_eq!(decoder.step(b"data: b\n\n").1, 9, "a fresh start");
        }
        for rest in ["", "\n", "dat", ": x", "event: a\n"] {
            assert_eq!(Decoder::default().finish(rest.as_bytes()), Step::Skip, "{rest:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "\n", "\r", "\r\n", "\n\n", "data", "data:", "data: ", "event: ", "event",
                    ":", " ", "x", "é", "id: 1", "\u{feff}", "\0",
                ]),
                0..40,
            ),
            seed in any::<u64>(),
        ) {
            fuzzing::sse::cut(pieces.concat().as_bytes(), seed);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), seed in any::<u64>()) {
            fuzzing::sse::cut(&bytes, seed);
        }
    }
}
