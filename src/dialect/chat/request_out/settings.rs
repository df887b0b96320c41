//! The single-valued parameters.

use super::Body;
use crate::dialect::quirks::{EffortStyle, TokenLimit};
use crate::dialect::request::Format;
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Kind, Raw};

impl Body<'_, '_> {
    /// Appends every setting that the upstream knows.
    pub(super) fn settings(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.stream(out);
        self.sampling(out)?;
        self.effort(out)?;
        self.format(out)?;
        self.openai(out)?;
        let settings = &self.request.settings;
        for (name, value) in [
            ("stop", settings.stop),
            ("seed", settings.seed),
            ("logit_bias", settings.logit_bias),
            ("prediction", settings.prediction),
        ] {
            if let Some(value) = value.filter(|value| !value.is_null() && value.text() != "[]") {
                self.raw(name, value, out);
            }
        }
        if settings.truncation.is_some_and(|truncation| truncation.is("auto")) {
            self.drop("truncation")?;
        }
        Ok(())
    }

    fn stream(&self, out: &mut Vec<u8>) {
        if !self.target.stream {
            return;
        }
        json::member_raw("stream", "true", out);
        let obfuscation = self.request.settings.include_obfuscation;
        let obfuscation = obfuscation.filter(|_| self.quirks.openai_parameters);
        if !self.quirks.include_usage && obfuscation.is_none() {
            return;
        }
        json::key("stream_options", out);
        out.push(b'{');
        if self.quirks.include_usage {
            json::member_raw("include_usage", "true", out);
        }
        if let Some(wanted) = obfuscation {
            let value = if wanted { "true" } else { "false" };
            json::member_raw("include_obfuscation", value, out);
        }
        out.push(b'}');
    }

    fn sampling(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let settings = &self.request.settings;
        if let Some(max) = settings.output_tokens_max {
            let name = match self.quirks.token_limit {
                TokenLimit::MaxTokens => "max_tokens",
                TokenLimit::MaxCompletionTokens => "max_completion_tokens",
            };
            json::member_number(name, max, out);
        }
        let refused = self.rejects_sampling();
        for (name, value) in [("temperature", settings.temperature), ("top_p", settings.top_p)] {
            match value.filter(|value| !value.is_null()) {
                // These models take the default only.
                Some(value) if refused && !matches!(value.text(), "1" | "1.0") => {
                    self.drop(name)?;
                }
                Some(value) if !refused => self.raw(name, value, out),
                _ => {}
            }
        }
        for (name, value) in [
            ("presence_penalty", settings.presence_penalty),
            ("frequency_penalty", settings.frequency_penalty),
        ] {
            // Zero is the default and says nothing; some servers refuse the name.
            let value = value.filter(|value| !matches!(value.text(), "null" | "0" | "0.0"));
            if let Some(value) = value {
                self.raw(name, value, out);
            }
        }
        if settings.logprobs || settings.top_logprobs.is_some_and(|n| n > 0) {
            json::member_raw("logprobs", "true", out);
            if let Some(n) = settings.top_logprobs.filter(|n| *n > 0) {
                json::member_number("top_logprobs", n, out);
            }
        }
        Ok(())
    }

    /// `OpenAI`'s reasoning models answer 400 to sampling parameters unless their effort is `none`.
    fn rejects_sampling(&self) -> bool {
        let model = self.target.model;
        let family = ["o1", "o3", "o4", "gpt-5"].iter().any(|name| model.starts_with(name));
        let quiet = self.request.settings.effort.is_some_and(|effort| effort.is("none"));
        self.quirks.openai_parameters && family && !model.contains("chat") && !quiet
    }

    fn effort(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(effort) = self.request.settings.effort else { return Ok(()) };
        let plain = effort.decode();
        let off = plain == "none";
        match self.quirks.effort {
            EffortStyle::Omit => {}
            EffortStyle::Passed => self.text("reasoning_effort", effort, out),
            EffortStyle::LowMediumHigh => {
                let (value, exact) = match &*plain {
                    "none" => return Ok(()),
                    "low" => ("low", true),
                    "medium" => ("medium", true),
                    "high" => ("high", true),
                    "minimal" => ("low", false),
                    "xhigh" | "max" => ("high", false),
                    _ => return self.drop("reasoning.effort"),
                };
                json::member("reasoning_effort", value, out);
                if !exact {
                    self.drop("reasoning.effort")?;
                }
            }
            EffortStyle::ReasoningObject => {
                let value = match &*plain {
                    "none" => "{\"enabled\":false}",
                    "minimal" | "low" => "{\"effort\":\"low\"}",
                    "medium" => "{\"effort\":\"medium\"}",
                    "high" => "{\"effort\":\"high\"}",
                    "xhigh" | "max" => "{\"effort\":\"xhigh\"}",
                    _ => return self.drop("reasoning.effort"),
                };
                json::member_raw("reasoning", value, out);
            }
            EffortStyle::Thinking => {
                let value = if off { "{\"type\":\"disabled\"}" } else { "{\"type\":\"enabled\"}" };
                json::member_raw("thinking", value, out);
            }
            EffortStyle::EnableThinking => {
                json::member_raw("enable_thinking", if off { "false" } else { "true" }, out);
            }
            EffortStyle::TemplateKwargs => {
                let value =
                    if off { "{\"enable_thinking\":false}" } else { "{\"enable_thinking\":true}" };
                json::member_raw("chat_template_kwargs", value, out);
            }
        }
        Ok(())
    }

    fn format(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.request.settings.format {
            Format::Text => {}
            Format::JsonSchema { name, description, schema, strict } if self.quirks.json_schema => {
                json::key("response_format", out);
                out.extend_from_slice(b"{\"type\":\"json_schema\",\"json_schema\":{");
                self.text("name", name, out);
                if let Some(description) = description {
                    self.text("description", description, out);
                }
                self.raw("schema", schema, out);
                if let Some(strict) = strict {
                    json::member_raw("strict", if strict { "true" } else { "false" }, out);
                }
                out.extend_from_slice(b"}}");
            }
            Format::JsonObject => {
                json::member_raw("response_format", "{\"type\":\"json_object\"}", out);
            }
            Format::JsonSchema { .. } => {
                json::member_raw("response_format", "{\"type\":\"json_object\"}", out);
                self.drop("text.format.schema")?;
            }
        }
        Ok(())
    }

    /// True when the schema of the answer has to be told in words.
    pub(super) fn schema_in_text(&self) -> bool {
        let schema = matches!(self.request.settings.format, Format::JsonSchema { .. });
        schema && !self.quirks.json_schema
    }

    /// Appends the schema as escaped text.
    pub(super) fn schema_text(&mut self, text: &mut Vec<u8>) {
        if let Format::JsonSchema { schema, .. } = self.request.settings.format {
            text.extend_from_slice(b"Answer with one JSON object that matches this schema:\\n");
            json::escape(schema.paired(&mut self.scratch).text(), text);
        }
    }

    /// Parameters that only `OpenAI` knows; others refuse or ignore them.
    fn openai(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let settings = &self.request.settings;
        if settings.x_codex.is_some_and(|value| !value.is_null()) {
            self.drop("x_codex")?;
        }
        if !self.quirks.openai_parameters {
            if settings.moderation.is_some_and(|value| !value.is_null()) {
                self.drop("moderation")?;
            }
            if settings.web_search_options.is_some_and(|value| !value.is_null()) {
                self.drop("web_search_options")?;
            }
            return Ok(());
        }
        let tier = settings.service_tier.filter(|tier| !tier.is("ultrafast"));
        for (name, value) in [
            ("verbosity", settings.verbosity),
            ("service_tier", tier),
            ("prompt_cache_key", settings.prompt_cache_key),
            ("safety_identifier", settings.safety_identifier),
            ("user", settings.user),
        ] {
            if let Some(value) = value {
                self.text(name, value, out);
            }
        }
        for (name, value) in [
            ("prompt_cache_retention", settings.prompt_cache_retention),
            ("moderation", settings.moderation),
            ("web_search_options", settings.web_search_options),
        ] {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                self.raw(name, value, out);
            }
        }
        if let Some(options) = settings.prompt_cache_options {
            cache_options(options, out);
        }
        Ok(())
    }
}

/// Appends `prompt_cache_options` without what only the Responses API knows.
fn cache_options(options: Raw<'_>, out: &mut Vec<u8>) {
    if options.kind() != Kind::Object {
        return;
    }
    let mut kept = Vec::new();
    // The value was read before, so the walk ends well.
    let _ = options.cursor().object(|key, value| {
        let value = value.skip()?;
        let foreign = matches!(key, "comparison_response_id" | "prewarm")
            || (key == "ttl" && value.text() == "\"12h\"");
        if !foreign {
            if !kept.is_empty() {
                kept.push(b',');
            }
            json::quoted(Escaped::trusted(key), &mut kept);
            kept.push(b':');
            kept.extend_from_slice(value.text().as_bytes());
        }
        Ok(())
    });
    if !kept.is_empty() {
        json::key("prompt_cache_options", out);
        out.push(b'{');
        out.extend_from_slice(&kept);
        out.push(b'}');
    }
}
