//! Compaction: the request for a summary of the conversation, and the envelope in which the client
//! keeps that summary and sends it back.

use crate::dialect::fold::{AnswerKind, AnswerPart};
use crate::wire::json::{self, Escaped};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// Marks an envelope as ours; a foreign one (real ciphertext) starts otherwise.
const MARK: &str = "patchbay.summary.1.";

/// What the model is asked when a client wants its conversation compacted. The inside of a JSON
/// string.
pub(super) const REQUEST: &str = "The conversation so far is about to be replaced by a summary \
that you write now. Write a hand-over for yourself: you will go on with the same task and know \
nothing but this text. Say\\n- what the user wants, with every requirement and preference given,\
\\n- what was done and decided, and why,\\n- the present state: files, commands, results, exact \
names, paths, values and error messages that will be needed again,\\n- what is still to be done, \
in order, and what to watch out for.\\nBe complete and concrete. Do not call tools, do not ask \
questions; answer with the hand-over text alone.";

/// Wraps a summary (escaped text) as `encrypted_content`.
pub(super) fn seal(text: Escaped<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(MARK.as_bytes());
    out.extend_from_slice(BASE64.encode(text.decode().as_bytes()).as_bytes());
}

/// Takes a summary out of `encrypted_content`, escaped; `None` when the envelope is not ours.
pub(super) fn open(sealed: Escaped<'_>) -> Option<String> {
    let bytes = BASE64.decode(sealed.raw().strip_prefix(MARK)?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut escaped = Vec::with_capacity(text.len() + 16);
    json::escape(&text, &mut escaped);
    String::from_utf8(escaped).ok()
}

/// The one part of a compacted answer: a `compaction` item around its text. `None` without text.
pub(super) fn part(parts: &[AnswerPart], id: &str) -> Option<AnswerPart> {
    let mut text = String::new();
    for part in parts {
        if let AnswerKind::Text { .. } = part.kind {
            text.push_str(&part.text);
        }
    }
    if text.is_empty() {
        return None;
    }
    let mut item = Vec::with_capacity(text.len() * 4 / 3 + 128);
    item.push(b'{');
    json::member("type", "compaction", &mut item);
    json::member("id", id, &mut item);
    json::key("encrypted_content", &mut item);
    item.push(b'"');
    seal(Escaped::trusted(&text), &mut item);
    item.extend_from_slice(b"\"}");
    Some(AnswerPart {
        kind: AnswerKind::Opaque { dialect: super::NAME, item: String::from_utf8(item).ok()? },
        text: String::new(),
        logprobs: String::new(),
        annotations: String::new(),
        sealed: None,
        closed: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_comes_back_as_it_was_and_foreign_text_does_not_open() {
        for text in ["", "plain", "line\\nquote \\\" slash \\\\ ü 🦀"] {
            let mut sealed = Vec::new();
            seal(Escaped::trusted(text), &mut sealed);
            let sealed = String::from_utf8(sealed).unwrap();
            assert_eq!(open(Escaped::verbatim(&sealed).unwrap()).as_deref(), Some(text));
        }
        for foreign in ["gAAAAABm", "ENC_CMP", "patchbay.summary.1.!!", ""] {
            assert_eq!(open(Escaped::trusted(foreign)), None, "{foreign}");
        }
    }
}
