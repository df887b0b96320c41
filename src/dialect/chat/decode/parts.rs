//! What stands in a delta besides plain text and calls: content arrays, reasoning details,
//! annotations, transcripts.

use super::{Decoder, Voice};
use crate::dialect::event::Sink;
use crate::wire::json::{self, Bad, Escaped, Kind, Raw};

impl Decoder {
    /// Mistral's arrays: `text` and `thinking` parts.
    pub(super) fn parts(&mut self, list: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        list.cursor().array(|each| {
            let part = each.skip()?;
            if let Some(text) = part.string() {
                self.say(Voice::Text, text, sink);
            } else if part.kind() == Kind::Object {
                self.part(part, sink)?;
            }
            Ok(())
        })
    }

    fn part(&mut self, part: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let (mut text, mut thinking, mut refusal) = (None, None, None);
        part.cursor().object(|key, value| {
            match key {
                "text" => text = value.skip()?.string(),
                "thinking" => thinking = Some(value.skip()?),
                "refusal" => refusal = value.skip()?.string(),
                _ => {}
            }
            Ok(())
        })?;
        if let Some(thinking) = thinking {
            self.thinking(thinking, sink)?;
        }
        if let Some(text) = text {
            self.say(Voice::Text, text, sink);
        }
        if let Some(refusal) = refusal {
            self.say(Voice::Refusal, refusal, sink);
        }
        Ok(())
    }

    fn thinking(&mut self, thinking: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        if let Some(text) = thinking.string() {
            self.say(Voice::Reasoning, text, sink);
        } else if thinking.kind() == Kind::Array {
            thinking.cursor().array(|each| {
                let part = each.skip()?;
                if part.kind() == Kind::Object {
                    part.cursor().object(|key, value| {
                        if let ("text", Some(text)) = (key, value.skip()?.string()) {
                            self.say(Voice::Reasoning, text, sink);
                        }
                        Ok(())
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Details whose text stands nowhere else.
    pub(super) fn reasoning_of(&mut self, list: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        if list.kind() != Kind::Array {
            return Ok(());
        }
        list.cursor().array(|each| {
            let detail = each.skip()?;
            if detail.kind() == Kind::Object {
                detail.cursor().object(|key, value| {
                    if let ("text" | "summary", Some(text)) = (key, value.skip()?.string()) {
                        self.say(Voice::Reasoning, text, sink);
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
    }

    /// What an answer in sound says.
    pub(super) fn transcript(&mut self, audio: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        if audio.kind() != Kind::Object {
            return Ok(());
        }
        audio.cursor().object(|key, value| {
            if let ("transcript", Some(text)) = (key, value.skip()?.string()) {
                self.say(Voice::Text, text, sink);
            }
            Ok(())
        })
    }

    /// Citations of web pages belong to the text that is open; others have no form elsewhere.
    pub(super) fn annotations(&mut self, list: Raw<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let Some((part, Voice::Text)) = self.open else { return Ok(()) };
        if list.kind() != Kind::Array {
            return Ok(());
        }
        let mut flat = Vec::new();
        list.cursor().array(|each| {
            let annotation = each.skip()?;
            flat.clear();
            if citation(annotation, &mut flat)?
                && let Ok(object) = std::str::from_utf8(&flat)
            {
                self.lanes.annotate(part, Raw::trusted(object), sink);
            }
            Ok(())
        })
    }

    fn say(&mut self, voice: Voice, text: Escaped<'_>, sink: &mut Sink<'_>) {
        if text.is_empty() {
            return;
        }
        match voice {
            Voice::Text => self.text(text, None, sink),
            voice => self.speak(voice, text, None, sink),
        }
    }
}

/// Appends a nested `url_citation` in its flat form; false when it is something else.
fn citation(annotation: Raw<'_>, flat: &mut Vec<u8>) -> Result<bool, Bad> {
    if annotation.kind() != Kind::Object {
        return Ok(false);
    }
    let mut nested = None;
    annotation.cursor().object(|key, value| {
        if key == "url_citation" && value.kind()? == Kind::Object {
            nested = Some(value.skip()?);
        }
        Ok(())
    })?;
    let Some(nested) = nested else { return Ok(false) };
    let (mut start, mut end) = ("0", "0");
    let (mut url, mut title) = (Escaped::EMPTY, Escaped::EMPTY);
    nested.cursor().object(|key, value| {
        let value = value.skip()?;
        match key {
            "start_index" if value.kind() == Kind::Number => start = value.text(),
            "end_index" if value.kind() == Kind::Number => end = value.text(),
            "url" => url = value.string().unwrap_or_default(),
            "title" => title = value.string().unwrap_or_default(),
            _ => {}
        }
        Ok(())
    })?;
    flat.extend_from_slice(b"{\"type\":\"url_citation\"");
    json::member_raw("start_index", start, flat);
    json::member_raw("end_index", end, flat);
    json::member_quoted("url", url, flat);
    json::member_quoted("title", title, flat);
    flat.push(b'}');
    Ok(!url.is_empty())
}
