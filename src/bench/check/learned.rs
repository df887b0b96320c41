//! Frames of one stream differ in little but the delta and the sequence number. What stands around
//! them in a frame that was checked in full is kept; a frame with the same bytes around, the next
//! number and the script's next delta is right without being parsed.

use crate::bench::expect::stamp_of;
use crate::mock::script::STAMP_BYTES;
use crate::wire::sse::Frame;
use std::ops::Range;

/// The bytes around the delta of the last frame that was checked in full.
#[derive(Debug, Default)]
pub(super) struct Learned {
    valid: bool,
    name: Vec<u8>,
    head: Vec<u8>,
    between: Vec<u8>,
    tail: Vec<u8>,
    /// What stands behind `head` and behind `between`.
    holes: [Hole; 2],
    /// The part that the delta belongs to.
    part: usize,
}

/// What changes from frame to frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hole {
    #[default]
    None,
    Delta,
    Sequence,
}

impl Learned {
    /// Forgets what was learned.
    pub(super) fn clear(&mut self) {
        self.valid = false;
    }

    /// The part whose delta is awaited, if any.
    pub(super) fn part(&self) -> Option<usize> {
        self.valid.then_some(self.part)
    }

    /// Learns from a frame that has one delta and nothing else of note: where in its data the
    /// delta is, and its sequence number if it has one.
    pub(super) fn learn(
        &mut self,
        frame: &Frame<'_>,
        part: usize,
        delta: Range<usize>,
        sequence: Option<Range<usize>>,
    ) {
        let data = frame.data;
        let (first, second, holes) = match sequence {
            None => (delta, data.len()..data.len(), [Hole::Delta, Hole::None]),
            Some(it) if it.start < delta.start => (it, delta, [Hole::Sequence, Hole::Delta]),
            Some(it) => (delta, it, [Hole::Delta, Hole::Sequence]),
        };
        self.valid = true;
        self.part = part;
        self.holes = holes;
        for (kept, bytes) in [
            (&mut self.name, frame.name),
            (&mut self.head, data.get(..first.start).unwrap_or_default()),
            (&mut self.between, data.get(first.end..second.start).unwrap_or_default()),
            (&mut self.tail, data.get(second.end..).unwrap_or_default()),
        ] {
            kept.clear();
            kept.extend_from_slice(bytes);
        }
    }

    /// Whether `frame` is the learned one around `delta` (escaped) and `sequence`. With `stamped`
    /// the delta begins with a stamp, whatever it says, and that is returned.
    #[inline]
    pub(super) fn fits(
        &self,
        frame: &Frame<'_>,
        delta: &[u8],
        stamped: bool,
        sequence: &[u8],
    ) -> Option<Option<u64>> {
        let mut rest = strip(frame.data, &self.head)?;
        if !strip(frame.name, &self.name)?.is_empty() {
            return None;
        }
        let mut stamp = None;
        for (hole, after) in self.holes.iter().zip([&self.between, &self.tail]) {
            match hole {
                Hole::None => {}
                Hole::Sequence => rest = strip(rest, sequence)?,
                Hole::Delta if stamped => {
                    let (found, behind) = rest.split_at_checked(delta.len())?;
                    if found.get(STAMP_BYTES..) != delta.get(STAMP_BYTES..) {
                        return None;
                    }
                    stamp = Some(stamp_of(found)?);
                    rest = behind;
                }
                Hole::Delta => rest = strip(rest, delta)?,
            }
            rest = strip(rest, after)?;
        }
        rest.is_empty().then_some(stamp)
    }
}

/// `bytes` without `front`. An empty `front` is not compared: its pointer may point nowhere, and
/// where glibc compares short texts with masked loads (AVX-512), that costs some 50 ns.
fn strip<'b>(bytes: &'b [u8], front: &[u8]) -> Option<&'b [u8]> {
    if front.is_empty() { Some(bytes) } else { bytes.strip_prefix(front) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(data: &str) -> Frame<'_> {
        Frame { name: b"n", data: data.as_bytes() }
    }

    fn range(data: &str, part: &str) -> Range<usize> {
        let start = data.find(part).unwrap();
        start..start + part.len()
    }

    #[test]
    fn only_the_holes_may_change() {
        for (data, other) in [
            (r#"{"s":7,"d":"word","x":[]}"#, r#"{"s":8,"d":"other","x":[]}"#),
            (r#"{"d":"word","s":7,"x":[]}"#, r#"{"d":"other","s":8,"x":[]}"#),
            (r#"{"d":"word"}"#, r#"{"d":"other"}"#),
        ] {
            let mut learned = Learned::default();
            assert_eq!(learned.part(), None);
            let sequence = data.contains("\"s\"").then(|| range(data, "7"));
            learned.learn(&frame(data), 3, range(data, "word"), sequence);
            assert_eq!(learned.part(), Some(3));
            assert_eq!(learned.fits(&frame(other), b"other", false, b"8"), Some(None));
            assert_eq!(learned.fits(&frame(other), b"othe", false, b"8"), None);
            assert_eq!(learned.fits(&frame(other), b"another", false, b"8"), None);
            assert_eq!(learned.fits(&frame(&other[1..]), b"other", false, b"8"), None);
            assert_eq!(
                learned.fits(&frame(&(other.to_owned() + " ")), b"other", false, b"8"),
                None
            );
            let unnamed = Frame { name: b"", ..frame(other) };
            assert_eq!(learned.fits(&unnamed, b"other", false, b"8"), None);
            if data.contains("\"s\"") {
                assert_eq!(learned.fits(&frame(other), b"other", false, b"9"), None);
                assert_eq!(learned.fits(&frame(other), b"other", false, b"88"), None);
            }
        }
    }

    #[test]
    fn a_stamp_may_be_any_and_is_returned() {
        let data = r#"{"d":"@0000000000000001 ab"}"#;
        let mut learned = Learned::default();
        learned.learn(&frame(data), 0, range(data, "@0000000000000001 ab"), None);
        let want = b"@0000000000000000 ab";
        let fits = |data: &str| learned.fits(&frame(data), want, true, b"");
        assert_eq!(fits(r#"{"d":"@0000000000000042 ab"}"#), Some(Some(42)));
        assert_eq!(fits(r#"{"d":"@0000000000000042 ac"}"#), None);
        assert_eq!(fits(r#"{"d":"@000000000000004x ab"}"#), None);
        assert_eq!(fits(r#"{"d":"00000000000000042 ab"}"#), None);
    }
}
