//! A request in no vendor's words: a flat list of conversation items, tools and settings, borrowed
//! from the client's body.
//!
//! The list is flat because that loses nothing: Chat's nested tool calls flatten into items, and
//! the Chat encoder groups them again under the upstream's ordering rules.

use crate::dialect::event::CallKind;
use crate::wire::json::{Escaped, Raw};
use std::borrow::Cow;

/// A whole request.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The model as the client names it.
    pub model: Escaped<'a>,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// Whether a Chat client wants the usage chunk. Responses clients always get usage.
    pub include_usage: bool,
    /// System text that stands outside the conversation (`instructions`).
    pub instructions: Option<Escaped<'a>>,
    /// The conversation.
    pub items: Vec<Item<'a>>,
    /// The tools, also those that came inside the conversation.
    pub tools: Vec<Tool<'a>>,
    /// Which tools may or must be called.
    pub choice: Choice<'a>,
    /// The tools that the choice is limited to (`allowed_tools`); empty = all.
    pub allowed: Vec<ToolName<'a>>,
    /// `parallel_tool_calls`.
    pub parallel: Option<bool>,
    /// Everything that is one value.
    pub settings: Settings<'a>,
    /// Names of what was dropped and matters, for `x-patchbay-dropped`.
    pub dropped: Vec<Cow<'a, str>>,
    /// What an answer repeats of the request as it came.
    pub echo: Echo<'a>,
    /// The answer is a summary that will stand for the conversation (`compaction_trigger`): a
    /// Responses client gets its text as one `compaction` item. The conversation's last message
    /// asks for it already.
    pub compact: bool,
    /// Some text has a `\u` escape of half a surrogate pair, maybe without its other half, which
    /// strict upstreams refuse.
    pub halves: bool,
}

/// The values that a Responses answer repeats verbatim, because their parts are taken apart here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo<'a> {
    /// The array `tools`; tools from inside the conversation are not in it.
    pub tools: Option<Raw<'a>>,
    /// `tool_choice`.
    pub choice: Option<Raw<'a>>,
}

/// The single-valued settings. Numbers stay as the client wrote them.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is the API field of its name; a comment where it is not")]
pub struct Settings<'a> {
    /// `max_output_tokens`, `max_completion_tokens` or `max_tokens`.
    pub output_tokens_max: Option<u64>,
    pub temperature: Option<Raw<'a>>,
    pub top_p: Option<Raw<'a>>,
    pub presence_penalty: Option<Raw<'a>>,
    pub frequency_penalty: Option<Raw<'a>>,
    /// `logprobs: true`, or `include: ["message.output_text.logprobs"]`.
    pub logprobs: bool,
    pub top_logprobs: Option<u64>,
    /// `reasoning.effort` or `reasoning_effort`.
    pub effort: Option<Escaped<'a>>,
    /// `reasoning.summary`.
    pub summary: Option<Escaped<'a>>,
    /// `text.verbosity` or `verbosity`.
    pub verbosity: Option<Escaped<'a>>,
    /// `text.format` or `response_format`.
    pub format: Format<'a>,
    pub service_tier: Option<Escaped<'a>>,
    pub prompt_cache_key: Option<Escaped<'a>>,
    pub prompt_cache_retention: Option<Raw<'a>>,
    pub prompt_cache_options: Option<Raw<'a>>,
    pub safety_identifier: Option<Escaped<'a>>,
    pub user: Option<Escaped<'a>>,
    pub metadata: Option<Raw<'a>>,
    pub moderation: Option<Raw<'a>>,
    pub store: Option<bool>,
    /// `include: ["reasoning.encrypted_content"]`, or a Chat client that replays opaque reasoning.
    pub include_sealed: bool,
    /// `stop`, Chat only: a string or an array of strings.
    pub stop: Option<Raw<'a>>,
    pub seed: Option<Raw<'a>>,
    pub logit_bias: Option<Raw<'a>>,
    pub prediction: Option<Raw<'a>>,
    pub web_search_options: Option<Raw<'a>>,
    pub truncation: Option<Escaped<'a>>,
    pub max_tool_calls: Option<u64>,
    pub include_obfuscation: Option<bool>,
    /// `x_codex`: how a local `codex exec` is to run, checked by its dialect.
    pub x_codex: Option<Raw<'a>>,
    /// True when a Chat client used the legacy `functions` and must get `function_call` back.
    pub legacy_functions: bool,
}

/// The output format asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format<'a> {
    /// Plain text, said or not.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// The schema's name.
        name: Escaped<'a>,
        /// What it is for.
        description: Option<Escaped<'a>>,
        /// The schema.
        schema: Raw<'a>,
        /// Whether it binds.
        strict: Option<bool>,
    },
}

/// One step of the conversation.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// Somebody's words.
    Message {
        /// Whose.
        role: Role,
        /// What.
        content: Contents<'a>,
    },
    /// The model's earlier reasoning.
    Reasoning {
        /// The item's id, kept only towards the dialect that made it.
        id: Option<Escaped<'a>>,
        /// Summary texts.
        summary: Vec<Escaped<'a>>,
        /// Raw chain of thought.
        text: Vec<Escaped<'a>>,
        /// `encrypted_content`, verbatim.
        sealed: Option<Escaped<'a>>,
    },
    /// The model called a tool.
    Call {
        /// How the tool was declared.
        kind: CallKind,
        /// The call's id.
        id: Cow<'a, str>,
        /// The tool.
        tool: ToolName<'a>,
        /// `arguments` (the text of a JSON object) or `input`; for [`CallKind::Search`] the
        /// object's text, escaped.
        text: Cow<'a, str>,
    },
    /// What the tool gave back.
    Output {
        /// How the tool was declared, as far as the item says it.
        kind: CallKind,
        /// The call's id.
        id: Cow<'a, str>,
        /// The result.
        content: Contents<'a>,
    },
    /// A summary that stands for an earlier part of the conversation, made by this proxy.
    Summary {
        /// The text, escaped.
        text: Cow<'a, str>,
    },
    /// An item that only its own dialect knows; other dialects drop it and say so.
    Opaque {
        /// The item's `type`.
        kind: Escaped<'a>,
        /// The item.
        item: Raw<'a>,
    },
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// A piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Text.
    Text(Escaped<'a>),
    /// The model's refusal.
    Refusal(Escaped<'a>),
    /// An image by URL or data URL.
    Image {
        /// The URL.
        url: Escaped<'a>,
        /// `auto`, `low`, `high`, `original`.
        detail: Option<Escaped<'a>>,
    },
    /// A file, inline (a data URL) or by the upstream's own id.
    File {
        /// `file_data`.
        data: Option<Escaped<'a>>,
        /// `file_id`.
        id: Option<Escaped<'a>>,
        /// `file_url`.
        url: Option<Escaped<'a>>,
        /// `filename`.
        name: Option<Escaped<'a>>,
    },
    /// An image by the upstream's own file id.
    ImageFile {
        /// `file_id`.
        id: Escaped<'a>,
        /// As for images.
        detail: Option<Escaped<'a>>,
    },
    /// Audio, base64.
    Audio {
        /// The bytes.
        data: Escaped<'a>,
        /// `wav`, `mp3` ...
        format: Escaped<'a>,
    },
    /// A part that only its own dialect knows.
    Opaque(Raw<'a>),
}

/// Pieces of content in their order. One alone, as most messages and outputs have it, needs no memory
/// of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// One.
    One(Content<'a>),
    /// Any other number.
    Many(Vec<Content<'a>>),
}

impl<'a> Contents<'a> {
    /// No content.
    pub const NONE: Self = Self::Many(Vec::new());

    /// Adds a piece at the end.
    pub fn push(&mut self, content: Content<'a>) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, content]),
            Self::Many(list) if list.is_empty() => *self = Self::One(content),
            Self::Many(list) => list.push(content),
        }
    }
}

impl Default for Contents<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> FromIterator<Content<'a>> for Contents<'a> {
    fn from_iter<I: IntoIterator<Item = Content<'a>>>(pieces: I) -> Self {
        let mut contents = Self::NONE;
        pieces.into_iter().for_each(|content| contents.push(content));
        contents
    }
}

impl<'a> std::ops::Deref for Contents<'a> {
    type Target = [Content<'a>];

    fn deref(&self) -> &[Content<'a>] {
        match self {
            Self::One(content) => std::slice::from_ref(content),
            Self::Many(list) => list,
        }
    }
}

/// A tool's name inside its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ToolName<'a> {
    /// Empty when the tool stands in no namespace.
    pub namespace: Escaped<'a>,
    /// The name.
    pub name: Escaped<'a>,
}

/// A tool that the client offers.
#[derive(Clone, Debug)]
pub struct Tool<'a> {
    /// How it is declared.
    pub kind: ToolKind<'a>,
    /// Its name; empty for hosted tools.
    pub name: ToolName<'a>,
    /// What it does.
    pub description: Option<Escaped<'a>>,
    /// The declaration as the client wrote it, for the echo and for dialects that pass it on.
    pub raw: Raw<'a>,
}

/// How a tool is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind<'a> {
    /// With a JSON schema.
    Function {
        /// The schema; `None` or `null` means no arguments.
        parameters: Option<Raw<'a>>,
        /// Whether the schema binds.
        strict: Option<bool>,
    },
    /// With free text, maybe under a grammar.
    Custom {
        /// `lark` or `regex`.
        syntax: Option<Escaped<'a>>,
        /// The grammar.
        grammar: Option<Escaped<'a>>,
    },
    /// The client searches its own deferred tools.
    Search {
        /// The schema of its arguments.
        parameters: Option<Raw<'a>>,
    },
    /// Run by the upstream (`web_search` ...): only its own dialect knows it.
    Hosted {
        /// The declaration's `type`.
        kind: Escaped<'a>,
    },
}

/// Which tools may or must be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Nothing said.
    #[default]
    Unset,
    /// The model decides.
    Auto,
    /// No call.
    None,
    /// At least one call.
    Required,
    /// This tool.
    Tool {
        /// How it was declared.
        kind: CallKind,
        /// Its name.
        name: ToolName<'a>,
    },
    /// A hosted tool.
    Hosted {
        /// Its `type`.
        kind: Escaped<'a>,
    },
}
