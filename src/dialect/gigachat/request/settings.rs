//! The single-valued parameters.

use super::Body;
use crate::dialect::quirks::EffortStyle;
use crate::dialect::request::Format;
use crate::fault::Failure;
use crate::wire::json::{self, Kind, Raw};

impl Body<'_, '_> {
    /// Appends every setting that the upstream knows, and notes the others that matter. Stop
    /// sequences are looked for in the answer.
    pub(super) fn settings(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.target.stream {
            json::member_raw("stream", "true", out);
        }
        if let Some(check) = self.quirks.profanity_check {
            json::member_raw("profanity_check", if check { "true" } else { "false" }, out);
        }
        self.sampling(out)?;
        self.effort(out)?;
        self.format(out)?;
        let settings = &self.request.settings;
        for (name, value) in [
            ("seed", settings.seed),
            ("logit_bias", settings.logit_bias),
            ("moderation", settings.moderation),
            ("web_search_options", settings.web_search_options),
            ("x_codex", settings.x_codex),
        ] {
            if value.is_some_and(|value| !matches!(value.text(), "null" | "{}")) {
                self.drop(name)?;
            }
        }
        if settings.truncation.is_some_and(|truncation| truncation.is("auto")) {
            self.drop("truncation")?;
        }
        Ok(())
    }

    fn sampling(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let settings = &self.request.settings;
        if let Some(max) = settings.output_tokens_max {
            if max == 0 {
                return Err(out_of_range("max_tokens", "at least 1"));
            }
            json::member_number("max_tokens", max, out);
        }
        let outside = |value: Option<Raw<'_>>, legal: fn(f64) -> bool| {
            value.is_some_and(|it| !it.is_null() && !it.text().parse().is_ok_and(legal))
        };
        if outside(settings.temperature, |it| it.is_finite() && it >= 0.0) {
            return Err(out_of_range("temperature", "a number from 0 up"));
        }
        if outside(settings.top_p, |it| (0.0..=1.0).contains(&it)) {
            return Err(out_of_range("top_p", "a number from 0 to 1"));
        }
        let given = |value: Option<Raw<'_>>| value.is_some_and(|value| !value.is_null());
        if settings.temperature.is_some_and(is_zero) {
            // It refuses the temperature 0. With nothing left to draw from, the likeliest is drawn.
            json::member_raw("top_p", "0", out);
        } else {
            for (name, value) in [("temperature", settings.temperature), ("top_p", settings.top_p)]
            {
                if let Some(value) = value.filter(|value| !value.is_null()) {
                    self.raw(name, value, out);
                }
            }
        }
        for (name, value) in [
            ("presence_penalty", settings.presence_penalty),
            ("frequency_penalty", settings.frequency_penalty),
        ] {
            // Zero is the default and says nothing.
            if given(value) && !value.is_some_and(is_zero) {
                self.drop(name)?;
            }
        }
        if settings.logprobs || settings.top_logprobs.is_some_and(|n| n > 0) {
            self.drop("logprobs")?;
        }
        Ok(())
    }

    fn effort(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(effort) = self.request.settings.effort else { return Ok(()) };
        if self.quirks.effort == EffortStyle::Omit {
            return Ok(());
        }
        let (value, exact) = match &*effort.decode() {
            "none" => return Ok(()),
            "low" => ("low", true),
            "medium" => ("medium", true),
            "high" => ("high", true),
            "minimal" => ("low", false),
            "xhigh" | "max" => ("high", false),
            _ => return self.drop("reasoning.effort"),
        };
        json::member("reasoning_effort", value, out);
        if exact { Ok(()) } else { self.drop("reasoning.effort") }
    }

    fn format(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.request.settings.format {
            Format::Text => Ok(()),
            // It takes a schema or nothing.
            Format::JsonObject => self.drop("text.format"),
            Format::JsonSchema { schema, strict, .. } if self.quirks.json_schema => {
                out.extend_from_slice(b",\"response_format\":{\"type\":\"json_schema\"");
                self.schema("schema", "text.format.schema", Some(schema), out)?;
                if let Some(strict) = strict {
                    json::member_raw("strict", if strict { "true" } else { "false" }, out);
                }
                out.push(b'}');
                Ok(())
            }
            // Written as a function.
            Format::JsonSchema { .. } => Ok(()),
        }
    }
}

fn out_of_range(name: &str, legal: &str) -> Failure {
    Failure::bad_request(format!("`{name}` must be {legal}")).with_param(name)
}

fn is_zero(value: Raw<'_>) -> bool {
    value.kind() == Kind::Number && value.text().parse::<f64>().is_ok_and(|number| number == 0.0)
}
