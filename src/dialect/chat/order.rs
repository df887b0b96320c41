//! The order of messages that strict Chat upstreams enforce: an assistant message with tool calls is
//! followed at once by exactly one tool message for every call; a tool message stands nowhere else.
//!
//! The conversation comes as a flat list that promises only that a call stands before its output.
//! One pass over it builds the turns:
//!
//! * Calls, text and reasoning of one model step gather in one assistant message. It ends when all
//!   its calls are answered or somebody else speaks.
//! * Whoever speaks between a call and its output comes behind the outputs.
//! * A call without output is dropped at the end of the conversation, where the step was broken
//!   off, and answered with a note elsewhere. An output without call becomes a user message.

use crate::dialect::event::CallKind;
use crate::dialect::request::{Content, Item, Role, ToolName};
use crate::fault::Failure;
use std::collections::HashMap;
use std::collections::VecDeque;

/// A step of the conversation as Chat orders it.
#[derive(Debug)]
pub(super) enum Turn<'r> {
    /// System, developer or user.
    Message { role: Role, content: &'r [Content<'r>] },
    /// What stands for an earlier part of the conversation, escaped.
    Summary { text: &'r str },
    /// The model, and the outputs of its calls.
    Assistant(Assistant<'r>),
    /// A tool's output whose call is not there.
    Orphan { id: &'r str, content: &'r [Content<'r>] },
}

/// One step of the model.
#[derive(Debug, Default)]
pub(super) struct Assistant<'r> {
    /// The contents of its messages.
    pub(super) messages: Vec<&'r [Content<'r>]>,
    /// Its reasoning items.
    pub(super) reasoning: Vec<Reasoning<'r>>,
    /// Its calls.
    pub(super) calls: Vec<Planned<'r>>,
}

/// [`Item::Reasoning`] by reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reasoning<'r> {
    pub(super) summary: &'r [crate::wire::json::Escaped<'r>],
    pub(super) text: &'r [crate::wire::json::Escaped<'r>],
    pub(super) sealed: Option<crate::wire::json::Escaped<'r>>,
}

/// A call with its output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned<'r> {
    pub(super) kind: CallKind,
    /// The client's id, escaped.
    pub(super) id: &'r str,
    pub(super) tool: ToolName<'r>,
    /// Arguments or input, escaped.
    pub(super) text: &'r str,
    /// `None` when the client gave none; such a call is answered with a note.
    pub(super) output: Option<&'r [Content<'r>]>,
    answered: bool,
}

/// The turns, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Order<'r> {
    pub(super) turns: Vec<Turn<'r>>,
    /// Names for `x-patchbay-dropped`.
    pub(super) dropped: Vec<String>,
    /// Index of the last turn in which the user spoke.
    pub(super) last_user: Option<usize>,
}

/// Orders a conversation.
///
/// # Errors
/// With `strict`, a call without output or an output without call.
pub(super) fn order<'r>(items: &'r [Item<'r>], strict: bool) -> Result<Order<'r>, Failure> {
    let mut walk = Walk { strict, ..Walk::default() };
    for item in items {
        if let Item::Output { id, content, .. } = item {
            walk.outputs.entry(id).or_default().push_back(content);
        }
    }
    for item in items {
        walk.item(item)?;
    }
    walk.flush(true)?;
    Ok(walk.order)
}

#[derive(Debug, Default)]
struct Walk<'r> {
    order: Order<'r>,
    pending: Assistant<'r>,
    /// Outputs that no call took yet, by call id.
    outputs: HashMap<&'r str, VecDeque<&'r [Content<'r>]>>,
    /// Calls by id that took their output before it came by.
    taken: HashMap<&'r str, usize>,
    strict: bool,
}

impl<'r> Walk<'r> {
    fn item(&mut self, item: &'r Item<'r>) -> Result<(), Failure> {
        match item {
            Item::Message { role: Role::Assistant, content } => {
                if content.iter().any(is_something) {
                    self.pending.messages.push(content);
                }
            }
            Item::Message { role, content } => {
                self.flush(false)?;
                if content.iter().any(is_something) {
                    if *role == Role::User {
                        self.order.last_user = Some(self.order.turns.len());
                    }
                    self.order.turns.push(Turn::Message { role: *role, content });
                }
            }
            Item::Reasoning { summary, text, sealed, .. } => {
                self.pending.reasoning.push(Reasoning { summary, text, sealed: *sealed });
            }
            Item::Call { kind, id, tool, text } => self.pending.calls.push(Planned {
                kind: *kind,
                id,
                tool: *tool,
                text,
                output: None,
                answered: false,
            }),
            Item::Output { id, content, .. } => self.output(id, content)?,
            Item::Summary { text } => {
                self.flush(false)?;
                self.order.turns.push(Turn::Summary { text });
            }
            Item::Opaque { kind, .. } => self.order.dropped.push(kind.decode().into_owned()),
        }
        Ok(())
    }

    fn output(&mut self, id: &'r str, content: &'r [Content<'r>]) -> Result<(), Failure> {
        if let Some(count) = self.taken.get_mut(id).filter(|count| **count > 0) {
            *count -= 1;
            return Ok(());
        }
        let waits = |call: &&mut Planned<'r>| call.id == id && !call.answered;
        if let Some(call) = self.pending.calls.iter_mut().find(waits) {
            call.answered = true;
            call.output = Some(content);
            self.take(id);
            if self.pending.calls.iter().all(|call| call.answered) {
                self.flush(false)?;
            }
            return Ok(());
        }
        if self.taken.contains_key(id) || self.pending.calls.iter().any(|call| call.id == id) {
            self.order.dropped.push("a second output of one tool call".to_owned());
            return Ok(());
        }
        if self.strict {
            let id = crate::wire::json::Escaped::trusted(id).decode();
            let message = format!("No tool call found for function call output with call_id {id}.");
            return Err(Failure::bad_request(message).with_param("input"));
        }
        self.flush(false)?;
        self.take(id);
        self.order.turns.push(Turn::Orphan { id, content });
        Ok(())
    }

    fn take(&mut self, id: &str) -> Option<&'r [Content<'r>]> {
        self.outputs.get_mut(id).and_then(VecDeque::pop_front)
    }

    /// Emits the pending step. The outputs of its calls that come later are taken now.
    fn flush(&mut self, end: bool) -> Result<(), Failure> {
        let mut step = std::mem::take(&mut self.pending);
        let mut open = Vec::new();
        for call in step.calls.iter_mut().filter(|call| !call.answered) {
            call.output = self.outputs.get_mut(call.id).and_then(VecDeque::pop_front);
            call.answered = call.output.is_some();
            let later = self.taken.entry(call.id).or_default();
            *later += usize::from(call.answered);
            if !call.answered {
                open.push(call.id);
            }
        }
        for call in &step.calls {
            self.taken.entry(call.id).or_default();
        }
        if let (Some(id), true) = (open.first(), self.strict) {
            let id = crate::wire::json::Escaped::trusted(id).decode();
            let message = format!("No tool output found for function call {id}.");
            return Err(Failure::bad_request(message).with_param("input"));
        }
        if end {
            step.calls.retain(|call| call.answered);
        }
        if !step.messages.is_empty() || !step.calls.is_empty() {
            self.order.turns.push(Turn::Assistant(step));
        }
        Ok(())
    }
}

/// False for what leaves nothing to send.
fn is_something(content: &Content<'_>) -> bool {
    match content {
        Content::Text(text) | Content::Refusal(text) => !text.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::request::Contents;
    use crate::wire::json::Escaped;

    /// `u` user, `d` developer, `m` assistant text, `r` reasoning, `cX` call X, `oX` output X.
    fn items(story: &str) -> Vec<Item<'_>> {
        let message = |role, text| Item::Message {
            role,
            content: Contents::One(Content::Text(Escaped::trusted(text))),
        };
        story
            .split_whitespace()
            .map(|word| match word.split_at(1) {
                ("u", _) => message(Role::User, word),
                ("d", _) => message(Role::Developer, word),
                ("m", _) => message(Role::Assistant, word),
                ("e", _) => message(Role::Assistant, ""),
                ("r", _) => Item::Reasoning {
                    id: None,
                    summary: vec![Escaped::trusted(word)],
                    text: Vec::new(),
                    sealed: None,
                },
                ("c", id) => Item::Call {
                    kind: CallKind::Function,
                    id: id.into(),
                    tool: ToolName::default(),
                    text: "{}".into(),
                },
                (_, id) => Item::Output {
                    kind: CallKind::Function,
                    id: id.into(),
                    content: Contents::One(Content::Text(Escaped::trusted(word))),
                },
            })
            .collect()
    }

    fn tell(story: &str) -> String {
        let items = items(story);
        let order = order(&items, false).unwrap();
        let text = |content: &[Content<'_>]| match content {
            [Content::Text(text)] => text.raw().to_owned(),
            other => format!("{other:?}"),
        };
        let mut told = Vec::new();
        for turn in &order.turns {
            told.push(match turn {
                Turn::Message { content, .. } => text(content),
                Turn::Summary { text } => (*text).to_owned(),
                Turn::Orphan { content, .. } => format!("orphan({})", text(content)),
                Turn::Assistant(step) => {
                    let mut parts: Vec<String> =
                        step.reasoning.iter().map(|r| r.summary[0].raw().to_owned()).collect();
                    parts.extend(step.messages.iter().map(|m| text(m)));
                    parts.extend(step.calls.iter().map(|call| {
                        format!("{}={}", call.id, call.output.map_or("none".to_owned(), text))
                    }));
                    format!("A({})", parts.join(" "))
                }
            });
        }
        told.join(" ")
    }

    #[test]
    fn turns_keep_every_rule() {
        let cases = [
            ("d u m", "d u A(m)"),
            ("u r c1 c2 o1 o2 m", "u A(r 1=o1 2=o2) A(m)"),
            ("u c1 o1 c2 o2", "u A(1=o1) A(2=o2)"),
            ("u c1 c2 d o2 o1 u2", "u A(1=o1 2=o2) d u2"),
            ("u c1 m o1", "u A(m 1=o1)"),
            ("u m r c1 o1", "u A(r m 1=o1)"),
            ("u m1 m2 u2", "u A(m1 m2) u2"),
            ("u r u2", "u u2"),
            ("u e u2", "u u2"),
            ("u c1", "u"),
            ("u m c1", "u A(m)"),
            ("u c1 u2", "u A(1=none) u2"),
            ("u o9 u2", "u orphan(o9) u2"),
            ("u c1 o1 o1", "u A(1=o1)"),
            ("u c1 o1 u2 c1 o1b", "u A(1=o1) u2 A(1=none) orphan(o1b)"),
            ("u c0 o0 u2 c0 o0", "u A(0=o0) u2 A(0=o0)"),
            ("u c1 d c2 o1 o2", "u A(1=o1) d A(2=o2)"),
            ("o1 c1", "orphan(o1)"),
        ];
        for (story, told) in cases {
            assert_eq!(tell(story), told, "{story}");
        }
    }

    #[test]
    fn strict_order_refuses_what_does_not_match() {
        for story in ["u c1 u2", "u o1", "u c1"] {
            assert!(order(&items(story), true).is_err(), "{story}");
        }
        assert!(order(&items("u c1 o1 m"), true).is_ok());
    }
}
