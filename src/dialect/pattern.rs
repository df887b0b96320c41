//! What a decoder can say of a frame that brought one piece of text and nothing else, so that frames
//! which differ from it nowhere else need not be read again.

use crate::wire::json::{Escaped, Kind, Raw};
use std::ops::Range;

/// Members that do not matter, at most. Vendors have one or two: a sequence number, padding.
const FREE_MAX: usize = 4;

/// Where in a frame's data the text stood, and where values that decide nothing. A frame with the
/// same bytes everywhere else means the same, but for the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    text: Span,
    free: [Free; FREE_MAX],
    count: u8,
}

/// The place of a value that decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    span: Span,
    /// The value is an unsigned integer; otherwise the place is the inside of a string.
    pub number: bool,
}

/// A range that can be copied, and is small: one of these is kept for every stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// Values of one frame that its decoder looked at and does not need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unneeded<'a> {
    values: [Option<Raw<'a>>; FREE_MAX],
    count: usize,
}

impl<'a> Unneeded<'a> {
    /// Adds a value. One that is neither a string nor an unsigned integer, or one too many, stays a
    /// part of what has to be the same.
    pub fn add(&mut self, value: Raw<'a>) {
        let fits = match value.kind() {
            Kind::String => true,
            Kind::Number => value.text().bytes().all(|byte| byte.is_ascii_digit()),
            _ => false,
        };
        if let (true, Some(slot)) = (fits, self.values.get_mut(self.count)) {
            *slot = Some(value);
            self.count += 1;
        }
    }
}

impl Pattern {
    /// The pattern of a frame with this data. `None` when the text was not borrowed from it.
    #[must_use]
    pub fn of(text: Escaped<'_>, unneeded: &Unneeded<'_>, data: &[u8]) -> Option<Self> {
        let mut pattern = Self { text: place(text.raw(), data)?, ..Self::default() };
        for value in unneeded.values.iter().flatten() {
            let number = value.kind() == Kind::Number;
            let inside = value.string().map_or(value.text(), Escaped::raw);
            if let (Some(span), Some(slot)) =
                (place(inside, data), pattern.free.get_mut(usize::from(pattern.count)))
            {
                *slot = Free { span, number };
                pattern.count += 1;
            }
        }
        Some(pattern)
    }

    /// The inside of the string that is the text.
    #[must_use]
    pub fn text(&self) -> Range<usize> {
        self.text.range()
    }

    /// The values that decide nothing, in no order.
    #[must_use]
    pub fn free(&self) -> &[Free] {
        self.free.get(..usize::from(self.count)).unwrap_or_default()
    }
}

impl Free {
    /// The number, or the inside of the string.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.span.range()
    }
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

fn place(part: &str, whole: &[u8]) -> Option<Span> {
    let Range { start, end } = place_of(part.as_bytes(), whole)?;
    Some(Span { start: u32::try_from(start).ok()?, end: u32::try_from(end).ok()? })
}

/// Where `part` stands in `whole`, if it was borrowed from there.
#[must_use]
pub fn place_of(part: &[u8], whole: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_points_at_what_was_borrowed_and_at_nothing_else() {
        let data = r#"{"n":17,"s":"pad","f":1.5,"t":"text"}"#;
        let raw = |range: Range<usize>| Raw::check(&data[range]).unwrap();
        let mut unneeded = Unneeded::default();
        for range in [5..7, 12..17, 22..25] {
            unneeded.add(raw(range));
        }
        let text = Escaped::trusted(&data[31..35]);
        let pattern = Pattern::of(text, &unneeded, data.as_bytes()).unwrap();
        assert_eq!(pattern.text(), 31..35);
        let free: Vec<_> = pattern.free().iter().map(|free| (free.range(), free.number)).collect();
        assert_eq!(free, [(5..7, true), (13..16, false)], "a fraction decides");

        let elsewhere = "text".to_owned();
        let copied = Escaped::trusted(&elsewhere);
        assert_eq!(Pattern::of(copied, &unneeded, &data.as_bytes()[..3]), None);
    }

    #[test]
    fn one_value_too_many_has_to_stay_the_same() {
        let mut unneeded = Unneeded::default();
        for _ in 0..9 {
            unneeded.add(Raw::trusted("1"));
        }
        let text = Escaped::trusted("x");
        let pattern = Pattern::of(text, &unneeded, text.raw().as_bytes()).unwrap();
        assert!(pattern.free().is_empty(), "none of them stands in the data");
    }
}
