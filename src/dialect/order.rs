//! The order of messages that upstreams with roles enforce: an assistant message with tool calls is
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
use crate::wire::json::Escaped;
use std::collections::HashMap;
use std::ops::Range;

/// A step of the conversation in this order.
#[derive(Debug)]
pub(super) enum Turn<'r> {
    /// System, developer or user.
    Message { role: Role, content: &'r [Content<'r>] },
    /// What stands for an earlier part of the conversation, escaped.
    Summary { text: &'r str },
    /// The model, and the outputs of its calls.
    Assistant(Step),
    /// A tool's output whose call is not there.
    Orphan { id: &'r str, content: &'r [Content<'r>] },
}

/// One step of the model: where its parts stand in the [`Order`].
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    messages: Range<usize>,
    reasoning: Range<usize>,
    calls: Range<usize>,
}

/// [`Item::Reasoning`] by reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reasoning<'r> {
    pub(super) summary: &'r [Escaped<'r>],
    pub(super) text: &'r [Escaped<'r>],
    pub(super) sealed: Option<Escaped<'r>>,
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
    /// Which id it has: its place in [`Walk::ids`].
    known: usize,
    /// The next call of its step with the same id.
    twin: Option<usize>,
}

/// The turns, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Order<'r> {
    pub(super) turns: Vec<Turn<'r>>,
    /// Names for `x-patchbay-dropped`.
    pub(super) dropped: Vec<String>,
    /// Index of the last turn in which the user spoke.
    pub(super) last_user: Option<usize>,
    messages: Vec<&'r [Content<'r>]>,
    reasoning: Vec<Reasoning<'r>>,
    calls: Vec<Planned<'r>>,
}

impl<'r> Order<'r> {
    /// The contents of a step's messages.
    pub(super) fn messages(&self, step: &Step) -> &[&'r [Content<'r>]] {
        self.messages.get(step.messages.clone()).unwrap_or_default()
    }

    /// The reasoning items of a step.
    pub(super) fn reasoning(&self, step: &Step) -> &[Reasoning<'r>] {
        self.reasoning.get(step.reasoning.clone()).unwrap_or_default()
    }

    /// The calls of a step.
    pub(super) fn calls(&self, step: &Step) -> &[Planned<'r>] {
        self.calls.get(step.calls.clone()).unwrap_or_default()
    }
}

/// Orders a conversation.
///
/// # Errors
/// With `strict`, a call without output or an output without call.
pub(super) fn order<'r>(items: &'r [Item<'r>], strict: bool) -> Result<Order<'r>, Failure> {
    let mut walk = Walk { items, strict, ..Walk::default() };
    walk.order.turns.reserve(items.len() / 2 + 1);
    walk.number();
    for (index, item) in items.iter().enumerate() {
        walk.item(index, item)?;
    }
    walk.flush(true)?;
    Ok(walk.order)
}

/// What is known of one call id.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The item with the first output that no call took yet.
    output: Option<usize>,
    /// How many outputs were taken by calls before they came by; `None` before any call left.
    taken: Option<usize>,
    /// The pending calls: the first without an output, and the last of all.
    waiting: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug, Default)]
struct Walk<'r> {
    order: Order<'r>,
    /// The step that is not emitted yet: everything behind these places.
    pending: Step,
    /// Calls of the pending step that have no output yet.
    waiting: usize,
    /// Every call id.
    ids: Vec<Known>,
    /// For each item.
    links: Vec<Link>,
    items: &'r [Item<'r>],
    strict: bool,
}

/// What ties an item to others.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Which call id it has: the place in [`Walk::ids`].
    known: usize,
    /// For an output, the next one of the same id.
    next: Option<usize>,
}

impl<'r> Walk<'r> {
    /// Finds the ids, so that each item's is looked up once.
    fn number(&mut self) {
        let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(self.items.len() / 2);
        self.links.resize(self.items.len(), Link::default());
        for (index, item) in self.items.iter().enumerate().rev() {
            let (Item::Call { id, .. } | Item::Output { id, .. }) = item else { continue };
            let known = *numbers.entry(id).or_insert(self.ids.len());
            if known == self.ids.len() {
                self.ids.push(Known::default());
            }
            let is_output = matches!(item, Item::Output { .. });
            let next = if is_output { self.ids[known].output.replace(index) } else { None };
            self.links[index] = Link { known, next };
        }
    }

    fn item(&mut self, index: usize, item: &'r Item<'r>) -> Result<(), Failure> {
        match item {
            Item::Message { role: Role::Assistant, content } => {
                if content.iter().any(is_something) {
                    self.order.messages.push(content);
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
                self.order.reasoning.push(Reasoning { summary, text, sealed: *sealed });
            }
            Item::Call { kind, id, tool, text } => {
                let (known, at) = (self.links[index].known, self.order.calls.len());
                let id_known = &mut self.ids[known];
                if let Some(last) = id_known.last.replace(at) {
                    self.order.calls[last].twin = Some(at);
                }
                id_known.waiting.get_or_insert(at);
                self.waiting += 1;
                let (kind, tool) = (*kind, *tool);
                let call = Planned { kind, id, tool, text, output: None, known, twin: None };
                self.order.calls.push(call);
            }
            Item::Output { id, content, .. } => self.output(index, id, content)?,
            Item::Summary { text } => {
                self.flush(false)?;
                self.order.turns.push(Turn::Summary { text });
            }
            Item::Opaque { kind, .. } => self.order.dropped.push(kind.decode().into_owned()),
        }
        Ok(())
    }

    fn output(
        &mut self,
        index: usize,
        id: &'r str,
        content: &'r [Content<'r>],
    ) -> Result<(), Failure> {
        let known = self.links[index].known;
        let of_id = &mut self.ids[known];
        if let Some(count) = of_id.taken.as_mut().filter(|count| **count > 0) {
            *count -= 1;
            return Ok(());
        }
        if let Some(at) = of_id.waiting {
            let call = &mut self.order.calls[at];
            call.output = Some(content);
            of_id.waiting = call.twin;
            self.take(known);
            self.waiting -= 1;
            if self.waiting == 0 {
                self.flush(false)?;
            }
            return Ok(());
        }
        if of_id.taken.is_some() || of_id.last.is_some() {
            self.order.dropped.push("a second output of one tool call".to_owned());
            return Ok(());
        }
        if self.strict {
            let id = Escaped::trusted(id).decode();
            let message = format!("No tool call found for function call output with call_id {id}.");
            return Err(Failure::bad_request(message).with_param("input"));
        }
        self.flush(false)?;
        self.take(known);
        self.order.turns.push(Turn::Orphan { id, content });
        Ok(())
    }

    /// Takes the first output of an id that is left.
    fn take(&mut self, known: usize) -> Option<&'r [Content<'r>]> {
        let index = self.ids[known].output?;
        self.ids[known].output = self.links[index].next;
        match &self.items[index] {
            Item::Output { content, .. } => Some(content),
            _ => None,
        }
    }

    /// Emits the pending step. The outputs of its calls that come later are taken now.
    fn flush(&mut self, end: bool) -> Result<(), Failure> {
        let mut step = Step {
            messages: self.pending.messages.start..self.order.messages.len(),
            reasoning: self.pending.reasoning.start..self.order.reasoning.len(),
            calls: self.pending.calls.start..self.order.calls.len(),
        };
        let mut open = None;
        for at in step.calls.clone() {
            let Planned { id, known, output, .. } = self.order.calls[at];
            let output = if output.is_some() {
                None
            } else {
                let later = self.take(known);
                open = if later.is_none() { open.or(Some(id)) } else { open };
                self.order.calls[at].output = later;
                later
            };
            let of_id = &mut self.ids[known];
            *of_id.taken.get_or_insert(0) += usize::from(output.is_some());
            (of_id.waiting, of_id.last) = (None, None);
        }
        self.waiting = 0;
        if let (Some(id), true) = (open, self.strict) {
            let id = Escaped::trusted(id).decode();
            let message = format!("No tool output found for function call {id}.");
            return Err(Failure::bad_request(message).with_param("input"));
        }
        if end {
            // Nothing stands behind the last step.
            let mut at = 0;
            self.order.calls.retain(|call| {
                at += 1;
                at <= step.calls.start || call.output.is_some()
            });
            step.calls.end = self.order.calls.len();
        }
        let behind = |range: &Range<usize>| range.end..range.end;
        self.pending = Step {
            messages: behind(&step.messages),
            reasoning: behind(&step.reasoning),
            calls: behind(&step.calls),
        };
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
                    let reasoning = order.reasoning(step).iter();
                    let mut parts: Vec<String> =
                        reasoning.map(|r| r.summary[0].raw().to_owned()).collect();
                    parts.extend(order.messages(step).iter().map(|m| text(m)));
                    parts.extend(order.calls(step).iter().map(|call| {
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
