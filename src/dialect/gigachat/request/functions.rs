//! Tools as functions, and the choice among them.

use super::{BUILT_IN, Body};
use crate::dialect::event::CallKind;
use crate::dialect::gigachat::schema::{self, Loss};
use crate::dialect::request::{Choice, Format, Item, Tool, ToolKind, ToolName};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};

/// The function that stands for the answer's schema, where the schema cannot be asked for.
const ANSWER: &str = "structured_answer";

/// A tool that goes upstream.
pub(super) struct Declared<'b, 'a> {
    tool: &'b Tool<'a>,
    kind: CallKind,
    /// Its place in the table of names.
    place: usize,
}

impl<'b, 'a> Body<'b, 'a> {
    /// Names the tools, those of the history too, and picks what is declared upstream.
    pub(super) fn declare(&mut self) -> Result<Vec<Declared<'b, 'a>>, Failure> {
        let request = self.request;
        let mut declared: Vec<Declared<'b, 'a>> = Vec::with_capacity(request.tools.len());
        // Where the tool of each place of the table is declared.
        let mut known: Vec<Option<usize>> = Vec::new();
        let mut hosted = None;
        for tool in &request.tools {
            let kind = match tool.kind {
                ToolKind::Function { .. } => CallKind::Function,
                ToolKind::Custom { .. } => CallKind::Custom,
                ToolKind::Search { .. } => CallKind::Search,
                ToolKind::Hosted { kind } => {
                    hosted = hosted.or(Some(kind));
                    self.drop(&format!("tools.{}", kind.decode()))?;
                    continue;
                }
            };
            let place = self.place(kind, tool.name);
            known.resize(known.len().max(place + 1), None);
            if let Some(twin) = known[place].and_then(|at| declared.get_mut(at)) {
                let same = twin.tool.raw == tool.raw;
                twin.tool = tool;
                if !same {
                    self.drop("tools (one name twice)")?;
                }
            } else {
                known[place] = Some(declared.len());
                declared.push(Declared { tool, kind, place });
            }
        }
        if let (true, Some(kind)) = (declared.is_empty(), hosted) {
            let kind = kind.decode();
            let message = format!(
                "the upstream cannot run the tool `{kind}`, and the request has no other tool"
            );
            return Err(Failure::unsupported("tools", message));
        }
        for item in &request.items {
            if let Item::Call { kind, tool, .. } = item {
                self.place(*kind, *tool);
            }
        }
        if !request.allowed.is_empty() {
            declared.retain(|known| request.allowed.contains(&known.tool.name));
        }
        Ok(declared)
    }

    /// Where the name of a tool stands in the table of names.
    pub(super) fn place(&mut self, kind: CallKind, tool: ToolName<'_>) -> usize {
        self.tools.place(kind, kind == CallKind::Custom, tool)
    }

    /// Appends the upstream's name of the tool at this place of the table.
    pub(super) fn name(&self, place: usize, out: &mut Vec<u8>) {
        json::member("name", &self.tools.entries()[place].upstream, out);
    }

    /// Appends `functions` and `function_call`, or nothing without functions. An answer of GigaChat
    /// has one call at most, which also serves who wants no parallel calls.
    pub(super) fn functions(
        &mut self,
        declared: &[Declared<'_, '_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let chosen = self.chosen(declared)?;
        let offered: &[Declared<'_, '_>] =
            if self.request.choice == Choice::None { &[] } else { declared };
        self.answer = self.answer_function(chosen.is_some());
        if offered.is_empty() && self.answer.is_none() {
            return Ok(());
        }
        json::key("functions", out);
        out.push(b'[');
        for tool in offered {
            json::comma(out);
            self.function(tool, out)?;
        }
        self.answer_as_function(out)?;
        out.push(b']');
        json::key("function_call", out);
        match (chosen, &self.answer) {
            (Some(place), _) => {
                out.push(b'{');
                self.name(place, out);
                out.push(b'}');
            }
            (None, Some(answer)) if offered.is_empty() => {
                out.push(b'{');
                json::member("name", answer, out);
                out.push(b'}');
            }
            // Left out, it would be `none`.
            (None, answer) => {
                out.extend_from_slice(b"\"auto\"");
                if answer.is_some() {
                    // With tools to call the schema does not bind.
                    self.drop("text.format.schema")?;
                }
                if self.request.choice == Choice::Required {
                    self.drop("tool_choice.required")?;
                }
            }
        }
        Ok(())
    }

    /// The place of the tool that must be called.
    fn chosen(&self, declared: &[Declared<'_, '_>]) -> Result<Option<usize>, Failure> {
        match (self.request.choice, declared) {
            (Choice::Hosted { kind }, _) => {
                let message = format!("the upstream cannot run the tool `{}`", kind.decode());
                Err(Failure::unsupported("tool_choice", message))
            }
            (Choice::Tool { kind, name }, _) => {
                let same = |tool: &&Declared<'_, '_>| tool.kind == kind && tool.tool.name == name;
                let found = declared.iter().find(same).map(|tool| tool.place);
                found.map(Some).ok_or_else(|| {
                    let message = format!(
                        "tool_choice names the tool `{}`, which is not among the tools",
                        name.name.decode()
                    );
                    Failure::unsupported("tool_choice", message)
                })
            }
            // A call of some tool can be asked for only by the tool's name.
            (Choice::Required, [only]) => Ok(Some(only.place)),
            _ => Ok(None),
        }
    }

    fn function(&mut self, declared: &Declared<'_, '_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let tool = declared.tool;
        out.push(b'{');
        self.name(declared.place, out);
        match tool.kind {
            ToolKind::Custom { syntax, grammar } => {
                self.wrapped(tool.description, syntax, grammar, out);
            }
            ToolKind::Function { parameters, .. } | ToolKind::Search { parameters } => {
                if let Some(text) = tool.description {
                    self.text("description", text, out);
                }
                self.schema("parameters", "tools.parameters", parameters, out)?;
            }
            // Never declared.
            ToolKind::Hosted { .. } => {}
        }
        if matches!(tool.kind, ToolKind::Function { strict: Some(true), .. }) {
            self.drop("tools.strict")?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Appends a schema as the member `key`, as far as the upstream understands it. Rules that the
    /// model does not learn of are noted as dropped, from what stands at `place` of the request.
    pub(super) fn schema(
        &mut self,
        key: &str,
        place: &str,
        schema: Option<Raw<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        json::key(key, out);
        let schema = schema.unwrap_or(Raw::NULL);
        let report = schema::normalise(schema.paired(&mut self.scratch).text(), out);
        for note in report.notes().iter().filter(|note| note.loss() == Loss::Lost) {
            self.drop(&format!("{place} {note}"))?;
        }
        Ok(())
    }

    /// A custom tool as a function with one string; its grammar goes into the description, which is
    /// the only place where the model can see it.
    fn wrapped(
        &mut self,
        description: Option<Escaped<'_>>,
        syntax: Option<Escaped<'_>>,
        grammar: Option<Escaped<'_>>,
        out: &mut Vec<u8>,
    ) {
        json::key("description", out);
        out.push(b'"');
        if let Some(text) = description {
            self.inside(text, out);
            out.extend_from_slice(b"\\n\\n");
        }
        out.extend_from_slice(b"Put the whole input, as plain text, into the string `input`.");
        if let Some(grammar) = grammar.filter(|grammar| !grammar.is_empty()) {
            out.extend_from_slice(b" The input must match this ");
            self.inside(syntax.unwrap_or_default(), out);
            out.extend_from_slice(b" grammar:\\n");
            self.inside(grammar, out);
        }
        out.push(b'"');
        json::member_raw(
            "parameters",
            "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\
             \"The tool's whole input\"}},\"required\":[\"input\"]}",
            out,
        );
    }

    /// The name of the function that stands for the answer's schema, if one has to: the schema has
    /// no member of its own here, and no other function must be called.
    fn answer_function(&self, chosen: bool) -> Option<String> {
        let schema = matches!(self.request.settings.format, Format::JsonSchema { .. });
        if !schema || self.quirks.json_schema || chosen {
            return None;
        }
        let mut name = ANSWER.to_owned();
        let taken = |name: &str| {
            BUILT_IN.contains(&name) || self.tools.by_upstream(Escaped::trusted(name)).is_some()
        };
        while taken(&name) {
            name.push('_');
        }
        Some(name)
    }

    fn answer_as_function(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Format::JsonSchema { description, schema, .. } = self.request.settings.format else {
            return Ok(());
        };
        let Some(name) = &self.answer else { return Ok(()) };
        json::comma(out);
        out.push(b'{');
        json::member("name", name, out);
        out.extend_from_slice(b",\"description\":\"Gives the answer in its final form");
        if let Some(text) = description.filter(|text| !text.is_empty()) {
            out.extend_from_slice(b": ");
            self.inside(text, out);
        }
        out.push(b'"');
        self.schema("parameters", "text.format.schema", Some(schema), out)?;
        out.push(b'}');
        Ok(())
    }
}
