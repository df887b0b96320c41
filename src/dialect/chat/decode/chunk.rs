//! One chunk of a stream, or one whole completion, read in a single pass into borrowed fields.
//!
//! Nothing is pushed while reading, so a frame that turns out to be cut has no effect.

use crate::dialect::event::Usage;
use crate::dialect::pattern::Unneeded;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw};

/// What a chunk says about choice 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    /// `delta`.
    pub(super) delta: Option<Delta<'a>>,
    /// `message`: the whole thing in a document; in a stream some repeat it beside the delta.
    pub(super) message: Option<Raw<'a>>,
    /// `finish_reason`, never empty.
    pub(super) finish: Option<Escaped<'a>>,
    /// `logprobs.content`, a non-empty array.
    pub(super) logprobs: Option<Raw<'a>>,
    /// `error`.
    pub(super) error: Option<Raw<'a>>,
    index: Option<Raw<'a>>,
}

/// The fields of a delta, or of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta<'a> {
    /// `content`: a string, or an array of parts.
    pub(super) content: Option<Raw<'a>>,
    /// `reasoning_content`.
    pub(super) reasoning_content: Option<Raw<'a>>,
    /// `reasoning`.
    pub(super) reasoning: Option<Raw<'a>>,
    /// `reasoning_details`.
    pub(super) details: Option<Raw<'a>>,
    /// `refusal`.
    pub(super) refusal: Option<Raw<'a>>,
    /// `tool_calls`.
    pub(super) tool_calls: Option<Raw<'a>>,
    /// `function_call`.
    pub(super) function_call: Option<Raw<'a>>,
    /// `annotations`.
    pub(super) annotations: Option<Raw<'a>>,
    /// `audio`.
    pub(super) audio: Option<Raw<'a>>,
}

/// A chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunk<'a> {
    /// `id`.
    pub(super) id: Escaped<'a>,
    /// `model`.
    pub(super) model: Escaped<'a>,
    /// Whether there is a `choices` array, even an empty one.
    pub(super) has_choices: bool,
    /// Choice 0.
    pub(super) choice: Option<Choice<'a>>,
    /// `usage`, or `x_groq.usage`.
    pub(super) usage: Option<Usage>,
    /// What says that the request failed: the `error`, or the whole body when it is one.
    pub(super) error: Option<Raw<'a>>,
    /// What differs from chunk to chunk and decides nothing once the first is read.
    pub(super) unneeded: Unneeded<'a>,
}

impl<'a> Chunk<'a> {
    /// Reads a chunk or a completion.
    ///
    /// # Errors
    /// The text is no JSON document, or not of a type that can be one.
    pub(super) fn read(text: &'a str) -> Result<Self, Bad> {
        json::document(text, |cursor| {
            if cursor.kind()? != Kind::Object {
                // Google's errors are arrays; text alone is somebody's error too.
                let whole = cursor.skip()?;
                let error = matches!(whole.kind(), Kind::Array | Kind::String).then_some(whole);
                return Ok(Self { error, ..Self::default() });
            }
            let mut chunk = Self::default();
            let (mut error, mut usage, mut choices) = (None, None, None);
            let (mut more_usage, mut complaint) = (None, false);
            cursor.object(|key, value| {
                match key {
                    "id" => {
                        let id = value.skip()?;
                        chunk.unneeded.add(id);
                        chunk.id = id.string().unwrap_or_default();
                    }
                    "created" | "obfuscation" => chunk.unneeded.add(value.skip()?),
                    "model" => chunk.model = text_or_empty(value)?,
                    "choices" if value.kind()? == Kind::Array => {
                        json::once(&mut choices, ())?;
                        value.array(|each| {
                            let choice = Choice::read(each)?;
                            if chunk.choice.is_none() && choice.is_first() {
                                chunk.choice = Some(choice);
                            }
                            Ok(())
                        })?;
                    }
                    "usage" if value.kind()? == Kind::Object => {
                        json::once(&mut usage, read_usage(value)?)?;
                    }
                    "x_groq" if value.kind()? == Kind::Object => value.object(|key, value| {
                        if key == "usage" && value.kind()? == Kind::Object {
                            more_usage = read_usage(value)?;
                        }
                        Ok(())
                    })?,
                    "error" => json::once(&mut error, value.skip()?)?,
                    "detail" | "message" => complaint = !value.skip()?.is_null(),
                    _ => {}
                }
                Ok(())
            })?;
            chunk.has_choices = choices.is_some();
            chunk.usage = usage.flatten().or(more_usage);
            chunk.error = error.filter(|error| says_something(*error));
            if complaint && !chunk.has_choices && chunk.error.is_none() {
                // Not the whole text: what follows the object is looked at later.
                let object = &text[..cursor.position()];
                chunk.error = Some(Raw::trusted(object.trim_ascii_start()));
            }
            Ok(chunk)
        })
    }
}

impl<'a> Choice<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut choice = Self::default();
        if cursor.kind()? != Kind::Object {
            cursor.skip()?;
            choice.index = Some(Raw::NULL);
            return Ok(choice);
        }
        cursor.object(|key, value| {
            match key {
                "index" => choice.index = Some(value.skip()?),
                "delta" if value.kind()? == Kind::Object => {
                    let mut delta = Delta::default();
                    value.object(|key, value| delta.read_member(key, value))?;
                    json::once(&mut choice.delta, delta)?;
                }
                "message" if value.kind()? == Kind::Object => {
                    json::once(&mut choice.message, value.skip()?)?;
                }
                "finish_reason" if value.kind()? == Kind::String => {
                    let reason = value.string()?;
                    if !reason.is_empty() {
                        json::once(&mut choice.finish, reason)?;
                    }
                }
                "logprobs" if value.kind()? == Kind::Object => value.object(|key, value| {
                    if key == "content" && value.kind()? == Kind::Array {
                        let list = value.skip()?;
                        let inside = &list.text()[1..];
                        let empty = inside.trim_start().starts_with(']');
                        choice.logprobs = (!empty).then_some(list);
                    }
                    Ok(())
                })?,
                "error" => {
                    let error = value.skip()?;
                    choice.error = says_something(error).then_some(error);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(choice)
    }

    /// Only choice 0 was asked for; some leave the index out.
    fn is_first(&self) -> bool {
        self.index.is_none_or(|index| index.text() == "0")
            || (self.index.is_some_and(Raw::is_null) && self.delta.is_some())
    }

    /// The fields to act on. A `message` counts only when there is no delta.
    pub(super) fn fields(&self) -> Result<Option<Delta<'a>>, Bad> {
        match (self.delta, self.message) {
            (Some(delta), _) => Ok(Some(delta)),
            (None, Some(message)) => Delta::read(message).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl<'a> Delta<'a> {
    /// Reads a whole object.
    pub(super) fn read(object: Raw<'a>) -> Result<Self, Bad> {
        let mut delta = Self::default();
        object.cursor().object(|key, value| delta.read_member(key, value))?;
        Ok(delta)
    }

    fn read_member(&mut self, key: &str, value: &mut Cursor<'a>) -> Result<(), Bad> {
        let slot = match key {
            "content" => &mut self.content,
            "reasoning_content" => &mut self.reasoning_content,
            "reasoning" => &mut self.reasoning,
            "reasoning_details" => &mut self.details,
            "refusal" => &mut self.refusal,
            "tool_calls" => &mut self.tool_calls,
            "function_call" => &mut self.function_call,
            "annotations" => &mut self.annotations,
            "audio" => &mut self.audio,
            _ => return Ok(()),
        };
        let value = value.skip()?;
        if value.is_null() { Ok(()) } else { json::once(slot, value) }
    }

    /// The reasoning text: one field of the two, because some send both with the same text.
    pub(super) fn reasoning_text(&self) -> Option<Escaped<'a>> {
        let text = |field: Option<Raw<'a>>| field.and_then(Raw::string).filter(|t| !t.is_empty());
        text(self.reasoning_content).or_else(|| text(self.reasoning))
    }
}

/// The one thing that a delta brings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Only<'a> {
    Text(Escaped<'a>),
    Reasoning(Escaped<'a>),
    Call(CallDelta<'a>),
}

impl<'a> Delta<'a> {
    /// What it brings, if that is one piece of text and nothing else.
    pub(super) fn only_text(&self) -> Option<Only<'a>> {
        let silent =
            |field: Option<Raw<'_>>| field.is_none_or(|it| matches!(it.text(), "\"\"" | "[]"));
        let rest = [self.details, self.refusal, self.function_call, self.annotations, self.audio];
        if self.details.is_some() || !rest.into_iter().all(silent) {
            return None;
        }
        let reasoning = [self.reasoning_content, self.reasoning];
        match (reasoning.into_iter().all(silent), silent(self.content), silent(self.tool_calls)) {
            (true, false, true) => self.content?.string().map(Only::Text),
            (false, true, true) => self.reasoning_text().map(Only::Reasoning),
            (true, true, false) => {
                let (mut only, mut count) = (None, 0);
                let list = self.tool_calls.filter(|list| list.kind() == Kind::Array)?;
                let read = list.cursor().array(|each| {
                    count += 1;
                    only = Some(CallDelta::read(each)?);
                    Ok(())
                });
                only.filter(|_| count == 1 && read.is_ok()).map(Only::Call)
            }
            _ => None,
        }
    }
}

/// An entry of `tool_calls`, or a legacy `function_call`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallDelta<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Escaped<'a>,
    pub(super) name: Escaped<'a>,
    /// `function.arguments` or `custom.input`: a string, or any other value, but not null.
    pub(super) text: Option<Raw<'a>>,
    /// It is a real custom tool's call.
    pub(super) custom: bool,
    /// What the vendor wants back with the call (`extra_content`).
    pub(super) extra: Option<Raw<'a>>,
    /// `parameters` and `thought_signature` and the like are left alone.
    pub(super) legacy: bool,
}

impl<'a> CallDelta<'a> {
    /// Reads an entry of `tool_calls`.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut call = Self::default();
        if cursor.kind()? != Kind::Object {
            cursor.skip()?;
            return Ok(call);
        }
        cursor.object(|key, value| {
            match key {
                "index" => call.index = value.skip()?.text().parse().ok(),
                "id" => call.id = text_or_empty(value)?,
                "extra_content" => {
                    call.extra = Some(value.skip()?).filter(|extra| !extra.is_null());
                }
                "function" | "custom" if value.kind()? == Kind::Object => {
                    call.custom = key == "custom";
                    value.object(|key, value| call.read_member(key, value))?;
                }
                // A few put the members of `function` beside it.
                "name" | "arguments" => call.read_member(key, value)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(call)
    }

    /// Reads a `function_call`.
    pub(super) fn read_legacy(object: Raw<'a>) -> Result<Self, Bad> {
        let mut call = Self { legacy: true, ..Self::default() };
        if object.kind() == Kind::Object {
            object.cursor().object(|key, value| call.read_member(key, value))?;
        }
        Ok(call)
    }

    fn read_member(&mut self, key: &str, value: &mut Cursor<'a>) -> Result<(), Bad> {
        match key {
            "name" => {
                let name = text_or_empty(value)?;
                if self.name.is_empty() {
                    self.name = name;
                }
            }
            "arguments" | "input" => {
                let text = value.skip()?;
                if !text.is_null() {
                    json::once(&mut self.text, text)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// True when it brings nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty() && self.name.is_empty() && self.text.is_none() && self.extra.is_none()
    }
}

fn text_or_empty<'a>(cursor: &mut Cursor<'a>) -> Result<Escaped<'a>, Bad> {
    Ok(cursor.skip()?.string().unwrap_or_default())
}

/// False for the ways of saying that there is no error.
fn says_something(error: Raw<'_>) -> bool {
    !matches!(error.text(), "null" | "false" | "\"\"" | "{}" | "[]" | "0")
}

/// Reads token counts under all their names. `None` when there are none to speak of.
fn read_usage(cursor: &mut Cursor<'_>) -> Result<Option<Usage>, Bad> {
    let (mut input, mut output, mut total) = (None, None, None);
    let (mut cached, mut cache_write, mut reasoning) = (0, 0, 0);
    // GigaChat tells the cache's tokens beside those of the prompt, not as a part of them.
    let mut beside = 0;
    cursor.object(|key, value| {
        match key {
            "prompt_tokens" | "input_tokens" => input = count(value)?,
            "completion_tokens" | "output_tokens" => output = count(value)?,
            "total_tokens" => total = count(value)?,
            "prompt_cache_hit_tokens" | "cached_tokens" => {
                cached = cached.max(count(value)?.unwrap_or(0));
            }
            "precached_prompt_tokens" => beside = count(value)?.unwrap_or(0),
            "reasoning_tokens" => reasoning = reasoning.max(count(value)?.unwrap_or(0)),
            "prompt_tokens_details" | "input_tokens_details" if value.kind()? == Kind::Object => {
                value.object(|key, value| {
                    match key {
                        "cached_tokens" => cached = cached.max(count(value)?.unwrap_or(0)),
                        "cache_write_tokens" => cache_write = count(value)?.unwrap_or(0),
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            "completion_tokens_details" | "output_tokens_details"
                if value.kind()? == Kind::Object =>
            {
                value.object(|key, value| {
                    if key == "reasoning_tokens" {
                        reasoning = reasoning.max(count(value)?.unwrap_or(0));
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    let (input, mut output) = (input.unwrap_or(0).saturating_add(beside), output.unwrap_or(0));
    cached = cached.max(beside);
    let sum = input.saturating_add(output);
    // Some leave the reasoning out of the completion's tokens but not out of the total.
    let total = total.filter(|total| *total > sum).unwrap_or(sum);
    output = output.max(total - input);
    Ok(Some(Usage { input, cached, cache_write, output, reasoning, total }))
}

/// A count, however it is written; anything that is none is ignored.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
fn count(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Bad> {
    let text = cursor.skip()?.text();
    let float = || text.parse::<f64>().ok().filter(|f| (0.0..9e15).contains(f)).map(|f| f as u64);
    Ok(text.parse().ok().filter(|n| *n < 1 << 53).or_else(float))
}
