//! A Responses client's request body as a [`Request`]: the top level. The tools are read
//! in `tools_in`, the items of `input` in `items_in`.

use crate::dialect::keys::{Key as _, Seen, keys};
use crate::dialect::request::{Choice, Format, Request, ToolName};
use crate::fault::{Failure, Fault, Kind as FaultKind};
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw, Why};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Most names noted as dropped, and the longest one: they end up in a response header.
const DROPPED_MAX: usize = 32;
const DROPPED_BYTES_MAX: usize = 64;

keys!(
    /// The parameters whose value decides something.
    Parameter {
        Model = "model",
        Stream = "stream",
        Instructions = "instructions",
        Input = "input",
        Tools = "tools",
        ToolChoice = "tool_choice",
        ParallelToolCalls = "parallel_tool_calls",
        MaxOutputTokens = "max_output_tokens",
        Temperature = "temperature",
        TopP = "top_p",
        PresencePenalty = "presence_penalty",
        FrequencyPenalty = "frequency_penalty",
        TopLogprobs = "top_logprobs",
        Reasoning = "reasoning",
        Text = "text",
        ServiceTier = "service_tier",
        PromptCacheKey = "prompt_cache_key",
        PromptCacheRetention = "prompt_cache_retention",
        PromptCacheOptions = "prompt_cache_options",
        SafetyIdentifier = "safety_identifier",
        User = "user",
        Metadata = "metadata",
        Moderation = "moderation",
        XCodex = "x_codex",
        Store = "store",
        Include = "include",
        Truncation = "truncation",
        MaxToolCalls = "max_tool_calls",
        StreamOptions = "stream_options",
        PreviousResponseId = "previous_response_id",
        Conversation = "conversation",
        Prompt = "prompt",
        Background = "background",
        N = "n",
        Stop = "stop",
        Seed = "seed",
        LogitBias = "logit_bias",
    }
);

/// Parameters that say nothing which an upstream would have to hear.
const SILENT: [&str; 3] = ["client_metadata", "type", "generate"];

keys!(StreamKey { IncludeObfuscation = "include_obfuscation", });
keys!(ReasoningKey { Effort = "effort", Summary = "summary", });
keys!(TextKey { Verbosity = "verbosity", Format = "format", });
keys!(FormatKey {
    Type = "type",
    Name = "name",
    Description = "description",
    Schema = "schema",
    Strict = "strict",
});

/// Reads a request body.
pub(super) fn decode(body: &str) -> Result<Request<'_>, Failure> {
    let mut reader = Reader {
        request: Request::default(),
        place: Place::default(),
        failure: None,
        names: HashMap::new(),
        has_input: false,
    };
    let read = json::document(body, |cursor| reader.top(cursor));
    reader.finish(read)
}

/// A request that is being read.
pub(super) struct Reader<'a> {
    pub(super) request: Request<'a>,
    /// Where in the body, for errors.
    pub(super) place: Place<'a>,
    /// The failure behind the `Bad` that is on its way up.
    failure: Option<Failure>,
    /// Where each client-run tool stands in the request's tools.
    pub(super) names: HashMap<ToolName<'a>, usize>,
    has_input: bool,
}

/// A path into the request: `input[3].content[1].text`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    pub(super) top: &'a str,
    pub(super) index: Option<usize>,
    pub(super) field: &'a str,
    pub(super) part: Option<usize>,
    pub(super) leaf: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.top)?;
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        if !self.field.is_empty() {
            write!(f, ".{}", self.field)?;
        }
        if let Some(part) = self.part {
            write!(f, "[{part}]")?;
        }
        if !self.leaf.is_empty() {
            write!(f, ".{}", self.leaf)?;
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn finish(mut self, read: Result<(), Bad>) -> Result<Request<'a>, Failure> {
        if let Err(bad) = read {
            return Err(self.failure.take().unwrap_or_else(|| self.explain(bad)));
        }
        if self.request.model.is_empty() {
            return Err(missing("model"));
        }
        if !self.has_input {
            return Err(missing("input"));
        }
        if self.request.compact && !self.request.tools.is_empty() {
            // The summary is the whole answer.
            self.request.choice = Choice::None;
            self.request.allowed.clear();
        }
        Ok(self.request)
    }

    fn explain(&self, bad: Bad) -> Failure {
        let (code, what) = match bad.why {
            Why::Type => ("invalid_type", "is of the wrong type"),
            Why::Range => ("invalid_value", "is out of range"),
            Why::Duplicate => ("duplicate_parameter", "is given twice"),
            _ => {
                return Failure::bad_request(format!("The request body is not valid JSON: {bad}."));
            }
        };
        if self.place.top.is_empty() {
            return Failure::bad_request("The request body must be a JSON object.");
        }
        let place = self.place.to_string();
        Failure::bad_request(format!("The parameter '{place}' {what} (byte {}).", bad.at))
            .with_param(place)
            .with_code(code)
    }

    /// Keeps `failure` for the caller of [`decode`] and returns what stops the cursor.
    pub(super) fn refuse(&mut self, cursor: &Cursor<'_>, failure: Failure) -> Bad {
        self.failure.get_or_insert(failure);
        cursor.bad(Why::Type)
    }

    /// Refuses a required parameter's absence, `field` below the present place.
    pub(super) fn refuse_missing(&mut self, cursor: &Cursor<'_>, field: &'a str) -> Bad {
        let place = match self.place.part {
            Some(_) => Place { leaf: field, ..self.place },
            None => Place { field, leaf: "", ..self.place },
        };
        let failure = missing(&place.to_string());
        self.refuse(cursor, failure)
    }

    /// Refuses the value at the present place.
    pub(super) fn refuse_value(&mut self, cursor: &Cursor<'_>, why: &str) -> Bad {
        let place = self.place.to_string();
        let failure = Failure::unsupported(place.clone(), format!("'{place}': {why}"));
        self.refuse(cursor, failure.with_code("unsupported_value"))
    }

    fn refuse_parameter(&mut self, cursor: &Cursor<'_>, why: &str) -> Bad {
        let place = self.place.to_string();
        let message = format!("The parameter '{place}' is not supported: {why}");
        self.refuse(cursor, Failure::unsupported(place, message))
    }

    /// Notes that `name` was dropped and matters.
    pub(super) fn dropped(&mut self, name: &'a str) {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        let list = &mut self.request.dropped;
        if plain
            && name.len() <= DROPPED_BYTES_MAX
            && list.len() < DROPPED_MAX
            && !list.iter().any(|known| known == name)
        {
            list.push(Cow::Borrowed(name));
        }
    }

    fn top(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            self.place = Place { top: key, ..Place::default() };
            let Some(parameter) = Parameter::of(key) else {
                if !cursor.null()? && !SILENT.contains(&key) {
                    self.dropped(key);
                }
                return Ok(());
            };
            seen.mark(parameter, cursor)?;
            if cursor.null()? || self.setting(parameter, cursor)? {
                return Ok(());
            }
            self.parameter(parameter, cursor)
        })?;
        self.request.halves = cursor.saw_halves();
        Ok(())
    }

    /// Reads the parameters that are one value each; false when it is none of them.
    fn setting(&mut self, parameter: Parameter, cursor: &mut Cursor<'a>) -> Result<bool, Bad> {
        use Parameter as P;
        let settings = &mut self.request.settings;
        match parameter {
            P::Temperature => settings.temperature = Some(number(cursor)?),
            P::TopP => settings.top_p = Some(number(cursor)?),
            P::PresencePenalty => settings.presence_penalty = Some(number(cursor)?),
            P::FrequencyPenalty => settings.frequency_penalty = Some(number(cursor)?),
            P::MaxOutputTokens => settings.output_tokens_max = Some(cursor.unsigned()?),
            P::MaxToolCalls => settings.max_tool_calls = Some(cursor.unsigned()?),
            P::TopLogprobs => settings.top_logprobs = Some(cursor.unsigned()?),
            P::ServiceTier => settings.service_tier = Some(cursor.string()?),
            P::PromptCacheKey => settings.prompt_cache_key = Some(cursor.string()?),
            P::PromptCacheRetention => settings.prompt_cache_retention = Some(cursor.skip()?),
            P::PromptCacheOptions => settings.prompt_cache_options = Some(cursor.skip()?),
            P::SafetyIdentifier => settings.safety_identifier = Some(cursor.string()?),
            P::User => settings.user = Some(cursor.string()?),
            P::Metadata => settings.metadata = Some(of_kind(cursor, Kind::Object)?),
            P::Moderation => settings.moderation = Some(cursor.skip()?),
            P::XCodex => settings.x_codex = Some(cursor.skip()?),
            P::Store => settings.store = Some(cursor.boolean()?),
            P::Truncation => {
                let truncation = cursor.string()?;
                settings.truncation = Some(truncation);
                if truncation.is("auto") {
                    self.dropped("truncation");
                }
            }
            P::Stop => settings.stop = Some(cursor.skip()?),
            P::Seed => settings.seed = Some(number(cursor)?),
            P::LogitBias => settings.logit_bias = Some(of_kind(cursor, Kind::Object)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn parameter(&mut self, parameter: Parameter, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        use Parameter as P;
        match parameter {
            P::Model => self.request.model = cursor.string()?,
            P::Stream => self.request.stream = cursor.boolean()?,
            P::Instructions => self.request.instructions = Some(cursor.string()?),
            P::ParallelToolCalls => self.request.parallel = Some(cursor.boolean()?),
            P::Input => {
                self.has_input = true;
                self.input(cursor)?;
            }
            P::Tools => {
                let start = cursor.position();
                self.tools(cursor)?;
                self.request.echo.tools = Some(cursor.since(start));
            }
            P::ToolChoice => {
                let choice = cursor.skip()?;
                self.request.echo.choice = Some(choice);
                self.choice(choice)?;
            }
            P::Reasoning => self.reasoning(cursor)?,
            P::Text => self.text(cursor)?,
            P::Include => self.include(cursor)?,
            P::StreamOptions => self.stream_options(cursor)?,
            P::N if cursor.unsigned()? > 1 => {
                return Err(self.refuse_value(cursor, "one answer per request is all there is."));
            }
            P::Background if cursor.boolean()? => {
                return Err(self.refuse_value(
                    cursor,
                    "answers are not kept, so none can be made in the background; leave it out.",
                ));
            }
            P::PreviousResponseId | P::Conversation => {
                return Err(self.refuse_parameter(
                    cursor,
                    "earlier answers are not kept here; send the whole conversation in 'input'.",
                ));
            }
            P::Prompt => {
                return Err(self.refuse_parameter(
                    cursor,
                    "prompt templates live at their own provider; send 'instructions' and 'input'.",
                ));
            }
            // The rest are settings, or say nothing.
            _ => {}
        }
        Ok(())
    }

    /// Reads `reasoning`, of the request or of a `configuration_update` item.
    pub(super) fn reasoning(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let settings = &mut self.request.settings;
        let place = &mut self.place;
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            place.field = key;
            let Some(known) = ReasoningKey::of(key) else {
                if key == "generate_summary" && settings.summary.is_none() {
                    settings.summary = cursor.string_or_null()?;
                }
                return Ok(());
            };
            seen.mark(known, cursor)?;
            match known {
                ReasoningKey::Effort => settings.effort = cursor.string_or_null()?,
                ReasoningKey::Summary => settings.summary = cursor.string_or_null()?,
            }
            Ok(())
        })
    }

    /// Reads `text`, of the request or of a `configuration_update` item.
    pub(super) fn text(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            self.place.field = key;
            let Some(known) = TextKey::of(key) else { return Ok(()) };
            seen.mark(known, cursor)?;
            match known {
                TextKey::Verbosity => self.request.settings.verbosity = cursor.string_or_null()?,
                TextKey::Format if !cursor.null()? => self.format(cursor)?,
                TextKey::Format => {}
            }
            Ok(())
        })
    }

    fn format(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let (mut kind, mut name, mut description) = (None, None, None);
        let (mut schema, mut strict) = (None, None);
        let mut seen = Seen::default();
        let place = &mut self.place;
        cursor.object(|key, cursor| {
            place.leaf = key;
            let Some(known) = FormatKey::of(key) else { return Ok(()) };
            seen.mark(known, cursor)?;
            match known {
                FormatKey::Type => kind = Some(cursor.string()?),
                FormatKey::Name => name = cursor.string_or_null()?,
                FormatKey::Description => description = cursor.string_or_null()?,
                FormatKey::Schema if !cursor.null()? => {
                    schema = Some(of_kind(cursor, Kind::Object)?);
                }
                FormatKey::Strict if !cursor.null()? => strict = Some(cursor.boolean()?),
                FormatKey::Schema | FormatKey::Strict => {}
            }
            Ok(())
        })?;
        self.place.leaf = "";
        let Some(kind) = kind else { return Err(self.refuse_missing(cursor, "format.type")) };
        self.request.settings.format = match kind.raw() {
            "text" => Format::Text,
            "json_object" => Format::JsonObject,
            "json_schema" => {
                let Some(schema) = schema else {
                    return Err(self.refuse_missing(cursor, "format.schema"));
                };
                let name = name.unwrap_or(Escaped::trusted("output"));
                Format::JsonSchema { name, description, schema, strict }
            }
            _ => {
                self.place.leaf = "type";
                return Err(self.refuse_value(
                    cursor,
                    "an output format is 'text', 'json_object' or 'json_schema'.",
                ));
            }
        };
        Ok(())
    }

    fn include(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let settings = &mut self.request.settings;
        cursor.array(|cursor| {
            match cursor.string()?.raw() {
                "message.output_text.logprobs" => settings.logprobs = true,
                "reasoning.encrypted_content" => settings.include_sealed = true,
                // The rest names parts of hosted tools' results, which there are none of.
                _ => {}
            }
            Ok(())
        })
    }

    fn stream_options(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let settings = &mut self.request.settings;
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            let Some(known) = StreamKey::of(key) else { return Ok(()) };
            seen.mark(known, cursor)?;
            if !cursor.null()? {
                settings.include_obfuscation = Some(cursor.boolean()?);
            }
            Ok(())
        })
    }
}

fn missing(param: &str) -> Failure {
    let fault = Fault::client(FaultKind::BadRequest);
    Failure::new(fault, format!("Missing required parameter: '{param}'."))
        .with_param(param)
        .with_code("missing_required_parameter")
}

pub(super) fn of_kind<'a>(cursor: &mut Cursor<'a>, kind: Kind) -> Result<Raw<'a>, Bad> {
    if cursor.kind()? == kind { cursor.skip() } else { Err(cursor.bad(Why::Type)) }
}

fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Raw<'a>, Bad> {
    of_kind(cursor, Kind::Number)
}
