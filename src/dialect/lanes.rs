//! Puts parts that overlap upstream (parallel tool calls whose deltas alternate) one behind the
//! other, as the event grammar wants them: the first open part streams, the others wait whole.

use crate::dialect::event::{Call, Event, Part, Sink};
use crate::dialect::fold::{AnswerKind, AnswerPart};
use crate::wire::json::{Escaped, Raw};
use std::collections::VecDeque;

/// Numbers parts and keeps them apart. Allocates only while parts overlap.
#[derive(Debug, Default)]
pub struct Lanes {
    next: u32,
    active: Option<u32>,
    /// Their numbers count up without a gap, so a part's place follows from its number.
    waiting: VecDeque<(u32, AnswerPart)>,
}

impl Lanes {
    /// Opens a part and returns its number.
    pub fn open(&mut self, kind: Part<'_>, sink: &mut Sink<'_>) -> u32 {
        let part = self.next;
        self.next += 1;
        if self.active.is_none() {
            self.active = Some(part);
            sink(Event::Open { part, kind });
        } else {
            self.waiting.push_back((part, AnswerPart::new(kind)));
        }
        part
    }

    /// Adds text to a part that is open. Text for any other part is dropped.
    #[inline]
    pub fn delta(
        &mut self,
        part: u32,
        text: Escaped<'_>,
        logprobs: Option<Raw<'_>>,
        sink: &mut Sink<'_>,
    ) {
        if self.active == Some(part) {
            if !text.is_empty() || logprobs.is_some() {
                sink(Event::Delta { part, text, logprobs });
            }
        } else if let Some(held) = self.held(part) {
            held.text.push_str(text.raw());
        }
    }

    /// Adds an annotation to a part that is open.
    pub fn annotate(&mut self, part: u32, object: Raw<'_>, sink: &mut Sink<'_>) {
        if self.active == Some(part) {
            sink(Event::Annotation { part, object });
        } else if let Some(held) = self.held(part) {
            if !held.annotations.is_empty() {
                held.annotations.push(',');
            }
            held.annotations.push_str(object.text());
        }
    }

    /// Seals a part that is open.
    pub fn seal(&mut self, part: u32, opaque: Escaped<'_>, sink: &mut Sink<'_>) {
        if self.active == Some(part) {
            sink(Event::Seal { part, opaque });
        } else if let Some(held) = self.held(part) {
            held.sealed = Some(opaque.raw().to_owned());
        }
    }

    /// Closes a part; the next waiting one becomes active.
    pub fn close(&mut self, part: u32, sink: &mut Sink<'_>) {
        if self.active == Some(part) {
            sink(Event::Close { part });
            self.active = None;
            self.promote(sink);
        } else if let Some(held) = self.held(part) {
            held.closed = true;
        }
    }

    /// The part that streams now.
    #[must_use]
    pub fn active(&self) -> Option<u32> {
        self.active
    }

    /// True while `part` is open, active or waiting.
    #[must_use]
    pub fn is_open(&self, part: u32) -> bool {
        self.active == Some(part)
            || self.place(part).and_then(|at| self.waiting.get(at)).is_some_and(|it| !it.1.closed)
    }

    fn held(&mut self, part: u32) -> Option<&mut AnswerPart> {
        let (_, held) = self.waiting.get_mut(self.place(part)?)?;
        (!held.closed).then_some(held)
    }

    fn place(&self, part: u32) -> Option<usize> {
        let (first, _) = self.waiting.front()?;
        usize::try_from(part.checked_sub(*first)?).ok()
    }

    fn promote(&mut self, sink: &mut Sink<'_>) {
        while self.active.is_none()
            && let Some((part, held)) = self.waiting.pop_front()
        {
            sink(Event::Open { part, kind: borrow(&held.kind) });
            if !held.text.is_empty() {
                sink(Event::Delta { part, text: held.text(), logprobs: None });
            }
            let annotations = format!("[{}]", held.annotations);
            // What was joined here can be taken apart again.
            let _ = Raw::trusted(&annotations).cursor().array(|cursor| {
                sink(Event::Annotation { part, object: cursor.skip()? });
                Ok(())
            });
            if let Some(opaque) = &held.sealed {
                sink(Event::Seal { part, opaque: Escaped::trusted(opaque) });
            }
            if held.closed {
                sink(Event::Close { part });
            } else {
                self.active = Some(part);
            }
        }
    }
}

fn borrow(kind: &AnswerKind) -> Part<'_> {
    match kind {
        AnswerKind::Text { message } => Part::Text { message: *message },
        AnswerKind::Refusal { message } => Part::Refusal { message: *message },
        AnswerKind::Reasoning { raw } => Part::Reasoning { raw: *raw },
        AnswerKind::Call { kind, id, namespace, name } => Part::Call(Call {
            kind: *kind,
            id: Escaped::trusted(id),
            namespace: Escaped::trusted(namespace),
            name: Escaped::trusted(name),
        }),
        AnswerKind::Opaque { dialect, item } => Part::Opaque { dialect, item: Raw::trusted(item) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interleaves `count` calls and returns what came out, one word an event.
    fn interleaved(count: u32) -> Vec<String> {
        let mut seen = Vec::new();
        let mut sink = |event: Event<'_>| {
            seen.push(match event {
                Event::Open { part, .. } => format!("open {part}"),
                Event::Delta { part, text, .. } => format!("{part}:{}", text.raw()),
                Event::Close { part } => format!("close {part}"),
                other => format!("{other:?}"),
            });
        };
        let mut lanes = Lanes::default();
        let id = Escaped::trusted("c");
        let kind = crate::dialect::event::CallKind::Function;
        let call = Part::Call(Call { kind, id, namespace: Escaped::EMPTY, name: id });
        let parts: Vec<u32> = (0..count).map(|_| lanes.open(call, &mut sink)).collect();
        for text in ["a", "b"] {
            for &part in &parts {
                lanes.delta(part, Escaped::trusted(text), None, &mut sink);
            }
        }
        assert!(parts.iter().all(|&part| lanes.is_open(part)));
        for &part in parts.iter().rev() {
            lanes.close(part, &mut sink);
            assert!(!lanes.is_open(part));
            lanes.delta(part, Escaped::trusted("late"), None, &mut sink);
        }
        seen
    }

    #[test]
    fn parts_that_overlap_come_one_behind_the_other() {
        let mut expected = vec!["open 0", "0:a", "0:b", "close 0"];
        expected.extend(["open 1", "1:ab", "close 1", "open 2", "2:ab", "close 2"]);
        assert_eq!(interleaved(3), expected);
    }
}
