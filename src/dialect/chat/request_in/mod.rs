//! A Chat client's request body as a [`Request`].

mod members;
mod messages;
mod tools;

use crate::dialect::request::{Format, Request, Settings};
use crate::fault::Failure;
use crate::wire::json::{Escaped, Kind, Raw};
use members::{Members, missing, refused, wrong};
use std::borrow::Cow;

/// The parameters that mean something here; two values for one of them are refused.
const NAMES: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "logit_bias",
    "prediction",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "response_format",
    "verbosity",
    "reasoning_effort",
    "reasoning",
    "include_reasoning",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "parallel_tool_calls",
    "web_search_options",
    "store",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "moderation",
    "modalities",
    "audio",
];

/// Most names noted as dropped, and the longest one: they end up in a response header.
const DROPPED_MAX: usize = 32;
const DROPPED_BYTES_MAX: usize = 64;

/// Reads a request body.
pub(super) fn decode(body: &str) -> Result<Request<'_>, Failure> {
    let whole = Raw::check(body.trim_ascii()).map_err(|bad| {
        Failure::bad_request(format!("The request body is not valid JSON: {bad}."))
    })?;
    if whole.kind() != Kind::Object {
        return Err(Failure::bad_request("The request body must be a JSON object."));
    }
    let top = Members::read(whole, "", NAMES)?;
    let mut request = Request::default();
    for name in &top.unknown {
        dropped(&mut request, name);
    }
    request.model =
        top.string("model")?.filter(|m| !m.is_empty()).ok_or_else(|| missing("model"))?;
    request.stream = top.boolean("stream")?.unwrap_or(false);
    refuse_sound_and_choices(&top)?;
    request.settings = settings(&top)?;
    if let Some(options) = top.object("stream_options")? {
        let names = &["include_usage", "include_obfuscation"];
        let options = Members::read(options, "stream_options", names)?;
        request.include_usage = options.boolean("include_usage")?.unwrap_or(false);
        request.settings.include_obfuscation = options.boolean("include_obfuscation")?;
    }
    tools::read(&top, &mut request)?;
    messages::read(&top, &mut request)?;
    Ok(request)
}

/// Notes that `name` was dropped and matters.
fn dropped<'a>(request: &mut Request<'a>, name: &'a str) {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    let list = &mut request.dropped;
    let room = name.len() <= DROPPED_BYTES_MAX && list.len() < DROPPED_MAX;
    if plain && room && !list.iter().any(|known| known == name) {
        list.push(Cow::Borrowed(name));
    }
}

/// What would need another shape of answer.
fn refuse_sound_and_choices(top: &Members<'_>) -> Result<(), Failure> {
    match top.unsigned("n")? {
        None | Some(1) => {}
        Some(_) => {
            return Err(refused("n", "only one choice is made for each request: send n = 1"));
        }
    }
    if let Some(list) = top.array("modalities")? {
        let mut sound = false;
        // It was checked as a part of the body.
        let _ = list.cursor().array(|each| {
            sound |= each.skip()?.string().is_some_and(|modality| !modality.is("text"));
            Ok(())
        });
        if sound {
            return Err(refused("modalities", "answers are text only"));
        }
    }
    match top.value("audio") {
        Some(_) => Err(refused("audio", "answers are text only")),
        None => Ok(()),
    }
}

fn settings<'a>(top: &Members<'a>) -> Result<Settings<'a>, Failure> {
    let max = match top.unsigned("max_completion_tokens")? {
        Some(max) => Some(max),
        None => top.unsigned("max_tokens")?,
    };
    let (effort, shown, replayed) = reasoning(top)?;
    Ok(Settings {
        output_tokens_max: max,
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        presence_penalty: top.number("presence_penalty")?,
        frequency_penalty: top.number("frequency_penalty")?,
        logprobs: top.boolean("logprobs")?.unwrap_or(false),
        top_logprobs: top.unsigned("top_logprobs")?,
        effort,
        // Chat clients have nothing but the summary to show.
        summary: shown.then_some(Escaped::trusted("auto")),
        verbosity: top.string("verbosity")?,
        format: format(top)?,
        service_tier: top.string("service_tier")?,
        prompt_cache_key: top.string("prompt_cache_key")?,
        prompt_cache_retention: top.value("prompt_cache_retention"),
        prompt_cache_options: top.object("prompt_cache_options")?,
        safety_identifier: top.string("safety_identifier")?,
        user: top.string("user")?,
        metadata: top.object("metadata")?,
        moderation: top.value("moderation"),
        store: top.boolean("store")?,
        include_sealed: replayed,
        stop: stop(top)?,
        seed: top.number("seed")?,
        logit_bias: top.object("logit_bias")?,
        prediction: top.object("prediction")?,
        web_search_options: top.object("web_search_options")?,
        ..Settings::default()
    })
}

/// The effort, whether reasoning is to be shown, and whether the client keeps opaque reasoning: it
/// says so with `OpenRouter`'s parameters.
fn reasoning<'a>(top: &Members<'a>) -> Result<(Option<Escaped<'a>>, bool, bool), Failure> {
    let mut effort = top.string("reasoning_effort")?;
    let mut replayed = top.boolean("include_reasoning")?.unwrap_or(false);
    if let Some(object) = top.object("reasoning")? {
        let inner = Members::read(object, "reasoning", &["effort", "enabled", "exclude"])?;
        effort = effort.or(inner.string("effort")?);
        let enabled = inner.boolean("enabled")?;
        if enabled == Some(false) {
            effort = effort.or(Some(Escaped::trusted("none")));
        }
        replayed |= enabled != Some(false) && !inner.boolean("exclude")?.unwrap_or(false);
    }
    let shown = replayed || effort.is_some_and(|effort| !effort.is("none"));
    Ok((effort, shown, replayed))
}

fn stop<'a>(top: &Members<'a>) -> Result<Option<Raw<'a>>, Failure> {
    let Some(stop) = top.value("stop") else { return Ok(None) };
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
    if right { Ok(Some(stop)) } else { Err(wrong("stop", "a string or an array of strings")) }
}

fn format<'a>(top: &Members<'a>) -> Result<Format<'a>, Failure> {
    let Some(object) = top.object("response_format")? else { return Ok(Format::Text) };
    let names = &["type", "json_schema"];
    let format = Members::read(object, "response_format", names)?;
    let kind = format.string("type")?.ok_or_else(|| missing("response_format.type"))?;
    match kind.raw() {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let inner = format.object("json_schema")?;
            let inner = inner.ok_or_else(|| missing("response_format.json_schema"))?;
            let names = &["name", "description", "schema", "strict"];
            let inner = Members::read(inner, "response_format.json_schema", names)?;
            let name = inner.string("name")?;
            Ok(Format::JsonSchema {
                name: name.ok_or_else(|| missing("response_format.json_schema.name"))?,
                description: inner.string("description")?,
                schema: inner.object("schema")?.unwrap_or(Raw::trusted("{}")),
                strict: inner.boolean("strict")?,
            })
        }
        _ => Err(refused(
            "response_format.type",
            "formats are 'text', 'json_object' and 'json_schema'",
        )),
    }
}
