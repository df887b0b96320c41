//! The command line: exit codes, messages, signals, and what is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use patchbay::config::{Overrides, World, load};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use support::{Client, Patchbay, Then, Upstream, wait_for};

/// The binary with nothing in its environment that could change what it does.
fn patchbay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    patchbay().args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn send_signal(name: &str, child: &Child) {
    let script = format!("kill -s {name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

/// Waits until the child has ended and returns its exit code.
fn exit_code(child: &mut Child) -> Option<i32> {
    wait_for("the end of the process", || child.try_wait().unwrap()).code()
}

#[test]
fn wrong_usage_is_exit_code_two_and_names_the_flag() {
    for (args, word) in [
        (&["serve", "--prot", "1"][..], "--port"),
        (&["serve", "--port", "70000"], "70000"),
        (&["serve", "--listen", "8080"], "IP:PORT"),
        (&["serve", "--listen", "127.0.0.1:1", "--port", "1"], "cannot be used with"),
        (&["serve", "--workers", "two"], "two"),
        (&["sevre"], "serve"),
        (&["run"], "<COMMAND>"),
        (&[], "Usage"),
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn what_cannot_work_is_exit_code_one_and_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> String {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let typo = file("typo.toml", "[server]\nlisen = []\n");
    let not_pem = file("ca.pem", "no certificate");
    let nobody = "http://127.0.0.1:9";
    for (args, words) in [
        (&["serve"][..], "patchbay: missing or empty env var: OPENAI_API_KEY"),
        (&["serve", "--api-key-env", "NO_SUCH_KEY"], "missing or empty env var: NO_SUCH_KEY"),
        (&["serve", "--api-key-env", "EMPTY_KEY"], "missing or empty env var: EMPTY_KEY"),
        (&["serve", "--upstream-url", "api.example.com"], "must start with https://"),
        (&["serve", "--config", &typo], "line 2: unknown key `lisen`; did you mean `listen`?"),
        (&["serve", "--config", "/no/such.toml"], "cannot read the configuration file /no/such"),
        (&["serve", "--upstream-url", "https://127.0.0.1:9", "--ca-file", &not_pem], "certificate"),
        (&["serve", "--upstream-url", "https://127.0.0.1:9", "--ca-file", "/no"], "CA file /no"),
        (&["serve", "--upstream-url", nobody, "--listen", "192.0.2.1:1"], "192.0.2.1:1"),
        (&["serve", "--upstream-url", nobody, "--server-info", "/no/such/f"], "cannot write /no"),
        (&["run", "--upstream-url", nobody, "--", "/no/such/command"], "cannot run /no/such/com"),
    ] {
        let output = patchbay().env("EMPTY_KEY", "").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_flag_beats_its_variable() {
    let mut command = patchbay();
    command.env("PATCHBAY_API_KEY_ENV", "FROM_ENVIRONMENT").arg("serve");
    let said = stderr(&command.output().unwrap());
    assert!(said.contains("missing or empty env var: FROM_ENVIRONMENT"), "{said}");
    let said = stderr(&command.args(["--api-key-env", "FROM_FLAG"]).output().unwrap());
    assert!(said.contains("missing or empty env var: FROM_FLAG"), "{said}");
}

#[test]
fn the_demo_shows_one_exchange_and_leaves_when_told() {
    let output = output(&["demo", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["scripted model", "response.output_text.delta", "\"hello", "response.completed"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_demo_stays_up_and_says_how_to_use_it() {
    for signal in ["INT", "HUP"] {
        let mut child = patchbay().arg("demo").stdout(Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(lines).map(Result::unwrap);
        let said = lines.by_ref().take_while(|line| !line.contains("codex exec"));
        let said: Vec<String> = said.collect();
        let curl = said.iter().find_map(|line| line.strip_prefix("curl -N http://"));
        let address = curl.and_then(|line| line.split('/').next()).unwrap();
        let mut client = Client::connect(address.parse().unwrap());
        client.send_get("/healthz");
        assert_eq!(client.reply().status, 200);
        send_signal(signal, &child);
        assert_eq!(exit_code(&mut child), Some(0));
    }
}

#[test]
fn help_goes_to_stdout_and_lists_only_what_works() {
    let output = output(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["serve", "run", "demo", "mock", "bench", "Exit codes"] {
        assert!(text.contains(word), "{text}");
    }
    assert!(!text.contains("translate"), "{text}");
}

#[test]
fn serve_answers_health_and_ends_in_order_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let mut proxy = Patchbay::for_upstream("http://127.0.0.1:9", &[]);
        let mut client = proxy.connect();
        client.send_get("/healthz");
        assert_eq!(client.reply().status, 200);
        assert!(proxy.log().contains(&format!("listens on http://{}", proxy.address)));
        send_signal(signal, &proxy.child);
        assert_eq!(exit_code(&mut proxy.child), Some(0), "{signal}: {}", proxy.log());
        assert!(client.is_closed());
    }
}

#[test]
fn a_hangup_does_not_end_a_server() {
    let proxy = Patchbay::for_upstream("http://127.0.0.1:9", &[]);
    send_signal("HUP", &proxy.child);
    let mut client = proxy.connect();
    client.send_get("/healthz");
    assert_eq!(client.reply().status, 200);
}

#[test]
fn shutdown_over_http_must_be_allowed() {
    let mut proxy = Patchbay::for_upstream("http://127.0.0.1:9", &["--http-shutdown"]);
    let mut client = proxy.connect();
    client.send_get("/shutdown");
    assert_eq!(client.reply().status, 200);
    assert_eq!(exit_code(&mut proxy.child), Some(0), "{}", proxy.log());

    let proxy = Patchbay::for_upstream("http://127.0.0.1:9", &[]);
    let mut client = proxy.connect();
    client.send_get("/shutdown");
    assert_eq!(client.reply().status, 404);
    let mut client = proxy.connect();
    client.send_get("/healthz");
    assert_eq!(client.reply().status, 200);
}

/// An upstream that takes a request, sends half an answer and then waits for its peer to leave.
fn stuck_upstream() -> Upstream {
    Upstream::start(|_, wire| {
        let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        let _ = wire.write_all(format!("{head}{:x}\r\n{first}\r\n", first.len()).as_bytes());
        let _ = wire.flush();
        let _ = wire.read(&mut [0]);
        Then::Close
    })
}

/// A client in the middle of a stream.
fn streaming(proxy: &Patchbay) -> Client {
    let mut client = proxy.connect();
    client.send_post("/v1/responses", &[], &support::responses_request("hello", true));
    while !client.line().contains("half") {}
    client
}

#[test]
fn a_second_signal_does_not_wait_for_streams() {
    let upstream = stuck_upstream();
    let mut proxy = Patchbay::for_upstream(&upstream.chat_url(), &[]);
    let mut client = streaming(&proxy);
    send_signal("TERM", &proxy.child);
    wait_for("the drain", || proxy.log().contains("draining").then_some(()));
    assert!(proxy.child.try_wait().unwrap().is_none(), "it must wait for the stream");
    send_signal("TERM", &proxy.child);
    assert_eq!(exit_code(&mut proxy.child), Some(128 + 15));
    let mut rest = String::new();
    loop {
        let line = client.line();
        if line.is_empty() {
            break;
        }
        rest += &line;
    }
    assert!(!rest.contains("response.completed"), "{rest}");
}

#[test]
fn a_stream_longer_than_the_drain_time_is_cut_visibly() {
    let upstream = stuck_upstream();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("patchbay.toml");
    let url = upstream.chat_url();
    let text = format!("[timeouts]\ndrain_ms = 50\n[providers.a]\nurl = \"{url}\"\n");
    fs::write(&config, text).unwrap();
    let mut proxy = Patchbay::start(&["--config", config.to_str().unwrap()]);
    let mut client = streaming(&proxy);
    send_signal("TERM", &proxy.child);
    let mut rest = String::new();
    loop {
        let line = client.line();
        if line.is_empty() {
            break;
        }
        rest += &line;
    }
    assert!(!rest.contains("response.completed"), "{rest}");
    assert_eq!(exit_code(&mut proxy.child), Some(0), "{}", proxy.log());
}

#[test]
fn two_servers_on_one_port_are_noticed() {
    let first = Patchbay::for_upstream("http://127.0.0.1:9", &[]);
    let listen = first.address.to_string();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut second = patchbay()
        .args(["serve", "--upstream-url", "http://127.0.0.1:9", "--listen", &listen])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_for("the warning", || {
        let text = fs::read_to_string(&log).unwrap();
        text.contains("another process listens").then_some(())
    });
    second.kill().unwrap();
    second.wait().unwrap();
}

/// `patchbay run` in a temporary folder of its own, which must be empty afterwards.
fn run(more: &[&str], command: &[&str]) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut patchbay = patchbay();
    patchbay.args(["run", "--upstream-url", "http://127.0.0.1:9"]).args(more).arg("--");
    let output = patchbay.args(command).env("TMPDIR", folder.path()).output().unwrap();
    let left = fs::read_dir(folder.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    (output, left)
}

#[test]
fn run_passes_the_exit_code_on_and_leaves_nothing_behind() {
    for (script, expected) in
        [("exit 0", 0), ("exit 7", 7), ("kill -s KILL $$", 137), ("kill -s TERM $$", 143)]
    {
        let (output, left) = run(&[], &["sh", "-c", script]);
        assert_eq!(output.status.code(), Some(expected), "{script}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{script}");
        assert_eq!(left, [""; 0], "{script}");
    }
}

#[test]
fn run_points_a_command_at_a_proxy_that_answers() {
    let script = "echo \"$OPENAI_BASE_URL $OPENAI_API_KEY $NO_PROXY\"";
    let (output, _) = run(&[], &["sh", "-c", script]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("http://127.0.0.1:") && text.ends_with("/v1 unused \n"), "{text}");

    // The command keeps running until its input ends, so that the proxy can be asked meanwhile.
    let mut child = patchbay()
        .args(["run", "--upstream-url", "http://127.0.0.1:9", "sh", "-c"])
        .arg("echo $OPENAI_BASE_URL; echo $OPENAI_API_KEY; echo $NO_PROXY; read line; exit 3")
        .env("OPENAI_API_KEY", "own-key")
        .env("HTTP_PROXY", "http://192.0.2.1:3128")
        .env("NO_PROXY", "a.example")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let url = lines.next().unwrap().unwrap();
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    let mut client = Client::connect(address.parse().unwrap());
    client.send_get("/healthz");
    assert_eq!(client.reply().status, 200);
    assert_eq!(lines.next().unwrap().unwrap(), "own-key");
    assert_eq!(lines.next().unwrap().unwrap(), "a.example,127.0.0.1");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(exit_code(&mut child), Some(3));
    assert!(std::net::TcpStream::connect(address).is_err(), "the proxy outlived its command");
}

#[test]
fn run_passes_a_supervisors_signal_on() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let script = format!(
        "trap 'exit 42' TERM; : > {}; while :; do sleep 0.02; done",
        ready.to_str().unwrap()
    );
    let mut child = patchbay()
        .args(["run", "--upstream-url", "http://127.0.0.1:9", "sh", "-c", &script])
        .spawn()
        .unwrap();
    wait_for("the command", || ready.exists().then_some(()));
    send_signal("TERM", &child);
    assert_eq!(exit_code(&mut child), Some(42));
}

/// A stand-in for the Codex CLI that shows its arguments and the catalog that it was given.
fn fake_codex(folder: &Path) -> String {
    let path = folder.join("codex");
    let script = "#!/bin/sh\nfor a in \"$@\"; do echo \"$a\"; case $a in model_catalog_json=*)\n\
                  f=${a#*=\\\"}; cat \"${f%\\\"}\"; echo;; esac; done\necho \"key=$PATCHBAY_CLIENT_KEY\"\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn run_gives_codex_a_provider_and_a_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let codex = fake_codex(folder.path());
    let (output, left) = run(&["--model", "small=vendor/large"], &[&codex, "exec", "--json", "hi"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(left, [""; 0]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "-c");
    let provider = lines[1];
    assert!(provider.starts_with("model_providers.patchbay={name=\"patchbay\","), "{text}");
    assert!(provider.contains("base_url=\"http://127.0.0.1:"), "{text}");
    assert!(provider.ends_with("/v1\",wire_api=\"responses\"}"), "{text}");
    assert_eq!(lines[2..4], ["-c", "model_provider=\"patchbay\""]);
    assert_eq!(lines[4], "-c");
    assert!(lines[5].starts_with("model_catalog_json=\""), "{text}");
    let catalog: serde_json::Value = serde_json::from_str(lines[6]).unwrap();
    assert_eq!(catalog["models"][0]["slug"], "small", "{text}");
    assert_eq!(lines[lines.len() - 4..], ["exec", "--json", "hi", "key="]);

    let (output, _) = run(&[], &[&codex, "exec", "-m", "other", "hi"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"slug\":\"other\""), "the model that was typed is missing: {text}");
}

#[test]
fn run_hands_codex_a_client_key_when_the_proxy_wants_one() {
    let folder = tempfile::tempdir().unwrap();
    let codex = fake_codex(folder.path());
    let config = folder.path().join("patchbay.toml");
    fs::write(&config, "[clients.keys]\nme = \"client-secret\"\n").unwrap();
    let (output, _) = run(&["--config", config.to_str().unwrap()], &[&codex]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(",env_key=\"PATCHBAY_CLIENT_KEY\""), "{text}");
    assert!(text.ends_with("key=client-secret\n"), "{text}");
    assert!(!text.replace("key=client-secret", "").contains("client-secret"), "{text}");
}

#[test]
fn the_configuration_in_the_readme_is_accepted() {
    let readme = include_str!("../README.md");
    let blocks = readme.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap());
    // The others are of the Codex CLI.
    let ours =
        |text: &&str| ["[server]", "[clients", "[providers."].iter().any(|it| text.contains(it));
    let blocks: Vec<&str> = blocks.filter(ours).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patchbay.toml");
    let first = blocks.iter().find(|text| text.contains("ALICE_KEY")).unwrap();
    fs::write(&path, first).unwrap();
    let mut command = patchbay();
    command.args(["serve", "--config"]).arg(&path);
    command.env("ALICE_KEY", "alice-secret").env("VENDOR_KEY", "vendor-secret");
    let proxy = Patchbay::spawn(command);
    let mut client = proxy.connect();
    client.send_post("/v1/responses", &[], &support::responses_request("hello", true));
    assert_eq!(client.reply().status, 401);

    let var = |name: &str| match name {
        "HOME" => Some("/home/me".to_owned()),
        _ if name.ends_with("_CREDENTIALS") => Some("aWQ6c2VjcmV0".to_owned()),
        "VENDOR_KEY" => Some("aWQ6c2VjcmV0".to_owned()),
        _ if name.ends_with("_KEY") => Some(format!("secret-of-{name}")),
        _ => None,
    };
    fs::write(folder.path().join("key.txt"), "sk-key").unwrap();
    let world = World { var: &var, cores: 1 };
    for text in &blocks {
        let loaded = load(Some((&path, text)), &Overrides::default(), world);
        assert!(loaded.is_ok(), "{text}: {loaded:?}");
    }
    let keys = blocks.iter().find(|text| text.contains("base_path")).unwrap();
    let config = load(Some((&path, keys)), &Overrides::default(), world).unwrap();
    assert_eq!(config.providers[0].url.path, "/backend-api/codex/responses");
}
