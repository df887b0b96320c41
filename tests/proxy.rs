//! The proxy over real sockets: what a client sees, what an upstream sees, and what must not happen.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{
    Patchbay, Then, Upstream, chat_stream, chat_text, reply, reply_stream, responses_request,
    wait_for,
};

fn types(events: &[String]) -> Vec<String> {
    let parse = |event: &String| serde_json::from_str::<Value>(event).ok();
    events.iter().filter_map(parse).filter_map(|e| Some(e["type"].as_str()?.to_owned())).collect()
}

#[test]
fn a_text_turn_is_translated_while_it_streams() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, &chat_text("hello, wörld"));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let got = patchbay.post("/v1/responses", &responses_request("hi", true));
    assert_eq!(got.status, 200);
    assert!(got.complete);
    assert_eq!(got.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    let events = got.events();
    let types = types(&events);
    assert_eq!(types.first().map(String::as_str), Some("response.created"));
    assert_eq!(types.last().map(String::as_str), Some("response.completed"));
    let last: Value =
        events.iter().rev().find_map(|event| serde_json::from_str(event).ok()).unwrap();
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "hello, wörld");
    assert_eq!(last["response"]["usage"]["input_tokens"], 7);
    assert_eq!(last["response"]["model"], "m");

    let sent = upstream.next();
    assert_eq!(sent.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(sent.header("authorization"), Some("Bearer upstream-secret"));
    assert_eq!(sent.header("accept-encoding"), None);
    let body = sent.json();
    assert_eq!(body["messages"], json!([{"role": "user", "content": "hi"}]));
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[test]
fn the_first_event_leaves_before_the_answer_is_whole() {
    let (send, gate) = std::sync::mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let upstream = Upstream::start(move |_, wire| {
        let stream = chat_text("first");
        let (head, rest) = stream.split_at(stream.find("\n\n").unwrap() + 2);
        let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        wire.write_all((start.to_owned() + head).as_bytes()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        wire.write_all(rest.as_bytes()).unwrap();
        Then::Close
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = patchbay.connect();
    client.send_post("/responses", &[], &responses_request("hi", true));
    loop {
        let line = client.line();
        assert!(!line.is_empty(), "the stream ended without its delta");
        if line.contains("response.output_text.delta") && line.contains("first") {
            break;
        }
    }
    send.send(()).unwrap();
    loop {
        let line = client.line();
        assert!(!line.is_empty(), "the stream ended without its end");
        if line.contains("response.completed") {
            break;
        }
    }
}

#[test]
fn a_client_that_wants_no_stream_gets_a_document() {
    let upstream = Upstream::start(|request, wire| {
        if request.json()["stream"] == json!(true) {
            reply_stream(wire, &chat_text("whole"));
        } else {
            let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "u",
                "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "whole"}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}});
            reply(wire, "200 OK", "application/json", &body.to_string());
        }
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let got = patchbay.post("/v1/responses", &responses_request("hi", false));
    assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
    let body = got.json();
    assert_eq!(body["object"], "response");
    assert_eq!(body["status"], "completed");
    assert_eq!(body["output"][0]["content"][0]["text"], "whole");
}

#[test]
fn the_same_dialect_passes_through_but_for_the_model() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, &chat_text("as is").replace("\"usage\":null", "\"usage\":null,\"x\":1"));
        Then::Keep
    });
    let patchbay =
        Patchbay::for_upstream(&upstream.chat_url(), &["--model", "mine=upstream-model"]);
    let body = r#"{"stream":true, "model":"mine", "messages":[], "vendor_field":[1,2]}"#;
    let got = patchbay.post("/v1/chat/completions", body);
    assert_eq!(got.status, 200);
    let expected = chat_text("as is")
        .replace("\"usage\":null", "\"usage\":null,\"x\":1")
        .replace("upstream-model", "mine");
    assert_eq!(got.text(), expected);
    let sent = upstream.next();
    assert_eq!(
        String::from_utf8(sent.body).unwrap(),
        body.replace("\"mine\"", "\"upstream-model\"")
    );
}

#[test]
fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let upstream = Upstream::start(|request, wire| {
        let text = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        reply_stream(wire, &chat_text(&text));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = patchbay.connect();
    for round in 0..3 {
        for number in 0..3 {
            let text = format!("question {round}.{number}");
            client.send_post("/v1/responses", &[], &responses_request(&text, true));
        }
        client.send_get("/healthz");
        for number in 0..3 {
            let got = client.reply();
            assert!(got.complete);
            assert!(got.text().contains(&format!("question {round}.{number}")), "{got:?}");
        }
        assert_eq!(client.reply().status, 200);
    }
    let connections: Vec<usize> = (0..9).map(|_| upstream.next().connection).collect();
    assert_eq!(connections, [0; 9], "the upstream connection is reused");
}

#[test]
fn expect_continue_and_head_are_answered() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, &chat_text("x"));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = patchbay.connect();
    let body = responses_request("hi", true);
    let head = format!(
        "POST /responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        body.len()
    );
    client.send(head.as_bytes());
    assert_eq!(client.reply().status, 100);
    client.send(body.as_bytes());
    assert_eq!(client.reply().status, 200);
    client.send(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(client.line().starts_with("HTTP/1.1 200 "));
    while client.line() != "\r\n" {}
    client.send_get("/healthz");
    assert_eq!(client.reply().status, 200, "a reply to HEAD has no body");
}

#[test]
fn upstream_statuses_stay_true_in_the_clients_envelope() {
    let upstream = Upstream::start(|request, wire| {
        let wanted = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        let body = r#"{"error":{"message":"no more of this","code":17}}"#;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {wanted} Whatever\r\nretry-after: 7\r\ncontent-length: {length}\r\n\
             set-cookie: a=b\r\ncontent-type: application/json\r\n\r\n{body}"
        );
        wire.write_all(head.as_bytes()).unwrap();
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    for status in ["400", "401", "403", "404", "422", "429", "500", "503", "529"] {
        let got = patchbay.post("/v1/responses", &responses_request(status, true));
        let expected = if status == "529" { 503 } else { status.parse().unwrap() };
        assert!(got.status == expected || got.status.to_string() == status, "{status}: {got:?}");
        let error = &got.json()["error"];
        assert!(error["message"].as_str().unwrap().contains("no more of this"), "{got:?}");
        assert!(error["code"].is_string() || error["code"].is_null(), "{got:?}");
        assert!(error.get("param").is_some() && error["type"].is_string(), "{got:?}");
        assert_eq!(got.header("set-cookie"), None);
        if status == "429" {
            assert_eq!(got.header("retry-after"), Some("7"));
        }
    }
    // The Codex CLI repeats these five times and more; a wrong key shall cost one request.
    let mut client = patchbay.connect();
    for status in ["401", "403"] {
        let codex = [("user-agent", "codex_exec/0.169.0"), ("originator", "codex_exec")];
        client.send_post("/v1/responses", &codex, &responses_request(status, true));
        assert_eq!(client.reply().status, 400);
    }
}

#[test]
fn redirects_are_not_followed() {
    let upstream = Upstream::start(|_, wire| {
        let head = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\n\
                    content-length: 0\r\n\r\n";
        wire.write_all(head.as_bytes()).unwrap();
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let got = patchbay.post("/v1/responses", &responses_request("hi", true));
    assert_eq!(got.status, 502);
    assert_eq!(got.header("location"), None);
}

#[test]
fn a_stream_cut_short_is_never_a_success() {
    let cut = |bytes: usize| {
        move |_: &support::Received, wire: &mut dyn support::Wire| {
            let stream = chat_text("some text");
            let stream = &stream[..stream.len().min(bytes)];
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            let _ = wire.write_all((head.to_owned() + stream).as_bytes());
            Then::Close
        }
    };
    let whole_delta = chat_text("some text").find("\n\n").unwrap() + 2;
    for bytes in [whole_delta, whole_delta + 20] {
        let upstream = Upstream::start(cut(bytes));
        let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
        let got = patchbay.post("/v1/responses", &responses_request("hi", true));
        let types = types(&got.events());
        assert!(types.contains(&"response.failed".to_owned()), "{types:?}");
        assert!(!types.contains(&"response.completed".to_owned()), "{types:?}");
        let unary = patchbay.post("/v1/responses", &responses_request("hi", false));
        assert_eq!(unary.status, 502, "{unary:?}");
    }
}

#[test]
fn nothing_listening_upstream_is_a_502() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let patchbay = Patchbay::for_upstream(&format!("http://127.0.0.1:{port}/v1"), &[]);
    let got = patchbay.post("/v1/responses", &responses_request("hi", true));
    assert_eq!(got.status, 502);
    assert_eq!(got.json()["error"]["code"], "upstream_unreachable");
}

#[test]
fn a_reused_connection_that_died_unanswered_is_retried_once() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let upstream = Upstream::start(move |request, wire| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        if number == 1 {
            // The second request comes on the kept connection; it dies without a byte.
            assert_eq!(request.connection, 0);
            return Then::Close;
        }
        reply_stream(wire, &chat_text("fine"));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    for _ in 0..2 {
        let got = patchbay.post("/v1/responses", &responses_request("hi", true));
        assert_eq!(got.status, 200);
        assert!(got.text().contains("fine"));
    }
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[test]
fn a_fresh_connection_that_died_is_not_retried() {
    let upstream = Upstream::start(|_, _| Then::Close);
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let got = patchbay.post("/v1/responses", &responses_request("hi", true));
    assert_eq!(got.status, 502);
    upstream.next();
    assert!(upstream.received.try_recv().is_err(), "executed once");
}

#[test]
fn a_client_that_leaves_ends_its_upstream() {
    let (send, gone) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |_, wire| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        wire.write_all(head.as_bytes()).unwrap();
        wire.write_all(chat_text("x").split_inclusive("\n\n").next().unwrap().as_bytes()).unwrap();
        let mut byte = [0];
        let ended = wire.read(&mut byte).map_or(true, |count| count == 0);
        send.send(ended).unwrap();
        Then::Close
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = patchbay.connect();
    client.send_post("/v1/responses", &[], &responses_request("hi", true));
    while !client.line().contains("response.output_text.delta") {}
    drop(client);
    assert!(gone.recv_timeout(support::PATIENCE).unwrap(), "the upstream saw its connection end");
}

#[test]
fn web_pages_and_foreign_names_are_refused() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, &chat_text("x"));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let port = patchbay.address.port();
    for (host, origin, status) in [
        ("localhost".to_owned(), None, 200),
        (format!("127.0.0.1:{port}"), None, 200),
        (format!("[::1]:{port}"), None, 200),
        (format!("localhost:{port}"), Some(format!("http://localhost:{port}")), 200),
        (format!("evil.example:{port}"), None, 403),
        ("169.254.169.254".to_owned(), None, 403),
        ("localhost".to_owned(), Some("https://evil.example".to_owned()), 403),
        ("localhost".to_owned(), Some("null".to_owned()), 403),
    ] {
        let mut client = patchbay.connect();
        let body = responses_request("hi", true);
        let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
        let length = body.len();
        client.send(
            format!(
                "POST /v1/responses HTTP/1.1\r\nhost: {host}\r\n{origin}content-length: {length}\
                 \r\n\r\n{body}"
            )
            .as_bytes(),
        );
        assert_eq!(client.reply().status, status, "{host} {origin}");
    }
}

#[test]
fn secrets_of_either_side_do_not_cross_or_reach_the_log() {
    let upstream = Upstream::start(|_, wire| {
        reply(
            wire,
            "401 Unauthorized",
            "application/json",
            "{\"error\":\"bad key upstream-secret\"}",
        );
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = patchbay.connect();
    let headers = [
        ("authorization", "Bearer client-secret"),
        ("cookie", "c=client-secret"),
        ("x-api-key", "client-secret"),
    ];
    client.send_post("/v1/responses?key=client-secret", &headers, &responses_request("hi", true));
    let got = client.reply();
    assert_eq!(got.status, 401);
    assert!(!got.text().contains("upstream-secret"), "{got:?}");
    let sent = upstream.next();
    let seen = format!("{sent:?}");
    assert!(!seen.contains("client-secret"), "{seen}");
    let log = wait_for("the access log", || Some(patchbay.log()).filter(|log| log.contains("401")));
    assert!(!log.contains("client-secret") && !log.contains("upstream-secret"), "{log}");
}

/// Makes a certificate for 127.0.0.1; returns the server's configuration and the PEM to trust.
fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]);
    let made = made.unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (Arc::new(config), made.cert.pem())
}

fn tls_upstream<F>(config: Arc<rustls::ServerConfig>, script: F) -> Upstream
where
    F: Fn(&support::Received, &mut dyn support::Wire) -> Then + Send + Sync + Clone + 'static,
{
    Upstream::start_wrapped(script, move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        Ok(rustls::StreamOwned::new(session, stream))
    })
}

#[test]
fn tls_upstreams_are_checked_and_a_cut_without_close_notify_is_a_cut() {
    let (config, pem) = certificate();
    let upstream = tls_upstream(config, |request, wire| {
        let text = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        if text == "cut" {
            // Until-close framing, every byte of the answer but its end: only TLS can tell.
            let stream = chat_stream(&[json!({"content": "half"})], "stop");
            let stream = stream.split_inclusive("\n\n").next().unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            wire.write_all((head.to_owned() + stream).as_bytes()).unwrap();
            wire.flush().unwrap();
            return Then::Close;
        }
        reply_stream(wire, &chat_text(&text));
        Then::Keep
    });
    let url = format!("https://127.0.0.1:{}/v1", upstream.address.port());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();

    let stranger = Patchbay::for_upstream(&url, &[]);
    let got = stranger.post("/v1/responses", &responses_request("hi", true));
    assert_eq!(got.status, 502, "an unknown issuer is refused: {got:?}");
    assert!(upstream.received.try_recv().is_err(), "the request was not sent");

    let patchbay = Patchbay::for_upstream(&url, &["--ca-file", ca.to_str().unwrap()]);
    for _ in 0..2 {
        let got = patchbay.post("/v1/responses", &responses_request("over tls", true));
        assert_eq!(got.status, 200);
        assert!(got.text().contains("over tls"));
    }
    assert_eq!((upstream.next().connection, upstream.next().connection), (1, 1), "reused");
    let got = patchbay.post("/v1/responses", &responses_request("cut", true));
    assert!(!types(&got.events()).contains(&"response.completed".to_owned()), "{got:?}");
}

#[test]
fn what_codex_asks_besides_answers() {
    let patchbay = Patchbay::for_upstream("http://127.0.0.1:9/v1", &["--model", "gpt-x=vendor-x"]);
    let mut client = patchbay.connect();
    client.send(
        b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\
          connection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          sec-websocket-version: 13\r\n\r\n",
    );
    let got = client.reply();
    assert_eq!((got.status, got.header("upgrade")), (426, Some("HTTP/1.1")));
    for path in ["/models", "/v1/models", "//v1//models/"] {
        let mut client = patchbay.connect();
        client.send_get(path);
        let got = client.reply();
        assert_eq!(got.status, 200, "{path}");
        assert_eq!(got.json()["object"], "list", "{path}");
        assert_eq!(got.json()["data"][0]["id"], "gpt-x", "{path}");
    }
    let mut client = patchbay.connect();
    client.send_get("/v1/models?client_version=0.169.0");
    let catalog = client.reply().json();
    assert_eq!(catalog["models"][0]["slug"], "gpt-x");
    let mut client = patchbay.connect();
    client.send_get("/v1/models/gpt-x");
    assert_eq!(client.reply().json()["id"], "gpt-x");
    for (path, status) in [("/v1/nothing", 404), ("/v1/responses", 405), ("/shutdown", 404)] {
        let mut client = patchbay.connect();
        client.send_get(path);
        let got = client.reply();
        assert_eq!(got.status, status, "{path}");
        assert!(got.json()["error"]["message"].is_string(), "{path}");
    }
}

#[test]
fn a_parameter_that_the_upstream_refuses_is_left_out_and_named() {
    let upstream = Upstream::start(|request, wire| {
        let body = request.json();
        for name in ["stream_options", "max_tokens", "temperature"] {
            if body.get(name).is_some() {
                let error = json!({"error": {"message": format!("Unknown parameter: '{name}'.")}});
                reply(wire, "400 Bad Request", "application/json", &error.to_string());
                return Then::Keep;
            }
        }
        assert_eq!(body["max_completion_tokens"], 99);
        reply_stream(wire, &chat_text("fine"));
        Then::Keep
    });
    let patchbay = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let request = json!({"model": "m", "input": "hi", "stream": true, "temperature": 0.5,
        "max_output_tokens": 99});
    let got = patchbay.post("/v1/responses", &request.to_string());
    assert_eq!(got.status, 200, "{}", got.text());
    let dropped = got.header("x-patchbay-dropped").unwrap();
    assert!(dropped.contains("temperature") && !dropped.contains("max_tokens"), "{dropped}");
    let connections: Vec<usize> = (0..4).map(|_| upstream.next().connection).collect();
    assert_eq!(connections, [0; 4], "a refusal leaves the connection usable");
}

#[test]
fn text_stops_where_a_chat_client_says_on_an_upstream_that_cannot() {
    let upstream = Upstream::start(|_, wire| {
        let event = |value: Value| format!("data: {value}\n\n");
        let mut stream = event(json!({"type": "response.created", "response": {"id": "r"}}));
        stream += &event(json!({"type": "response.output_item.added", "output_index": 0,
            "item": {"type": "message", "id": "m", "role": "assistant", "content": []}}));
        for delta in ["one two ", "three fo", "ur five"] {
            stream += &event(json!({"type": "response.output_text.delta", "output_index": 0,
                "content_index": 0, "item_id": "m", "delta": delta}));
        }
        // No end: the answer is over for the client all the same.
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        wire.write_all((head.to_owned() + &stream).as_bytes()).unwrap();
        let mut byte = [0];
        let _ = wire.read(&mut byte);
        Then::Close
    });
    let url = format!("http://{}/v1/responses", upstream.address);
    let patchbay = Patchbay::for_upstream(&url, &[]);
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "count"}],
        "stop": ["four", "nine"], "stream": true});
    let got = patchbay.post("/v1/chat/completions", &request.to_string());
    assert_eq!(got.header("x-patchbay-dropped"), None);
    let chunks: Vec<Value> =
        got.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let choice = |chunk: &Value| chunk["choices"][0].clone();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| Some(choice(chunk)["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(text, "one two three ");
    assert_eq!(choice(chunks.last().unwrap())["finish_reason"], "stop");
    assert!(got.complete && got.text().ends_with("data: [DONE]\n\n"));
}
