//! JSON Lines: bytes in, lines out, any cut. A line ends in LF, perhaps with a CR before it.

use std::ops::Range;

/// Splits a byte stream into lines. Feed it the same bytes again, with more behind them, after
/// `None`.
///
/// Every byte is looked at once: the decoder remembers how far it looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// No line ends before here.
    searched: usize,
}

impl Decoder {
    /// Looks for one line at the front of `input`; returns it without its end, and how many bytes
    /// it took with its end. `None`: the line is not complete.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let Some(rest) = input.get(self.searched..) else {
            self.searched = 0;
            return self.step(input);
        };
        let Some(at) = memchr::memchr(b'\n', rest) else {
            self.searched = input.len();
            return None;
        };
        let end = self.searched + at;
        self.searched = 0;
        Some((line(input, 0..end), end + 1))
    }

    /// The stream ended: what is left is a line too, unless there is nothing.
    pub fn finish<'a>(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        self.searched = 0;
        (!rest.is_empty()).then(|| line(rest, 0..rest.len()))
    }
}

fn line(input: &[u8], place: Range<usize>) -> &[u8] {
    let line = input.get(place).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut decoder, mut waiting, mut lines) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            while let Some((line, used)) = decoder.step(&waiting) {
                lines.push(line.to_vec());
                waiting.drain(..used);
            }
        }
        lines.extend(decoder.finish(&waiting).map(<[u8]>::to_vec));
        lines
    }

    #[test]
    fn every_cut_gives_the_same_lines() {
        let input = b"{\"a\":1}\n\n\r\n{\"b\":2}\r\nc\rd\nlast".as_slice();
        let expected: [&[u8]; 6] = [b"{\"a\":1}", b"", b"", b"{\"b\":2}", b"c\rd", b"last"];
        assert_eq!(lines(&[input]), expected);
        assert_eq!(lines(&input.chunks(1).collect::<Vec<_>>()), expected);
        for at in 0..=input.len() {
            let (front, back) = input.split_at(at);
            assert_eq!(lines(&[front, back]), expected, "cut at {at}");
        }
    }

    #[test]
    fn nothing_is_looked_at_twice() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.step(b"abc"), None);
        assert_eq!(decoder, Decoder { searched: 3 });
        assert_eq!(decoder.step(b"abc\nd"), Some((b"abc".as_slice(), 4)));
        assert_eq!(decoder, Decoder::default());
        assert_eq!(decoder.finish(b""), None);
    }
}
