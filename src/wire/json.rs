//! A strict JSON cursor (RFC 8259) that borrows from its input, and the functions that write JSON.
//!
//! The cursor makes no tree and decodes no string: a string stays [`Escaped`], a value that is only
//! passed on stays [`Raw`]. What it returns, it has checked: grammar, escapes, control characters,
//! depth. UTF-8 is checked by whoever makes the `&str`.

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting accepted, the limit that `serde_json` has too.
pub const DEPTH_MAX: u32 = 128;

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
        let plain = !text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\');
        plain.then_some(Self(text))
    }

    /// Takes text that already is the inside of a JSON string. The caller vouches for it: it came
    /// from [`Escaped::raw`] or was written by [`escape`]. Checked in debug builds.
    #[must_use]
    pub fn trusted(raw: &'a str) -> Self {
        debug_assert!(is_escaped(raw), "not the inside of a JSON string: {raw:?}");
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
        self.0 == plain || (self.0.contains('\\') && self.decode() == plain)
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
        document(text, |cursor| cursor.skip())
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

/// Reads one whole document: white space, one value, white space, end.
///
/// # Errors
/// Whatever `read` returns, or [`Why::Trailing`].
pub fn document<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Bad>,
) -> Result<T, Bad> {
    let mut cursor = Cursor::new(text);
    let value = read(&mut cursor)?;
    cursor.space();
    if cursor.at < text.len() {
        return Err(cursor.bad(Why::Trailing));
    }
    Ok(value)
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

/// A position in a JSON text. Every method skips the white space before its value.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Byte offset of the next unread byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// An error at this position.
    #[must_use]
    pub fn bad(&self, why: Why) -> Bad {
        Bad { at: self.at, why }
    }

    /// What the next value is.
    ///
    /// # Errors
    /// [`Why::Cut`] at the end, [`Why::Syntax`] when no value starts here.
    pub fn kind(&mut self) -> Result<Kind, Bad> {
        self.space();
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => Err(self.bad(Why::Syntax)),
            None => Err(self.bad(Why::Cut)),
        }
    }

    /// Walks an object: `each` gets the key and the cursor before its value. A value that `each`
    /// does not read is skipped.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is no object, [`Why::EscapedKey`] for a key with escapes, and
    /// whatever `each` returns.
    pub fn object(
        &mut self,
        mut each: impl FnMut(&'a str, &mut Self) -> Result<(), Bad>,
    ) -> Result<(), Bad> {
        self.open(Kind::Object)?;
        self.space();
        if self.take(b'}') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            if key.raw().contains('\\') {
                return Err(self.bad(Why::EscapedKey));
            }
            self.space();
            self.expect(b':')?;
            self.space();
            let before = self.at;
            each(key.raw(), self)?;
            if self.at == before {
                self.skip()?;
            }
            self.space();
            if !self.take(b',') {
                self.expect(b'}')?;
                self.depth -= 1;
                return Ok(());
            }
        }
    }

    /// Walks an array: `each` gets the cursor before every element. An element that `each` does
    /// not read is skipped.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is no array, and whatever `each` returns.
    pub fn array(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Bad>) -> Result<(), Bad> {
        self.open(Kind::Array)?;
        self.space();
        if self.take(b']') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.space();
            let before = self.at;
            each(self)?;
            if self.at == before {
                self.skip()?;
            }
            self.space();
            if !self.take(b',') {
                self.expect(b']')?;
                self.depth -= 1;
                return Ok(());
            }
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is of another type.
    pub fn string(&mut self) -> Result<Escaped<'a>, Bad> {
        self.want(Kind::String)?;
        let start = self.at + 1;
        let end = self.string_end(start)?;
        self.at = end + 1;
        Ok(Escaped(&self.text[start..end]))
    }

    /// Reads a string; `null` is `None`.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is neither.
    pub fn string_or_null(&mut self) -> Result<Option<Escaped<'a>>, Bad> {
        if self.null()? { Ok(None) } else { self.string().map(Some) }
    }

    /// Reads `null` if it stands here.
    ///
    /// # Errors
    /// [`Why::Syntax`] or [`Why::Cut`] when no value stands here.
    pub fn null(&mut self) -> Result<bool, Bad> {
        if self.kind()? != Kind::Null {
            return Ok(false);
        }
        self.word("null")?;
        Ok(true)
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is of another type.
    pub fn boolean(&mut self) -> Result<bool, Bad> {
        self.want(Kind::Bool)?;
        if self.peek() == Some(b't') {
            self.word("true").map(|()| true)
        } else {
            self.word("false").map(|()| false)
        }
    }

    /// Reads an unsigned integer. A fraction of zeros is tolerated (`3.0`), as some senders write
    /// whole floats.
    ///
    /// # Errors
    /// [`Why::Type`] for another type, [`Why::Range`] for a fraction, a sign or an overflow.
    pub fn unsigned(&mut self) -> Result<u64, Bad> {
        self.want(Kind::Number)?;
        let bad = self.bad(Why::Range);
        let digits = self.skip()?.text();
        let whole = digits.split_once('.').map_or(digits, |(whole, fraction)| {
            if fraction.bytes().all(|b| b == b'0') { whole } else { "" }
        });
        whole.parse().map_err(|_| bad)
    }

    /// Skips one value and returns it verbatim, checked.
    ///
    /// # Errors
    /// Where and why it is not valid JSON.
    pub fn skip(&mut self) -> Result<Raw<'a>, Bad> {
        self.space();
        let start = self.at;
        // One bit a level: 1 = object. No recursion, so hostile depth costs no stack.
        let mut levels: u128 = 0;
        let mut open = 0u32;
        loop {
            self.space();
            match self.kind()? {
                Kind::Object | Kind::Array if self.depth + open >= DEPTH_MAX => {
                    return Err(self.bad(Why::Depth));
                }
                Kind::Object => {
                    self.at += 1;
                    self.space();
                    if !self.take(b'}') {
                        levels = levels << 1 | 1;
                        open += 1;
                        self.key()?;
                        continue;
                    }
                }
                Kind::Array => {
                    self.at += 1;
                    self.space();
                    if !self.take(b']') {
                        levels <<= 1;
                        open += 1;
                        continue;
                    }
                }
                Kind::String => self.at = self.string_end(self.at + 1)? + 1,
                Kind::Number => self.number()?,
                Kind::Bool if self.peek() == Some(b't') => self.word("true")?,
                Kind::Bool => self.word("false")?,
                Kind::Null => self.word("null")?,
            }
            // A value is complete: close what it ends, or step to the next one.
            loop {
                if open == 0 {
                    return Ok(Raw(&self.text[start..self.at]));
                }
                self.space();
                let object = levels & 1 == 1;
                if self.take(b',') {
                    if object {
                        self.space();
                        self.key()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                levels >>= 1;
                open -= 1;
            }
        }
    }

    fn key(&mut self) -> Result<(), Bad> {
        self.string()?;
        self.space();
        self.expect(b':')
    }

    fn open(&mut self, kind: Kind) -> Result<(), Bad> {
        self.want(kind)?;
        if self.depth >= DEPTH_MAX {
            return Err(self.bad(Why::Depth));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn want(&mut self, kind: Kind) -> Result<(), Bad> {
        if self.kind()? == kind { Ok(()) } else { Err(self.bad(Why::Type)) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Bad> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.bad(Why::Syntax)),
            None => Err(self.bad(Why::Cut)),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Bad> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        let cut = word.as_bytes().starts_with(rest);
        Err(self.bad(if cut { Why::Cut } else { Why::Syntax }))
    }

    fn number(&mut self) -> Result<(), Bad> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Bad> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start {
            return Ok(());
        }
        Err(self.bad(if self.peek().is_none() { Why::Cut } else { Why::Syntax }))
    }

    /// Finds the closing quote of a string whose inside starts at `at`.
    fn string_end(&self, mut at: usize) -> Result<usize, Bad> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(at) {
                None => return Err(Bad { at, why: Why::Cut }),
                Some(b'"') => return Ok(at),
                Some(b'\\') => {
                    at += match bytes.get(at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') => {
                            let digits = bytes.get(at + 2..at + 6);
                            let digits = digits.ok_or(Bad { at, why: Why::Cut })?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(Bad { at, why: Why::Text });
                            }
                            6
                        }
                        Some(_) => return Err(Bad { at, why: Why::Text }),
                        None => return Err(Bad { at, why: Why::Cut }),
                    };
                }
                Some(0..=0x1f) => return Err(Bad { at, why: Why::Text }),
                Some(_) => at += 1,
            }
        }
    }
}

fn is_escaped(inside: &str) -> bool {
    let quoted = format!("\"{inside}\"");
    let mut cursor = Cursor::new(&quoted);
    matches!(cursor.string(), Ok(text) if text.raw().len() == inside.len())
}

/// Appends the text that `raw`, the inside of a JSON string, means. Lone surrogates become U+FFFD.
pub fn unescape(raw: &str, text: &mut String) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (value, used) = escape_at(&rest[at..]);
        text.push(value);
        rest = &rest[at + used..];
    }
    text.push_str(rest);
}

/// Decodes the escape at the front of `rest`; returns it and the bytes it takes.
fn escape_at(rest: &str) -> (char, usize) {
    let plain = |value| (value, 2);
    match rest.as_bytes().get(1) {
        Some(b'n') => plain('\n'),
        Some(b't') => plain('\t'),
        Some(b'r') => plain('\r'),
        Some(b'b') => plain('\u{8}'),
        Some(b'f') => plain('\u{c}'),
        Some(b'u') => {
            let Some(first) = unit_at(rest) else {
                return (char::REPLACEMENT_CHARACTER, rest.len().min(6));
            };
            if let Some(value) = char::from_u32(u32::from(first)) {
                return (value, 6);
            }
            let second = if first < 0xdc00 { rest.get(6..).and_then(unit_at) } else { None };
            match second {
                Some(second @ 0xdc00..=0xdfff) => {
                    let high = u32::from(first) - 0xd800;
                    let low = u32::from(second) - 0xdc00;
                    let value = char::from_u32(0x1_0000 + (high << 10) + low);
                    (value.unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::REPLACEMENT_CHARACTER, 6),
            }
        }
        Some(&other) => plain(char::from(other)),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// The UTF-16 code unit of a `\uXXXX` at the front of `rest`.
fn unit_at(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

/// Appends `text` as the inside of a JSON string.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// Appends `text` as a JSON string, quotes included.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends an already escaped string, quotes included.
pub fn quoted(text: Escaped<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.raw().as_bytes());
    out.push(b'"');
}

/// Appends `"name":`, with a comma before it unless it opens its object.
pub fn key(name: &str, out: &mut Vec<u8>) {
    comma(out);
    string(name, out);
    out.push(b':');
}

/// Appends a comma unless nothing stands before it in its array or object.
pub fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[' | b':' | b',')) {
        out.push(b',');
    }
}

/// Appends `"name":"text"`, the text escaped here.
pub fn member(name: &str, text: &str, out: &mut Vec<u8>) {
    key(name, out);
    string(text, out);
}

/// Appends `"name":"text"`, the text already escaped.
pub fn member_quoted(name: &str, text: Escaped<'_>, out: &mut Vec<u8>) {
    key(name, out);
    quoted(text, out);
}

/// Appends `"name":value` for a value that already is JSON.
pub fn member_raw(name: &str, value: &str, out: &mut Vec<u8>) {
    key(name, out);
    out.extend_from_slice(value.as_bytes());
}

/// Appends `"name":number`.
pub fn member_number(name: &str, value: u64, out: &mut Vec<u8>) {
    key(name, out);
    number(value, out);
}

/// Appends a decimal number.
pub fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
