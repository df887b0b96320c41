//! What a script's answer must be, prepared so that comparing a delta with it is one comparison of
//! bytes.

use crate::mock::script::{STAMP_BYTES, Script};
use crate::wire::json;

/// Most bytes of text that an answer may have, since all of it is kept in memory, twice.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// One text of an answer and the pieces that it is streamed in.
#[derive(Debug, Default)]
pub(super) struct Want {
    /// The whole text, stamps as zeros.
    text: Vec<u8>,
    /// The same as the inside of JSON strings, in the spelling of nearly all servers.
    escaped: Vec<u8>,
    /// Where each piece ends, in `text` and in `escaped`.
    ends: Vec<(u32, u32)>,
    /// Bytes from one stamp to the next; 0 when there are none.
    stamp_step: usize,
}

impl Want {
    /// A text of these pieces; with `stamped`, each begins with a stamp and all are equally long.
    fn new(pieces: impl Iterator<Item = String>, stamped: bool) -> Self {
        let mut want = Self::default();
        for piece in pieces {
            want.text.extend_from_slice(piece.as_bytes());
            json::escape(&piece, &mut want.escaped);
            want.ends.push((small(want.text.len()), small(want.escaped.len())));
            if stamped {
                want.stamp_step = piece.len();
            }
        }
        want
    }

    /// The whole text, stamps as zeros.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// How many pieces there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Whether pieces begin with the time at which they were sent.
    pub(super) fn is_stamped(&self) -> bool {
        self.stamp_step > 0
    }

    /// Where piece `index` begins in the text.
    pub(super) fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|it| self.ends.get(it)).map_or(0, |end| end.0 as usize)
    }

    /// Piece `index`, escaped; `None` behind the last one.
    pub(super) fn escaped(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |it| self.ends.get(it).map(|it| it.1))?;
        self.escaped.get(start as usize..self.ends.get(index)?.1 as usize)
    }

    /// Piece `index`; `None` behind the last one.
    pub(super) fn piece(&self, index: usize) -> Option<&[u8]> {
        self.text.get(self.start(index)..self.ends.get(index)?.0 as usize)
    }

    /// Whether `text` could be piece `index`, whatever its stamp says.
    pub(super) fn is_piece(&self, index: usize, text: &[u8]) -> bool {
        let mut walk = Walk { position: self.start(index), ..Walk::default() };
        let whole = self.piece(index).is_some_and(|piece| piece.len() == text.len());
        whole && walk.over(self, text, &mut |_| {}).is_ok()
    }
}

/// Texts are at most [`TEXT_BYTES_MAX`] long.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A comparison under way: how much of a text was compared, and what its stamps were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// Bytes that were equal so far.
    pub(super) position: usize,
    /// Of all stamps so far; two texts with the same hash and length had the same stamps.
    stamps: u64,
    /// Digits of the stamp that is being read.
    stamp: u64,
}

impl Walk {
    /// Compares `text` with what `want` has behind this position, wherever pieces were cut, and
    /// goes on by it. `stamp` is called with every stamp that is whole, in microseconds.
    ///
    /// # Errors
    /// They differ, or `want` has ended; the position is where.
    pub(super) fn over(
        &mut self,
        want: &Want,
        text: &[u8],
        stamp: &mut dyn FnMut(u64),
    ) -> Result<(), ()> {
        if want.stamp_step == 0 {
            return self.plain(want, text);
        }
        let mut rest = text;
        while !rest.is_empty() {
            let inside = self.position % want.stamp_step;
            if inside < STAMP_BYTES {
                if self.position >= want.text.len() {
                    return Err(());
                }
                self.stamp_byte(inside, rest[0], stamp)?;
                self.position += 1;
                rest = &rest[1..];
            } else {
                let (front, behind) = rest.split_at(rest.len().min(want.stamp_step - inside));
                self.plain(want, front)?;
                rest = behind;
            }
        }
        Ok(())
    }

    /// Compares text without stamps.
    fn plain(&mut self, want: &Want, text: &[u8]) -> Result<(), ()> {
        let rest = want.text.get(self.position..).unwrap_or_default();
        if rest.starts_with(text) {
            self.position += text.len();
            return Ok(());
        }
        self.position += rest.iter().zip(text).take_while(|(a, b)| a == b).count();
        Err(())
    }

    fn stamp_byte(&mut self, at: usize, byte: u8, stamp: &mut dyn FnMut(u64)) -> Result<(), ()> {
        match at {
            0 if byte == b'@' => self.stamp = 0,
            1..=16 if byte.is_ascii_digit() => {
                self.stamp = self.stamp.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            }
            17 if byte == b' ' => {
                self.mix(self.stamp);
                stamp(self.stamp);
            }
            _ => return Err(()),
        }
        Ok(())
    }

    /// Goes on by a whole piece whose bytes were found equal elsewhere.
    pub(super) fn take(&mut self, bytes: usize, stamp: Option<u64>) {
        self.position += bytes;
        if let Some(stamp) = stamp {
            self.mix(stamp);
        }
    }

    /// Whether the two went over the same text, stamps included.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.position, self.stamps) == (other.position, other.stamps)
    }

    fn mix(&mut self, stamp: u64) {
        self.stamps = (self.stamps.rotate_left(7) ^ stamp).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Reads a stamp at the front of a text.
pub(super) fn stamp_of(text: &[u8]) -> Option<u64> {
    let (b'@', digits, b' ') =
        (*text.first()?, text.get(1..STAMP_BYTES - 1)?, text[STAMP_BYTES - 1])
    else {
        return None;
    };
    digits.iter().try_fold(0u64, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0'))
    })
}

/// How an answer that must fail does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// With this HTTP status.
    Status(u16),
    /// With an error, or a connection that ends, in the middle of the stream.
    Midway,
}

/// A whole answer.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The text.
    pub(super) text: Want,
    /// The reasoning before it.
    pub(super) reasoning: Want,
    /// The arguments of each call behind it.
    pub(super) calls: Vec<Want>,
    /// It must not succeed.
    pub(super) failing: Option<Failing>,
}

impl Expected {
    /// What this script answers.
    ///
    /// # Errors
    /// The answer is too large to be kept here.
    pub(super) fn of(script: &Script) -> Result<Self, String> {
        let deltas = u64::from(script.deltas) + u64::from(script.reasoning);
        let arguments = u64::from(script.calls) * u64::from(script.call_deltas);
        let width = u64::from(script.bytes).max(STAMP_BYTES as u64);
        if (deltas + arguments) * width > TEXT_BYTES_MAX {
            return Err(format!(
                "the script's answer is more than {TEXT_BYTES_MAX} bytes, which must all be kept \
                 to compare with: take fewer or smaller deltas"
            ));
        }
        let end = script.fail_after.into_iter().chain(script.cut_after).min();
        let shown = end.unwrap_or(script.deltas).min(script.deltas);
        let ends_early = end.is_some();
        let failing = match script.status {
            0 => ends_early.then_some(Failing::Midway),
            status => Some(Failing::Status(status)),
        };
        let calls = if ends_early { 0 } else { script.calls };
        let piece = |index| {
            let mut piece = String::new();
            script.delta(index, &mut piece);
            piece
        };
        let thought = |index| {
            let mut piece = String::new();
            script.reasoning_delta(index, &mut piece);
            piece
        };
        Ok(Self {
            text: Want::new((0..shown).map(piece), script.stamp),
            reasoning: Want::new((0..script.reasoning).map(thought), false),
            calls: (0..calls)
                .map(|call| Want::new(script.arguments(call).into_iter(), false))
                .collect(),
            failing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(script: &str) -> Expected {
        Expected::of(&script.parse().unwrap()).unwrap()
    }

    #[test]
    fn pieces_join_to_the_text_in_both_spellings() {
        let it = expected("deltas=5,bytes=9,text=code,reasoning=2,calls=2,call_deltas=3");
        let script: Script = "deltas=5,bytes=9,text=code,reasoning=2".parse().unwrap();
        assert_eq!(it.text.text(), script.whole_text().as_bytes());
        assert_eq!(it.reasoning.text(), script.whole_reasoning().as_bytes());
        for want in [&it.text, &it.reasoning, &it.calls[0], &it.calls[1]] {
            let plain: Vec<u8> =
                (0..want.count()).flat_map(|at| want.piece(at).unwrap().to_vec()).collect();
            assert_eq!(plain, want.text());
            for at in 0..want.count() {
                let inside = std::str::from_utf8(want.escaped(at).unwrap()).unwrap();
                let mut text = String::new();
                json::unescape(inside, &mut text);
                assert_eq!(text.as_bytes(), want.piece(at).unwrap());
                assert!(want.is_piece(at, text.as_bytes()));
            }
            assert_eq!(want.piece(want.count()), None);
            assert_eq!(want.escaped(want.count()), None);
        }
    }

    #[test]
    fn a_walk_does_not_care_where_the_text_was_cut() {
        let it = expected("deltas=3,bytes=24,stamp=true");
        let mut text = it.text.text().to_vec();
        for (piece, stamp) in text.chunks_mut(24).zip(["1700000000000001", "12", "3"]) {
            piece[17 - stamp.len()..17].copy_from_slice(stamp.as_bytes());
        }
        let mut whole = Walk::default();
        let mut stamps = Vec::new();
        whole.over(&it.text, &text, &mut |stamp| stamps.push(stamp)).unwrap();
        assert_eq!(stamps, [1_700_000_000_000_001, 12, 3]);
        assert_eq!(stamp_of(&text), Some(1_700_000_000_000_001));
        for step in 1..text.len() {
            let mut cut = Walk::default();
            for piece in text.chunks(step) {
                cut.over(&it.text, piece, &mut |_| {}).unwrap();
            }
            assert!(cut.is_same(&whole));
        }
        let mut taken = Walk::default();
        for stamp in stamps {
            taken.take(24, Some(stamp));
        }
        assert!(taken.is_same(&whole));

        text[40] = b'1';
        let mut other = Walk::default();
        other.over(&it.text, &text, &mut |_| {}).unwrap();
        assert!(!other.is_same(&whole), "another stamp");
        assert_eq!(whole.over(&it.text, b"@", &mut |_| {}), Err(()), "behind the end");
        for (at, byte) in [(0, b'0'), (3, b'x'), (17, b'0'), (23, b'~')] {
            let mut broken = text.clone();
            broken[at] = byte;
            let mut walk = Walk::default();
            assert_eq!(walk.over(&it.text, &broken, &mut |_| {}), Err(()));
            assert_eq!(walk.position, at);
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_expected_to() {
        let it = expected("deltas=5,fail_after=2,calls=1");
        assert_eq!((it.text.count(), it.calls.len()), (2, 0));
        assert_eq!(it.failing, Some(Failing::Midway));
        let it = expected("deltas=5,cut_after=9");
        assert_eq!((it.text.count(), it.failing), (5, Some(Failing::Midway)), "at the latest");
        assert_eq!(expected("status=429").failing, Some(Failing::Status(429)));
        let why = Expected::of(&"deltas=10000000,bytes=1000".parse().unwrap()).unwrap_err();
        assert!(why.contains("fewer or smaller deltas"), "{why}");
    }
}
