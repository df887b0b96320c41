//! The tool calls of a stream: which entry of `tool_calls` belongs to which call, and whether the
//! arguments of a call are whole.

use super::chunk::CallDelta;
use super::unwrap::Unwrap;

/// Calls of one answer; more is no model's doing.
pub(super) const CALLS_MAX: usize = 1024;

/// One call.
#[derive(Debug, Default)]
pub(super) struct OpenCall {
    /// The `index` it came with.
    pub(super) index: Option<u64>,
    /// A legacy `function_call`.
    pub(super) legacy: bool,
    /// The upstream's id, escaped; empty when it gave none.
    pub(super) id: String,
    /// The upstream's name of the tool, escaped; empty until it is known.
    pub(super) name: String,
    /// Its part, once the name is known.
    pub(super) part: Option<u32>,
    /// Arguments that came before the name, escaped.
    pub(super) early: String,
    /// What its text is.
    pub(super) shape: Shape,
    /// The part was closed.
    pub(super) closed: bool,
}

/// What the text of a call is.
#[derive(Debug)]
pub(super) enum Shape {
    /// A JSON object.
    Json(Balance),
    /// Free text of a custom tool.
    Free,
    /// A custom tool's input inside a function's arguments.
    Wrapped(Unwrap),
}

impl Default for Shape {
    fn default() -> Self {
        Self::Json(Balance::default())
    }
}

impl OpenCall {
    /// True when nothing more can belong to its text.
    pub(super) fn is_complete(&self) -> bool {
        match &self.shape {
            Shape::Json(balance) => balance.is_complete(),
            Shape::Free => false,
            Shape::Wrapped(unwrap) => unwrap.is_complete(),
        }
    }
}

/// Finds the call that an entry continues; `None` when it begins a new one.
///
/// The index decides where there is one, unless another id and a name come under it (some give
/// every call index 0). Without an index the id decides, then the name, then the order.
pub(super) fn find(calls: &[OpenCall], delta: &CallDelta<'_>) -> Option<usize> {
    let last = calls.iter().rposition(|call| !call.legacy);
    let at = if delta.legacy {
        calls.iter().rposition(|call| call.legacy)?
    } else if delta.index.is_some() {
        calls.iter().rposition(|call| !call.legacy && call.index == delta.index)?
    } else if delta.id.is_empty() {
        last?
    } else {
        calls.iter().rposition(|call| call.id == delta.id.raw()).or(last)?
    };
    let call = calls.get(at)?;
    let both = !delta.id.is_empty() && !call.id.is_empty();
    if both {
        let begins = delta.id.raw() != call.id && !delta.name.is_empty();
        return (!begins).then_some(at);
    }
    if delta.legacy || delta.name.is_empty() || call.name.is_empty() {
        return Some(at);
    }
    // No id tells them apart: a name is a repetition, or the next call.
    let other = delta.name.raw() != call.name;
    let whole = call.is_complete();
    let begins = match delta.index {
        Some(_) => other && whole,
        None => other || (whole && delta.text.is_some_and(|text| text.text() != "\"\"")),
    };
    (!begins).then_some(at)
}

/// Tells when JSON that comes in pieces of escaped text is whole, without keeping it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Balance {
    depth: u32,
    in_string: bool,
    /// The last character was a backslash of the inner text.
    escape: bool,
    seen: bool,
}

impl Balance {
    /// Takes a piece; pieces are never cut inside an escape.
    pub(super) fn push(&mut self, raw: &str) {
        let bytes = raw.as_bytes();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.in_string && !self.escape {
                // Quotes and backslashes of the inner text are escaped in the outer one.
                match memchr::memchr(b'\\', rest) {
                    Some(skip) => at += skip,
                    None => return,
                }
            }
            let Some(&byte) = bytes.get(at) else { return };
            let (meant, used) = match (byte, bytes.get(at + 1)) {
                (b'\\', Some(b'u')) => (ascii_of(bytes.get(at + 2..at + 6)), 6),
                (b'\\', Some(b'n' | b't' | b'r' | b'b' | b'f')) => (b' ', 2),
                (b'\\', Some(&other)) => (other, 2),
                (byte, _) => (byte, 1),
            };
            self.step(meant);
            at += used;
        }
    }

    /// True once anything but white space came.
    pub(super) fn has_begun(&self) -> bool {
        self.seen
    }

    /// True when every bracket and string is closed.
    pub(super) fn is_complete(&self) -> bool {
        self.seen && self.depth == 0 && !self.in_string
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b' ' | b'\t' | b'\n' | b'\r' => return,
            _ => {}
        }
        self.seen = true;
    }
}

/// The character of a `\uXXXX` if it is ASCII, else a letter.
fn ascii_of(digits: Option<&[u8]>) -> u8 {
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    unit.and_then(|unit| u8::try_from(unit).ok()).filter(u8::is_ascii).unwrap_or(b'x')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{self, Raw};

    #[test]
    fn balance_agrees_with_a_parser_on_every_prefix() {
        let texts = [r#"{"a":"b\\\" }{","c":[1,{"d":"\u0022"}],"e":"é😀"}"#, r#" {} "#, r#"["x"]"#];
        for text in texts {
            for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                let mut escaped = Vec::new();
                json::escape(&text[..end], &mut escaped);
                let mut balance = Balance::default();
                let escaped = String::from_utf8(escaped).unwrap();
                // The outer text may be cut anywhere but inside an escape.
                let mut rest = escaped.as_str();
                while let Some(c) = rest.chars().next() {
                    let size = if c == '\\' { 2 } else { c.len_utf8() };
                    balance.push(&rest[..size]);
                    rest = &rest[size..];
                }
                let whole = Raw::check(text[..end].trim()).is_ok();
                assert_eq!(balance.is_complete(), whole, "{:?}", &text[..end]);
            }
        }
        let mut balance = Balance::default();
        balance.push(r"\u007b\u0022a\u0022:1}");
        assert!(balance.is_complete());
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn entries_find_their_calls() {
        let call = |index: Option<u64>, id: &str, name: &str, text: &str| {
            let mut call =
                OpenCall { index, id: id.to_owned(), name: name.to_owned(), ..OpenCall::default() };
            if let Shape::Json(balance) = &mut call.shape {
                balance.push(text);
            }
            call
        };
        let whole = r#"{\"a\":1}"#;
        let cases: &[(&str, Vec<OpenCall>, &str, Option<usize>)] = &[
            ("first", vec![], r#"{"index":0,"id":"a","function":{"name":"f"}}"#, None),
            (
                "by index",
                vec![call(Some(0), "a", "f", "{")],
                r#"{"index":0,"function":{"arguments":"}"}}"#,
                Some(0),
            ),
            (
                "empty id and name",
                vec![call(Some(0), "a", "f", "{")],
                r#"{"index":0,"id":"","function":{"name":"","arguments":"x"}}"#,
                Some(0),
            ),
            (
                "id and name repeated",
                vec![call(Some(0), "a", "f", "{")],
                r#"{"index":0,"id":"a","function":{"name":"f"}}"#,
                Some(0),
            ),
            (
                "all have index 0",
                vec![call(Some(0), "a", "f", whole)],
                r#"{"index":0,"id":"b","function":{"name":"f"}}"#,
                None,
            ),
            (
                "rotating ids",
                vec![call(Some(0), "a", "f", "{")],
                r#"{"index":0,"id":"b","function":{"arguments":"}"}}"#,
                Some(0),
            ),
            (
                "no index, new id",
                vec![call(None, "a", "f", whole)],
                r#"{"id":"b","function":{"name":"f"}}"#,
                None,
            ),
            (
                "no index, same id",
                vec![call(None, "a", "f", "{"), call(None, "b", "f", "{")],
                r#"{"id":"a","function":{"arguments":"}"}}"#,
                Some(0),
            ),
            (
                "no index, no id",
                vec![call(None, "a", "f", "{"), call(None, "b", "f", "{")],
                r#"{"function":{"arguments":"}"}}"#,
                Some(1),
            ),
            (
                "no index, no id, new name",
                vec![call(None, "", "f", "{")],
                r#"{"function":{"name":"g"}}"#,
                None,
            ),
            (
                "the same tool again",
                vec![call(None, "", "f", whole)],
                r#"{"function":{"name":"f","arguments":"{}"}}"#,
                None,
            ),
            (
                "name repeated",
                vec![call(None, "", "f", "{")],
                r#"{"function":{"name":"f","arguments":"x"}}"#,
                Some(0),
            ),
            (
                "name repeated at the end",
                vec![call(Some(0), "", "f", whole)],
                r#"{"index":0,"function":{"name":"f","arguments":""}}"#,
                Some(0),
            ),
            (
                "high index",
                vec![call(Some(0), "a", "f", "{")],
                r#"{"index":7,"id":"b","function":{"name":"f"}}"#,
                None,
            ),
        ];
        for (name, calls, entry, found) in cases {
            let delta = CallDelta::read(&mut Raw::check(entry).unwrap().cursor()).unwrap();
            assert_eq!(find(calls, &delta), *found, "{name}");
        }
    }
}
