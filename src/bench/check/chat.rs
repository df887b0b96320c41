//! Chat Completions: chunks, and the document.

use super::parts::{Kind, Place};
use super::{Check, Rules, is_usage, place_of, text_at};
use crate::bench::defect::{Defect, shown};
use crate::wire::json::{self, Bad, Cursor, Escaped, Raw};
use crate::wire::sse::Frame;

/// What one chunk, or one message of a document, says.
#[derive(Default)]
struct Said<'a> {
    choices: usize,
    content: Option<Escaped<'a>>,
    reasoning: Option<Escaped<'a>>,
    refusal: Option<Escaped<'a>>,
    calls: Option<Raw<'a>>,
    finish: Option<Escaped<'a>>,
    usage: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
}

impl<'a> Said<'a> {
    /// Reads a document whose choices hold what they say in `member`.
    fn read(text: &'a str, member: &str) -> Result<Self, Bad> {
        let mut said = Self::default();
        json::document(text, |cursor| {
            cursor.object(|key, value| match key {
                "choices" => value.array(|choice| {
                    said.choices += 1;
                    said.choice(choice, member)
                }),
                "usage" => json::once(&mut said.usage, value.skip()?),
                "error" => json::once(&mut said.error, value.skip()?),
                _ => Ok(()),
            })
        })?;
        Ok(said)
    }

    fn choice(&mut self, choice: &mut Cursor<'a>, member: &str) -> Result<(), Bad> {
        choice.object(|key, value| match key {
            "finish_reason" => {
                self.finish = text_at(value)?;
                Ok(())
            }
            _ if key == member => value.object(|key, value| self.member(key, value)),
            _ => Ok(()),
        })
    }

    fn member(&mut self, key: &str, value: &mut Cursor<'a>) -> Result<(), Bad> {
        let slot = match key {
            "content" => &mut self.content,
            // Servers use either name; some send both with the same text.
            "reasoning_content" | "reasoning" if self.reasoning.is_none() => &mut self.reasoning,
            "refusal" => &mut self.refusal,
            "tool_calls" => return json::once(&mut self.calls, value.skip()?),
            _ => return Ok(()),
        };
        if let Some(text) = text_at(value)? {
            json::once(slot, text)?;
        }
        Ok(())
    }

    /// The texts that are not empty.
    fn texts(&self) -> impl Iterator<Item = (Kind, Escaped<'a>)> {
        let all = [
            (Kind::Reasoning, self.reasoning),
            (Kind::Text, self.content),
            (Kind::Refusal, self.refusal),
        ];
        all.into_iter()
            .filter_map(|(kind, text)| Some((kind, text.filter(|text| !text.is_empty())?)))
    }

    fn calls(&self) -> Option<Raw<'a>> {
        self.calls.filter(|calls| !calls.is_null() && calls.text() != "[]")
    }
}

/// What one element of `tool_calls` says.
#[derive(Default)]
struct Call<'a> {
    index: Option<u64>,
    id: Option<Raw<'a>>,
    name: Option<Raw<'a>>,
    arguments: Option<Escaped<'a>>,
}

impl<'a> Call<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut call = Self::default();
        cursor.object(|key, value| {
            match key {
                "index" => call.index = Some(value.unsigned()?),
                "id" => call.id = Some(value.skip()?),
                "function" | "custom" => value.object(|key, value| {
                    match key {
                        "name" => call.name = Some(value.skip()?),
                        "arguments" | "input" => call.arguments = text_at(value)?,
                        _ => {}
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(call)
    }
}

impl Check {
    /// Takes one chunk.
    pub(super) fn chat_frame(
        &mut self,
        rules: &Rules,
        frame: &Frame<'_>,
        text: &str,
    ) -> Result<(), Bad> {
        let said = Said::read(text, "delta")?;
        if self.end.markers > 0 {
            self.after_end(text);
        }
        if said.error.is_some_and(|error| !error.is_null()) {
            self.failure(rules, text);
            return Ok(());
        }
        let before = self.end.terminals;
        let (mut texts, mut last) = (0, None);
        for (kind, delta) in said.texts() {
            texts += 1;
            if before > 0 {
                self.after_end(text);
            }
            let index = self.with_desk(rules, |parts, desk| {
                let index = parts.at(kind, Place::default(), desk);
                parts.delta(index, delta, desk);
                index
            });
            last = Some((index, place_of(delta.raw(), frame.data)));
        }
        if let Some(calls) = said.calls() {
            self.call_deltas(rules, calls)?;
        }
        let plain = said.calls().is_none()
            && said.finish.is_none()
            && said.choices == 1
            && said.usage.is_none_or(Raw::is_null);
        self.learned.clear();
        if let (1, true, Some((index, delta))) = (texts, plain, last) {
            self.learned.learn(frame, index, delta, None);
        }
        self.ends(rules, &said)
    }

    /// Looks at what ends an answer.
    fn ends(&mut self, rules: &Rules, said: &Said<'_>) -> Result<(), Bad> {
        if let Some(reason) = said.finish {
            self.terminal(&format!("finish_reason {}", shown(reason.raw().as_bytes())));
            let calls = rules.expected.as_ref().is_some_and(|it| !it.calls.is_empty());
            let expected = if calls { "tool_calls" } else { "stop" };
            if rules.expected.is_some() && !rules.is_failing() && !reason.is(expected) {
                let came = shown(reason.raw().as_bytes());
                self.found.add(Defect::WrongEnd, format!("finish_reason \"{expected}\""), came);
            }
        }
        if let Some(usage) = said.usage {
            self.end.usage |= is_usage(usage, "prompt_tokens", "completion_tokens")?;
        }
        Ok(())
    }

    fn call_deltas(&mut self, rules: &Rules, calls: Raw<'_>) -> Result<(), Bad> {
        calls.cursor().array(|cursor| {
            let call = Call::read(cursor)?;
            let place = Place { item: call.index.unwrap_or_default(), inside: 0 };
            self.with_desk(rules, |parts, desk| {
                let index = parts.at(Kind::Call, place, desk);
                parts.call(index, (call.id, call.name), desk);
                if let Some(arguments) = call.arguments.filter(|it| !it.is_empty()) {
                    parts.delta(index, arguments, desk);
                }
            });
            Ok(())
        })
    }

    /// Takes the document.
    pub(super) fn chat_document(&mut self, rules: &Rules, text: &str) -> Result<(), Bad> {
        let said = Said::read(text, "message")?;
        if said.error.is_some_and(|error| !error.is_null()) {
            self.failure(rules, text);
            return Ok(());
        }
        self.with_desk(rules, |parts, desk| {
            for (kind, text) in said.texts() {
                parts.document((kind, Place::default()), text, desk);
            }
            let Some(calls) = said.calls() else { return Ok(()) };
            let mut count = 0;
            calls.cursor().array(|cursor| {
                let call = Call::read(cursor)?;
                let place = Place { item: count, inside: 0 };
                count += 1;
                let index = parts.at(Kind::Call, place, desk);
                parts.call(index, (call.id, call.name), desk);
                parts.document((Kind::Call, place), call.arguments.unwrap_or_default(), desk);
                Ok(())
            })
        })?;
        if said.finish.is_none() {
            self.found.add(Defect::NoEnd, "a finish_reason", "none");
        }
        self.ends(rules, &said)
    }
}
