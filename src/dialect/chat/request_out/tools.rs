//! Tools and the choice among them.

use super::Body;
use crate::dialect::event::CallKind;
use crate::dialect::request::{Choice, Tool, ToolKind, ToolName};
use crate::fault::Failure;
use crate::wire::json::{self, Escaped, Raw};

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
        // Where each name is declared.
        let mut twins: Vec<Option<usize>> = Vec::new();
        let mut hosted = None;
        for tool in &request.tools {
            let kind = match tool.kind {
                ToolKind::Function { .. } => CallKind::Function,
                ToolKind::Custom { .. } => CallKind::Custom,
                ToolKind::Search { .. } => CallKind::Search,
                ToolKind::Hosted { kind } => {
                    hosted = hosted.or(Some(kind));
                    self.drop_hosted(kind)?;
                    continue;
                }
            };
            let place = self.place(kind, tool.name);
            let twin = twins.get(place).copied().flatten();
            match twin.and_then(|at| declared.get_mut(at)) {
                None => {
                    twins.resize(twins.len().max(place + 1), None);
                    twins[place] = Some(declared.len());
                    declared.push(Declared { tool, kind, place });
                }
                Some(known) => {
                    let same = known.tool.raw == tool.raw;
                    known.tool = tool;
                    if !same {
                        self.drop("tools (one name twice)")?;
                    }
                }
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
            if let crate::dialect::request::Item::Call { kind, tool, .. } = item {
                self.place(*kind, *tool);
            }
        }
        if !request.allowed.is_empty() && !self.quirks.allowed_tools {
            declared.retain(|known| is_allowed(&request.allowed, known.tool.name));
        }
        Ok(declared)
    }

    fn drop_hosted(&mut self, kind: Escaped<'_>) -> Result<(), Failure> {
        let plain = kind.decode();
        self.drop(&format!("tools.{plain}"))
    }

    /// Where the name of a tool stands in the table of names.
    pub(super) fn place(&mut self, kind: CallKind, tool: ToolName<'_>) -> usize {
        let wrapped = kind == CallKind::Custom && !self.quirks.custom_tools;
        self.tools.place(kind, wrapped, tool)
    }

    /// Appends the upstream's name of the tool at this place of the table.
    pub(super) fn name(&self, place: usize, out: &mut Vec<u8>) {
        json::member("name", &self.tools.entries()[place].upstream, out);
    }

    /// Appends `tools`, `tool_choice` and `parallel_tool_calls`, or nothing without tools.
    pub(super) fn tools(
        &mut self,
        declared: &[Declared<'_, '_>],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let choice = self.choice(declared)?;
        if declared.is_empty() {
            return Ok(());
        }
        json::key("tools", out);
        out.push(b'[');
        for tool in declared {
            json::comma(out);
            self.tool(tool, out)?;
        }
        out.push(b']');
        out.extend_from_slice(&choice);
        match self.request.parallel {
            Some(parallel) if self.quirks.parallel_tool_calls => {
                let value = if parallel { "true" } else { "false" };
                json::member_raw("parallel_tool_calls", value, out);
            }
            Some(false) => self.drop("parallel_tool_calls")?,
            _ => {}
        }
        Ok(())
    }

    fn tool(&mut self, declared: &Declared<'_, '_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let tool = declared.tool;
        if let (ToolKind::Custom { syntax, grammar }, true) = (tool.kind, self.quirks.custom_tools)
        {
            out.extend_from_slice(b"{\"type\":\"custom\",\"custom\":{");
            self.name(declared.place, out);
            if let Some(text) = tool.description {
                self.text("description", text, out);
            }
            if let (Some(syntax), Some(grammar)) = (syntax, grammar) {
                out.extend_from_slice(b",\"format\":{\"type\":\"grammar\",\"grammar\":{");
                self.text("syntax", syntax, out);
                self.text("definition", grammar, out);
                out.extend_from_slice(b"}}");
            }
            out.extend_from_slice(b"}}");
            return Ok(());
        }
        out.extend_from_slice(b"{\"type\":\"function\",\"function\":{");
        self.name(declared.place, out);
        match tool.kind {
            ToolKind::Custom { syntax, grammar } => {
                self.wrapped(tool.description, syntax, grammar, out);
            }
            ToolKind::Function { parameters, strict } => {
                if let Some(text) = tool.description {
                    self.text("description", text, out);
                }
                self.parameters(parameters, out);
                match strict {
                    Some(true) if self.quirks.strict_tools => {
                        json::member_raw("strict", "true", out);
                    }
                    Some(true) => self.drop("tools.strict")?,
                    _ => {}
                }
            }
            ToolKind::Search { parameters } => {
                if let Some(text) = tool.description {
                    self.text("description", text, out);
                }
                self.parameters(parameters, out);
            }
            // Never declared.
            ToolKind::Hosted { .. } => {}
        }
        out.extend_from_slice(b"}}");
        Ok(())
    }

    fn parameters(&mut self, parameters: Option<Raw<'_>>, out: &mut Vec<u8>) {
        match parameters.filter(|schema| !schema.is_null()) {
            Some(schema) => self.raw("parameters", schema, out),
            None => json::member_raw("parameters", "{\"type\":\"object\",\"properties\":{}}", out),
        }
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
             \"The tool's whole input\"}},\"required\":[\"input\"],\"additionalProperties\":false}",
            out,
        );
    }

    /// `,"tool_choice":...`, or nothing.
    fn choice(&mut self, declared: &[Declared<'_, '_>]) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        let mode = match self.request.choice {
            Choice::Unset => None,
            Choice::Auto => Some("auto"),
            Choice::None => Some("none"),
            Choice::Required => Some("required"),
            Choice::Hosted { kind } => {
                let message = format!("the upstream cannot run the tool `{}`", kind.decode());
                return Err(Failure::unsupported("tool_choice", message));
            }
            Choice::Tool { kind, name } => {
                let found =
                    declared.iter().find(|tool| tool.kind == kind && tool.tool.name == name);
                let Some(found) = found else {
                    let message = format!(
                        "tool_choice names the tool `{}`, which is not among the tools",
                        name.name.decode()
                    );
                    return Err(Failure::unsupported("tool_choice", message));
                };
                out.extend_from_slice(b",\"tool_choice\":");
                self.named(found, &mut out);
                return Ok(out);
            }
        };
        let limited = !self.request.allowed.is_empty() && mode != Some("none");
        if limited && self.quirks.allowed_tools {
            out.extend_from_slice(
                b",\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{",
            );
            json::member(
                "mode",
                if mode == Some("required") { "required" } else { "auto" },
                &mut out,
            );
            json::key("tools", &mut out);
            out.push(b'[');
            let allowed = &self.request.allowed;
            for tool in declared.iter().filter(|tool| is_allowed(allowed, tool.tool.name)) {
                json::comma(&mut out);
                self.named(tool, &mut out);
            }
            out.extend_from_slice(b"]}}");
            return Ok(out);
        }
        match (mode, declared) {
            (Some("required"), [only]) if limited => {
                out.extend_from_slice(b",\"tool_choice\":");
                self.named(only, &mut out);
            }
            (Some(mode), _) => {
                out.extend_from_slice(b",\"tool_choice\":");
                json::string(mode, &mut out);
            }
            (None, _) => {}
        }
        Ok(out)
    }

    fn named(&self, tool: &Declared<'_, '_>, out: &mut Vec<u8>) {
        let custom = tool.kind == CallKind::Custom && self.quirks.custom_tools;
        let kind = if custom { "custom" } else { "function" };
        out.push(b'{');
        json::member("type", kind, out);
        json::key(kind, out);
        out.push(b'{');
        self.name(tool.place, out);
        out.extend_from_slice(b"}}");
    }
}

fn is_allowed(allowed: &[ToolName<'_>], name: ToolName<'_>) -> bool {
    allowed.contains(&name)
}
