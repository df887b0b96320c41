//! JSON beside `serde_json`, and beside a second reader that the caller brings: `simd-json` is no part
//! of this crate.

use crate::wire::json::{self, Bad, Cursor, DEPTH_MAX, Escaped, Kind, Raw, Surrogates, Unescaper};
use serde_json::{Map, Value};

/// The cursor judges a document as `serde_json` does, and reads the same values from it.
///
/// # Panics
/// When it does not.
pub fn document(bytes: &[u8]) {
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

/// A document beside another reader, which gets the bytes and may change them.
///
/// It may refuse what is grammatical and has no value in Unicode or in 64 bits: a lone half of a
/// surrogate pair, and a number. It may take nothing that the cursor refuses, unless it is only
/// nested too deeply, and what both take they must read alike.
///
/// # Panics
/// When they differ otherwise.
pub fn beside(bytes: &[u8], other: impl FnOnce(&mut [u8]) -> Option<Value>) {
    document(bytes);
    let text = json::utf8(bytes).ok();
    let ours = text.map(Raw::check);
    if let Some(Err(Bad { why: json::Why::Depth, .. })) = ours {
        return;
    }
    let theirs = other(&mut bytes.to_vec());
    let (Some(text), Some(Ok(raw))) = (text, ours) else {
        assert_eq!(theirs, None, "refused here only: {}", bytes.escape_ascii());
        return;
    };
    let mut scratch = String::new();
    let halved = raw.paired(&mut scratch).text() != raw.text();
    match (serde_json::from_str::<Value>(text), theirs) {
        (Ok(ours), Some(theirs)) => assert!(alike(&ours, &theirs), "{ours} is not {theirs}"),
        (Ok(_), None) => assert!(halved || odd_number(raw), "refused there only: {text}"),
        // The one does not know a number that the other knows.
        (Err(_), _) => {}
    }
}

/// Whether two readers mean the same: integers to the digit, others to the last few bits.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let whole = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
            };
            if let (Some(one), Some(other)) = (whole(one), whole(other)) {
                return one == other;
            }
            let float = |number: &serde_json::Number| number.as_f64().unwrap_or(f64::NAN);
            let (one, other) = (float(one), float(other));
            (one - other).abs() <= one.abs() * 4.0 * f64::EPSILON
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| alike(one, other)))
        }
        (one, other) => one == other,
    }
}

/// Whether a number in it is beyond what 64 bits hold exactly.
fn odd_number(raw: Raw<'_>) -> bool {
    fn walk(cursor: &mut Cursor<'_>, odd: &mut bool) -> Result<(), Bad> {
        match cursor.kind()? {
            Kind::Object => cursor.object(|_, cursor| walk(cursor, odd)),
            Kind::Array => cursor.array(|cursor| walk(cursor, odd)),
            Kind::Number => {
                let number = cursor.skip()?;
                let digits = number.text().bytes().filter(u8::is_ascii_digit).count();
                *odd |= digits > 18 || number.text().contains(['e', 'E']);
                Ok(())
            }
            _ => cursor.skip().map(drop),
        }
    }
    let mut odd = false;
    // A key with escapes ends the walk; nobody then knows what stands behind it.
    walk(&mut raw.cursor(), &mut odd).is_err() || odd
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

/// Text comes back from its escaped form, and an escaped text is the same however it is cut.
///
/// # Panics
/// When it does not.
pub fn text(bytes: &[u8]) {
    let (cuts, bytes) = bytes.split_at(bytes.len().min(2));
    let Ok(text) = json::utf8(bytes) else { return };
    let mut out = Vec::new();
    json::string(text, &mut out);
    assert_eq!(serde_json::from_slice::<String>(&out).ok().as_deref(), Some(text));
    let read = json::utf8(&out).map(Raw::check);
    assert!(matches!(read, Ok(Ok(raw)) if raw.string().is_some_and(|inside| inside.is(text))));
    let quoted = format!("\"{text}\"");
    if let Ok(Some(inside)) = Raw::check(&quoted).map(Raw::string) {
        let cuts = cuts.iter().fold(0, |cuts, cut| cuts << 8 | u64::from(*cut));
        halves(inside.raw(), cuts | cuts << 16 | cuts << 32 | cuts << 48);
    }
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
