//! `instructions` for upstreams that want them in their own way: some text always, and for a model
//! tuned to one harness a word about the harness that it is really in.

use crate::dialect::event::CallKind;
use crate::dialect::request::{Content, Contents, Item, Request, Role, ToolKind};
use crate::dialect::tools::ToolTable;
use crate::wire::json::{self, Escaped};

/// For requests without any system text, where nothing else is configured.
const PLAIN: &str = include_str!("../presets/instructions.md");

/// What stands in `instructions` instead of the client's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// The text, escaped.
    text: String,
    /// The client's own stay in the conversation.
    keeps: bool,
}

/// What `request` needs; `None` = it may stay as it is. With `bridge`, a client that brings system
/// text and tools gets that text, followed by the names of its tools. With `required`, one that has
/// no system text gets `usual`, or a text of ours.
#[must_use]
pub fn needed(
    request: &Request<'_>,
    bridge: Option<&str>,
    usual: Option<&str>,
    required: bool,
) -> Option<Instructions> {
    let said = request.instructions.is_some_and(|text| !text.is_empty());
    if let Some(bridge) = bridge
        && !request.tools.is_empty()
        && (said || leading(request).0)
    {
        return Some(Instructions { text: escaped(&bridged(bridge, request)), keeps: said });
    }
    let (speaks, all) = leading(request);
    // What is all that there is must stay where it is: an upstream wants some conversation.
    if !required || said || (speaks && !all) {
        return None;
    }
    let usual = usual.filter(|text| !text.trim().is_empty()).unwrap_or(PLAIN);
    Some(Instructions { text: escaped(usual.trim()), keeps: false })
}

/// Puts them into the request.
pub fn give<'a>(request: &mut Request<'a>, instructions: &'a Instructions) {
    let own = request.instructions.replace(Escaped::trusted(&instructions.text));
    if let Some(text) = own.filter(|_| instructions.keeps) {
        let content = Contents::One(Content::Text(text));
        request.items.insert(0, Item::Message { role: Role::Developer, content });
    }
}

/// Whether the conversation begins with system text, and whether it has nothing else.
fn leading(request: &Request<'_>) -> (bool, bool) {
    let system = |item: &&Item<'_>| {
        matches!(item, Item::Message { role: Role::System | Role::Developer, content }
            if content.iter().all(|part| matches!(part, Content::Text(_))))
    };
    let speaks = |item: &Item<'_>| {
        matches!(item, Item::Message { content, .. }
            if content.iter().any(|part| matches!(part, Content::Text(text) if !text.is_empty())))
    };
    let count = request.items.iter().take_while(system).count();
    (request.items.iter().take(count).any(speaks), count == request.items.len())
}

fn bridged(bridge: &str, request: &Request<'_>) -> String {
    let mut text = bridge.trim().to_owned();
    text.push_str("\n\nThe tools:\n");
    let mut table = ToolTable::default();
    for tool in &request.tools {
        let kind = match tool.kind {
            ToolKind::Hosted { kind } => {
                text.push_str(&format_line(&kind.decode()));
                continue;
            }
            ToolKind::Custom { .. } => CallKind::Custom,
            ToolKind::Search { .. } => CallKind::Search,
            ToolKind::Function { .. } => CallKind::Function,
        };
        text.push_str(&format_line(table.add(kind, false, tool.name)));
    }
    text.truncate(text.trim_end().len());
    text
}

fn format_line(name: &str) -> String {
    format!("- {name}\n")
}

fn escaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len() + 16);
    json::escape(text, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect as _, chat::Chat, responses::Responses};

    const TOOL: &str = r#"[{"type":"function","name":"edit","parameters":{"type":"object"}},
        {"type":"custom","name":"mcp tool"},{"type":"web_search"}]"#;

    /// `instructions`, and the roles of the conversation.
    fn given(
        request: &mut Request<'_>,
        bridge: Option<&str>,
        required: bool,
    ) -> (String, Vec<Role>) {
        let own = needed(request, bridge, Some("usual \"text\""), required);
        let mut request = request.clone();
        if let Some(own) = &own {
            give(&mut request, own);
        }
        let roles = request.items.iter().filter_map(|item| match item {
            Item::Message { role, .. } => Some(*role),
            _ => None,
        });
        let text = request.instructions.map(|text| text.decode().into_owned());
        (text.unwrap_or_default(), roles.collect())
    }

    #[test]
    fn the_bridge_names_the_tools_and_leaves_the_clients_text_in_the_conversation() {
        let body = format!(r#"{{"model":"m","input":"hi","instructions":"own","tools":{TOOL}}}"#);
        let mut request = Responses.decode_request(&body).unwrap();
        let (text, roles) = given(&mut request, Some("bridge\n"), true);
        assert!(text.starts_with("bridge\n\nThe tools:\n- edit\n- mcp"), "{text}");
        assert!(text.ends_with("\n- web_search"), "{text}");
        assert_eq!(roles, [Role::Developer, Role::User]);
    }

    #[test]
    fn the_bridge_leaves_system_messages_in_place() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":"own"},{"role":"user","content":"hi"}],
            "tools":[{"type":"function","function":{"name":"edit"}}]}"#;
        let mut request = Chat.decode_request(body).unwrap();
        let (text, roles) = given(&mut request, Some("bridge"), true);
        assert_eq!(text, "bridge\n\nThe tools:\n- edit");
        assert_eq!(roles, [Role::System, Role::User]);
    }

    #[test]
    fn only_who_has_none_gets_the_usual_instructions() {
        let system = r#"{"role":"system","content":"own"}"#;
        let user = r#"{"role":"user","content":"hi"}"#;
        for (input, instructions, required, expected) in [
            (user, "null", true, "usual \"text\""),
            (user, "\"\"", true, "usual \"text\""),
            (user, "\"own\"", true, "own"),
            (user, "null", false, ""),
            // Goes to the front when the request is written.
            (&format!("{system},{user}"), "null", true, ""),
            (system, "null", true, "usual \"text\""),
        ] {
            let body =
                format!(r#"{{"model":"m","input":[{input}],"instructions":{instructions}}}"#);
            let mut request = Responses.decode_request(&body).unwrap();
            let (text, _) = given(&mut request, Some("no tools, no bridge"), required);
            assert_eq!(text, expected, "{body}");
        }
    }

    #[test]
    fn there_is_a_text_where_none_is_configured() {
        let mut request = Responses.decode_request(r#"{"model":"m","input":"hi"}"#).unwrap();
        let own = needed(&request, None, None, true).unwrap();
        give(&mut request, &own);
        assert!(request.instructions.is_some_and(|text| text.raw().len() > 40));
    }
}
