//! The stream's intermediate representation: what a model's answer is, in no vendor's words.
//!
//! Decoders push events, encoders take them; nothing else stands between two wire APIs. Texts stay
//! escaped, so a delta is copied and never decoded.
//!
//! ```text
//! answer = Start (part | Usage)* (Stop | Fail)
//! part   = Open (Delta | Annotation)* Seal? Close      parts never overlap
//! ```
//! One exception: a call that a limit cut stays open before `Stop(Length)` or `Stop(Filter)`, because
//! half a call must not look like a whole one.

use crate::fault::Failure;
use crate::wire::json::{Escaped, Raw};

/// One step of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// The upstream began to answer.
    Start {
        /// The upstream's own id of the answer; may be empty.
        id: Escaped<'a>,
        /// The upstream's own model name; may be empty.
        model: Escaped<'a>,
    },
    /// A part begins. Numbers count up from 0 and are never reused.
    Open {
        /// The part's number.
        part: u32,
        /// What it is.
        kind: Part<'a>,
    },
    /// More text of the open part.
    Delta {
        /// The part's number.
        part: u32,
        /// The text, never empty (unless only `logprobs` come).
        text: Escaped<'a>,
        /// Log probabilities of its tokens: the array's elements in both APIs' common shape
        /// (`[{token,logprob,bytes,top_logprobs}]`).
        logprobs: Option<Raw<'a>>,
    },
    /// An annotation of the open text part: one flat `url_citation` object in the Responses shape
    /// (`{"type":"url_citation","start_index","end_index","url","title"}`).
    Annotation {
        /// The part's number.
        part: u32,
        /// The object.
        object: Raw<'a>,
    },
    /// The opaque state that belongs to a reasoning part, to be replayed verbatim on the next turn
    /// (`encrypted_content` of a Responses reasoning item).
    Seal {
        /// The part's number.
        part: u32,
        /// The sealed state.
        opaque: Escaped<'a>,
    },
    /// The part is whole.
    Close {
        /// The part's number.
        part: u32,
    },
    /// Token counts; the last one counts.
    Usage(Usage),
    /// The answer ended as the model or a limit decided.
    Stop(Stop),
    /// The answer broke off. Parts may still be open.
    Fail(&'a Failure),
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text for the user.
    Text {
        /// Ordinal of the assistant message it belongs to: parts of one message share it.
        message: u32,
    },
    /// A refusal in the model's words.
    Refusal {
        /// As for text.
        message: u32,
    },
    /// The model's reasoning, as far as it is shown.
    Reasoning {
        /// True for the raw chain of thought, false for a summary made for readers.
        raw: bool,
    },
    /// A call of one of the client's tools; the deltas are its arguments or its input.
    Call(Call<'a>),
    /// An item that only one dialect knows (hosted tool calls, compaction ...), whole. No deltas.
    Opaque {
        /// The dialect's name that knows it.
        dialect: &'static str,
        /// The item.
        item: Raw<'a>,
    },
}

/// A tool call as the client's tool declaration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// How the client declared the tool.
    pub kind: CallKind,
    /// The call's id, which its output will carry; never empty.
    pub id: Escaped<'a>,
    /// The namespace that the client declared the tool in; empty when none.
    pub namespace: Escaped<'a>,
    /// The tool's name.
    pub name: Escaped<'a>,
}

/// The kinds of tool that a client runs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// Deltas are a JSON object as text (`arguments`).
    Function,
    /// Deltas are free text (`input`).
    Custom,
    /// Deltas are a JSON object as text; the client searches its own tools (`tool_search_call`).
    Search,
}

/// Token counts. Absent is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Of those, read from a cache.
    pub cached: u64,
    /// Of those, written to a cache.
    pub cache_write: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Of those, reasoning.
    pub reasoning: u64,
    /// The sum as the upstream gave it, or `input + output`.
    pub total: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The model was done, or hit a stop sequence.
    End,
    /// The model wants its tool calls answered.
    Tool,
    /// A token limit cut it.
    Length,
    /// A content filter cut it.
    Filter,
}

/// Where a decoder pushes its events.
pub type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// Checks that events follow the grammar of an answer: a reference for tests and fuzz targets, cheap
/// enough for a debug build.
///
/// A failure may stand alone: an upstream that only says why it will not answer never starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grammar {
    started: bool,
    over: bool,
    /// Parts opened so far.
    parts: u32,
    open: Option<Shape>,
    sealed: bool,
}

/// What of a part's kind decides which events it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Reasoning,
    Call,
    Refusal,
    Opaque,
}

impl Grammar {
    /// Takes the next event.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        if self.over {
            return Err("an event behind Stop or Fail");
        }
        match event {
            Event::Start { .. } if self.started => return Err("a second Start"),
            Event::Start { .. } => self.started = true,
            Event::Fail(_) => self.over = true,
            _ if !self.started => return Err("an event before Start"),
            Event::Open { part, kind } => self.opens(*part, kind)?,
            Event::Delta { part, text, logprobs } => {
                let shape = self.inside(*part)?;
                if self.sealed {
                    return Err("a Delta behind the Seal");
                }
                if shape == Shape::Opaque {
                    return Err("a Delta in an opaque part");
                }
                if text.is_empty() && logprobs.is_none() {
                    return Err("an empty Delta");
                }
            }
            Event::Annotation { part, .. } => {
                if self.inside(*part)? != Shape::Text {
                    return Err("an Annotation in a part that is no text");
                }
            }
            Event::Seal { part, .. } => {
                if self.inside(*part)? != Shape::Reasoning {
                    return Err("a Seal in a part that is no reasoning");
                }
                if self.sealed {
                    return Err("a second Seal");
                }
                self.sealed = true;
            }
            Event::Close { part } => {
                self.inside(*part)?;
                self.open = None;
            }
            Event::Usage(_) => {}
            Event::Stop(Stop::Length | Stop::Filter) if self.open == Some(Shape::Call) => {
                self.over = true;
            }
            Event::Stop(_) if self.open.is_some() => return Err("Stop while a part is open"),
            Event::Stop(_) => self.over = true,
        }
        Ok(())
    }

    /// True once `Stop` or `Fail` came.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn opens(&mut self, part: u32, kind: &Part<'_>) -> Result<(), &'static str> {
        if self.open.is_some() {
            return Err("an Open while a part is open");
        }
        if part != self.parts {
            return Err("a part number that does not count up from 0");
        }
        self.parts = self.parts.checked_add(1).ok_or("too many parts")?;
        self.sealed = false;
        self.open = Some(match kind {
            Part::Text { .. } => Shape::Text,
            Part::Refusal { .. } => Shape::Refusal,
            Part::Reasoning { .. } => Shape::Reasoning,
            Part::Call(call) if call.id.is_empty() => return Err("a call without an id"),
            Part::Call(call) if call.name.is_empty() && call.kind != CallKind::Search => {
                return Err("a call without a name");
            }
            Part::Call(_) => Shape::Call,
            Part::Opaque { .. } => Shape::Opaque,
        });
        Ok(())
    }

    /// The shape of the open part, which must be number `part`.
    fn inside(&self, part: u32) -> Result<Shape, &'static str> {
        match self.open {
            Some(shape) if part + 1 == self.parts => Ok(shape),
            Some(_) => Err("an event of another part than the open one"),
            None => Err("an event of a part while none is open"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Kind};

    fn verdict(events: &[Event<'_>]) -> Result<bool, &'static str> {
        let mut grammar = Grammar::default();
        for event in events {
            grammar.check(event)?;
        }
        Ok(grammar.is_over())
    }

    const START: Event<'_> = Event::Start { id: Escaped::EMPTY, model: Escaped::EMPTY };

    fn text(part: u32) -> Event<'static> {
        Event::Open { part, kind: Part::Text { message: 0 } }
    }

    fn reasoning(part: u32) -> Event<'static> {
        Event::Open { part, kind: Part::Reasoning { raw: false } }
    }

    fn call(part: u32, id: &str) -> Event<'_> {
        let (id, name) = (Escaped::trusted(id), Escaped::trusted("f"));
        let call = Call { kind: CallKind::Function, id, namespace: Escaped::EMPTY, name };
        Event::Open { part, kind: Part::Call(call) }
    }

    fn delta(part: u32, text: &str) -> Event<'_> {
        Event::Delta { part, text: Escaped::trusted(text), logprobs: None }
    }

    fn seal(part: u32) -> Event<'static> {
        Event::Seal { part, opaque: Escaped::trusted("sealed") }
    }

    fn close(part: u32) -> Event<'static> {
        Event::Close { part }
    }

    const STOP: Event<'_> = Event::Stop(Stop::End);

    #[test]
    fn legal_answers_pass() {
        let failure = Failure::new(Fault::upstream(Kind::Server), "no");
        let usage = Event::Usage(Usage::default());
        let answers: [&[Event<'_>]; 6] = [
            &[START, STOP],
            &[START, usage, text(0), delta(0, "a"), usage, delta(0, "b"), close(0), usage, STOP],
            &[START, reasoning(0), delta(0, "a"), seal(0), close(0), text(1), close(1), STOP],
            &[START, call(0, "c1"), delta(0, "{"), close(0), call(1, "c2"), close(1), STOP],
            &[START, text(0), delta(0, "a"), Event::Fail(&failure)],
            &[Event::Fail(&failure)],
        ];
        for answer in answers {
            assert_eq!(verdict(answer), Ok(true), "{answer:?}");
        }
        assert_eq!(verdict(&[START, text(0)]), Ok(false), "not over yet");
    }

    #[test]
    fn each_rule_is_told_when_it_is_broken() {
        let opaque = Event::Open { part: 0, kind: Part::Opaque { dialect: "x", item: Raw::NULL } };
        let annotation = Event::Annotation { part: 0, object: Raw::NULL };
        let cases: [(&[Event<'_>], &str); 17] = [
            (&[text(0)], "an event before Start"),
            (&[START, START], "a second Start"),
            (&[START, STOP, STOP], "an event behind Stop or Fail"),
            (&[START, text(1)], "a part number that does not count up from 0"),
            (&[START, text(0), close(0), text(0)], "a part number that does not count up from 0"),
            (&[START, text(0), text(1)], "an Open while a part is open"),
            (&[START, delta(0, "a")], "an event of a part while none is open"),
            (&[START, text(0), delta(1, "a")], "an event of another part than the open one"),
            (&[START, text(0), delta(0, "")], "an empty Delta"),
            (&[START, text(0), seal(0)], "a Seal in a part that is no reasoning"),
            (&[START, reasoning(0), seal(0), seal(0)], "a second Seal"),
            (&[START, reasoning(0), seal(0), delta(0, "a")], "a Delta behind the Seal"),
            (&[START, reasoning(0), annotation], "an Annotation in a part that is no text"),
            (&[START, opaque, delta(0, "a")], "a Delta in an opaque part"),
            (&[START, call(0, "")], "a call without an id"),
            (&[START, text(0), STOP], "Stop while a part is open"),
            (&[START, text(0), close(0), close(0)], "an event of a part while none is open"),
        ];
        for (events, rule) in cases {
            assert_eq!(verdict(events), Err(rule), "{events:?}");
        }
    }
}
