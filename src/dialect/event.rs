//! The stream's intermediate representation: what a model's answer is, in no vendor's words.
//!
//! Decoders push events, encoders take them; nothing else stands between two wire APIs. Texts stay
//! escaped, so a delta is copied and never decoded.
//!
//! ```text
//! answer = Start (part | Usage)* (Stop | Fail)
//! part   = Open (Delta | Annotation)* Seal? Close      parts never overlap
//! ```

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
