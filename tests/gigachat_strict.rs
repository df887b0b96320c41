//! Agents on a GigaChat that is as strict as the real one, over TLS with a root of its own, with
//! tokens that hardly live: many sessions at once, no failure, and one refresh for each expiry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use patchbay::mock::script::Script;
use patchbay::mock::{GigaChat, Options, Server, Wire};
use patchbay::proxy::transport::TlsTable;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Patchbay, Reply};

/// How long a token lives, and for how long at least it is used: the next one is asked for a tenth
/// earlier.
const LIFETIME: Duration = Duration::from_secs(1);
const USED: Duration = Duration::from_millis(900);
/// Turns of a session; each takes the upstream so long that the session outlives some tokens.
const TURNS: usize = 10;
const TURN_MS: usize = 600;
/// Sessions that begin at once; the next ones when those are through their first turn. Else most of
/// what is seen is how long a hundred TLS handshakes take a machine that has other things to do.
const BEGIN_MAX: usize = 20;
/// `patch:bay` and its authorization key.
const ACCOUNT: &str = "patch:bay";
const KEY: &str = "cGF0Y2g6YmF5";
/// A caller with an account of its own, and the key of that.
const CALLER: &str = "anna:pw";
const CALLER_KEY: &str = "YW5uYTpwdw==";

/// Sessions at once.
fn sessions() -> usize {
    std::env::var("PATCHBAY_TEST_SESSIONS").map_or(100, |text| text.parse().unwrap())
}

/// The scripted GigaChat, with the certificate of a root that nobody knows; and that root.
fn gigachat(lifetime: Duration) -> (Server, String) {
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new([]).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(root, root_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
    let table = TlsTable::new(&[]).unwrap();
    table.set_server(leaf.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let gigachat = GigaChat {
        accounts: vec![ACCOUNT.to_owned(), CALLER.to_owned()],
        scope: Some("GIGACHAT_API_PERS".to_owned()),
        token_lifetime: lifetime,
        ..GigaChat::default()
    };
    let tls = Some(Arc::new(table));
    let options = Options { wire: Some(Wire::GigaChat), gigachat, tls, ..Options::default() };
    (Server::start(&options).unwrap(), root_pem)
}

fn counters(server: &Server) -> Value {
    serde_json::from_slice::<Value>(&server.counters()).unwrap()["gigachat"].clone()
}

/// A proxy with the account; `more` is of the provider.
fn proxy(server: &Server, root: &str, folder: &Path, more: &str) -> Patchbay {
    let host = format!("https://{}", server.address());
    std::fs::write(folder.join("root.pem"), root).unwrap();
    let config = folder.join("patchbay.toml");
    let text = format!(
        r#"
[providers.gigachat]
dialect = "gigachat"
url = "{host}/api/v1"
ca_file = "root.pem"
credential = {{ kind = "client-credentials", env = "GIGACHAT_CREDENTIALS", scope = "GIGACHAT_API_PERS", token_url = "{host}/api/v2/oauth" }}
{more}
[[routes]]
model = "*"
provider = "gigachat"
"#
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.args(["serve", "--workers", "2", "--config"]).arg(config);
    command.env("GIGACHAT_CREDENTIALS", KEY);
    Patchbay::spawn(command)
}

/// What an answer says: its text, and its calls' ids and arguments.
#[derive(Debug, Default)]
struct Said {
    text: String,
    calls: Vec<(String, String)>,
    end: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn documents(reply: &Reply) -> Vec<Value> {
    let events = reply.events();
    let documents = events.iter().filter(|data| *data != "[DONE]");
    documents.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// One agent, which speaks Chat Completions or Responses.
struct Session {
    is_chat: bool,
    history: Vec<Value>,
}

impl Session {
    fn new(is_chat: bool) -> Self {
        let role = if is_chat { "system" } else { "developer" };
        Self { is_chat, history: vec![json!({"role": role, "content": "You are an agent."})] }
    }

    fn path(&self) -> &'static str {
        if self.is_chat { "/v1/chat/completions" } else { "/v1/responses" }
    }

    fn say(&mut self, role: &str, words: &str) {
        self.history.push(json!({"role": role, "content": words}));
    }

    fn body(&self, script: &str, stream: bool) -> String {
        // Not what GigaChat takes as it is.
        let parameters = json!({"type": "object", "additionalProperties": false,
            "properties": {"call": {"type": ["integer", "null"]}, "text": {"minLength": 1}}});
        let mut body =
            json!({"model": format!("mock:{script}"), "stream": stream, "temperature": 0});
        if self.is_chat {
            body["messages"] = json!(self.history);
            let function = json!({"name": "look", "parameters": parameters, "strict": true});
            body["tools"] = json!([{"type": "function", "function": function}]);
        } else {
            body["input"] = json!(self.history);
            body["tools"] = json!([{"type": "function", "name": "look", "parameters": parameters}]);
        }
        body.to_string()
    }

    fn read(&self, reply: &Reply, stream: bool) -> Said {
        assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
        match (self.is_chat, stream) {
            (true, true) => chat_stream(reply),
            (true, false) => chat_document(&reply.json()),
            (false, true) => {
                let last = documents(reply).pop().unwrap();
                responses_document(&last["response"])
            }
            (false, false) => responses_document(&reply.json()),
        }
    }

    /// Keeps an answer, and what came of its calls. With `parallel`, there was one call more.
    fn keep(&mut self, said: &Said, turn: usize, parallel: bool) {
        let mut calls = said.calls.clone();
        if parallel && !calls.is_empty() {
            calls.push((format!("call_own_{turn}"), "{\"call\":7}".to_owned()));
        }
        let words = &said.text;
        if self.is_chat {
            let mut message = json!({"role": "assistant", "content": words});
            let listed = calls.iter().map(|(id, arguments)| {
                let function = json!({"name": "look", "arguments": arguments});
                json!({"id": id, "type": "function", "function": function})
            });
            if !calls.is_empty() {
                message["tool_calls"] = listed.collect();
            }
            self.history.push(message);
            let results = calls.iter().map(|(id, _)| {
                json!({"role": "tool", "tool_call_id": id, "content": format!("result of {id}")})
            });
            self.history.extend(results);
        } else {
            let content = json!([{"type": "output_text", "text": words}]);
            self.history.push(json!({"type": "message", "role": "assistant", "content": content}));
            self.history.extend(calls.iter().map(|(id, arguments)| {
                json!({"type": "function_call", "call_id": id, "name": "look",
                    "arguments": arguments})
            }));
            self.history.extend(calls.iter().map(|(id, _)| {
                json!({"type": "function_call_output", "call_id": id,
                    "output": format!("result of {id}")})
            }));
        }
    }
}

fn chat_stream(reply: &Reply) -> Said {
    let mut said = Said::default();
    assert_eq!(reply.events().last().map(String::as_str), Some("[DONE]"));
    for chunk in documents(reply) {
        let choice = &chunk["choices"][0];
        said.text += &text(&choice["delta"]["content"]);
        said.end += &text(&choice["finish_reason"]);
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            if call["id"].is_string() {
                said.calls.push((text(&call["id"]), String::new()));
            }
            said.calls.last_mut().unwrap().1 += &text(&call["function"]["arguments"]);
        }
    }
    said
}

fn chat_document(answer: &Value) -> Said {
    let message = &answer["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        text: text(&message["content"]),
        calls: calls
            .map(|call| (text(&call["id"]), text(&call["function"]["arguments"])))
            .collect(),
        end: text(&answer["choices"][0]["finish_reason"]),
    }
}

fn responses_document(response: &Value) -> Said {
    let mut said = Said { end: text(&response["status"]), ..Said::default() };
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str() {
            Some("message") => said.text += &text(&item["content"][0]["text"]),
            Some("function_call") => {
                said.calls.push((text(&item["call_id"]), text(&item["arguments"])));
            }
            _ => panic!("{item}"),
        }
    }
    said
}

/// A session: text, a call, its result (beside that of a parallel one), and so on. It tells `begun`
/// when it is through its first turn.
fn run(proxy: SocketAddr, index: usize, begun: &Sender<()>) {
    let mut session = Session::new(index.is_multiple_of(2));
    let mut client = Client::connect(proxy);
    for turn in 0..TURNS {
        let calls = u32::from(turn % 3 == 1);
        // The last turn's results ask for an answer, too.
        if turn % 3 != 2 {
            session.say("user", &format!("turn {turn} of {index}"));
        } else if index.is_multiple_of(4) {
            session.say("developer", "Mind the results.");
        }
        let deltas = 8;
        let pace = TURN_MS / deltas;
        let text = format!("deltas={deltas},bytes=12,seed={index},calls={calls},pace={pace}ms");
        let script: Script = text.parse().unwrap();
        let stream = !(turn + index / 2).is_multiple_of(3);
        client.send_post(session.path(), &[], &session.body(&text, stream));
        let said = session.read(&client.reply(), stream);
        assert_eq!(said.text, script.whole_text(), "turn {turn} of {index}");
        let end = match (session.is_chat, calls) {
            (true, 0) => "stop",
            (true, _) => "tool_calls",
            (false, _) => "completed",
        };
        assert_eq!((said.end.as_str(), said.calls.len()), (end, calls as usize));
        for (_, arguments) in &said.calls {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(arguments), parse(&script.arguments(0).concat()));
        }
        session.keep(&said, turn, index % 8 < 4);
        if turn == 0 {
            begun.send(()).unwrap();
        }
    }
}

#[test]
fn sessions_outlive_their_tokens_and_do_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let (server, root) = gigachat(LIFETIME);
    let proxy = proxy(&server, &root, folder.path(), "");
    let (address, count, start) = (proxy.address, sessions(), Instant::now());
    let (sender, begun) = channel();
    let mut threads = Vec::new();
    for index in 0..count {
        if index >= BEGIN_MAX && begun.recv_timeout(PATIENCE).is_err() {
            break;
        }
        let sender = sender.clone();
        threads.push(thread::spawn(move || run(address, index, &sender)));
    }
    assert_eq!(threads.len(), count, "sessions do not begin; the proxy says: {}", proxy.log());
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "sessions failed; the proxy says: {}", proxy.log());

    let seen = counters(&server);
    let refused = seen["refusals"].as_object().unwrap();
    // A token may expire on the way; nothing else is ever refused.
    assert!(refused.keys().all(|reason| reason == "expired_token"), "{seen}");
    let expired = refused.get("expired_token").and_then(Value::as_u64).unwrap_or(0);
    let account = &seen["accounts"]["patch"];
    let (tokens, requests) = (account["tokens"].as_u64().unwrap(), account["requests"].as_u64());
    assert_eq!(requests, Some((count * TURNS) as u64), "{seen}");
    let lifetimes = start.elapsed().as_millis().div_ceil(USED.as_millis());
    assert!(tokens >= 2, "the sessions took longer than a token lives: {seen}");
    assert!(u128::from(tokens) <= lifetimes + 2, "{tokens} in {lifetimes} lifetimes: {seen}");
    println!("{tokens} tokens in {lifetimes} lifetimes, {expired} refused as expired");
    assert!(!proxy.log().contains(KEY) && !proxy.log().contains("mock-token"));
}

#[test]
fn a_callers_mistake_is_the_callers_and_never_paid_by_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (server, root) = gigachat(Duration::from_secs(600));
    let proxy = proxy(&server, &root, folder.path(), "callers = { enabled = true }");
    let post = |path: &str, bearer: &str| {
        let mut client = Client::connect(proxy.address);
        let bearer = format!("Bearer {bearer}");
        let session = Session::new(path == "/v1/chat/completions");
        let body = session.body("deltas=3", path == "/v1/responses");
        client.send_post(path, &[("authorization", &bearer)], &body);
        client.reply()
    };
    for path in ["/v1/chat/completions", "/v1/responses"] {
        // There is no `bob`, whose key would be the last one.
        for (kind, secret) in [("user", "bob:no"), ("auth", "mock-token-99"), ("cred", "Ym9iOm5v")]
        {
            let reply = post(path, &format!("giga-{kind}-{secret}"));
            assert_eq!(reply.status, 401, "{kind}: {}", reply.text());
            assert!(!reply.text().contains(secret), "{}", reply.text());
            assert!(!proxy.log().contains(secret), "{}", proxy.log());
        }
    }
    let owner = |name: &str| counters(&server)["accounts"][name]["requests"].clone();
    assert!(matches!(owner("patch").as_u64(), None | Some(0)), "the server's account was used");
    let key = format!("giga-cred-{CALLER_KEY}:GIGACHAT_API_PERS");
    for good in ["giga-user-anna:pw", &key] {
        assert_eq!(post("/v1/responses", good).status, 200, "{good}");
    }
    assert!(matches!(owner("patch").as_u64(), None | Some(0)), "the server's account was used");
    assert_eq!(owner("anna"), 2);
    // Who brings nothing of GigaChat's is served with the server's account.
    assert_eq!(post("/v1/chat/completions", "sk-any").status, 200);
    assert_eq!((owner("patch"), owner("anna")), (json!(1), json!(2)));
}
