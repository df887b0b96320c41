//! Puts parts that overlap upstream (parallel tool calls whose deltas alternate) one behind the
//! other, as the event grammar wants them: the first open part streams, the others wait whole.

use crate::dialect::event::{Call, Event, Part, Sink};
use crate::dialect::fold::{AnswerKind, AnswerPart};
use crate::wire::json::{Escaped, Raw};

/// Numbers parts and keeps them apart. Allocates only while parts overlap.
#[derive(Debug, Default)]
pub struct Lanes {
    next: u32,
    active: Option<u32>,
    waiting: Vec<(u32, AnswerPart)>,
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
            let mut waiting = crate::dialect::fold::Answer::default();
            waiting.push(Event::Open { part, kind });
            self.waiting.extend(waiting.parts.pop().map(|held| (part, held)));
        }
        part
    }

    /// Adds text to a part that is open. Text for any other part is dropped.
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
            || self.waiting.iter().any(|(number, held)| *number == part && !held.closed)
    }

    fn held(&mut self, part: u32) -> Option<&mut AnswerPart> {
        self.waiting.iter_mut().find(|(number, _)| *number == part).map(|(_, held)| held)
    }

    fn promote(&mut self, sink: &mut Sink<'_>) {
        while self.active.is_none() && !self.waiting.is_empty() {
            let (part, held) = self.waiting.remove(0);
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
