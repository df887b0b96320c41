//! A Responses client's request body as a [`Request`]: the top level. The tools are read
//! in `tools_in`, the items of `input` in `items_in`.

use crate::dialect::request::{Choice, Format, Request, ToolName};
use crate::fault::{Failure, Fault, Kind as FaultKind};
use crate::wire::json::{self, Bad, Cursor, Escaped, Kind, Raw, Why};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Most names noted as dropped, and the longest one: they end up in a response header.
const DROPPED_MAX: usize = 32;
const DROPPED_BYTES_MAX: usize = 64;

/// The parameters whose value decides something.
const PARAMETERS: &[&str] = &[
    "model",
    "stream",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "reasoning",
    "text",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
    "user",
    "metadata",
    "moderation",
    "store",
    "include",
    "truncation",
    "max_tool_calls",
    "stream_options",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "n",
    "stop",
    "seed",
    "logit_bias",
];

/// Reads a request body.
pub(super) fn decode(body: &str) -> Result<Request<'_>, Failure> {
    let mut reader = Reader {
        body,
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
    /// The whole body.
    pub(super) body: &'a str,
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

/// The keys of one object that were met, to refuse a second value.
#[derive(Default)]
pub(super) struct Seen(u64);

impl Seen {
    /// Notes `key` if it is one of `keys` (at most 64).
    pub(super) fn mark(
        &mut self,
        keys: &[&str],
        key: &str,
        cursor: &Cursor<'_>,
    ) -> Result<(), Bad> {
        let Some(at) = keys.iter().position(|known| *known == key) else { return Ok(()) };
        if self.0 & (1 << at) != 0 {
            return Err(cursor.bad(Why::Duplicate));
        }
        self.0 |= 1 << at;
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
            seen.mark(PARAMETERS, key, cursor)?;
            if cursor.null()? || self.setting(key, cursor)? {
                return Ok(());
            }
            self.parameter(key, cursor)
        })
    }

    /// Reads the parameters that are one value each; false when `key` is none of them.
    fn setting(&mut self, key: &'a str, cursor: &mut Cursor<'a>) -> Result<bool, Bad> {
        let settings = &mut self.request.settings;
        match key {
            "temperature" => settings.temperature = Some(number(cursor)?),
            "top_p" => settings.top_p = Some(number(cursor)?),
            "presence_penalty" => settings.presence_penalty = Some(number(cursor)?),
            "frequency_penalty" => settings.frequency_penalty = Some(number(cursor)?),
            "max_output_tokens" => settings.output_tokens_max = Some(cursor.unsigned()?),
            "max_tool_calls" => settings.max_tool_calls = Some(cursor.unsigned()?),
            "top_logprobs" => settings.top_logprobs = Some(cursor.unsigned()?),
            "service_tier" => settings.service_tier = Some(cursor.string()?),
            "prompt_cache_key" => settings.prompt_cache_key = Some(cursor.string()?),
            "prompt_cache_retention" => settings.prompt_cache_retention = Some(cursor.skip()?),
            "prompt_cache_options" => settings.prompt_cache_options = Some(cursor.skip()?),
            "safety_identifier" => settings.safety_identifier = Some(cursor.string()?),
            "user" => settings.user = Some(cursor.string()?),
            "metadata" => settings.metadata = Some(of_kind(cursor, Kind::Object)?),
            "moderation" => settings.moderation = Some(cursor.skip()?),
            "store" => settings.store = Some(cursor.boolean()?),
            "truncation" => settings.truncation = Some(cursor.string()?),
            "stop" => settings.stop = Some(cursor.skip()?),
            "seed" => settings.seed = Some(number(cursor)?),
            "logit_bias" => settings.logit_bias = Some(of_kind(cursor, Kind::Object)?),
            _ => return Ok(false),
        }
        if key == "truncation" && settings.truncation.is_some_and(|value| value.is("auto")) {
            self.dropped("truncation");
        }
        Ok(true)
    }

    fn parameter(&mut self, key: &'a str, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        match key {
            "model" => self.request.model = cursor.string()?,
            "stream" => self.request.stream = cursor.boolean()?,
            "instructions" => self.request.instructions = Some(cursor.string()?),
            "parallel_tool_calls" => self.request.parallel = Some(cursor.boolean()?),
            "input" => {
                self.has_input = true;
                self.input(cursor)?;
            }
            "tools" => {
                let list = of_kind(cursor, Kind::Array)?;
                self.request.echo.tools = Some(list);
                self.tools(list)?;
            }
            "tool_choice" => {
                let choice = cursor.skip()?;
                self.request.echo.choice = Some(choice);
                self.choice(choice)?;
            }
            "reasoning" => self.reasoning(cursor)?,
            "text" => self.text(cursor)?,
            "include" => self.include(cursor)?,
            "stream_options" => self.stream_options(cursor)?,
            "n" if cursor.unsigned()? > 1 => {
                return Err(self.refuse_value(cursor, "one answer per request is all there is."));
            }
            "background" if cursor.boolean()? => {
                return Err(self.refuse_value(
                    cursor,
                    "answers are not kept, so none can be made in the background; leave it out.",
                ));
            }
            "previous_response_id" | "conversation" => {
                return Err(self.refuse_parameter(
                    cursor,
                    "earlier answers are not kept here; send the whole conversation in 'input'.",
                ));
            }
            "prompt" => {
                return Err(self.refuse_parameter(
                    cursor,
                    "prompt templates live at their own provider; send 'instructions' and 'input'.",
                ));
            }
            "n" | "background" | "client_metadata" | "type" | "generate" => {}
            _ => self.dropped(key),
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
            seen.mark(&["effort", "summary"], key, cursor)?;
            match key {
                "effort" => settings.effort = cursor.string_or_null()?,
                "summary" => settings.summary = cursor.string_or_null()?,
                "generate_summary" if settings.summary.is_none() => {
                    settings.summary = cursor.string_or_null()?;
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Reads `text`, of the request or of a `configuration_update` item.
    pub(super) fn text(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let mut seen = Seen::default();
        cursor.object(|key, cursor| {
            self.place.field = key;
            seen.mark(&["verbosity", "format"], key, cursor)?;
            match key {
                "verbosity" => self.request.settings.verbosity = cursor.string_or_null()?,
                "format" if !cursor.null()? => self.format(cursor)?,
                _ => {}
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
            seen.mark(&["type", "name", "description", "schema", "strict"], key, cursor)?;
            match key {
                "type" => kind = Some(cursor.string()?),
                "name" => name = cursor.string_or_null()?,
                "description" => description = cursor.string_or_null()?,
                "schema" if !cursor.null()? => schema = Some(of_kind(cursor, Kind::Object)?),
                "strict" if !cursor.null()? => strict = Some(cursor.boolean()?),
                _ => {}
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
            seen.mark(&["include_obfuscation"], key, cursor)?;
            if key == "include_obfuscation" && !cursor.null()? {
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
