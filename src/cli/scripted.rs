//! The model behind `patchbay demo`: a Chat Completions server that answers by rule and says so.
//!
//! It stands for a vendor, so it shares no code with the proxy in front of it: plain blocking
//! sockets, a thread a connection, `serde_json` trees.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// The one model that it has.
pub(crate) const MODEL: &str = "scripted-model";

/// Pause between two deltas, so that a person sees the stream.
const PACE: Duration = Duration::from_millis(25);

/// Largest request body taken, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Starts the server on a thread of its own; it ends with the process.
pub(crate) fn start(port: u16) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("scripted-model".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that cannot get a thread is closed; its client tries again.
            let spawned = thread::Builder::new().spawn(move || serve(&stream));
            if let Err(error) = spawned {
                log::warn!("the scripted model cannot start a thread: {error}");
            }
        }
    })?;
    Ok(address)
}

/// Serves one connection until either side ends it.
fn serve(stream: &TcpStream) {
    // What goes wrong on a demo connection ends that connection and nothing else.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Ok(Some(body)) = request(&mut reader) {
        let done = match serde_json::from_slice::<Value>(&body) {
            Ok(request) => answer(&request, stream),
            Err(error) => refuse(stream, &format!("the body is not JSON: {error}")),
        };
        if done.is_err() {
            return;
        }
    }
}

/// Reads one request and returns its body; `None` at the end of the connection.
fn request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let (mut length, mut lines) = (0usize, 0);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(64 << 10).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        lines += 1;
        if line.trim_end().is_empty() && lines > 1 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other("the body is too large for a demo"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn refuse(mut stream: &TcpStream, message: &str) -> io::Result<()> {
    let body = json!({"error": {"message": message, "type": "invalid_request_error",
        "param": null, "code": null}});
    document(&mut stream, "400 Bad Request", &body)
}

fn document(stream: &mut impl Write, status: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// What the script answers to a conversation.
#[derive(Debug, PartialEq)]
struct Script {
    reasoning: String,
    text: String,
    /// Name and arguments of a tool call.
    call: Option<(String, String)>,
}

fn answer(request: &Value, mut stream: &TcpStream) -> io::Result<()> {
    let script = script(request);
    let words: usize = script.text.split_whitespace().count();
    let prompt = request["messages"].to_string().len() / 4;
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": words,
        "total_tokens": prompt + words});
    let finish = if script.call.is_some() { "tool_calls" } else { "stop" };
    if request["stream"] != json!(true) {
        let mut message = json!({"role": "assistant", "content": script.text,
            "reasoning_content": script.reasoning});
        if let Some(call) = call_value(&script) {
            message["tool_calls"] = json!([call]);
        }
        let body = json!({"id": "chatcmpl-scripted", "object": "chat.completion", "created": 0,
            "model": MODEL, "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}]});
        return document(&mut stream, "200 OK", &body);
    }
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    delta(stream, &json!({"role": "assistant", "content": ""}), None)?;
    for piece in pieces(&script.reasoning) {
        delta(stream, &json!({"reasoning_content": piece}), None)?;
    }
    for piece in pieces(&script.text) {
        delta(stream, &json!({"content": piece}), None)?;
    }
    if let Some(mut call) = call_value(&script) {
        call["index"] = json!(0);
        delta(stream, &json!({"tool_calls": [call]}), None)?;
    }
    delta(stream, &json!({}), Some(finish))?;
    if request["stream_options"]["include_usage"] == json!(true) {
        event(stream, &chunk(&json!([]), &usage).to_string())?;
    }
    event(stream, "[DONE]")?;
    stream.write_all(b"0\r\n\r\n")
}

fn call_value(script: &Script) -> Option<Value> {
    let (name, arguments) = script.call.as_ref()?;
    let function = json!({"name": name, "arguments": arguments});
    Some(json!({"id": "call_scripted", "type": "function", "function": function}))
}

/// Text in pieces of a word with the space before it, as models send it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.char_indices().filter(|&(at, c)| at > 0 && c == ' ').map(|(at, _)| at);
    let starts: Vec<usize> = std::iter::once(0).chain(starts).chain([text.len()]).collect();
    let ranges: Vec<_> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    ranges.into_iter().filter_map(|range| text.get(range).filter(|piece| !piece.is_empty()))
}

fn delta(stream: &TcpStream, delta: &Value, finish: Option<&str>) -> io::Result<()> {
    thread::sleep(PACE);
    let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    event(stream, &chunk(&choice, &Value::Null).to_string())
}

fn chunk(choices: &Value, usage: &Value) -> Value {
    json!({"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0,
        "model": MODEL, "choices": choices, "usage": usage})
}

/// Sends one event as one chunk in one write.
fn event(mut stream: &TcpStream, data: &str) -> io::Result<()> {
    let event = format!("data: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
}

/// Decides by rule: a tool's output is reported; a prompt that asks for a command gets a call of
/// the first shell-like tool; anything else gets words.
fn script(request: &Value) -> Script {
    let empty = Vec::new();
    let messages = request["messages"].as_array().unwrap_or(&empty);
    let last = messages.last().unwrap_or(&Value::Null);
    if last["role"] == "tool" {
        let output = text_of(&last["content"]);
        let text = format!("I am a scripted model. The tool answered: {}", output.trim());
        return Script { reasoning: "The tool has answered.".into(), text, call: None };
    }
    let prompt = messages.iter().rev().find(|message| message["role"] == "user");
    let prompt = prompt.map(|message| text_of(&message["content"])).unwrap_or_default();
    let asks = ["run", "list", "file", "command", "shell", "execute"];
    let lower = prompt.to_lowercase();
    let tools = request["tools"].as_array().unwrap_or(&empty);
    if asks.iter().any(|word| lower.contains(word))
        && let Some((name, arguments)) = tools.iter().find_map(shell_call)
    {
        return Script {
            reasoning: "The prompt asks for a command, and there is a shell tool.".into(),
            text: "I am a scripted model. I will list the files here.".into(),
            call: Some((name, arguments)),
        };
    }
    let short: String = prompt.chars().take(80).collect();
    Script {
        reasoning: "No tool is needed for this.".into(),
        text: format!("I am a scripted model: my answers are made by rule. You said: {short}"),
        call: None,
    }
}

/// A harmless call of a tool that runs commands.
fn shell_call(tool: &Value) -> Option<(String, String)> {
    let name = tool["function"]["name"].as_str()?;
    let properties = &tool["function"]["parameters"]["properties"];
    let arguments = if properties["cmd"].is_object() {
        json!({"cmd": "ls"})
    } else if properties["command"]["type"] == "array" {
        json!({"command": ["ls"]})
    } else if properties["command"].is_object() {
        json!({"command": "ls"})
    } else {
        return None;
    };
    Some((name.to_owned(), arguments.to_string()))
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(last: &Value, tools: &Value) -> Value {
        json!({"messages": [{"role": "system", "content": "s"}, last], "tools": tools})
    }

    #[test]
    fn calls_a_shell_tool_when_the_prompt_asks_for_a_command() {
        let tool = json!([{"type": "function", "function": {"name": "exec_command",
            "parameters": {"properties": {"cmd": {"type": "string"}}}}}]);
        let asks = json!({"role": "user", "content": "please list the files"});
        let expected = Some(("exec_command".to_owned(), r#"{"cmd":"ls"}"#.to_owned()));
        assert_eq!(script(&request(&asks, &tool)).call, expected);
        assert_eq!(script(&request(&asks, &json!([]))).call, None, "no tool, no call");
        let greets = json!({"role": "user", "content": [{"type": "text", "text": "hello"}]});
        let script = script(&request(&greets, &tool));
        assert_eq!(script.call, None);
        assert!(script.text.ends_with("You said: hello"), "{}", script.text);
    }

    #[test]
    fn reports_what_the_tool_answered() {
        let script = script(&request(&json!({"role": "tool", "content": "a.txt"}), &json!([])));
        assert!(script.text.ends_with("a.txt"), "{}", script.text);
    }

    #[test]
    fn pieces_join_to_the_text() {
        for text in ["", "one", " two  words ", "größe und 漢字 hier"] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
    }
}
