//! The tools that a client declares, wherever in its request, and its choice among them.

use super::request_in::{Place, Reader, of_kind};
use crate::dialect::event::CallKind;
use crate::dialect::keys::{Key as _, Seen, keys};
use crate::dialect::request::{Choice, Tool, ToolKind, ToolName};
use crate::wire::json::{Bad, Cursor, Escaped, Kind, Raw};

/// The namespace whose tools have plain names: calls may carry it or leave it out.
const IMPLICIT_NAMESPACE: &str = "functions";

keys!(
    /// The members of a tool declaration that are read.
    ToolKey {
        Type = "type",
        Name = "name",
        Description = "description",
        Parameters = "parameters",
        Strict = "strict",
        Format = "format",
        Execution = "execution",
        Tools = "tools",
    }
);

keys!(ChoiceKey {
    Type = "type",
    Name = "name",
    Namespace = "namespace",
    Mode = "mode",
    Tools = "tools",
});

impl<'a> Reader<'a> {
    /// Adds the tools of a list, wherever it stood.
    pub(super) fn tools(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Bad> {
        let mut index = 0;
        let outer = self.place;
        cursor.array(|cursor| {
            self.place = outer;
            if outer.index.is_some() {
                self.place.part = Some(index);
            } else {
                self.place.index = Some(index);
            }
            index += 1;
            self.tool(cursor, None)
        })?;
        self.place = outer;
        Ok(())
    }

    fn tool(&mut self, cursor: &mut Cursor<'a>, namespace: Option<Escaped<'a>>) -> Result<(), Bad> {
        let fields = ToolFields::read(cursor, &mut self.place)?;
        let Some(kind) = fields.kind else {
            return Err(self.refuse_missing(cursor, "type"));
        };
        let parameters = fields.parameters.filter(|schema| !schema.is_null());
        let kind = match kind.raw() {
            "function" => ToolKind::Function { parameters, strict: fields.strict },
            "custom" => ToolKind::Custom { syntax: fields.syntax, grammar: fields.grammar },
            "tool_search" if fields.execution.is_some_and(|who| who.is("client")) => {
                ToolKind::Search { parameters }
            }
            "namespace" if namespace.is_none() => {
                let name = fields.name.unwrap_or_default();
                if let Some(list) = fields.tools {
                    let place = self.place;
                    list.cursor().array(|inner| self.tool(inner, Some(name)))?;
                    self.place = place;
                }
                return Ok(());
            }
            _ => ToolKind::Hosted { kind },
        };
        let raw = fields.raw;
        let name = match kind {
            ToolKind::Hosted { .. } => {
                let tool = Tool { kind, name: ToolName::default(), description: None, raw };
                self.request.tools.push(tool);
                return Ok(());
            }
            ToolKind::Search { .. } => Escaped::trusted("tool_search"),
            _ => match fields.name.filter(|name| !name.is_empty()) {
                Some(name) => name,
                None => return Err(self.refuse_missing(cursor, "name")),
            },
        };
        let name = ToolName { namespace: plain_namespace(namespace.unwrap_or_default()), name };
        self.add_tool(Tool { kind, name, description: fields.description, raw });
        Ok(())
    }

    /// Adds a tool; of two with one name the later one counts, at the place of the first, so that
    /// a declaration that is repeated moves nothing in the upstream's prompt.
    fn add_tool(&mut self, tool: Tool<'a>) {
        let tools = &mut self.request.tools;
        let at = *self.names.entry(tool.name).or_insert(tools.len());
        match tools.get_mut(at) {
            Some(known) => *known = tool,
            None => tools.push(tool),
        }
    }

    pub(super) fn choice(&mut self, raw: Raw<'a>) -> Result<(), Bad> {
        let mut cursor = raw.cursor();
        if let Some(word) = raw.string() {
            self.request.choice = match word.raw() {
                "auto" => Choice::Auto,
                "none" => Choice::None,
                "required" => Choice::Required,
                _ => {
                    let why = "a tool choice is 'auto', 'none', 'required' or an object.";
                    return Err(self.refuse_value(&cursor, why));
                }
            };
            return Ok(());
        }
        let (mut mode, mut list) = (None, None);
        let (mut kind, mut name, mut namespace) = (None, None, None);
        let mut seen = Seen::default();
        let place = &mut self.place;
        cursor.object(|key, cursor| {
            place.field = key;
            let Some(known) = ChoiceKey::of(key) else { return Ok(()) };
            seen.mark(known, cursor)?;
            match known {
                ChoiceKey::Type => kind = Some(cursor.string()?),
                ChoiceKey::Name => name = cursor.string_or_null()?,
                ChoiceKey::Namespace => namespace = cursor.string_or_null()?,
                ChoiceKey::Mode => mode = cursor.string_or_null()?,
                ChoiceKey::Tools => list = Some(of_kind(cursor, Kind::Array)?),
            }
            Ok(())
        })?;
        self.place.field = "";
        let Some(kind) = kind else { return Err(self.refuse_missing(&cursor, "type")) };
        let call = match kind.raw() {
            "function" => CallKind::Function,
            "custom" => CallKind::Custom,
            "allowed_tools" => return self.allowed(mode, list, &cursor),
            _ => {
                self.request.choice = Choice::Hosted { kind };
                return Ok(());
            }
        };
        let Some(name) = name else { return Err(self.refuse_missing(&cursor, "name")) };
        let namespace = plain_namespace(namespace.unwrap_or_default());
        self.request.choice = Choice::Tool { kind: call, name: ToolName { namespace, name } };
        Ok(())
    }

    fn allowed(
        &mut self,
        mode: Option<Escaped<'a>>,
        list: Option<Raw<'a>>,
        cursor: &Cursor<'a>,
    ) -> Result<(), Bad> {
        let required = mode.is_some_and(|mode| mode.is("required"));
        self.request.choice = if required { Choice::Required } else { Choice::Auto };
        let Some(list) = list else { return Err(self.refuse_missing(cursor, "tools")) };
        list.cursor().array(|cursor| {
            let (mut name, mut namespace) = (None, Escaped::EMPTY);
            cursor.object(|key, cursor| {
                match key {
                    "name" => name = cursor.string_or_null()?,
                    "namespace" => namespace = cursor.string_or_null()?.unwrap_or_default(),
                    _ => {}
                }
                Ok(())
            })?;
            let namespace = plain_namespace(namespace);
            self.request.allowed.extend(name.map(|name| ToolName { namespace, name }));
            Ok(())
        })
    }
}

/// The members of a tool declaration that are read.
struct ToolFields<'a> {
    kind: Option<Escaped<'a>>,
    name: Option<Escaped<'a>>,
    description: Option<Escaped<'a>>,
    parameters: Option<Raw<'a>>,
    strict: Option<bool>,
    syntax: Option<Escaped<'a>>,
    grammar: Option<Escaped<'a>>,
    execution: Option<Escaped<'a>>,
    tools: Option<Raw<'a>>,
    /// The whole declaration.
    raw: Raw<'a>,
}

impl<'a> ToolFields<'a> {
    fn read(cursor: &mut Cursor<'a>, place: &mut Place<'a>) -> Result<Self, Bad> {
        let (mut kind, mut name, mut description) = (None, None, None);
        let (mut parameters, mut strict) = (None, None);
        let (mut syntax, mut grammar, mut execution, mut tools) = (None, None, None, None);
        let mut seen = Seen::default();
        let outer = *place;
        let start = cursor.position();
        cursor.object(|key, cursor| {
            if outer.part.is_some() {
                place.leaf = key;
            } else {
                place.field = key;
            }
            let Some(known) = ToolKey::of(key) else { return Ok(()) };
            seen.mark(known, cursor)?;
            match known {
                _ if cursor.null()? => {}
                ToolKey::Type => kind = Some(cursor.string()?),
                ToolKey::Name => name = Some(cursor.string()?),
                ToolKey::Description => description = Some(cursor.string()?),
                ToolKey::Parameters => parameters = Some(of_kind(cursor, Kind::Object)?),
                ToolKey::Strict => strict = Some(cursor.boolean()?),
                ToolKey::Format if cursor.kind()? == Kind::Object => {
                    cursor.object(|key, cursor| {
                        match key {
                            "syntax" => syntax = cursor.string_or_null()?,
                            "definition" => grammar = cursor.string_or_null()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                ToolKey::Format => {}
                ToolKey::Execution => execution = Some(cursor.string()?),
                ToolKey::Tools => tools = Some(of_kind(cursor, Kind::Array)?),
            }
            Ok(())
        })?;
        *place = outer;
        let raw = cursor.since(start);
        Ok(Self {
            kind,
            name,
            description,
            parameters,
            strict,
            syntax,
            grammar,
            execution,
            tools,
            raw,
        })
    }
}

/// A namespace as it counts: the implicit one is none.
pub(super) fn plain_namespace(namespace: Escaped<'_>) -> Escaped<'_> {
    if namespace.is(IMPLICIT_NAMESPACE) { Escaped::EMPTY } else { namespace }
}
