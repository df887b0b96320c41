//! What normalising a schema changed.

use std::fmt;

/// Notes kept; of others only their number is known.
const NOTES_MAX: usize = 32;

/// Bytes of the end of a path that a note shows.
const SHOWN_BYTES_MAX: usize = 80;

/// Characters of a client's word that a note shows.
const SHOWN_CHARS_MAX: usize = 40;

/// How much a change takes away, from the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// Nothing that decides which values are valid, as the normalised schema is read: its objects
    /// have the properties listed and no others, and what is nullable may be left out instead.
    #[default]
    None,
    /// The rule is gone, but the description says it.
    Told,
    /// The model does not learn of it.
    Lost,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where in the normalised schema (`properties.when.items`); empty for its root.
    path: String,
    /// What was done (`format "uuid" dropped`).
    rule: String,
    /// What that takes away.
    loss: Loss,
}

impl Note {
    /// What the change takes away.
    pub(crate) fn loss(&self) -> Loss {
        self.loss
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.rule)
    }
}

/// The changes, each once, in printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    notes: Vec<Note>,
    more: usize,
    worst: Loss,
}

impl Report {
    /// The changes, at most 32.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// How many changes were there besides.
    pub(crate) fn more(&self) -> usize {
        self.more
    }

    /// True when every value that is valid now was valid before, and nothing that a client would
    /// want to say cannot be said any more ([`Loss::None`] of all changes).
    pub(crate) fn is_lossless(&self) -> bool {
        self.worst == Loss::None
    }

    /// Adds a change. When there are too many, one that takes more away displaces another.
    pub(super) fn add(&mut self, path: &str, rule: &str, loss: Loss) {
        self.worst = self.worst.max(loss);
        let full = self.notes.len() == NOTES_MAX;
        let least = if full { self.notes.iter().rposition(|note| note.loss < loss) } else { None };
        if full && least.is_none() {
            self.more += 1;
            return;
        }
        let note = Note { path: end(path), rule: ascii(rule.chars()), loss };
        if self.notes.contains(&note) {
            return;
        }
        if let Some(least) = least {
            self.notes.remove(least);
            self.more += 1;
        }
        self.notes.push(note);
    }
}

/// As much of a path's end as a note shows.
fn end(path: &str) -> String {
    let mut from = path.len().saturating_sub(SHOWN_BYTES_MAX);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    let mut shown = ascii(path[from..].chars());
    let over = shown.len().saturating_sub(SHOWN_BYTES_MAX);
    if from + over > 0 {
        shown.replace_range(..over, "...");
    }
    shown
}

/// As much of a client's word as a note shows, in quotes.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", ascii(text.chars().take(SHOWN_CHARS_MAX)))
}

/// The text in printable ASCII, as it may stand in a header.
fn ascii(text: impl Iterator<Item = char>) -> String {
    let mut plain = String::new();
    for letter in text {
        match letter {
            ' '..='~' => plain.push(letter),
            _ => plain.extend(letter.escape_default()),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded_and_knows_the_worst() {
        let mut report = Report::default();
        assert!(report.is_lossless());
        for at in 0..100 {
            report.add(&format!("properties.p{at}"), "x dropped", Loss::None);
            report.add("properties.p0", "x dropped", Loss::None);
        }
        assert!(report.is_lossless());
        assert_eq!(report.notes().len(), NOTES_MAX);
        assert!(report.more() >= 100 - NOTES_MAX);
        report.add("", "y dropped", Loss::Lost);
        assert!(!report.is_lossless());
        assert_eq!(report.notes().len(), NOTES_MAX);
        assert_eq!(report.notes().last().map(ToString::to_string).as_deref(), Some("y dropped"));
    }

    #[test]
    fn notes_are_short_and_plain() {
        let mut report = Report::default();
        report.add(&"p\u{434}".repeat(100), "x\r\n dropped", Loss::Told);
        let told = report.notes()[0].to_string();
        assert!(told.starts_with("...") && told.len() < 100, "{told}");
        assert!(told.ends_with("p\\u{434}: x\\r\\n dropped"), "{told}");
        assert_eq!(shown(&"x".repeat(100)).len(), SHOWN_CHARS_MAX + 2);
    }
}
