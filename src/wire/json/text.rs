//! The inside of JSON strings: finding what is special in it, and what its escapes mean.

use super::block::{self, BLOCK};

/// Bytes of a string's front that are looked at in steps of eight: enough for keys and most deltas,
/// and cheaper than a block for them.
const SHORT_BYTES: usize = 32;

/// Length of the longest front of `bytes` that may stand in a JSON string as it is: no quote, no
/// backslash, no control character (RFC 8259, section 7).
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (short, long) = bytes.split_at(bytes.len().min(SHORT_BYTES));
    let front = plain_len_by_words(short);
    if front < short.len() || long.is_empty() {
        return front;
    }
    let (blocks, tail) = long.as_chunks::<BLOCK>();
    for (count, block) in blocks.iter().enumerate() {
        if !block::is_plain(block) {
            return front + count * BLOCK + plain_len_by_words(block);
        }
    }
    front + blocks.len() * BLOCK + plain_len_by_words(tail)
}

pub(super) const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Marks the highest bit of every special byte. A borrow may mark a plain byte too, but only above
/// one that is special: the lowest mark is exact.
const fn special_marks(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let slash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | slash) & !word & HIGHS
}

/// Where the first special byte of a word is.
pub(super) const fn first_special(word: [u8; 8]) -> Option<usize> {
    match special_marks(word) {
        0 => None,
        marks => Some(first_mark(marks)),
    }
}

const fn first_mark(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// [`plain_len`] for a few bytes.
fn plain_len_by_words(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (count, word) in words.iter().enumerate() {
        let marks = special_marks(*word);
        if marks != 0 {
            return count * 8 + first_mark(marks);
        }
    }
    let end = tail.iter().position(|&byte| is_special(byte)).unwrap_or(tail.len());
    words.len() * 8 + end
}

/// What [`escape_len`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// A valid escape of so many bytes.
    Whole(usize),
    /// The text ends inside the escape.
    Cut,
    /// No escape of RFC 8259.
    Bad,
}

/// Measures the escape at the front of `bytes`, which begin with a backslash.
pub(super) fn escape_len(bytes: &[u8]) -> Escape {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::Whole(2),
        Some(b'u') => {
            let digits = bytes.get(2..).unwrap_or_default();
            match digits.iter().take(4).take_while(|digit| digit.is_ascii_hexdigit()).count() {
                4 => Escape::Whole(6),
                count if count == digits.len() => Escape::Cut,
                _ => Escape::Bad,
            }
        }
        Some(_) => Escape::Bad,
        None => Escape::Cut,
    }
}

/// The end of a string, and what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Where the closing quote is.
    pub(super) at: usize,
    /// There are escapes.
    pub(super) escapes: bool,
    /// There are `\u` escapes of halves of surrogate pairs.
    pub(super) halves: bool,
}

/// Goes through the first sixteen bytes of the inside of a string, up to the first special one: most
/// keys and many values end there. Returns where it stands.
#[inline]
pub(super) fn string_front(bytes: &[u8], start: usize) -> usize {
    let marks = special_marks(word_at(bytes, start));
    if marks != 0 {
        return start + first_mark(marks);
    }
    match special_marks(word_at(bytes, start + 8)) {
        0 => start + 16,
        marks => start + 8 + first_mark(marks),
    }
}

/// Eight bytes, with zeros, which end a string that the text does not, behind its end.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> [u8; 8] {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) => *word,
        None => last_word(bytes.get(at..).unwrap_or_default()),
    }
}

#[cold]
fn last_word(rest: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    word
}

/// Finds the end of the string whose inside starts at `start`, and checks what stands before it.
/// What stands before `at` is plain, as [`string_front`] found.
///
/// # Errors
/// Where the string breaks off or cannot be one.
pub(super) fn string_end(bytes: &[u8], start: usize, mut at: usize) -> Result<End, Fault> {
    let mut escapes = false;
    while at < start + SHORT_BYTES {
        let marks = special_marks(word_at(bytes, at));
        if marks == 0 {
            at += 8;
            continue;
        }
        at += first_mark(marks);
        match bytes.get(at..).unwrap_or_default() {
            [b'"', ..] => return Ok(End { at, escapes, halves: false }),
            [b'\\', b'"' | b'\\' | b'n' | b'r' | b't', ..] => at += 2,
            _ => break,
        }
        escapes = true;
    }
    match end_by_blocks(bytes, at) {
        Some(end) => Ok(End { escapes: escapes | end.escapes, ..end }),
        None => Err(fault(bytes, start)),
    }
}

/// [`string_end`] for long strings, in one pass however dense their escapes are. `None` when
/// something is wrong.
fn end_by_blocks(bytes: &[u8], mut at: usize) -> Option<End> {
    let (mut escapes, mut halves) = (false, false);
    // Runs of plain text are passed at twice the speed; `escaped` = the block's first byte is.
    let (mut plain, mut escaped) = (true, false);
    loop {
        let rest = bytes.get(at..)?;
        // Zeros end a string that the text does not.
        let mut padded = [0; BLOCK];
        let block = match rest.first_chunk() {
            Some(block) => block,
            None => {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            }
        };
        if plain && block::is_plain(block) {
            at += BLOCK;
            continue;
        }
        let (slashes, quotes) = (block::slashes(block), block::quotes(block));
        let mut stops = quotes | block::controls(block);
        plain = slashes == 0 && !escaped;
        if !plain {
            let behind = block::behind_slashes(slashes, &mut escaped);
            stops &= !(behind & quotes);
            let before = stops.wrapping_sub(1) & !stops;
            escapes |= slashes & before != 0;
            let usual = quotes | slashes | block::usual_letters(block);
            let mut rare = behind & before & !usual;
            while rare != 0 {
                halves |= rare_escape(bytes.get(at + rare.trailing_zeros() as usize..)?)?;
                rare &= rare - 1;
            }
        }
        if stops != 0 {
            let at = at + stops.trailing_zeros() as usize;
            return (bytes.get(at) == Some(&b'"')).then_some(End { at, escapes, halves });
        }
        at += BLOCK;
    }
}

/// Checks the escape whose letter stands at the front of `bytes`. Says whether it is half a
/// surrogate pair; `None` when it is no escape.
fn rare_escape(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [b'/' | b'b' | b'f', ..] => Some(false),
        [b'u', digits @ ..] => {
            let digits: &[u8; 4] = digits.first_chunk()?;
            let [a, b, c, d] = digits.map(|digit| HEX[usize::from(digit)]);
            (a | b | c | d < 16).then_some(a == 0xd && b >= 8)
        }
        _ => None,
    }
}

/// What each hexadecimal digit is worth; all other bytes more than any.
const HEX: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// What is wrong with a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ends inside of it, in front of this byte.
    Cut(usize),
    /// A control character or a bad escape at this byte.
    Bad(usize),
}

/// Finds what is wrong with the string whose inside starts at `at`.
#[cold]
fn fault(bytes: &[u8], mut at: usize) -> Fault {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let plain = plain_len(rest);
        at += plain;
        match rest.get(plain) {
            Some(b'\\') => match escape_len(&rest[plain..]) {
                Escape::Whole(used) => at += used,
                Escape::Cut => return Fault::Cut(at),
                Escape::Bad => return Fault::Bad(at),
            },
            Some(_) => return Fault::Bad(at),
            None => return Fault::Cut(at),
        }
    }
}

/// True when `inside` may stand between two quotes.
pub(super) fn is_escaped(inside: &str) -> bool {
    let mut rest = inside.as_bytes();
    loop {
        rest = rest.get(plain_len(rest)..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        match escape_len(rest) {
            Escape::Whole(used) if rest[0] == b'\\' => rest = &rest[used..],
            _ => return false,
        }
    }
}

/// One step through the inside of a string.
enum Piece<'a> {
    /// Text that stands for itself.
    Plain(&'a str),
    /// The character that an escape, or a pair of them, stands for.
    Char(char),
    /// Half a surrogate pair whose other half is not next to it.
    Half(u16),
}

/// Takes the next piece off the front of `rest`; `None` at the end.
fn next_piece<'a>(rest: &mut &'a str) -> Option<Piece<'a>> {
    let at = match rest.as_bytes().first()? {
        b'\\' => 0,
        _ => memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len()),
    };
    if at > 0 {
        let (plain, behind) = rest.split_at(at);
        *rest = behind;
        return Some(Piece::Plain(plain));
    }
    let (piece, used) = match rest.as_bytes().get(1) {
        Some(b'n') => (Piece::Char('\n'), 2),
        Some(b't') => (Piece::Char('\t'), 2),
        Some(b'r') => (Piece::Char('\r'), 2),
        Some(b'b') => (Piece::Char('\u{8}'), 2),
        Some(b'f') => (Piece::Char('\u{c}'), 2),
        Some(b'u') => unit_piece(rest),
        Some(&other) if other.is_ascii() => (Piece::Char(char::from(other)), 2),
        // Not valid JSON text; no caller has such, and it must not panic.
        _ => (Piece::Char(char::REPLACEMENT_CHARACTER), 1),
    };
    *rest = rest.get(used..).unwrap_or_default();
    Some(piece)
}

fn unit_piece(rest: &str) -> (Piece<'static>, usize) {
    let Some(first) = unit_at(rest) else {
        return (Piece::Char(char::REPLACEMENT_CHARACTER), 2);
    };
    if let Some(value) = char::from_u32(u32::from(first)) {
        return (Piece::Char(value), 6);
    }
    match rest.get(6..).and_then(unit_at).and_then(|second| join(first, second)) {
        Some(value) => (Piece::Char(value), 12),
        None => (Piece::Half(first), 6),
    }
}

/// The UTF-16 code unit of a `\uXXXX` at the front of `rest`.
pub(super) fn unit_at(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.as_bytes().get(..4)?;
    digits.iter().try_fold(0, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

/// True for the first half of a surrogate pair.
pub(super) const fn is_high(unit: u16) -> bool {
    matches!(unit, 0xd800..=0xdbff)
}

/// True for the second half of a surrogate pair.
pub(super) const fn is_low(unit: u16) -> bool {
    matches!(unit, 0xdc00..=0xdfff)
}

/// The character of a surrogate pair; `None` when the two are none.
pub(super) fn join(high: u16, low: u16) -> Option<char> {
    if !is_high(high) || !is_low(low) {
        return None;
    }
    let bits = (u32::from(high) - 0xd800) << 10 | (u32::from(low) - 0xdc00);
    char::from_u32(0x1_0000 + bits)
}

/// Appends the text that `raw`, the inside of a JSON string, means. Lone surrogates become U+FFFD.
pub fn unescape(raw: &str, text: &mut String) {
    if unescape_but_last(raw, text).is_some() {
        text.push(char::REPLACEMENT_CHARACTER);
    }
}

/// [`unescape`], but a high half at the very end is returned, not appended.
pub(super) fn unescape_but_last(raw: &str, text: &mut String) -> Option<u16> {
    let mut rest = raw;
    while let Some(piece) = next_piece(&mut rest) {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            Piece::Char(value) => text.push(value),
            Piece::Half(unit) if rest.is_empty() && is_high(unit) => return Some(unit),
            Piece::Half(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    None
}

/// True when `raw`, the inside of a JSON string, means `plain`. Allocates nothing.
pub(super) fn means(raw: &str, plain: &str) -> bool {
    let (mut rest, mut plain) = (raw, plain);
    while let Some(piece) = next_piece(&mut rest) {
        let behind = match piece {
            Piece::Plain(text) => plain.strip_prefix(text),
            Piece::Char(value) => plain.strip_prefix(value),
            Piece::Half(_) => plain.strip_prefix(char::REPLACEMENT_CHARACTER),
        };
        match behind {
            Some(behind) => plain = behind,
            None => return false,
        }
    }
    plain.is_empty()
}
