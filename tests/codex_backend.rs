//! Clients of both APIs on an upstream with the Codex backend's rules, over real sockets.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Patchbay, Received, Then, Upstream, Wire, reply, reply_stream};

const REFUSED: [&str; 12] = [
    "temperature",
    "top_p",
    "max_output_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "metadata",
    "top_logprobs",
    "truncation",
    "service_tier",
    "user",
    "previous_response_id",
];

/// Why the backend would not take a request.
fn complaint(request: &Received) -> Option<String> {
    let body = request.json();
    if let Some(name) = REFUSED.iter().find(|name| !body[**name].is_null()) {
        return Some(format!("Unsupported parameter: {name}"));
    }
    let items = body["input"].as_array()?.iter();
    let called: Vec<&Value> = items.clone().filter_map(|item| item.get("call_id")).collect();
    let orphan = items.clone().any(|item| {
        item["type"] == "function_call_output"
            && called.iter().filter(|id| **id == &item["call_id"]).count() < 2
    });
    let rules = [
        (request.line.starts_with("POST /backend-api/codex/responses "), "wrong path"),
        (request.header("authorization") == Some("Bearer upstream-secret"), "no token"),
        (request.header("accept") == Some("text/event-stream"), "accept a stream"),
        (request.header("originator") == Some("codex_cli_rs"), "who are you?"),
        (request.header("x-stainless-lang").is_none(), "a foreign field"),
        (request.header("cookie").is_none(), "a cookie"),
        (body["stream"] == true, "Stream must be set to true"),
        (body["store"] == false, "Store must be set to false"),
        (
            body["instructions"].as_str().is_some_and(|it| !it.is_empty()),
            "Instructions are required",
        ),
        (!items.clone().any(|item| item["role"] == "system"), "System messages are not allowed"),
        (!items.clone().any(|item| item["type"] == "item_reference"), "Item not found"),
        (items.clone().all(|item| item.get("id").is_none()), "Item ids are not kept"),
        (!orphan, "No tool call found for function call output"),
    ];
    rules.iter().find(|(kept, _)| !kept).map(|(_, rule)| (*rule).to_owned())
}

/// A stream of these finished items, whose last event has an empty `output`.
fn answer(items: &[Value]) -> String {
    let response = |status: &str| {
        json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status,
            "model": "gpt-5.2", "output": [], "usage": {"input_tokens": 5, "output_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0}, "total_tokens": 8,
            "output_tokens_details": {"reasoning_tokens": 1}}})
    };
    let mut events = vec![json!({"type": "response.created", "response": response("in_progress")})];
    for (index, item) in items.iter().enumerate() {
        let mut begun = item.clone();
        if item["type"] == "message" {
            begun["content"] = json!([]);
        }
        events.push(
            json!({"type": "response.output_item.added", "output_index": index, "item": begun}),
        );
        if let Some(text) = item["content"][0]["text"].as_str() {
            events.push(json!({"type": "response.content_part.added", "output_index": index,
                "content_index": 0, "item_id": item["id"],
                "part": {"type": "output_text", "text": "", "annotations": []}}));
            events.push(json!({"type": "response.output_text.delta", "output_index": index,
                "content_index": 0, "item_id": item["id"], "delta": text}));
        }
        events.push(
            json!({"type": "response.output_item.done", "output_index": index, "item": item}),
        );
    }
    events.push(json!({"type": "response.completed", "response": response("completed")}));
    let frame =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(frame).collect()
}

fn text(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

fn call(id: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "look",
        "arguments": "{\"at\":1}", "status": "completed"})
}

fn sealed(turn: usize) -> Value {
    json!({"type": "reasoning", "id": format!("rs_{turn}"), "summary": [],
        "encrypted_content": format!("gAAAAsealed{turn}")})
}

/// A backend that keeps its rules and answers with `items`.
fn backend<F>(items: F) -> Upstream
where
    F: Fn(&Value) -> Vec<Value> + Send + Sync + Clone + 'static,
{
    Upstream::start(move |request, wire: &mut dyn Wire| {
        match complaint(request) {
            Some(why) => {
                let body = json!({"detail": why}).to_string();
                reply(wire, "400 Bad Request", "application/json", &body);
            }
            None => reply_stream(wire, &answer(&items(&request.json()))),
        }
        Then::Keep
    })
}

fn patchbay(upstream: &Upstream) -> Patchbay {
    let url = format!("http://{}", upstream.address);
    Patchbay::start(&[
        "--preset",
        "codex-backend",
        "--upstream-url",
        &url,
        "--api-key-env",
        "PATCHBAY_TEST_KEY",
    ])
}

/// Everything that the backend refuses, and more.
fn chat(stream: bool) -> Value {
    json!({"model": "gpt-5.2-codex-xhigh", "stream": stream, "temperature": 0.5, "top_p": 0.9,
        "max_tokens": 5, "presence_penalty": 0.1, "frequency_penalty": 0.1, "seed": 1,
        "metadata": {"a": "b"}, "service_tier": "auto", "user": "u", "store": true,
        "prompt_cache_key": "session-7", "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hi"}]})
}

#[test]
fn chat_clients_get_documents_and_streams() {
    let upstream = backend(|_| vec![sealed(0), text("hello"), call("c1"), call("c2")]);
    let patchbay = patchbay(&upstream);
    let mut body = chat(false);
    body.as_object_mut().unwrap().remove("stream_options");
    let got = patchbay.post("/v1/chat/completions", &body.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let message = &got.json()["choices"][0]["message"];
    assert_eq!(message["content"], "hello");
    assert_eq!(message["tool_calls"].as_array().unwrap().len(), 2);
    assert_eq!(message["tool_calls"][1]["id"], "c2");
    assert_eq!(got.json()["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(got.json()["usage"]["total_tokens"], 8);
    assert!(got.header("x-patchbay-dropped").unwrap().contains("temperature"));

    let sent = upstream.next();
    let body = sent.json();
    assert_eq!(
        (&body["model"], &body["reasoning"]["effort"]),
        (&json!("gpt-5.2-codex"), &json!("xhigh"))
    );
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(body["text"]["verbosity"], "medium");
    for name in ["session_id", "session-id", "conversation_id"] {
        assert_eq!(sent.header(name), Some("session-7"), "{name}");
    }
    assert_eq!(sent.header("openai-beta"), Some("responses=experimental"));
    assert!(sent.header("user-agent").unwrap().starts_with("codex_cli_rs/"));

    let got = patchbay.post("/chat/completions", &chat(true).to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let events = got.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert!(events.iter().any(|event| event.contains("\"content\":\"hello\"")));
    assert!(events.iter().any(|event| event.contains("\"total_tokens\":8")));
}

#[test]
fn responses_clients_get_documents_and_streams_at_both_paths() {
    let upstream = backend(|_| vec![sealed(0), text("hello"), call("c1")]);
    let patchbay = patchbay(&upstream);
    for (path, stream) in
        [("/v1/responses", false), ("/v1/responses", true), ("/backend-api/codex/responses", true)]
    {
        let body = json!({"model": "openai/gpt-5.1", "stream": stream, "temperature": 1,
            "include": ["reasoning.encrypted_content"], "instructions": "",
            "input": [{"role": "system", "content": "be brief"}, {"type": "item_reference", "id": "rs_9"},
                {"type": "message", "id": "msg_5", "role": "user", "content": "hi"},
                {"type": "function_call_output", "call_id": "gone", "output": "x".repeat(20_000)}]});
        let got = patchbay.post(path, &body.to_string());
        assert_eq!(got.status, 200, "{}", got.text());
        let answer = if stream {
            let events = got.events();
            let last = events.iter().rfind(|event| event.contains("response.completed"));
            serde_json::from_str::<Value>(last.unwrap()).unwrap()["response"].clone()
        } else {
            got.json()
        };
        let kinds: Vec<_> =
            answer["output"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"], "{answer}");
        assert_eq!(answer["output"][0]["encrypted_content"], "gAAAAsealed0");
        let sent = upstream.next().json();
        assert_eq!(sent["instructions"], "be brief");
        assert_eq!(sent["reasoning"]["effort"], "medium");
        let orphan = sent["input"][1]["content"][0]["text"].as_str().unwrap();
        assert!(orphan.contains("call_id=gone") && orphan.len() < 16_200, "{}", orphan.len());
    }
}

#[test]
fn a_client_with_its_own_prompt_and_tools_gets_the_bridge() {
    let upstream = backend(|_| vec![text("ok")]);
    let patchbay = patchbay(&upstream);
    let tools = json!([{"type": "function", "function": {"name": "write_file", "parameters": {"type": "object"}}}]);
    let body = json!({"model": "gpt-5.2", "tools": tools, "messages": [
        {"role": "system", "content": "You are Cline."}, {"role": "user", "content": "hi"}]});
    assert_eq!(patchbay.post("/v1/chat/completions", &body.to_string()).status, 200);
    let sent = upstream.next().json();
    assert!(sent["instructions"].as_str().unwrap().ends_with("- write_file"));
    assert_eq!(sent["input"][0]["role"], "developer");
    assert_eq!(sent["input"][0]["content"][0]["text"], "You are Cline.");
}

#[test]
fn ten_turns_bring_the_sealed_reasoning_back_each_time() {
    let turns = |body: &Value| {
        let items = body["input"].as_array().unwrap();
        items.iter().filter(|item| item["type"] == "function_call").count()
    };
    let upstream = backend(move |body| {
        let turn = turns(body);
        if turn < 9 { vec![sealed(turn), call(&format!("c{turn}"))] } else { vec![text("done")] }
    });
    let patchbay = patchbay(&upstream);
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    for turn in 0..10 {
        let body = json!({"model": "gpt-5.2", "messages": messages});
        let got = patchbay.post("/v1/chat/completions", &body.to_string());
        assert_eq!(got.status, 200, "{}", got.text());
        let back = upstream.next().json();
        let seals: Vec<&Value> = back["input"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item.get("encrypted_content"))
            .collect();
        let expected: Vec<String> = (0..turn).map(|turn| format!("gAAAAsealed{turn}")).collect();
        assert_eq!(json!(seals), json!(expected), "turn {turn}");
        let message = got.json()["choices"][0]["message"].clone();
        if turn == 9 {
            assert_eq!(message["content"], "done");
            break;
        }
        let id = message["tool_calls"][0]["id"].clone();
        messages.push(message);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "seen"}));
    }
}

#[test]
fn refusals_come_in_the_clients_envelope() {
    let limit = json!({"error": {"type": "usage_limit_reached", "resets_in_seconds": 90,
        "message": "The usage limit has been reached"}});
    for (status, told, expected, after) in [
        ("404 Not Found", limit.clone(), 429, Some("90")),
        ("429 Too Many Requests", limit, 429, Some("90")),
        ("400 Bad Request", json!({"detail": "Instructions are required"}), 400, None),
        ("401 Unauthorized", json!({"detail": "Unauthorized"}), 401, None),
    ] {
        let words = told.to_string();
        let upstream = Upstream::start(move |_, wire| {
            reply(wire, status, "application/json", &words);
            Then::Keep
        });
        let patchbay = patchbay(&upstream);
        let got = patchbay.post("/v1/chat/completions", &chat(true).to_string());
        assert_eq!((got.status, got.header("retry-after")), (expected, after), "{}", got.text());
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        let own = told["detail"].as_str().or(told["error"]["message"].as_str()).unwrap();
        assert!(message.starts_with(own), "{message}");
    }
}
