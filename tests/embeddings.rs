//! `POST /embeddings` over the real binary: upstreams of OpenAI's form and GigaChat.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use support::{Client, Patchbay, Reply, Then, Upstream, Wire, reply};

const PATH: &str = "/v1/embeddings";

/// GigaChat: three numbers for each text, as many tokens as the text has bytes. The text `fail NNN`
/// is an error.
fn gigachat() -> Upstream {
    Upstream::start(|request, wire| {
        let body = request.json();
        let texts = body["input"].as_array().unwrap();
        if let Some(status) = texts[0].as_str().and_then(|text| text.strip_prefix("fail ")) {
            refuse(wire, status);
            return Then::Keep;
        }
        let data = texts.iter().enumerate().map(|(index, text)| {
            json!({"object": "embedding", "index": index, "embedding": [0.5, -1.25, index],
                "usage": {"prompt_tokens": text.as_str().unwrap().len()}})
        });
        let data: Vec<Value> = data.collect();
        let whole = json!({"object": "list", "model": body["model"], "data": data});
        reply(wire, "200 OK", "application/json; charset=utf-8", &whole.to_string());
        Then::Keep
    })
}

fn refuse(wire: &mut dyn Wire, status: &str) {
    let body = format!("{{\"status\":{status},\"message\":\"No such model\"}}");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nretry-after: 7\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    wire.write_all((head + &body).as_bytes()).unwrap();
}

/// An upstream that answers everything with this.
fn constant(content_type: &'static str, body: &'static str) -> Upstream {
    Upstream::start(move |_, wire| {
        reply(wire, "200 OK", content_type, body);
        Then::Keep
    })
}

/// A proxy with a configuration that names these upstreams as `{0}`, `{1}`.
fn configured(text: &str, upstreams: &[&Upstream]) -> Patchbay {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patchbay.toml");
    let mut text = text.to_owned();
    for (at, upstream) in upstreams.iter().enumerate() {
        text = text.replace(&format!("{{{at}}}"), &format!("http://{}", upstream.address));
    }
    std::fs::write(&file, text).unwrap();
    Patchbay::start(&["--config", file.to_str().unwrap()])
}

const GIGACHAT: &str = r#"
    [providers.giga]
    dialect = "gigachat"
    url = "{0}/api/v1"
    credential = { kind = "key", env = "PATCHBAY_TEST_KEY" }
    embeddings_model = "EmbeddingsGigaR"
    [[routes]]
    model = "embedder"
    provider = "giga"
    upstream_model = "Embeddings-2"
    [[routes]]
    model = "*"
    provider = "giga"
    upstream_model = "GigaChat-2-Max"
"#;

fn error(reply: &Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{reply:?}");
    reply.json()["error"].clone()
}

#[test]
fn gigachat_is_asked_and_answers_in_openais_form() {
    let upstream = gigachat();
    let proxy = configured(GIGACHAT, &[&upstream]);
    for (path, model, there) in [
        (PATH, "text-embedding-3-small", "EmbeddingsGigaR"),
        ("/embeddings", "EmbeddingsGigaR", "EmbeddingsGigaR"),
        ("/v1/embeddings/", "GigaEmbeddings-3B-2025-09", "GigaEmbeddings-3B-2025-09"),
        ("//embeddings", "embedder", "Embeddings-2"),
    ] {
        let told = proxy.post(path, &json!({"model": model, "input": "й"}).to_string());
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(told.header("x-patchbay-dropped"), None);
        assert!(told.header("x-request-id").is_some());
        let expected = json!({"object": "list", "model": model,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.25, 0]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2}});
        assert_eq!(told.json(), expected, "{path}");
        let sent = upstream.next();
        assert_eq!(sent.line, "POST /api/v1/embeddings HTTP/1.1");
        assert_eq!(sent.header("authorization"), Some("Bearer upstream-secret"));
        assert_eq!(sent.header("accept"), Some("application/json"));
        assert_eq!(sent.json(), json!({"model": there, "input": ["й"]}));
    }
    let body = json!({"model": "m", "input": ["a", "bc"], "encoding_format": "base64",
        "dimensions": 2, "user": "u"});
    let told = proxy.post(PATH, &body.to_string());
    assert_eq!(told.header("x-patchbay-dropped"), Some("dimensions"));
    let told = told.json();
    assert_eq!(told["data"][0]["embedding"], "AAAAPwAAoL8AAAAA");
    assert_eq!(told["data"][1]["embedding"], "AAAAPwAAoL8AAIA/");
    assert_eq!(told["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    // The line is written when the client has its answer.
    let line = support::wait_for("the log", || {
        let log = proxy.log();
        log.lines().find(|line| line.contains("dropped=\"dimensions\"")).map(str::to_owned)
    });
    assert!(line.contains("POST /embeddings ok status=200"), "{line}");
    assert!(line.contains("model=\"m\" provider=giga"), "{line}");
}

#[test]
fn what_has_no_form_is_refused_before_gigachat_is_asked() {
    let upstream = gigachat();
    let proxy = configured(GIGACHAT, &[&upstream]);
    for (body, param) in [
        (json!({"input": "a"}), json!("model")),
        (json!({"model": 1, "input": "a"}), Value::Null),
        (json!({"model": "m"}), json!("input")),
        (json!({"model": "m", "input": ""}), json!("input")),
        (json!({"model": "m", "input": []}), json!("input")),
        (json!({"model": "m", "input": ["a", ""]}), json!("input")),
        (json!({"model": "m", "input": [1, 2, 3]}), json!("input")),
        (json!({"model": "m", "input": [[1], [2]]}), json!("input")),
        (json!({"model": "m", "input": "a", "encoding_format": "x"}), json!("encoding_format")),
    ] {
        let told = error(&proxy.post(PATH, &body.to_string()), 400);
        assert_eq!((&told["param"], &told["type"]), (&param, &json!("invalid_request_error")));
    }
    let tokens = json!({"model": "m", "input": [1]}).to_string();
    let told = error(&proxy.post(PATH, &tokens), 400);
    assert!(told["message"].as_str().unwrap().contains("send text"), "{told}");
    assert_eq!(error(&proxy.post(PATH, ""), 400)["type"], "invalid_request_error");
    let strict = configured(&format!("[server]\nstrict = true\n{GIGACHAT}"), &[&upstream]);
    let body = json!({"model": "m", "input": "a", "dimensions": 2}).to_string();
    assert_eq!(error(&strict.post(PATH, &body), 400)["param"], "dimensions");
    assert!(upstream.received.try_recv().is_err(), "GigaChat was asked");
    let mut client = Client::connect(proxy.address);
    client.send_get(PATH);
    let told = client.reply();
    assert_eq!((told.status, told.header("allow")), (405, Some("POST")));
}

#[test]
fn an_upstreams_error_keeps_its_status() {
    let upstream = gigachat();
    let proxy = configured(GIGACHAT, &[&upstream]);
    for (status, code) in [
        (401, "upstream_unauthorized"),
        (402, "insufficient_quota"),
        (404, "model_not_found"),
        (429, "rate_limit_exceeded"),
        (500, "server_error"),
        (503, "server_overloaded"),
    ] {
        let body = json!({"model": "m", "input": format!("fail {status}")}).to_string();
        let told = proxy.post(PATH, &body);
        let wait = matches!(status, 429 | 500 | 503).then_some("7");
        assert_eq!(told.header("retry-after"), wait, "{status}");
        assert_eq!(error(&told, status)["code"], code, "{status}");
    }
    for (content_type, body) in
        [("application/json", r#"{"data":[]}"#), ("text/html", "<html>"), ("application/json", "")]
    {
        let upstream = constant(content_type, body);
        let proxy = configured(GIGACHAT, &[&upstream]);
        let asked = json!({"model": "m", "input": "a"}).to_string();
        assert_eq!(error(&proxy.post(PATH, &asked), 502)["code"], "bad_upstream_response");
    }
}

#[test]
fn upstreams_of_openais_form_get_and_give_their_own_bytes() {
    const REPLY: &str = "{\"object\":\"list\", \"data\":[{\"embedding\":\"AAAA\"}],\"x\":1}\n";
    let (plain, local) = (constant("application/json", REPLY), constant("text/plain", "hello"));
    let config = r#"
        [providers.plain]
        dialect = "responses"
        url = "{0}/base/v1"
        [providers.local]
        url = "{1}/v1/chat/completions"
        embeddings_model = "nomic"
        models = ["chatty", "mxbai"]
        [[routes]]
        model = "small"
        provider = "plain"
        upstream_model = "text-embedding-3-small"
        [[routes]]
        model = "text-*"
        provider = "plain"
        [[routes]]
        model = "*"
        provider = "local"
    "#;
    let proxy = configured(config, &[&plain, &local]);
    for (model, there) in [("text-a", "text-a"), ("small", "text-embedding-3-small")] {
        let body = |model: &str| {
            format!(
                "{{ \"input\":[[1,2],[3]], \"dimensions\":3,\n\"model\":\"{model}\", \"a\":\"\\u00e9\"}}"
            )
        };
        let told = proxy.post(PATH, &body(model));
        assert_eq!((told.status, told.text().as_str()), (200, REPLY));
        assert_eq!(told.header("x-patchbay-dropped"), None);
        let sent = plain.next();
        assert_eq!(sent.line, "POST /base/v1/embeddings HTTP/1.1");
        assert_eq!(String::from_utf8(sent.body).unwrap(), body(there));
    }
    for (model, there) in [("any", "nomic"), ("mxbai", "mxbai")] {
        let body = json!({"model": model, "input": "a"}).to_string();
        // Its reply is no JSON.
        assert_eq!(error(&proxy.post(PATH, &body), 502)["code"], "bad_upstream_response");
        let sent = local.next();
        assert_eq!(
            (sent.json()["model"].as_str(), &*sent.line),
            (Some(there), "POST /v1/embeddings HTTP/1.1")
        );
    }
}

#[test]
fn who_may_ask_is_decided_as_for_answers() {
    let upstream = gigachat();
    let keys = r#"
        [clients.keys]
        a = { secret = "key-a", models = ["small"], per_minute = 60, burst = 2 }
    "#;
    let proxy = configured(&format!("{keys}{GIGACHAT}"), &[&upstream]);
    let post = |key: &str, model: &str| {
        let mut client = Client::connect(proxy.address);
        let body = json!({"model": model, "input": "a"}).to_string();
        client.send_post(PATH, &[("authorization", &format!("Bearer {key}"))], &body);
        client.reply()
    };
    assert_eq!(error(&post("other", "small"), 401)["code"], "invalid_api_key");
    assert_eq!(error(&post("key-a", "large"), 403)["code"], "model_not_allowed");
    assert_eq!(post("key-a", "small").status, 200);
    assert_eq!(upstream.next().header("authorization"), Some("Bearer upstream-secret"));
    let limited = post("key-a", "small");
    assert!(limited.header("retry-after").is_some());
    assert_eq!(error(&limited, 429)["code"], "rate_limit_exceeded");
}

#[test]
fn a_provider_without_embeddings_says_so() {
    let upstream = gigachat();
    let config = r#"
        [providers.codex]
        dialect = "responses"
        url = "{0}/backend-api/codex/responses"
        quirks_profile = "chatgpt.com"
        [[routes]]
        model = "*"
        provider = "codex"
    "#;
    let proxy = configured(config, &[&upstream]);
    let body = json!({"model": "gpt-5", "input": "a"}).to_string();
    let told = error(&proxy.post(PATH, &body), 400);
    assert!(told["message"].as_str().unwrap().contains("makes no embeddings"), "{told}");
    assert!(upstream.received.try_recv().is_err(), "it was asked");
}

#[test]
fn large_requests_and_replies_pass() {
    let upstream = Upstream::start(|request, wire| {
        let body = request.json();
        let numbers: Vec<f32> = (0..1024).map(|number| number as f32 / 1024.0).collect();
        let texts = body["input"].as_array().unwrap().len();
        let one = json!({"embedding": numbers, "usage": {"prompt_tokens": 3}}).to_string();
        let data = vec![one; texts].join(",");
        reply(wire, "200 OK", "application/json", &format!("{{\"data\":[{data}]}}"));
        Then::Keep
    });
    let proxy = configured(GIGACHAT, &[&upstream]);
    let text = "слово ".repeat(1000);
    let texts: Vec<&str> = vec![&text; 500];
    for format in ["float", "base64"] {
        let body = json!({"model": "m", "input": texts, "encoding_format": format}).to_string();
        assert!(body.len() > 4 << 20);
        let told = proxy.post(PATH, &body);
        assert_eq!((told.status, told.complete), (200, true));
        let told = told.json();
        assert_eq!(told["data"].as_array().unwrap().len(), 500);
        let last = &told["data"][499];
        assert_eq!((&last["index"], &told["usage"]["total_tokens"]), (&json!(499), &json!(1500)));
        let vector = &last["embedding"];
        match vector.as_str() {
            None => assert_eq!(
                (vector[1].as_f64(), vector[512].as_f64()),
                (Some(1.0 / 1024.0), Some(0.5))
            ),
            // 1024 floats of four bytes, of which the first is zero.
            Some(coded) => {
                assert!(coded.len() == 5464 && coded.starts_with("AAAAAAAAgDo"), "{coded}");
            }
        }
    }
}
