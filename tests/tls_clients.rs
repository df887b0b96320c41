//! Clients that speak TLS to the proxy: everything works as in the clear, what is no TLS is told or
//! dropped, and the certificate can be changed while answers run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests fail by panicking"
)]

mod support;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use support::{PATIENCE, Patchbay, Reply, Then, Upstream, chat_text, read_reply, reply_stream};

const PATH: &str = "/v1/responses";
const ASK: &str = r#"{"model":"m","input":"hello","stream":true}"#;

/// Certificate files in a folder of their own.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes another certificate with its key.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn start(&self, upstream: &Upstream, more: &[&str]) -> Patchbay {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let mut args = vec!["--tls-cert", &certificate, "--tls-key", &key];
        args.extend(more);
        Patchbay::for_upstream(&upstream.chat_url(), &args)
    }

    /// What a client that trusts the certificate of this moment, and no other, needs.
    fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let pem = fs::read(self.path("cert.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// One client connection in TLS.
struct Client {
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    fn connect(patchbay: &Patchbay, trust: Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(patchbay.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::from(patchbay.address.ip());
        let session = ClientConnection::new(trust, name).unwrap();
        Self { reader: BufReader::new(StreamOwned::new(session, stream)) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
        self.reader.get_mut().flush().unwrap();
    }

    fn post(&mut self, body: &str) {
        self.send(request(body).as_bytes());
    }

    fn reply(&mut self) -> Reply {
        read_reply(&mut self.reader).unwrap()
    }

    fn socket(&self) -> &TcpStream {
        &self.reader.get_ref().sock
    }
}

fn request(body: &str) -> String {
    let length = body.len();
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn upstream_that_says(text: &'static str) -> Upstream {
    Upstream::start(move |_, wire| {
        reply_stream(wire, &chat_text(text));
        Then::Keep
    })
}

fn assert_says(reply: &Reply, text: &str) {
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    assert!(reply.text().contains(text), "{reply:?}");
    assert!(reply.text().contains("event: response.completed"), "{reply:?}");
}

#[test]
fn answers_stream_over_one_connection_after_another_and_pipelined() {
    let (files, upstream) = (Files::new(), upstream_that_says("over https"));
    let patchbay = files.start(&upstream, &[]);
    assert!(patchbay.log().contains("patchbay listens on https://127.0.0.1:"));
    let mut client = Client::connect(&patchbay, files.trust());
    client.post(ASK);
    assert_says(&client.reply(), "over https");
    client.send((request(ASK) + &request(ASK)).as_bytes());
    assert_says(&client.reply(), "over https");
    assert_says(&client.reply(), "over https");
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert_eq!(client.reply().status, 403, "names of others are refused as in the clear");
}

#[test]
fn older_tls_and_alpn_are_agreed_on_or_refused() {
    let (files, upstream) = (Files::new(), upstream_that_says("agreed"));
    let patchbay = files.start(&upstream, &[]);
    let mut trust = ClientConfig::clone(&files.trust());
    trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = Client::connect(&patchbay, Arc::new(trust.clone()));
    client.post(ASK);
    assert_says(&client.reply(), "agreed");
    let session = &client.reader.get_ref().conn;
    assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));

    trust.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = Client::connect(&patchbay, Arc::new(trust));
    let error = client.reader.get_mut().flush().and_then(|()| client.reader.read(&mut [0]));
    assert!(error.is_err(), "{error:?}");
}

#[test]
fn a_large_request_arrives_whole() {
    let (files, upstream) = (Files::new(), upstream_that_says("got it"));
    let patchbay = files.start(&upstream, &[]);
    let mut client = Client::connect(&patchbay, files.trust());
    let text = "0123456789abcdef".repeat(5 << 16);
    client.post(&format!(r#"{{"model":"m","input":"{text}","stream":true}}"#));
    assert_says(&client.reply(), "got it");
    assert!(upstream.next().json().to_string().contains(&text));
}

#[test]
fn a_slow_reader_pauses_the_upstream_and_gets_everything() {
    const PIECES: usize = 3000;
    let piece = "x".repeat(4000);
    let (sent, progress) = mpsc::channel();
    let sent = Arc::new(Mutex::new(sent));
    let upstream = Upstream::start(move |_, wire| {
        let deltas = vec![serde_json::json!({"content": piece}); PIECES];
        reply_stream(wire, &support::chat_stream(&deltas, "stop"));
        let _ = sent.lock().unwrap().send(());
        Then::Keep
    });
    let files = Files::new();
    let patchbay = files.start(&upstream, &[]);
    let mut client = Client::connect(&patchbay, files.trust());
    client.post(ASK);
    let mut line = String::new();
    client.reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    // 12 MB fit into no buffers between here and there: unless it is paused, it is done by now.
    let early = progress.recv_timeout(std::time::Duration::from_millis(500));
    assert!(early.is_err(), "the upstream was not paused");
    let mut chained = BufReader::new(line.as_bytes().chain(&mut client.reader));
    let reply = read_reply(&mut chained).unwrap();
    assert_eq!((reply.status, reply.complete), (200, true));
    let bytes = reply.body.iter().filter(|byte| **byte == b'x').count();
    assert!(bytes >= PIECES * 4000, "{bytes}");
    progress.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_client_that_vanishes_takes_its_upstream_with_it() {
    for goodbye in [false, true] {
        let (gone, seen) = mpsc::channel();
        let gone = Arc::new(Mutex::new(gone));
        let upstream = Upstream::start(move |_, wire| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            let first = chat_text("first").split_inclusive("\n\n").next().unwrap().to_owned();
            wire.write_all((head.to_owned() + &first).as_bytes()).unwrap();
            let end = wire.read(&mut [0]);
            let _ = gone.lock().unwrap().send(end.unwrap_or(0));
            Then::Close
        });
        let files = Files::new();
        let patchbay = files.start(&upstream, &[]);
        let mut client = Client::connect(&patchbay, files.trust());
        client.post(ASK);
        let mut line = String::new();
        while !line.contains("first") {
            line.clear();
            assert!(client.reader.read_line(&mut line).unwrap() > 0);
        }
        if goodbye {
            // Its socket stays open: the word alone must do.
            client.reader.get_mut().conn.send_close_notify();
            client.reader.get_mut().flush().unwrap();
        } else {
            client.socket().shutdown(Shutdown::Both).unwrap();
        }
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), 0, "goodbye: {goodbye}");
    }
}

#[test]
fn plain_http_is_told_to_use_https() {
    let (files, upstream) = (Files::new(), upstream_that_says("never"));
    let patchbay = files.start(&upstream, &[]);
    let mut client = patchbay.connect();
    client.send_post(PATH, &[], ASK);
    let reply = client.reply();
    assert_eq!((reply.status, reply.complete), (400, true));
    assert!(reply.text().contains("use https://"), "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(upstream.received.try_recv().is_err());
}

#[test]
fn what_is_no_handshake_ends_and_what_never_ends_is_cut() {
    let (files, upstream) = (Files::new(), upstream_that_says("still here"));
    let config = files.path("config.toml");
    let (certificate, key) = (files.path("cert.pem"), files.path("key.pem"));
    let text = format!(
        "[server]\ntls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n\
         [timeouts]\nclient_head_ms = 1000\n\
         [providers.one]\nurl = \"http://{}/v1\"\ndialect = \"chat\"\n",
        upstream.address
    );
    fs::write(&config, text).unwrap();
    let patchbay = Patchbay::start(&["--config", &config]);
    // Garbage; the header of a record and no more; a record of a handshake that makes no sense.
    for bytes in [&b"\0\x01\x02garbage"[..], b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x00\x02zz"]
    {
        let mut stream = TcpStream::connect(patchbay.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{bytes:?}");
        }
        // An alert at the most (RFC 8446, section 6), never HTTP.
        assert!(rest.is_empty() || rest[0] == 21, "{bytes:?}: {rest:?}");
    }
    let mut client = Client::connect(&patchbay, files.trust());
    client.post(ASK);
    assert_says(&client.reply(), "still here");
}

#[test]
fn sighup_changes_the_certificate_of_new_connections_only() {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let upstream = Upstream::start(move |_, wire| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let stream = chat_text("first");
        let (first, rest) = stream.split_at(stream.find("\n\n").unwrap() + 2);
        wire.write_all((head.to_owned() + first).as_bytes()).unwrap();
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.write_all(rest.as_bytes()).unwrap();
        Then::Close
    });
    let files = Files::new();
    let patchbay = files.start(&upstream, &[]);
    let old = files.trust();
    let mut running = Client::connect(&patchbay, Arc::clone(&old));
    running.post(ASK);
    let mut line = String::new();
    running.reader.read_line(&mut line).unwrap();
    let hang_up = |word: &str, times: usize| {
        let id = patchbay.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
        support::wait_for(word, || (patchbay.log().matches(word).count() == times).then_some(()));
    };
    let accepts = |trust: Arc<ClientConfig>| {
        let mut client = Client::connect(&patchbay, trust);
        let sent =
            client.reader.get_mut().write_all(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        sent.is_ok() && client.reply().status == 200
    };
    // What cannot be used changes nothing.
    fs::write(files.path("key.pem"), "nothing").unwrap();
    hang_up("the certificate stays as it was: the key file holds no PEM private key", 1);
    assert!(accepts(Arc::clone(&old)));
    files.renew();
    hang_up("the certificate was read again", 1);
    assert!(!accepts(old), "the old certificate is still shown");
    assert!(accepts(files.trust()));

    go_on.send(()).unwrap();
    let mut chained = BufReader::new(line.as_bytes().chain(&mut running.reader));
    assert_says(&read_reply(&mut chained).unwrap(), "first");
}

#[test]
fn files_that_do_not_fit_end_the_start_with_words() {
    let (one, other) = (Files::new(), Files::new());
    let nothing = one.path("nothing.pem");
    fs::write(&nothing, "no PEM in here\n").unwrap();
    let (certificate, key) = (one.path("cert.pem"), one.path("key.pem"));
    let rows = [
        (&nothing, &key, "the certificate file holds no PEM certificate"),
        (&certificate, &nothing, "the key file holds no PEM private key"),
        (
            &certificate,
            &other.path("key.pem"),
            "the private key does not belong to the certificate",
        ),
        (&one.path("gone.pem"), &key, "cannot read the certificate"),
    ];
    for (certificate, key, expected) in rows {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--port", "0", "--upstream-url", "http://127.0.0.1:9/v1"]);
        let output = command.args(["--tls-cert", certificate, "--tls-key", key]).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && words.contains(expected), "{expected}: {words}");
    }
}

#[test]
fn idle_connections_hold_little_each() {
    const CROWD: usize = 300;
    let (files, upstream) = (Files::new(), upstream_that_says("first"));
    let patchbay = files.start(&upstream, &[]);
    let resident = || {
        let path = format!("/proc/{}/status", patchbay.child.id());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let trust = files.trust();
    let open = || {
        let mut client = Client::connect(&patchbay, Arc::clone(&trust));
        client.post(ASK);
        assert_says(&client.reply(), "first");
        client
    };
    // What is there once, such as the kept sessions, is not counted.
    let _first: Vec<Client> = (0..CROWD).map(|_| open()).collect();
    let before = resident();
    let _crowd: Vec<Client> = (0..CROWD).map(|_| open()).collect();
    let each = resident().saturating_sub(before) / CROWD;
    println!("{CROWD} idle TLS connections: {each} bytes each");
    assert!(each < 32 << 10, "{each} bytes each");
}
