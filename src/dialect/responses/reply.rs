//! The objects of an upstream's reply, read into borrowed members.

use crate::dialect::event::Usage;
use crate::dialect::pattern::Unneeded;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw};

/// The members of a stream event.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<Escaped<'a>>,
    /// `output_index`.
    pub(super) index: Option<u64>,
    /// `content_index` or `summary_index`.
    pub(super) content: u64,
    pub(super) delta: Option<Escaped<'a>>,
    /// The whole, under whatever name: `text`, `refusal`, `arguments` or `input`.
    pub(super) text: Option<Escaped<'a>>,
    pub(super) logprobs: Option<Raw<'a>>,
    pub(super) annotation: Option<Raw<'a>>,
    pub(super) item: Option<Raw<'a>>,
    pub(super) response: Option<Raw<'a>>,
    pub(super) error: Option<Raw<'a>>,
    /// What differs from event to event and decides nothing.
    pub(super) unneeded: Unneeded<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(data: &'a str) -> Result<Self, Bad> {
        let mut fields = Self::default();
        json::document(data, |cursor| {
            cursor.object(|key, cursor| {
                let slot = match key {
                    "type" => return put_string(&mut fields.kind, cursor),
                    "delta" => return put_string(&mut fields.delta, cursor),
                    "text" | "refusal" | "arguments" | "input" => {
                        return put_string(&mut fields.text, cursor);
                    }
                    "output_index" => return put_number(&mut fields.index, cursor),
                    "content_index" | "summary_index" => {
                        let mut content = None;
                        put_number(&mut content, cursor)?;
                        fields.content = content.unwrap_or_default();
                        return Ok(());
                    }
                    "logprobs" => &mut fields.logprobs,
                    "annotation" => &mut fields.annotation,
                    "item" => &mut fields.item,
                    "response" => &mut fields.response,
                    "error" => &mut fields.error,
                    "sequence_number" | "obfuscation" | "item_id" => {
                        fields.unneeded.add(cursor.skip()?);
                        return Ok(());
                    }
                    _ => return Ok(()),
                };
                put_raw(slot, cursor)
            })
        })?;
        fields.logprobs = fields.logprobs.filter(|list| has_elements(*list));
        Ok(fields)
    }
}

/// The members of a Response object.
#[derive(Debug, Default)]
pub(super) struct ResponseFields<'a> {
    pub(super) id: Option<Escaped<'a>>,
    pub(super) model: Option<Escaped<'a>>,
    pub(super) status: Option<Escaped<'a>>,
    pub(super) error: Option<Raw<'a>>,
    /// `incomplete_details.reason`.
    pub(super) reason: Option<Escaped<'a>>,
    pub(super) output: Option<Raw<'a>>,
    pub(super) usage: Option<Usage>,
}

impl<'a> ResponseFields<'a> {
    pub(super) fn read(raw: Raw<'a>) -> Result<Self, Bad> {
        let mut fields = Self::default();
        raw.cursor().object(|key, cursor| match key {
            "id" => put_string(&mut fields.id, cursor),
            "model" => put_string(&mut fields.model, cursor),
            "status" => put_string(&mut fields.status, cursor),
            "error" => put_raw(&mut fields.error, cursor),
            "incomplete_details" if cursor.kind()? == Kind::Object => {
                cursor.object(|key, cursor| {
                    if key == "reason" { put_string(&mut fields.reason, cursor) } else { Ok(()) }
                })
            }
            "output" => put_raw(&mut fields.output, cursor),
            "usage" if cursor.kind()? == Kind::Object => {
                fields.usage = read_usage(cursor)?;
                Ok(())
            }
            _ => Ok(()),
        })?;
        Ok(fields)
    }
}

/// The members of an output item.
#[derive(Debug, Default)]
pub(super) struct ItemFields<'a> {
    pub(super) kind: Option<Escaped<'a>>,
    pub(super) id: Option<Escaped<'a>>,
    pub(super) status: Option<Escaped<'a>>,
    pub(super) call_id: Option<Escaped<'a>>,
    pub(super) name: Option<Escaped<'a>>,
    pub(super) namespace: Option<Escaped<'a>>,
    pub(super) execution: Option<Escaped<'a>>,
    /// `arguments` or `input`, if it is a string.
    pub(super) text: Option<Escaped<'a>>,
    /// `arguments`, if it is something else.
    pub(super) arguments: Option<Raw<'a>>,
    pub(super) content: Option<Raw<'a>>,
    pub(super) summary: Option<Raw<'a>>,
    pub(super) sealed: Option<Escaped<'a>>,
}

impl<'a> ItemFields<'a> {
    pub(super) fn read(raw: Raw<'a>) -> Result<Self, Bad> {
        let mut fields = Self::default();
        raw.cursor().object(|key, cursor| {
            let slot = match key {
                "type" => &mut fields.kind,
                "id" => &mut fields.id,
                "status" => &mut fields.status,
                "call_id" => &mut fields.call_id,
                "name" => &mut fields.name,
                "namespace" => &mut fields.namespace,
                "execution" => &mut fields.execution,
                "encrypted_content" => &mut fields.sealed,
                "arguments" if cursor.kind()? != Kind::String => {
                    return put_raw(&mut fields.arguments, cursor);
                }
                "arguments" | "input" => &mut fields.text,
                "content" => return put_raw(&mut fields.content, cursor),
                "summary" => return put_raw(&mut fields.summary, cursor),
                _ => return Ok(()),
            };
            put_string(slot, cursor)
        })?;
        Ok(fields)
    }

    /// A tool search that the client is to run.
    pub(super) fn is_client_run(&self) -> bool {
        self.execution.is_some_and(|who| who.is("client"))
            && self.call_id.is_some_and(|id| !id.is_empty())
    }
}

/// The members of a content or summary part.
#[derive(Debug, Default)]
pub(super) struct PartFields<'a> {
    pub(super) kind: Option<Escaped<'a>>,
    /// `text` or `refusal`.
    pub(super) text: Option<Escaped<'a>>,
    pub(super) annotations: Option<Raw<'a>>,
    /// Absent when empty.
    pub(super) logprobs: Option<Raw<'a>>,
}

impl<'a> PartFields<'a> {
    pub(super) fn read(raw: Raw<'a>) -> Result<Self, Bad> {
        let mut fields = Self::default();
        if let Some(text) = raw.string() {
            fields.text = Some(text);
        } else if raw.kind() == Kind::Object {
            raw.cursor().object(|key, cursor| match key {
                "type" => put_string(&mut fields.kind, cursor),
                "text" | "refusal" => put_string(&mut fields.text, cursor),
                "annotations" => put_raw(&mut fields.annotations, cursor),
                "logprobs" => put_raw(&mut fields.logprobs, cursor),
                _ => Ok(()),
            })?;
        }
        fields.logprobs = fields.logprobs.filter(|list| has_elements(*list));
        Ok(fields)
    }
}

/// Walks an array; anything else has no elements.
pub(super) fn elements<'a>(
    list: Option<Raw<'a>>,
    mut each: impl FnMut(Raw<'a>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    match list.filter(|list| list.kind() == Kind::Array) {
        Some(list) => list.cursor().array(|cursor| each(cursor.skip()?)),
        None => Ok(()),
    }
}

/// True for the one annotation that Chat Completions has too, with all its members: clients' types
/// require them, and they cannot be guessed.
pub(super) fn is_citation(object: Raw<'_>) -> bool {
    let (mut kind, mut found) = (None, 0);
    let read = object.cursor().object(|key, cursor| {
        match (key, cursor.kind()?) {
            ("type", _) => put_string(&mut kind, cursor)?,
            ("url" | "title", Kind::String) | ("start_index" | "end_index", Kind::Number) => {
                found += 1;
            }
            _ => {}
        }
        Ok(())
    });
    read.is_ok() && found == 4 && kind.is_some_and(|kind| kind.is("url_citation"))
}

/// True for an array with something in it.
fn has_elements(list: Raw<'_>) -> bool {
    let inside = list.text().strip_prefix('[');
    inside.is_some_and(|inside| !inside.trim_start().starts_with(']'))
}

fn read_usage(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, Bad> {
    let (mut input, mut output, mut total) = (None, None, None);
    let (mut cached, mut written, mut reasoning) = (None, None, None);
    cursor.object(|key, cursor| match key {
        "input_tokens" => put_number(&mut input, cursor),
        "output_tokens" => put_number(&mut output, cursor),
        "total_tokens" => put_number(&mut total, cursor),
        "input_tokens_details" if cursor.kind()? == Kind::Object => {
            cursor.object(|key, cursor| match key {
                "cached_tokens" => put_number(&mut cached, cursor),
                "cache_write_tokens" => put_number(&mut written, cursor),
                _ => Ok(()),
            })
        }
        "output_tokens_details" if cursor.kind()? == Kind::Object => {
            cursor.object(|key, cursor| match key {
                "reasoning_tokens" => put_number(&mut reasoning, cursor),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    })?;
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    Ok(Some(Usage {
        input,
        cached: cached.unwrap_or_default(),
        cache_write: written.unwrap_or_default(),
        output,
        reasoning: reasoning.unwrap_or_default(),
        total: total.unwrap_or(input.saturating_add(output)),
    }))
}

/// Reads a string; a value of any other type counts as none.
fn put_string<'a>(slot: &mut Option<Escaped<'a>>, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
    if cursor.kind()? == Kind::String { json::once(slot, cursor.string()?) } else { Ok(()) }
}

/// Reads an unsigned number; a value of any other type counts as none.
fn put_number(slot: &mut Option<u64>, cursor: &mut Cursor<'_>) -> Result<(), Bad> {
    if cursor.kind()? != Kind::Number {
        return Ok(());
    }
    let number = cursor.skip()?.cursor().unsigned();
    number.map_or(Ok(()), |number| json::once(slot, number))
}

fn put_raw<'a>(slot: &mut Option<Raw<'a>>, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
    if cursor.null()? { Ok(()) } else { json::once(slot, cursor.skip()?) }
}

/// What was passed on of a text, to find what a later, whole copy of it says more: its length and
/// its last bytes, so that nothing is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracker {
    bytes: usize,
    tail: [u8; TAIL],
}

const TAIL: usize = 16;

impl Tracker {
    pub(super) fn add(&mut self, text: Escaped<'_>) {
        let bytes = text.raw().as_bytes();
        self.bytes += bytes.len();
        match bytes.last_chunk::<TAIL>() {
            Some(last) => self.tail = *last,
            None => {
                self.tail.copy_within(bytes.len().., 0);
                self.tail[TAIL - bytes.len()..].copy_from_slice(bytes);
            }
        }
    }

    /// What `whole` says after the part that was passed on. `None` when that is nothing, or when
    /// `whole` does not continue it: then what was passed on counts.
    pub(super) fn missing<'a>(&self, whole: Escaped<'a>) -> Option<Escaped<'a>> {
        let raw = whole.raw();
        let (before, more) = raw.split_at_checked(self.bytes)?;
        let known = self.bytes.min(TAIL);
        if more.is_empty() || !before.as_bytes().ends_with(&self.tail[TAIL - known..]) {
            return None;
        }
        if self.bytes == 0 {
            return Some(whole);
        }
        // A sender that escapes differently the second time could be cut inside an escape.
        let quoted = format!("\"{more}\"");
        Raw::check(&quoted).ok().map(|_| Escaped::trusted(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_text_is_found_without_keeping_it() {
        let long = "0123456789abcdefghij";
        let cases: &[(&[&str], &str, Option<&str>)] = &[
            (&[], "abc", Some("abc")),
            (&["ab"], "abc", Some("c")),
            (&["a", "b", "c"], "abc", None),
            (&["abX"], "abcd", None),
            (&["abcde"], "abc", None),
            (&[long, "kl"], "0123456789abcdefghijklm", Some("m")),
            (&[long], "0123456789abcdefXXijklm", None),
            (&["ü"], "\\u00fcx", None),
            (&["a"], "aü", Some("ü")),
        ];
        for (sent, whole, expected) in cases {
            let mut tracker = Tracker::default();
            for text in *sent {
                tracker.add(Escaped::trusted(text));
            }
            let missing = tracker.missing(Escaped::trusted(whole));
            assert_eq!(missing.map(Escaped::raw), *expected, "{sent:?} {whole}");
        }
    }
}
