//! Who may call, how often, and how much at once.

use super::*;
use crate::config::{ClientKey, Rate};

fn key(name: &str) -> ClientKey {
    ClientKey {
        name: name.to_owned(),
        secret: format!("{name}-secret"),
        rate: None,
        exchanges_max: None,
        models: Vec::new(),
    }
}

fn request(name: &str) -> String {
    let shown = format!("authorization: Bearer {name}-secret\r\nhost:");
    post("/v1/responses", REQUEST).replace("host:", &shown)
}

/// The status and the rest of an answer.
fn told(stage: &mut Stage, client: usize) -> (u16, String) {
    let answer = stage.take(client);
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

/// A stage where the key `one` may have a single exchange at once.
fn one_at_once() -> Stage {
    Stage::new("chat", |config| {
        config.client_keys = vec![ClientKey { exchanges_max: Some(1), ..key("one") }, key("free")];
    })
}

/// Asks with the key `one` on a new connection; true when it is served.
fn is_let_in(stage: &mut Stage) -> bool {
    let client = stage.client();
    let sockets = stage.sockets();
    stage.ask(client, &request("one"));
    let (status, answer) = told(stage, client);
    if status == 0 {
        assert!(stage.sockets() > sockets || stage.worker.counts().exchanges > 0);
        stage.end(client);
        return true;
    }
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"code\":\"rate_limit_exceeded\""), "{answer}");
    assert!(answer.contains("the key \\\"one\\\" has 1 requests under way"), "{answer}");
    stage.end(client);
    false
}

/// How an exchange ends: what to do with its client and its upstream.
struct End(&'static str, fn(&mut Stage, usize, usize));

#[test]
fn however_an_exchange_ends_its_seat_is_free_again() {
    let ends = [
        End("well", |stage, _, upstream| {
            stage.give(upstream, &format!("{}{}0\r\n\r\n", sse(CHAT_START), chunk(CHAT_END)));
        }),
        End("cut", |stage, _, upstream| {
            stage.give(upstream, &sse(CHAT_START));
            stage.end(upstream);
        }),
        End("refused by the upstream", |stage, _, upstream| {
            stage.give(upstream, "HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
        }),
        End("client gone", |stage, client, _| stage.end(client)),
        End("upstream silent", |stage, _, _| stage.pass(Duration::from_secs(600))),
        End("client takes nothing", |stage, client, upstream| {
            stage.worker.net_mut().sockets[client - 1].room = Some(0);
            stage.give(upstream, &sse(CHAT_START));
            stage.pass(Duration::from_secs(61));
        }),
        End("panic", |stage, _, upstream| {
            stage.worker.net_mut().panics = true;
            stage.give(upstream, "HTTP/1.1 200 OK\r\n");
            stage.worker.net_mut().panics = false;
            assert_eq!(stage.worker.meter().panics, 1);
        }),
    ];
    for End(name, end) in ends {
        let mut stage = one_at_once();
        let client = stage.client();
        let upstream = stage.ask(client, &request("one"));
        assert_eq!((stage.limits.seated(), stage.worker.counts().seated), (1, 1), "{name}");
        assert!(!is_let_in(&mut stage), "{name}");
        end(&mut stage, client, upstream);
        assert_eq!((stage.limits.seated(), stage.worker.counts().seated), (0, 0), "{name}");
        assert!(is_let_in(&mut stage), "{name}");
        assert_eq!(stage.limits.seated(), 0, "{name}");
    }
}

#[test]
fn a_seat_is_taken_by_the_head_and_given_back_with_the_body() {
    for End(name, end) in [
        End("no JSON", |stage, client, _| stage.give(client, "x")),
        End("too late", |stage, _, _| stage.pass(Duration::from_secs(61))),
        End("client gone", |stage, client, _| stage.end(client)),
    ] {
        let mut stage = one_at_once();
        let client = stage.client();
        let whole = request("one");
        stage.give(client, whole.replace(REQUEST, "").replace(": 43\r\n", ": 1\r\n").as_str());
        assert_eq!(stage.limits.seated(), 1, "{name}");
        end(&mut stage, client, 0);
        assert_eq!(stage.limits.seated(), 0, "{name}");
    }
}

#[test]
fn a_drain_and_the_end_of_the_worker_free_every_seat() {
    let mut stage = one_at_once();
    let client = stage.client();
    let upstream = stage.ask(client, &request("one"));
    stage.give(upstream, &sse(CHAT_START));
    stage.worker.drain(stage.now);
    stage.turn(&[]);
    assert_eq!(stage.limits.seated(), 1);
    stage.pass(Duration::from_secs(30));
    assert_eq!((stage.limits.seated(), stage.worker.counts()), (0, Counts::default()));

    let mut stage = one_at_once();
    let client = stage.client();
    stage.ask(client, &request("one"));
    let limits = Arc::clone(&stage.limits);
    drop(stage);
    assert_eq!(limits.seated(), 0);
}

#[test]
fn keys_have_limits_of_their_own() {
    let mut stage = Stage::new("chat", |config| {
        let rate = Some(Rate { per_minute: 20, burst: 2 });
        config.client_keys =
            vec![ClientKey { rate, exchanges_max: Some(5), ..key("slow") }, key("free")];
    });
    let mut ask = |name: &str, codex: bool, pass: u64| {
        stage.pass(Duration::from_millis(pass));
        let client = stage.client();
        let mut request = request(name);
        if codex {
            request = request.replace("host:", "originator: codex_exec\r\nhost:");
        }
        stage.give(client, &request);
        let (status, answer) = told(&mut stage, client);
        stage.end(client);
        let wait = answer.split("retry-after: ").nth(1).and_then(|rest| rest.split('\r').next());
        (status, wait.map(str::to_owned))
    };
    for (name, codex, pass_ms, expected) in [
        ("slow", false, 0, (0, None)),
        ("slow", false, 0, (0, None)),
        ("slow", false, 0, (429, Some("3"))),
        ("slow", true, 500, (429, Some("3"))),
        ("slow", false, 501, (429, Some("2"))),
        ("free", false, 0, (0, None)),
        ("none", false, 0, (401, None)),
        ("none", true, 0, (401, None)),
        ("slow", false, 1999, (0, None)),
        ("slow", false, 0, (429, Some("3"))),
    ] {
        let expected = (expected.0, expected.1.map(str::to_owned));
        assert_eq!(ask(name, codex, pass_ms), expected, "{name} {pass_ms}");
    }
    assert_eq!(stage.limits.seated(), 0);
}

#[test]
fn without_keys_an_address_has_a_rate_and_probes_have_none() {
    let mut stage = Stage::new("chat", |config| {
        config.address_rate = Some(Rate { per_minute: 1, burst: 1 });
    });
    let client = stage.client();
    // Any key will do, and none goes on.
    let upstream = stage.ask(client, &request("whoever"));
    assert!(!stage.take(upstream).contains("whoever"));
    let other = stage.client();
    for path in ["/healthz", "/readyz", "/v1/models"] {
        for _ in 0..3 {
            stage.give(other, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
            assert_eq!(told(&mut stage, other).0, 200, "{path}");
        }
    }
    stage.give(other, &request("someone-else"));
    let (status, answer) = told(&mut stage, other);
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("\r\nretry-after: 60\r\n"), "{answer}");
    assert!(answer.contains("an address may make 1 requests a minute here"), "{answer}");
}

#[test]
fn a_key_sees_and_gets_only_its_models() {
    let mut stage = Stage::new("chat", |config| {
        let all = &mut config.providers[0].models;
        all.push(Model { id: "other".to_owned(), ..all[0].clone() });
        config.routes[0].pattern = "*".to_owned();
        let models = vec!["other".to_owned(), "small-*".to_owned()];
        config.client_keys = vec![ClientKey { models, ..key("some") }, key("all")];
    });
    let get = |path: &str, name: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {name}-secret\r\n\r\n")
    };
    for (path, name, status, has, has_not) in [
        ("/v1/models", "some", 200, "\"other\"", "\"mine\""),
        ("/v1/models?client_version=1", "some", 200, "\"other\"", "\"mine\""),
        ("/v1/models", "all", 200, "\"mine\"", "none"),
        ("/v1/models/other", "some", 200, "\"other\"", "none"),
        ("/v1/models/mine", "some", 404, "model_not_found", "none"),
        ("/v1/models/mine", "all", 200, "\"mine\"", "none"),
        ("/v1/models", "nobody", 401, "invalid_api_key", "\"mine\""),
    ] {
        let client = stage.client();
        stage.give(client, &get(path, name));
        let (told, answer) = told(&mut stage, client);
        assert_eq!(told, status, "{path} {name} {answer}");
        assert!(answer.contains(has) && !answer.contains(has_not), "{path} {name} {answer}");
    }
    for (name, model, codex, status) in [
        ("some", "other", false, 0),
        ("some", "small-1", false, 0),
        ("some", "mine", false, 403),
        ("some", "mine", true, 400),
        ("all", "mine", false, 0),
    ] {
        let client = stage.client();
        let mut request = request(name).replace("\"mine\"", &format!("{model:?}"));
        let length = REQUEST.len() - 4 + model.len();
        request = request.replace("length: 43", &format!("length: {length}"));
        if codex {
            request = request.replace("host:", "originator: codex_exec\r\nhost:");
        }
        stage.give(client, &request);
        let (told, answer) = told(&mut stage, client);
        assert_eq!(told, status, "{name} {model} {answer}");
        if status > 0 {
            assert!(answer.contains("\"code\":\"model_not_allowed\""), "{answer}");
            assert!(answer.contains("\\\"mine\\\", only for other, small-*\""), "{answer}");
        }
    }
}

#[test]
fn an_effort_behind_a_name_or_a_prefix_opens_no_other_model() {
    let patterns = ["small-*", "big-high", "plain"].map(str::to_owned);
    for (model, split, expected) in [
        ("small-1", true, Some("small-1")),
        ("small-1-high", true, Some("small-1")),
        ("vendor/small-1", true, Some("small-1")),
        ("small-/big", true, None),
        ("small-high", true, None),
        ("small-x/big-high", true, None),
        ("big-high", true, Some("big")),
        ("big-low", true, None),
        ("big", true, None),
        ("plain-low", true, Some("plain")),
        // Where names are sent on as they are, they are taken as they are.
        ("small-/big", false, Some("small-/big")),
        ("small-high", false, Some("small-high")),
        ("plain-low", false, None),
        ("vendor/small-1", false, None),
    ] {
        let mut stage = Stage::new("chat", |config| {
            config.providers[0].quirks.effort_table = split;
            config.routes[0].pattern = "*".to_owned();
            config.routes[0].model = None;
            config.client_keys = vec![ClientKey { models: patterns.to_vec(), ..key("some") }];
        });
        let client = stage.client();
        let length = format!("length: {}", REQUEST.len() - 4 + model.len());
        let request = request("some").replace("\"mine\"", &format!("{model:?}"));
        let upstream = stage.ask(client, &request.replace("length: 43", &length));
        let (status, answer) = told(&mut stage, client);
        assert_eq!(status, if expected.is_some() { 0 } else { 403 }, "{model} {answer}");
        if let Some(name) = expected {
            let sent = stage.take(upstream);
            assert!(sent.contains(&format!("\"model\":{name:?}")), "{model} {sent}");
        }
    }
}

#[test]
fn an_upstreams_own_limits_are_shown_to_who_has_a_key() {
    let mut stage = Stage::new("chat", |config| config.client_keys = vec![key("one")]);
    let usage = |stage: &mut Stage, method: &str, path: &str, secret: &str| {
        let client = stage.client();
        let shown = format!("authorization: Bearer {secret}\r\nhost: localhost");
        stage.give(client, &format!("{method} {path} HTTP/1.1\r\n{shown}\r\n\r\n"));
        let (status, answer) = told(stage, client);
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    };
    let nothing = (200, r#"{"providers":{}}"#.to_owned());
    assert_eq!(usage(&mut stage, "GET", "/usage", "one-secret"), nothing);
    // Good replies tell of limits, and so do those that say one was reached.
    let error = r#"{"error":{"message":"no"}}"#;
    let reached = format!("HTTP/1.1 429 X\r\ncontent-length: {}\r\n\r\n{error}", error.len());
    for (reply, percent) in [(sse("[DONE]"), "12.5"), (reached, "100")] {
        let client = stage.client();
        let upstream = stage.ask(client, &request("one"));
        let fields = format!(
            "\r\nX-Codex-Primary-Used-Percent: {percent}\r\nx-codex-primary-window-minutes: 300\
             \r\nx-codex-credits-balance: 3\r\n"
        );
        stage.give(upstream, &reply.replacen("\r\n", &fields, 1));
        stage.end(client);
        let expected = format!(
            "{{\"providers\":{{\"up\":{{\"seen_at\":1800000000,\"primary\":{{\"used_percent\":\
             {percent},\"window_minutes\":300}},\"credits\":{{\"balance\":\"3\"}}}}}}}}"
        );
        for path in ["/usage", "/v1/usage"] {
            assert_eq!(usage(&mut stage, "GET", path, "one-secret"), (200, expected.clone()));
        }
    }
    assert_eq!(usage(&mut stage, "HEAD", "/usage", "one-secret"), (200, String::new()));
    assert_eq!(usage(&mut stage, "GET", "/usage", "other").0, 401);
    assert_eq!(usage(&mut stage, "POST", "/usage", "one-secret").0, 405);
}
