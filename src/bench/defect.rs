//! What can be wrong with an answer, counted by kind, with the first example of each.

use std::fmt::Write as _;

/// A kind of defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Defect {
    /// No connection could be made, or TLS failed on it.
    Connect,
    /// Nothing came for too long.
    Silence,
    /// The connection ended before the answer.
    Cut,
    /// The bytes are no HTTP reply, or its body breaks its own framing.
    Framing,
    /// Another HTTP status than the one expected.
    Status,
    /// Another `Content-Type` than an event stream, or JSON.
    ContentType,
    /// An event or a document that is not what the API describes.
    Malformed,
    /// A delta of the script did not come.
    MissingDelta,
    /// A delta came twice.
    RepeatedDelta,
    /// Two deltas came in the wrong order.
    SwappedDeltas,
    /// A text is not the script's, byte for byte.
    ChangedText,
    /// The text is right, but its deltas were merged or split.
    DeltaCount,
    /// A text, a reasoning or a call that the script does not have, or that did not come.
    Parts,
    /// A call's name or id is wrong.
    Call,
    /// `sequence_number` does not go up by one.
    Sequence,
    /// Events in an order that the API rules out.
    Order,
    /// A text that is told once more as a whole is not the text that was streamed.
    WholeText,
    /// The stream has no terminal event.
    NoEnd,
    /// The stream has more than one terminal event.
    ManyEnds,
    /// Something follows the terminal event.
    AfterEnd,
    /// The answer says that it ended in another way than it should have.
    WrongEnd,
    /// The promised token counts did not come.
    NoUsage,
    /// The server tells of a failure of its own.
    Failure,
    /// A success was told where the script fails.
    FalseSuccess,
}

impl Defect {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 24] = [
        Self::Connect,
        Self::Silence,
        Self::Cut,
        Self::Framing,
        Self::Status,
        Self::ContentType,
        Self::Malformed,
        Self::MissingDelta,
        Self::RepeatedDelta,
        Self::SwappedDeltas,
        Self::ChangedText,
        Self::DeltaCount,
        Self::Parts,
        Self::Call,
        Self::Sequence,
        Self::Order,
        Self::WholeText,
        Self::NoEnd,
        Self::ManyEnds,
        Self::AfterEnd,
        Self::WrongEnd,
        Self::NoUsage,
        Self::Failure,
        Self::FalseSuccess,
    ];

    /// A short name that does not change: the key in JSON output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Silence => "silence",
            Self::Cut => "cut",
            Self::Framing => "framing",
            Self::Status => "status",
            Self::ContentType => "content_type",
            Self::Malformed => "malformed",
            Self::MissingDelta => "missing_delta",
            Self::RepeatedDelta => "repeated_delta",
            Self::SwappedDeltas => "swapped_deltas",
            Self::ChangedText => "changed_text",
            Self::DeltaCount => "delta_count",
            Self::Parts => "parts",
            Self::Call => "call",
            Self::Sequence => "sequence",
            Self::Order => "order",
            Self::WholeText => "whole_text",
            Self::NoEnd => "no_end",
            Self::ManyEnds => "many_ends",
            Self::AfterEnd => "after_end",
            Self::WrongEnd => "wrong_end",
            Self::NoUsage => "no_usage",
            Self::Failure => "failure",
            Self::FalseSuccess => "false_success",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Silence => "nothing came for too long",
            Self::Cut => "the connection ended before the answer",
            Self::Framing => "broken HTTP framing",
            Self::Status => "another HTTP status",
            Self::ContentType => "another content type",
            Self::Malformed => "not what the API describes",
            Self::MissingDelta => "a delta is missing",
            Self::RepeatedDelta => "a delta came twice",
            Self::SwappedDeltas => "two deltas came in the wrong order",
            Self::ChangedText => "a text is not the script's",
            Self::DeltaCount => "deltas were merged or split",
            Self::Parts => "a part is missing or too many",
            Self::Call => "a call's name or id is wrong",
            Self::Sequence => "sequence numbers do not go up by one",
            Self::Order => "events in the wrong order",
            Self::WholeText => "a whole text is not what was streamed",
            Self::NoEnd => "no terminal event",
            Self::ManyEnds => "more than one terminal event",
            Self::AfterEnd => "something follows the terminal event",
            Self::WrongEnd => "ended in another way",
            Self::NoUsage => "no token counts",
            Self::Failure => "the server told of a failure",
            Self::FalseSuccess => "a failure was told as a success",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// One defect as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Which answer of its run it was in, counted from 1.
    pub answer: u64,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub came: String,
}

/// The defects of one answer: each kind once, as it was first seen.
#[derive(Debug, Default)]
pub(super) struct Found {
    kinds: u32,
    list: Vec<(Defect, String, String)>,
}

impl Found {
    /// Nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// Whether this kind was seen.
    pub(super) fn has(&self, defect: Defect) -> bool {
        self.kinds & defect.bit() != 0
    }

    /// Notes a defect, unless its kind was noted already.
    pub(super) fn add(
        &mut self,
        defect: Defect,
        expected: impl Into<String>,
        came: impl Into<String>,
    ) {
        if !self.has(defect) {
            self.kinds |= defect.bit();
            self.list.push((defect, expected.into(), came.into()));
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.kinds = 0;
        self.list.clear();
    }
}

/// The defects of many answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Answers with this kind of defect, and the first of them; in the order of [`Defect::ALL`],
    /// kinds that were not seen left out.
    pub kinds: Vec<(Defect, u64, Example)>,
}

impl Defects {
    /// Adds those of one answer.
    pub(super) fn add(&mut self, answer: u64, found: &mut Found) {
        for (defect, expected, came) in found.list.drain(..) {
            self.put(defect, 1, Example { answer, expected, came });
        }
        found.clear();
    }

    /// Adds those of other answers; examples that are here stay.
    pub fn merge(&mut self, other: &Self) {
        for (defect, count, example) in &other.kinds {
            self.put(*defect, *count, example.clone());
        }
    }

    /// How many answers had this kind of defect.
    #[must_use]
    pub fn count(&self, defect: Defect) -> u64 {
        self.kinds.iter().find(|it| it.0 == defect).map_or(0, |it| it.1)
    }

    fn put(&mut self, defect: Defect, count: u64, example: Example) {
        match self.kinds.binary_search_by_key(&defect, |it| it.0) {
            Ok(at) => self.kinds[at].1 += count,
            Err(at) => self.kinds.insert(at, (defect, count, example)),
        }
    }
}

/// Most characters of what came that are shown.
const SHOWN_CHARS: usize = 160;

/// Bytes for a person: in quotes, control bytes escaped, clipped.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::from("\"");
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN_CHARS {
            let _ = write!(out, "\"... ({} bytes)", bytes.len());
            return out;
        }
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push('\\'),
            control if control.is_control() => out.extend(control.escape_default()),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Two texts around the place where they begin to differ.
pub(super) fn apart(expected: &[u8], came: &[u8]) -> (String, String) {
    const BEFORE: usize = 24;
    let at = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let side = |text: &[u8]| {
        let from = at.saturating_sub(BEFORE);
        let part = text.get(from..text.len().min(at + 2 * BEFORE)).unwrap_or_default();
        format!("{} bytes, at byte {from}: {}", text.len(), shown(part))
    };
    (side(expected), side(came))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_place_and_bit() {
        let mut names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        assert!(Defect::ALL.is_sorted());
        assert!(Defect::ALL.iter().all(|defect| !defect.meaning().is_empty()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Defect::ALL.len());
        let bits = Defect::ALL.iter().fold(0, |bits, defect| bits | defect.bit());
        assert_eq!(bits.count_ones() as usize, Defect::ALL.len());
    }

    #[test]
    fn answers_are_counted_once_a_kind_and_the_first_example_stays() {
        let mut found = Found::default();
        let mut all = Defects::default();
        for answer in 1..=3 {
            found.add(Defect::Cut, "an end", format!("byte {answer}"));
            found.add(Defect::Cut, "an end", "another");
            if answer == 2 {
                found.add(Defect::Status, "200", "502");
            }
            all.add(answer, &mut found);
            assert!(found.is_empty());
        }
        assert_eq!((all.count(Defect::Cut), all.count(Defect::Status)), (3, 1));
        assert_eq!(all.kinds[0].2.came, "byte 1");
        let mut other = Defects::default();
        other.merge(&all);
        other.merge(&all);
        assert_eq!(other.count(Defect::Cut), 6);
        assert_eq!(other.kinds[1].2.answer, 2);
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown(b"a\"b\n\\\x1b"), "\"a\\\"b\\n\\\\u{1b}\"");
        assert!(shown(&[b'x'; 1000]).ends_with("\"... (1000 bytes)"));
        let (expected, came) = apart(b"the same, then this", b"the same, then that");
        assert_eq!(expected, "19 bytes, at byte 0: \"the same, then this\"");
        assert_eq!(came, "19 bytes, at byte 0: \"the same, then that\"");
    }
}
