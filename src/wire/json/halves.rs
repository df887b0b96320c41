//! Surrogate pairs that were cut: JSON lets one half of a pair stand alone as an escape (RFC 8259,
//! section 8.2), and a model's stream may cut a pair between two deltas. Strict parsers refuse the
//! whole document for it, so none goes to a client.

use super::text::{is_high, is_low, join, plain_len, unescape_but_last, unit_at};
use super::{Escaped, Raw};

/// What stands for half a character.
const REPLACEMENT: &str = "\\ufffd";

/// Bytes of a `\uXXXX`.
const UNIT: usize = 6;

/// Keeps the texts of one part free of lone surrogates; one is kept for each part.
#[derive(Clone, Debug, Default)]
pub struct Surrogates {
    /// The high half that ended the last text.
    held: Option<[u8; UNIT]>,
}

impl Surrogates {
    /// Returns `text` with its pairs whole. A high half at its end is held for the next text; a half
    /// without its other half becomes U+FFFD. The result may be empty though `text` is not.
    ///
    /// Almost every text is returned as it came; `scratch` is written only when one has to change.
    pub fn pass<'a>(&mut self, text: Escaped<'a>, scratch: &'a mut String) -> Escaped<'a> {
        let raw = text.raw();
        let mut from = 0;
        match self.held {
            None if plain_len(raw.as_bytes()) == raw.len() => return text,
            None => match orphan(raw, 0) {
                None => return text,
                Some((at, unit)) if is_high(unit) && at + UNIT == raw.len() => {
                    self.held = escape_of(raw, at);
                    return Escaped::trusted(&raw[..at]);
                }
                Some(_) => scratch.clear(),
            },
            Some(_) if raw.is_empty() => return text,
            Some(high) => {
                self.held = None;
                scratch.clear();
                if unit_at(raw).is_some_and(is_low) {
                    scratch.extend(high.map(char::from));
                    scratch.push_str(&raw[..UNIT]);
                    from = UNIT;
                } else {
                    scratch.push_str(REPLACEMENT);
                }
            }
        }
        if let Some(at) = mend(raw, from, scratch) {
            self.held = escape_of(raw, at);
        }
        Escaped::trusted(scratch)
    }

    /// The texts ended: what stands for a high half that is still held.
    pub fn finish(&mut self) -> Option<Escaped<'static>> {
        self.held.take().map(|_| Escaped::trusted(REPLACEMENT))
    }
}

impl<'a> Escaped<'a> {
    /// The text with every lone surrogate replaced by U+FFFD, for a text that is whole. `scratch` is
    /// written only when there is one.
    #[must_use]
    pub fn paired(self, scratch: &'a mut String) -> Escaped<'a> {
        Escaped::trusted(paired(self.raw(), scratch))
    }
}

impl<'a> Raw<'a> {
    /// The value with every lone surrogate in its strings replaced by U+FFFD. `scratch` is written
    /// only when there is one.
    #[must_use]
    pub fn paired(self, scratch: &'a mut String) -> Raw<'a> {
        // A backslash stands only inside strings, and a string's end is no low half: so a value
        // can be mended like one text.
        Raw::trusted(paired(self.text(), scratch))
    }
}

fn paired<'a>(raw: &'a str, scratch: &'a mut String) -> &'a str {
    if orphan(raw, 0).is_none() {
        return raw;
    }
    scratch.clear();
    if mend(raw, 0, scratch).is_some() {
        scratch.push_str(REPLACEMENT);
    }
    scratch
}

/// Appends `raw[from..]` to `out`, lone halves replaced, but not a high half at the very end: its
/// offset is returned.
fn mend(raw: &str, mut from: usize, out: &mut String) -> Option<usize> {
    while let Some((at, unit)) = orphan(raw, from) {
        out.push_str(&raw[from..at]);
        if is_high(unit) && at + UNIT == raw.len() {
            return Some(at);
        }
        out.push_str(REPLACEMENT);
        from = at + UNIT;
    }
    out.push_str(&raw[from..]);
    None
}

/// Finds the first lone half at or behind `from`, which is no place inside an escape: its offset and
/// code unit.
fn orphan(raw: &str, from: usize) -> Option<(usize, u16)> {
    let mut at = from;
    loop {
        at = half_spelled(raw.as_bytes(), at)?;
        let slashes = raw.as_bytes()[from..at].iter().rev().take_while(|&&byte| byte == b'\\');
        if slashes.count() % 2 == 1 {
            // The backslash belongs to the one before it.
            at += 1;
            continue;
        }
        let escape = raw.get(at..)?;
        let unit = unit_at(escape)?;
        at += if is_high(unit) || is_low(unit) {
            let next = escape.get(UNIT..).and_then(unit_at);
            match next.and_then(|next| join(unit, next)) {
                Some(_) => 2 * UNIT,
                None => return Some((at, unit)),
            }
        } else {
            UNIT
        };
    }
}

/// Finds the first `\ud` or `\uD` at or behind `at`, which all halves begin with. Looks at many
/// bytes at once, because most texts with escapes have other ones.
fn half_spelled(bytes: &[u8], mut at: usize) -> Option<usize> {
    const STEP: usize = 64;
    while let Some(window) = bytes.get(at..).and_then(<[u8]>::first_chunk::<{ STEP + 2 }>) {
        let rest = window[1..].iter().zip(&window[2..]);
        let found = window.iter().zip(rest).fold(false, |found, (&first, (&second, &third))| {
            found | ((first == b'\\') & (second == b'u') & (third | 0x20 == b'd'))
        });
        if found {
            break;
        }
        at += STEP;
    }
    loop {
        at += memchr::memchr(b'\\', bytes.get(at..)?)?;
        if let [b'u', b'd' | b'D', ..] = &bytes[at + 1..] {
            return Some(at);
        }
        at += 1;
    }
}

fn escape_of(raw: &str, at: usize) -> Option<[u8; UNIT]> {
    raw.as_bytes().get(at..)?.first_chunk().copied()
}

/// Decodes an escaped text that comes in pieces, cut anywhere between whole escapes.
#[derive(Clone, Debug, Default)]
pub struct Unescaper {
    /// The high half that ended the last piece.
    held: Option<u16>,
}

impl Unescaper {
    /// Appends what `text` means to `out`. A high half at its end waits for the next piece; a half
    /// without its other half becomes U+FFFD.
    pub fn push(&mut self, text: Escaped<'_>, out: &mut String) {
        let mut raw = text.raw();
        if raw.is_empty() {
            return;
        }
        if let Some(high) = self.held.take() {
            match unit_at(raw).and_then(|low| join(high, low)) {
                Some(value) => {
                    out.push(value);
                    raw = raw.get(UNIT..).unwrap_or_default();
                }
                None => out.push(char::REPLACEMENT_CHARACTER),
            }
        }
        self.held = unescape_but_last(raw, out);
    }

    /// The pieces ended: a high half that still waits becomes U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if self.held.take().is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
