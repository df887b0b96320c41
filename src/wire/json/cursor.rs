//! The cursor: a position in a JSON text that moves over one checked value at a time.

use super::text::{self, Fault};
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
    /// Where the inside of the last string ends, and whether it has escapes.
    end: usize,
    escapes: bool,
    halves: bool,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, end: 0, escapes: false, halves: false }
    }

    /// Byte offset of the next unread byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The value that was read from `start` on, a position right before a value.
    #[must_use]
    pub fn since(&self, start: usize) -> Raw<'a> {
        Raw::trusted(&self.text[start..self.at])
    }

    /// True when one of the strings behind the position has a `\u` escape of half a surrogate
    /// pair. Without any, no text needs [`Escaped::paired`].
    #[must_use]
    pub fn saw_halves(&self) -> bool {
        self.halves
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
            _ => Err(self.unexpected()),
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
        self.open(b'{')?;
        if self.take(b'}') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let start = self.at;
            self.key()?;
            if self.escapes {
                return Err(Bad { at: start, why: Why::EscapedKey });
            }
            let before = self.at;
            if let Err(bad) = each(&self.text[start + 1..self.end], self) {
                // [`super::once`] knows no position.
                let placeless = bad.at == 0 && bad.why == Why::Duplicate;
                return Err(if placeless { Bad { at: start, ..bad } } else { bad });
            }
            if self.at == before {
                self.pass()?;
            }
            if !self.more(b'}')? {
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
        self.open(b'[')?;
        if self.take(b']') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let before = self.at;
            each(self)?;
            if self.at == before {
                self.pass()?;
            }
            if !self.more(b']')? {
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
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.mismatch());
        }
        let start = self.at + 1;
        self.inside()?;
        Ok(Escaped(&self.text[start..self.end]))
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
        match self.kind()? {
            Kind::Null => self.word("null").map(|()| true),
            _ => Ok(false),
        }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// [`Why::Type`] when the value is of another type.
    pub fn boolean(&mut self) -> Result<bool, Bad> {
        self.space();
        match self.peek() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => Err(self.mismatch()),
        }
    }

    /// Reads an unsigned integer. A fraction of zeros is tolerated (`3.0`), as some senders write
    /// whole floats.
    ///
    /// # Errors
    /// [`Why::Type`] for another type, [`Why::Range`] for a fraction, a sign or an overflow.
    pub fn unsigned(&mut self) -> Result<u64, Bad> {
        if self.kind()? != Kind::Number {
            return Err(self.bad(Why::Type));
        }
        let start = self.at;
        self.number()?;
        let digits = &self.text[start..self.at];
        let whole = digits.split_once('.').map_or(digits, |(whole, fraction)| {
            if fraction.bytes().all(|b| b == b'0') { whole } else { "" }
        });
        whole.parse().map_err(|_| Bad { at: start, why: Why::Range })
    }

    /// Skips one value and returns it verbatim, checked.
    ///
    /// # Errors
    /// Where and why it is not valid JSON.
    pub fn skip(&mut self) -> Result<Raw<'a>, Bad> {
        self.space();
        let start = self.at;
        self.pass()?;
        Ok(Raw(&self.text[start..self.at]))
    }

    /// Skips the value that begins here.
    fn pass(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(b'{' | b'[') => self.pass_nested(),
            _ => self.pass_scalar(),
        }
    }

    #[inline]
    fn pass_scalar(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(b'"') => self.inside(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.unexpected()),
        }
    }

    fn pass_nested(&mut self) -> Result<(), Bad> {
        // One bit a level: 1 = object. No recursion, so hostile depth costs no stack.
        let mut levels: u128 = 0;
        let mut open = 0u32;
        loop {
            match self.peek() {
                Some(brace @ (b'{' | b'[')) => {
                    if self.depth + open >= DEPTH_MAX {
                        return Err(self.bad(Why::Depth));
                    }
                    self.at += 1;
                    self.space();
                    let object = brace == b'{';
                    if !self.take(if object { b'}' } else { b']' }) {
                        levels = levels << 1 | u128::from(object);
                        open += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.pass_scalar()?,
            }
            // A value is complete: close what it ends, or step to the next one.
            loop {
                if open == 0 {
                    return Ok(());
                }
                let object = levels & 1 == 1;
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                levels >>= 1;
                open -= 1;
            }
        }
    }

    /// Reads a key, the colon behind it, and the white space behind that.
    fn key(&mut self) -> Result<(), Bad> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.inside()?;
        match self.text.as_bytes().get(self.at..) {
            Some([b':', next, ..]) if *next > b' ' => {
                self.at += 1;
                Ok(())
            }
            _ => self.spaced_colon(),
        }
    }

    #[cold]
    #[inline(never)]
    fn spaced_colon(&mut self) -> Result<(), Bad> {
        self.space();
        if !self.take(b':') {
            return Err(self.unexpected());
        }
        self.space();
        Ok(())
    }

    /// Reads the string whose opening quote stands here.
    #[inline]
    fn inside(&mut self) -> Result<(), Bad> {
        let bytes = self.text.as_bytes();
        let front = text::string_front(bytes, self.at + 1);
        if bytes.get(front) != Some(&b'"') {
            return self.long_inside(front);
        }
        self.at = front + 1;
        self.end = front;
        self.escapes = false;
        Ok(())
    }

    #[inline(never)]
    fn long_inside(&mut self, front: usize) -> Result<(), Bad> {
        match text::string_end(self.text.as_bytes(), self.at + 1, front) {
            Ok(end) => {
                self.at = end.at + 1;
                self.end = end.at;
                self.escapes = end.escapes;
                self.halves |= end.halves;
                Ok(())
            }
            Err(Fault::Cut(at)) => Err(Bad { at, why: Why::Cut }),
            Err(Fault::Bad(at)) => Err(Bad { at, why: Why::Text }),
        }
    }

    /// Goes into an object or array, and over the white space behind its bracket.
    fn open(&mut self, bracket: u8) -> Result<(), Bad> {
        self.space();
        if self.peek() != Some(bracket) {
            return Err(self.mismatch());
        }
        if self.depth >= DEPTH_MAX {
            return Err(self.bad(Why::Depth));
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Behind a value in an object or array: goes to the next one, or over the `end`.
    #[inline]
    fn more(&mut self, end: u8) -> Result<bool, Bad> {
        match self.text.as_bytes().get(self.at..) {
            Some([b',', next, ..]) if *next > b' ' => {
                self.at += 1;
                Ok(true)
            }
            Some([byte, ..]) if *byte == end => {
                self.at += 1;
                Ok(false)
            }
            _ => self.spaced_more(end),
        }
    }

    #[inline(never)]
    fn spaced_more(&mut self, end: u8) -> Result<bool, Bad> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Something else has to stand here.
    #[cold]
    fn unexpected(&self) -> Bad {
        self.bad(self.cut_or(Why::Syntax))
    }

    /// The value that starts here is of another type than the one needed.
    #[cold]
    fn mismatch(&mut self) -> Bad {
        match self.kind() {
            Ok(_) => self.bad(Why::Type),
            Err(bad) => bad,
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.long_space();
        }
    }

    #[cold]
    #[inline(never)]
    fn long_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
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
}
