//! The opaque state of a Chat upstream, as it travels through a client: base64url of
//! `{"v":1,"p":provider,"rc":text,"rd":[reasoning_details],"tc":{call id: extra_content}}`.
//!
//! Clients replay it verbatim (`encrypted_content`), so the upstream gets back on the next turn what
//! it must see again, without any memory here.

use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw, Why};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Opaque state while it is gathered from a stream.
#[derive(Debug, Default)]
pub(super) struct Opaque {
    details: Vec<Detail>,
    /// `(call id, extra_content)`, the id escaped.
    extras: Vec<(String, String)>,
}

/// One element of `reasoning_details`; a stream sends its text in pieces.
#[derive(Debug, Default)]
struct Detail {
    /// Names and values as JSON, without the text.
    members: Vec<(String, String)>,
    /// Which member the pieces are of (`text` or `summary`) and what came so far, escaped.
    text: Option<(&'static str, String)>,
}

impl Opaque {
    pub(super) fn is_empty(&self) -> bool {
        self.details.is_empty() && self.extras.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.details.clear();
        self.extras.clear();
    }

    /// Adds the elements of a `reasoning_details` array. Pieces of one text are joined as the vendor
    /// would have sent them in a whole answer. Returns the bytes added.
    pub(super) fn add_details(&mut self, list: Raw<'_>) -> Result<usize, Bad> {
        let before = list.text().len();
        if list.kind() == Kind::Array {
            list.cursor().array(|each| {
                let element = each.skip()?;
                if element.kind() == Kind::Object { self.add_detail(element) } else { Ok(()) }
            })?;
        }
        Ok(before)
    }

    fn add_detail(&mut self, element: Raw<'_>) -> Result<(), Bad> {
        let (mut kind, mut index) = ("", "");
        element.cursor().object(|key, value| {
            match key {
                "type" => kind = value.skip()?.text(),
                "index" => index = value.skip()?.text(),
                _ => {}
            }
            Ok(())
        })?;
        let field = match kind {
            "\"reasoning.text\"" => Some("text"),
            "\"reasoning.summary\"" => Some("summary"),
            _ => None,
        };
        let goes_on = field.is_some()
            && self.details.last().is_some_and(|last| {
                last.member("type") == Some(kind) && last.member("index").unwrap_or("") == index
            });
        if !goes_on {
            self.details
                .push(Detail { members: Vec::new(), text: field.map(|f| (f, String::new())) });
        }
        let Some(detail) = self.details.last_mut() else { return Ok(()) };
        element.cursor().object(|key, value| {
            let value = value.skip()?;
            match (&mut detail.text, value.string()) {
                (Some((field, text)), Some(piece)) if key == *field => text.push_str(piece.raw()),
                _ => detail.set(key, value.text()),
            }
            Ok(())
        })
    }

    /// Adds what belongs to one call; the first one wins.
    pub(super) fn add_extra(&mut self, id: &str, extra: Raw<'_>) {
        if !self.extras.iter().any(|(known, _)| known == id) {
            self.extras.push((id.to_owned(), extra.text().to_owned()));
        }
    }

    /// The envelope, which needs no escaping in JSON.
    pub(super) fn seal(&self, provider: &str) -> String {
        let mut plain = b"{\"v\":1".to_vec();
        json::member("p", provider, &mut plain);
        if !self.details.is_empty() {
            json::key("rd", &mut plain);
            plain.push(b'[');
            for detail in &self.details {
                json::comma(&mut plain);
                detail.write(&mut plain);
            }
            plain.push(b']');
        }
        if !self.extras.is_empty() {
            json::key("tc", &mut plain);
            plain.push(b'{');
            for (id, extra) in &self.extras {
                json::comma(&mut plain);
                json::quoted(Escaped::trusted(id), &mut plain);
                plain.push(b':');
                plain.extend_from_slice(extra.as_bytes());
            }
            plain.push(b'}');
        }
        plain.push(b'}');
        URL_SAFE_NO_PAD.encode(plain)
    }
}

impl Detail {
    fn member(&self, name: &str) -> Option<&str> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Later pieces repeat members or bring those that were null before.
    fn set(&mut self, name: &str, value: &str) {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            None => self.members.push((name.to_owned(), value.to_owned())),
            Some((_, known)) if known == "null" => value.clone_into(known),
            Some(_) => {}
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (name, value) in &self.members {
            json::comma(out);
            // Keys come from a cursor that refuses escapes in them.
            json::string(name, out);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
            if let (Some((field, text)), "type") = (&self.text, name.as_str()) {
                json::member_quoted(field, Escaped::trusted(text), out);
            }
        }
        out.push(b'}');
    }
}

/// An envelope that was opened. The texts are JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// `rc`, escaped.
    pub(super) reasoning: Option<String>,
    /// The elements of `rd`, without the brackets.
    pub(super) details: String,
    /// `tc`: call ids (escaped) and their `extra_content`.
    pub(super) extras: Vec<(String, String)>,
}

/// How every envelope begins: base64url of `{"v":1,"p"`. What others seal is long, so it is told apart
/// by its front.
const FRONT: &str = "eyJ2IjoxLCJwI";

/// Opens an envelope that this provider's own decoder made; anything else is `None`.
pub(super) fn open(sealed: Escaped<'_>, provider: &str) -> Option<Opened> {
    if !sealed.raw().starts_with(FRONT) {
        return None;
    }
    let plain = URL_SAFE_NO_PAD.decode(sealed.raw()).ok()?;
    let plain = std::str::from_utf8(&plain).ok()?;
    let mut opened = Opened::default();
    let mut mine = false;
    let mut version = false;
    json::document(plain, |cursor| {
        cursor.object(|key, value| {
            match key {
                "v" => version = value.skip()?.text() == "1",
                "p" => mine = value.string()?.is(provider),
                "rc" => opened.reasoning = value.string_or_null()?.map(|t| t.raw().to_owned()),
                "rd" => opened.details = elements(value)?,
                "tc" => value.object(|id, value| {
                    opened.extras.push((id.to_owned(), value.skip()?.text().to_owned()));
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })
    })
    .ok()?;
    (mine && version).then_some(opened)
}

fn elements(cursor: &mut Cursor<'_>) -> Result<String, Bad> {
    let list = cursor.skip()?;
    if list.kind() != Kind::Array {
        return Err(cursor.bad(Why::Type));
    }
    let text = list.text();
    Ok(text[1..text.len() - 1].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_and_the_envelope_opens_for_its_provider_only() {
        let mut opaque = Opaque::default();
        for piece in [
            r#"[{"type":"reasoning.text","text":"a","format":"x","index":0,"signature":null}]"#,
            r#"[{"type":"reasoning.text","text":"\"b","format":"x","index":0}]"#,
            r#"[{"type":"reasoning.text","text":"","signature":"sig","index":0}]"#,
            r#"[{"type":"reasoning.encrypted","data":"gAAA","id":"rs_1","index":1}]"#,
        ] {
            opaque.add_details(Raw::check(piece).unwrap()).unwrap();
        }
        opaque.add_extra("call_1", Raw::check(r#"{"google":{"thought_signature":"s"}}"#).unwrap());
        let sealed = opaque.seal("or");
        assert!(sealed.starts_with(FRONT));
        let opened = open(Escaped::trusted(&sealed), "or").unwrap();
        assert_eq!(
            opened.details,
            r#"{"type":"reasoning.text","text":"a\"b","format":"x","index":0,"signature":"sig"},{"type":"reasoning.encrypted","data":"gAAA","id":"rs_1","index":1}"#
        );
        assert_eq!(
            opened.extras,
            [("call_1".to_owned(), r#"{"google":{"thought_signature":"s"}}"#.to_owned())]
        );
        assert_eq!(open(Escaped::trusted(&sealed), "other"), None);
        assert_eq!(open(Escaped::trusted("gAAAAABo71"), "or"), None);
        assert_eq!(open(Escaped::trusted("\\u0000"), "or"), None);
    }
}
