//! The single-valued parameters.

use super::members::{Members, missing, refused, wrong};
use super::{Parameter as P, Top};
use crate::dialect::keys::keys;
use crate::dialect::request::{Format, Settings};
use crate::fault::Failure;
use crate::wire::json::{Escaped, Kind, Raw};

keys!(ReasoningKey { Effort = "effort", Enabled = "enabled", Exclude = "exclude", });
keys!(FormatKey { Type = "type", JsonSchema = "json_schema", });
keys!(SchemaKey {
    Name = "name",
    Description = "description",
    Schema = "schema",
    Strict = "strict",
});

pub(super) fn read<'a>(top: &Top<'a>) -> Result<Settings<'a>, Failure> {
    let max = match top.unsigned(P::MaxCompletionTokens)? {
        Some(max) => Some(max),
        None => top.unsigned(P::MaxTokens)?,
    };
    let (effort, shown, replayed) = reasoning(top)?;
    Ok(Settings {
        output_tokens_max: max,
        temperature: top.number(P::Temperature)?,
        top_p: top.number(P::TopP)?,
        presence_penalty: top.number(P::PresencePenalty)?,
        frequency_penalty: top.number(P::FrequencyPenalty)?,
        logprobs: top.boolean(P::Logprobs)?.unwrap_or(false),
        top_logprobs: top.unsigned(P::TopLogprobs)?,
        effort,
        // Chat clients have nothing but the summary to show.
        summary: shown.then_some(Escaped::trusted("auto")),
        verbosity: top.string(P::Verbosity)?,
        format: format(top)?,
        service_tier: top.string(P::ServiceTier)?,
        prompt_cache_key: top.string(P::PromptCacheKey)?,
        prompt_cache_retention: top.value(P::PromptCacheRetention),
        prompt_cache_options: top.object(P::PromptCacheOptions)?,
        safety_identifier: top.string(P::SafetyIdentifier)?,
        user: top.string(P::User)?,
        metadata: top.object(P::Metadata)?,
        moderation: top.value(P::Moderation),
        x_codex: top.value(P::XCodex),
        store: top.boolean(P::Store)?,
        include_sealed: replayed,
        stop: stop(top)?,
        seed: top.number(P::Seed)?,
        logit_bias: top.object(P::LogitBias)?,
        prediction: top.object(P::Prediction)?,
        web_search_options: top.object(P::WebSearchOptions)?,
        ..Settings::default()
    })
}

/// The effort, whether reasoning is to be shown, and whether the client keeps opaque reasoning: it
/// says so with `OpenRouter`'s parameters.
fn reasoning<'a>(top: &Top<'a>) -> Result<(Option<Escaped<'a>>, bool, bool), Failure> {
    let mut effort = top.string(P::ReasoningEffort)?;
    let mut replayed = top.boolean(P::IncludeReasoning)?.unwrap_or(false);
    if let Some(object) = top.object(P::Reasoning)? {
        let inner = Members::of(object, top.path(P::Reasoning))?;
        effort = effort.or(inner.string(ReasoningKey::Effort)?);
        let enabled = inner.boolean(ReasoningKey::Enabled)?;
        if enabled == Some(false) {
            effort = effort.or(Some(Escaped::trusted("none")));
        }
        let excluded = inner.boolean(ReasoningKey::Exclude)?.unwrap_or(false);
        replayed |= enabled != Some(false) && !excluded;
    }
    let shown = replayed || effort.is_some_and(|effort| !effort.is("none"));
    Ok((effort, shown, replayed))
}

fn stop<'a>(top: &Top<'a>) -> Result<Option<Raw<'a>>, Failure> {
    let Some(stop) = top.value(P::Stop) else { return Ok(None) };
    let right = match stop.kind() {
        Kind::String => true,
        Kind::Array => {
            let mut strings = true;
            let walked = stop.cursor().array(|each| {
                strings &= each.skip()?.kind() == Kind::String;
                Ok(())
            });
            strings && walked.is_ok()
        }
        _ => false,
    };
    if right {
        Ok(Some(stop))
    } else {
        Err(wrong(top.path(P::Stop), "a string or an array of strings"))
    }
}

fn format<'a>(top: &Top<'a>) -> Result<Format<'a>, Failure> {
    let Some(object) = top.object(P::ResponseFormat)? else { return Ok(Format::Text) };
    let path = top.path(P::ResponseFormat);
    let format = Members::of(object, path)?;
    match format.needed(FormatKey::Type)?.raw() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let path = format.path(FormatKey::JsonSchema);
            let inner = format.object(FormatKey::JsonSchema)?.ok_or_else(|| missing(path))?;
            let inner = Members::of(inner, path)?;
            Ok(Format::JsonSchema {
                name: inner.needed(SchemaKey::Name)?,
                description: inner.string(SchemaKey::Description)?,
                schema: inner.object(SchemaKey::Schema)?.unwrap_or(Raw::trusted("{}")),
                strict: inner.boolean(SchemaKey::Strict)?,
            })
        }
        _ => Err(refused(
            format.path(FormatKey::Type),
            "formats are 'text', 'json_object' and 'json_schema'",
        )),
    }
}
