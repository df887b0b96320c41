//! The conversation as messages.
//!
//! There is one system message, the first. System text that stands later in the conversation stays
//! there, as the user's: it speaks of that moment, and the front of the prompt, which the upstream
//! has cached, does not change with it. Neighbours of one role become one message, unless the first
//! has an image.

use super::{Body, images, objects};
use crate::dialect::event::CallKind;
use crate::dialect::gigachat::state;
use crate::dialect::order::{Order, Planned, Reasoning, Step, Turn};
use crate::dialect::quirks::ReasoningBack;
use crate::dialect::request::{Content, Role};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};

pub(super) const GAP: &[u8] = b"\\n";

/// The last message, which more text of the same role may still go into.
#[derive(Default)]
pub(super) struct Last {
    role: &'static str,
    /// It is only text, and where that begins.
    text: Option<usize>,
}

impl Last {
    /// Begins a message of this role, or goes on with the last one. What follows is the inside of
    /// its content.
    pub(super) fn open(&mut self, role: &'static str, out: &mut Vec<u8>) {
        if let Some(start) = self.text.filter(|_| self.role == role) {
            out.truncate(out.len() - b"\"}".len());
            if out.len() > start {
                out.extend_from_slice(GAP);
            }
            return;
        }
        json::comma(out);
        out.push(b'{');
        json::member("role", role, out);
        json::key("content", out);
        out.push(b'"');
        *self = Self { role, text: Some(out.len()) };
    }

    /// Whether nothing stands in its content yet, while that is being written.
    pub(super) fn is_empty(&self, out: &[u8]) -> bool {
        self.text == Some(out.len())
    }

    /// No more text can go into it.
    pub(super) const fn seal(&mut self) {
        self.text = None;
    }
}

impl<'b> Body<'b, '_> {
    /// Appends `messages`.
    pub(super) fn messages(&mut self, order: &Order<'b>, out: &mut Vec<u8>) -> Result<(), Failure> {
        json::key("messages", out);
        out.push(b'[');
        let start = out.len();
        let mut last = Last::default();
        if let Some(text) = self.request.instructions.filter(|text| !text.is_empty()) {
            last.open("system", out);
            self.inside(text, out);
            self.close(&mut last, out);
        }
        let mut leading = true;
        for (at, turn) in order.turns.iter().enumerate() {
            let system = matches!(turn, Turn::Message { role: Role::System | Role::Developer, .. });
            leading &= system;
            if !leading {
                self.follow_up(&mut last, out);
            }
            match turn {
                Turn::Message { content, .. } if leading => {
                    last.open("system", out);
                    self.content(content, None, out)?;
                    self.close(&mut last, out);
                }
                Turn::Message { role: Role::Assistant, .. } => {}
                Turn::Message { content, .. } => {
                    self.images.newest = order.last_user == Some(at);
                    last.open("user", out);
                    if system {
                        out.extend_from_slice(b"[system]\\n");
                    }
                    self.content(content, Some(&mut last), out)?;
                    self.close(&mut last, out);
                }
                Turn::Summary { text } => {
                    last.open("user", out);
                    self.inside(Escaped::trusted(text), out);
                    self.close(&mut last, out);
                }
                Turn::Assistant(step) => self.assistant(step, at, order, &mut last, out)?,
                Turn::Orphan { id, content } => {
                    last.open("user", out);
                    out.extend_from_slice(b"[tool result ");
                    self.inside(Escaped::trusted(id), out);
                    out.extend_from_slice(b"]\\n");
                    self.content(content, None, out)?;
                    self.close(&mut last, out);
                }
            }
        }
        self.follow_up(&mut last, out);
        if out.len() == start {
            return Err(Failure::bad_request(
                "the request has no message for the model: add some input",
            ));
        }
        out.push(b']');
        Ok(())
    }

    /// A step of the model: its words, and its calls one behind the other, each with its result.
    fn assistant(
        &mut self,
        step: &Step,
        at: usize,
        order: &Order<'b>,
        last: &mut Last,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (messages, calls) = (order.messages(step), order.calls(step));
        let back = match self.quirks.reasoning_back {
            ReasoningBack::Never => false,
            ReasoningBack::ToolTurns => {
                !calls.is_empty() && order.last_user.is_none_or(|user| at > user)
            }
            ReasoningBack::Always => true,
        };
        last.open("assistant", out);
        for (count, content) in messages.iter().enumerate() {
            out.extend_from_slice(if count > 0 { GAP } else { b"" });
            self.content(content, None, out)?;
        }
        out.push(b'"');
        if back {
            self.reasoning(order.reasoning(step), last, out);
        }
        for (count, call) in calls.iter().enumerate() {
            if count > 0 {
                last.open("assistant", out);
                out.push(b'"');
            }
            last.text = None;
            let place = self.place(call.kind, call.tool);
            self.call(call, place, out);
            out.extend_from_slice(b"},{\"role\":\"function\"");
            self.name(place, out);
            out.extend_from_slice(b",\"content\":\"");
            self.output(call.output, out)?;
            out.extend_from_slice(b"\"}");
            last.role = "function";
        }
        if calls.is_empty() {
            out.push(b'}');
        }
        Ok(())
    }

    fn reasoning(&mut self, items: &[Reasoning<'_>], last: &mut Last, out: &mut Vec<u8>) {
        let texts = items.iter().flat_map(|item| match item.text {
            [] => item.summary,
            text => text,
        });
        let mut begun = false;
        for text in texts.filter(|text| !text.is_empty()) {
            if begun {
                out.extend_from_slice(b"\\n\\n");
            } else {
                out.extend_from_slice(b",\"reasoning_content\":\"");
                begun = true;
            }
            self.inside(*text, out);
        }
        if begun {
            out.push(b'"');
            last.text = None;
        }
    }

    fn call(&mut self, call: &Planned<'_>, place: usize, out: &mut Vec<u8>) {
        json::key("function_call", out);
        out.push(b'{');
        self.name(place, out);
        json::key("arguments", out);
        let text = Escaped::trusted(call.text);
        if call.kind == CallKind::Custom {
            out.push(b'{');
            self.text("input", text, out);
            out.push(b'}');
        } else {
            objects::arguments(text, out);
        }
        out.push(b'}');
        if let Some(state) = state::of_call(call.id, self.target.provider) {
            json::member("functions_state_id", state, out);
        }
    }

    /// The inside of a result's content.
    fn output(
        &mut self,
        content: Option<&[Content<'b>]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let Some(content) = content else {
            objects::result(std::iter::once(Escaped::trusted("[no output]")), out);
            return Ok(());
        };
        if content.iter().all(|part| matches!(part, Content::Text(_))) {
            let texts = content.iter().map(|part| match part {
                Content::Text(text) => *text,
                _ => Escaped::EMPTY,
            });
            objects::result(texts, out);
            return Ok(());
        }
        let mut inside = Vec::new();
        self.content(content, None, &mut inside)?;
        let inside = String::from_utf8_lossy(&inside);
        objects::result(std::iter::once(Escaped::trusted(&inside)), out);
        Ok(())
    }

    /// Appends content as the inside of a string. `user`: the message that it is in, if that is the
    /// user's and can have images.
    fn content(
        &mut self,
        content: &[Content<'b>],
        mut user: Option<&mut Last>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let mut gap = false;
        for part in content {
            if matches!(part, Content::Text(text) | Content::Refusal(text) if text.is_empty()) {
                continue;
            }
            if let Some(image) = images::of(part) {
                self.image(image, user.as_deref_mut(), &mut gap, out)?;
                continue;
            }
            if std::mem::replace(&mut gap, true) {
                out.extend_from_slice(GAP);
            }
            match part {
                Content::Text(text) | Content::Refusal(text) => self.inside(*text, out),
                Content::Image { .. } | Content::ImageFile { .. } => {}
                Content::File { .. } => return Err(no_form("input_file", "files")),
                Content::Audio { .. } => return Err(no_form("input_audio", "sound")),
                Content::Opaque(raw) => {
                    out.extend_from_slice(b"[part left out]");
                    self.drop(&kind_of(*raw))?;
                }
            }
        }
        Ok(())
    }
}

fn no_form(param: &str, what: &str) -> Failure {
    let message = format!("no {what} can be sent to GigaChat here: send text");
    Failure::unsupported(param, message).with_code("unsupported_value")
}

/// The `type` of a part, for people.
fn kind_of(part: Raw<'_>) -> String {
    let mut kind = String::from("content part");
    // It was read once already; what cannot be read again has no name.
    let _ = part.cursor().object(|key, value| {
        if let ("type", Some(text)) = (key, value.skip()?.string()) {
            kind = text.decode().into_owned();
        }
        Ok(())
    });
    kind
}
