//! Clients that bring an account of their own, end to end: each is served with its own token or not
//! at all, and the upstream never sees the server's for it.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::collections::HashSet;
use support::vendor::{KEY, Vendor};
use support::{Patchbay, Reply, responses_request, wait_for};

fn basic(name: &str, password: &str) -> String {
    STANDARD.encode(format!("{name}:{password}"))
}

fn ask(patchbay: &Patchbay, fields: &[(&str, &str)]) -> Reply {
    let mut client = patchbay.connect();
    client.send_post("/v1/responses", fields, &responses_request("hi", true));
    client.reply()
}

fn bring(patchbay: &Patchbay, account: &str) -> Reply {
    ask(patchbay, &[("authorization", &format!("Bearer {account}"))])
}

fn error(reply: &Reply) -> (u16, String, String) {
    let body = reply.json();
    let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (reply.status, text("code"), text("message"))
}

/// The tokens that were given for a credential.
fn tokens_of(vendor: &Vendor, basic: &str) -> HashSet<String> {
    let state = vendor.state();
    state.tokens.iter().filter(|(_, it)| it.basic == basic).map(|(name, _)| name.clone()).collect()
}

#[test]
fn each_caller_is_served_with_its_own_account() {
    let vendor = Vendor::start();
    let patchbay = vendor.proxy(&format!("{}\n{}", vendor.key(), vendor.callers("")));
    let key = basic("id", "caller-hush");
    let user = basic("bob", "user-hush:x");
    for (account, basic, body) in [
        (format!("giga-cred-{key}"), &key, "scope=PERS"),
        (format!("giga-cred-{key}:CORP B2B"), &key, "scope=CORP+B2B"),
        ("giga-user-bob:user-hush:x".to_owned(), &user, ""),
    ] {
        // The server's own token is fetched at the start.
        let asked = |vendor: &Vendor| vendor.state().asked_for(basic);
        let before = asked(&vendor);
        for _ in 0..2 {
            assert_eq!(bring(&patchbay, &account).status, 200, "{account}");
            let shown = vendor.state().shown.last().unwrap().clone();
            assert!(tokens_of(&vendor, basic).contains(&shown), "{account}: {shown}");
        }
        assert_eq!(asked(&vendor), before + 1, "its token is kept");
        let asked = vendor.endpoint.received.try_iter();
        let theirs = asked
            .filter(|it| it.header("authorization") == Some(format!("Basic {basic}").as_str()));
        assert_eq!(String::from_utf8(theirs.last().unwrap().body).unwrap(), body);
    }
    // A ready token is used as it is.
    let ready = tokens_of(&vendor, &user).into_iter().next().unwrap();
    assert_eq!(bring(&patchbay, &format!("giga-auth-{ready}")).status, 200);
    assert_eq!(vendor.state().shown.last(), Some(&ready));
    // Who brings none is served with the server's, whatever else it shows.
    for account in ["sk-anything", "Giga-auth-x"] {
        assert_eq!(bring(&patchbay, account).status, 200);
        let shown = vendor.state().shown.last().unwrap().clone();
        assert!(tokens_of(&vendor, KEY).contains(&shown));
    }
    let log = patchbay.log();
    for secret in ["hush", key.as_str(), user.as_str(), KEY] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn a_caller_whose_account_fails_gets_a_401_and_never_the_servers_account() {
    let vendor = Vendor::start();
    let bad = [basic("id", "wrong-hush"), basic("eve", "wrong-hush")];
    vendor.state().bad.extend(bad.clone());
    let patchbay = vendor.proxy(&format!("{}\n{}", vendor.key(), vendor.callers("")));
    // The server's own account is good, and in use.
    assert_eq!(ask(&patchbay, &[]).status, 200);
    let servers = tokens_of(&vendor, KEY);
    assert_eq!(vendor.state().shown.len(), 1);
    for account in [
        format!("giga-cred-{}", bad[0]),
        format!("giga-cred-{}:CORP", bad[0]),
        "giga-user-eve:wrong-hush".to_owned(),
        "giga-auth-expired-hush".to_owned(),
        "giga-auth-token-hush-77".to_owned(),
    ] {
        for _ in 0..5 {
            let got = bring(&patchbay, &account);
            let (status, code, words) = error(&got);
            assert_eq!((status, code.as_str()), (401, "invalid_api_key"), "{account}: {got:?}");
            assert!(words.contains("your account"), "{words}");
            assert!(!words.contains("hush") && !words.contains(&bad[0]), "{words}");
        }
    }
    let state = vendor.state();
    let shown = &state.shown[1..];
    assert!(shown.iter().all(|it| it.ends_with("expired-hush") || it == "token-hush-77"));
    assert!(!shown.iter().any(|it| servers.contains(it)), "{shown:?}");
    assert_eq!(shown.len(), 10, "a ready token is asked with once: {shown:?}");
    // And a bad secret is not carried to the endpoint with each request.
    assert_eq!(state.asked_for(&bad[0]), 2, "once for each scope");
    assert_eq!(state.asked_for(&bad[1]), 1);
    assert_eq!(state.asked_for(KEY), 1);
    drop(state);
    // A token that was given, and that the API refuses: the same.
    vendor.state().api_refuses = true;
    let begun = vendor.state().shown.len();
    let (status, code, words) = error(&bring(&patchbay, "giga-user-mallory:user-hush"));
    assert_eq!((status, code.as_str()), (401, "invalid_api_key"));
    assert!(!words.contains("hush"), "{words}");
    let theirs = tokens_of(&vendor, &basic("mallory", "user-hush"));
    let state = vendor.state();
    assert!(state.shown[begun..].iter().all(|it| theirs.contains(it)), "{:?}", state.shown);
    assert_eq!(state.shown.len() - begun, 2, "once more with another token of its own");
    let log = patchbay.log();
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn a_key_of_the_servers_is_shown_for_no_caller_either() {
    let vendor = Vendor::start();
    vendor.state().bad.push(basic("eve", "user-hush"));
    let lines =
        format!("credential = {{ kind = 'key', env = 'VENDOR_KEY' }}\n{}", vendor.callers(""));
    let patchbay = vendor.proxy(&lines);
    for (account, status) in [
        ("giga-user-bob:user-hush", 200),
        ("giga-user-eve:user-hush", 401),
        ("giga-auth-over-hush", 401),
        ("giga-user-bob:user-hush", 200),
    ] {
        assert_eq!(bring(&patchbay, account).status, status, "{account}");
    }
    let state = vendor.state();
    let theirs: Vec<&String> = state.tokens.keys().collect();
    let expected = [theirs[0].as_str(), "over-hush", theirs[0]];
    assert_eq!(state.shown, expected, "each with its own, and never the server's");
    drop(state);
    bring(&patchbay, "sk-other");
    assert_eq!(vendor.state().shown.last().unwrap(), KEY);
}

#[test]
fn a_token_that_is_slow_to_come_keeps_no_other_caller_waiting() {
    let vendor = Vendor::start();
    vendor.state().held.push(basic("slow", "user-hush"));
    let patchbay = vendor.proxy(&format!("{}\n{}", vendor.key(), vendor.callers("")));
    let mut slow = patchbay.connect();
    let account = [("authorization", "Bearer giga-user-slow:user-hush")];
    slow.send_post("/v1/responses", &account, &responses_request("hi", true));
    let asked = || vendor.state().asked_for(&basic("slow", "user-hush"));
    wait_for("the slow one", || (asked() == 1).then_some(()));
    for number in 0..5 {
        assert_eq!(bring(&patchbay, &format!("giga-user-u{number}:user-hush")).status, 200);
    }
    assert_eq!(ask(&patchbay, &[]).status, 200);
    vendor.open();
    assert_eq!(slow.reply().status, 200);
    assert_eq!(asked(), 1);
}

#[test]
fn what_is_written_down_of_an_exchange_holds_no_account() {
    let vendor = Vendor::start();
    vendor.state().bad.push(basic("eve", "user-hush"));
    let folder = tempfile::tempdir().unwrap();
    let capture = format!("[capture]\nfolder = '{}'\n", folder.path().display());
    let lines = format!("{}\n{}", vendor.key(), vendor.callers(""));
    let patchbay = vendor.proxy_with(&capture, &lines);
    let user = basic("bob", "user-hush");
    for (account, status) in [
        ("sk-other-hush", 200),
        ("giga-user-bob:user-hush", 200),
        ("giga-user-eve:user-hush", 401),
        ("giga-auth-over-hush", 401),
    ] {
        assert_eq!(bring(&patchbay, account).status, status, "{account}");
    }
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        files.retain(|it| it.path().join("client-reply.http").exists());
        let inner = files.iter().flat_map(|it| std::fs::read_dir(it.path()).unwrap().flatten());
        let texts = inner.map(|it| std::fs::read_to_string(it.path()).unwrap_or_default());
        (files.len(), texts.collect::<String>())
    };
    let text = wait_for("four captures", || {
        let (count, text) = files();
        (count == 4 && text.matches("HTTP/1.1 401").count() >= 3).then_some(text)
    });
    for secret in ["hush", user.as_str(), KEY] {
        let at = text.find(secret).map(|at| &text[at.saturating_sub(200)..at + 10]);
        assert_eq!(at, None, "{secret}");
    }
}

#[test]
fn an_endpoint_in_trouble_is_no_reason_for_another_account() {
    let vendor = Vendor::start();
    let patchbay = vendor.proxy(&format!("{}\n{}", vendor.key(), vendor.callers("")));
    assert_eq!(ask(&patchbay, &[]).status, 200);
    vendor.state().refuses = Some(("500 Oops", json!({})));
    let got = bring(&patchbay, "giga-user-bob:user-hush");
    assert_eq!(error(&got).0, 503, "{got:?}");
    assert!(got.header("retry-after").is_some());
    assert_eq!(vendor.state().shown.len(), 1);
}

#[test]
fn what_is_malformed_and_what_is_missing_is_explained() {
    let vendor = Vendor::start();
    let patchbay = vendor.proxy(&vendor.callers(""));
    for (account, words) in [
        ("giga-", "none of the known kinds"),
        ("giga-key-x", "none of the known kinds"),
        ("giga-cred-{}", "no key in base64"),
        ("giga-user-bob", "no name and password"),
        ("giga-auth-", "no access token"),
    ] {
        let (status, code, message) = error(&bring(&patchbay, account));
        assert_eq!((status, code.as_str()), (400, "invalid_authorization"), "{account}");
        assert!(message.contains(words) && message.contains("giga-user-NAME"), "{message}");
    }
    for fields in [&[][..], &[("authorization", "Bearer sk-1")]] {
        let (status, code, message) = error(&ask(&patchbay, fields));
        assert_eq!((status, code.as_str()), (401, "invalid_api_key"));
        assert!(message.contains("no account of its own") && message.contains("giga-cred-KEY"));
    }
    assert!(vendor.state().shown.is_empty() && vendor.state().asked.is_empty());
    assert_eq!(bring(&patchbay, "giga-user-bob:user-hush").status, 200);
}

#[test]
fn client_keys_come_beside_in_a_field_of_their_own() {
    let vendor = Vendor::start();
    let keys = "[clients.keys]\nalice = 'client-secret'\n";
    let lines = format!("{}\n{}", vendor.key(), vendor.callers(""));
    let patchbay = vendor.proxy_with(keys, &lines);
    let account = ("authorization", "Bearer giga-user-bob:user-hush");
    assert_eq!(ask(&patchbay, &[account]).status, 401, "an account is no key");
    assert!(vendor.state().shown.is_empty());
    assert_eq!(ask(&patchbay, &[account, ("x-api-key", "client-secret")]).status, 200);
    let shown = vendor.state().shown.last().unwrap().clone();
    assert!(tokens_of(&vendor, &basic("bob", "user-hush")).contains(&shown));
    assert_eq!(bring(&patchbay, "client-secret").status, 200);
    let shown = vendor.state().shown.last().unwrap().clone();
    assert!(tokens_of(&vendor, KEY).contains(&shown));
    // Without `callers` it is a key like any other, and none goes anywhere.
    let patchbay = vendor.proxy(&vendor.key());
    assert_eq!(bring(&patchbay, "giga-user-eve:user-hush").status, 200);
    assert_eq!(vendor.state().asked_for(&basic("eve", "user-hush")), 0);
}

#[test]
fn more_callers_than_the_table_holds_are_served_in_turn() {
    let vendor = Vendor::start();
    let lines = format!("{}\n{}", vendor.key(), vendor.callers(", max = 2"));
    let patchbay = vendor.proxy(&lines);
    wait_for("the server's token", || (vendor.state().asked_for(KEY) == 1).then_some(()));
    // All at once while nobody gets a token: two are in the table, the others wait for a place.
    vendor.state().open = false;
    let mut clients: Vec<_> = (0..7).map(|_| patchbay.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let account = format!("Bearer giga-user-u{number}:user-hush");
        let fields = [("authorization", account.as_str())];
        client.send_post("/v1/responses", &fields, &responses_request("hi", true));
    }
    wait_for("two fetches", || (vendor.state().asked.len() == 3).then_some(()));
    vendor.open();
    for client in &mut clients {
        let got = client.reply();
        assert_eq!(got.status, 200, "{got:?}");
    }
    let mut shown = HashSet::new();
    for number in 0..7 {
        let theirs = tokens_of(&vendor, &basic(&format!("u{number}"), "user-hush"));
        assert!(!theirs.is_empty());
        shown.extend(theirs);
    }
    assert!(vendor.state().shown.iter().all(|it| shown.contains(it)), "nobody had another's token");
    // The last ones are in the table still, the first ones are not.
    let asked = vendor.state().asked.len();
    for _ in 0..3 {
        assert_eq!(bring(&patchbay, "giga-user-u0:user-hush").status, 200);
    }
    assert!(vendor.state().asked.len() <= asked + 1);
}
