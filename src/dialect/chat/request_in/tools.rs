//! Tools and the choice among them, in the present form and as legacy `functions`.

use super::members::{Members, Path, Refusal, missing, refused, wrong};
use super::{Parameter, Top};
use crate::dialect::event::CallKind;
use crate::dialect::keys::{Key as _, keys};
use crate::dialect::request::{Choice, Request, Tool, ToolKind, ToolName};
use crate::fault::Failure;
use crate::wire::json::{Bad, Cursor, Escaped, Kind, Raw};

keys!(
    /// The members of a tool, and of the object in it: some clients send the form of the Responses
    /// API, where they are not nested.
    ToolKey {
        Type = "type",
        Function = "function",
        Custom = "custom",
        Name = "name",
        Description = "description",
        Parameters = "parameters",
        Strict = "strict",
        Format = "format",
    }
);
keys!(FormatKey {
    Type = "type",
    Grammar = "grammar",
    Syntax = "syntax",
    Definition = "definition",
});
keys!(ChoiceKey {
    Type = "type",
    Function = "function",
    Custom = "custom",
    AllowedTools = "allowed_tools",
    Name = "name",
});
keys!(AllowedKey { Mode = "mode", Tools = "tools", });

/// Reads `tools`.
pub(super) fn tools<'a>(
    cursor: &mut Cursor<'a>,
    refusal: &mut Refusal,
) -> Result<Vec<Tool<'a>>, Bad> {
    let (mut tools, mut index) = (Vec::new(), 0);
    let list = Path::Body.member(Parameter::Tools.text());
    cursor.array(|cursor| {
        let path = list.element(index);
        index += 1;
        tools.push(tool(cursor, path, refusal)?);
        Ok(())
    })?;
    Ok(tools)
}

/// Reads `functions`.
pub(super) fn functions<'a>(
    cursor: &mut Cursor<'a>,
    refusal: &mut Refusal,
) -> Result<Vec<Tool<'a>>, Bad> {
    let (mut tools, mut index) = (Vec::new(), 0);
    let list = Path::Body.member(Parameter::Functions.text());
    cursor.array(|cursor| {
        let path = list.element(index);
        index += 1;
        let start = cursor.position();
        let members = Members::read(cursor, path, refusal)?;
        let tool = function(&members, cursor.since(start));
        tools.push(tool.map_err(|failure| refusal.keep(failure, cursor))?);
        Ok(())
    })?;
    Ok(tools)
}

fn tool<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
) -> Result<Tool<'a>, Bad> {
    let (function_path, custom_path) = (path.member("function"), path.member("custom"));
    let (mut function, mut custom) = (None, None);
    let start = cursor.position();
    let outer = Members::walk(cursor, path, refusal, |key, _, cursor, refusal| {
        let (slot, path) = match key {
            Some(ToolKey::Function) => (&mut function, function_path),
            Some(ToolKey::Custom) => (&mut custom, custom_path),
            _ => return Ok(()),
        };
        if cursor.kind()? == Kind::Object {
            let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                Members::read(cursor, path, refusal)
            };
            *slot = Some(refusal.attempt(cursor, read)?);
        }
        Ok(())
    })?;
    let tool = declared(&outer, function, custom, cursor.since(start));
    tool.map_err(|failure| refusal.keep(failure, cursor))
}

/// The tool that these members declare, those of the object in it if there is one.
fn declared<'a>(
    outer: &Members<'_, 'a, ToolKey>,
    inner_function: Option<Result<Members<'_, 'a, ToolKey>, Failure>>,
    inner_custom: Option<Result<Members<'_, 'a, ToolKey>, Failure>>,
    raw: Raw<'a>,
) -> Result<Tool<'a>, Failure> {
    let kind = outer.string(ToolKey::Type)?.unwrap_or(Escaped::trusted("function"));
    let (key, inner) = match kind.raw() {
        "function" => (ToolKey::Function, inner_function),
        "custom" => (ToolKey::Custom, inner_custom),
        _ => {
            let kind = ToolKind::Hosted { kind };
            return Ok(Tool { kind, name: ToolName::default(), description: None, raw });
        }
    };
    outer.object(key)?;
    let inner = inner.transpose()?;
    let members = match &inner {
        Some(inner) => inner,
        None if outer.value(ToolKey::Name).is_some() => outer,
        None => return Err(missing(outer.path(key))),
    };
    if key == ToolKey::Custom { custom(members, raw) } else { function(members, raw) }
}

fn function<'a>(members: &Members<'_, 'a, ToolKey>, raw: Raw<'a>) -> Result<Tool<'a>, Failure> {
    let kind = ToolKind::Function {
        parameters: members.object(ToolKey::Parameters)?,
        strict: members.boolean(ToolKey::Strict)?,
    };
    let name = name(members, ToolKey::Name)?;
    Ok(Tool { kind, name, description: members.string(ToolKey::Description)?, raw })
}

fn custom<'a>(members: &Members<'_, 'a, ToolKey>, raw: Raw<'a>) -> Result<Tool<'a>, Failure> {
    let (mut syntax, mut grammar) = (None, None);
    if let Some(format) = members.object(ToolKey::Format)? {
        let format = Members::of(format, members.path(ToolKey::Format))?;
        (syntax, grammar) =
            (format.string(FormatKey::Syntax)?, format.string(FormatKey::Definition)?);
        if let Some(inner) = format.object(FormatKey::Grammar)? {
            let inner = Members::of(inner, format.path(FormatKey::Grammar))?;
            (syntax, grammar) =
                (inner.string(FormatKey::Syntax)?, inner.string(FormatKey::Definition)?);
        }
    }
    Ok(Tool {
        kind: ToolKind::Custom { syntax, grammar },
        name: name(members, ToolKey::Name)?,
        description: members.string(ToolKey::Description)?,
        raw,
    })
}

fn name<'a, K: crate::dialect::keys::Key>(
    members: &Members<'_, 'a, K>,
    key: K,
) -> Result<ToolName<'a>, Failure> {
    let name = members.string(key)?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(members.path(key)))?;
    Ok(ToolName { namespace: Escaped::EMPTY, name })
}

/// Reads the choice among the tools.
pub(super) fn choice<'a>(top: &Top<'a>, request: &mut Request<'a>) -> Result<(), Failure> {
    use Parameter as P;
    if let Some(choice) = top.value(P::ToolChoice) {
        choose(choice, top.path(P::ToolChoice), request)?;
    } else if let Some(choice) = top.value(P::FunctionCall) {
        choose_function(choice, top.path(P::FunctionCall), request)?;
    }
    request.parallel = top.boolean(P::ParallelToolCalls)?;
    Ok(())
}

fn choose<'a>(choice: Raw<'a>, path: Path<'_>, request: &mut Request<'a>) -> Result<(), Failure> {
    if let Some(mode) = choice.string() {
        request.choice = by_mode(mode, path)?;
        return Ok(());
    }
    if choice.kind() != Kind::Object {
        return Err(wrong(path, "a string or an object"));
    }
    let outer = Members::of(choice, path)?;
    let kind = outer.string(ChoiceKey::Type)?.unwrap_or(Escaped::trusted("function"));
    if kind.is("allowed_tools") {
        let path = outer.path(ChoiceKey::AllowedTools);
        let inner = outer.object(ChoiceKey::AllowedTools)?.ok_or_else(|| missing(path))?;
        let inner = Members::of(inner, path)?;
        request.choice = match inner.string(AllowedKey::Mode)? {
            Some(mode) => by_mode(mode, inner.path(AllowedKey::Mode))?,
            None => Choice::Auto,
        };
        let path = inner.path(AllowedKey::Tools);
        let list = inner.array(AllowedKey::Tools)?.ok_or_else(|| missing(path))?;
        return allow(list, path, request);
    }
    request.choice = match chosen(&outer)? {
        Some((kind, name)) => Choice::Tool { kind, name },
        None => Choice::Hosted { kind },
    };
    Ok(())
}

fn allow<'a>(list: Raw<'a>, path: Path<'_>, request: &mut Request<'a>) -> Result<(), Failure> {
    let (mut refusal, mut index) = (Refusal::default(), 0);
    let walked = list.cursor().array(|cursor| {
        let path = path.element(index);
        index += 1;
        let tool = Members::read(cursor, path, &mut refusal)?;
        let tool = chosen(&tool).map_err(|failure| refusal.keep(failure, cursor))?;
        request.allowed.extend(tool.map(|(_, name)| name));
        Ok(())
    });
    walked.map_err(|bad| refusal.explain(bad))
}

/// The tool that `{"type":"function","function":{"name"}}` names; `None` for a hosted tool.
fn chosen<'a>(
    outer: &Members<'_, 'a, ChoiceKey>,
) -> Result<Option<(CallKind, ToolName<'a>)>, Failure> {
    let kind = outer.string(ChoiceKey::Type)?.unwrap_or(Escaped::trusted("function"));
    let (kind, key) = match kind.raw() {
        "function" => (CallKind::Function, ChoiceKey::Function),
        "custom" => (CallKind::Custom, ChoiceKey::Custom),
        _ => return Ok(None),
    };
    let name = match outer.object(key)? {
        Some(inner) => name(&Members::of(inner, outer.path(key))?, ToolKey::Name)?,
        None => name(outer, ChoiceKey::Name)?,
    };
    Ok(Some((kind, name)))
}

fn by_mode<'a>(mode: Escaped<'_>, path: Path<'_>) -> Result<Choice<'a>, Failure> {
    match mode.raw() {
        "auto" => Ok(Choice::Auto),
        "none" => Ok(Choice::None),
        // Mistral's clients say `any`.
        "required" | "any" => Ok(Choice::Required),
        _ => Err(refused(path, "it must be 'auto', 'none', 'required' or name a tool")),
    }
}

fn choose_function<'a>(
    choice: Raw<'a>,
    path: Path<'_>,
    request: &mut Request<'a>,
) -> Result<(), Failure> {
    if let Some(mode) = choice.string() {
        request.choice = by_mode(mode, path)?;
        return Ok(());
    }
    if choice.kind() != Kind::Object {
        return Err(wrong(path, "a string or an object"));
    }
    let name = name(&Members::of(choice, path)?, ToolKey::Name)?;
    request.choice = Choice::Tool { kind: CallKind::Function, name };
    Ok(())
}
