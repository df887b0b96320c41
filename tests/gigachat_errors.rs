//! What goes wrong in front of GigaChat, and what other gateways get wrong there: one table for each
//! place where it happens, over the real binary, for clients of both wire APIs, streamed and whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and tables are long"
)]

mod support;

use serde_json::{Value, json};
use support::{Client, Patchbay, Reply, Then, Upstream, Wire, reply, reply_stream};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

/// What an upstream says of itself that no client may see.
const SECRETS: [&str; 4] = ["upstream-secret", "127.0.0.1", "api/v1", "x-internal"];

/// GigaChat by script: a model named `NNN words` is an error with this status, one named `end REASON`
/// an answer that ends so, any other a short answer.
fn upstream() -> Upstream {
    Upstream::start(|request, wire| {
        let body = request.json();
        let model = body["model"].as_str().unwrap();
        match model.split_once(' ') {
            Some(("end", reason)) => answer(wire, &body, reason),
            Some((status, message)) => fail(wire, status, message),
            None => answer(wire, &body, "stop"),
        }
        Then::Keep
    })
}

fn answer(wire: &mut dyn Wire, request: &Value, reason: &str) {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let made = |member: &str, reason: Value, usage: Value| {
        json!({"choices": [{member: {"role": "assistant", "content": "Да"}, "index": 0,
            "finish_reason": reason}], "created": 1, "model": "GigaChat:2",
            "object": "chat.completion", "usage": usage})
    };
    if request["stream"] == json!(true) {
        let first = made("delta", Value::Null, Value::Null);
        let mut last = made("delta", reason.into(), usage);
        last["choices"][0]["delta"]["content"] = json!("");
        reply_stream(wire, &format!("data: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n"));
    } else {
        let whole = made("message", reason.into(), usage).to_string();
        reply(wire, "200 OK", "application/json", &whole);
    }
}

fn fail(wire: &mut dyn Wire, status: &str, message: &str) {
    let body = json!({"status": status.parse::<u16>().unwrap(), "message": message}).to_string();
    let length = body.len();
    // Only a busy upstream says when to come back.
    let retry = if matches!(status, "429" | "503") { "retry-after: 7\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{retry}x-internal: node-7\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    wire.write_all((head + &body).as_bytes()).unwrap();
}

fn proxy(upstream: &Upstream, more: &[&str]) -> Patchbay {
    let url = format!("http://{}/api/v1", upstream.address);
    let args = [&["--upstream-dialect", "gigachat"], more].concat();
    Patchbay::for_upstream(&url, &args)
}

/// A request of either API that only says hello, with these members laid over it.
fn request(path: &str, model: &str, stream: bool, members: &Value) -> Value {
    let mut body = json!({"model": model, "stream": stream});
    if path == CHAT {
        body["messages"] = json!([{"role": "user", "content": "Привет"}]);
    } else {
        body["input"] = json!("Привет");
    }
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn is_told_as_an_error(reply: &Reply, status: u16, what: &str) -> Value {
    assert_eq!(reply.status, status, "{what} {reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    let told = reply.json();
    let members: Vec<&String> = told.as_object().unwrap().keys().collect();
    assert_eq!(members, ["error"], "{what}");
    let error = &told["error"];
    assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{what} {error}");
    assert!(error["type"].is_string(), "{what} {error}");
    for secret in SECRETS {
        assert!(!reply.text().contains(secret), "{what} {secret} {reply:?}");
        assert!(
            reply
                .headers
                .iter()
                .all(|(name, value)| !name.contains(secret) && !value.contains(secret))
        );
    }
    error.clone()
}

#[test]
fn what_is_no_request_is_refused_before_anybody_is_asked() {
    let upstream = upstream();
    let proxy = proxy(&upstream, &[]);
    let hello = json!([{"role": "user", "content": "Привет"}]);
    for (path, mut body, param) in [
        (CHAT, json!({"messages": hello}), json!("model")),
        (RESPONSES, json!({"input": "Привет"}), json!("model")),
        (CHAT, json!({"model": "GigaChat", "messages": "Привет"}), json!("messages")),
        (CHAT, json!({"model": "GigaChat", "messages": {"role": "user"}}), json!("messages")),
        (RESPONSES, json!({"model": "GigaChat", "input": 3}), json!("input")),
        (CHAT, json!({"model": "GigaChat"}), json!("messages")),
        (CHAT, json!({"model": "GigaChat", "messages": []}), json!("messages")),
        (CHAT, json!({"model": "GigaChat", "messages": null}), json!("messages")),
        (RESPONSES, json!({"model": "GigaChat"}), json!("input")),
        (RESPONSES, json!({"model": "GigaChat", "input": []}), Value::Null),
    ] {
        for stream in [true, false] {
            body["stream"] = json!(stream);
            let what = format!("{path} {body}");
            let error = is_told_as_an_error(&proxy.post(path, &body.to_string()), 400, &what);
            assert_eq!(error["type"], "invalid_request_error", "{what}");
            assert_eq!(error["param"], param, "{what} {error}");
        }
    }
    let error = is_told_as_an_error(&proxy.post(CHAT, ""), 400, "an empty body");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(upstream.received.try_recv().is_err(), "GigaChat was asked");
}

#[test]
fn an_upstream_error_keeps_its_status_and_says_whose_it_is() {
    let upstream = upstream();
    let proxy = proxy(&upstream, &[]);
    for (model, status, code, kind) in [
        ("400 Bad parameters", 400, "", "invalid_request_error"),
        // Not `invalid_api_key`: that would be the client's.
        ("401 Token has expired", 401, "upstream_unauthorized", "authentication_error"),
        ("402 Payment Required", 402, "insufficient_quota", "insufficient_quota"),
        ("403 No", 403, "forbidden", "permission_error"),
        ("404 No such model", 404, "model_not_found", "invalid_request_error"),
        ("413 Too large", 413, "too_large", "invalid_request_error"),
        ("422 Invalid params: functions[0]", 422, "invalid_request", "invalid_request_error"),
        ("429 Too many requests", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("500 Internal", 500, "server_error", "server_error"),
        ("502 Bad gateway", 502, "server_error", "server_error"),
        ("503 Busy", 503, "server_overloaded", "server_error"),
    ] {
        for path in [CHAT, RESPONSES] {
            for stream in [true, false] {
                let what = format!("{path} {stream} {model}");
                let body = request(path, model, stream, &json!({})).to_string();
                let reply = proxy.post(path, &body);
                let error = is_told_as_an_error(&reply, status, &what);
                let told = error["code"].as_str().unwrap_or_default();
                assert_eq!((told, &error["type"]), (code, &json!(kind)), "{what}");
                let message = model.split_once(' ').unwrap().1;
                assert!(error["message"].as_str().unwrap().contains(message), "{what} {error}");
                let retry = matches!(status, 429 | 503).then_some("7");
                assert_eq!(reply.header("retry-after"), retry, "{what}");
                upstream.next();
            }
        }
        // What will not change ends a turn of the Codex CLI at once: it repeats other statuses.
        let mut client = Client::connect(proxy.address);
        let body = request(RESPONSES, model, true, &json!({})).to_string();
        client.send_post(RESPONSES, &[("originator", "codex_cli_rs")], &body);
        let told = client.reply().status;
        let passing = matches!(status, 429 | 500..=599) || code == "model_not_found";
        assert_eq!(told, if passing { status } else { 400 }, "{model}");
        upstream.next();
    }
}

#[test]
fn every_end_of_an_answer_is_told_as_what_it_is() {
    let upstream = upstream();
    let proxy = proxy(&upstream, &[]);
    for (reason, finish, status, why) in [
        ("stop", "stop", "completed", Value::Null),
        ("length", "length", "incomplete", json!("max_output_tokens")),
        ("blacklist", "content_filter", "incomplete", json!("content_filter")),
    ] {
        let model = format!("end {reason}");
        for stream in [true, false] {
            let chat = proxy.post(CHAT, &request(CHAT, &model, stream, &json!({})).to_string());
            let body = request(RESPONSES, &model, stream, &json!({})).to_string();
            let responses = proxy.post(RESPONSES, &body);
            assert_eq!((chat.status, responses.status), (200, 200), "{reason}");
            let (ended, response) = if stream {
                let ends = chat.events().into_iter().filter(|data| data != "[DONE]");
                let ends = ends.map(|data| serde_json::from_str::<Value>(&data).unwrap());
                let mut ends = ends.map(|chunk| chunk["choices"][0]["finish_reason"].clone());
                let last = responses.events().into_iter().rfind(|data| data != "[DONE]").unwrap();
                let last: Value = serde_json::from_str(&last).unwrap();
                (ends.find(Value::is_string).unwrap(), last["response"].clone())
            } else {
                (chat.json()["choices"][0]["finish_reason"].clone(), responses.json())
            };
            assert_eq!(ended, finish, "{reason} {stream}");
            assert_eq!(response["status"], status, "{reason} {stream}");
            let told = response["incomplete_details"].get("reason").cloned();
            assert_eq!(told.unwrap_or_default(), why, "{reason} {stream}");
        }
    }
    for path in [CHAT, RESPONSES] {
        let whole = proxy.post(path, &request(path, "end error", false, &json!({})).to_string());
        is_told_as_an_error(&whole, 500, path);
        let stream = proxy.post(path, &request(path, "end error", true, &json!({})).to_string());
        let told = stream.text();
        assert!(told.contains("\"error\":{") && !told.contains("response.completed"), "{told}");
        assert!(!told.contains("\"finish_reason\":\"stop\""), "{told}");
    }
}

const TOOL: &str = "look";

fn tool(path: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    if path == CHAT {
        json!({"type": "function", "function": {"name": TOOL, "parameters": parameters}})
    } else {
        json!({"type": "function", "name": TOOL, "parameters": parameters})
    }
}

/// A turn in which `calls` of the tool (id, arguments) were made and answered with their ids.
fn history(path: &str, calls: &[(&str, &str)]) -> Value {
    if path == CHAT {
        let made = calls.iter().map(|(id, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": TOOL, "arguments": arguments}})
        });
        let mut messages = vec![
            json!({"role": "user", "content": "Привет"}),
            json!({"role": "assistant", "content": null, "tool_calls": made.collect::<Vec<_>>()}),
        ];
        let outputs = calls.iter().map(|(id, _)| {
            json!({"role": "tool", "tool_call_id": id, "content": format!("result of {id}")})
        });
        messages.extend(outputs);
        return json!({"messages": messages, "tools": [tool(path)]});
    }
    let mut items = vec![json!({"role": "user", "content": "Привет"})];
    items.extend(calls.iter().map(|(id, arguments)| {
        json!({"type": "function_call", "call_id": id, "name": TOOL, "arguments": arguments})
    }));
    items.extend(calls.iter().map(|(id, _)| {
        json!({"type": "function_call_output", "call_id": id, "output": format!("result of {id}")})
    }));
    json!({"input": items, "tools": [tool(path)]})
}

/// What GigaChat gets of such a turn with one call.
fn called(arguments: &Value, id: &str) -> [Value; 2] {
    let result = json!({"result": format!("result of {id}")}).to_string();
    [
        json!({"role": "assistant", "content": "",
            "function_call": {"name": TOOL, "arguments": arguments}}),
        json!({"role": "function", "name": TOOL, "content": result}),
    ]
}

/// What is checked of the body that GigaChat gets.
type Check = Box<dyn Fn(&Value) -> bool>;

fn member(pointer: &'static str, expected: Value) -> Check {
    Box::new(move |body| body.pointer(pointer).unwrap_or(&Value::Null) == &expected)
}

#[test]
fn what_others_lose_or_fail_at_arrives() {
    let upstream = upstream();
    let proxy = proxy(&upstream, &[]);
    let user = json!({"role": "user", "content": "Привет"});
    for path in [CHAT, RESPONSES] {
        let effort = |effort: &str| {
            if path == CHAT {
                json!({"reasoning_effort": effort})
            } else {
                json!({"reasoning": {"effort": effort}})
            }
        };
        let messages = |rest: &[[Value; 2]]| {
            let all = std::iter::once(user.clone()).chain(rest.iter().flatten().cloned());
            member("/messages", Value::Array(all.collect()))
        };
        let two = [("a", r#"{"path":"1"}"#), ("b", r#"{"path":"2"}"#)];
        let choice = |choice: &str| json!({"tools": [tool(path)], "tool_choice": choice});
        let system = if path == CHAT {
            json!({"messages": [{"role": "developer", "content": "Кратко."}, user]})
        } else {
            json!({"input": [{"role": "developer", "content": "Кратко."}, user]})
        };
        let verbosity = if path == CHAT {
            json!({"verbosity": "low"})
        } else {
            json!({"text": {"verbosity": "low"}})
        };
        let custom = if path == CHAT {
            json!({"type": "custom", "custom": {"name": "apply_patch", "description": "Edits"}})
        } else {
            json!({"type": "custom", "name": "apply_patch", "description": "Edits"})
        };
        let named = if path == CHAT {
            json!({"type": "function", "function": {"name": TOOL}})
        } else {
            json!({"type": "function", "name": TOOL})
        };
        let nothing: fn(&Value) -> bool = |body| body.get("reasoning_effort").is_none();
        let cases: Vec<(&str, Value, Check)> = vec![
            ("xhigh", effort("xhigh"), member("/reasoning_effort", json!("high"))),
            ("minimal", effort("minimal"), member("/reasoning_effort", json!("low"))),
            ("none", effort("none"), Box::new(nothing)),
            ("an unknown effort", effort("extreme"), Box::new(nothing)),
            ("medium", effort("medium"), member("/reasoning_effort", json!("medium"))),
            (
                "arguments that are no JSON",
                history(path, &[("a", "{\"path\":")]),
                messages(&[called(&json!({"arguments": "{\"path\":"}), "a")]),
            ),
            (
                "arguments that are no object",
                history(path, &[("a", "ls -l")]),
                messages(&[called(&json!({"arguments": "ls -l"}), "a")]),
            ),
            (
                "two calls at once",
                history(path, &two),
                messages(&[called(&json!({"path": "1"}), "a"), called(&json!({"path": "2"}), "b")]),
            ),
            (
                "tools without a choice",
                json!({"tools": [tool(path)]}),
                member("/function_call", json!("auto")),
            ),
            ("auto", choice("auto"), member("/function_call", json!("auto"))),
            ("required, one tool", choice("required"), member("/function_call/name", json!(TOOL))),
            (
                "a tool by its name",
                json!({"tools": [tool(path)], "tool_choice": named}),
                member("/function_call/name", json!(TOOL)),
            ),
            (
                "no tool",
                choice("none"),
                Box::new(|body| {
                    body.get("functions").is_none() && body.get("function_call").is_none()
                }),
            ),
            (
                "verbosity",
                verbosity,
                Box::new(|body| {
                    body.get("response_format").is_none() && body.get("text").is_none()
                }),
            ),
            (
                "a developer's text",
                system,
                member("/messages", json!([{"role": "system", "content": "Кратко."}, user])),
            ),
            (
                "a custom tool",
                json!({"tools": [custom]}),
                member("/functions/0/parameters/required", json!(["input"])),
            ),
            (
                "temperature 0",
                json!({"temperature": 0}),
                Box::new(|body| body.get("temperature").is_none() && body["top_p"] == json!(0)),
            ),
        ];
        for (name, members, check) in &cases {
            for stream in [true, false] {
                let body = request(path, "GigaChat", stream, members).to_string();
                let reply = proxy.post(path, &body);
                assert_eq!((reply.status, reply.complete), (200, true), "{path} {name} {reply:?}");
                let sent = upstream.next().json();
                assert!(check(&sent), "{path} {name} {stream}: {sent}");
                assert_eq!(sent["stream"] == json!(true), stream, "{sent}");
            }
        }
    }
}

#[test]
fn what_is_moved_or_left_out_is_named_and_strictly_refused() {
    let upstream = upstream();
    let members = json!({"tools": [tool(CHAT), {"type": "function", "function": {"name": "b"}}],
        "tool_choice": "required", "reasoning_effort": "xhigh", "seed": 1, "n": 1,
        "response_format": {"type": "json_object"}});
    let body = request(CHAT, "GigaChat", false, &members).to_string();
    let reply = proxy(&upstream, &[]).post(CHAT, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let dropped = reply.header("x-patchbay-dropped").unwrap();
    for name in ["tool_choice.required", "reasoning.effort", "seed", "text.format"] {
        assert!(dropped.split(", ").any(|it| it == name), "{name}: {dropped}");
    }
    upstream.next();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("strict.toml");
    std::fs::write(&file, "[server]\nstrict = true\n").unwrap();
    let strict = proxy(&upstream, &["--config", file.to_str().unwrap()]);
    is_told_as_an_error(&strict.post(CHAT, &body), 400, "strict");
    assert!(upstream.received.try_recv().is_err(), "GigaChat was asked");
}

#[test]
fn the_operation_is_at_the_root_and_under_v1_however_it_is_written() {
    let upstream = upstream();
    let proxy = proxy(&upstream, &[]);
    for path in ["/responses", "//responses", "/responses/", "/v1/responses", "//v1//responses/"] {
        let reply =
            proxy.post(path, &request(RESPONSES, "GigaChat", false, &json!({})).to_string());
        assert_eq!(reply.status, 200, "{path} {reply:?}");
        assert_eq!(upstream.next().line, "POST /api/v1/chat/completions HTTP/1.1");
    }
}
