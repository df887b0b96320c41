//! `--capture` end to end: what is on the disk, who may read it, and that it can be sent again.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{
    Patchbay, Then, Upstream, chat_text, reply, reply_stream, responses_request, wait_for,
};

const SECRETS: [&str; 3] = ["upstream-secret", "client-secret", "cookie-secret"];

fn upstream() -> Upstream {
    Upstream::start(|request, wire| {
        if request.json()["stream"] == true {
            reply_stream(wire, &chat_text("Hello upstream-secret"));
        } else {
            let error = r#"{"error":{"message":"no upstream-secret","code":"c"}}"#;
            reply(wire, "429 Too Many", "application/json\r\nset-cookie: a=cookie-secret", error);
        }
        Then::Keep
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The folders of the exchanges below `folder`, once there are so many whole ones.
fn exchanges(folder: &Path, count: usize) -> Vec<PathBuf> {
    wait_for("the captures", || {
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let mut whole: Vec<_> = entries.filter(|path| meta(path).is_some()).collect();
        whole.sort();
        (whole.len() == count).then_some(whole)
    })
}

/// The last file to be written, if it is.
fn meta(exchange: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(exchange.join("meta.json")).ok()?).ok()
}

#[test]
fn exchanges_are_private_without_secrets_and_can_be_sent_again() {
    let (upstream, above) = (upstream(), tempfile::tempdir().unwrap());
    let folder = above.path().join("captures");
    let patchbay =
        Patchbay::for_upstream(&upstream.chat_url(), &["--capture", folder.to_str().unwrap()]);
    assert!(patchbay.log().contains("hold prompts"), "{}", patchbay.log());
    let headers = [("authorization", "Bearer client-secret"), ("cookie", "a=cookie-secret")];
    for stream in [true, false] {
        let mut client = patchbay.connect();
        let body = responses_request("it's client-secret", stream);
        client.send_post("/v1/responses?key=client-secret", &headers, &body);
        assert_eq!(client.reply().status, if stream { 200 } else { 429 });
        upstream.next();
    }
    let kept = exchanges(&folder, 2);
    assert_eq!(mode(&folder), 0o700);
    for exchange in &kept {
        assert_eq!(mode(exchange), 0o700);
        let files: Vec<_> = fs::read_dir(exchange).unwrap().flatten().collect();
        assert_eq!(files.len(), 8, "{files:?}");
        for file in files {
            let text = fs::read_to_string(file.path()).unwrap();
            assert_eq!(mode(&file.path()), 0o600, "{file:?}");
            assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{file:?}: {text}");
        }
    }
    let streamed = |exchange: &&PathBuf| meta(exchange).unwrap()["status"] == 200;
    let exchange = kept.iter().find(streamed).unwrap();
    replay(&patchbay, exchange, &upstream);
    drop(patchbay);
}

/// Runs the script both ways, where there is a `curl`.
fn replay(patchbay: &Patchbay, exchange: &Path, upstream: &Upstream) {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    assert!(run_replay(patchbay, exchange, "client").contains("event: response.completed\n"));
    let sent = upstream.next();
    assert_eq!(sent.header("authorization"), Some("Bearer upstream-secret"));
    assert!(run_replay(patchbay, exchange, "upstream").contains("chat.completion.chunk"));
    let direct = upstream.next();
    assert_eq!(direct.header("authorization"), Some("Bearer another-key"));
    assert_eq!(direct.json(), sent.json());
    assert_eq!(direct.line, sent.line);
}

/// What the script got.
fn run_replay(patchbay: &Patchbay, exchange: &Path, which: &str) -> String {
    let mut command = Command::new("sh");
    command.arg(exchange.join("replay.sh")).arg(which).env("KEY", "another-key");
    // The head that the test sent names no port.
    command.env("PATCHBAY", format!("http://{}", patchbay.address));
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_was_said_last_is_written_before_the_process_ends() {
    let (upstream, folder) = (upstream(), tempfile::tempdir().unwrap());
    let path = folder.path().to_str().unwrap();
    let mut patchbay =
        Patchbay::for_upstream(&upstream.chat_url(), &["--capture", path, "--http-shutdown"]);
    for _ in 0..20 {
        patchbay.post("/v1/responses", &responses_request("hi", true));
    }
    patchbay.connect().send_get("/shutdown");
    assert!(patchbay.child.wait().unwrap().success());
    assert_eq!(exchanges(folder.path(), 20).len(), 20);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 20);
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.args(["serve", "--upstream-url", "http://127.0.0.1:9", "--capture"]).arg(&file);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    let expected = format!("cannot write captures to {}: ", file.display());
    assert!(words.contains(&expected), "{words}");
}

#[test]
fn embeddings_and_lists_of_models_are_written_down_and_can_be_sent_again() {
    let (above, upstream) = (tempfile::tempdir().unwrap(), lister());
    let (folder, file) = (above.path().join("captures"), above.path().join("patchbay.toml"));
    let config = format!(
        r#"
        [capture]
        folder = "{}"
        [providers.vendor]
        url = "http://{}/v1"
        credential = {{ kind = "key", env = "PATCHBAY_TEST_KEY" }}
        list_models = true
        [[routes]]
        model = "*"
        provider = "vendor"
        "#,
        folder.display(),
        upstream.address
    );
    fs::write(&file, config).unwrap();
    let patchbay = Patchbay::start(&["--config", file.to_str().unwrap()]);
    assert_eq!(patchbay.post("/v1/embeddings", r#"{"model":"m","input":"a"}"#).status, 200);
    let mut client = patchbay.connect();
    client.send_get("/v1/models");
    assert_eq!(client.reply().status, 200);
    let sent = [upstream.next(), upstream.next()];
    for exchange in &exchanges(&folder, 2) {
        let embeds = meta(exchange).unwrap()["model"] == "m";
        let (sent, expected) =
            if embeds { (&sent[0], "embedding") } else { (&sent[1], "upstream-model") };
        for name in ["upstream-reply.http", "client-reply.http"] {
            let text = fs::read_to_string(exchange.join(name)).unwrap();
            assert!(text.contains(expected), "{name}: {text}");
        }
        let script = fs::read_to_string(exchange.join("replay.sh")).unwrap();
        assert!(!script.contains("upstream-secret"), "{script}");
        if Command::new("curl").arg("--version").output().is_ok() {
            assert!(run_replay(&patchbay, exchange, "upstream").contains(expected));
            let again = upstream.next();
            assert_eq!((&again.line, &again.body), (&sent.line, &sent.body));
            assert!(run_replay(&patchbay, exchange, "client").contains(expected));
            if embeds {
                // A list is kept.
                upstream.next();
            }
        }
    }
}

/// Lists one model, and embeds.
fn lister() -> Upstream {
    Upstream::start(|request, wire| {
        let list = if request.line.starts_with("GET ") {
            r#"{"data":[{"id":"upstream-model"}]}"#
        } else {
            r#"{"data":[{"index":0,"embedding":[1]}]}"#
        };
        reply(wire, "200 OK", "application/json", list);
        Then::Keep
    })
}
