//! Who may call, how often and how much at once: over real sockets, from a configuration file.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use support::{Client, Patchbay, Reply, Then, Upstream, chat_text, reply_stream, wait_for};

/// Starts `serve` with this configuration for one upstream.
fn start(upstream: &Upstream, workers: &str, clients: &str) -> (Patchbay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patchbay.toml");
    let text = format!(
        "{clients}\n[providers.up]\ndialect = \"chat\"\nurl = \"{}\"\n\
         models = [\"small\", \"large\"]\n[[routes]]\nmodel = \"*\"\nprovider = \"up\"\n",
        upstream.chat_url()
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.args(["serve", "--workers", workers, "--config"]).arg(path);
    command.env("PATCHBAY_TEST_BOB", "bob-secret");
    (Patchbay::spawn(command), folder)
}

fn answering() -> Upstream {
    Upstream::start(|_, wire| {
        reply_stream(wire, &chat_text("hello"));
        Then::Keep
    })
}

fn body(path: &str, model: &str) -> String {
    let mut body = json!({"model": model, "stream": true});
    if path.ends_with("responses") {
        body["input"] = json!("hi");
    } else {
        body["messages"] = json!([{"role": "user", "content": "hi"}]);
    }
    body.to_string()
}

fn ask(patchbay: &Patchbay, path: &str, fields: &[(&str, &str)], model: &str) -> Reply {
    let mut client = patchbay.connect();
    client.send_post(path, fields, &body(path, model));
    client.reply()
}

fn error(reply: &Reply) -> Value {
    let error = reply.json()["error"].clone();
    assert!(error["message"].is_string() && error["type"].is_string(), "{reply:?}");
    error
}

const KEYS: &str = "[clients.keys]\n\
    alice = { secret = \"alice-secret\", per_minute = 1, burst = 2 }\n\
    bob = { env = \"PATCHBAY_TEST_BOB\", models = [\"small\"] }\n";
const PATHS: [&str; 2] = ["/v1/responses", "/v1/chat/completions"];

#[test]
fn a_missing_and_a_wrong_key_get_the_same_401_in_either_dialect() {
    let upstream = answering();
    let (patchbay, _folder) = start(&upstream, "1", KEYS);
    for path in PATHS {
        let mut answers = Vec::new();
        for fields in [
            &[][..],
            &[("authorization", "Bearer wrong")],
            &[("authorization", "Bearer alice-secre")],
            &[("authorization", "Basic alice-secret")],
            &[("x-api-key", "alice-secret2")],
            &[("x-api-key", "")],
        ] {
            let reply = ask(&patchbay, path, fields, "small");
            assert_eq!(reply.status, 401, "{fields:?}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            assert_eq!(error(&reply)["code"], "invalid_api_key");
            answers.push(reply.text());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    assert!(upstream.received.try_recv().is_err());
}

#[test]
fn each_key_has_its_own_rate_and_its_own_models() {
    let upstream = answering();
    let (patchbay, _folder) = start(&upstream, "1", KEYS);
    let (alice, bob) = (("authorization", "Bearer alice-secret"), ("x-api-key", "bob-secret"));
    for path in PATHS {
        assert_eq!(ask(&patchbay, path, &[alice], "large").status, 200);
        let sent = upstream.next();
        assert_eq!((sent.header("authorization"), sent.header("x-api-key")), (None, None));
    }
    for path in PATHS {
        let reply = ask(&patchbay, path, &[alice], "large");
        assert_eq!(reply.status, 429);
        let wait_s: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait_s), "{wait_s}");
        let error = error(&reply);
        assert_eq!(error["code"], "rate_limit_exceeded");
        assert!(error["message"].as_str().unwrap().contains("1 requests a minute"), "{error}");

        assert_eq!(ask(&patchbay, path, &[bob], "small").status, 200);
        let sent = upstream.next();
        assert_eq!((sent.header("authorization"), sent.header("x-api-key")), (None, None));
        let reply = ask(&patchbay, path, &[bob], "large");
        assert_eq!(reply.status, 403);
        let error = self::error(&reply);
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("model_not_allowed"), &json!("model"))
        );
        assert!(error["message"].as_str().unwrap().contains("only for small"), "{error}");
    }
    assert!(upstream.received.try_recv().is_err());
    let mut client = patchbay.connect();
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: bob-secret\r\n\r\n");
    let listed = client.reply().json()["data"].clone();
    let ids: Vec<&str> =
        listed.as_array().unwrap().iter().flat_map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, ["small"]);

    let log = wait_for("the log lines", || {
        let log = patchbay.log();
        (log.matches("key=alice").count() >= 4 && log.contains("key=bob")).then_some(log)
    });
    assert!(!log.contains("alice-secret") && !log.contains("bob-secret"), "{log}");
}

/// An upstream that begins to answer, and ends when it is told to.
fn holding() -> (Upstream, Sender<()>) {
    let (send, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let upstream = Upstream::start(move |_, wire| {
        let stream = chat_text("first");
        let (head, rest) = stream.split_at(stream.find("\n\n").unwrap() + 2);
        let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        wire.write_all((start.to_owned() + head).as_bytes()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        let _ = wire.write_all(rest.as_bytes());
        Then::Close
    });
    (upstream, send)
}

fn begin(patchbay: &Patchbay) -> Client {
    let mut client = patchbay.connect();
    let fields = [("authorization", "Bearer one-secret")];
    client.send_post("/v1/responses", &fields, &body("/v1/responses", "small"));
    client
}

#[test]
fn a_stream_that_is_held_open_counts_until_it_ends() {
    let (upstream, go_on) = holding();
    let keys = "[clients.keys]\none = { secret = \"one-secret\", exchanges_max = 2 }\n";
    let (patchbay, _folder) = start(&upstream, "2", keys);
    let mut held: Vec<Client> = (0..2).map(|_| begin(&patchbay)).collect();
    for client in &mut held {
        assert!(client.line().starts_with("HTTP/1.1 200 "));
    }
    // With two workers, whichever takes a connection: they count together.
    for _ in 0..8 {
        let reply = begin(&patchbay).reply();
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
        assert_eq!(error(&reply)["code"], "rate_limit_exceeded");
    }
    // Whose clients leave make room.
    go_on.send(()).unwrap();
    drop(held);
    go_on.send(()).unwrap();
    let mut next = wait_for("a free place", || {
        let mut client = begin(&patchbay);
        client.line().starts_with("HTTP/1.1 200 ").then_some(client)
    });
    go_on.send(()).unwrap();
    while next.line() != "0\r\n" {}
}

#[test]
fn two_workers_share_one_rate() {
    let upstream = answering();
    let keys = "[clients.keys]\none = { secret = \"one-secret\", per_minute = 1, burst = 10 }\n";
    let (patchbay, _folder) = start(&upstream, "2", keys);
    // Which worker gets a connection is the system's choice: among forty, both.
    let statuses: Vec<u16> = (0..40).map(|_| begin(&patchbay).reply().status).collect();
    assert!(statuses[..10].iter().all(|status| *status == 200), "{statuses:?}");
    // A test that takes a minute gets one request more through.
    assert!(statuses[10..].iter().filter(|status| **status == 429).count() >= 29, "{statuses:?}");
}

#[test]
fn without_keys_an_address_has_a_rate_and_health_is_open() {
    let upstream = answering();
    let (patchbay, _folder) =
        start(&upstream, "1", "[clients]\nper_minute_address = 1\nburst_address = 3\n");
    let fields = [("authorization", "Bearer whatever"), ("x-api-key", "whatever")];
    for _ in 0..3 {
        assert_eq!(ask(&patchbay, PATHS[0], &fields, "small").status, 200);
        let sent = upstream.next();
        assert_eq!((sent.header("authorization"), sent.header("x-api-key")), (None, None));
    }
    let reply = ask(&patchbay, PATHS[1], &[], "small");
    assert_eq!((reply.status, &error(&reply)["code"]), (429, &json!("rate_limit_exceeded")));
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() <= 60);
    let mut client = patchbay.connect();
    for path in ["/healthz", "/health", "/readyz", "/v1/models"] {
        client.send_get(path);
        assert_eq!(client.reply().status, 200, "{path}");
    }
}

#[test]
fn health_is_open_with_keys_too_and_nothing_else_is() {
    let upstream = answering();
    let (patchbay, _folder) = start(&upstream, "1", KEYS);
    let mut client = patchbay.connect();
    for (path, status) in [
        ("/healthz", 200),
        ("/health", 200),
        ("/readyz", 200),
        ("/v1/models", 401),
        ("/models/small", 401),
    ] {
        client.send_get(path);
        assert_eq!(client.reply().status, status, "{path}");
    }
}
