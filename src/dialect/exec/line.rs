//! One line of `codex exec --json`, read as far as it is understood.
//!
//! Source: `codex-rs/exec/src/exec_events.rs` of the Codex CLI.

use crate::dialect::event::Usage;
use crate::wire::json::{self, Bad, Cursor, Escaped, Raw};

/// A line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line<'a> {
    /// `thread.started`, `item.completed` ...
    pub(super) kind: Escaped<'a>,
    /// Of `thread.started`.
    pub(super) thread: Escaped<'a>,
    /// Of `error`, and `error.message` of `turn.failed`.
    pub(super) message: Escaped<'a>,
    /// Of `turn.completed`: the sum over the thread.
    pub(super) usage: Option<Usage>,
    /// Of `item.*`.
    pub(super) item: Item<'a>,
}

/// What the agent did or said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Item<'a> {
    /// `agent_message`, `command_execution` ...
    pub(super) kind: Escaped<'a>,
    pub(super) text: Escaped<'a>,
    pub(super) command: Escaped<'a>,
    pub(super) output: Escaped<'a>,
    pub(super) exit_code: Option<Raw<'a>>,
    pub(super) status: Escaped<'a>,
    pub(super) changes: Option<Raw<'a>>,
    pub(super) server: Escaped<'a>,
    pub(super) tool: Escaped<'a>,
    pub(super) arguments: Option<Raw<'a>>,
    pub(super) query: Escaped<'a>,
    pub(super) todo: Option<Raw<'a>>,
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn read(text: &'a str) -> Result<Self, Bad> {
        let mut line = Self::default();
        json::document(text, |cursor| {
            cursor.object(|key, value| match key {
                "type" => text_into(&mut line.kind, value),
                "thread_id" => text_into(&mut line.thread, value),
                "message" => text_into(&mut line.message, value),
                "error" => {
                    let message = &mut line.message;
                    members(value, |key, value| match key {
                        "message" => text_into(message, value),
                        _ => value.skip().map(drop),
                    })
                }
                "usage" => {
                    line.usage = usage(value)?;
                    Ok(())
                }
                "item" => line.item.read(value),
                _ => value.skip().map(drop),
            })
        })?;
        Ok(line)
    }
}

impl<'a> Item<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        // Some kinds have a second `id` inside: it decides nothing here.
        members(cursor, |key, value| match key {
            "type" => text_into(&mut self.kind, value),
            "text" => text_into(&mut self.text, value),
            // A warning's.
            "message" => text_into(&mut self.text, value),
            "command" => text_into(&mut self.command, value),
            "aggregated_output" => text_into(&mut self.output, value),
            "exit_code" => raw_into(&mut self.exit_code, value),
            "status" => text_into(&mut self.status, value),
            "changes" => raw_into(&mut self.changes, value),
            "server" => text_into(&mut self.server, value),
            "tool" => text_into(&mut self.tool, value),
            "arguments" => raw_into(&mut self.arguments, value),
            "query" => text_into(&mut self.query, value),
            "items" => raw_into(&mut self.todo, value),
            _ => value.skip().map(drop),
        })
    }
}

/// Walks an object; any other value is passed over.
fn members<'a>(
    value: &mut Cursor<'a>,
    each: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), Bad>,
) -> Result<(), Bad> {
    if value.kind()? == json::Kind::Object { value.object(each) } else { value.skip().map(drop) }
}

/// A text; of another kind of value, nothing.
fn text_into<'a>(into: &mut Escaped<'a>, value: &mut Cursor<'a>) -> Result<(), Bad> {
    if let Some(text) = value.skip()?.string() {
        *into = text;
    }
    Ok(())
}

fn raw_into<'a>(into: &mut Option<Raw<'a>>, value: &mut Cursor<'a>) -> Result<(), Bad> {
    *into = Some(value.skip()?).filter(|value| !value.is_null());
    Ok(())
}

fn usage(value: &mut Cursor<'_>) -> Result<Option<Usage>, Bad> {
    let (mut usage, mut any) = (Usage::default(), false);
    members(value, |key, value| {
        let into = match key {
            "input_tokens" => &mut usage.input,
            "cached_input_tokens" => &mut usage.cached,
            "cache_write_input_tokens" => &mut usage.cache_write,
            "output_tokens" => &mut usage.output,
            "reasoning_output_tokens" => &mut usage.reasoning,
            _ => return value.skip().map(drop),
        };
        if let Ok(count) = value.skip()?.text().parse() {
            *into = count;
            any = true;
        }
        Ok(())
    })?;
    usage.total = usage.input.saturating_add(usage.output);
    Ok(any.then_some(usage))
}
