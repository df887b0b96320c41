//! What the fuzz targets do, here so that ordinary tests run it too. Each function takes any input
//! and panics when a property does not hold. Not part of the public interface.

use crate::wire::coding::{Refused, decode};
use crate::wire::json::{self, Bad, Cursor, DEPTH_MAX, Escaped, Kind, Raw, Surrogates, Unescaper};
use crate::wire::sse::{Decoder, Step};
use serde_json::{Map, Value};

/// The cursor judges a document as `serde_json` does, and reads the same values from it.
///
/// # Panics
/// When it does not.
pub fn json(bytes: &[u8]) {
    let text = match (json::utf8(bytes), std::str::from_utf8(bytes)) {
        (Ok(text), Ok(_)) => text,
        (Err(bad), Err(theirs)) => {
            assert_eq!(bad.at, theirs.valid_up_to());
            return;
        }
        (ours, theirs) => panic!("{ours:?} but {theirs:?}"),
    };
    let ours = Raw::check(text);
    // `IgnoredAny` looks at the grammar only; it knows no limit of depth.
    let grammar = serde_json::from_str::<serde::de::IgnoredAny>(text);
    match ours {
        Ok(raw) => {
            assert!(grammar.is_ok(), "accepted, but {grammar:?}");
            let inside = text.trim_matches([' ', '\t', '\n', '\r']);
            assert_eq!(raw.text(), inside);
        }
        Err(Bad { at, why: json::Why::Depth }) => {
            assert!(nesting(&text.as_bytes()[..=at]) > DEPTH_MAX as usize);
        }
        Err(bad) => {
            assert!(grammar.is_err(), "refused ({bad}), but serde_json takes it");
            assert!(bad.at <= text.len());
        }
    }
    let walked = json::document(text, tree);
    match (&walked, ours) {
        (Err(Bad { why: json::Why::EscapedKey | json::Why::Depth, .. }), _) => {}
        (walked, ours) => assert_eq!(walked.is_ok(), ours.is_ok(), "walked: {walked:?}"),
    }
    if let (Ok(walked), Ok(theirs)) = (walked, serde_json::from_str::<Value>(text)) {
        assert_eq!(walked, theirs);
    }
}

/// At least how deep the brackets nest, those inside strings included.
fn nesting(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

fn tree(cursor: &mut Cursor<'_>) -> Result<Value, Bad> {
    Ok(match cursor.kind()? {
        Kind::Object => {
            let mut members = Map::new();
            cursor.object(|key, cursor| {
                members.insert(key.to_owned(), tree(cursor)?);
                Ok(())
            })?;
            Value::Object(members)
        }
        Kind::Array => {
            let mut elements = Vec::new();
            cursor.array(|cursor| {
                elements.push(tree(cursor)?);
                Ok(())
            })?;
            Value::Array(elements)
        }
        Kind::String => {
            let text = cursor.string()?;
            let plain = text.decode();
            assert!(text.is(&plain));
            Value::String(plain.into_owned())
        }
        Kind::Number => {
            let number = cursor.skip()?;
            if let Ok(whole) = number.cursor().unsigned() {
                let float: f64 = number.text().parse().unwrap_or(f64::NAN);
                #[allow(clippy::cast_precision_loss, reason = "compared as floats on purpose")]
                let same = float == whole as f64;
                assert!(same, "{number:?} read as {whole}");
            }
            serde_json::from_str(number.text()).unwrap_or(Value::Null)
        }
        Kind::Bool => Value::Bool(cursor.boolean()?),
        Kind::Null => {
            assert!(cursor.null()?);
            Value::Null
        }
    })
}

/// Texts with halves of surrogate pairs come out valid and the same, cut or whole. Bit `n` of `cuts`
/// says whether to cut behind the text's escape or character number `n`.
///
/// # Panics
/// When they do not.
pub fn halves(text: &str, cuts: u64) {
    let whole = Escaped::trusted(text);
    let plain = whole.decode();
    let (mut surrogates, mut unescaper) = (Surrogates::default(), Unescaper::default());
    let (mut scratch, mut passed, mut decoded) = (String::new(), String::new(), String::new());
    for delta in deltas(text, cuts) {
        let delta = Escaped::trusted(delta);
        let mended = surrogates.pass(delta, &mut scratch);
        strict(mended);
        passed.push_str(mended.raw());
        unescaper.push(delta, &mut decoded);
    }
    passed.push_str(surrogates.finish().map_or("", Escaped::raw));
    unescaper.finish(&mut decoded);
    assert_eq!(decoded, plain);
    assert_eq!(Escaped::trusted(&passed).decode(), plain);
    let paired = whole.paired(&mut scratch);
    strict(paired);
    assert_eq!(paired.decode(), plain);
}

/// A strict reader takes the text.
fn strict(text: Escaped<'_>) {
    let mut quoted = Vec::new();
    json::quoted(text, &mut quoted);
    let read = serde_json::from_slice::<String>(&quoted);
    assert!(read.is_ok_and(|read| read == text.decode()), "a strict reader refuses {text:?}");
}

/// Cuts `text` between whole escapes and characters.
fn deltas(text: &str, cuts: u64) -> Vec<&str> {
    let (mut pieces, mut start, mut at) = (Vec::new(), 0, 0);
    for count in 0.. {
        let rest = &text.as_bytes()[at..];
        at += match rest {
            [] => break,
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => text[at..].chars().next().map_or(1, char::len_utf8),
        };
        if cuts >> (count % 64) & 1 == 1 {
            pieces.push(&text[start..at]);
            start = at;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// One event as name and data; an owned [`crate::wire::sse::Frame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The `event` field.
    pub name: Vec<u8>,
    /// The `data` field.
    pub data: Vec<u8>,
}

/// The frames of a stream are those of a slow reader, however the stream is cut. `seed` chooses the
/// cuts that are tried.
///
/// # Panics
/// When they are not.
pub fn sse(bytes: &[u8], seed: u64) {
    let expected = frames_slowly(bytes);
    assert_eq!(frames(&[bytes]), expected, "whole");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(frames(&single), expected, "byte by byte");
    let mut random = seed;
    for _ in 0..4 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let at = usize::try_from(random >> 33).unwrap_or(0) % (bytes.len() + 1);
        let (front, back) = bytes.split_at(at);
        assert_eq!(frames(&[front, back]), expected, "cut at {at}");
    }
}

/// Feeds a stream piece by piece, as a connection does, up to its end.
#[must_use]
pub fn frames(pieces: &[&[u8]]) -> Vec<OwnedFrame> {
    let mut decoder = Decoder::default();
    let (mut waiting, mut frames) = (Vec::new(), Vec::new());
    let own = |step: Step<'_>| match step {
        Step::Frame(frame) => {
            Some(OwnedFrame { name: frame.name.to_vec(), data: frame.data.to_vec() })
        }
        _ => None,
    };
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let (step, used) = decoder.step(&waiting);
            assert_eq!(step == Step::NeedMore, used == 0, "a step moves on or asks for more");
            frames.extend(own(step));
            if used == 0 {
                break;
            }
            waiting.drain(..used);
        }
    }
    frames.extend(own(decoder.finish(&waiting)));
    frames
}

/// The standard's algorithm, word for word and slow: line ends made equal, then line by line. The
/// block that the end of the stream cuts is kept, as [`Decoder::finish`] does.
#[must_use]
pub fn frames_slowly(bytes: &[u8]) -> Vec<OwnedFrame> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = vec![Vec::new()];
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && bytes[at - 1] == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().into_iter().for_each(|line| line.push(byte)),
        }
    }
    lines.push(Vec::new());
    let (mut frames, mut name, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            let (name, mut data) = (std::mem::take(&mut name), std::mem::take(&mut data));
            if data.pop().is_some() {
                frames.push(OwnedFrame { name, data });
            }
            continue;
        }
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let field = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            _ => {}
        }
    }
    frames
}

/// A compressed body never becomes larger than its limit, and a smaller limit only refuses.
///
/// # Panics
/// When it does.
pub fn coding(body: &[u8]) {
    const BYTES_MAX: usize = 1024 * 1024;
    let decoded = decode("zstd", body, BYTES_MAX);
    if let Ok(plain) = decoded {
        assert!(plain.len() <= BYTES_MAX);
        assert_eq!(decode("zstd", body, plain.len()).as_ref(), Ok(&plain));
        if let Some(less) = plain.len().checked_sub(1) {
            assert_eq!(decode("zstd", body, less), Err(Refused::TooLarge));
        }
    }
}
