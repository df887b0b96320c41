//! What the agent did, as a line or two for readers.

use super::line::Item;
use crate::wire::json::{self, Escaped, Kind, Raw};

/// Of a command's output, so much is shown.
const OUTPUT_BYTES_MAX: usize = 2000;
/// Of a call's arguments, so much.
const ARGUMENTS_BYTES_MAX: usize = 500;

/// Appends what a completed item did, as the inside of a JSON string; nothing for what is not shown.
pub(super) fn tell(item: &Item<'_>, out: &mut Vec<u8>) {
    match item.kind.raw() {
        "command_execution" => {
            json::escape("Ran `", out);
            push(item.command, out);
            json::escape("`", out);
            match item.exit_code {
                Some(code) if code.text() != "0" => {
                    json::escape(" (exit code ", out);
                    json::escape(code.text(), out);
                    json::escape(")", out);
                }
                None if !item.status.is("completed") => {
                    json::escape(" (", out);
                    push(item.status, out);
                    json::escape(")", out);
                }
                _ => {}
            }
            block(item.output, out);
        }
        "file_change" => {
            json::escape("Changed ", out);
            changes(item.changes, out);
            if !item.status.is("completed") {
                json::escape(" (", out);
                push(item.status, out);
                json::escape(")", out);
            }
        }
        "mcp_tool_call" => {
            json::escape("Called ", out);
            push(item.server, out);
            json::escape(".", out);
            push(item.tool, out);
            if let Some(arguments) = item.arguments {
                json::escape(" with ", out);
                json::escape(front(arguments.text(), ARGUMENTS_BYTES_MAX), out);
            }
        }
        "collab_tool_call" => {
            json::escape("Called ", out);
            push(item.tool, out);
        }
        "web_search" => {
            json::escape("Searched the web for \u{201c}", out);
            push(item.query, out);
            json::escape("\u{201d}", out);
        }
        "todo_list" => todo(item.todo, out),
        "error" => {
            json::escape("Note: ", out);
            push(item.text, out);
        }
        _ => {}
    }
}

fn push(text: Escaped<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(text.raw().as_bytes());
}

/// A command's output on lines of its own.
fn block(text: Escaped<'_>, out: &mut Vec<u8>) {
    let plain = text.decode();
    let plain = plain.trim_end();
    if plain.is_empty() {
        return;
    }
    let shown = front(plain, OUTPUT_BYTES_MAX);
    json::escape("\n", out);
    json::escape(shown, out);
    if shown.len() < plain.len() {
        json::escape("\n[more output]", out);
    }
}

/// The front of a text, cut between characters.
fn front(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn changes(list: Option<Raw<'_>>, out: &mut Vec<u8>) {
    let mut begun = false;
    each(list, |path, kind| {
        if std::mem::replace(&mut begun, true) {
            json::escape(", ", out);
        }
        push(path, out);
        json::escape(" (", out);
        push(kind, out);
        json::escape(")", out);
    });
}

fn todo(list: Option<Raw<'_>>, out: &mut Vec<u8>) {
    json::escape("Plan:", out);
    each(list, |text, completed| {
        json::escape(if completed.is("true") { "\n[x] " } else { "\n[ ] " }, out);
        push(text, out);
    });
}

/// Walks a list of objects that have a text (`path` or `text`) and a mark (`kind` or `completed`).
fn each(list: Option<Raw<'_>>, mut take: impl FnMut(Escaped<'_>, Escaped<'_>)) {
    let Some(list) = list.filter(|list| list.kind() == Kind::Array) else { return };
    // It was read once already.
    let _ = list.cursor().array(|element| {
        let object = element.skip()?;
        let (mut text, mut mark) = (Escaped::EMPTY, Escaped::EMPTY);
        if object.kind() == Kind::Object {
            object.cursor().object(|key, value| {
                let value = value.skip()?;
                match key {
                    "path" | "text" => text = value.string().unwrap_or_default(),
                    "kind" => mark = value.string().unwrap_or_default(),
                    "completed" if value.text() == "true" => mark = Escaped::trusted("true"),
                    _ => {}
                }
                Ok(())
            })?;
            take(text, mark);
        }
        Ok(())
    });
}
