//! `patchbay mock` as a process: how it starts and ends, TLS, and what slow readers cost it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use patchbay::mock::script::Script;
use patchbay::mock::{GigaChat, Options, Server};
use patchbay::proxy::transport::TlsTable;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use support::{Client, PATIENCE, read_reply, wait_for};

const PATH: &str = "/v1/chat/completions";

/// A running `patchbay mock`; killed when dropped.
struct Mock {
    child: Child,
    address: SocketAddr,
}

impl Mock {
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.arg("mock").args(args).envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.strip_prefix("patchbay mock listens on http://").expect("the first line");
        let address = url.trim_end().parse().unwrap();
        Self { child, address }
    }

    fn counter(&self, name: &str) -> u64 {
        let mut client = Client::connect(self.address);
        client.send_get("/counters");
        client.reply().json()[name].as_u64().unwrap()
    }

    /// Memory of its own, in bytes: without the pages of the program's file.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body(script: &str) -> String {
    format!("{{\"model\":\"mock:{script}\",\"stream\":true,\"messages\":[]}}")
}

/// The text deltas of a Chat stream.
fn deltas(events: &[String]) -> Vec<String> {
    let deltas = events.iter().filter_map(|event| {
        let event: serde_json::Value = serde_json::from_str(event).ok()?;
        Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
    });
    deltas.filter(|delta| !delta.is_empty()).collect()
}

#[test]
fn it_says_where_it_listens_and_ends_in_order_by_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let info = folder.path().join("info.json");
    for signal in ["INT", "TERM"] {
        let path = info.to_str().unwrap();
        let mut mock = Mock::start(&["--server-info", path, "--deltas", "3"], &[]);
        let told: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&info).unwrap()).unwrap();
        assert_eq!(told["port"], mock.address.port());
        let mut client = Client::connect(mock.address);
        client.send_post(PATH, &[], r#"{"model":"gpt-5","stream":true}"#);
        assert_eq!(deltas(&client.reply().events()).len(), 3);
        // An answer that would take an hour does not keep it.
        client.send_post(PATH, &[], &body("first=3600s"));
        wait_for("the answer to begin", || (mock.counter("answers") == 1).then_some(()));
        let id = mock.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        assert_eq!(mock.child.wait().unwrap().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn the_environment_names_what_flags_leave_open() {
    let env = [("PATCHBAY_MOCK_DELTAS", "5"), ("PATCHBAY_MOCK_SCRIPT", "text=cjk,bytes=9")];
    let mock = Mock::start(&["--bytes", "12", "--port", "0"], &env);
    let mut client = Client::connect(mock.address);
    client.send_post(PATH, &[], r#"{"model":"x","stream":true}"#);
    let script: Script = "deltas=5,text=cjk,bytes=12".parse().unwrap();
    assert_eq!(deltas(&client.reply().events()).concat(), script.whole_text());
}

#[test]
fn wrong_flags_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, code, part) in [
        (&["--pace", "5"][..], 2, "pace=5: takes a number with us, ms or s"),
        (&["--script", "pace"], 2, "\"pace\" in a script is no key=value"),
        (&["--dialect", "gemini"], 2, "there are chat, responses, codex, gigachat"),
        (&["--tls-cert", "x.pem"], 2, "--tls-key"),
        (&["--tls-cert", "/no.pem", "--tls-key", "/no.pem"], 1, "cannot read the certificate"),
        (&["--tls-client-ca", "x.pem"], 2, "--tls-cert"),
        (&["--account", "anna"], 1, "--account takes ID:SECRET"),
        (&["--scenes", "/no.json"], 1, "cannot read the scenes /no.json"),
        (&["--scenes", "Cargo.toml"], 1, "the scenes Cargo.toml are wrong"),
        (&["--workers", "0"], 1, "it must be from 1 to"),
        (&["--port", &port], 1, "cannot listen on 127.0.0.1:"),
        (&["--port", &port, "--workers", "2"], 1, "cannot listen on 127.0.0.1:"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        let output = command.arg("mock").args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_help_names_every_key_and_path() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    let output = command.args(["mock", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for key in Script::KEYS {
        let flag = format!("--{}", key.replace('_', "-"));
        let variable = format!("PATCHBAY_MOCK_{}", key.to_uppercase());
        assert!(help.contains(&flag) && help.contains(&variable), "{key}");
    }
    for wire in patchbay::mock::Wire::ALL {
        assert!(help.contains(wire.path()) && help.contains(wire.name()));
    }
}

#[test]
fn the_help_says_how_large_frames_are() {
    let said = "243 bytes and its text in chat (256 with include_usage), 208 to 212 in\n  \
                responses and codex, 125 in gigachat; a write adds 12 bytes";
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    let help =
        String::from_utf8(command.args(["mock", "--help"]).output().unwrap().stdout).unwrap();
    assert!(help.contains(said), "{help}");
    let gigachat = GigaChat { access_tokens: vec!["x".to_owned()], ..GigaChat::default() };
    let server = Server::start(&Options { gigachat, ..Options::default() }).unwrap();
    let model = r#""model":"mock:deltas=12000,bytes=10","stream":true"#;
    for (path, more, sizes) in [
        (PATH, "", 253..=253),
        (PATH, r#","stream_options":{"include_usage":true}"#, 266..=266),
        ("/v1/responses", "", 218..=222),
        ("/backend-api/codex/responses", r#","store":false,"instructions":"x""#, 218..=222),
        ("/api/v1/chat/completions", r#","messages":[{"role":"user","content":"hi"}]"#, 135..=135),
    ] {
        let mut client = Client::connect(server.address());
        let fields = [("authorization", "Bearer x")];
        client.send_post(path, &fields, &format!("{{{model}{more}}}"));
        let text = client.reply().text();
        let frames = text.split_inclusive("\n\n");
        let deltas: Vec<usize> = frames
            .filter(|frame| {
                let chat = frame.contains(r#""delta":{"content":""#) && !frame.contains("role");
                let last = frame.contains("finish_reason\":\"") || frame.contains("content\":\"\"");
                chat && !last || frame.starts_with("event: response.output_text.delta")
            })
            .map(str::len)
            .collect();
        assert!(deltas.len() >= 11_999);
        let (least, most) = (*deltas.iter().min().unwrap(), *deltas.iter().max().unwrap());
        assert_eq!(least..=most, sizes, "{path}");
    }
}

#[test]
fn readers_that_do_not_read_cost_little_and_miss_nothing() {
    let script: Script = "deltas=40000,bytes=200,frames=2,text=code".parse().unwrap();
    let mock = Mock::start(&[], &[]);
    let ask = || {
        let mut client = Client::connect(mock.address);
        client.send_post(PATH, &[("connection", "close")], &body(&script.to_string()));
        client
    };
    let settle = |answers: u64| {
        let mut last = (0, 0);
        wait_for("the answers to stand still", || {
            let now = (mock.counter("answers"), mock.counter("deltas"));
            let still = now == last && now.0 == answers;
            last = now;
            still.then_some(())
        });
    };
    let first = ask();
    settle(1);
    let before = mock.memory();
    let stuck: Vec<Client> = (0..49).map(|_| ask()).collect();
    settle(50);
    let each = mock.memory().saturating_sub(before) / 49;
    assert!(each < 16 << 10, "each takes {each} bytes more");
    assert!(mock.counter("deltas") < 50 * 40_000, "nobody was held up");
    drop(stuck);

    // Held up for long, it goes on as it would have: two frames a write, nothing lost.
    let mut bytes = Vec::new();
    let mut reader = first.stream;
    reader.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let mut rest = text.split_once("\r\n\r\n").unwrap().1;
    let (mut whole, mut sizes) = (String::new(), Vec::new());
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &behind[..size];
        sizes.push(behind[..size].matches("\n\n").count());
        rest = &behind[size + 2..];
    }
    assert_eq!(sizes.pop(), Some(0), "the last chunk");
    assert!(sizes[..sizes.len() - 1].iter().all(|frames| *frames == 2));
    let events: Vec<String> =
        whole.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect();
    let texts = deltas(&events);
    assert_eq!((texts.len(), texts.concat()), (40_000, script.whole_text()));
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[test]
fn tls_carries_the_same_answers() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let table = TlsTable::new(&[]).unwrap();
    table.set_server(certificate.as_bytes(), key.as_bytes()).unwrap();
    let options = Options { tls: Some(Arc::new(table)), ..Options::default() };
    let server = Server::start(&options).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connect = || {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::from(server.address().ip());
        let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
        BufReader::new(StreamOwned::new(session, stream))
    };
    let request = |script: &str| {
        let body = body(script);
        let length = body.len();
        format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let mut client = connect();
    for text in [
        "deltas=20,pace=1ms",
        "deltas=3000,bytes=300,frames=0",
        "deltas=3000,bytes=300,frames=7",
        "deltas=9,slice=3",
    ] {
        let script: Script = text.parse().unwrap();
        // Two at once, to see that they are answered in their order.
        let both = request(text) + &request("deltas=1");
        client.get_mut().write_all(both.as_bytes()).unwrap();
        let reply = read_reply(&mut client).unwrap();
        assert!(reply.complete, "{text}");
        assert_eq!(deltas(&reply.events()).concat(), script.whole_text());
        assert_eq!(deltas(&read_reply(&mut client).unwrap().events()).len(), 1);
    }
    client.get_mut().write_all(request("cut_after=3").as_bytes()).unwrap();
    let reply = read_reply(&mut client).unwrap();
    assert!(!reply.complete && deltas(&reply.events()).len() == 3, "{reply:?}");

    let mut plain = Client::connect(server.address());
    plain.send_get("/healthz");
    let reply = plain.reply();
    assert!(reply.status == 400 && reply.text().contains("https://"), "{reply:?}");
}

#[test]
fn clients_without_a_certificate_are_turned_away_where_one_is_asked_for() {
    let own = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (served, known, stranger) = (own("127.0.0.1"), own("known"), own("stranger"));
    let table = TlsTable::new(&[]).unwrap();
    let (certificate, key) = (served.cert.pem(), served.signing_key.serialize_pem());
    let clients = known.cert.pem();
    table.set_server_for(certificate.as_bytes(), key.as_bytes(), Some(clients.as_bytes())).unwrap();
    let options = Options { tls: Some(Arc::new(table)), ..Options::default() };
    let server = Server::start(&options).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(served.cert.der().clone()).unwrap();
    let health = |shown: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots.clone());
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = shown.signing_key.serialize_der().try_into().unwrap();
                config.with_client_auth_cert(vec![shown.cert.der().clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::from(server.address().ip());
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut client = BufReader::new(StreamOwned::new(session, stream));
        client.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")?;
        read_reply(&mut client).map(|reply| reply.status)
    };
    assert_eq!(health(Some(&known)).unwrap(), 200);
    assert!(health(None).is_err());
    assert!(health(Some(&stranger)).is_err());
}
