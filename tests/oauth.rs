//! Access tokens that an endpoint gives for a key or a password, end to end: the binary, a scripted
//! API that knows which token is good, and a scripted token endpoint.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use serde_json::json;
use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::vendor::{KEY, KEY_SECRET, Says, Vendor};
use support::{Patchbay, Reply, responses_request, wait_for};

fn ask(patchbay: &Patchbay) -> Reply {
    patchbay.post("/v1/responses", &responses_request("hi", true))
}

/// The words of an error.
fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap().to_owned()
}

/// Nothing secret is in the log, which tells everything.
fn check_log(patchbay: &Patchbay) -> String {
    let log = patchbay.log();
    for secret in [KEY, KEY_SECRET, "token-hush", "user-hush"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    log
}

/// `8-4-4-4-12` hexadecimal digits of version 4 and the usual variant (RFC 9562).
fn is_uuid_v4(text: &str) -> bool {
    let groups = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let digits =
        text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    groups && digits && &text[14..15] == "4" && "89ab".contains(&text[19..20])
}

#[test]
fn fifty_requests_at_once_wait_for_one_token() {
    let vendor = Vendor::start();
    vendor.state().open = false;
    let patchbay = vendor.proxy(&vendor.key());
    let mut clients: Vec<_> = (0..50).map(|_| patchbay.connect()).collect();
    for client in &mut clients {
        client.send_post("/v1/responses", &[], &responses_request("hi", true));
    }
    wait_for("the token request", || (!vendor.state().asked.is_empty()).then_some(()));
    vendor.open();
    for client in &mut clients {
        let got = client.reply();
        assert_eq!(got.status, 200, "{got:?}");
        assert!(got.complete && got.text().contains("served"), "{got:?}");
    }
    assert_eq!(vendor.state().asked, [KEY]);
    let request = vendor.endpoint.next();
    assert_eq!(request.line, "POST /oauth HTTP/1.1");
    assert_eq!(request.header("authorization"), Some(format!("Basic {KEY}").as_str()));
    assert!(is_uuid_v4(request.header("rquid").unwrap()), "{request:?}");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(request.header("content-type"), Some(form));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.body, b"scope=PERS");
    check_log(&patchbay);
}

#[test]
fn tokens_that_end_every_second_are_fetched_once_each_and_no_request_fails() {
    let vendor = Vendor::start();
    vendor.state().life = Duration::from_secs(1);
    let patchbay = vendor.proxy(&vendor.key());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = patchbay.connect();
                while !over.load(Ordering::Relaxed) {
                    client.send_post("/v1/responses", &[], &responses_request("hi", true));
                    let got = client.reply();
                    assert_eq!(got.status, 200, "{got:?}");
                }
            });
        }
        wait_for("five tokens", || (vendor.state().asked.len() >= 5).then_some(()));
        over.store(true, Ordering::Relaxed);
    });
    // Each one was used for nine tenths of its life at least, so there was one fetch an expiry.
    let times = vendor.state().times(KEY);
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap >= Duration::from_millis(890), "{gap:?} between two fetches: {times:?}");
    }
    let ids: Vec<String> = vendor
        .endpoint
        .received
        .try_iter()
        .map(|request| request.header("rquid").unwrap().to_owned())
        .collect();
    assert!(ids.iter().all(|id| is_uuid_v4(id)), "{ids:?}");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    check_log(&patchbay);
}

#[test]
fn every_way_to_say_the_end_of_a_token_is_understood() {
    for says in [Says::Milliseconds, Says::Seconds, Says::Tok, Says::ExpiresIn, Says::Nothing] {
        let vendor = Vendor::start();
        vendor.state().says = says;
        let patchbay = vendor.proxy(&vendor.key());
        for _ in 0..3 {
            assert_eq!(ask(&patchbay).status, 200, "{says:?}");
        }
        assert_eq!(vendor.state().asked.len(), 1, "{says:?}");
        assert!(!check_log(&patchbay).contains("WARN"), "{says:?}");
    }
    // A clock that is a day off is no reason to ask for each request.
    let vendor = Vendor::start();
    vendor.state().life = Duration::from_secs(2 * 86_400);
    let patchbay = vendor.proxy(&vendor.key());
    for _ in 0..3 {
        assert_eq!(ask(&patchbay).status, 200);
    }
    assert_eq!(vendor.state().asked.len(), 1);
    assert!(check_log(&patchbay).contains("check this machine's clock"));
}

#[test]
fn a_refused_token_is_replaced_and_the_request_repeated_once() {
    let vendor = Vendor::start();
    let patchbay = vendor.proxy(&vendor.key());
    assert_eq!(ask(&patchbay).status, 200);
    vendor.api.next();
    // The vendor forgets what it gave, as after a restart.
    vendor.state().tokens.clear();
    // Large enough to travel apart from its head.
    let long = "x".repeat(100_000);
    let got = patchbay.post("/v1/responses", &responses_request(&long, true));
    assert_eq!(got.status, 200, "{got:?}");
    let (first, second) = (vendor.api.next(), vendor.api.next());
    assert_eq!(first.header("authorization"), Some("Bearer token-hush-1"));
    assert_eq!(second.header("authorization"), Some("Bearer token-hush-2"));
    assert_eq!(first.body, second.body);
    assert_eq!(vendor.state().asked.len(), 2);
    check_log(&patchbay);
}

#[test]
fn an_api_that_refuses_every_token_is_believed() {
    let vendor = Vendor::start();
    vendor.state().api_refuses = true;
    let patchbay = vendor.proxy(&vendor.key());
    for _ in 0..10 {
        let got = ask(&patchbay);
        assert_eq!(got.status, 401, "{got:?}");
        let words = message(&got);
        assert!(words.contains("bad token") && words.contains("[redacted]"), "{words}");
        assert!(!words.contains("token-hush"), "{words}");
    }
    let state = vendor.state();
    // The first refusal is worth a second token; after that, one in ever longer pauses.
    assert!((2..=4).contains(&state.asked.len()), "{}", state.asked.len());
    // A request is repeated with another token, never with the same.
    assert!(state.shown.len() <= 10 + state.asked.len(), "{:?}", state.shown);
    drop(state);
    check_log(&patchbay);
}

#[test]
fn what_is_wrong_with_the_key_is_told_at_the_start_and_to_clients() {
    for (status, body, code, words) in [
        (
            "400 Bad Request",
            json!({"code": 7, "message": "scope from db not fully includes consumed scope"}),
            401,
            &["not one for the scope \"PERS\"", "set `scope`", "GIGACHAT_API_B2B"][..],
        ),
        (
            "401 Unauthorized",
            json!({"code": 6, "message": format!("{KEY} is unknown")}),
            401,
            &["refuses the authorization key", "401", "[redacted] is unknown"],
        ),
        ("400 Bad Request", json!({"code": 5, "message": "scope is empty"}), 401, &["a scope"]),
        ("404 Not Found", json!({}), 401, &["no token endpoint at 127.0.0.1/oauth"]),
        ("503 Busy\r\nretry-after: 7", json!({"message": "later"}), 503, &["503", "later"]),
        ("200 OK", json!({"token": "other"}), 503, &["holds no access token"]),
    ] {
        let vendor = Vendor::start();
        vendor.state().refuses = Some((status, body));
        let patchbay = vendor.proxy(&vendor.key());
        // Told before anybody asks.
        wait_for("the log", || {
            patchbay.log().contains("provider vendor: no token: ").then_some(())
        });
        let got = ask(&patchbay);
        assert_eq!(got.status, code, "{got:?}");
        let (log, said) = (check_log(&patchbay), message(&got));
        for word in words {
            assert!(said.contains(word) && log.contains(word), "{word}: {said}\n{log}");
        }
        let expected = if code == 401 { "upstream_unauthorized" } else { "server_overloaded" };
        assert_eq!(got.json()["error"]["code"], expected);
        if status.contains("retry-after") {
            let seconds: u32 = got.header("retry-after").unwrap().parse().unwrap();
            assert_eq!(seconds, 7);
        }
        assert!(!said.contains(KEY) && vendor.state().shown.is_empty(), "{said}");
        for _ in 0..5 {
            assert_eq!(ask(&patchbay).status, code);
        }
        assert!(vendor.state().asked.len() <= 3, "not one for each request");
    }
}

#[test]
fn an_endpoint_that_is_down_at_the_start_is_waited_for() {
    let vendor = Vendor::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lines = vendor.key().replace(&vendor.endpoint.address.to_string(), &closed.to_string());
    let patchbay = vendor.proxy(&lines);
    let got = ask(&patchbay);
    assert_eq!(got.status, 502, "{got:?}");
    let words = message(&got);
    assert!(words.contains("the token endpoint 127.0.0.1 cannot be asked"), "{words}");
    assert!(check_log(&patchbay).contains("cannot be asked"));

    let vendor = Vendor::start();
    vendor.state().refuses = Some(("500 Oops", json!({})));
    let patchbay = vendor.proxy(&vendor.key());
    assert_eq!(ask(&patchbay).status, 503);
    vendor.state().refuses = None;
    wait_for("the endpoint's return", || (ask(&patchbay).status == 200).then_some(()));
    assert!(vendor.state().asked.len() <= 4, "{:?}", vendor.state().asked);
}

#[test]
fn a_name_and_a_password_get_a_token_beside_the_api() {
    let vendor = Vendor::start();
    let lines = "credential = { kind = 'password', user_env = 'USER_NAME', \
                 password_env = 'USER_PASSWORD' }";
    // Without a `token_url` it is the API's own `/token`: here, that is refused.
    let start = |lines: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("patchbay.toml");
        let config = format!("[providers.vendor]\nurl = '{}'\n{lines}\n", vendor.api.chat_url());
        std::fs::write(&path, config).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--workers", "1", "--config"]).arg(path);
        command.env("RUST_LOG", "trace");
        command.env("USER_NAME", "ю").env("USER_PASSWORD", "user-hush: п");
        Patchbay::spawn(command)
    };
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode("ю:user-hush: п")
    };
    let patchbay = start(lines);
    assert_eq!(ask(&patchbay).status, 401);
    let request = vendor.api.next();
    assert_eq!(request.line, "POST /v1/token HTTP/1.1");
    assert_eq!(request.header("authorization"), Some(format!("Basic {basic}").as_str()));
    assert_eq!((request.header("rquid"), request.body.len()), (None, 0));
    assert!(check_log(&patchbay).contains("refuses the name and the password"));

    vendor.state().says = Says::Tok;
    let patchbay =
        start(&lines.replace(" }", &format!(", token_url = '{}' }}", vendor.token_url())));
    assert_eq!(ask(&patchbay).status, 200);
    assert_eq!(vendor.state().asked, [basic]);
    check_log(&patchbay);
}

#[test]
fn an_endpoint_whose_issuer_is_unknown_is_told_with_the_remedy() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let vendor = Vendor::start_wrapped(move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        Ok(rustls::StreamOwned::new(session, stream))
    });
    let lines = vendor.key().replace("token_url = 'http:", "token_url = 'https:");
    let patchbay = vendor.proxy(&lines);
    wait_for("the log", || patchbay.log().contains("provider vendor: no token: ").then_some(()));
    let got = ask(&patchbay);
    assert_eq!(got.status, 502, "{got:?}");
    let (log, said) = (check_log(&patchbay), message(&got));
    for word in ["the token endpoint 127.0.0.1", "issued by nobody", "`ca_file`"] {
        assert!(said.contains(word) && log.contains(word), "{word}: {said}\n{log}");
    }
    assert!(vendor.state().asked.is_empty(), "no stranger is told the key");

    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).unwrap();
    let patchbay = vendor.proxy(&format!("{lines}\nca_file = '{}'", pem.display()));
    assert_eq!(ask(&patchbay).status, 200);
    check_log(&patchbay);
}
