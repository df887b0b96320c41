//! GigaChat as the upstream of the real binary: clients of both wire APIs, streamed and whole, text
//! and a turn with a tool.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use patchbay::mock::script::Script;
use patchbay::mock::{GigaChat, Options, PROMPT_TOKENS, Server, Wire};
use serde_json::{Value, json};
use support::{Client, Patchbay, Reply, Then, Upstream, reply_stream};

const CLIENTS: [&str; 2] = ["/v1/chat/completions", "/v1/responses"];

fn mock() -> Server {
    let access_tokens = vec!["upstream-secret".to_owned()];
    let gigachat = GigaChat { access_tokens, ..GigaChat::default() };
    Server::start(&Options { wire: Some(Wire::GigaChat), gigachat, ..Options::default() }).unwrap()
}

fn proxy(address: std::net::SocketAddr) -> Patchbay {
    let url = format!("http://{address}/api/v1");
    Patchbay::for_upstream(&url, &["--upstream-dialect", "gigachat"])
}

/// A client's request with one tool.
fn request(path: &str, model: &str, stream: bool) -> Value {
    let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    if path == CLIENTS[0] {
        json!({"model": model, "stream": stream, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hello"}],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": parameters}}]})
    } else {
        json!({"model": model, "stream": stream, "input": "hello",
            "tools": [{"type": "function", "name": "look", "parameters": parameters}]})
    }
}

/// What a client was told.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    /// Id, name and arguments.
    calls: Vec<(String, String, String)>,
    end: String,
    prompt_tokens: u64,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn chat(reply: &Reply, stream: bool) -> Said {
    let mut said = Said::default();
    let chunks: Vec<Value> = if stream {
        let mut events = reply.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{reply:?}");
        events.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    } else {
        vec![reply.json()]
    };
    for chunk in &chunks {
        said.prompt_tokens += chunk["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        let choice = &chunk["choices"][0];
        let delta = &choice[if stream { "delta" } else { "message" }];
        said.text += text(&delta["content"]);
        said.reasoning += text(&delta["reasoning_content"]);
        said.end += text(&choice["finish_reason"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if call["id"].is_string() {
                said.calls.push((
                    text(&call["id"]).to_owned(),
                    text(&function["name"]).to_owned(),
                    String::new(),
                ));
            }
            said.calls.last_mut().unwrap().2 += text(&function["arguments"]);
        }
    }
    said
}

fn responses(reply: &Reply, stream: bool) -> Said {
    let mut said = Said::default();
    let mut deltas = String::new();
    let response = if stream {
        let events: Vec<Value> = reply
            .events()
            .iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        for event in &events {
            if event["type"] == "response.output_text.delta" {
                deltas += text(&event["delta"]);
            }
        }
        events.last().unwrap()["response"].clone()
    } else {
        reply.json()
    };
    for item in response["output"].as_array().unwrap() {
        match text(&item["type"]) {
            "message" => said.text += text(&item["content"][0]["text"]),
            "reasoning" => said.reasoning += text(&item["summary"][0]["text"]),
            _ => said.calls.push((
                text(&item["call_id"]).to_owned(),
                text(&item["name"]).to_owned(),
                text(&item["arguments"]).to_owned(),
            )),
        }
    }
    assert!(!stream || deltas == said.text, "{deltas} is not {}", said.text);
    said.end = text(&response["status"]).to_owned();
    said.prompt_tokens = response["usage"]["input_tokens"].as_u64().unwrap_or(0);
    said
}

fn read(path: &str, reply: &Reply, stream: bool) -> Said {
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    if path == CLIENTS[0] { chat(reply, stream) } else { responses(reply, stream) }
}

#[test]
fn clients_of_both_apis_get_the_whole_answer() {
    let server = mock();
    let proxy = proxy(server.address());
    for script in ["deltas=7,text=code", "deltas=3,text=cjk,reasoning=2", "deltas=2,calls=1"] {
        let model = format!("mock:{script}");
        let script: Script = script.parse().unwrap();
        for path in CLIENTS {
            for stream in [true, false] {
                let reply = proxy.post(path, &request(path, &model, stream).to_string());
                let said = read(path, &reply, stream);
                let what = format!("{path} {stream} {script}");
                assert_eq!(said.text, script.whole_text(), "{what}");
                assert_eq!(said.reasoning, script.whole_reasoning(), "{what}");
                assert_eq!(said.prompt_tokens, PROMPT_TOKENS, "{what}");
                let end = match (path == CLIENTS[0], script.calls) {
                    (true, 0) => "stop",
                    (true, _) => "tool_calls",
                    (false, _) => "completed",
                };
                assert_eq!(
                    (said.end.as_str(), said.calls.len()),
                    (end, script.calls as usize),
                    "{what}"
                );
                for (id, name, arguments) in &said.calls {
                    assert!(id.starts_with("fs_") && id.contains("_state-"), "{id}");
                    assert_eq!(name, "look");
                    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    assert_eq!(parse(arguments), parse(&script.arguments(0).concat()));
                }
            }
        }
    }
}

#[test]
fn what_breaks_upstream_never_looks_like_success() {
    let server = mock();
    let proxy = proxy(server.address());
    for path in CLIENTS {
        for (script, status) in [("status=429", 429), ("status=503", 503), ("fail_after=0", 500)] {
            let model = format!("mock:{script}");
            let reply = proxy.post(path, &request(path, &model, true).to_string());
            assert_eq!(reply.status, status, "{path} {script} {reply:?}");
            assert!(reply.json()["error"]["message"].is_string(), "{reply:?}");
        }
        for script in ["deltas=5,fail_after=2", "deltas=5,cut_after=2"] {
            let model = format!("mock:{script}");
            let reply = proxy.post(path, &request(path, &model, true).to_string());
            let told = reply.text();
            assert!(told.contains("\"error\":{"), "{path} {script} {told}");
            assert!(!told.contains("\"finish_reason\":\"stop\""), "{told}");
            assert!(!told.contains("response.completed"), "{told}");
        }
    }
}

const CALL: &str = include_str!("golden/gigachat/call.sse");
const TEXT: &str = include_str!("golden/gigachat/text.sse");

/// An upstream that calls a tool first, then answers.
fn agent() -> Upstream {
    Upstream::start(|request, wire| {
        let body = request.json();
        let last = body["messages"].as_array().unwrap().last().unwrap()["role"].clone();
        reply_stream(wire, if last == "function" { TEXT } else { CALL });
        Then::Keep
    })
}

#[test]
fn a_tool_turn_brings_back_call_result_and_state() {
    for path in CLIENTS {
        let upstream = agent();
        let proxy = proxy(upstream.address);
        let mut body = request(path, "GigaChat-2-Max", true);
        let called = read(path, &proxy.post(path, &body.to_string()), true);
        let first = upstream.next();
        assert_eq!(first.line, "POST /api/v1/chat/completions HTTP/1.1");
        assert_eq!(first.header("authorization"), Some("Bearer upstream-secret"));
        let first = first.json();
        assert_eq!((&first["function_call"], &first["stream"]), (&json!("auto"), &json!(true)));
        assert_eq!(first["functions"][0]["name"], "look");

        let (id, name, arguments) = called.calls[0].clone();
        if path == CLIENTS[0] {
            let messages = body["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": called.text, "tool_calls": [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]}));
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": "a.txt\nb.txt"}));
        } else {
            body["input"] = json!([{"role": "user", "content": "hello"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": called.text}]},
                {"type": "function_call", "call_id": id, "name": name, "arguments": arguments},
                {"type": "function_call_output", "call_id": id, "output": "a.txt\nb.txt"}]);
        }
        let answer = read(path, &proxy.post(path, &body.to_string()), true);
        assert_eq!(answer.text, "Раз, \"два\"\nтри 😀 END четыре", "{path}");
        assert_eq!(answer.reasoning, "Считаю дальше.");
        let second = upstream.next().json();
        let expected = json!([{"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Смотрю.",
                "function_call": {"name": "shell", "arguments": {"cmd": "ls \"a\\b\"", "n": [1, {"x": "й"}]}},
                "functions_state_id": "77d3fb14-457a-46ba-937e-8d856156d003"},
            {"role": "function", "name": "shell", "content": "{\"result\":\"a.txt\\nb.txt\"}"}]);
        assert_eq!(second["messages"], expected, "{path}");
    }
}

#[test]
fn stop_sequences_are_looked_for_here_and_what_is_dropped_is_named() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, TEXT);
        Then::Keep
    });
    let proxy = proxy(upstream.address);
    let mut body = request(CLIENTS[0], "GigaChat", true);
    body["stop"] = json!(["END"]);
    body["seed"] = json!(4);
    body["reasoning_effort"] = json!("xhigh");
    let reply = proxy.post(CLIENTS[0], &body.to_string());
    assert_eq!(read(CLIENTS[0], &reply, true).text, "Раз, \"два\"\nтри 😀 ");
    assert_eq!(reply.header("x-patchbay-dropped"), Some("reasoning.effort, seed"));
    let sent = upstream.next().json();
    assert_eq!(sent["reasoning_effort"], "high");
    assert!(sent.get("stop").is_none() && sent.get("seed").is_none(), "{sent}");
}

#[test]
fn a_session_and_the_ids_of_a_request_go_along_and_come_back() {
    let upstream = Upstream::start(|_, wire| {
        let length = TEXT.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Request-ID: 8324244b-7133\r\nX-Session-ID: s\r\n\
             content-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n"
        );
        wire.write_all((head + TEXT).as_bytes()).unwrap();
        Then::Keep
    });
    let proxy = proxy(upstream.address);
    let post = |path: &str, headers: &[(&str, &str)], body: &Value| {
        let mut client = Client::connect(proxy.address);
        client.send_post(path, headers, &body.to_string());
        let reply = client.reply();
        assert_eq!(reply.header("x-request-id"), Some("8324244b-7133"), "{reply:?}");
        upstream.next()
    };
    for path in CLIENTS {
        let mut body = request(path, "GigaChat", true);
        let sent = post(
            path,
            &[
                ("X-Session-ID", "mine"),
                ("X-Request-ID", "two"),
                ("X-Client-ID", "three"),
                ("X-Service-ID", "four"),
                ("X-Operation-ID", "five"),
                ("X-Trace-ID", "six"),
                ("X-Agent-ID", "seven"),
                ("session_id", "codex-1"),
                ("Authorization", "Bearer client-secret"),
                ("Cookie", "a=b"),
                ("X-Stainless-OS", "Linux"),
                ("OpenAI-Organization", "org"),
            ],
            &body,
        );
        for (name, value) in [
            ("x-session-id", Some("mine")),
            ("x-request-id", Some("two")),
            ("x-client-id", Some("three")),
            ("x-service-id", Some("four")),
            ("x-operation-id", Some("five")),
            ("x-trace-id", Some("six")),
            ("x-agent-id", Some("seven")),
            ("authorization", Some("Bearer upstream-secret")),
            ("session_id", None),
            ("cookie", None),
            ("x-stainless-os", None),
            ("openai-organization", None),
        ] {
            assert_eq!(sent.header(name), value, "{path} {name}");
        }
        let sent = post(path, &[("session_id", "codex-1")], &body);
        assert_eq!(sent.header("x-session-id"), Some("codex-1"), "{path}");
        body["prompt_cache_key"] = json!("key-1");
        let sent = post(path, &[("session_id", "codex-1")], &body);
        assert_eq!(sent.header("x-session-id"), Some("key-1"), "{path}");
        body["prompt_cache_key"] = json!("a\r\nx-evil: 1");
        let sent = post(path, &[], &body);
        let told = sent.header("x-session-id").unwrap();
        assert!(told.len() == 16 && told.bytes().all(|it| it.is_ascii_hexdigit()), "{told}");
        assert_eq!(sent.header("x-evil"), None);
    }
}
