//! Frames that differ from the last one in nothing but their text are recognised by their bytes.
//!
//! Within one part of an answer, an upstream's frames are the same text around another delta. So
//! the bytes of the last frame that was read in full are kept, with holes where its decoder says
//! that the delta stood and where values stood that decide nothing (a sequence number, padding).
//! What is the same everywhere else means the same: only what stands in the holes is checked.

use crate::dialect::pattern::Pattern;
use crate::wire::json;
use std::ops::Range;

/// Holes of one frame, at most: the delta and what decides nothing.
const HOLES_MAX: usize = 5;
/// A longer frame is not kept: no upstream repeats so much around a delta.
const SAMPLE_BYTES_MAX: usize = 4096;
/// Frames in a row that were not recognised, after which it is tried only now and then.
const MISSES_MAX: u32 = 8;
/// How often it is tried then: every so many frames.
const RETRY_EVERY: u32 = 32;

/// The frame that the next one is compared with.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The frame as it came, line ends included.
    sample: Vec<u8>,
    holes: [Hole; HOLES_MAX],
    count: u8,
    /// Bits of the values without meaning that were seen to differ; the others have to be the same.
    varied: u8,
    /// Where the model's name stands, for who writes another one there.
    model: Option<(u16, u16)>,
    /// The sample is the last frame that the decoder read, or one like it.
    active: bool,
    /// What is the same in every frame is so long.
    bytes_min: usize,
    never: bool,
    misses: u32,
}

/// A place in the sample whose bytes may be others. Small, because every stream keeps some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hole {
    start: u16,
    end: u16,
    kind: Content,
}

/// What may stand in a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Content {
    /// The text of the delta.
    #[default]
    Text,
    /// The inside of a string that decides nothing.
    String,
    /// An unsigned integer that decides nothing.
    Number,
}

/// A frame that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit<'i> {
    /// The text of its delta, not empty, checked.
    pub(super) text: json::Escaped<'i>,
    /// The frame as it came.
    pub(super) whole: &'i [u8],
    /// Where in it the model's name stands, if that was learned.
    pub(super) model: Option<Range<usize>>,
}

impl Learned {
    /// One that recognises nothing.
    pub(super) fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    /// The frame at the front of `input`, if it is whole there and like the sample.
    pub(super) fn find<'i>(&mut self, input: &'i [u8]) -> Option<Hit<'i>> {
        if !self.active || input.len() < self.bytes_min {
            return None;
        }
        let hit = self.compare(input);
        if hit.is_some() {
            self.misses = 0;
        }
        hit
    }

    fn compare<'i>(&self, input: &'i [u8]) -> Option<Hit<'i>> {
        let (mut rest, mut from, mut text, mut model) = (input, 0, "", self.model_span());
        for hole in self.holes.get(..usize::from(self.count))? {
            rest = rest.strip_prefix(self.sample.get(from..usize::from(hole.start))?)?;
            let length = match hole.kind {
                Content::Text => {
                    text = json::string_inside(rest)?;
                    text.len()
                }
                Content::String => json::string_inside(rest)?.len(),
                Content::Number => number_len(rest)?,
            };
            rest = rest.get(length..)?;
            from = usize::from(hole.end);
            if let Some(learned) = self.model_span().filter(|model| model.start >= from) {
                // What stands in a hole may be longer or shorter than in the sample.
                let start = learned.start - from + (input.len() - rest.len());
                model = Some(start..start + learned.len());
            }
        }
        rest = rest.strip_prefix(self.sample.get(from..)?)?;
        let whole = input.get(..input.len() - rest.len())?;
        (!text.is_empty()).then(|| Hit { text: json::Escaped::trusted(text), whole, model })
    }

    /// Takes note of a frame that was read in full: `offset` is where its data stands in `whole`,
    /// the frame as it came, and `pattern` what its decoder says of it. `None` for a frame whose
    /// data does not stand there in one piece.
    pub(super) fn learn(&mut self, pattern: Option<&Pattern>, offset: Option<usize>, whole: &[u8]) {
        self.active = false;
        let (Some(pattern), Some(offset)) = (pattern, offset) else { return };
        self.misses = self.misses.saturating_add(1);
        let tired = self.misses > MISSES_MAX && !self.misses.is_multiple_of(RETRY_EVERY);
        // A block that a CR ends may go on with its LF.
        if self.never || tired || whole.len() > SAMPLE_BYTES_MAX || !whole.ends_with(b"\n") {
            return;
        }
        self.note_varied(pattern, offset, whole);
        self.sample.clear();
        self.sample.extend_from_slice(whole);
        self.dig(pattern, offset);
        self.model = None;
        self.active = true;
    }

    /// Says where in the sample the model's name stands.
    pub(super) fn mark_model(&mut self, span: &Range<usize>) {
        self.model = Some((place(span.start), place(span.end)));
    }

    fn model_span(&self) -> Option<Range<usize>> {
        self.model.map(|(start, end)| usize::from(start)..usize::from(end))
    }

    /// True when the next frame is compared with the one that was learned last.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Compares the values that decide nothing with those of the sample before, so that only those
    /// that differ have to be looked at in the next frame.
    fn note_varied(&mut self, pattern: &Pattern, offset: usize, whole: &[u8]) {
        for (bit, free) in pattern.free().iter().enumerate() {
            let Range { start, end } = free.range();
            let now = whole.get(start + offset..end + offset);
            // Behind a text of another length it stands elsewhere and counts as another value,
            // which costs a look at it and no more.
            if !self.sample.is_empty() && now != self.sample.get(start + offset..end + offset) {
                self.varied |= 1 << bit;
            }
        }
    }

    fn dig(&mut self, pattern: &Pattern, offset: usize) {
        let text = pattern.text();
        let hole = |range: Range<usize>, kind| Hole {
            start: place(range.start + offset),
            end: place(range.end + offset),
            kind,
        };
        self.count = 1;
        self.holes[0] = hole(text, Content::Text);
        for (bit, free) in (0..).zip(pattern.free()) {
            if self.varied & 1 << bit != 0
                && let Some(slot) = self.holes.get_mut(usize::from(self.count))
            {
                let kind = if free.number { Content::Number } else { Content::String };
                *slot = hole(free.range(), kind);
                self.count += 1;
            }
        }
        if let Some(holes) = self.holes.get_mut(..usize::from(self.count)) {
            holes.sort_unstable_by_key(|hole| hole.start);
            let open: usize = holes.iter().map(|hole| usize::from(hole.end - hole.start)).sum();
            self.bytes_min = self.sample.len().saturating_sub(open);
        }
    }
}

/// An offset into the sample, which is no longer than [`SAMPLE_BYTES_MAX`].
fn place(offset: usize) -> u16 {
    u16::try_from(offset).unwrap_or(u16::MAX)
}

/// Length of the unsigned integer at the front of `bytes` (RFC 8259, section 6: no leading zero).
fn number_len(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits == 1 || (digits > 1 && bytes.first() != Some(&b'0'))).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::pattern::{Unneeded, place_of};
    use crate::wire::json::{Cursor, Escaped, Raw};

    /// A frame whose text is its member `d`, and whose members `n` and `p` decide nothing.
    fn pattern(data: &str) -> Pattern {
        let (mut text, mut unneeded) = (Escaped::EMPTY, Unneeded::default());
        Cursor::new(data)
            .object(|key, value| {
                let value: Raw<'_> = value.skip()?;
                match key {
                    "d" => text = value.string().unwrap(),
                    "n" | "p" => unneeded.add(value),
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
        Pattern::of(text, &unneeded, data.as_bytes()).unwrap()
    }

    fn frame(data: &str) -> String {
        format!("data: {data}\n\n")
    }

    fn learn(learned: &mut Learned, data: &str) {
        let whole = frame(data);
        let offset = place_of(&whole.as_bytes()[6..], whole.as_bytes()).unwrap().start;
        learned.learn(Some(&pattern(data)), Some(offset), whole.as_bytes());
    }

    fn text_of(learned: &mut Learned, data: &str) -> Option<String> {
        let mut input = frame(data).into_bytes();
        let length = input.len();
        input.extend_from_slice(b"data: more");
        let hit = learned.find(&input)?;
        assert_eq!(hit.whole.len(), length);
        Some(hit.text.raw().to_owned())
    }

    #[test]
    fn a_frame_with_another_text_is_recognised_and_any_other_is_not() {
        let mut learned = Learned::default();
        assert_eq!(text_of(&mut learned, r#"{"d":"a","k":1}"#), None, "nothing was learned");
        learn(&mut learned, r#"{"d":"a","k":1}"#);
        let long = "x".repeat(9000);
        for text in ["b", "two words", r#"\\n\"x\ud83d"#, "漢字", &long] {
            let found = text_of(&mut learned, &format!(r#"{{"d":"{text}","k":1}}"#));
            assert_eq!(found.as_deref(), Some(text));
        }
        for other in [
            r#"{"d":"","k":1}"#,
            r#"{"d":"a","k":2}"#,
            r#"{"d":"a","k":1 }"#,
            r#"{"d":"a\x","k":1}"#,
            r#"{"d":"a	b","k":1}"#,
            r#"{"d":null,"k":1}"#,
            r#"{"e":"a","k":1}"#,
        ] {
            assert_eq!(text_of(&mut learned, other), None, "{other}");
        }
        assert_eq!(learned.find(b"data: {\"d\":\"\xff\",\"k\":1}\n\n"), None, "not UTF-8");
        for cut in 0..frame(r#"{"d":"abc","k":1}"#).len() {
            assert_eq!(learned.find(&frame(r#"{"d":"abc","k":1}"#).as_bytes()[..cut]), None);
        }
    }

    #[test]
    fn values_that_decide_nothing_may_differ_once_they_were_seen_to() {
        let mut learned = Learned::default();
        learn(&mut learned, r#"{"n":8,"d":"a","p":"xx","k":1}"#);
        assert_eq!(text_of(&mut learned, r#"{"n":9,"d":"b","p":"xx","k":1}"#), None);
        learn(&mut learned, r#"{"n":9,"d":"b","p":"yy","k":1}"#);
        let found = text_of(&mut learned, r#"{"n":1000,"d":"c","p":"y\n!","k":1}"#);
        assert_eq!(found.as_deref(), Some("c"));
        for other in [
            r#"{"n":10,"d":"c","p":"y","k":2}"#,
            r#"{"n":010,"d":"c","p":"y","k":1}"#,
            r#"{"n":,"d":"c","p":"y","k":1}"#,
            r#"{"n":1.5,"d":"c","p":"y","k":1}"#,
            r#"{"n":-1,"d":"c","p":"y","k":1}"#,
            r#"{"n":10,"d":"c","p":7,"k":1}"#,
            r#"{"n":10,"d":"c","p":"\y","k":1}"#,
        ] {
            assert_eq!(text_of(&mut learned, other), None, "{other}");
        }
    }

    #[test]
    fn the_models_name_is_found_behind_what_differs() {
        let mut learned = Learned::default();
        for sample in [r#"{"n":8,"d":"a","m":"model"}"#, r#"{"n":9,"d":"b","m":"model"}"#] {
            learn(&mut learned, sample);
            let at = frame(sample).find("model").unwrap();
            learned.mark_model(&(at..at + 5));
        }
        let next = frame(r#"{"n":1234,"d":"longer","m":"model"}"#);
        let hit = learned.find(next.as_bytes()).unwrap();
        assert_eq!(&next[hit.model.unwrap()], "model");
    }

    #[test]
    fn frames_that_always_differ_are_hardly_ever_learned() {
        let mut learned = Learned::default();
        let mut tried = 0;
        for count in 0..1000 {
            let data = format!(r#"{{"d":"a","k":{count}}}"#);
            assert_eq!(text_of(&mut learned, &data), None);
            learn(&mut learned, &data);
            tried += u32::from(learned.is_active());
        }
        assert_eq!(tried, MISSES_MAX + 1000 / RETRY_EVERY);
        learn(&mut learned, r#"{"d":"a","k":1}"#);
        learned.learn(None, Some(6), b"data: {}\n\n");
        assert!(!learned.is_active(), "a frame of another kind ends it");
    }
}
