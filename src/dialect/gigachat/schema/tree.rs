//! A JSON text as a tree. No library's, because the members of an object must stay in the client's
//! order, keys may have escapes (Python clients write Russian names so), and numbers must stay as
//! they were written.

use crate::wire::json::{self, Cursor, Kind, Raw};
use std::borrow::Cow;
use std::collections::HashMap;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written.
    Number(&'t str),
    /// A string, decoded.
    Text(Cow<'t, str>),
    /// An array.
    List(Vec<Node<'t>>),
    /// An object.
    Object(Members<'t>),
}

/// The members of an object, each key once: the last one counts, as for most readers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Members<'t>(Vec<(Cow<'t, str>, Node<'t>)>);

impl<'t> Members<'t> {
    fn new(mut list: Vec<(Cow<'t, str>, Node<'t>)>) -> Self {
        let mut last = HashMap::with_capacity(list.len());
        for (at, (key, _)) in list.iter().enumerate() {
            last.insert(key.as_ref(), at);
        }
        if last.len() < list.len() {
            let mut counts = vec![false; list.len()];
            last.into_values().for_each(|at| counts[at] = true);
            let mut at = 0;
            list.retain(|_| {
                at += 1;
                counts[at - 1]
            });
        }
        Self(list)
    }

    /// The value of `key`. Looks at each member.
    pub(super) fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node<'t>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

impl Node<'_> {
    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON, if that has at most `bytes_max` bytes.
    pub(super) fn json(&self, bytes_max: usize) -> Option<String> {
        let mut out = Vec::new();
        self.write(bytes_max, &mut out)?;
        String::from_utf8(out).ok()
    }

    fn write(&self, bytes_max: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(text) if text.len() <= bytes_max => out.extend_from_slice(text.as_bytes()),
            Self::Text(text) if text.len() <= bytes_max => json::string(text, out),
            Self::List(list) => {
                out.push(b'[');
                for element in list {
                    json::comma(out);
                    element.write(bytes_max, out)?;
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (key, value) in members.iter().take(bytes_max) {
                    json::comma(out);
                    json::string(key, out);
                    out.push(b':');
                    value.write(bytes_max, out)?;
                }
                out.push(b'}');
            }
            Self::Number(_) | Self::Text(_) => return None,
        }
        (out.len() <= bytes_max).then_some(())
    }
}

/// Reads a JSON text; `None` when it is not valid.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    let text = Raw::check(text).ok()?.text();
    Reader { text, at: 0 }.value()
}

/// A position in a text that was checked.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn value(&mut self) -> Option<Node<'t>> {
        if self.take(b'{') {
            let mut members = Vec::new();
            while !self.take(b'}') {
                let key = self.scalar()?.string()?.decode();
                self.take(b':');
                members.push((key, self.value()?));
                self.take(b',');
            }
            return Some(Node::Object(Members::new(members)));
        }
        if self.take(b'[') {
            let mut list = Vec::new();
            while !self.take(b']') {
                list.push(self.value()?);
                self.take(b',');
            }
            return Some(Node::List(list));
        }
        let raw = self.scalar()?;
        Some(match raw.kind() {
            Kind::Null => Node::Null,
            Kind::Bool => Node::Bool(raw.text() == "true"),
            Kind::String => Node::Text(raw.string()?.decode()),
            _ => Node::Number(raw.text()),
        })
    }

    fn scalar(&mut self) -> Option<Raw<'t>> {
        let mut cursor = Cursor::new(&self.text[self.at..]);
        let raw = cursor.skip().ok()?;
        self.at += cursor.position();
        Some(raw)
    }

    /// Goes over white space, and over `byte` if it stands there.
    fn take(&mut self, byte: u8) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += space;
        let found = rest.get(space) == Some(&byte);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(text: &str) -> Option<String> {
        read(text)?.json(1000)
    }

    #[test]
    fn a_tree_keeps_order_numbers_and_the_last_of_twins() {
        let table = [
            (r#" { "b" : 1.50 , "a" : [ ] } "#, Some(r#"{"b":1.50,"a":[]}"#)),
            (r#"{"a":1,"b":2,"a":3}"#, Some(r#"{"b":2,"a":3}"#)),
            (r#"{"\u0434\u0430":"\ud83d"}"#, Some("{\"да\":\"\u{fffd}\"}")),
            ("[true,false,null,-0,1e999]", Some("[true,false,null,-0,1e999]")),
            ("{\"a\":\"x\\n\\\"\"}", Some("{\"a\":\"x\\n\\\"\"}")),
            ("{", None),
            ("1 2", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(compact(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_long_value_has_no_short_text() {
        let node = read("[1,2,3]").unwrap();
        assert_eq!(node.json(7).as_deref(), Some("[1,2,3]"));
        assert_eq!(node.json(6), None);
    }
}
