//! Presets, `.env` files and which of several places wins, as a user meets them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use patchbay::mock::{Options, Server, Wire};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Patchbay, Then, Upstream, reply, reply_stream};

/// The binary in a folder of its own, with nothing in its environment that could change what it does.
fn patchbay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// What a command that ends at once says, and its exit code.
fn said(command: &mut Command) -> (String, Option<i32>) {
    let output = command.output().unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// A `serve` of the preset `chatgpt` that leads nowhere.
fn chatgpt(folder: &Path, variables: &[(&str, &str)]) -> Patchbay {
    let auth = file(folder, "auth.json", r#"{"access_token": "a", "account_id": "b"}"#);
    let mut command = patchbay(folder);
    command.args(["serve", "--preset", "chatgpt", "--upstream-url", "http://127.0.0.1:9"]);
    command.arg("--auth-path").arg(auth).envs(variables.iter().copied());
    Patchbay::spawn(command)
}

fn get(proxy: &Patchbay, path: &str) -> support::Reply {
    let mut client = proxy.connect();
    client.send_get(path);
    client.reply()
}

fn listed(models: &Value) -> Vec<&str> {
    models["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[test]
fn each_place_beats_those_behind_it() {
    // Each place names another variable for the key; the one that is missed won.
    let places = ["flag", "environment", ".env", "file", "preset"];
    for first in 0..places.len() {
        // With all the others behind it, and alone before the last.
        for others in [true, false] {
            let has = |place: &str| {
                let at = places.iter().position(|it| *it == place).unwrap();
                at == first || at + 1 == places.len() || (others && at > first)
            };
            let folder = tempfile::tempdir().unwrap();
            let mut command = patchbay(folder.path());
            command.args(["serve", "--preset", "codex-backend"]);
            command.env("CODEX_BASE_URL", "http://127.0.0.1:9");
            if has("flag") {
                command.args(["--api-key-env", "OF_FLAG"]);
            }
            if has("environment") {
                command.env("PATCHBAY_API_KEY_ENV", "OF_ENVIRONMENT");
            }
            if has(".env") {
                file(folder.path(), ".env", "PATCHBAY_API_KEY_ENV=OF_DOT_ENV\n");
            }
            if has("file") {
                let text =
                    "[providers.codex]\ncredential = { kind = \"key\", env = \"OF_FILE\" }\n";
                command.arg("--config").arg(file(folder.path(), "p.toml", text));
            }
            let names = ["OF_FLAG", "OF_ENVIRONMENT", "OF_DOT_ENV", "OF_FILE", "CODEX_API_KEY"];
            let (said, code) = said(&mut command);
            let expected = format!("missing or empty env var: {}\n", names[first]);
            assert!(said.ends_with(&expected), "{} {others}: {said}", places[first]);
            assert_eq!(code, Some(1));
        }
    }
}

#[test]
fn variables_of_an_env_file_lose_against_the_environment() {
    let dot_env =
        "# a comment\nexport ALLOWED_MODELS=\"from-file, two\"\nPATCHBAY_HTTP_SHUTDOWN=1\n";
    for (name, variables, models) in [
        (".env", &[][..], &["from-file", "two"][..]),
        ("my.env", &[("PATCHBAY_ENV_FILE", "my.env")], &["from-file", "two"]),
        (".env", &[("ALLOWED_MODELS", "own")], &["own"]),
        ("other.env", &[], &["gpt-5", "gpt-5.2", "gpt-5.3-codex", "gpt-5.2-codex"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), name, dot_env);
        let proxy = chatgpt(folder.path(), variables);
        for path in ["/models", "/v1/models"] {
            assert_eq!(listed(&get(&proxy, path).json()), models, "{name} {variables:?}");
        }
        let expected = if name == "other.env" { 404 } else { 200 };
        assert_eq!(get(&proxy, "/shutdown").status, expected, "{name}");
    }
}

#[test]
fn a_flag_excludes_what_the_env_file_says_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), ".env", "PATCHBAY_LISTEN=192.0.2.1:1\nPATCHBAY_API_KEY_ENV=GONE\n");
    let proxy = chatgpt(folder.path(), &[]);
    assert_eq!(get(&proxy, "/health").status, 200);
    assert!(!proxy.log().contains("192.0.2.1"), "{}", proxy.log());
}

#[test]
fn an_env_file_that_cannot_be_read_is_an_error_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("A=1\nthis is sk-secret\n", ".env: the line behind A is not NAME=value"),
        ("sk-secret\n", ".env: the first line is not NAME=value"),
    ] {
        file(folder.path(), ".env", text);
        let (said, code) = said(patchbay(folder.path()).arg("serve"));
        assert!(said.contains(words) && !said.contains("sk-secret"), "{said}");
        assert_eq!(code, Some(1));
    }
    let mut command = patchbay(folder.path());
    let (said, code) = said(command.args(["serve", "--env-file", "gone.env"]));
    assert!(said.contains("cannot read the env file gone.env"), "{said}");
    assert_eq!(code, Some(1));
}

#[test]
fn run_reads_an_env_file_only_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    file(
        folder.path(),
        ".env",
        "PATCHBAY_API_KEY_ENV=OF_DOT_ENV\nOPENAI_API_KEY=sk-of-a-stranger\n",
    );
    let (text, _) = said(patchbay(folder.path()).args(["run", "true"]));
    assert!(text.contains("missing or empty env var: OPENAI_API_KEY"), "{text}");
    let mut command = patchbay(folder.path());
    let (text, _) = said(command.args(["run", "--env-file", ".env", "true"]));
    assert!(text.contains("missing or empty env var: OF_DOT_ENV"), "{text}");
}

#[test]
fn unknown_presets_and_half_certificates_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    for (args, words) in [
        (
            &["--preset", "chatgtp"][..],
            "did you mean `chatgpt`? Known: chatgpt, codex-backend, codex-exec, gigachat",
        ),
        (&["--preset", "codex-backend"], "needs a `url`, or the flag --upstream-url"),
        (&["--upstream-url", "http://127.0.0.1:9", "--tls-cert", "c"], "needs its key: --tls-key"),
        (&["--upstream-url", "http://127.0.0.1:9", "--tls-key", "k"], "certificate: --tls-cert"),
    ] {
        let (said, code) = said(patchbay(folder.path()).arg("serve").args(args));
        assert!(said.contains(words), "{args:?}: {said}");
        assert_eq!(code, Some(1));
    }
}

#[test]
fn chatgpt_serves_its_paths_and_refuses_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = chatgpt(folder.path(), &[]);
    assert_eq!(get(&proxy, "/health").status, 200);
    assert_eq!(get(&proxy, "/v1/models/gpt-5.2").status, 200);
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]});
        let reply = proxy.post(path, &body.to_string());
        assert_eq!(reply.status, 400, "{}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "model_not_allowed");
        assert_eq!(error["param"], "model");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("\"gpt-4o\""), "{message}");
        assert!(message.ends_with("gpt-5, gpt-5.2, gpt-5.3-codex, gpt-5.2-codex"), "{message}");
    }
    for (model, allowed) in [
        ("gpt-5", true),
        ("gpt-5.2-high", true),
        ("gpt-5.2-codex extra-high", true),
        ("gpt-5.2-loud", false),
        ("GPT-5", false),
        ("gpt-5.1-codex-high", false),
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello!"}]});
        let reply = proxy.post("/v1/chat/completions", &body.to_string());
        // An allowed one gets as far as the upstream that nobody answers at.
        assert_eq!(reply.status == 400, !allowed, "{model}: {}", reply.text());
    }
}

#[test]
fn a_proxy_key_closes_a_preset() {
    let folder = tempfile::tempdir().unwrap();
    for (key, expected) in [("own-key", 401), ("", 200)] {
        let proxy = chatgpt(folder.path(), &[("PROXY_API_KEY", key)]);
        assert_eq!(get(&proxy, "/models").status, expected, "{key}");
        assert_eq!(get(&proxy, "/health").status, 200);
    }
}

/// A Responses stream with one short answer.
fn answer() -> String {
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": {"type": "message", "id": "msg_1", "role": "assistant", "content": []}}),
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": "hi"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message",
            "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}]}}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed",
            "output": [], "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}}),
    ];
    events
        .iter()
        .map(|it| format!("event: {}\ndata: {it}\n\n", it["type"].as_str().unwrap()))
        .collect()
}

/// A `serve` of the preset `codex-backend`.
fn codex_backend(folder: &Path, variables: &[(&str, &str)], args: &[&str]) -> Patchbay {
    let mut command = patchbay(folder);
    command.args(["serve", "--preset", "codex-backend"]).args(args);
    command.env("CODEX_API_KEY", "sk-third").envs(variables.iter().copied());
    Patchbay::spawn(command)
}

const HELLO: &str = r#"{"model":"gpt-5.1-codex-high","stream":true,
    "messages":[{"role":"user","content":"Hello!"}]}"#;

#[test]
fn codex_backend_posts_to_the_third_party() {
    let upstream = Upstream::start(|_, wire| {
        reply_stream(wire, &answer());
        Then::Keep
    });
    let base = format!("http://{}", upstream.address);
    let whole = format!("{base}/own/path/responses");
    let folder = tempfile::tempdir().unwrap();
    for (variables, args, path) in [
        (vec![("CODEX_BASE_URL", base.as_str())], vec![], "/backend-api/codex/responses"),
        (vec![], vec!["--upstream-url", &base], "/backend-api/codex/responses"),
        (vec![("PATCHBAY_UPSTREAM_URL", &base)], vec![], "/backend-api/codex/responses"),
        (
            vec![("CODEX_BASE_URL", "http://gone")],
            vec!["--upstream-url", &whole],
            "/own/path/responses",
        ),
    ] {
        let proxy = codex_backend(folder.path(), &variables, &args);
        let reply = proxy.post("/v1/chat/completions", HELLO);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("\"content\":\"hi\""), "{}", reply.text());
        let request = upstream.next();
        assert_eq!(request.line, format!("POST {path} HTTP/1.1"));
        assert_eq!(request.header("authorization"), Some("Bearer sk-third"));
    }
}

#[test]
fn codex_backend_lists_the_models_with_their_efforts() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = codex_backend(folder.path(), &[], &["--upstream-url", "http://127.0.0.1:9"]);
    let models = get(&proxy, "/v1/models").json();
    let models = listed(&models);
    for (family, efforts) in [
        ("gpt-5.2", &["none", "low", "medium", "high", "xhigh"][..]),
        ("gpt-5.2-codex", &["low", "medium", "high", "xhigh"]),
        ("gpt-5.1-codex-max", &["low", "medium", "high", "xhigh"]),
        ("gpt-5.1-codex", &["low", "medium", "high"]),
        ("gpt-5.1-codex-mini", &["medium", "high"]),
        ("gpt-5.1", &["none", "low", "medium", "high"]),
    ] {
        assert!(models.contains(&family), "{family}");
        for effort in ["none", "minimal", "low", "medium", "high", "xhigh"] {
            let name = format!("{family}-{effort}");
            assert_eq!(models.contains(&name.as_str()), efforts.contains(&effort), "{name}");
        }
    }
}

#[test]
fn a_wrong_key_of_the_third_party_is_a_readable_401() {
    let upstream = Upstream::start(|_, wire| {
        reply(wire, "401 Unauthorized", "application/json", "{\"detail\":\"bad api key\"}");
        Then::Keep
    });
    let folder = tempfile::tempdir().unwrap();
    let base = format!("http://{}", upstream.address);
    let proxy = codex_backend(folder.path(), &[("CODEX_BASE_URL", &base)], &[]);
    let reply = proxy.post("/chat/completions", HELLO);
    assert_eq!(reply.status, 401, "{}", reply.text());
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("bad api key"), "{message}");
    assert!(!reply.text().contains("sk-third"));
}

/// A `serve` of the preset `gigachat` with this `.env`, in front of a scripted GigaChat.
fn gigachat(folder: &Path, mock: &Server, dot_env: &str) -> Patchbay {
    let base = format!("http://{}", mock.address());
    let text = format!(
        "{dot_env}\nGIGACHAT_BASE_URL={base}/api/v1\nGIGACHAT_AUTH_URL={base}/api/v2/oauth\n"
    );
    file(folder, ".env", &text);
    let mut command = patchbay(folder);
    command.args(["serve", "--preset", "gigachat"]);
    Patchbay::spawn(command)
}

/// As users of gpt2giga have it.
const DOT_ENV: &str = "GIGACHAT_CREDENTIALS=aWQ6c2VjcmV0\nGIGACHAT_SCOPE=GIGACHAT_API_PERS\n\
    GIGACHAT_MODEL=GigaChat-2-Max\nGPT2GIGA_ENABLE_API_KEY_AUTH=True\nGPT2GIGA_API_KEY=own-key\n";

fn mock() -> Server {
    Server::start(&Options { wire: Some(Wire::GigaChat), ..Options::default() }).unwrap()
}

fn ask(proxy: &Patchbay, path: &str, key: Option<&str>, body: &Value) -> support::Reply {
    let mut client = proxy.connect();
    let shown = key.map(|key| format!("Bearer {key}")).unwrap_or_default();
    let headers = [("authorization", shown.as_str())];
    client.send_post(path, &headers[..usize::from(key.is_some())], &body.to_string());
    client.reply()
}

#[test]
fn gigachat_works_with_the_env_file_of_gpt2giga() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock());
    let proxy = gigachat(folder.path(), &mock, DOT_ENV);
    let body = json!({"model": "GigaChat-2-Max", "input": "hello", "stream": true});
    // Codex puts its path behind a base URL without `/v1`, with or without a slash at its end.
    for path in ["/responses", "//responses", "/v1/responses"] {
        let reply = ask(&proxy, path, Some("own-key"), &body);
        assert_eq!((reply.status, reply.complete), (200, true), "{path}: {reply:?}");
        assert!(reply.text().contains("event: response.completed"), "{path}: {reply:?}");
        assert_eq!(ask(&proxy, path, Some("other"), &body).status, 401, "{path}");
        assert_eq!(ask(&proxy, path, None, &body).status, 401, "{path}");
    }
    let mut client = proxy.connect();
    client
        .send(b"GET /models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer own-key\r\n\r\n");
    let models = client.reply().json();
    for model in ["GigaChat-2-Max", "GigaChat-2-Pro", "GigaChat-2"] {
        assert!(listed(&models).contains(&model), "{models}");
    }
    let log = proxy.log();
    assert!(!log.contains("has no effect") && !log.contains("aWQ6"), "{log}");
}

#[test]
fn gigachat_names_the_variables_that_it_cannot_heed_and_never_their_values() {
    let (folder, mock) = (tempfile::tempdir().unwrap(), mock());
    let more = "GPT2GIGA_MODE=PROD-hush\nGIGACHAT_KEY_FILE_PASSWORD=hush\nGPT2GIGA_API_KEI=hush\n\
                GPT2GIGA_UI_ENABLED=\nGPT2GIGA_LOG_LEVEL=CRITICAL\nGIGACHAT_VERIFY_SSL_CERTS=True\n";
    let proxy = gigachat(folder.path(), &mock, &format!("{DOT_ENV}{more}"));
    let log = proxy.log();
    let warned: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(warned.len(), 3, "{log}");
    for (line, words) in warned.iter().zip([
        "GIGACHAT_KEY_FILE_PASSWORD has no effect: ",
        "GPT2GIGA_API_KEI has no effect: it is not known; did you mean GPT2GIGA_API_KEY?",
        "GPT2GIGA_MODE has no effect: ",
    ]) {
        assert!(line.starts_with(words), "{line}");
    }
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn gigachat_may_be_given_one_model_and_an_effort_for_all() {
    let upstream = Upstream::start(|_, wire| {
        let body = json!({"choices": [{"message": {"role": "assistant", "content": "{}"}, "index": 0,
            "finish_reason": "stop"}], "created": 1, "model": "m", "object": "chat.completion"});
        reply(wire, "200 OK", "application/json", &body.to_string());
        Then::Keep
    });
    let folder = tempfile::tempdir().unwrap();
    let dot_env = format!(
        "GIGACHAT_ACCESS_TOKEN=token\nGIGACHAT_BASE_URL=http://{}\nGPT2GIGA_PASS_MODEL=False\n\
         GIGACHAT_MODEL=GigaChat-2-Pro\nGPT2GIGA_ENABLE_REASONING=True\n\
         GPT2GIGA_DEFAULT_MAX_TOKENS=77\nGIGACHAT_PROFANITY_CHECK=False\n",
        upstream.address
    );
    file(folder.path(), ".env", &dot_env);
    let mut command = patchbay(folder.path());
    command.args(["serve", "--preset", "gigachat"]);
    let proxy = Patchbay::spawn(command);
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true,
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}],
        "response_format": format});
    assert_eq!(ask(&proxy, "/v1/chat/completions", None, &body).status, 200);
    let sent = upstream.next();
    assert_eq!(sent.line, "POST /api/v1/chat/completions HTTP/1.1");
    assert_eq!(sent.header("authorization"), Some("Bearer token"));
    let sent = sent.json();
    assert_eq!(sent["model"], "GigaChat-2-Pro");
    assert_eq!(sent["reasoning_effort"], "high");
    assert_eq!(sent["max_tokens"], 77);
    assert_eq!(sent["profanity_check"], false);
    assert_eq!(sent["function_call"], json!({"name": "structured_answer"}));
    assert_eq!(sent["functions"][0]["parameters"]["properties"]["a"]["type"], "integer");
    // What a request says itself comes first.
    let body = json!({"model": "x", "max_tokens": 5, "reasoning_effort": "low",
        "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(ask(&proxy, "/v1/chat/completions", None, &body).status, 200);
    let sent = upstream.next().json();
    assert_eq!((&sent["max_tokens"], &sent["reasoning_effort"]), (&json!(5), &json!("low")));
}
