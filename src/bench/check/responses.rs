//! Responses: events, and the response object.

use super::parts::{Kind, Place};
use super::{Check, Rules, is_usage, place_of};
use crate::bench::defect::{Defect, shown};
use crate::wire::json::{self, Bad, Cursor, Escaped, Raw};
use crate::wire::sse::Frame;

/// What one event says.
#[derive(Default)]
struct Said<'a> {
    kind: Option<Escaped<'a>>,
    sequence: Option<Raw<'a>>,
    item_index: u64,
    content_index: u64,
    summary_index: u64,
    delta: Option<Escaped<'a>>,
    /// The whole text of a done event, whatever its member is called.
    whole: Option<Escaped<'a>>,
    item: Option<Raw<'a>>,
    part: Option<Raw<'a>>,
    response: Option<Raw<'a>>,
}

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Result<Self, Bad> {
        let mut said = Self::default();
        json::document(text, |cursor| {
            cursor.object(|key, value| match key {
                "type" => json::once(&mut said.kind, value.string()?),
                "sequence_number" => json::once(&mut said.sequence, value.skip()?),
                "output_index" => {
                    said.item_index = value.unsigned()?;
                    Ok(())
                }
                "content_index" => {
                    said.content_index = value.unsigned()?;
                    Ok(())
                }
                "summary_index" => {
                    said.summary_index = value.unsigned()?;
                    Ok(())
                }
                "delta" => text_once(&mut said.delta, value),
                "text" | "arguments" | "input" | "refusal" => text_once(&mut said.whole, value),
                "item" => json::once(&mut said.item, value.skip()?),
                "part" => json::once(&mut said.part, value.skip()?),
                "response" => json::once(&mut said.response, value.skip()?),
                _ => Ok(()),
            })
        })?;
        Ok(said)
    }

    /// The part that an event of this family is about.
    fn part(&self, family: &str) -> Option<(Kind, Place)> {
        let (kind, inside) = match family {
            "output_text" => (Kind::Text, self.content_index),
            "refusal" => (Kind::Refusal, self.content_index),
            "reasoning_text" => (Kind::Reasoning, self.content_index),
            "reasoning_summary_text" => (Kind::Reasoning, summary(self.summary_index)),
            "function_call_arguments" | "custom_tool_call_input" => (Kind::Call, 0),
            _ => return None,
        };
        Some((kind, Place { item: self.item_index, inside }))
    }
}

/// Summaries and contents of one reasoning are counted apart.
fn summary(index: u64) -> u64 {
    index | 1 << 32
}

fn text_once<'a>(slot: &mut Option<Escaped<'a>>, value: &mut Cursor<'a>) -> Result<(), Bad> {
    match value.skip()?.string() {
        Some(text) => json::once(slot, text),
        None => Ok(()),
    }
}

/// What an output item says.
#[derive(Default)]
struct Item<'a> {
    kind: Option<Escaped<'a>>,
    content: Option<Raw<'a>>,
    summary: Option<Raw<'a>>,
    name: Option<Raw<'a>>,
    call_id: Option<Raw<'a>>,
    input: Option<Escaped<'a>>,
}

impl<'a> Item<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut item = Self::default();
        cursor.object(|key, value| match key {
            "type" => json::once(&mut item.kind, value.string()?),
            "content" => json::once(&mut item.content, value.skip()?),
            "summary" => json::once(&mut item.summary, value.skip()?),
            "name" => json::once(&mut item.name, value.skip()?),
            "call_id" => json::once(&mut item.call_id, value.skip()?),
            "arguments" | "input" => text_once(&mut item.input, value),
            _ => Ok(()),
        })?;
        Ok(item)
    }

    fn is_call(&self) -> bool {
        self.kind.is_some_and(|kind| kind.is("function_call") || kind.is("custom_tool_call"))
    }

    /// Calls `each` with every text that the item holds as a whole, but not with a call's.
    fn texts(
        &self,
        item: u64,
        each: &mut dyn FnMut((Kind, Place), Escaped<'_>),
    ) -> Result<(), Bad> {
        let is_reasoning = self.kind.is_some_and(|kind| kind.is("reasoning"));
        let lists = [(self.summary, true), (self.content, false)];
        for (list, is_summary) in lists {
            let Some(list) = list.filter(|list| !list.is_null()) else { continue };
            let mut index = 0;
            list.cursor().array(|cursor| {
                let (mut kind, mut text) = (None, None);
                cursor.object(|key, value| match key {
                    "type" => json::once(&mut kind, value.string()?),
                    "text" | "refusal" => text_once(&mut text, value),
                    _ => Ok(()),
                })?;
                let inside = if is_summary { summary(index) } else { index };
                index += 1;
                let part = match kind {
                    Some(kind) if kind.is("refusal") => Kind::Refusal,
                    _ if is_reasoning => Kind::Reasoning,
                    _ => Kind::Text,
                };
                if let Some(text) = text {
                    each((part, Place { item, inside }), text);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Check {
    /// Takes one event.
    pub(super) fn responses_frame(
        &mut self,
        rules: &Rules,
        frame: &Frame<'_>,
        text: &str,
    ) -> Result<(), Bad> {
        let said = Said::read(text)?;
        let Some(kind) = said.kind.map(Escaped::raw) else {
            self.found.add(Defect::Malformed, "an event with a type", shown(frame.data));
            return Ok(());
        };
        if !frame.name.is_empty() && frame.name != kind.as_bytes() {
            let expected = format!("event: {kind}, as its type is");
            self.found.add(Defect::Malformed, expected, shown(frame.name));
        }
        self.sequence(rules, &said, kind);
        if self.end.terminals > 0 && !is_terminal(kind) {
            self.after_end(text);
        }
        if self.end.frames == 1 && kind != "response.created" {
            self.found.add(Defect::Order, "response.created first", kind);
        }
        let family = kind.strip_prefix("response.").unwrap_or_default();
        self.learned.clear();
        if let Some(family) = family.strip_suffix(".delta") {
            self.response_delta(rules, frame, &said, family);
            return Ok(());
        }
        if let Some(part) = family.strip_suffix(".done").and_then(|family| said.part(family)) {
            let text = said.whole.unwrap_or_default();
            self.with_desk(rules, |parts, desk| parts.whole(part, text, kind, false, desk));
            return Ok(());
        }
        match family {
            "output_item.added" => self.item_added(rules, &said),
            "output_item.done" => match said.item {
                Some(item) => {
                    self.item_done(rules, &mut item.cursor(), said.item_index, (kind, false))
                }
                None => Err(bad_type()),
            },
            "content_part.done" | "reasoning_summary_part.done" => {
                self.part_done(rules, &said, kind)
            }
            "completed" | "incomplete" | "failed" => self.last_event(rules, &said, text, family),
            _ if kind == "error" => {
                self.failure(rules, text);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, rules: &Rules, said: &Said<'_>, kind: &str) {
        let number = said.sequence.and_then(|raw| raw.text().parse::<u64>().ok());
        match (number, self.end.sequence) {
            (Some(number), Some(next)) if number != next => {
                let expected = format!("sequence_number {next}");
                self.found.add(Defect::Sequence, expected, format!("{number} in {kind}"));
            }
            (None, next) if kind != "keepalive" && (next.is_some() || rules.expected.is_some()) => {
                self.found.add(Defect::Sequence, "a sequence_number", format!("none in {kind}"));
            }
            _ => {}
        }
        if let Some(number) = number {
            self.end.sequence = Some(number.wrapping_add(1));
        }
    }

    fn response_delta(&mut self, rules: &Rules, frame: &Frame<'_>, said: &Said<'_>, family: &str) {
        let Some((kind, place)) = said.part(family) else { return };
        let Some(delta) = said.delta else {
            self.found.add(Defect::Malformed, "a delta that is a string", shown(frame.data));
            return;
        };
        let index = self.with_desk(rules, |parts, desk| {
            let index = parts.at(kind, place, desk);
            parts.delta(index, delta, desk);
            index
        });
        if !delta.is_empty() {
            let sequence = said.sequence.map(|raw| place_of(raw.text(), frame.data));
            self.learned.learn(frame, index, place_of(delta.raw(), frame.data), sequence);
        }
    }

    fn item_added(&mut self, rules: &Rules, said: &Said<'_>) -> Result<(), Bad> {
        let item = Item::read(&mut said.item.ok_or(bad_type())?.cursor())?;
        if item.is_call() {
            let place = Place { item: said.item_index, inside: 0 };
            self.with_desk(rules, |parts, desk| {
                let index = parts.at(Kind::Call, place, desk);
                parts.call(index, (item.call_id, item.name), desk);
            });
        }
        Ok(())
    }

    /// Compares an item that is told as a whole with what was streamed of it.
    fn item_done(
        &mut self,
        rules: &Rules,
        cursor: &mut Cursor<'_>,
        index: u64,
        (event, last): (&str, bool),
    ) -> Result<(), Bad> {
        let item = Item::read(cursor)?;
        self.with_desk(rules, |parts, desk| {
            if item.is_call() {
                let place = Place { item: index, inside: 0 };
                let part = parts.at(Kind::Call, place, desk);
                parts.call(part, (item.call_id, item.name), desk);
                let input = item.input.unwrap_or_default();
                parts.whole((Kind::Call, place), input, event, last, desk);
                return Ok(());
            }
            item.texts(index, &mut |part, text| parts.whole(part, text, event, last, desk))
        })
    }

    fn part_done(&mut self, rules: &Rules, said: &Said<'_>, event: &str) -> Result<(), Bad> {
        let (mut kind, mut text) = (None, None);
        said.part.ok_or(bad_type())?.cursor().object(|key, value| match key {
            "type" => json::once(&mut kind, value.string()?),
            "text" | "refusal" => text_once(&mut text, value),
            _ => Ok(()),
        })?;
        let family = match kind {
            Some(kind) if kind.is("summary_text") => "reasoning_summary_text",
            Some(kind) => kind.raw(),
            None => "",
        };
        if let (Some(part), Some(text)) = (said.part(family), text) {
            self.with_desk(rules, |parts, desk| parts.whole(part, text, event, false, desk));
        }
        Ok(())
    }

    fn last_event(
        &mut self,
        rules: &Rules,
        said: &Said<'_>,
        text: &str,
        family: &str,
    ) -> Result<(), Bad> {
        self.terminal(family);
        match family {
            "failed" => {
                self.failure(rules, text);
                return Ok(());
            }
            "incomplete" => {
                self.found.add(Defect::WrongEnd, "response.completed", "response.incomplete");
            }
            _ => {}
        }
        let response = said.response.ok_or(bad_type())?;
        self.response(rules, response.text(), Some(family))
    }

    /// Reads a response object: the end of a stream (`event` says which), or the document.
    fn response(&mut self, rules: &Rules, text: &str, event: Option<&str>) -> Result<(), Bad> {
        let (mut status, mut output, mut usage) = (None, None, None);
        json::document(text, |cursor| {
            cursor.object(|key, value| match key {
                "status" => json::once(&mut status, value.string()?),
                "output" => json::once(&mut output, value.skip()?),
                "usage" => json::once(&mut usage, value.skip()?),
                _ => Ok(()),
            })
        })?;
        let expected = event.unwrap_or("completed");
        if !status.is_some_and(|status: Escaped<'_>| status.is(expected)) {
            let came = shown(status.map_or("none", Escaped::raw).as_bytes());
            self.found.add(Defect::WrongEnd, format!("status \"{expected}\""), came);
        }
        if let Some(usage) = usage {
            self.end.usage |= is_usage(usage, "input_tokens", "output_tokens")?;
        }
        let output: Raw<'_> = output.ok_or(bad_type())?;
        if event.is_some() && rules.expected.is_none() && output.text() == "[]" {
            // Some backends leave the items out of their last event.
            self.with_desk(rules, |parts, _| parts.all_told());
            return Ok(());
        }
        let mut index = 0;
        output.cursor().array(|cursor| {
            let at = index;
            index += 1;
            match event {
                Some(_) => self.item_done(rules, cursor, at, ("the last event", true)),
                None => self.document_item(rules, cursor, at),
            }
        })
    }

    fn document_item(
        &mut self,
        rules: &Rules,
        cursor: &mut Cursor<'_>,
        index: u64,
    ) -> Result<(), Bad> {
        let item = Item::read(cursor)?;
        self.with_desk(rules, |parts, desk| {
            if item.is_call() {
                let place = Place { item: index, inside: 0 };
                let part = parts.at(Kind::Call, place, desk);
                parts.call(part, (item.call_id, item.name), desk);
                parts.document((Kind::Call, place), item.input.unwrap_or_default(), desk);
                return Ok(());
            }
            item.texts(index, &mut |part, text| parts.document(part, text, desk))
        })
    }

    /// Takes the document.
    pub(super) fn responses_document(&mut self, rules: &Rules, text: &str) -> Result<(), Bad> {
        self.end.terminals = 1;
        self.response(rules, text, None)
    }
}

fn is_terminal(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.failed")
}

/// A member that the API promises is not there.
const fn bad_type() -> Bad {
    Bad { at: 0, why: json::Why::Type }
}
