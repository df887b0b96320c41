//! What upstreams of one dialect do differently, as data. A provider is a dialect, a URL, a
//! credential and these.

use serde::{Deserialize, Serialize};

/// The habits of one upstream. Every field is a key of `[providers.NAME.quirks]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches of a configuration table")]
pub struct Quirks {
    /// The role that system text gets.
    pub system_role: SystemRole,
    /// Only one system message, at the front: merge all, later ones become user messages.
    pub one_system_message: bool,
    /// The parameter that limits the answer's tokens.
    pub token_limit: TokenLimit,
    /// The field for reasoning text in requests.
    pub reasoning_field: ReasoningField,
    /// When earlier reasoning text goes back to the upstream.
    pub reasoning_back: ReasoningBack,
    /// How the reasoning effort is said.
    pub effort: EffortStyle,
    /// Takes `{"type":"custom"}` tools; otherwise they become functions with one string `input`.
    pub custom_tools: bool,
    /// Takes `strict` in function tools.
    pub strict_tools: bool,
    /// Takes `tool_choice: {"type":"allowed_tools"}`; otherwise the tool list is filtered.
    pub allowed_tools: bool,
    /// Takes `parallel_tool_calls`.
    pub parallel_tool_calls: bool,
    /// Takes `response_format: json_schema`.
    pub json_schema: bool,
    /// What requests say of the upstream's own filter (`profanity_check` of GigaChat); `None` leaves
    /// it to the upstream.
    pub profanity_check: Option<bool>,
    /// Takes `stream_options.include_usage`.
    pub include_usage: bool,
    /// Takes OpenAI's own parameters: `verbosity`, `service_tier`, `prompt_cache_key`, `store`,
    /// `safety_identifier`, `user`, `moderation` and the `refusal` message field.
    pub openai_parameters: bool,
    /// Answers may hold `<think>...</think>` at the start of their text.
    pub think_tags: bool,
    /// Takes images.
    pub images: bool,
    /// Images that a request names by `https` URLs are fetched here, where they have to be uploaded.
    pub image_urls: bool,
    /// Show reasoning to Responses clients as raw text instead of a summary.
    pub raw_reasoning: bool,
    /// Answers only in streams: a client that wants a document gets one folded here.
    pub forced_stream: bool,
    /// Keeps nothing: `store` is false whatever a client says, and references to kept items go.
    pub forced_store_off: bool,
    /// Wants `instructions` that are not empty.
    pub instructions_required: bool,
    /// Parameters that are left out, by their names in the upstream's request.
    pub refused_parameters: Vec<String>,
    /// Items of a conversation go without ids, and a tool's output without its call as text.
    pub plain_input: bool,
    /// Model names may end in an effort (`-high`), and efforts are moved to what a model takes.
    pub effort_table: bool,
    /// Requests carry the header fields of the Codex CLI.
    pub codex_headers: bool,
}

/// The role for system text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemRole {
    /// `system`, understood everywhere.
    System,
    /// `developer`, for OpenAI's reasoning models.
    Developer,
}

/// The parameter that limits the answer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenLimit {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// The field that carries reasoning text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasoningField {
    /// `reasoning_content` (DeepSeek and most others).
    ReasoningContent,
    /// `reasoning` (OpenRouter, Groq, Ollama, newer vLLM).
    Reasoning,
}

/// When earlier reasoning goes back upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasoningBack {
    /// Never.
    Never,
    /// With assistant messages that call tools, after the last user message.
    ToolTurns,
    /// With every assistant message.
    Always,
}

/// How the reasoning effort is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffortStyle {
    /// `reasoning_effort`, any value passes (OpenAI).
    Passed,
    /// `reasoning_effort`, clamped to `low`, `medium`, `high`; `none` is left out.
    LowMediumHigh,
    /// `reasoning: {"effort": ...}` (OpenRouter).
    ReasoningObject,
    /// `thinking: {"type": "enabled" | "disabled"}` (DeepSeek, GLM, Kimi).
    Thinking,
    /// `enable_thinking: bool` (Qwen on `DashScope`).
    EnableThinking,
    /// `chat_template_kwargs: {"enable_thinking": bool}` (vLLM, `SGLang`).
    TemplateKwargs,
    /// Left out.
    Omit,
}

impl Default for Quirks {
    /// A careful guess for an unknown Chat Completions server.
    fn default() -> Self {
        Self {
            system_role: SystemRole::System,
            one_system_message: false,
            token_limit: TokenLimit::MaxTokens,
            reasoning_field: ReasoningField::ReasoningContent,
            reasoning_back: ReasoningBack::ToolTurns,
            effort: EffortStyle::LowMediumHigh,
            custom_tools: false,
            strict_tools: false,
            allowed_tools: false,
            parallel_tool_calls: true,
            json_schema: true,
            profanity_check: None,
            include_usage: true,
            openai_parameters: false,
            think_tags: false,
            images: true,
            image_urls: false,
            raw_reasoning: false,
            forced_stream: false,
            forced_store_off: false,
            instructions_required: false,
            refused_parameters: Vec::new(),
            plain_input: false,
            effort_table: false,
            codex_headers: false,
        }
    }
}

/// What the Codex backend refuses: each is answered with a 400 that names it.
const CODEX_REFUSED: [&str; 19] = [
    "background",
    "frequency_penalty",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "moderation",
    "presence_penalty",
    "previous_response_id",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "service_tier",
    "stream_options",
    "temperature",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

impl Quirks {
    /// The backend behind ChatGPT plans, and what imitates it.
    fn codex_backend() -> Self {
        Self {
            forced_stream: true,
            forced_store_off: true,
            instructions_required: true,
            refused_parameters: CODEX_REFUSED.map(str::to_owned).to_vec(),
            plain_input: true,
            effort_table: true,
            codex_headers: true,
            ..Self::for_host("openai.com")
        }
    }

    /// True when requests have to be written anew even for clients of the upstream's own dialect.
    #[must_use]
    pub fn rewrites(&self) -> bool {
        self.forced_stream
            || self.forced_store_off
            || self.instructions_required
            || self.plain_input
            || self.effort_table
            || !self.refused_parameters.is_empty()
    }

    /// Whether a request may carry this parameter.
    #[must_use]
    pub fn takes(&self, parameter: &str) -> bool {
        !self.refused_parameters.iter().any(|refused| refused == parameter)
    }

    /// The habits known for an upstream's host name; the default for any other.
    #[must_use]
    pub fn for_host(host: &str) -> Self {
        let base = Self::default();
        let is = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        if is("openai.com") || is("openai.azure.com") {
            return Self {
                system_role: SystemRole::Developer,
                token_limit: TokenLimit::MaxCompletionTokens,
                reasoning_back: ReasoningBack::Never,
                effort: EffortStyle::Passed,
                custom_tools: true,
                strict_tools: true,
                allowed_tools: true,
                openai_parameters: true,
                ..base
            };
        }
        if is("chatgpt.com") {
            return Self::codex_backend();
        }
        let openrouter = Self {
            reasoning_field: ReasoningField::Reasoning,
            effort: EffortStyle::ReasoningObject,
            ..base.clone()
        };
        let thinking = Self { effort: EffortStyle::Thinking, ..base.clone() };
        match host {
            _ if is("openrouter.ai") => openrouter,
            _ if is("deepseek.com") || is("moonshot.ai") || is("moonshot.cn") => thinking,
            _ if is("z.ai") || is("bigmodel.cn") => thinking,
            _ if is("aliyuncs.com") => Self { effort: EffortStyle::EnableThinking, ..base },
            _ if is("groq.com") => Self { reasoning_field: ReasoningField::Reasoning, ..base },
            _ if is("mistral.ai") => {
                Self { effort: EffortStyle::Omit, reasoning_back: ReasoningBack::Never, ..base }
            }
            _ if is("giga.chat") || is("devices.sberbank.ru") => {
                Self { parallel_tool_calls: false, images: false, ..base }
            }
            _ if is("minimax.io") || is("minimaxi.com") => Self { think_tags: true, ..base },
            _ => base,
        }
    }
}
