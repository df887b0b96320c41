//! One chunk of a stream, or one whole completion, read in a single pass into borrowed fields.
//!
//! Nothing is pushed while reading, so a frame that turns out to be cut has no effect.

use crate::dialect::event::Usage;
use crate::dialect::pattern::Unneeded;
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw};

/// A chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunk<'a> {
    /// `model`.
    pub(super) model: Escaped<'a>,
    /// Whether there is a `choices` array, even an empty one.
    pub(super) has_choices: bool,
    /// The only choice.
    pub(super) choice: Option<Choice<'a>>,
    /// `usage`.
    pub(super) usage: Option<Usage>,
    /// What says that the request failed.
    pub(super) error: Option<Raw<'a>>,
    /// What differs from chunk to chunk and decides nothing.
    pub(super) unneeded: Unneeded<'a>,
}

/// What a chunk says of its choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    /// `delta`, or `message` of a whole completion.
    pub(super) message: Option<Message<'a>>,
    /// `finish_reason`, never empty.
    pub(super) finish: Option<Escaped<'a>>,
}

/// The members of a delta or message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message<'a> {
    role: Escaped<'a>,
    /// `content`.
    pub(super) content: Escaped<'a>,
    /// `reasoning_content`.
    pub(super) reasoning: Escaped<'a>,
    /// `functions_state_id`.
    pub(super) state: Escaped<'a>,
    /// `function_call`.
    pub(super) call: Option<Call<'a>>,
}

/// A `function_call`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call<'a> {
    /// `name`.
    pub(super) name: Escaped<'a>,
    /// `arguments`: an object, they say.
    pub(super) arguments: Option<Raw<'a>>,
}

impl<'a> Chunk<'a> {
    /// Reads a chunk or a completion.
    ///
    /// # Errors
    /// The text is no JSON object.
    pub(super) fn read(text: &'a str) -> Result<Self, Bad> {
        json::document(text, |cursor| {
            let mut chunk = Self::default();
            let (mut choices, mut error, mut complaint) = (None, None, false);
            cursor.object(|key, value| {
                match key {
                    "created" => chunk.unneeded.add(value.skip()?),
                    "model" => chunk.model = text_or_empty(value)?,
                    "choices" if value.kind()? == Kind::Array => {
                        json::once(&mut choices, ())?;
                        value.array(|each| {
                            let choice = Choice::read(each)?;
                            chunk.choice = chunk.choice.or(Some(choice));
                            Ok(())
                        })?;
                    }
                    "usage" if value.kind()? == Kind::Object => {
                        json::once(&mut chunk.usage, read_usage(value)?)?;
                    }
                    "error" => json::once(&mut error, value.skip()?)?,
                    "message" => complaint = !value.skip()?.is_null(),
                    _ => {}
                }
                Ok(())
            })?;
            chunk.has_choices = choices.is_some();
            chunk.error = error.filter(|error| !error.is_null());
            if complaint && !chunk.has_choices && chunk.error.is_none() {
                // Not the whole text: what follows the object is looked at later.
                let object = text.get(..cursor.position()).unwrap_or_default();
                chunk.error = Some(Raw::trusted(object.trim_ascii_start()));
            }
            Ok(chunk)
        })
    }
}

impl<'a> Choice<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut choice = Self::default();
        cursor.object(|key, value| {
            match key {
                "delta" | "message" if value.kind()? == Kind::Object => {
                    json::once(&mut choice.message, Message::read(value)?)?;
                }
                "finish_reason" if value.kind()? == Kind::String => {
                    let reason = value.string()?;
                    if !reason.is_empty() {
                        json::once(&mut choice.finish, reason)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(choice)
    }
}

impl<'a> Message<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut message = Self::default();
        let (mut content, mut reasoning) = (None, None);
        cursor.object(|key, value| {
            match key {
                "role" => message.role = text_or_empty(value)?,
                "content" => json::once(&mut content, text_or_empty(value)?)?,
                "reasoning_content" => json::once(&mut reasoning, text_or_empty(value)?)?,
                "functions_state_id" => message.state = text_or_empty(value)?,
                "function_call" if value.kind()? == Kind::Object => {
                    json::once(&mut message.call, Call::read(value)?)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        message.content = content.unwrap_or_default();
        message.reasoning = reasoning.unwrap_or_default();
        Ok(message)
    }

    /// True for what a tool of the upstream's own tells of its work, which is no part of the answer.
    pub(super) fn is_progress(&self) -> bool {
        self.role.is("function_in_progress")
    }
}

impl<'a> Call<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Bad> {
        let mut call = Self::default();
        cursor.object(|key, value| {
            match key {
                "name" => call.name = text_or_empty(value)?,
                "arguments" => {
                    let arguments = value.skip()?;
                    if !arguments.is_null() {
                        json::once(&mut call.arguments, arguments)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(call)
    }
}

fn text_or_empty<'a>(cursor: &mut Cursor<'a>) -> Result<Escaped<'a>, Bad> {
    Ok(cursor.skip()?.string().unwrap_or_default())
}

fn read_usage(cursor: &mut Cursor<'_>) -> Result<Usage, Bad> {
    let mut usage = Usage::default();
    cursor.object(|key, value| {
        let slot = match key {
            "prompt_tokens" => &mut usage.input,
            "completion_tokens" => &mut usage.output,
            "total_tokens" => &mut usage.total,
            "precached_prompt_tokens" => &mut usage.cached,
            _ => return Ok(()),
        };
        // What is no count is ignored.
        *slot = value.skip()?.text().parse().ok().filter(|n| *n < 1 << 53).unwrap_or(0);
        Ok(())
    })?;
    // GigaChat counts what it bills: `prompt_tokens` and `total_tokens` are without the tokens of the
    // cache, which stand beside them. Its guide on counting tokens says that the total is what is
    // billed and that cached tokens are not, and the recordings in its Python SDK agree: a prompt of
    // 19 tokens in API v2 is 17 with 2 `precached_prompt_tokens` in v1.
    // <https://developers.sber.ru/docs/ru/gigachat/guides/counting-tokens>
    usage.input += usage.cached;
    usage.total = usage.total.max(usage.input + usage.output);
    Ok(usage)
}
