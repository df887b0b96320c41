//! Writing JSON: every function appends to a byte vector, and none can fail.

use super::Escaped;
use super::text::plain_len;

/// Appends `text` as the inside of a JSON string.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    loop {
        let (plain, behind) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = behind.split_first() else { return };
        rest = behind;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
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
