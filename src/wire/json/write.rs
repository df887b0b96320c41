//! Writing JSON: every function appends to a byte vector, and none can fail.

use super::Escaped;
use super::text::{first_special, is_special, plain_len};

/// Bytes that are escaped in one piece.
const PIECE_BYTES: usize = 64;

/// Appends `text` as the inside of a JSON string.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    loop {
        let (plain, behind) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        if behind.is_empty() {
            return;
        }
        let (piece, behind) = behind.split_at(behind.len().min(PIECE_BYTES));
        escape_piece(piece, out);
        rest = behind;
    }
}

/// Appends at most [`PIECE_BYTES`] bytes, put together where their number is bounded: appending
/// between one escape and the next would cost more than they do.
fn escape_piece(mut piece: &[u8], out: &mut Vec<u8>) {
    // Six for each byte, and one step that writes more than it counts.
    let mut buffer = [0; 6 * PIECE_BYTES + 8];
    let mut length = 0;
    while let Some((word, behind)) = piece.split_first_chunk::<8>() {
        buffer[length..length + 8].copy_from_slice(word);
        match first_special(*word) {
            None => {
                length += 8;
                piece = behind;
            }
            Some(at) => {
                length = put_escape(word[at], &mut buffer, length + at);
                piece = &piece[at + 1..];
            }
        }
    }
    for &byte in piece {
        if is_special(byte) {
            length = put_escape(byte, &mut buffer, length);
        } else {
            buffer[length] = byte;
            length += 1;
        }
    }
    out.extend_from_slice(&buffer[..length]);
}

/// Puts the escape of a byte at `at`; returns where it ends.
fn put_escape(byte: u8, buffer: &mut [u8], at: usize) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            buffer[at..at + 6].copy_from_slice(&[b'\\', b'u', b'0', b'0', digits[0], digits[1]]);
            return at + 6;
        }
    };
    buffer[at..at + 2].copy_from_slice(&[b'\\', letter]);
    at + 2
}

/// Appends an escaped text as the inside of a string that stands inside another string: what `text`
/// is between quotes, `out` gets between `\"` and `\"`.
pub fn escape_again(text: Escaped<'_>, out: &mut Vec<u8>) {
    escape(text.raw(), out);
}

/// Appends `text` as a JSON string, quotes included.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends an already escaped string, quotes included.
#[inline]
pub fn quoted(text: Escaped<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.raw().as_bytes());
    out.push(b'"');
}

/// Appends `"name":`, with a comma before it unless it opens its object. The name is one that needs
/// no escaping: of ours, or of a [`Cursor`](super::Cursor), which refuses others.
#[inline]
pub fn key(name: &str, out: &mut Vec<u8>) {
    comma(out);
    quoted(Escaped::trusted(name), out);
    out.push(b':');
}

/// Appends a comma unless nothing stands before it in its array or object.
#[inline]
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
