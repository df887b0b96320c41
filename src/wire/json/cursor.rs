//! The cursor: a position in a JSON text that moves over one checked value at a time.

use super::text::{Escape, escape_len, plain_len};
use super::{Bad, DEPTH_MAX, Escaped, Kind, Raw, Why};

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
            let start = self.at;
            let key = self.key()?;
            if memchr::memchr(b'\\', key.as_bytes()).is_some() {
                return Err(Bad { at: start, why: Why::EscapedKey });
            }
            self.space();
            let before = self.at;
            each(key, self).map_err(|bad| match bad {
                // [`super::once`] knows no position.
                Bad { at: 0, why: Why::Duplicate } => Bad { at: start, ..bad },
                _ => bad,
            })?;
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
        self.inside().map(Escaped)
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
                Kind::String => {
                    self.inside()?;
                }
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

    /// Reads a key and the colon behind it.
    fn key(&mut self) -> Result<&'a str, Bad> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.bad(self.cut_or(Why::Syntax)));
        }
        let key = self.inside()?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    /// Reads the string whose opening quote stands here.
    fn inside(&mut self) -> Result<&'a str, Bad> {
        let start = self.at + 1;
        let end = self.string_end(start)?;
        self.at = end + 1;
        Ok(&self.text[start..end])
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
        if self.take(byte) { Ok(()) } else { Err(self.bad(self.cut_or(Why::Syntax))) }
    }

    fn cut_or(&self, why: Why) -> Why {
        if self.at < self.text.len() { why } else { Why::Cut }
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
        Err(self.bad(self.cut_or(Why::Syntax)))
    }

    /// Finds the closing quote of a string whose inside starts at `at`.
    fn string_end(&self, mut at: usize) -> Result<usize, Bad> {
        let bytes = self.text.as_bytes();
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let plain = plain_len(rest);
            at += plain;
            match rest.get(plain) {
                Some(b'"') => return Ok(at),
                Some(b'\\') => match escape_len(&rest[plain..]) {
                    Escape::Whole(used) => at += used,
                    Escape::Cut => return Err(Bad { at, why: Why::Cut }),
                    Escape::Bad => return Err(Bad { at, why: Why::Text }),
                },
                Some(_) => return Err(Bad { at, why: Why::Text }),
                None => return Err(Bad { at, why: Why::Cut }),
            }
        }
    }
}
