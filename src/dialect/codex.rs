//! What is peculiar to the Codex CLI as a client and is no wire syntax: how it is recognised, and
//! the shape of the model list that it reads.

use crate::config::Model;
use crate::wire::json;

/// The system prompt that Codex sends for a model out of [`catalog`].
const BASE_INSTRUCTIONS: &str = "\
You are a coding agent in the user's terminal, working in their repository. You and the user share \
one workspace: what you change is changed for them.

# How to work
- Find out before you act: list and search files, read the code around a change, and follow the \
style that is there. `rg` and `rg --files` are fast where they exist.
- Do the whole task. Go on until it is done and checked; stop and ask only when a decision is the \
user's to make or something is missing that you cannot find out.
- Make the smallest change that solves the problem at its cause. Leave unrelated code alone. Do not \
undo changes that you did not make.
- Check your work: build it, run the tests that touch it, read the result. Say what you could not \
check.
- Never run what destroys data or history (`git reset --hard`, `rm -rf` outside of what you made) \
unless the user asked for exactly that. Do not commit or push unless asked.

# Tools
- Use only the tools that are declared, exactly as their descriptions and schemas say, with \
complete arguments. Do not write a tool call as text.
- Run shell commands with the shell tool; give it the working directory instead of using `cd`. \
Prefer several independent calls at once where they do not depend on each other.
- Edit files with `apply_patch` if it is declared; otherwise with the shell.
- A failed call tells you why: read its output, change something, then try again. Do not repeat a \
call that failed the same way.

# Answers
- Write plainly and briefly, in the user's language. Lead with the result; then what changed and \
where, as `path/to/file:line`. No long code listings of files that you already wrote.
- Before longer work, say in a sentence what you are about to do. When there is a plan tool, use it \
for tasks of several steps and keep it current.
- Do not claim what you did not see. If tests fail or a step is missing, say so.";

/// The efforts that are offered for a model that reasons.
const EFFORTS: &[(&str, &str)] = &[
    ("low", "Quick answers with little reasoning"),
    ("medium", "A balance of speed and depth"),
    ("high", "More reasoning for hard problems"),
];

/// True for the headers `User-Agent` and `originator` of a Codex client: `codex_exec/0.169.0 ...`,
/// `codex_cli_rs`, `codex-tui`, `codex_vscode` ... Pass an empty text for a header that is absent.
#[must_use]
pub fn is_client(user_agent: &str, originator: &str) -> bool {
    let named = |text: &str| {
        let (name, rest) = text.split_at_checked(5).unwrap_or_default();
        name.eq_ignore_ascii_case("codex")
            && matches!(rest.as_bytes().first(), None | Some(b'_' | b'-' | b'/' | b' '))
    };
    named(originator) || named(user_agent)
}

/// Appends the answer to `GET /models?client_version=...`: `{"models":[...]}` with every member that
/// any version of Codex requires, as one that is missing voids the whole list.
///
/// The modes that need an upstream of OpenAI's own (tools inside the input, JavaScript instead of
/// tools, several agents) are off, so that the tools arrive as plain declarations.
pub fn catalog(models: &[Model], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"models\":[");
    for (priority, model) in (1..).zip(models) {
        json::comma(out);
        entry(model, priority, out);
    }
    out.extend_from_slice(b"]}");
}

fn entry(model: &Model, priority: u64, out: &mut Vec<u8>) {
    let flag = |value: bool| if value { "true" } else { "false" };
    out.push(b'{');
    json::member("slug", &model.id, out);
    json::member("display_name", &model.id, out);
    json::member("description", "Served by patchbay", out);
    let effort = if model.reasoning { "\"medium\"" } else { "null" };
    json::member_raw("default_reasoning_level", effort, out);
    json::key("supported_reasoning_levels", out);
    out.push(b'[');
    for (effort, description) in EFFORTS.iter().filter(|_| model.reasoning) {
        json::comma(out);
        out.push(b'{');
        json::member("effort", effort, out);
        json::member("description", description, out);
        out.push(b'}');
    }
    out.push(b']');
    json::member("shell_type", "shell_command", out);
    json::member("visibility", "list", out);
    json::member_raw("supported_in_api", "true", out);
    json::member_number("priority", priority, out);
    for name in ["upgrade", "availability_nux", "default_verbosity", "default_service_tier"] {
        json::member_raw(name, "null", out);
    }
    json::member("base_instructions", BASE_INSTRUCTIONS, out);
    json::member_raw("supports_reasoning_summaries", flag(model.reasoning), out);
    json::member_raw("supports_reasoning_summary_parameter", flag(model.reasoning), out);
    let summary = if model.reasoning { "auto" } else { "none" };
    json::member("default_reasoning_summary", summary, out);
    json::member_raw("support_verbosity", "false", out);
    let patch = if model.apply_patch { "\"freeform\"" } else { "null" };
    json::member_raw("apply_patch_tool_type", patch, out);
    json::member("web_search_tool_type", "text", out);
    json::member_raw("truncation_policy", r#"{"mode":"bytes","limit":10000}"#, out);
    json::member_raw("supports_parallel_tool_calls", "true", out);
    json::member_raw("supports_image_detail_original", "false", out);
    json::member_number("context_window", model.context_window, out);
    json::member_number("max_context_window", model.context_window, out);
    json::member_raw("auto_compact_token_limit", "null", out);
    json::member_number("effective_context_window_percent", 95, out);
    for name in ["experimental_supported_tools", "additional_speed_tiers", "service_tiers"] {
        json::member_raw(name, "[]", out);
    }
    let inputs = if model.images { r#"["text","image"]"# } else { r#"["text"]"# };
    json::member_raw("input_modalities", inputs, out);
    for name in ["supports_search_tool", "use_responses_lite", "prefer_websockets"] {
        json::member_raw(name, "false", out);
    }
    json::member("tool_mode", "direct", out);
    json::member("multi_agent_version", "disabled", out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn model(id: &str, on: bool) -> Model {
        Model {
            id: id.to_owned(),
            context_window: 64_000,
            images: on,
            reasoning: on,
            apply_patch: on,
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn codex_is_known_by_either_header() {
        let agent = "codex_exec/0.169.0 (Linux; x86_64) dumb (codex_exec; 0.169.0)";
        for (user_agent, originator, codex) in [
            (agent, "", true),
            ("", "codex_cli_rs", true),
            ("", "codex-tui", true),
            ("Codex Desktop/1.0", "", true),
            ("", "Codex", true),
            ("OpenAI/Python 3.51.0", "", false),
            ("codexia/1", "", false),
            ("opencode/1.0", "", false),
            ("ünïcödé", "cöde", false),
            ("", "", false),
        ] {
            assert_eq!(is_client(user_agent, originator), codex, "{user_agent} {originator}");
        }
    }

    #[test]
    fn every_entry_has_what_codex_requires_and_turns_its_own_modes_off() {
        let catalog = written(|out| catalog(&[model("big \"one\"", true), model("b", false)], out));
        let models = catalog["models"].as_array().unwrap();
        assert_eq!(models.len(), 2);
        for model in models {
            for key in [
                "slug",
                "display_name",
                "supported_reasoning_levels",
                "shell_type",
                "visibility",
                "supported_in_api",
                "priority",
                "support_verbosity",
                "truncation_policy",
                "experimental_supported_tools",
                "base_instructions",
                "supports_parallel_tool_calls",
                "default_verbosity",
                "apply_patch_tool_type",
                "availability_nux",
                "upgrade",
                "description",
                "supports_reasoning_summaries",
            ] {
                assert!(model.get(key).is_some(), "{key} is missing");
            }
            assert_eq!(model["use_responses_lite"], json!(false));
            assert_eq!(model["tool_mode"], json!("direct"));
            assert_eq!(model["multi_agent_version"], json!("disabled"));
            assert_eq!(model["context_window"], json!(64_000));
        }
        assert_eq!(models[0]["slug"], json!("big \"one\""));
        assert_eq!(models[0]["apply_patch_tool_type"], json!("freeform"));
        assert_eq!(models[0]["input_modalities"], json!(["text", "image"]));
        assert_eq!(models[1]["apply_patch_tool_type"], Value::Null);
        assert_eq!(models[1]["supported_reasoning_levels"], json!([]));
        assert_eq!(models[1]["input_modalities"], json!(["text"]));
    }
}
