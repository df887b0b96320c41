//! What must be a JSON object upstream and is any text elsewhere: the arguments of a call, and the
//! result of a function.

use crate::wire::json::{self, Escaped, Kind, Raw};

/// Deepest nesting of arguments that are passed as they are: inside of the body they stand deeper,
/// and readers have limits.
const DEPTH_MAX: usize = 100;

/// Appends the object that a call's arguments (the text of one, escaped) stand for. A text that is
/// none is repaired where it is clear what was meant, else carried in the member `arguments`.
pub(super) fn arguments(text: Escaped<'_>, out: &mut Vec<u8>) {
    let plain = text.decode();
    let plain = plain.trim();
    if plain.is_empty() || plain == "null" {
        return out.extend_from_slice(b"{}");
    }
    if append(object(plain), out) || append(object(unfenced(plain)), out) {
        return;
    }
    // The text of an object as a string, as some models send it.
    let inner = Raw::check(plain).ok().and_then(Raw::string);
    if inner.is_some_and(|inner| append(object(inner.decode().trim()), out)) {
        return;
    }
    out.push(b'{');
    json::member("arguments", plain, out);
    out.push(b'}');
}

/// Appends the JSON object that a function's result (text pieces, escaped) is, as the inside of a
/// string: an object stays, nothing is `{}`, anything else is `{"result":...}`.
pub(super) fn result<'t>(pieces: impl Iterator<Item = Escaped<'t>>, out: &mut Vec<u8>) {
    let mut raw = String::new();
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        if !raw.is_empty() {
            raw.push_str("\\n");
        }
        raw.push_str(piece.raw());
    }
    let text = Escaped::trusted(&raw);
    // Nearly every result is text, and begins with no bracket.
    let front = raw.trim_start_matches([' ', '\t']).trim_start_matches("\\n");
    match front.bytes().next() {
        None => return out.extend_from_slice(b"{}"),
        Some(b'{' | b'[' | b' ' | b'\\' | b'\t') => {
            let plain = text.decode();
            let plain = plain.trim();
            let mut scratch = String::new();
            match Raw::check(plain) {
                _ if plain.is_empty() => return out.extend_from_slice(b"{}"),
                Ok(value) if value.kind() == Kind::Object => {
                    return json::escape(value.paired(&mut scratch).text(), out);
                }
                Ok(value) if value.kind() == Kind::Array => {
                    out.extend_from_slice(b"{\\\"result\\\":");
                    json::escape(value.paired(&mut scratch).text(), out);
                    return out.push(b'}');
                }
                _ => {}
            }
        }
        Some(_) => {}
    }
    let mut scratch = String::new();
    out.extend_from_slice(b"{\\\"result\\\":\\\"");
    json::escape_again(text.paired(&mut scratch), out);
    out.extend_from_slice(b"\\\"}");
}

/// The text as an object that may stand in a body.
fn object(text: &str) -> Option<Raw<'_>> {
    Raw::check(text).ok().filter(|value| value.kind() == Kind::Object && depth(text) <= DEPTH_MAX)
}

fn append(object: Option<Raw<'_>>, out: &mut Vec<u8>) -> bool {
    let mut scratch = String::new();
    if let Some(object) = object {
        out.extend_from_slice(object.paired(&mut scratch).text().as_bytes());
    }
    object.is_some()
}

/// How deep valid JSON nests.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut inside, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The inside of a Markdown code fence around the whole text, else the text.
fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((_, body)) => body.trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        json::escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arguments_are_always_an_object() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(110), "]".repeat(110));
        for (text, expected) in [
            (r#"{"cmd":"ls \"x\""}"#, r#"{"cmd":"ls \"x\""}"#),
            (" {\n} ", "{\n}"),
            ("", "{}"),
            ("null", "{}"),
            ("```json\n{\"a\":1}\n```", r#"{"a":1}"#),
            (r#""{\"a\":1}""#, r#"{"a":1}"#),
            (r#"{"cmd":"ls"#, r#"{"arguments":"{\"cmd\":\"ls"}"#),
            ("[1,2]", r#"{"arguments":"[1,2]"}"#),
            ("ls -l", r#"{"arguments":"ls -l"}"#),
            (r#"{"a":"\ud800"}"#, r#"{"a":"\ufffd"}"#),
            (&deep, &format!("{{\"arguments\":\"{}\"}}", escaped(&deep))),
        ] {
            let mut out = Vec::new();
            arguments(Escaped::trusted(&escaped(text)), &mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(out, expected, "{text}");
            assert_eq!(Raw::check(&out).unwrap().kind(), Kind::Object);
        }
    }

    #[test]
    fn results_are_always_an_object() {
        for (pieces, expected) in [
            (&["a\n\"b\""][..], "{\"result\":\"a\\n\\\"b\\\"\"}"),
            (&["one", "two"], r#"{"result":"one\ntwo"}"#),
            (&[r#" {"ok":true} "#], r#"{"ok":true}"#),
            (&["\n\t{\"ok\":\n1}"], "{\"ok\":\n1}"),
            (&[r#"[1,"x"]"#], r#"{"result":[1,"x"]}"#),
            (&["3"], r#"{"result":"3"}"#),
            (&["{broken"], r#"{"result":"{broken"}"#),
            (&["\\path"], r#"{"result":"\\path"}"#),
            (&[""], "{}"),
            (&[" \n "], "{}"),
            (&[], "{}"),
        ] {
            let pieces: Vec<String> = pieces.iter().map(|piece| escaped(piece)).collect();
            let mut out = Vec::new();
            result(pieces.iter().map(|piece| Escaped::trusted(piece)), &mut out);
            let out = String::from_utf8(out).unwrap();
            let plain = Escaped::trusted(&out).decode().into_owned();
            assert_eq!(plain, expected, "{pieces:?}");
            assert_eq!(Raw::check(&plain).unwrap().kind(), Kind::Object);
        }
    }
}
