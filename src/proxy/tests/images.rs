//! Images that clients name by URL: fetched from strangers in TLS, then uploaded.

use super::*;
use crate::proxy::transport::Trust;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read as _, Write as _};

const PNG: &str = "\u{1}PNG";
const PUBLIC: &[&str] = &["93.184.216.34"];
const CONTENT: &[u8] = b"\x89PNG\r\n\x1a\npicture";

/// A host of images, and its connections' other ends.
struct Host {
    config: Arc<ServerConfig>,
    root: Vec<u8>,
}

impl Host {
    /// One whose certificate is for these names.
    fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self { config: Arc::new(config), root: made.cert.pem().into_bytes() }
    }

    fn accept(&self) -> ServerConnection {
        let mut connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        connection.set_buffer_limit(None);
        connection
    }
}

/// A stage with one provider of images as files, and strangers of these names.
fn stage(host: &Host, names: &[(&'static str, &'static [&'static str])]) -> Stage {
    let mut tls = TlsTable::new(&[]).unwrap();
    tls.set_public(&Trust { roots: host.root.clone(), ..Trust::default() }).unwrap();
    let mut stage = Stage::with_tls("gigachat", tls, |config| {
        config.timeouts.drain = Duration::from_secs(3);
        config.providers[0].quirks.image_urls = true;
        config.providers[0].headers.push(("x-secret".to_owned(), "shown".to_owned()));
    });
    stage.worker.net_mut().strangers = names.to_vec();
    stage
}

/// A request that shows the image of this URL.
fn request(url: &str) -> String {
    let body = format!(
        r#"{{"model":"mine","stream":true,"input":[{{"role":"user","content":[
            {{"type":"input_image","image_url":"{url}"}}]}}]}}"#
    );
    let head = "openai-organization: acme\r\nauthorization: Bearer client\r\n";
    post("/v1/responses", &body).replacen("content-length", &format!("{head}content-length"), 1)
}

/// Carries bytes between a socket and its other end until both are silent; returns what the other
/// end read.
fn pump(stage: &mut Stage, socket: usize, tls: &mut ServerConnection) -> String {
    let mut text = Vec::new();
    loop {
        let sent = std::mem::take(&mut stage.worker.net_mut().sockets[socket - 1].outbox);
        let mut rest = &sent[..];
        while !rest.is_empty() {
            tls.read_tls(&mut rest).unwrap();
            // A client that refuses says so in an alert.
            let _ = tls.process_new_packets();
        }
        let _ = tls.reader().read_to_end(&mut text);
        let mut back = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut back).unwrap();
        }
        if sent.is_empty() && back.is_empty() {
            return String::from_utf8(text).unwrap();
        }
        stage.worker.net_mut().sockets[socket - 1].inbox.extend(back);
        stage.turn(&[Stage::ready(u32::try_from(socket).unwrap())]);
    }
}

/// The proxy asks the newest socket's host, which answers; returns what it was asked.
fn serve(stage: &mut Stage, host: &Host, reply: &[u8]) -> String {
    let socket = stage.sockets();
    let mut tls = host.accept();
    stage.give(socket, "");
    let asked = pump(stage, socket, &mut tls);
    tls.writer().write_all(reply).unwrap();
    pump(stage, socket, &mut tls);
    assert!(stage.is_closed(socket), "a stranger's connection is used once");
    asked
}

fn reply(status: &str, fields: &str, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {length}\r\n\r\n");
    [head.as_bytes(), content].concat()
}

/// The provider takes the upload and answers; returns both requests.
fn answer(stage: &mut Stage) -> (String, String) {
    let provider = stage.sockets();
    stage.give(provider, "");
    let bytes = std::mem::take(&mut stage.worker.net_mut().sockets[provider - 1].outbox);
    let upload = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "\u{1}");
    let taken = reply("200 OK", "content-type: application/json\r\n", br#"{"id":"f-1"}"#);
    stage.give(provider, std::str::from_utf8(&taken).unwrap());
    (upload, finish(stage, provider))
}

/// The provider answers a request that it has.
fn finish(stage: &mut Stage, provider: usize) -> String {
    let asked = stage.take(provider);
    let text = r#"{"choices":[{"delta":{"content":"seen"},"index":0,"finish_reason":"stop"}]}"#;
    let events = format!("{}0\r\n\r\n", sse(&format!("data: {text}\n\ndata: [DONE]\n\n")));
    stage.give(provider, &events);
    asked
}

#[test]
fn an_image_is_fetched_through_a_redirect_and_uploaded() {
    let host = Host::new(&["images.example", "cdn.example"]);
    // Of several addresses the public ones are tried, and no other.
    let names: &[(_, &[&str])] =
        &[("images.example", &["10.0.0.1", "93.184.216.34"]), ("cdn.example", &["2606:2800::1"])];
    let mut stage = stage(&host, names);
    let client = stage.client();
    stage.give(client, &request("https://images.example/a.png?sig=1"));
    let moved = reply("302 Found", "location: https://cdn.example/b.png\r\n", b"");
    let asked = serve(&mut stage, &host, &moved);
    assert!(asked.starts_with("GET /a.png?sig=1 HTTP/1.1\r\nhost: images.example\r\n"), "{asked}");
    let fields: Vec<&str> = asked.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(fields[1..], ["host", "accept", "user-agent", ""], "{asked}");
    let content = reply("200 OK", "content-type: image/png\r\n", CONTENT);
    let asked = serve(&mut stage, &host, &content);
    assert!(asked.starts_with("GET /b.png HTTP/1.1\r\nhost: cdn.example\r\n"), "{asked}");
    let (upload, chat) = answer(&mut stage);
    assert!(upload.starts_with("POST /v1/files HTTP/1.1\r\nhost: up.example\r\n"), "{upload}");
    assert!(upload.contains("authorization: Bearer sk-secret\r\n"), "{upload}");
    assert!(upload.contains(".png\"\r\n") && upload.contains(PNG), "{upload}");
    assert!(chat.contains(r#""attachments":["f-1"]"#), "{chat}");
    assert!(stage.take(client).contains("event: response.completed\n"));
    let to: Vec<String> = stage.worker.net_mut().connects.iter().map(ToString::to_string).collect();
    assert_eq!(to, ["93.184.216.34:443", "[2606:2800::1]:443", ADDRESS]);
    let counts = stage.worker.counts();
    assert_eq!((counts.upstreams, counts.pooled, counts.buffers), (1, 1, 0));

    // The same image again is known, for a while.
    let sockets = stage.sockets();
    stage.give(client, &request("https://images.example/a.png?sig=1"));
    let chat = finish(&mut stage, sockets);
    assert!(chat.starts_with("POST /v1/chat/completions ") && chat.contains("f-1"), "{chat}");
    stage.pass(Duration::from_secs(301));
    let client = stage.client();
    let sockets = stage.sockets();
    stage.give(client, &request("https://images.example/a.png?sig=1"));
    assert_eq!(stage.sockets(), sockets + 1);
    // What is there now was uploaded already.
    serve(&mut stage, &host, &content);
    let provider = stage.sockets();
    stage.give(provider, "");
    let chat = finish(&mut stage, provider);
    assert!(chat.starts_with("POST /v1/chat/completions ") && chat.contains("f-1"), "{chat}");

    // What is not there any more serves a while longer, because a session shows it in each turn.
    stage.pass(Duration::from_secs(301));
    let client = stage.client();
    stage.give(client, &request("https://images.example/a.png?sig=1"));
    serve(&mut stage, &host, &reply("403 Forbidden", "", b"expired"));
    let provider = stage.sockets();
    stage.give(provider, "");
    let chat = finish(&mut stage, provider);
    assert!(chat.starts_with("POST /v1/chat/completions ") && chat.contains("f-1"), "{chat}");
    stage.pass(Duration::from_secs(3301));
    let client = stage.client();
    stage.give(client, &request("https://images.example/a.png?sig=1"));
    serve(&mut stage, &host, &reply("403 Forbidden", "", b"expired"));
    assert!(stage.take(client).contains("answered with status 403"));
}

/// What a client is told, whose image is answered so.
fn told(stage: &mut Stage, client: usize, status: &str, words: &str) {
    let answer = stage.take(client);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{words}: {answer}");
    assert!(answer.contains(words) && !answer.contains("secret"), "{words}: {answer}");
}

#[test]
fn what_cannot_be_fetched_is_told_and_nothing_else() {
    let host = Host::new(&["images.example"]);
    let names: &[(_, &[&str])] = &[
        ("images.example", PUBLIC),
        ("other.example", PUBLIC),
        ("private.example", &["192.168.1.1", "::1"]),
    ];
    let mut stage = stage(&host, names);
    for (reply, status, words) in [
        (reply("404 Not Found", "", b"<html>secret"), "400", "answered with status 404"),
        (reply("503 Busy", "retry-after: 9\r\n", b""), "400", "answered with status 503"),
        (reply("200 OK", "content-type: text/html\r\n", b"<html>"), "415", "is text/html"),
        (reply("200 OK", "content-encoding: gzip\r\n", CONTENT), "400", "cannot be used"),
        (reply("200 OK", "", &vec![1; 15_000_001]), "413", "more than 15 MB"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec(), "400", "broke off"),
        (b"SSH-2.0\r\n\r\n".to_vec(), "400", "cannot be used"),
        (reply("302 X", "location: http://images.example/\r\n", b""), "400", "only https://"),
        (reply("302 X", "", b""), "400", "names no place"),
        (reply("302 X", "location: https://private.example/\r\n", b""), "400", "not a public one"),
        (reply("302 X", "location: https://10.0.0.1/\r\n", b""), "400", "no address"),
    ] {
        let client = stage.client();
        stage.give(client, &request("https://images.example/a.png?secret"));
        let (socket, mut tls) = (stage.sockets(), host.accept());
        stage.give(socket, "");
        pump(&mut stage, socket, &mut tls);
        tls.writer().write_all(&reply).unwrap();
        pump(&mut stage, socket, &mut tls);
        if !stage.is_closed(socket) {
            stage.end(socket);
        }
        assert!(stage.is_closed(socket));
        told(&mut stage, client, status, words);
    }
}

#[test]
fn nobody_is_asked_who_is_not_public_or_not_who_was_named() {
    let host = Host::new(&["images.example"]);
    let names: &[(_, &[&str])] =
        &[("private.example", &["192.168.1.1", "::ffff:10.0.0.1"]), ("other.example", PUBLIC)];
    let mut stage = stage(&host, names);
    for (url, words) in [
        ("https://private.example/a", "not a public one"),
        ("https://unknown.example/a", "no address"),
    ] {
        let client = stage.client();
        stage.give(client, &request(url));
        told(&mut stage, client, "400", words);
    }
    assert!(stage.worker.net_mut().connects.is_empty());
    // A certificate of another name.
    let client = stage.client();
    stage.give(client, &request("https://other.example/a"));
    let (socket, mut tls) = (stage.sockets(), host.accept());
    stage.give(socket, "");
    assert_eq!(pump(&mut stage, socket, &mut tls), "");
    told(&mut stage, client, "400", "cannot be reached");
    assert!(stage.is_closed(socket));
}

#[test]
fn redirects_are_followed_five_times() {
    let host = Host::new(&["images.example"]);
    let mut stage = stage(&host, &[("images.example", PUBLIC)]);
    let client = stage.client();
    stage.give(client, &request("https://images.example/0"));
    for number in 0..=5 {
        let location = format!("location: {}\r\n", number + 1);
        let asked = serve(&mut stage, &host, &reply("307 X", &location, b""));
        assert!(asked.starts_with(&format!("GET /{number} ")), "{asked}");
    }
    told(&mut stage, client, "400", "more than 5 times");
    assert_eq!(stage.worker.net_mut().connects.len(), 6);
}

#[test]
fn a_stranger_has_half_a_minute_to_begin_and_a_minute_to_end() {
    let host = Host::new(&["images.example"]);
    let mut stage = stage(&host, &[("images.example", PUBLIC)]);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    for (reply, seconds) in [("", 30), (head, 60)] {
        let client = stage.client();
        stage.give(client, &request("https://images.example/a"));
        let (socket, mut tls) = (stage.sockets(), host.accept());
        stage.give(socket, "");
        pump(&mut stage, socket, &mut tls);
        tls.writer().write_all(reply.as_bytes()).unwrap();
        for _ in 0..seconds {
            assert_eq!(stage.take(client), "");
            // Not silent, but too slow.
            if !reply.is_empty() {
                tls.writer().write_all(b"x").unwrap();
            }
            pump(&mut stage, socket, &mut tls);
            stage.pass(Duration::from_secs(1));
        }
        told(&mut stage, client, "400", "takes too long");
        assert!(stage.is_closed(socket));
    }
}

#[test]
fn a_client_that_leaves_and_a_drain_end_a_fetch() {
    let host = Host::new(&["images.example"]);
    let mut stage = stage(&host, &[("images.example", PUBLIC)]);
    let client = stage.client();
    stage.give(client, &request("https://images.example/a"));
    let socket = stage.sockets();
    stage.give(socket, "");
    stage.end(client);
    assert!(stage.is_closed(socket) && stage.is_closed(client));

    let client = stage.client();
    stage.give(client, &request("https://images.example/a"));
    let socket = stage.sockets();
    stage.give(socket, "");
    let now = stage.now;
    stage.worker.drain(now);
    stage.pass(Duration::from_secs(3));
    assert!(stage.take(client).starts_with("HTTP/1.1 503 ") && stage.is_closed(socket));
    assert_eq!(stage.worker.counts(), Counts::default());
}

#[test]
fn an_older_image_that_is_gone_is_left_out_with_a_note() {
    let host = Host::new(&["images.example"]);
    let mut stage = stage(&host, &[("images.example", PUBLIC)]);
    let body = r#"{"model":"mine","stream":true,"input":[{"role":"user","content":[
        {"type":"input_text","text":"look"},
        {"type":"input_image","image_url":"https://images.example/a.png?sig=hidden"}]},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"I see"}]},
        {"role":"user","content":"go on"}]}"#;
    let html = reply("200 OK", "content-type: text/html\r\n", b"<html>");
    let moved = reply("302 X", "location: ftp://x.example/\r\n", b"");
    for (reply, why) in [
        (reply("403 Forbidden", "", b"expired"), "it is answered with status 403"),
        (html, "is text/html"),
        (moved, "cannot be followed"),
    ] {
        let client = stage.client();
        stage.give(client, &post("/v1/responses", body));
        serve(&mut stage, &host, &reply);
        let provider = stage.sockets();
        stage.give(provider, "");
        let chat = finish(&mut stage, provider);
        let note = r#"{"role":"user","content":"look\n[image left out: it "#;
        assert!(chat.contains(note) && chat.contains(why), "{chat}");
        assert!(!chat.contains("attachments") && !chat.contains("hidden"), "{chat}");
        let told = stage.take(client);
        assert!(told.contains("x-patchbay-dropped: input_image\r\n"), "{told}");
        stage.end(provider);
    }
}
