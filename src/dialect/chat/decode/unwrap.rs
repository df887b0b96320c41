//! A custom tool's input, taken out of the function arguments that carry it: `{"input":"..."}`.
//!
//! The inside of the inner string is the inside of a JSON string already, so what streams out is
//! the same text with one level of escaping less. Models do not always keep to the shape; then the
//! whole is judged at the end.

use crate::wire::json::{self, Escaped, Kind, Raw, Unescaper};

/// Members that models use instead of `input`.
const OTHER_NAMES: &[&str] = &["patch", "code", "content", "text", "command", "cmd"];

/// Unwraps the arguments of one call, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Unwrap {
    phase: Phase,
    level: Unescaper,
    /// Decoded arguments that are not used up.
    text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing but a part of `{"input":"` so far.
    #[default]
    Prefix,
    /// Inside the inner string.
    Inside,
    /// Behind it; whatever follows does not count.
    Behind,
    /// Something else: kept for the end.
    Odd,
}

impl Unwrap {
    /// Takes a piece of the arguments, appends what is sure of the input, escaped, to `out`.
    /// Returns the bytes that are kept for later.
    pub(super) fn push(&mut self, piece: Escaped<'_>, out: &mut String) -> usize {
        self.level.push(piece, &mut self.text);
        if self.phase == Phase::Prefix {
            match prefix(&self.text) {
                Prefix::Whole(used) => {
                    self.text.drain(..used);
                    self.phase = Phase::Inside;
                }
                Prefix::Part => {}
                Prefix::Other => self.phase = Phase::Odd,
            }
        }
        match self.phase {
            Phase::Inside => self.inside(out),
            Phase::Behind => self.text.clear(),
            Phase::Prefix | Phase::Odd => {}
        }
        self.text.len()
    }

    /// Bytes kept for later.
    pub(super) fn kept(&self) -> usize {
        self.text.len()
    }

    /// True when the call can be given to the client: its input is whole, as far as one can tell.
    pub(super) fn is_complete(&self) -> bool {
        match self.phase {
            Phase::Behind => true,
            Phase::Inside => false,
            Phase::Prefix | Phase::Odd => Raw::check(self.text.trim()).is_ok(),
        }
    }

    /// The arguments ended as the upstream says: appends the rest. False when the inner string was
    /// never closed, so that the input is a part of what the model meant.
    pub(super) fn finish(&mut self, out: &mut String) -> bool {
        self.level.finish(&mut self.text);
        let text = std::mem::take(&mut self.text);
        match self.phase {
            Phase::Behind => true,
            Phase::Inside => false,
            Phase::Prefix | Phase::Odd => {
                let trimmed = text.trim();
                if !unusual(trimmed, out) && !unusual(unfenced(trimmed), out) {
                    escape(&text, out);
                }
                true
            }
        }
    }

    /// Copies the inner string up to its end, or up to an escape that is not whole.
    fn inside(&mut self, out: &mut String) {
        let bytes = self.text.as_bytes();
        let (mut at, mut copied) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    out.push_str(&self.text[copied..at]);
                    self.phase = Phase::Behind;
                    self.text.clear();
                    return;
                }
                b'\\' => match bytes.get(at + 1) {
                    None => break,
                    Some(b'u') => {
                        let digits = &bytes[at + 2..bytes.len().min(at + 6)];
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            out.push_str(&self.text[copied..at]);
                            out.push_str("\\\\");
                            copied = at + 1;
                            at += 1;
                        } else if digits.len() < 4 {
                            break;
                        } else {
                            at += 6;
                        }
                    }
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                    // No escape of JSON: the model meant a backslash.
                    Some(_) => {
                        out.push_str(&self.text[copied..at]);
                        out.push_str("\\\\");
                        copied = at + 1;
                        at += 1;
                    }
                },
                // A raw line break inside the string: not JSON, and clear all the same.
                0..=0x1f => {
                    out.push_str(&self.text[copied..at]);
                    escape(&self.text[at..=at], out);
                    at += 1;
                    copied = at;
                }
                _ => at += 1,
            }
        }
        out.push_str(&self.text[copied..at]);
        self.text.drain(..at);
    }
}

enum Prefix {
    Whole(usize),
    Part,
    Other,
}

/// Matches `{"input":"`, white space anywhere between.
fn prefix(text: &str) -> Prefix {
    let mut at = 0;
    for token in ["{", "\"input\"", ":", "\""] {
        at += text[at..].len() - text[at..].trim_start().len();
        let rest = &text[at..];
        if rest.starts_with(token) {
            at += token.len();
        } else if token.starts_with(rest) {
            return Prefix::Part;
        } else {
            return Prefix::Other;
        }
    }
    Prefix::Whole(at)
}

/// Finds the input in a whole JSON value of another shape; false when `text` is no such value.
fn unusual(text: &str, out: &mut String) -> bool {
    let Ok(value) = Raw::check(text) else { return false };
    if let Some(inner) = value.string() {
        out.push_str(inner.raw());
        return true;
    }
    if value.kind() != Kind::Object {
        return false;
    }
    let (mut named, mut other, mut only, mut members) = (None, None, None, 0);
    let walked = value.cursor().object(|key, value| {
        let text = value.skip()?.string();
        members += 1;
        only = text;
        if key == "input" {
            named = text;
        } else if OTHER_NAMES.contains(&key) {
            other = other.or(text);
        }
        Ok(())
    });
    let found = named.or(other).or(only.filter(|_| members == 1));
    match found {
        Some(text) if walked.is_ok() => {
            out.push_str(text.raw());
            true
        }
        _ => false,
    }
}

/// The inside of a Markdown code fence around the whole text, else the text.
fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((_, body)) => body.trim(),
        None => text,
    }
}

/// Appends plain text as escaped text.
fn escape(text: &str, out: &mut String) {
    let mut bytes = Vec::with_capacity(text.len());
    json::escape(text, &mut bytes);
    // Escaping changes ASCII only, so the bytes stay UTF-8.
    out.push_str(&String::from_utf8_lossy(&bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out for arguments cut into pieces of `size` escaped characters.
    fn unwrap(arguments: &str, size: usize) -> (String, bool) {
        let mut escaped = Vec::new();
        json::escape(arguments, &mut escaped);
        let escaped = String::from_utf8(escaped).unwrap();
        let (mut unwrap, mut out) = (Unwrap::default(), String::new());
        let mut pieces = Vec::new();
        let mut piece = String::new();
        let mut chars = escaped.chars().peekable();
        while let Some(c) = chars.next() {
            piece.push(c);
            if c == '\\' {
                let next = chars.next().unwrap();
                piece.push(next);
                if next == 'u' {
                    piece.extend((0..4).map(|_| chars.next().unwrap()));
                }
            }
            if piece.chars().count() >= size {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        pieces.push(piece);
        for piece in &pieces {
            unwrap.push(Escaped::trusted(piece), &mut out);
        }
        let complete = unwrap.finish(&mut out);
        (Escaped::trusted(&out).decode().into_owned(), complete)
    }

    #[test]
    fn the_input_comes_out_whatever_the_shape_and_the_cut() {
        let cases = [
            (r#"{"input":"*** Begin\n\"q\" \\ \u00e9 \ud83d\ude00"}"#, "*** Begin\n\"q\" \\ é 😀"),
            (" {\n \"input\" :\t\"x\" } ", "x"),
            ("{\"input\":\"raw\nbreak \\d\"}", "raw\nbreak \\d"),
            (r#"{"patch":"p","why":"w"}"#, "p"),
            (r#"{"anything":"only"}"#, "only"),
            (r#"{"note":1,"input":"later"}"#, "later"),
            (r#""just text""#, "just text"),
            ("*** Begin Patch\nbare", "*** Begin Patch\nbare"),
            ("```json\n{\"input\":\"fenced\"}\n```", "fenced"),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":2}"#),
            ("", ""),
        ];
        for (arguments, input) in cases {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(unwrap(arguments, size), (input.to_owned(), true), "{arguments} {size}");
            }
        }
    }

    #[test]
    fn an_input_that_breaks_off_is_told() {
        for arguments in [r#"{"input":"half"#, r#"{"input":"half\"#, r#"{"input":"half\u00"#] {
            let (text, complete) = unwrap(arguments, 1);
            assert_eq!((text.as_str(), complete), ("half", false), "{arguments}");
        }
    }
}
