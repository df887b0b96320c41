//! Events folded into a whole answer: what a client that wants no stream gets, and what a stream's
//! closing events repeat.

use crate::dialect::event::{Call, CallKind, Event, Part, Stop, Usage};
use crate::fault::Failure;
use crate::wire::json::{Escaped, Raw};

/// A whole answer. Texts are escaped JSON text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The parts, in order.
    pub parts: Vec<AnswerPart>,
    /// Token counts, if the upstream gave any.
    pub usage: Option<Usage>,
    /// Why it ended; `None` when it failed or has not ended.
    pub stop: Option<Stop>,
    /// How it failed.
    pub failure: Option<Failure>,
}

/// One part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerPart {
    /// What it is.
    pub kind: AnswerKind,
    /// Its text, escaped.
    pub text: String,
    /// Elements of its `logprobs` array, without the brackets.
    pub logprobs: String,
    /// Elements of its `annotations` array, without the brackets.
    pub annotations: String,
    /// The sealed state, escaped.
    pub sealed: Option<String>,
    /// Whether it is whole.
    pub closed: bool,
}

/// [`Part`], owned.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of Part and Call, escaped text owned")]
pub enum AnswerKind {
    Text { message: u32 },
    Refusal { message: u32 },
    Reasoning { raw: bool },
    Call { kind: CallKind, id: String, namespace: String, name: String },
    Opaque { dialect: &'static str, item: String },
}

impl From<Part<'_>> for AnswerKind {
    fn from(part: Part<'_>) -> Self {
        match part {
            Part::Text { message } => Self::Text { message },
            Part::Refusal { message } => Self::Refusal { message },
            Part::Reasoning { raw } => Self::Reasoning { raw },
            Part::Call(Call { kind, id, namespace, name }) => Self::Call {
                kind,
                id: id.raw().to_owned(),
                namespace: namespace.raw().to_owned(),
                name: name.raw().to_owned(),
            },
            Part::Opaque { dialect, item } => {
                Self::Opaque { dialect, item: item.text().to_owned() }
            }
        }
    }
}

impl Answer {
    /// Adds one event.
    pub fn push(&mut self, event: Event<'_>) {
        match event {
            Event::Start { .. } => {}
            Event::Open { kind, .. } => {
                if self.parts.is_empty() {
                    // Most answers have one part, and a first push takes room for four.
                    self.parts.reserve_exact(1);
                }
                self.parts.push(AnswerPart::new(kind));
            }
            Event::Delta { text, logprobs, .. } => self.push_delta(text, logprobs),
            Event::Annotation { object, .. } => {
                if let Some(part) = self.parts.last_mut() {
                    if !part.annotations.is_empty() {
                        part.annotations.push(',');
                    }
                    part.annotations.push_str(object.text());
                }
            }
            Event::Seal { opaque, .. } => {
                if let Some(part) = self.parts.last_mut() {
                    part.sealed = Some(opaque.raw().to_owned());
                }
            }
            Event::Close { .. } => {
                if let Some(part) = self.parts.last_mut() {
                    part.closed = true;
                }
            }
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = Some(stop),
            Event::Fail(failure) => self.failure = Some(failure.clone()),
        }
    }

    /// Adds text to the last part, and the log probabilities of its tokens.
    #[inline]
    pub fn push_delta(&mut self, text: Escaped<'_>, logprobs: Option<Raw<'_>>) {
        if let Some(part) = self.parts.last_mut() {
            part.text.push_str(text.raw());
            if let Some(array) = logprobs {
                elements(array.text(), &mut part.logprobs);
            }
        }
    }

    /// True when a part is a tool call.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.kind, AnswerKind::Call { .. }))
    }
}

impl AnswerPart {
    /// A part that just began.
    #[must_use]
    pub fn new(kind: Part<'_>) -> Self {
        Self {
            kind: kind.into(),
            text: String::new(),
            logprobs: String::new(),
            annotations: String::new(),
            sealed: None,
            closed: false,
        }
    }

    /// The text, still escaped.
    #[must_use]
    pub fn text(&self) -> Escaped<'_> {
        Escaped::trusted(&self.text)
    }
}

/// Appends the elements of a JSON array, without its brackets, to a comma-separated list.
fn elements(array: &str, list: &mut String) {
    let inner = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.unwrap_or_default().trim();
    if inner.is_empty() {
        return;
    }
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(inner);
}
