//! The request that is sent: a conversation as coding agents have them, of about so many bytes.

use super::plan::{Dialect, Load, RequestText, Target};
use crate::wire::http1::{BodyLength, write_request_head};
use crate::wire::json;

/// The tool that requests declare and that scripted calls must name.
pub(super) const TOOL: &str = "read_file";

/// Bytes of one tool output, about.
const OUTPUT_BYTES: usize = 12_000;

/// The words of the conversation besides its tool outputs.
const INSTRUCTIONS: &str = "You are a coding agent. Answer with what was asked, and nothing else.";
const QUESTION: &str = "Which of these files has the fault, and what is it?";

/// Writes the bytes of one request: head and body.
///
/// # Errors
/// A header that cannot be sent, by its name.
pub(super) fn write(
    target: &Target,
    load: &Load,
    headers: &[(String, String)],
    api_key: Option<&str>,
) -> Result<Vec<u8>, String> {
    let body = body(target.dialect, load);
    let url = &target.url;
    let usual_port = if url.tls { 443 } else { 80 };
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let host = if url.port == usual_port { host } else { format!("{host}:{}", url.port) };
    let bearer = api_key.map(|key| format!("Bearer {key}"));
    let accept = if load.stream { "text/event-stream" } else { "application/json" };
    let mut fields = vec![
        ("content-type", "application/json"),
        ("accept", accept),
        ("user-agent", concat!("patchbay-bench/", env!("CARGO_PKG_VERSION"))),
    ];
    fields.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    fields.retain(|(name, _)| !headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
    fields.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut out = Vec::with_capacity(body.len() + 512);
    let length = BodyLength::Known(body.len() as u64);
    write_request_head("POST", &url.path, &host, fields, length, &mut out)
        .map_err(|why| why.to_string())?;
    if load.churn {
        out.truncate(out.len() - 2);
        out.extend_from_slice(b"connection: close\r\n\r\n");
    }
    out.extend_from_slice(&body);
    Ok(out)
}

fn body(dialect: Dialect, load: &Load) -> Vec<u8> {
    let mut out = Vec::with_capacity(load.request_bytes + 1024);
    out.push(b'{');
    json::member("model", &load.model_name(), &mut out);
    match dialect {
        Dialect::Chat => {
            json::key("messages", &mut out);
            out.push(b'[');
            text_message("system", INSTRUCTIONS, &mut out);
        }
        Dialect::Responses => {
            json::member("instructions", INSTRUCTIONS, &mut out);
            json::key("input", &mut out);
            out.push(b'[');
        }
    }
    let has_history = load.request_bytes > 0 && load.request_text != RequestText::Image;
    if load.request_bytes > 0 && load.request_text == RequestText::Image {
        picture(dialect, load.request_bytes, &mut out);
    } else {
        text_message("user", QUESTION, &mut out);
    }
    if has_history {
        let mut turn = 0;
        while out.len() < load.request_bytes {
            let left = (load.request_bytes - out.len()).min(OUTPUT_BYTES);
            let output = output(load.request_text, turn, left);
            exchange(dialect, turn, &output, &mut out);
            turn += 1;
        }
        text_message("user", "Go on.", &mut out);
    }
    out.push(b']');
    if has_history || load.script.is_some_and(|script| script.calls > 0) {
        tools(dialect, &mut out);
    }
    json::member_raw("stream", if load.stream { "true" } else { "false" }, &mut out);
    match dialect {
        Dialect::Chat if load.stream => {
            json::member_raw("stream_options", "{\"include_usage\":true}", &mut out);
        }
        Dialect::Chat => {}
        Dialect::Responses => json::member_raw("store", "false", &mut out),
    }
    out.push(b'}');
    out
}

fn text_message(role: &str, text: &str, out: &mut Vec<u8>) {
    json::comma(out);
    out.push(b'{');
    json::member("role", role, out);
    json::member("content", text, out);
    out.push(b'}');
}

/// A call of the tool and what it gave.
fn exchange(dialect: Dialect, turn: usize, output: &str, out: &mut Vec<u8>) {
    let id = format!("call_{turn:06}");
    let mut arguments = Vec::new();
    arguments.push(b'{');
    json::member("path", &format!("src/part_{turn}.rs"), &mut arguments);
    arguments.push(b'}');
    let arguments = String::from_utf8_lossy(&arguments);
    json::comma(out);
    match dialect {
        Dialect::Chat => {
            out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{");
            json::member("id", &id, out);
            json::member("type", "function", out);
            json::key("function", out);
            out.push(b'{');
            json::member("name", TOOL, out);
            json::member("arguments", &arguments, out);
            out.extend_from_slice(b"}}]},{\"role\":\"tool\"");
            json::member("tool_call_id", &id, out);
            json::member("content", output, out);
        }
        Dialect::Responses => {
            out.extend_from_slice(b"{\"type\":\"function_call\"");
            json::member("call_id", &id, out);
            json::member("name", TOOL, out);
            json::member("arguments", &arguments, out);
            out.extend_from_slice(b"},{\"type\":\"function_call_output\"");
            json::member("call_id", &id, out);
            json::member("output", output, out);
        }
    }
    out.push(b'}');
}

/// A tool output that takes about so many bytes as a JSON string.
fn output(text: RequestText, turn: usize, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes);
    let (mut line, mut escaped) = (0, 0);
    while escaped < bytes {
        let start = out.len();
        line += 1;
        match text {
            RequestText::Dense => {
                let item =
                    format!("{{\"n\":{line},\"t\":\"{turn}\\n\",\"k\":[\"a\",\"b\\\\c\"]}},");
                out.push_str(&item);
            }
            _ => {
                let depth = line % 4;
                let indent = "    ".repeat(depth);
                out.push_str(&indent);
                match line % 5 {
                    0 => out.push_str("}\n"),
                    1 => out.push_str(&format!("fn step_{turn}_{line}(input: &str) -> usize {{\n")),
                    2 => out.push_str(&format!("let name = \"value {line}\";\n")),
                    3 => out.push_str("// Keeps the order in which the parts came in.\n"),
                    _ => out.push_str(&format!("total += input.len() * {line} + offset;\n")),
                }
            }
        }
        let added = &out.as_bytes()[start..];
        let specials = added.iter().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n'));
        escaped += added.len() + specials.count();
    }
    out
}

/// One question about a picture.
fn picture(dialect: Dialect, bytes: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    json::comma(out);
    out.extend_from_slice(b"{\"role\":\"user\",\"content\":[");
    let (text, image, end): (&str, &[u8], &[u8]) = match dialect {
        Dialect::Chat => ("text", b",{\"type\":\"image_url\",\"image_url\":{\"url\":\"", b"\"}}]}"),
        Dialect::Responses => {
            ("input_text", b",{\"type\":\"input_image\",\"image_url\":\"", b"\"}]}")
        }
    };
    out.push(b'{');
    json::member("type", text, out);
    json::member("text", QUESTION, out);
    out.push(b'}');
    out.extend_from_slice(image);
    out.extend_from_slice(b"data:image/png;base64,");
    let length = bytes.saturating_sub(out.len()).next_multiple_of(4);
    let mut state = 1u64;
    out.extend((0..length).map(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        DIGITS[(state >> 58) as usize]
    }));
    out.extend_from_slice(end);
}

fn tools(dialect: Dialect, out: &mut Vec<u8>) {
    const PARAMETERS: &str = "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\"}},\
                              \"required\":[\"path\"],\"additionalProperties\":false}";
    json::key("tools", out);
    out.extend_from_slice(b"[{\"type\":\"function\"");
    if dialect == Dialect::Chat {
        json::key("function", out);
        out.push(b'{');
    }
    json::member("name", TOOL, out);
    json::member("description", "Reads a file of the repository.", out);
    json::member_raw("parameters", PARAMETERS, out);
    if dialect == Dialect::Chat {
        out.push(b'}');
    }
    out.extend_from_slice(b"}]");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn sent(dialect: Dialect, load: &Load) -> (String, Value) {
        let target = Target::new("t", "http://[::1]:8080", Some(dialect), None).unwrap();
        let headers = [("accept".to_owned(), "x/y".to_owned())];
        let bytes = write(&target, load, &headers, Some("k")).unwrap();
        let end = memchr::memmem::find(&bytes, b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        (head, serde_json::from_slice(&bytes[end..]).unwrap())
    }

    #[test]
    fn a_short_question_is_short() {
        let (head, body) = sent(Dialect::Responses, &Load::default());
        assert!(head.starts_with("POST /v1/responses HTTP/1.1\r\nhost: [::1]:8080\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer k\r\n"), "{head}");
        assert_eq!(head.matches("accept:").count(), 1, "the user's own field stands alone");
        assert!(!head.contains("connection:"));
        assert_eq!(body["model"], "mock:");
        assert_eq!((&body["stream"], &body["store"]), (&Value::from(true), &Value::from(false)));
        assert!(body.get("tools").is_none());
        let churn = Load { churn: true, ..Load::default() };
        let (head, body) = sent(Dialect::Chat, &churn);
        assert!(head.ends_with("\r\nconnection: close\r\n\r\n"), "{head}");
        assert_eq!(body["stream_options"]["include_usage"], true);
    }

    #[test]
    fn a_large_request_has_the_bytes_asked_for() {
        for dialect in [Dialect::Chat, Dialect::Responses] {
            for text in [RequestText::Code, RequestText::Dense, RequestText::Image] {
                for bytes in [1_000, 200_000, 1_000_000] {
                    let load = Load { request_bytes: bytes, request_text: text, ..Load::default() };
                    let length = body(dialect, &load).len();
                    assert!(length.abs_diff(bytes) < bytes / 10 + 1000, "{text:?} {length}");
                    let value = sent(dialect, &load).1;
                    assert_eq!(value.get("tools").is_some(), text != RequestText::Image);
                }
            }
        }
    }

    #[test]
    fn a_bad_header_is_named() {
        let target = Target::new("t", "http://host", None, None).unwrap();
        let headers = [("content-length".to_owned(), "7".to_owned())];
        let why = write(&target, &Load::default(), &headers, None).unwrap_err();
        assert!(why.contains("content-length"), "{why}");
    }
}
