//! Tools and the choice among them, in the present form and as legacy `functions`.

use super::members::{Members, each, missing, refused, wrong};
use crate::dialect::event::CallKind;
use crate::dialect::request::{Choice, Request, Tool, ToolKind, ToolName};
use crate::fault::Failure;
use crate::wire::json::{Escaped, Kind, Raw};

const FUNCTION: &[&str] = &["name", "description", "parameters", "strict"];
const CUSTOM: &[&str] = &["name", "description", "format"];

/// Reads everything about tools.
pub(super) fn read<'a>(top: &Members<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
    if let Some(list) = top.array("tools")? {
        each(list, "tools", |raw, place| {
            request.tools.push(tool(raw, place)?);
            Ok(())
        })?;
    }
    if let Some(list) = top.array("functions")? {
        each(list, "functions", |raw, place| {
            let (name, kind, description) = function(raw, place)?;
            request.tools.push(Tool { kind, name, description, raw });
            Ok(())
        })?;
        request.settings.legacy_functions = top.value("tools").is_none();
    }
    if let Some(choice) = top.value("tool_choice") {
        choose(choice, request)?;
    } else if let Some(choice) = top.value("function_call") {
        choose_function(choice, request)?;
    }
    request.parallel = top.boolean("parallel_tool_calls")?;
    Ok(())
}

fn tool<'a>(raw: Raw<'a>, place: &str) -> Result<Tool<'a>, Failure> {
    if raw.kind() != Kind::Object {
        return Err(wrong(place, "an object"));
    }
    let outer = Members::read(raw, place, &["type", "function", "custom", "name"])?;
    let kind = outer.string("type")?.unwrap_or(Escaped::trusted("function"));
    match kind.raw() {
        "function" => {
            // Some clients send the Responses form, where the members are not nested.
            let flat = outer.value("function").is_none() && outer.value("name").is_some();
            let (inner, path) = match outer.object("function")? {
                Some(inner) => (inner, outer.path("function")),
                None if flat => (raw, place.to_owned()),
                None => return Err(missing(&outer.path("function"))),
            };
            let (name, kind, description) = function(inner, &path)?;
            Ok(Tool { kind, name, description, raw })
        }
        "custom" => {
            let flat = outer.value("custom").is_none() && outer.value("name").is_some();
            let (inner, path) = match outer.object("custom")? {
                Some(inner) => (inner, outer.path("custom")),
                None if flat => (raw, place.to_owned()),
                None => return Err(missing(&outer.path("custom"))),
            };
            custom(raw, inner, &path)
        }
        _ => Ok(Tool {
            kind: ToolKind::Hosted { kind },
            name: ToolName::default(),
            description: None,
            raw,
        }),
    }
}

fn function<'a>(
    raw: Raw<'a>,
    place: &str,
) -> Result<(ToolName<'a>, ToolKind<'a>, Option<Escaped<'a>>), Failure> {
    if raw.kind() != Kind::Object {
        return Err(wrong(place, "an object"));
    }
    let members = Members::read(raw, place, FUNCTION)?;
    let kind = ToolKind::Function {
        parameters: members.object("parameters")?,
        strict: members.boolean("strict")?,
    };
    Ok((name(&members)?, kind, members.string("description")?))
}

fn custom<'a>(raw: Raw<'a>, inner: Raw<'a>, place: &str) -> Result<Tool<'a>, Failure> {
    let members = Members::read(inner, place, CUSTOM)?;
    let (mut syntax, mut grammar) = (None, None);
    if let Some(format) = members.object("format")? {
        let path = members.path("format");
        let format = Members::read(format, &path, &["type", "grammar", "syntax", "definition"])?;
        let flat = (format.string("syntax")?, format.string("definition")?);
        (syntax, grammar) = match format.object("grammar")? {
            Some(inner) => {
                let path = format.path("grammar");
                let inner = Members::read(inner, &path, &["syntax", "definition"])?;
                (inner.string("syntax")?, inner.string("definition")?)
            }
            None => flat,
        };
    }
    Ok(Tool {
        kind: ToolKind::Custom { syntax, grammar },
        name: name(&members)?,
        description: members.string("description")?,
        raw,
    })
}

fn name<'a>(members: &Members<'a>) -> Result<ToolName<'a>, Failure> {
    let name = members.string("name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(&members.path("name")))?;
    Ok(ToolName { namespace: Escaped::EMPTY, name })
}

fn choose<'a>(choice: Raw<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
    const PLACE: &str = "tool_choice";
    if let Some(mode) = choice.string() {
        request.choice = by_mode(mode, PLACE)?;
        return Ok(());
    }
    if choice.kind() != Kind::Object {
        return Err(wrong(PLACE, "a string or an object"));
    }
    let names = &["type", "function", "custom", "allowed_tools", "name"];
    let outer = Members::read(choice, PLACE, names)?;
    let kind = outer.string("type")?.unwrap_or(Escaped::trusted("function"));
    if kind.is("allowed_tools") {
        let inner = outer.object("allowed_tools")?;
        let inner = inner.ok_or_else(|| missing("tool_choice.allowed_tools"))?;
        let path = outer.path("allowed_tools");
        let inner = Members::read(inner, &path, &["mode", "tools"])?;
        request.choice = match inner.string("mode")? {
            Some(mode) => by_mode(mode, &inner.path("mode"))?,
            None => Choice::Auto,
        };
        let list = inner.array("tools")?.ok_or_else(|| missing(&inner.path("tools")))?;
        return each(list, &inner.path("tools"), |raw, place| {
            if raw.kind() != Kind::Object {
                return Err(wrong(place, "an object"));
            }
            let names = &["type", "function", "custom", "name"];
            if let Some((_, name)) = chosen(&Members::read(raw, place, names)?)? {
                request.allowed.push(name);
            }
            Ok(())
        });
    }
    request.choice = match chosen(&outer)? {
        Some((kind, name)) => Choice::Tool { kind, name },
        None => Choice::Hosted { kind },
    };
    Ok(())
}

/// The tool that `{"type":"function","function":{"name"}}` names; `None` for a hosted tool.
fn chosen<'a>(outer: &Members<'a>) -> Result<Option<(CallKind, ToolName<'a>)>, Failure> {
    let kind = outer.string("type")?.unwrap_or(Escaped::trusted("function"));
    let (kind, member) = match kind.raw() {
        "function" => (CallKind::Function, "function"),
        "custom" => (CallKind::Custom, "custom"),
        _ => return Ok(None),
    };
    let name = match outer.object(member)? {
        Some(inner) => name(&Members::read(inner, &outer.path(member), &["name"])?)?,
        None => name(outer)?,
    };
    Ok(Some((kind, name)))
}

fn by_mode<'a>(mode: Escaped<'_>, place: &str) -> Result<Choice<'a>, Failure> {
    match mode.raw() {
        "auto" => Ok(Choice::Auto),
        "none" => Ok(Choice::None),
        // Mistral's clients say `any`.
        "required" | "any" => Ok(Choice::Required),
        _ => Err(refused(place, "it must be 'auto', 'none', 'required' or name a tool")),
    }
}

fn choose_function<'a>(choice: Raw<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
    if let Some(mode) = choice.string() {
        request.choice = by_mode(mode, "function_call")?;
        return Ok(());
    }
    if choice.kind() != Kind::Object {
        return Err(wrong("function_call", "a string or an object"));
    }
    let name = name(&Members::read(choice, "function_call", &["name"])?)?;
    request.choice = Choice::Tool { kind: CallKind::Function, name };
    Ok(())
}
