//! A Chat client's request body as a [`Request`], in one walk over the body.

mod content;
mod members;
mod messages;
mod settings;
mod tools;

use crate::dialect::keys::keys;
use crate::dialect::request::{Request, Tool};
use crate::fault::Failure;
use crate::wire::json::{self, Bad, Cursor, Kind};
use members::{Members, Path, Refusal, missing, refused};
use messages::History;
use std::borrow::Cow;

keys!(
    /// The parameters that mean something here; two values for one of them are refused.
    Parameter {
        Model = "model",
        Messages = "messages",
        Stream = "stream",
        StreamOptions = "stream_options",
        MaxCompletionTokens = "max_completion_tokens",
        MaxTokens = "max_tokens",
        Temperature = "temperature",
        TopP = "top_p",
        N = "n",
        Stop = "stop",
        Seed = "seed",
        LogitBias = "logit_bias",
        Prediction = "prediction",
        PresencePenalty = "presence_penalty",
        FrequencyPenalty = "frequency_penalty",
        Logprobs = "logprobs",
        TopLogprobs = "top_logprobs",
        ResponseFormat = "response_format",
        Verbosity = "verbosity",
        ReasoningEffort = "reasoning_effort",
        Reasoning = "reasoning",
        IncludeReasoning = "include_reasoning",
        Tools = "tools",
        ToolChoice = "tool_choice",
        Functions = "functions",
        FunctionCall = "function_call",
        ParallelToolCalls = "parallel_tool_calls",
        WebSearchOptions = "web_search_options",
        Store = "store",
        Metadata = "metadata",
        User = "user",
        SafetyIdentifier = "safety_identifier",
        PromptCacheKey = "prompt_cache_key",
        PromptCacheOptions = "prompt_cache_options",
        PromptCacheRetention = "prompt_cache_retention",
        ServiceTier = "service_tier",
        Moderation = "moderation",
        Modalities = "modalities",
        Audio = "audio",
        XCodex = "x_codex",
    }
);

keys!(StreamKey { IncludeUsage = "include_usage", IncludeObfuscation = "include_obfuscation", });

/// The body's own members.
type Top<'a> = Members<'static, 'a, Parameter, 40>;

/// Most names noted as dropped, and the longest one: they end up in a response header.
const DROPPED_MAX: usize = 32;
const DROPPED_BYTES_MAX: usize = 64;

/// Reads a request body.
pub(super) fn decode(body: &str) -> Result<Request<'_>, Failure> {
    let mut refusal = Refusal::default();
    let read = json::document(body, |cursor| {
        if cursor.kind()? == Kind::Object {
            return Lists::read(cursor, &mut refusal);
        }
        cursor.skip()?;
        let failure = Failure::bad_request("The request body must be a JSON object.");
        Err(refusal.keep(failure, cursor))
    });
    let (top, lists) = read.map_err(|bad| refusal.explain(bad))?;
    lists.finish(&top)
}

/// What is long, read where it stands. Whether a failure in it counts is known at the end: an earlier
/// parameter's is told first.
#[derive(Default)]
struct Lists<'a> {
    request: Request<'a>,
    messages: Option<Result<History<'a>, Failure>>,
    tools: Option<Result<Vec<Tool<'a>>, Failure>>,
    functions: Option<Result<Vec<Tool<'a>>, Failure>>,
}

impl<'a> Lists<'a> {
    fn read(cursor: &mut Cursor<'a>, refusal: &mut Refusal) -> Result<(Top<'a>, Self), Bad> {
        let mut lists = Self::default();
        let top = Members::walk(cursor, Path::Body, refusal, |key, name, cursor, refusal| {
            let list = cursor.kind()? == Kind::Array;
            match key {
                None if !cursor.null()? => dropped(&mut lists.request, name),
                Some(Parameter::Messages) if list => {
                    lists.messages = Some(refusal.attempt(cursor, messages::read)?);
                }
                Some(Parameter::Tools) if list => {
                    lists.tools = Some(refusal.attempt(cursor, tools::tools)?);
                }
                Some(Parameter::Functions) if list => {
                    lists.functions = Some(refusal.attempt(cursor, tools::functions)?);
                }
                _ => {}
            }
            Ok(())
        })?;
        lists.request.halves = cursor.saw_halves();
        Ok((top, lists))
    }

    fn finish(self, top: &Top<'a>) -> Result<Request<'a>, Failure> {
        use Parameter as P;
        let mut request = self.request;
        let model = top.string(P::Model)?.filter(|model| !model.is_empty());
        request.model = model.ok_or_else(|| missing(top.path(P::Model)))?;
        request.stream = top.boolean(P::Stream)?.unwrap_or(false);
        refuse_sound_and_choices(top)?;
        request.settings = settings::read(top)?;
        if let Some(options) = top.object(P::StreamOptions)? {
            let options = Members::of(options, top.path(P::StreamOptions))?;
            request.include_usage = options.boolean(StreamKey::IncludeUsage)?.unwrap_or(false);
            request.settings.include_obfuscation =
                options.boolean(StreamKey::IncludeObfuscation)?;
        }
        top.array(P::Tools)?;
        request.tools = self.tools.transpose()?.unwrap_or_default();
        if top.array(P::Functions)?.is_some() {
            request.tools.extend(self.functions.transpose()?.unwrap_or_default());
            request.settings.legacy_functions = top.value(P::Tools).is_none();
        }
        tools::choice(top, &mut request)?;
        top.array(P::Messages)?;
        let history = self.messages.transpose()?;
        history.ok_or_else(|| missing(top.path(P::Messages)))?.finish(top, &mut request)?;
        Ok(request)
    }
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
fn refuse_sound_and_choices(top: &Top<'_>) -> Result<(), Failure> {
    use Parameter as P;
    match top.unsigned(P::N)? {
        None | Some(1) => {}
        Some(_) => {
            let why = "only one choice is made for each request: send n = 1";
            return Err(refused(top.path(P::N), why));
        }
    }
    if let Some(list) = top.array(P::Modalities)? {
        let mut sound = false;
        // It was checked as a part of the body.
        let _ = list.cursor().array(|each| {
            sound |= each.skip()?.string().is_some_and(|modality| !modality.is("text"));
            Ok(())
        });
        if sound {
            return Err(refused(top.path(P::Modalities), "answers are text only"));
        }
    }
    match top.value(P::Audio) {
        Some(_) => Err(refused(top.path(P::Audio), "answers are text only")),
        None => Ok(()),
    }
}
