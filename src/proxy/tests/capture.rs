//! What is written down of exchanges, for every way in which they end.

use super::{CHAT_END, CHAT_START, REQUEST, Stage, chunk, post, sse};
use crate::config::{Capture, ClientKey, Config};
use crate::proxy::capture::Secrets;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const KEY: &str = "client-key-1";

fn capturing(upstream: &str, side_bytes_max: usize) -> Stage {
    Stage::new(upstream, |config| {
        config.capture = Some(Capture { folder: PathBuf::new(), side_bytes_max });
        config.client_keys = keys();
    })
}

fn keys() -> Vec<ClientKey> {
    vec![ClientKey {
        name: "one".to_owned(),
        secret: KEY.to_owned(),
        rate: None,
        exchanges_max: None,
        models: Vec::new(),
    }]
}

fn request(path: &str, body: &str) -> String {
    post(path, body).replace("host:", &format!("authorization: Bearer {KEY}\r\nhost:"))
}

/// The files of the only record. No secret is in any of them.
fn files(stage: &mut Stage) -> BTreeMap<String, String> {
    let mut secrets = None;
    Stage::new("chat", |config: &mut Config| {
        config.client_keys = keys();
        secrets = Some(Secrets::new(config));
    });
    let secrets = secrets.unwrap();
    let records = std::mem::take(&mut stage.worker.net_mut().records);
    assert_eq!(records.len(), 1);
    let name = records[0].folder(&secrets);
    assert!(name.starts_with("1800000000-"), "{name}");
    let files = records[0].files(&secrets).into_iter();
    let files: BTreeMap<_, _> =
        files.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect();
    for (name, text) in &files {
        assert!(!text.contains("sk-secret") && !text.contains(KEY), "{name}: {text}");
    }
    files
}

fn meta(files: &BTreeMap<String, String>) -> serde_json::Value {
    serde_json::from_str(&files["meta.json"]).unwrap()
}

#[test]
fn a_stream_has_four_sides() {
    let mut stage = capturing("chat", 1 << 20);
    let client = stage.client();
    let asked = REQUEST.replace("hi", "hi sk-secret and client-\\u006bey-1");
    let upstream = stage.ask(client, &request("/v1/responses", &asked));
    stage.give(upstream, &sse(CHAT_START));
    stage.give(upstream, &format!("{}0\r\n\r\n", chunk(CHAT_END)));
    let reply = stage.take(client);
    let files = files(&mut stage);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "client-reply.http",
            "client-request.http",
            "client-request.json",
            "meta.json",
            "replay.sh",
            "upstream-reply.http",
            "upstream-request.http",
            "upstream-request.json"
        ]
    );
    let body = REQUEST.replace("hi", "hi [redacted] and [redacted]");
    assert_eq!(files["client-request.json"], body);
    let length = body.len();
    assert_eq!(
        files["client-request.http"],
        format!(
            "POST /v1/responses HTTP/1.1\r\nauthorization: Bearer [redacted]\r\n\
             host: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    );
    let sent = &files["upstream-request.http"];
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\nhost: up.example\r\n"));
    assert!(sent.contains("\r\nauthorization: Bearer [redacted]\r\n"), "{sent}");
    assert!(sent.contains("\r\nx-team: blue\r\n"), "{sent}");
    let sent: serde_json::Value = serde_json::from_str(&files["upstream-request.json"]).unwrap();
    assert_eq!(sent["model"], "theirs");
    let body = format!("{CHAT_START}{CHAT_END}");
    let answered = &files["upstream-reply.http"];
    assert!(answered.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"));
    assert!(answered.ends_with(&format!("\r\n\r\n{body}")), "{answered}");
    let told = &files["client-reply.http"];
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    let (_, events) = told.split_once("\r\n\r\n").unwrap();
    assert!(events.starts_with("event: response.created\ndata: {"), "{events}");
    assert!(
        events.ends_with("data: [DONE]\n\n") && events.contains("\"delta\":\"lo\""),
        "{events}"
    );
    let delivered: usize = events.matches("event: ").count();
    assert_eq!(delivered, reply.matches("event: ").count());
    let meta = meta(&files);
    assert_eq!((&meta["status"], &meta["upstream_status"]), (&200.into(), &200.into()));
    assert_eq!((&meta["result"], &meta["model"]), (&"ok".into(), &"mine".into()));
    assert_eq!((&meta["provider"], &meta["attempts"]), (&"up".into(), &1.into()));
    assert!(meta.to_string().matches("\"truncated\":false").count() == 4, "{meta}");
}

#[test]
fn a_document_and_a_relay_have_four_sides_too() {
    let whole = r#"{"id":"c","object":"chat.completion","created":1,"model":"theirs","choices":[
        {"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}"#;
    let chat = r#"{"model":"mine","messages":[{"role":"user","content":"hi"}]}"#;
    let unary = REQUEST.replace("true", "false");
    for (path, body) in [("/v1/responses", unary.as_str()), ("/v1/chat/completions", chat)] {
        let mut stage = capturing("chat", 1 << 20);
        let client = stage.client();
        let upstream = stage.ask(client, &request(path, body));
        let length = whole.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_up\r\n";
        stage.give(upstream, &format!("{head}content-length: {length}\r\n\r\n{whole}"));
        let reply = stage.take(client);
        let files = files(&mut stage);
        assert_eq!(files["client-request.json"], body);
        let answered = format!("{head}content-length: {length}\r\n\r\n{whole}");
        assert_eq!(files["upstream-reply.http"], answered);
        assert_eq!(sorted(&files["client-reply.http"]), sorted(&reply));
    }
}

/// The lines of a message with a one-line body: a side ends its head with the length.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn errors_have_the_sides_that_there_were() {
    let error = r#"{"error":{"message":"no sk-secret","type":"t","code":"c"}}"#;
    let length = error.len();
    let mut stage = capturing("chat", 1 << 20);
    let client = stage.client();
    let upstream = stage.ask(client, &request("/v1/responses", REQUEST));
    stage.give(upstream, &format!("HTTP/1.1 429 X\r\ncontent-length: {length}\r\n\r\n{error}"));
    stage.take(client);
    let refused = files(&mut stage);
    assert!(refused["upstream-reply.http"].starts_with("HTTP/1.1 429 X\r\n"));
    assert!(refused["upstream-reply.http"].contains("no [redacted]"));
    assert!(refused["client-reply.http"].starts_with("HTTP/1.1 429 "));
    assert!(refused["client-reply.http"].contains("\"code\":\"c\""));
    assert_eq!(meta(&refused)["upstream_status"], 429);

    // Without an upstream.
    stage.give(client, &request("/v1/responses", "{"));
    stage.take(client);
    let bad = files(&mut stage);
    assert_eq!(bad["client-request.json"], "{");
    assert!(bad["client-reply.http"].starts_with("HTTP/1.1 400 "));
    assert!(!bad.contains_key("upstream-request.http"));
    assert!(!bad["replay.sh"].contains("upstream)"));

    // The answer breaks off, and so does what the client is told.
    let upstream = stage.ask(client, &request("/v1/responses", REQUEST));
    let upstream = upstream.min(stage.sockets());
    stage.give(upstream, &sse(CHAT_START));
    stage.end(upstream);
    stage.take(client);
    let broken = files(&mut stage);
    assert!(broken["upstream-reply.http"].ends_with(CHAT_START));
    assert!(broken["client-reply.http"].contains("event: response.failed\n"));
    assert_eq!(meta(&broken)["result"], "upstream_disconnected");
}

#[test]
fn a_repeated_request_shows_its_last_form() {
    let error = r#"{"error":{"message":"Unsupported parameter: 'temperature'","code":"unsupported_parameter","param":"temperature"}}"#;
    let length = error.len();
    let mut stage = capturing("chat", 1 << 20);
    let client = stage.client();
    let warm = REQUEST.replace("{", "{\"temperature\":0.5,");
    let upstream = stage.ask(client, &request("/v1/responses", &warm));
    stage.give(upstream, &format!("HTTP/1.1 400 X\r\ncontent-length: {length}\r\n\r\n{error}"));
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    stage.take(client);
    let files = files(&mut stage);
    assert!(files["client-request.json"].contains("temperature"));
    assert!(!files["upstream-request.json"].contains("temperature"));
    assert!(files["upstream-reply.http"].starts_with("HTTP/1.1 200 "));
    assert_eq!(meta(&files)["attempts"], 2);
}

#[test]
fn a_client_that_leaves_leaves_what_was_said() {
    for (answered, sent) in [(false, REQUEST.len()), (true, REQUEST.len()), (false, 9)] {
        let mut stage = capturing("chat", 1 << 20);
        let client = stage.client();
        let request = request("/v1/responses", REQUEST);
        let request = &request[..request.len() - REQUEST.len() + sent];
        let upstream = stage.ask(client, request);
        if answered {
            stage.give(upstream, &sse(CHAT_START));
        }
        stage.end(client);
        let files = files(&mut stage);
        assert_eq!(files["client-request.json"], REQUEST[..sent]);
        assert_eq!(files.contains_key("upstream-request.http"), sent == REQUEST.len());
        assert_eq!(files.contains_key("upstream-reply.http"), answered);
        assert_eq!(files.contains_key("client-reply.http"), answered);
        assert_eq!(meta(&files)["result"], "client_gone");
    }
    // A drain that takes too long ends exchanges as well.
    let mut stage = capturing("chat", 1 << 20);
    let client = stage.client();
    let upstream = stage.ask(client, &request("/v1/responses", REQUEST));
    stage.give(upstream, &sse(CHAT_START));
    stage.worker.drain(stage.now);
    stage.pass(Duration::from_secs(30));
    assert!(files(&mut stage)["client-reply.http"].contains("response.failed"));
}

#[test]
fn every_body_is_bounded() {
    let mut stage = capturing("chat", 100);
    let client = stage.client();
    let asked = REQUEST.replace("hi", &"x".repeat(500));
    let upstream = stage.ask(client, &request("/v1/responses", &asked));
    stage.give(upstream, &sse(CHAT_START));
    stage.give(upstream, &format!("{}0\r\n\r\n", chunk(CHAT_END)));
    stage.take(client);
    let files = files(&mut stage);
    let meta = meta(&files);
    for side in ["client-request", "upstream-request", "upstream-reply", "client-reply"] {
        let http = &files[&format!("{side}.http")];
        let (_, body) = http.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 100, "{side}");
        assert_eq!(meta["sides"][side]["truncated"], true, "{side}");
        assert!(meta["sides"][side]["body_bytes"].as_u64().unwrap() > 100, "{side}");
    }
    assert_eq!(meta["sides"]["client-request"]["body_bytes"], asked.len());
}

#[test]
fn nothing_is_written_down_unless_it_was_asked_for() {
    let mut stage = Stage::new("chat", |_| {});
    let client = stage.client();
    let upstream = stage.ask(client, &post("/v1/responses", REQUEST));
    stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
    stage.end(client);
    assert!(stage.worker.net_mut().records.is_empty());
}
