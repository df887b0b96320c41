//! The tokens of `codex login` end to end: the binary, a scripted upstream that knows which token is
//! good, and a scripted token endpoint.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{
    Patchbay, Received, Then, Upstream, Wire, chat_text, reply, reply_stream, responses_request,
    wait_for,
};

/// An access token that ends so many seconds from now; `name` tells it from others.
fn jwt(name: &str, left_s: i64) -> String {
    use base64::Engine as _;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"exp": now.checked_add_signed(left_s).unwrap(), "name": name});
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    format!("e30.{}.sig", engine.encode(claims.to_string()))
}

/// The file as the Codex CLI leaves it, with a member that nobody knows.
fn auth_file(access: &str, refresh: &str) -> Value {
    json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "unknown": {"kept": [1, 2]},
        "tokens": {"id_token": "e30.e30.sig", "access_token": access, "refresh_token": refresh,
            "account_id": "account-1", "more": true}})
}

/// A folder with `auth.json` and a configuration file that leads there.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new(auth: &Value, upstream: &Upstream, tokens: &Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[providers.plan]\nurl = '{}'\ncredential = {{ kind = 'codex-auth', path = 'auth.json', \
             token_url = 'http://{}/oauth/token', key_url = 'http://{}/key/v1' }}\n",
            upstream.chat_url(),
            tokens.address,
            upstream.address
        );
        fs::write(folder.path().join("patchbay.toml"), config).unwrap();
        let files = Self { folder };
        files.write(auth);
        files
    }

    fn auth(&self) -> PathBuf {
        self.folder.path().join("auth.json")
    }

    fn write(&self, auth: &Value) {
        fs::write(self.auth(), auth.to_string()).unwrap();
    }

    fn read(&self) -> Value {
        serde_json::from_slice(&fs::read(self.auth()).unwrap()).unwrap()
    }

    fn start(&self) -> Patchbay {
        let config = self.folder.path().join("patchbay.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--workers", "3", "--config"]).arg(config);
        Patchbay::spawn(command)
    }
}

/// An upstream that answers who shows `good`, and refuses everybody else.
fn guarded(good: &str) -> Upstream {
    let good = format!("Bearer {good}");
    Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        if request.header("authorization") == Some(good.as_str()) {
            reply_stream(wire, &chat_text("served"));
        } else {
            let shown = request.header("authorization").unwrap_or_default();
            let body = json!({"error": {"message": format!("bad token: {shown}")}});
            reply(wire, "401 Unauthorized", "application/json", &body.to_string());
        }
        Then::Keep
    })
}

/// A token endpoint that says the same to everybody, once its gate is open.
fn endpoint(status: &'static str, body: &Value, gate: &Gate) -> (Upstream, Arc<AtomicUsize>) {
    let (body, gate, count) = (body.to_string(), gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let upstream = Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        counted.fetch_add(1, Ordering::SeqCst);
        gate.pass();
        reply(wire, status, "application/json", &body);
        Then::Close
    });
    (upstream, count)
}

/// Holds threads back until it is opened.
#[derive(Clone)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn new(open: bool) -> Self {
        Self(Arc::new((Mutex::new(open), Condvar::new())))
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

fn brought(access: &str) -> Value {
    json!({"id_token": "e30.e30.new", "access_token": access, "refresh_token": "refresh-2"})
}

fn ask(patchbay: &Patchbay) -> support::Reply {
    patchbay.post("/v1/responses", &responses_request("hi", true))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn two_hundred_requests_at_expiry_refresh_once_and_the_file_stays_whole() {
    let (old, new) = (jwt("old", -5), jwt("new", 3600));
    let gate = Gate::new(false);
    let (upstream, (tokens, count)) = (guarded(&new), endpoint("200 OK", &brought(&new), &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    fs::set_permissions(files.auth(), fs::Permissions::from_mode(0o644)).unwrap();
    let patchbay = files.start();
    let mut clients: Vec<_> = (0..200).map(|_| patchbay.connect()).collect();
    for client in &mut clients {
        client.send_post("/v1/responses", &[], &responses_request("hi", true));
    }
    gate.open();
    for client in &mut clients {
        let got = client.reply();
        assert_eq!(got.status, 200, "{got:?}");
        assert!(got.complete && got.text().contains("served"), "{got:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let request = tokens.next();
    assert_eq!(request.line, "POST /oauth/token HTTP/1.1");
    let expected = json!({"client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "grant_type": "refresh_token", "refresh_token": "refresh-1"});
    assert_eq!(request.json(), expected);
    let seen = upstream.next();
    assert_eq!(seen.header("chatgpt-account-id"), Some("account-1"));

    let mut after = files.read();
    assert!(after["last_refresh"].take().as_str().unwrap().starts_with("20"), "{after}");
    let mut expected = auth_file(&new, "refresh-2");
    expected["tokens"]["id_token"] = "e30.e30.new".into();
    expected["last_refresh"] = Value::Null;
    assert_eq!(after, expected);
    assert_eq!(mode(&files.auth()), 0o600);
    let left: Vec<_> = fs::read_dir(files.folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let log = patchbay.log();
    assert!(!log.contains(&new) && !log.contains("refresh-"), "{log}");
}

#[test]
fn tokens_that_another_process_rotated_are_adopted() {
    let (old, new) = (jwt("old", -5), jwt("theirs", 3600));
    let reused = json!({"error": {"code": "refresh_token_reused"}});
    // Before we look.
    let (upstream, (tokens, count)) =
        (guarded(&new), endpoint("401 Unauthorized", &reused, &Gate::new(true)));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    files.write(&auth_file(&new, "refresh-2"));
    assert_eq!(ask(&patchbay).status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(files.read(), auth_file(&new, "refresh-2"), "nothing was written");

    // While we ask: theirs came first, and ours was refused because of it.
    let gate = Gate::new(false);
    let (upstream, (tokens, count)) = (guarded(&new), endpoint("401 Unauthorized", &reused, &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    let mut client = patchbay.connect();
    client.send_post("/v1/responses", &[], &responses_request("hi", true));
    wait_for("the refresh", || (count.load(Ordering::SeqCst) == 1).then_some(()));
    files.write(&auth_file(&new, "refresh-2"));
    gate.open();
    assert_eq!(client.reply().status, 200);
    assert_eq!(files.read(), auth_file(&new, "refresh-2"), "nothing was written");
}

#[test]
fn a_dead_refresh_token_tells_everybody_at_once_until_the_file_changes() {
    let (old, new) = (jwt("old", -5), jwt("new", 3600));
    let gate = Gate::new(false);
    let dead = json!({"error": {"code": "refresh_token_expired", "message": "hush"}});
    let (upstream, (tokens, count)) = (guarded(&new), endpoint("400 Bad", &dead, &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let before = files.read();
    let patchbay = files.start();
    let mut clients: Vec<_> = (0..20).map(|_| patchbay.connect()).collect();
    for client in &mut clients {
        client.send_post("/v1/responses", &[], &responses_request("hi", true));
    }
    wait_for("the refresh", || (count.load(Ordering::SeqCst) == 1).then_some(()));
    gate.open();
    for client in &mut clients {
        let got = client.reply();
        assert_eq!(got.status, 401, "{got:?}");
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("run `codex login`"), "{message}");
    }
    assert_eq!(ask(&patchbay).status, 401, "and who comes later");
    assert_eq!(count.load(Ordering::SeqCst), 1, "a dead token is not tried again");
    assert_eq!(files.read(), before, "the file is left as it is");
    let log = patchbay.log();
    assert_eq!(log.matches("refresh_token_expired").count(), 1, "{log}");
    assert!(log.contains("run `codex login`") && !log.contains("hush"), "{log}");

    files.write(&auth_file(&new, "refresh-9"));
    wait_for("the new login", || (ask(&patchbay).status == 200).then_some(()));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn an_endpoint_in_trouble_is_a_503_and_spares_a_token_that_is_still_good() {
    let busy = json!({"error": "temporarily_unavailable"});
    let gate = Gate::new(true);
    let old = jwt("old", -5);
    let (upstream, (tokens, _)) = (guarded("none"), endpoint("500 Oops", &busy, &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    let got = ask(&patchbay);
    assert_eq!(got.status, 503, "{got:?}");
    assert!(got.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert!(upstream.received.try_recv().is_err(), "nothing was sent");

    let ending = jwt("ending", 120);
    let (upstream, (tokens, count)) = (guarded(&ending), endpoint("500 Oops", &busy, &gate));
    let files = Files::new(&auth_file(&ending, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    assert_eq!(ask(&patchbay).status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_refused_token_is_refreshed_and_the_request_repeated_once() {
    let (old, new) = (jwt("old", 3600), jwt("new", 7200));
    let gate = Gate::new(true);
    let (upstream, (tokens, count)) = (guarded(&new), endpoint("200 OK", &brought(&new), &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    // Large enough to travel apart from its head.
    let long = "x".repeat(100_000);
    let got = patchbay.post("/v1/responses", &responses_request(&long, true));
    assert_eq!(got.status, 200, "{got:?}");
    let (first, second) = (upstream.next(), upstream.next());
    assert_eq!(first.header("authorization"), Some(format!("Bearer {old}").as_str()));
    assert_eq!(second.header("authorization"), Some(format!("Bearer {new}").as_str()));
    assert_eq!(first.body, second.body);
    assert_eq!(count.load(Ordering::SeqCst), 1);

    // An upstream that refuses every token is believed, and its words lose the token.
    let (upstream, (tokens, count)) = (guarded("none"), endpoint("200 OK", &brought(&new), &gate));
    let files = Files::new(&auth_file(&old, "refresh-1"), &upstream, &tokens);
    let patchbay = files.start();
    for _ in 0..3 {
        let got = ask(&patchbay);
        assert_eq!(got.status, 401, "{got:?}");
        let text = got.text();
        assert!(text.contains("bad token") && !text.contains(&new), "{text}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "a young token is not refreshed");
}

#[test]
fn an_api_key_goes_to_its_own_url() {
    let (upstream, (tokens, _)) =
        (guarded("sk-file"), endpoint("500 Oops", &json!({}), &Gate::new(true)));
    let files = Files::new(&json!({"OPENAI_API_KEY": "sk-file"}), &upstream, &tokens);
    let patchbay = files.start();
    let mut client = patchbay.connect();
    for _ in 0..2 {
        client.send_post("/v1/responses", &[], &responses_request("hi", true));
        assert_eq!(client.reply().status, 200);
        let seen = upstream.next();
        assert_eq!(seen.line, "POST /key/v1/chat/completions HTTP/1.1");
        assert_eq!(seen.header("chatgpt-account-id"), None);
    }
    // Logged in meanwhile: the tokens go where tokens go, on a connection of their own.
    files.write(&auth_file(&jwt("new", 3600), "refresh-1"));
    let seen = wait_for("the tokens", || {
        client.send_post("/v1/responses", &[], &responses_request("hi", true));
        client.reply();
        Some(upstream.next()).filter(|seen| seen.line.starts_with("POST /v1/"))
    });
    assert_eq!(seen.header("chatgpt-account-id"), Some("account-1"));
}

#[test]
fn a_token_endpoint_over_tls_is_checked_with_the_providers_certificates() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let (config, new) = (Arc::new(config), jwt("new", 3600));
    let body = brought(&new).to_string();
    let script = move |_: &Received, wire: &mut dyn Wire| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        wire.write_all(chunk.as_bytes()).unwrap();
        wire.flush().unwrap();
        Then::Close
    };
    let tokens = Upstream::start_wrapped(script, move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        Ok(rustls::StreamOwned::new(session, stream))
    });
    let upstream = guarded(&new);
    let files = Files::new(&auth_file(&jwt("old", -5), "refresh-1"), &upstream, &tokens);
    let path = files.folder.path().join("patchbay.toml");
    let plain = fs::read_to_string(&path).unwrap();
    let config = plain.replace("token_url = 'http:", "token_url = 'https:");
    fs::write(&path, &config).unwrap();
    let reply = ask(&files.start());
    assert_eq!(reply.status, 503, "an unknown issuer is not told the secret");
    assert!(reply.text().contains("issuer's root certificate (PEM) with `ca_file`"), "{reply:?}");
    assert!(tokens.received.try_recv().is_err());

    fs::write(files.folder.path().join("ca.pem"), made.cert.pem()).unwrap();
    fs::write(&path, format!("{config}ca_file = 'ca.pem'\n")).unwrap();
    assert_eq!(ask(&files.start()).status, 200);
    assert_eq!(files.read()["tokens"]["access_token"], new.as_str());
}

#[test]
fn a_file_of_no_use_ends_the_start_with_words() {
    let upstream = guarded("none");
    let files = Files::new(&json!({}), &upstream, &upstream);
    for (text, words) in [
        (None, "there is no "),
        (Some(""), "not JSON"),
        (Some("{\"tokens\": {\"access_token\": \"hush\""), "not JSON"),
        (Some("{\"OPENAI_API_KEY\": null}"), "neither tokens nor an API key"),
    ] {
        match text {
            Some(text) => fs::write(files.auth(), text).unwrap(),
            None => fs::remove_file(files.auth()).unwrap(),
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        let config = files.folder.path().join("patchbay.toml");
        let out = command.args(["serve", "--port", "0", "--config"]).arg(config).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        let said = String::from_utf8(out.stderr).unwrap();
        for words in [words, "auth.json", "codex login"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn the_credential_is_shown_without_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    let auth = |typed: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.arg("auth").env_remove("PATCHBAY_AUTH_PATH").env("CODEX_HOME", folder.path());
        if typed {
            command.arg("--auth-path").arg(&path);
        }
        let out = command.output().unwrap();
        let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        (out.status.code(), text)
    };
    let access = jwt("new", 3605);
    for (file, code, words) in [
        (auth_file(&access, "hush"), 0, &["ChatGPT tokens", "account-1", "(in 60 min)"][..]),
        (json!({"OPENAI_API_KEY": "hush"}), 0, &["API key"]),
        (json!({"access_token": jwt("hush", -5)}), 1, &["over", "run `codex login`"]),
        (json!({}), 1, &["neither tokens nor an API key", "run `codex login`"]),
    ] {
        fs::write(&path, file.to_string()).unwrap();
        for typed in [false, true] {
            let (got, text) = auth(typed);
            assert_eq!(got, Some(code), "{text}");
            for word in words {
                assert!(text.contains(word), "{word}: {text}");
            }
            assert!(!text.contains("hush") && !text.contains(&access), "{text}");
        }
    }
    fs::remove_file(&path).unwrap();
    let (code, text) = auth(true);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is no ") && text.contains("auth.json"), "{text}");
}
