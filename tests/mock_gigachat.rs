//! The scripted GigaChat is as strict as the real one: tokens, requests, files, embeddings.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use patchbay::mock::{GigaChat, Options, Server, Wire, read_scenes};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Client, Reply, wait_for};

const ANSWER: &str = "/api/v1/chat/completions";
const OAUTH: &str = "/api/v2/oauth";
const SCOPE: &str = "scope=GIGACHAT_API_PERS";
const RQUID: (&str, &str) = ("rquid", "6f0b1291-c7f3-43c6-bb2e-9f3efb2dc98e");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
/// `mock:mock` and `anna:pw`
const MOCK: (&str, &str) = ("authorization", "Basic bW9jazptb2Nr");
const ANNA: (&str, &str) = ("authorization", "Basic YW5uYTpwdw==");

fn start(gigachat: GigaChat) -> Server {
    Server::start(&Options { wire: Some(Wire::GigaChat), gigachat, ..Options::default() }).unwrap()
}

/// Sends a request with exactly these fields.
fn send(server: &Server, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut client = Client::connect(server.address());
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    client.send(&[head.as_bytes(), b"\r\n", body].concat());
    client.reply()
}

/// A reply's status and document.
fn told(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json())
}

fn oauth(server: &Server, key: (&str, &str)) -> (String, u64) {
    let (status, body) = told(&send(server, OAUTH, &[RQUID, FORM, key], SCOPE.as_bytes()));
    assert_eq!(status, 200, "{body}");
    (body["access_token"].as_str().unwrap().to_owned(), body["expires_at"].as_u64().unwrap())
}

/// Who has a token.
struct User<'s> {
    server: &'s Server,
    bearer: String,
}

impl<'s> User<'s> {
    fn new(server: &'s Server, key: (&str, &str)) -> Self {
        Self { server, bearer: format!("Bearer {}", oauth(server, key).0) }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let fields = [("authorization", self.bearer.as_str())];
        told(&send(self.server, path, &fields, body.to_string().as_bytes()))
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let mut client = Client::connect(self.server.address());
        let bearer = &self.bearer;
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: {bearer}\r\n\r\n");
        client.send(head.as_bytes());
        told(&client.reply())
    }

    fn upload(&self, parts: &[&str]) -> (u16, Value) {
        let form = parts.iter().map(|part| format!("--cut\r\n{part}\r\n")).collect::<String>();
        let fields = [
            ("authorization", &*self.bearer),
            ("content-type", "multipart/form-data; boundary=cut"),
        ];
        told(&send(self.server, "/api/v1/files", &fields, (form + "--cut--\r\n").as_bytes()))
    }
}

const PURPOSE: &str = "content-disposition: form-data; name=\"purpose\"\r\n\r\ngeneral";

fn image(name: &str) -> String {
    format!(
        "content-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         content-type: image/png\r\n\r\nnot really"
    )
}

fn counters(server: &Server) -> Value {
    let mut client = Client::connect(server.address());
    client.send_get("/counters");
    client.reply().json()["gigachat"].clone()
}

fn request() -> Value {
    json!({"model": "GigaChat-2-Max", "messages": [{"role": "user", "content": "hello"}]})
}

fn with_function() -> Value {
    let mut body = request();
    body["functions"] = json!([{"name": "look", "description": "Looks.", "parameters":
        {"type": "object", "properties": {"path": {"type": "string", "description": ""}}}}]);
    body["function_call"] = json!("auto");
    body
}

#[test]
fn tokens_are_for_those_who_ask_properly() {
    let server = start(GigaChat::default());
    let mut tokens = HashSet::new();
    for _ in 0..2 {
        let (token, expires_at) = oauth(&server, MOCK);
        assert!(tokens.insert(token));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!((1_700_000..=1_800_000).contains(&(u128::from(expires_at) - now)));
    }
    let json = ("content-type", "application/json");
    let version_1 = ("rquid", "6f0b1291-c7f3-13c6-bb2e-9f3efb2dc98e");
    let no_pair = ("authorization", "Basic bW9jaw==");
    for (fields, body, status, code) in [
        (&[RQUID, FORM][..], SCOPE, 401, 4),
        (&[RQUID, FORM, ("authorization", "Bearer bW9jazptb2Nr")], SCOPE, 401, 4),
        (&[RQUID, FORM, no_pair], SCOPE, 401, 4),
        (&[FORM, MOCK], SCOPE, 400, 1),
        (&[("rquid", "1"), FORM, MOCK], SCOPE, 400, 1),
        (&[version_1, FORM, MOCK], SCOPE, 400, 1),
        (&[RQUID, FORM, MOCK], "", 400, 5),
        (&[RQUID, FORM, MOCK], "scope=", 400, 5),
        (&[RQUID, json, MOCK], SCOPE, 400, 5),
        (&[RQUID, FORM, MOCK], "scope=GIGACHAT_API", 400, 7),
    ] {
        let (got, body) = told(&send(&server, OAUTH, fields, body.as_bytes()));
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{fields:?} {body}");
        assert!(body["message"].is_string(), "{body}");
    }
    let seen = counters(&server);
    assert_eq!(seen["refusals"], json!({"account": 3, "request_id": 3, "scope": 4}));
    assert_eq!((&seen["tokens"], &seen["accounts"]["mock"]["tokens"]), (&json!(2), &json!(2)));
    assert!(!seen.to_string().contains("bW9jazptb2Nr"), "no secret is shown: {seen}");
}

#[test]
fn only_named_accounts_have_tokens_where_some_are_named() {
    let accounts = vec!["anna:pw".to_owned()];
    let scope = Some("GIGACHAT_API_B2B".to_owned());
    let server = start(GigaChat { accounts, scope, ..GigaChat::default() });
    let ask = |key, scope: &str| send(&server, OAUTH, &[RQUID, FORM, key], scope.as_bytes());
    assert_eq!(ask(ANNA, "scope=GIGACHAT_API_B2B").status, 200);
    assert_eq!(told(&ask(ANNA, SCOPE)).1["code"], 7);
    let (status, body) = told(&ask(MOCK, "scope=GIGACHAT_API_B2B"));
    assert_eq!((status, &body["code"]), (401, &json!(6)));
    // User and password have an endpoint of their own.
    let (status, body) = told(&send(&server, "/api/v1/token", &[ANNA], b""));
    assert!(status == 200 && body["tok"].is_string(), "{body}");
    assert!(body["exp"].as_u64().unwrap() < 100_000_000_000, "seconds: {body}");
    let token = format!("Bearer {}", body["tok"].as_str().unwrap());
    let user = User { server: &server, bearer: token };
    assert_eq!(user.post("/v1/chat/completions", &request()).0, 200);
    for fields in [&[MOCK][..], &[]] {
        let refused = told(&send(&server, "/api/v1/token", fields, b""));
        assert_eq!(refused, (401, json!({"status": 401, "message": "Unauthorized"})));
    }
    let accounts = &counters(&server)["accounts"];
    assert_eq!(accounts, &json!({"anna": {"tokens": 2, "requests": 1, "uploads": 0}}));
}

#[test]
fn nothing_is_told_without_a_token_that_lives() {
    let token_lifetime = Duration::from_millis(300);
    let access_tokens = vec!["ready".to_owned()];
    let server = start(GigaChat { token_lifetime, access_tokens, ..GigaChat::default() });
    let unauthorized = (401, json!({"status": 401, "message": "Unauthorized"}));
    for path in [ANSWER, "/api/v1/embeddings", "/api/v1/files"] {
        for fields in [&[][..], &[("authorization", "Bearer mock-token-1")], &[MOCK]] {
            let refused = send(&server, path, fields, request().to_string().as_bytes());
            assert_eq!(told(&refused), unauthorized, "{path}");
        }
    }
    let mut client = Client::connect(server.address());
    client.send_get("/api/v1/models");
    assert_eq!(told(&client.reply()), unauthorized);

    // A busy machine may take longer than a token lives.
    let user = wait_for("a request in time", || {
        let user = User::new(&server, MOCK);
        (user.post(ANSWER, &request()).0 == 200).then_some(user)
    });
    let expired = wait_for("the token to expire", || {
        let (status, body) = user.post(ANSWER, &request());
        (status != 200).then_some((status, body))
    });
    assert_eq!(expired, (401, json!({"status": 401, "message": "Token has expired"})));
    let ready = User { server: &server, bearer: "bearer ready".to_owned() };
    assert_eq!(ready.post(ANSWER, &request()).0, 200);
    let refusals = &counters(&server)["refusals"];
    assert!(refusals["expired_token"].as_u64() >= Some(1));
    assert_eq!((&refusals["unknown_token"], &refusals["no_token"]), (&json!(3), &json!(7)));
}

/// A change of a body, its status, and the reason that is counted.
type Wrong = (&'static str, Value, u16, &'static str);

fn refuses(wrong: &[Wrong], usual: &Value) {
    let server = start(GigaChat::default());
    let user = User::new(&server, MOCK);
    assert_eq!(user.post(ANSWER, usual).0, 200);
    for (pointer, value, status, reason) in wrong {
        let before = counters(&server)["refusals"][reason].as_u64().unwrap_or(0);
        let mut body = usual.clone();
        if let Some(place) = body.pointer_mut(pointer) {
            *place = value.clone();
        } else {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        let (got, told) = user.post(ANSWER, &body);
        assert_eq!((got, &told["status"]), (*status, &json!(status)), "{pointer} {value} {told}");
        assert!(told["message"].is_string() && told.as_object().unwrap().len() == 2, "{told}");
        let seen = counters(&server);
        assert_eq!(seen["refusals"][reason], before + 1, "{pointer} {value}: {seen}");
    }
}

#[test]
fn settings_outside_their_bounds_are_refused() {
    refuses(
        &[
            ("/model", json!("GigaChat-3"), 404, "unknown_model"),
            ("/model", json!("EmbeddingsGigaR"), 404, "unknown_model"),
            ("/model", json!(null), 422, "type"),
            ("/temperature", json!(0), 400, "temperature"),
            ("/temperature", json!(-0.5), 400, "temperature"),
            ("/temperature", json!("1"), 422, "type"),
            ("/top_p", json!(-0.1), 400, "top_p"),
            ("/top_p", json!(1.1), 400, "top_p"),
            ("/max_tokens", json!(0), 400, "max_tokens"),
            ("/max_tokens", json!(-1), 422, "type"),
            ("/repetition_penalty", json!(0), 400, "repetition_penalty"),
            ("/update_interval", json!(-1), 400, "update_interval"),
            ("/reasoning_effort", json!("xhigh"), 400, "effort"),
            ("/reasoning_effort", json!("minimal"), 400, "effort"),
            ("/response_format", json!({}), 422, "type"),
            ("/response_format", json!({"type": "json_object"}), 422, "format"),
            ("/response_format", json!({"type": "json_schema"}), 422, "format"),
            ("/stop", json!(["x"]), 422, "unknown_member"),
            ("/tools", json!([]), 422, "unknown_member"),
            ("/stream_options", json!({}), 422, "unknown_member"),
            ("/storage", json!({"ttl": 1}), 422, "unknown_member"),
        ],
        &request(),
    );
}

#[test]
fn conversations_that_it_cannot_follow_are_refused() {
    let call = json!({"name": "look", "arguments": {"path": "a"}});
    let mut usual = request();
    usual["messages"] = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "", "function_call": call, "functions_state_id": "s"},
        {"role": "function", "name": "look", "content": "{\"result\": 1}"},
    ]);
    refuses(
        &[
            ("/messages", json!([]), 422, "no_messages"),
            ("/messages", json!("hello"), 422, "type"),
            ("/messages/1/role", json!("system"), 422, "system_message"),
            ("/messages/3", json!({"role": "system", "content": "x"}), 422, "system_message"),
            ("/messages/1/role", json!("tool"), 422, "type"),
            ("/messages/1/role", json!("developer"), 422, "type"),
            ("/messages/1/content", json!([{"type": "text", "text": "x"}]), 422, "type"),
            ("/messages/1/content", json!(null), 422, "no_content"),
            ("/messages/1/tool_call_id", json!("x"), 422, "unknown_member"),
            ("/messages/1/function_call", call.clone(), 422, "call"),
            ("/messages/2/tool_calls", json!([]), 422, "unknown_member"),
            ("/messages/2/function_call", json!([call, call]), 422, "type"),
            ("/messages/2/function_call/arguments", json!("{}"), 422, "type"),
            ("/messages/2/function_call/arguments", json!([]), 422, "type"),
            ("/messages/2/function_call/id", json!("x"), 422, "unknown_member"),
            ("/messages/2/function_call", json!(null), 422, "result"),
            ("/messages/2/function_call/name", json!("other"), 422, "result"),
            ("/messages/3/name", json!(null), 422, "result"),
            ("/messages/3/content", json!("a.txt"), 422, "result"),
            ("/messages/3/content", json!("[1]"), 422, "result"),
            ("/messages/3/content", json!(""), 422, "result"),
            ("/messages/1/attachments", json!(["x"]), 404, "unknown_file"),
        ],
        &usual,
    );
}

#[test]
fn functions_that_it_does_not_understand_are_refused() {
    refuses(
        &[
            ("/function_call", json!(null), 422, "no_function_call"),
            ("/function_call", json!("required"), 422, "function_call"),
            ("/function_call", json!({"name": "other"}), 422, "function_call"),
            ("/function_call", json!({"name": "look", "x": 1}), 422, "function_call"),
            ("/functions/0/name", json!("a b"), 422, "function_name"),
            ("/functions/0/name", json!("n".repeat(65)), 422, "function_name"),
            ("/functions/0/strict", json!(true), 422, "unknown_member"),
            ("/functions/0/parameters", json!({"type": "string"}), 422, "schema"),
            ("/functions/0/parameters/additionalProperties", json!(false), 422, "schema"),
            ("/functions/0/parameters/properties/path/format", json!("uri"), 422, "schema"),
            ("/functions/0/parameters/properties/path/type", json!(["string"]), 422, "schema"),
            ("/functions/0/few_shot_examples", json!([{"request": "x"}]), 422, "type"),
        ],
        &with_function(),
    );
    let mut twice = with_function();
    let one = twice["functions"][0].clone();
    twice["functions"] = json!([one, one]);
    let server = start(GigaChat::default());
    assert_eq!(User::new(&server, MOCK).post(ANSWER, &twice).0, 422);
}

#[test]
fn a_body_must_be_json_once_over_and_of_bounded_size() {
    let server = start(GigaChat::default());
    let user = User::new(&server, MOCK);
    let fields = [("authorization", user.bearer.as_str())];
    let large = format!("{{\"model\":\"{}\"}}", "x".repeat(20 << 20));
    for (body, status, reason) in [
        (&b"{"[..], 400, "json"),
        (b"\xff", 400, "json"),
        (b"[]", 422, "type"),
        (br#"{"model":"GigaChat","model":"GigaChat-2"}"#, 422, "twice"),
        (
            br#"{"model":"GigaChat","messages":[{"role":"assistant","content":"",
                "function_call":{"name":"a","arguments":{}},
                "function_call":{"name":"a","arguments":{}}}]}"#,
            422,
            "twice",
        ),
        (large.as_bytes(), 413, "too_large"),
    ] {
        let (got, told) = told(&send(&server, ANSWER, &fields, body));
        assert_eq!((got, &told["status"]), (status, &json!(status)), "{told}");
        assert!(counters(&server)["refusals"][reason].is_u64(), "{reason}");
    }
}

#[test]
fn nothing_is_called_that_must_not_be() {
    let server = start(GigaChat::default());
    let user = User::new(&server, MOCK);
    let name = |choice: Value, script: &str| {
        let mut body = with_function();
        let mut other = body["functions"][0].clone();
        other["name"] = json!("other");
        body["functions"].as_array_mut().unwrap().push(other);
        body["function_call"] = choice;
        body["model"] = json!(format!("mock:{script}"));
        let (status, reply) = user.post(ANSWER, &body);
        assert_eq!(status, 200, "{reply}");
        let choice = &reply["choices"][0];
        let name = choice["message"]["function_call"]["name"].clone();
        assert_eq!(choice["finish_reason"] == "function_call", !name.is_null(), "{reply}");
        name
    };
    assert_eq!(name(json!("auto"), "calls=1"), "look");
    assert_eq!(name(json!("auto"), "deltas=1"), Value::Null);
    assert_eq!(name(json!("none"), "calls=1"), Value::Null);
    assert_eq!(name(json!({"name": "other"}), "deltas=0"), "other");
    let mut body = request();
    body["model"] = json!("mock:calls=1");
    assert_eq!(user.post(ANSWER, &body).1["choices"][0]["finish_reason"], "stop");
}

#[test]
fn files_belong_to_their_account() {
    let server = start(GigaChat::default());
    let (mock, anna) = (User::new(&server, MOCK), User::new(&server, ANNA));
    let (status, file) = mock.upload(&[&image("a.png"), PURPOSE]);
    assert_eq!(status, 200, "{file}");
    let id = file["id"].as_str().unwrap();
    let expected = json!({"id": id, "object": "file", "bytes": 10, "filename": "a.png",
        "created_at": file["created_at"], "purpose": "general", "access_policy": "private"});
    assert_eq!(file, expected);
    let mut body = request();
    body["messages"][0]["attachments"] = json!([id]);
    assert_eq!(mock.post(ANSWER, &body).0, 200);
    assert_eq!(anna.post(ANSWER, &body).0, 404);
    assert_eq!(mock.get(&format!("/api/v1/files/{id}")), (200, file.clone()));
    assert_eq!(anna.get(&format!("/api/v1/files/{id}")).0, 404);
    assert_eq!(mock.get("/v1/files").1, json!({"data": [file]}));
    assert_eq!(counters(&server)["attachments"], 1);

    let (_, second) = mock.upload(&[PURPOSE, &image("b.png")]);
    body["messages"][0]["attachments"] = json!([id, second["id"]]);
    let (status, told) = mock.post(ANSWER, &body);
    assert!(status == 400 && told["message"].as_str().unwrap().contains("1 image"), "{told}");
    let turn = json!({"role": "user", "content": "", "attachments": [id]});
    body["messages"] = json!(vec![turn.clone(); 10]);
    assert_eq!(mock.post(ANSWER, &body).0, 200);
    body["messages"] = json!(vec![turn; 11]);
    assert_eq!(mock.post(ANSWER, &body).0, 400);

    // The same body again, when the file is gone.
    body["messages"] = json!([{"role": "user", "content": "x", "attachments": [id]}]);
    assert_eq!(mock.post(ANSWER, &body).0, 200);
    assert_eq!(anna.post(&format!("/api/v1/files/{id}/delete"), &json!({})).0, 404);
    assert_eq!(mock.post(&format!("/api/v1/files/{id}/delete"), &json!({})).0, 200);
    assert_eq!(mock.post(ANSWER, &body).0, 404);
}

#[test]
fn uploads_that_are_no_files_are_refused() {
    let server = start(GigaChat::default());
    let user = User::new(&server, MOCK);
    let empty = image("a.png").replace("not really", "");
    let untyped = image("a.png").replace("content-type: image/png\r\n", "");
    let large = image("a.png") + &"x".repeat(15 << 20);
    for (parts, status) in [
        (&[&*image("a.png")][..], 400),
        (&[PURPOSE], 400),
        (&[&*image("a.png"), &PURPOSE.replace("general", "vision")], 400),
        (&[&*image(""), PURPOSE], 400),
        (&[&*empty, PURPOSE], 400),
        (&[&*untyped, PURPOSE], 400),
        (&[&*large, PURPOSE], 413),
    ] {
        assert_eq!(user.upload(parts).0, status);
    }
    assert_eq!(user.post("/api/v1/files", &json!({"file": "x"})).0, 400);
    let seen = counters(&server);
    assert_eq!((&seen["uploads"], &seen["refusals"]["upload"]), (&json!(0), &json!(8)));
}

#[test]
fn models_and_embeddings_are_of_their_kind() {
    let server = start(GigaChat::default());
    let user = User::new(&server, MOCK);
    let (_, models) = user.get("/api/v1/models");
    let kinds: Vec<(&str, &str)> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| (model["id"].as_str().unwrap(), model["type"].as_str().unwrap()))
        .collect();
    assert!(kinds.contains(&("GigaChat-2-Max", "chat")), "{kinds:?}");
    assert!(kinds.contains(&("EmbeddingsGigaR", "embedder")), "{kinds:?}");
    assert_eq!(models["data"][0]["owned_by"], "salutedevices");
    assert_eq!(user.get("/api/v1/models/GigaChat-2").1["type"], "chat");
    assert_eq!(user.get("/v1/models/none").0, 404);

    let body = json!({"model": "EmbeddingsGigaR", "input": ["a", "b c", "a"]});
    let (status, told) = user.post("/api/v1/embeddings", &body);
    assert_eq!((status, &told["model"]), (200, &json!("EmbeddingsGigaR")));
    let data = told["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    assert!(data[0]["embedding"] == data[2]["embedding"]);
    assert!(data[0]["embedding"] != data[1]["embedding"]);
    assert_eq!((&data[1]["index"], &data[1]["usage"]["prompt_tokens"]), (&json!(1), &json!(2)));
    for (key, value, status) in [
        ("model", json!("GigaChat"), 404),
        ("input", json!("a"), 422),
        ("input", json!([]), 422),
        ("input", json!(["a", ""]), 422),
        ("encoding_format", json!("base64"), 422),
    ] {
        let mut wrong = body.clone();
        wrong[key] = value;
        assert_eq!(user.post("/api/v1/embeddings", &wrong).0, status, "{wrong}");
    }
    assert_eq!(counters(&server)["embeddings"], 3);
}

#[test]
fn a_scene_calls_as_it_is_told_and_then_speaks() {
    let scenes = read_scenes(
        r#"[{"when": "look", "calls": [{"name": "look", "arguments": {"path": "/"}}],
            "text": "I saw {results}, \"größe\" and {attachments} files."}]"#,
    )
    .unwrap();
    let options = Options { wire: Some(Wire::GigaChat), scenes, ..Options::default() };
    let server = Server::start(&options).unwrap();
    let user = User::new(&server, MOCK);
    let mut body = with_function();
    body["messages"][0]["content"] = json!("please look");
    let call = user.post(ANSWER, &body).1["choices"][0]["message"].clone();
    let expected = json!({"name": "look", "arguments": {"path": "/"}});
    assert_eq!((&call["function_call"], &call["content"]), (&expected, &json!("")));
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(call);
    messages.push(json!({"role": "function", "name": "look", "content": "{\"result\":1}"}));
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let fields = [("authorization", user.bearer.as_str())];
        let reply = send(&server, ANSWER, &fields, body.to_string().as_bytes());
        let text = if stream {
            let events = reply.events();
            let chunks = events.iter().filter_map(|it| serde_json::from_str::<Value>(it).ok());
            chunks
                .map(|it| it["choices"][0]["delta"]["content"].as_str().unwrap().to_owned())
                .collect()
        } else {
            reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(text, "I saw {\"result\":1}, \"größe\" and 0 files.");
    }
    // Neighbours are one turn of the user's, as a message with two images is.
    body["messages"] =
        json!([{"role": "user", "content": "look"}, {"role": "user", "content": "x"}]);
    body["stream"] = json!(false);
    let (_, call) = user.post(ANSWER, &body);
    assert_eq!(call["choices"][0]["finish_reason"], "function_call");
    // Where no scene fits, the script answers.
    let (_, other) = user.post(ANSWER, &request());
    assert_eq!(other["usage"]["completion_tokens"], 16);
}
