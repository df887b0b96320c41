//! `GET /models` over the real binary, with upstreams that list models themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Client, Patchbay, Reply, Then, Upstream, reply};

/// An upstream that lists these models, each with a type, as long as it works.
fn lister(models: &'static [(&str, &str)], works: &Arc<AtomicBool>) -> Upstream {
    let works = Arc::clone(works);
    Upstream::start(move |_, wire| {
        if !works.load(Ordering::SeqCst) {
            let body = r#"{"status":503,"message":"closed for repairs"}"#;
            reply(wire, "503 X", "application/json", body);
            return Then::Keep;
        }
        let data = models.iter().map(|(id, kind)| {
            json!({"id": id, "object": "model", "owned_by": "salutedevices", "type": kind})
        });
        let list = json!({"object": "list", "data": data.collect::<Vec<_>>()});
        reply(wire, "200 OK", "application/json; charset=utf-8", &list.to_string());
        Then::Keep
    })
}

fn up() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

const GIGACHAT: &[(&str, &str)] = &[
    ("GigaChat-2", "chat"),
    ("GigaChat-2-Max", "chat"),
    ("EmbeddingsGigaR", "embedder"),
    ("own", "chat"),
];

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

fn provider(more: &str) -> String {
    format!(
        r#"
        [providers.giga]
        dialect = "gigachat"
        url = "{{0}}/api/v1"
        credential = {{ kind = "key", env = "PATCHBAY_TEST_KEY" }}
        list_models = true
        {more}
        [[routes]]
        model = "*"
        provider = "giga"
    "#
    )
}

fn get(proxy: &Patchbay, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut client = Client::connect(proxy.address);
    let fields: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n").as_bytes());
    client.reply()
}

fn ids(reply: &Reply) -> Vec<String> {
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    let list = reply.json();
    let name = |model: &Value| {
        let id = model.get("id").unwrap_or(&model["slug"]);
        id.as_str().unwrap().to_owned()
    };
    let models = list.get("data").unwrap_or(&list["models"]);
    models.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn an_upstreams_models_stand_behind_the_configured_ones() {
    let upstream = lister(GIGACHAT, &up());
    let proxy = configured(&provider(r#"models = ["own"]"#), &[&upstream]);
    let all = ["own", "GigaChat-2", "GigaChat-2-Max", "EmbeddingsGigaR"];
    for path in ["/models", "/v1/models", "//v1/models/"] {
        assert_eq!(ids(&get(&proxy, path, &[])), all, "{path}");
    }
    let list = get(&proxy, "/models", &[]).json();
    assert_eq!(
        list["data"][1],
        json!({"id": "GigaChat-2", "object": "model", "created": 0,
        "owned_by": "salutedevices", "metadata": {"type": "chat"}})
    );
    assert_eq!(list["data"][3]["metadata"]["type"], "embedder");
    // The Codex CLI is offered what it can talk with.
    let catalog = get(&proxy, "/models?client_version=0.169.0", &[]);
    assert_eq!(ids(&catalog), all[..3]);
    assert_eq!(get(&proxy, "/v1/models/GigaChat-2-Max", &[]).json()["id"], "GigaChat-2-Max");
    assert_eq!(get(&proxy, "/models/own", &[]).json()["owned_by"], "patchbay");
    let missing = get(&proxy, "/models/none", &[]);
    assert_eq!(
        (missing.status, &missing.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );

    let sent = upstream.next();
    assert_eq!(sent.line, "GET /api/v1/models HTTP/1.1");
    assert_eq!(sent.header("authorization"), Some("Bearer upstream-secret"));
    assert_eq!((sent.header("content-type"), sent.header("content-length")), (None, None));
    assert!(sent.body.is_empty());
    assert!(upstream.received.try_recv().is_err(), "it was asked twice");
    assert_eq!(ids(&get(&proxy, "/models?refresh=1", &[])), all);
    let line = support::wait_for("the log", || {
        let log = proxy.log();
        log.lines().find(|line| line.contains("GET /models ok status=200")).map(str::to_owned)
    });
    assert!(line.contains("provider=giga"), "{line}");
}

#[test]
fn a_head_asks_nobody_and_one_connection_takes_many() {
    let upstream = lister(GIGACHAT, &up());
    let proxy = configured(&provider(r#"models = ["own"]"#), &[&upstream]);
    let mut client = Client::connect(proxy.address);
    client.send(b"HEAD /models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(client.line().starts_with("HTTP/1.1 200 "));
    while client.line() != "\r\n" {}
    assert!(upstream.received.try_recv().is_err(), "it was asked");
    for _ in 0..3 {
        client.send_get("/v1/models");
        assert_eq!(ids(&client.reply()).len(), 4);
    }
    upstream.next();
    assert!(upstream.received.try_recv().is_err(), "it was asked twice");
}

#[test]
fn an_upstream_that_fails_takes_only_its_own_models_away() {
    let (down, works) = (Arc::new(AtomicBool::new(false)), up());
    let (giga, other) =
        (lister(GIGACHAT, &down), lister(&[("gpt-9", "chat"), ("own", "chat")], &works));
    let second = r#"
        [providers.other]
        url = "{1}/v1"
        list_models = true
        [[routes]]
        model = "gpt-*"
        provider = "other"
    "#;
    let config = format!("{second}{}", provider(r#"models = ["own"]"#));
    let proxy = configured(&config, &[&giga, &other]);
    assert_eq!(ids(&get(&proxy, "/models", &[])), ["own", "gpt-9"]);
    assert_eq!(other.next().line, "GET /v1/models HTTP/1.1");
    let log = support::wait_for("the log", || {
        Some(proxy.log()).filter(|log| log.contains("lists no models"))
    });
    assert!(
        log.contains("provider giga lists no models") && log.contains("closed for repairs"),
        "{log}"
    );

    // Where nothing else is known, its failure is the answer.
    let alone = configured(&provider(""), &[&giga]);
    for path in ["/models", "/models?refresh=1", "/models/x"] {
        let told = get(&alone, path, &[]);
        assert_eq!(told.status, 503, "{told:?}");
        assert_eq!(told.json()["error"]["code"], "server_overloaded");
    }

    // What is no list is a failure too, and so is nobody who listens.
    let page = Upstream::start(|_, wire| {
        reply(wire, "200 OK", "text/html", "<html>");
        Then::Keep
    });
    let told = get(&configured(&provider(""), &[&page]), "/models", &[]);
    assert_eq!(
        (told.status, &told.json()["error"]["code"]),
        (502, &json!("bad_upstream_response"))
    );
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = provider(r#"models = ["own"]"#).replace("{0}", &format!("http://{gone}"));
    assert_eq!(ids(&get(&configured(&nobody, &[]), "/models", &[])), ["own"]);
}

#[test]
fn a_key_sees_what_it_may_ask_for_and_names_lead_where_they_are_listed() {
    let upstream = lister(GIGACHAT, &up());
    let keys = r#"
        [clients.keys]
        all = { secret = "key-all", per_minute = 1, burst = 1 }
        few = { secret = "key-few", models = ["GigaChat-2"] }
    "#;
    // What another provider's route takes is not offered as this one's.
    let config = format!(
        r#"{keys}
        [providers.vendor]
        url = "{{0}}/v1"
        [[routes]]
        model = "own"
        provider = "vendor"
        {}"#,
        provider(
            r#"allow = ["GigaChat-2", "GigaChat-2-Max"]
        models = []"#
        )
    );
    let proxy = configured(&config, &[&upstream]);
    let seen =
        |key: &str, path: &str| get(&proxy, path, &[("authorization", &format!("Bearer {key}"))]);
    assert_eq!(get(&proxy, "/models", &[]).status, 401);
    for _ in 0..3 {
        // Only operations count against the rate.
        assert_eq!(ids(&seen("key-all", "/models")), ["GigaChat-2", "GigaChat-2-Max"]);
    }
    assert_eq!(ids(&seen("key-few", "/models")), ["GigaChat-2"]);
    assert_eq!(seen("key-few", "/models/GigaChat-2-Max").status, 404);
    assert_eq!(seen("key-all", "/models/GigaChat-2-Max").status, 200);
}

/// An upstream whose only model is named after who asks; `Bearer bad` is nobody.
fn mirror() -> Upstream {
    Upstream::start(move |request, wire| {
        let who = request.header("authorization").unwrap_or_default();
        let who = who.strip_prefix("Bearer ").unwrap_or(who);
        if who == "bad" {
            let body = r#"{"status":401,"message":"Token has expired"}"#;
            reply(wire, "401 X", "application/json", body);
        } else {
            let list = json!({"data": [{"id": format!("model-of-{who}")}]}).to_string();
            reply(wire, "200 OK", "application/json", &list);
        }
        Then::Keep
    })
}

#[test]
fn clients_with_credentials_of_their_own_see_their_own_lists() {
    let upstream = mirror();
    let config = r#"
        [providers.vendor]
        url = "{0}/v1"
        credential = { kind = "client" }
        list_models = "true"
        [[routes]]
        model = "*"
        provider = "vendor"
    "#;
    let proxy = configured(config, &[&upstream]);
    for who in ["ann", "bob", "ann"] {
        let told = get(&proxy, "/models", &[("authorization", &format!("Bearer {who}"))]);
        assert_eq!(ids(&told), [format!("model-of-{who}")]);
        upstream.next();
    }
}

#[test]
fn callers_with_accounts_of_their_own_never_see_the_servers_list() {
    let upstream = mirror();
    let callers = "callers = { enabled = true }\n        models = [\"own\"]";
    let proxy = configured(&provider(callers), &[&upstream]);
    let seen =
        |token: &str| get(&proxy, "/models", &[("authorization", &format!("Bearer {token}"))]);
    for (token, model) in [
        ("any", "model-of-upstream-secret"),
        ("giga-auth-ann", "model-of-ann"),
        ("giga-auth-bob", "model-of-bob"),
        ("any", "model-of-upstream-secret"),
        ("giga-auth-ann", "model-of-ann"),
    ] {
        assert_eq!(ids(&seen(token)), ["own", model], "{token}");
    }
    // Whose account is no good has to know.
    assert_eq!(seen("giga-auth-bad").status, 401);
    let asked: Vec<_> = upstream.received.try_iter().collect();
    let own =
        |it: &&support::Received| it.header("authorization") == Some("Bearer upstream-secret");
    assert_eq!((asked.len(), asked.iter().filter(own).count()), (5, 1), "{asked:?}");
}
