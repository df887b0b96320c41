//! Requests of coding agents, made from a seed: a conversation with calls, their outputs and tools, in
//! the two dialects.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use super::inputs::{self, Random};
use patchbay::wire::json;

/// What fills a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Tool outputs of program text: few escapes.
    Code,
    /// Tool outputs of JSON in strings: an escape every few bytes.
    Dense,
    /// Images as data URLs: long runs without any.
    Images,
}

impl Filling {
    pub(crate) const ALL: [Self; 3] = [Self::Code, Self::Dense, Self::Images];

    /// Its name in a row.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Dense => "dense",
            Self::Images => "images",
        }
    }

    fn text(self, random: &mut Random, bytes: usize) -> String {
        match self {
            Self::Code => inputs::code(random, bytes),
            Self::Dense => inputs::dense(random, bytes),
            Self::Images => inputs::base64(random, bytes),
        }
    }

    /// The bytes of one output or image in a request of `bytes`.
    fn piece(self, bytes: usize) -> usize {
        match self {
            Self::Code | Self::Dense => (bytes / 4).min(4000),
            Self::Images => (bytes / 2).min(150_000),
        }
    }
}

/// A request in the Responses shape of about `bytes` bytes, as the Codex CLI writes it.
pub(crate) fn responses(filling: Filling, bytes: usize) -> String {
    let mut random = Random::new(7);
    let mut out = String::from("{\"model\":\"m\"");
    member("instructions", &inputs::prose(&mut random, instructions(bytes)), &mut out);
    out.push_str(",\"input\":[");
    out.push_str("{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\"");
    member("text", "Fix the tests, and say what was wrong.", &mut out);
    out.push_str("}]}");
    for call in 0.. {
        if out.len() + tools_bytes(bytes) >= bytes {
            break;
        }
        let text = filling.text(&mut random, filling.piece(bytes));
        if filling == Filling::Images {
            out.push_str(
                ",{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_image\"",
            );
            member("image_url", &format!("data:image/png;base64,{text}"), &mut out);
            out.push_str("}]}");
            continue;
        }
        out.push_str(
            ",{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\"",
        );
        member("text", "Next I look at the file.", &mut out);
        out.push_str(&format!(
            "}}]}},{{\"type\":\"function_call\",\"name\":\"shell\",\"call_id\":\"call_{call}\""
        ));
        member("arguments", &arguments(call), &mut out);
        out.push_str(&format!(
            "}},{{\"type\":\"function_call_output\",\"call_id\":\"call_{call}\""
        ));
        member("output", &text, &mut out);
        out.push('}');
    }
    out.push_str("],\"tools\":[");
    for tool in 0..tools(bytes) {
        out.push_str(if tool == 0 { "" } else { "," });
        out.push_str("{\"type\":\"function\",");
        declaration(tool, &mut out);
        out.push_str(",\"strict\":false}");
    }
    out.push_str(
        "],\"tool_choice\":\"auto\",\"parallel_tool_calls\":false,\
         \"reasoning\":{\"effort\":\"medium\",\"summary\":\"auto\"},\"store\":false,\"stream\":true,\
         \"include\":[\"reasoning.encrypted_content\"],\
         \"prompt_cache_key\":\"01234567-89ab-cdef-0123-456789abcdef\"}",
    );
    out
}

/// A request in the Chat Completions shape of about `bytes` bytes.
pub(crate) fn chat(filling: Filling, bytes: usize) -> String {
    let mut random = Random::new(7);
    let mut out = String::from("{\"model\":\"m\",\"messages\":[{\"role\":\"system\"");
    member("content", &inputs::prose(&mut random, instructions(bytes)), &mut out);
    out.push_str("},{\"role\":\"user\"");
    member("content", "Fix the tests, and say what was wrong.", &mut out);
    out.push('}');
    for call in 0.. {
        if out.len() + tools_bytes(bytes) >= bytes {
            break;
        }
        let text = filling.text(&mut random, filling.piece(bytes));
        if filling == Filling::Images {
            out.push_str(
                ",{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{",
            );
            out.push_str("\"detail\":\"auto\"");
            member("url", &format!("data:image/png;base64,{text}"), &mut out);
            out.push_str("}}]}");
            continue;
        }
        out.push_str(",{\"role\":\"assistant\"");
        member("content", "Next I look at the file.", &mut out);
        out.push_str(&format!(
            ",\"tool_calls\":[{{\"id\":\"call_{call}\",\"type\":\"function\",\
             \"function\":{{\"name\":\"shell\""
        ));
        member("arguments", &arguments(call), &mut out);
        out.push_str(&format!("}}}}]}},{{\"role\":\"tool\",\"tool_call_id\":\"call_{call}\""));
        member("content", &text, &mut out);
        out.push('}');
    }
    out.push_str("],\"tools\":[");
    for tool in 0..tools(bytes) {
        out.push_str(if tool == 0 { "" } else { "," });
        out.push_str("{\"type\":\"function\",\"function\":{");
        declaration(tool, &mut out);
        out.push_str("}}");
    }
    out.push_str(
        "],\"tool_choice\":\"auto\",\"parallel_tool_calls\":false,\"reasoning_effort\":\"medium\",\
         \"stream\":true,\"stream_options\":{\"include_usage\":true}}",
    );
    out
}

/// Appends a member to an object that is open.
fn member(key: &str, value: &str, out: &mut String) {
    let mut bytes = Vec::with_capacity(value.len() + 16);
    json::member(key, value, &mut bytes);
    out.push_str(if out.ends_with('{') { "" } else { "," });
    out.push_str(&String::from_utf8(bytes).unwrap_or_default());
}

fn instructions(bytes: usize) -> usize {
    (bytes / 8).min(12_000)
}

fn tools(bytes: usize) -> usize {
    (bytes / 2000).min(12)
}

/// About the bytes that [`tools`] take.
fn tools_bytes(bytes: usize) -> usize {
    400 + 500 * tools(bytes)
}

fn arguments(call: usize) -> String {
    format!(
        "{{\"command\":[\"bash\",\"-lc\",\"sed -n 1,200p src/{call}.rs\"],\"timeout_ms\":10000}}"
    )
}

/// Name, description and schema of a tool.
fn declaration(tool: usize, out: &mut String) {
    let name = if tool == 0 { "shell".to_owned() } else { format!("tool_{tool}") };
    out.push_str(&format!(
        "\"name\":\"{name}\",\"description\":\"Runs a command and returns its output.\\nUse it for \
         short commands only.\",\"parameters\":{{\"type\":\"object\",\"properties\":{{\"command\":\
         {{\"type\":\"array\",\"items\":{{\"type\":\"string\"}},\"description\":\"The command\"}},\
         \"timeout_ms\":{{\"type\":\"number\",\"description\":\"How long it may run\"}},\"workdir\":\
         {{\"type\":\"string\"}}}},\"required\":[\"command\"],\"additionalProperties\":false}}"
    ));
}
