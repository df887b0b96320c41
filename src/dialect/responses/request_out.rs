//! A request as an upstream's Responses body.

use super::items_out;
use super::object::write_format;
use crate::dialect::event::CallKind;
use crate::dialect::quirks::EffortStyle;
use crate::dialect::request::{Choice, Content, Format, Item, Request, Role, Settings, ToolKind};
use crate::dialect::tools::ToolTable;
use crate::dialect::{Sent, Target};
use crate::fault::Failure;
use crate::wire::json::{self, Cursor, Escaped, Raw};

/// The least `max_output_tokens` that the API takes.
const OUTPUT_TOKENS_MIN: u64 = 16;

/// Appends the body.
pub(super) fn encode(
    request: &Request<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<Sent, Failure> {
    let start = out.len();
    let mut sent = Sent { provider: target.provider.to_owned(), ..Sent::default() };
    let keeps = request.settings.store == Some(true) && !target.quirks.forced_store_off;
    if request.settings.store == Some(true) && !keeps {
        sent.dropped.push("store".to_owned());
    }
    out.push(b'{');
    json::member("model", target.model, out);
    flag("stream", target.stream, out);
    flag("store", keeps, out);
    let leading = write_instructions(request, target, out);
    json::key("input", out);
    items_out::write(request, leading, target, &mut sent, out)?;
    write_tools(request, &mut sent.tools, out);
    write_settings(request, target, keeps, &mut sent.dropped, out);
    note_dropped(&request.settings, &mut sent.dropped);
    out.push(b'}');
    if request.halves {
        mend(start, out);
    }
    if target.strict
        && let Some(name) = request
            .dropped
            .iter()
            .map(AsRef::as_ref)
            .chain(sent.dropped.iter().map(String::as_str))
            .next()
    {
        let message = format!("The parameter '{name}' has no form at this upstream.");
        return Err(Failure::unsupported(name, message));
    }
    Ok(sent)
}

/// Replaces lone halves of surrogate pairs from `start` on: the API refuses the whole body for one,
/// and clients that cut texts send them. One look is enough for all texts.
fn mend(start: usize, out: &mut Vec<u8>) {
    let mut scratch = String::new();
    if let Ok(text) = json::utf8(out.get(start..).unwrap_or_default())
        && Raw::trusted(text).paired(&mut scratch).text() != text
    {
        out.truncate(start);
        out.extend_from_slice(scratch.as_bytes());
    }
}

/// Appends `instructions`: the client's own, or else the system text at the conversation's front.
/// Returns how many items went into it.
fn write_instructions(request: &Request<'_>, target: &Target<'_>, out: &mut Vec<u8>) -> usize {
    let required = target.quirks.instructions_required;
    if let Some(text) = request.instructions.filter(|text| !(required && text.is_empty())) {
        json::member_quoted("instructions", text, out);
        return 0;
    }
    let plain = |item: &&Item<'_>| match item {
        Item::Message { role: Role::System | Role::Developer, content } => {
            content.iter().all(|part| matches!(part, Content::Text(_)))
        }
        _ => false,
    };
    let leading = request.items.iter().take_while(plain).count();
    if leading == request.items.len() {
        // The API wants some input.
        return 0;
    }
    let mut texts = request.items.iter().take(leading).flat_map(|item| match item {
        Item::Message { content, .. } => &content[..],
        _ => &[],
    });
    let mut text = String::new();
    for part in &mut texts {
        if let Content::Text(more) = part {
            if !text.is_empty() && !more.is_empty() {
                text.push_str("\\n\\n");
            }
            text.push_str(more.raw());
        }
    }
    if !text.is_empty() {
        json::member_quoted("instructions", Escaped::trusted(&text), out);
    }
    leading
}

fn write_tools(request: &Request<'_>, table: &mut ToolTable, out: &mut Vec<u8>) {
    let search = request.settings.web_search_options;
    if request.tools.is_empty() && search.is_none() {
        return;
    }
    json::key("tools", out);
    out.push(b'[');
    for tool in &request.tools {
        json::comma(out);
        if let ToolKind::Hosted { .. } = tool.kind {
            out.extend_from_slice(tool.raw.text().as_bytes());
            continue;
        }
        let (call, kind) = match tool.kind {
            ToolKind::Custom { .. } => (CallKind::Custom, "custom"),
            // As a function, so that any upstream can offer it to its model.
            ToolKind::Search { .. } => (CallKind::Search, "function"),
            _ => (CallKind::Function, "function"),
        };
        out.push(b'{');
        json::member("type", kind, out);
        json::member("name", table.add(call, false, tool.name), out);
        if let Some(description) = tool.description {
            json::member_quoted("description", description, out);
        }
        match tool.kind {
            ToolKind::Function { parameters, strict } => {
                write_parameters(parameters, strict, out);
            }
            ToolKind::Search { parameters } => write_parameters(parameters, None, out),
            ToolKind::Custom { syntax: Some(syntax), grammar: Some(grammar) } => {
                json::key("format", out);
                out.push(b'{');
                json::member("type", "grammar", out);
                json::member_quoted("syntax", syntax, out);
                json::member_quoted("definition", grammar, out);
                out.push(b'}');
            }
            ToolKind::Custom { .. } | ToolKind::Hosted { .. } => {}
        }
        out.push(b'}');
    }
    if let Some(options) = search {
        json::comma(out);
        write_web_search(options, out);
    }
    out.push(b']');
    write_choice(request, table, out);
    if let Some(parallel) = request.parallel {
        flag("parallel_tool_calls", parallel, out);
    }
}

/// Appends a function's schema. `strict` is always said: left out it means true here, and the
/// upstream would rewrite the schema.
fn write_parameters(parameters: Option<Raw<'_>>, strict: Option<bool>, out: &mut Vec<u8>) {
    let schema = parameters.filter(|schema| !schema.is_null());
    let schema = schema.map_or(r#"{"type":"object","properties":{}}"#, Raw::text);
    json::member_raw("parameters", schema, out);
    flag("strict", strict.unwrap_or(false), out);
}

/// Appends Chat's `web_search_options` as the hosted tool; its `user_location` is flat here.
fn write_web_search(options: Raw<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    json::member("type", "web_search", out);
    let mut size = None;
    let mut place = Vec::new();
    let flatten = |cursor: &mut Cursor<'_>, place: &mut Vec<u8>| {
        cursor.object(|key, cursor| {
            if key == "approximate" && cursor.kind()? == json::Kind::Object {
                cursor.object(|key, cursor| {
                    json::member_raw(key, cursor.skip()?.text(), place);
                    Ok(())
                })?;
            }
            Ok(())
        })
    };
    // Options that are no such object say nothing.
    let _ = options.cursor().object(|key, cursor| {
        match key {
            "search_context_size" => size = cursor.string_or_null()?,
            "user_location" if cursor.kind()? == json::Kind::Object => {
                flatten(cursor, &mut place)?;
            }
            _ => {}
        }
        Ok(())
    });
    if let Some(size) = size {
        json::member_quoted("search_context_size", size, out);
    }
    if !place.is_empty() {
        json::key("user_location", out);
        out.extend_from_slice(b"{\"type\":\"approximate\",");
        out.extend_from_slice(&place);
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_choice(request: &Request<'_>, table: &mut ToolTable, out: &mut Vec<u8>) {
    let mode = match request.choice {
        Choice::Unset if request.allowed.is_empty() => return,
        Choice::Unset | Choice::Auto => "auto",
        Choice::None => "none",
        Choice::Required => "required",
        Choice::Tool { kind, name } => {
            let word = if kind == CallKind::Custom { "custom" } else { "function" };
            json::key("tool_choice", out);
            out.push(b'{');
            json::member("type", word, out);
            json::member("name", table.add(kind, false, name), out);
            out.push(b'}');
            return;
        }
        Choice::Hosted { kind } => {
            json::key("tool_choice", out);
            out.push(b'{');
            json::member_quoted("type", kind, out);
            out.push(b'}');
            return;
        }
    };
    if request.allowed.is_empty() || mode == "none" {
        return json::member("tool_choice", mode, out);
    }
    json::key("tool_choice", out);
    out.push(b'{');
    json::member("type", "allowed_tools", out);
    json::member("mode", mode, out);
    json::key("tools", out);
    out.push(b'[');
    for tool in request.tools.iter().filter(|tool| request.allowed.contains(&tool.name)) {
        let (kind, word) = match tool.kind {
            ToolKind::Hosted { .. } => continue,
            ToolKind::Custom { .. } => (CallKind::Custom, "custom"),
            ToolKind::Search { .. } => (CallKind::Search, "function"),
            ToolKind::Function { .. } => (CallKind::Function, "function"),
        };
        json::comma(out);
        out.push(b'{');
        json::member("type", word, out);
        json::member("name", table.add(kind, false, tool.name), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

fn write_settings(
    request: &Request<'_>,
    target: &Target<'_>,
    keeps: bool,
    dropped: &mut Vec<String>,
    out: &mut Vec<u8>,
) {
    let settings = &request.settings;
    let reasons = reasons(request, target);
    if reasons {
        json::key("reasoning", out);
        out.push(b'{');
        if let Some(effort) = settings.effort {
            json::member_quoted("effort", effort, out);
        }
        json::member_quoted("summary", settings.summary.unwrap_or(Escaped::trusted("auto")), out);
        out.push(b'}');
    }
    if settings.format != Format::Text || settings.verbosity.is_some() {
        json::key("text", out);
        out.push(b'{');
        if settings.format != Format::Text {
            json::key("format", out);
            write_format(&settings.format, out);
        }
        if let Some(verbosity) = settings.verbosity {
            json::member_quoted("verbosity", verbosity, out);
        }
        out.push(b'}');
    }
    let mut takes = |name: &str, said: bool| {
        let takes = target.quirks.takes(name);
        if said && !takes {
            dropped.push(name.to_owned());
        }
        said && takes
    };
    let logprobs = takes("top_logprobs", settings.logprobs || settings.top_logprobs.is_some());
    let include = [
        (reasons && !keeps, "reasoning.encrypted_content"),
        (settings.logprobs && logprobs, "message.output_text.logprobs"),
    ];
    if include.iter().any(|(wanted, _)| *wanted) {
        json::key("include", out);
        out.push(b'[');
        for (_, name) in include.iter().filter(|(wanted, _)| *wanted) {
            json::comma(out);
            json::string(name, out);
        }
        out.push(b']');
    }
    if let Some(tokens) = settings.output_tokens_max
        && takes("max_output_tokens", true)
    {
        json::member_number("max_output_tokens", tokens.max(OUTPUT_TOKENS_MIN), out);
    }
    if let Some(count) = settings.top_logprobs.filter(|_| logprobs) {
        json::member_number("top_logprobs", count, out);
    }
    write_plain_settings(settings, target, &mut takes, out);
}

fn write_plain_settings(
    settings: &Settings<'_>,
    target: &Target<'_>,
    takes: &mut dyn FnMut(&str, bool) -> bool,
    out: &mut Vec<u8>,
) {
    let theirs = target.quirks.openai_parameters;
    for (name, value) in [
        ("temperature", settings.temperature),
        ("top_p", settings.top_p),
        ("metadata", settings.metadata),
        ("moderation", settings.moderation.filter(|_| theirs)),
        ("prompt_cache_retention", settings.prompt_cache_retention.filter(|_| theirs)),
        ("prompt_cache_options", settings.prompt_cache_options.filter(|_| theirs)),
    ] {
        if let Some(value) = value.filter(|_| takes(name, true)) {
            json::member_raw(name, value.text(), out);
        }
    }
    for (name, value) in [
        ("service_tier", settings.service_tier),
        ("prompt_cache_key", settings.prompt_cache_key),
        ("safety_identifier", settings.safety_identifier),
        ("user", settings.user),
    ] {
        if let Some(value) = value.filter(|_| takes(name, true)) {
            json::member_quoted(name, value, out);
        }
    }
    if let Some(count) = settings.max_tool_calls.filter(|_| takes("max_tool_calls", true)) {
        json::member_number("max_tool_calls", count, out);
    }
    if target.stream && theirs && target.quirks.takes("stream_options") {
        // Padding against eavesdroppers on packet sizes; nothing is left of it behind this proxy.
        json::member_raw("stream_options", r#"{"include_obfuscation":false}"#, out);
    }
}

/// True when reasoning is to be asked for: models that do not reason refuse these parameters.
fn reasons(request: &Request<'_>, target: &Target<'_>) -> bool {
    if target.quirks.effort == EffortStyle::Omit {
        return false;
    }
    let settings = &request.settings;
    if let Some(effort) = settings.effort {
        // Where the table knows what a model takes, `none` is a value like any other.
        return !effort.is("none") || settings.include_sealed || target.quirks.effort_table;
    }
    let name = target.model.rsplit('/').next().unwrap_or_default();
    let numbered = |prefix: &str, least: u32| {
        let digits = name.strip_prefix(prefix)?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse::<u32>().ok().map(|number| number >= least)
    };
    settings.include_sealed
        || settings.summary.is_some()
        || numbered("o", 1).or_else(|| numbered("gpt-", 5)).unwrap_or(false)
}

fn note_dropped(settings: &Settings<'_>, dropped: &mut Vec<String>) {
    let matters = |value: Option<Raw<'_>>| {
        value.is_some_and(|value| !matches!(value.text(), "null" | "0" | "0.0" | "[]" | "{}"))
    };
    for (name, value) in [
        ("seed", settings.seed),
        ("logit_bias", settings.logit_bias),
        ("prediction", settings.prediction),
        ("presence_penalty", settings.presence_penalty),
        ("frequency_penalty", settings.frequency_penalty),
        ("x_codex", settings.x_codex),
    ] {
        if matters(value) {
            dropped.push(name.to_owned());
        }
    }
}

pub(super) fn flag(name: &str, value: bool, out: &mut Vec<u8>) {
    json::member_raw(name, if value { "true" } else { "false" }, out);
}
