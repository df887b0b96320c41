//! A strict JSON cursor (RFC 8259) that borrows from its input, and the functions that write JSON.
//!
//! The cursor makes no tree and decodes no string: a string stays [`Escaped`], a value that is only
//! passed on stays [`Raw`]. What it returns, it has checked: grammar, escapes, control characters,
//! depth. UTF-8 is checked by whoever makes the `&str`.

mod block;
mod cursor;
mod front;
mod halves;
#[cfg(test)]
mod tests;
mod text;
mod write;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

pub use cursor::{Cursor, document};
pub use front::string_inside;
pub use halves::{Surrogates, Unescaper};
pub use text::unescape;
pub use write::{
    comma, escape, escape_again, key, member, member_number, member_quoted, member_raw, number,
    quoted, string,
};

/// Deepest nesting accepted. It is exactly what `serde_json` accepts, so that a value which was
/// checked here can be read as a tree there.
pub const DEPTH_MAX: u32 = 127;

/// Why a text is not the JSON that was expected, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Byte offset into the cursor's text.
    pub at: usize,
    /// What was expected or what is wrong.
    pub why: Why,
}

/// The reasons of [`Bad`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The text ends inside a value.
    Cut,
    /// A byte that no JSON grammar rule allows here.
    Syntax,
    /// A raw control character, a bad escape or an unpaired `\u` digit inside a string.
    Text,
    /// More than [`DEPTH_MAX`] nested arrays and objects.
    Depth,
    /// A well-formed value of another type than the one needed.
    Type,
    /// A key that decides something stands twice in one object.
    Duplicate,
    /// A key written with escapes, in an object whose keys decide something.
    EscapedKey,
    /// A number out of the range that is needed.
    Range,
    /// Something other than white space follows the document.
    Trailing,
    /// The bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Cut => "the text ends inside a value",
            Why::Syntax => "not valid JSON",
            Why::Text => "a string with a raw control character or a bad escape",
            Why::Depth => "nested too deeply",
            Why::Type => "a value of the wrong type",
            Why::Duplicate => "the same key twice",
            Why::EscapedKey => "a key written with escapes",
            Why::Range => "a number out of range",
            Why::Trailing => "text after the end of the document",
            Why::Utf8 => "not UTF-8",
        };
        write!(f, "{why} at byte {}", self.at)
    }
}

impl std::error::Error for Bad {}

/// The inside of a JSON string, its escapes as they came: valid between two quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Escaped<'a>(&'a str);

impl<'a> Escaped<'a> {
    /// The empty string.
    pub const EMPTY: Escaped<'static> = Escaped("");

    /// Takes text that needs no escaping. Returns `None` when it holds a quote, a backslash or a
    /// control character; [`escape`] writes such text.
    #[must_use]
    pub fn verbatim(text: &'a str) -> Option<Self> {
        (text::plain_len(text.as_bytes()) == text.len()).then_some(Self(text))
    }

    /// Takes text that already is the inside of a JSON string. The caller vouches for it: it came
    /// from [`Escaped::raw`] or was written by [`escape`]. Checked in debug builds.
    #[must_use]
    pub fn trusted(raw: &'a str) -> Self {
        debug_assert!(text::is_escaped(raw), "not the inside of a JSON string: {raw:?}");
        Self(raw)
    }

    /// The escaped text, as it stands between the quotes.
    #[must_use]
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// True when the string is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The text meant. A lone surrogate becomes U+FFFD. Borrows when there is no escape.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Cow::Borrowed(self.0);
        }
        let mut text = String::with_capacity(self.0.len());
        unescape(self.0, &mut text);
        Cow::Owned(text)
    }

    /// True when the text meant equals `plain`.
    #[must_use]
    pub fn is(self, plain: &str) -> bool {
        // An escape is longer than what it means.
        match self.0.len().cmp(&plain.len()) {
            Ordering::Less => false,
            Ordering::Equal => self.0 == plain && !plain.contains('\\'),
            Ordering::Greater => text::means(self.0, plain),
        }
    }
}

/// Any JSON value, checked and verbatim, without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The value `null`.
    pub const NULL: Raw<'static> = Raw("null");

    /// Checks that `text` is exactly one JSON value.
    ///
    /// # Errors
    /// Says where and why it is not.
    pub fn check(text: &'a str) -> Result<Self, Bad> {
        document(text, Cursor::skip)
    }

    /// Takes text that already is one checked JSON value.
    #[must_use]
    pub fn trusted(text: &'a str) -> Self {
        debug_assert!(Raw::check(text).is_ok(), "not one JSON value: {text:?}");
        Self(text)
    }

    /// The text of the value.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.0
    }

    /// What the value is, from its first byte.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The string's inside, if it is a string.
    #[must_use]
    pub fn string(self) -> Option<Escaped<'a>> {
        (self.kind() == Kind::String).then(|| Escaped(&self.0[1..self.0.len() - 1]))
    }

    /// A cursor at the start of the value.
    #[must_use]
    pub fn cursor(self) -> Cursor<'a> {
        Cursor::new(self.0)
    }
}

/// The six kinds of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 8259")]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// Checks that `bytes` are UTF-8 (RFC 8259, section 8.1).
///
/// # Errors
/// [`Why::Utf8`] and where.
pub fn utf8(bytes: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(bytes).map_err(|bad| Bad { at: bad.valid_up_to(), why: Why::Utf8 })
}

/// Puts `value` into an empty `slot`; a second value for the same key is refused, because two
/// readers of one document could then act on different halves of it.
///
/// # Errors
/// [`Why::Duplicate`] when the slot is taken.
pub fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Bad> {
    if slot.is_some() {
        return Err(Bad { at: 0, why: Why::Duplicate });
    }
    *slot = Some(value);
    Ok(())
}
