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
    /// Takes `stream_options.include_usage`.
    pub include_usage: bool,
    /// Takes OpenAI's own parameters: `verbosity`, `service_tier`, `prompt_cache_key`, `store`,
    /// `safety_identifier`, `user`, `moderation` and the `refusal` message field.
    pub openai_parameters: bool,
    /// Answers may hold `<think>...</think>` at the start of their text.
    pub think_tags: bool,
    /// Takes images.
    pub images: bool,
    /// Show reasoning to Responses clients as raw text instead of a summary.
    pub raw_reasoning: bool,
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
            include_usage: true,
            openai_parameters: false,
            think_tags: false,
            images: true,
            raw_reasoning: false,
        }
    }
}

impl Quirks {
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
            _ if is("minimax.io") || is("minimaxi.com") => Self { think_tags: true, ..base },
            _ => base,
        }
    }
}
