//! Images for GigaChat, through the real binary: uploaded before the request, once, and named in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use patchbay::mock::{GigaChat, Options, Server, Wire as Script};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use support::{Patchbay, Received, Reply, Then, Upstream, Wire, reply, reply_stream};

const TEXT: &str = include_str!("golden/gigachat/text.sse");
/// `patch:bay` and its authorization key.
const ACCOUNT: &str = "patch:bay";
const KEY: &str = "cGF0Y2g6YmF5";
const PATH: &str = "/v1/chat/completions";

/// The files of a scripted GigaChat.
#[derive(Default)]
struct Files {
    /// What was uploaded; its id is `file-` and the index.
    uploaded: Vec<Vec<u8>>,
    /// So many of the first ones are not known any more.
    lost: usize,
    /// It forgets every file at once.
    forgetful: bool,
    /// Replies to uploads: status, content type and body, instead of an id.
    refusal: Option<(&'static str, &'static str, String)>,
}

impl Files {
    fn upload(&mut self, request: &Received) -> (String, String, String) {
        if let Some((status, kind, body)) = &self.refusal {
            return ((*status).to_owned(), (*kind).to_owned(), body.clone());
        }
        self.uploaded.push(file(request));
        if self.forgetful {
            self.lost = self.uploaded.len();
        }
        let body = json!({"id": format!("file-{}", self.uploaded.len() - 1), "object": "file"});
        ("200 OK".to_owned(), "application/json".to_owned(), body.to_string())
    }

    /// The first attachment of a request that is not there.
    fn missing(&self, body: &Value) -> Option<String> {
        let messages = body["messages"].as_array().unwrap();
        let ids = messages.iter().filter_map(|message| message["attachments"].as_array()).flatten();
        let mut ids = ids.map(|id| id.as_str().unwrap().to_owned());
        ids.find(|id| {
            let index: usize = id.strip_prefix("file-").unwrap().parse().unwrap();
            !(self.lost..self.uploaded.len()).contains(&index)
        })
    }
}

/// The file of a form as GigaChat wants it: its own name and `purpose=general`.
fn file(request: &Received) -> Vec<u8> {
    let kind = request.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    assert!(boundary.len() <= 70, "{boundary}");
    let find = |from: usize, what: &[u8]| {
        let rest = &request.body[from..];
        from + rest.windows(what.len()).position(|window| window == what).expect("a part")
    };
    let text = String::from_utf8_lossy(&request.body);
    assert!(text.contains("name=\"purpose\"\r\n\r\ngeneral\r\n"), "{text}");
    let at = find(0, b"name=\"file\"; filename=\"");
    let start = find(at, b"\r\n\r\n") + 4;
    let head = String::from_utf8_lossy(&request.body[at..start]).into_owned();
    let end = find(start, format!("\r\n--{boundary}--\r\n").as_bytes());
    let content = request.body[start..end].to_vec();
    let (extension, media) = if content.starts_with(b"\x89PNG") {
        (".png\"", "content-type: image/png")
    } else {
        (".jpg\"", "content-type: image/jpeg")
    };
    assert!(head.contains(extension) && head.contains(media), "{head}");
    content
}

/// A scripted GigaChat with a store of files.
fn upstream(files: &Arc<Mutex<Files>>) -> Upstream {
    let files = Arc::clone(files);
    Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        let mut files = files.lock().unwrap();
        if request.line == "POST /api/v1/files HTTP/1.1" {
            let (status, kind, body) = files.upload(request);
            reply(wire, &status, &kind, &body);
            return Then::Keep;
        }
        assert_eq!(request.line, "POST /api/v1/chat/completions HTTP/1.1");
        match files.missing(&request.json()) {
            Some(id) => {
                let body = json!({"status": 404, "message": format!("No such file: {id}")});
                reply(wire, "404 Not Found", "application/json", &body.to_string());
            }
            None => reply_stream(wire, TEXT),
        }
        Then::Keep
    })
}

fn proxy(upstream: &Upstream) -> Patchbay {
    let url = format!("http://{}/api/v1", upstream.address);
    Patchbay::for_upstream(&url, &["--upstream-dialect", "gigachat"])
}

/// One with a configuration file; `keys` are those of the provider.
fn configured(upstream: SocketAddr, keys: &str) -> Patchbay {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patchbay.toml");
    let text = format!(
        "[providers.up]\ndialect = \"gigachat\"\nurl = \"http://{}/api/v1\"\n{keys}\n\
         [[routes]]\nmodel = \"*\"\nprovider = \"up\"\n",
        upstream
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
    command.args(["serve", "--workers", "1", "--config"]).arg(&path);
    command.env("GIGACHAT_CREDENTIALS", KEY);
    Patchbay::spawn(command)
}

fn png(content: &[u8]) -> String {
    let content = [b"\x89PNG\r\n\x1a\n", content].concat();
    format!("data:image/png;base64,{}", STANDARD.encode(content))
}

/// A request that shows these images in one message.
fn request(urls: &[&str]) -> Value {
    let images = urls.iter().map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
    let mut parts = vec![json!({"type": "text", "text": "Look"})];
    parts.extend(images);
    json!({"model": "GigaChat-2-Max", "stream": true, "messages": [{"role": "user", "content": parts}]})
}

fn post(proxy: &Patchbay, body: &Value) -> Reply {
    proxy.post(PATH, &body.to_string())
}

/// The ids in a request's messages.
fn ids(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().unwrap();
    let lists = messages.iter().filter_map(|message| message["attachments"].as_array());
    lists.flatten().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn images_are_uploaded_once_and_named_where_they_stood() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    let (a, b) = (png(b"a"), png(b"b"));
    // The same image twice, one time with its base64 written otherwise.
    let bare = a.trim_end_matches('=').to_owned();
    let mut body = request(&[&a, &b, &bare]);
    let told = post(&proxy, &body);
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.text().contains("[DONE]"));
    for _ in 0..2 {
        let upload = upstream.next();
        assert_eq!(upload.header("authorization"), Some("Bearer upstream-secret"));
        assert_eq!(upload.header("accept"), Some("application/json"));
    }
    let first = upstream.next();
    assert_eq!(first.connection, 0, "one connection does");
    assert_eq!(ids(&first.json()), ["file-0", "file-1", "file-0"]);
    assert_eq!(first.json()["messages"][0]["content"], "Look");
    assert_eq!(first.json()["messages"].as_array().unwrap().len(), 3);
    // The next turn of the session has the same images and a new one.
    let c = png(b"c");
    body["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": "I see."}),
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": c}}]}),
    ]);
    assert_eq!(post(&proxy, &body).status, 200);
    assert!(upstream.next().line.contains("/files"));
    assert_eq!(ids(&upstream.next().json()), ["file-0", "file-1", "file-0", "file-2"]);
    assert_eq!(files.lock().unwrap().uploaded[2], b"\x89PNG\r\n\x1a\nc");
}

#[test]
fn an_image_of_a_tools_result_follows_it() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    // Large enough to be translated beside the worker, and sent in several turns.
    let large = png(&vec![7; 2 << 20]);
    let body = json!({"model": "GigaChat-2-Max", "stream": false, "input": [
        {"role": "user", "content": "What is in a.png?"},
        {"type": "function_call", "call_id": "c", "name": "view_image", "arguments": "{\"path\":\"a.png\"}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": large}]}],
        "tools": [{"type": "function", "name": "view_image", "parameters": {"type": "object"}}]});
    let told = proxy.post("/v1/responses", &body.to_string());
    assert_eq!((told.status, &told.json()["status"]), (200, &json!("completed")), "{told:?}");
    assert!(upstream.next().line.contains("/files"));
    assert_eq!(files.lock().unwrap().uploaded[0].len(), (2 << 20) + 8);
    let sent = upstream.next().json();
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages[2]["content"], "{\"result\":\"[image, see below]\"}");
    assert_eq!(
        messages[3],
        json!({"role": "user", "content": "[image of the above]",
        "attachments": ["file-0"]})
    );
}

#[test]
fn a_file_that_the_upstream_forgot_is_uploaded_again_once() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    let (a, b) = (png(b"a"), png(b"b"));
    assert_eq!(post(&proxy, &request(&[&a])).status, 200);
    files.lock().unwrap().lost = 1;
    let told = post(&proxy, &request(&[&a, &b]));
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(files.lock().unwrap().uploaded.len(), 3);
    let requests: Vec<Received> = (0..6).map(|_| upstream.next()).collect();
    let chats: Vec<_> = requests.iter().filter(|it| it.line.contains("/chat/")).collect();
    let named: Vec<_> = chats.iter().map(|chat| ids(&chat.json())).collect();
    assert_eq!(named, [vec!["file-0"], vec!["file-0", "file-1"], vec!["file-2", "file-1"]]);
    // One that is lost whenever it is named fails in the end.
    files.lock().unwrap().forgetful = true;
    files.lock().unwrap().lost = 3;
    let told = post(&proxy, &request(&[&a]));
    assert_eq!(told.status, 404, "{told:?}");
    assert_eq!(files.lock().unwrap().uploaded.len(), 4);
}

#[test]
fn an_upload_that_fails_is_told_with_its_status() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    let json = |text: &str| text.to_owned();
    for (status, body, expected, words) in [
        ("413 X", json(r#"{"status":413,"message":"File too big"}"#), 413, "File too big"),
        ("429 X", json(r#"{"status":429,"message":"Too many requests"}"#), 429, "Too many"),
        ("500 X", json("<html>"), 500, "image 1 of the request cannot be uploaded"),
        ("404 X", json(r#"{"status":404,"message":"No route"}"#), 404, "upload_images = false"),
        ("401 X", json(r#"{"status":401,"message":"Token has expired"}"#), 401, "expired"),
        ("200 OK", json("{}"), 502, "told no id"),
        ("200 OK", json(r#"{"id":"a/../b"}"#), 502, "told no id"),
        ("200 OK", json(r#"{"id":"a\"]}],\"model\":\"x"}"#), 502, "told no id"),
        ("200 OK", " ".repeat(70_000), 502, "more than 65536 bytes"),
        ("302 X", json(""), 502, "redirect"),
        ("204 X", json(""), 502, "no whole body"),
    ] {
        files.lock().unwrap().refusal = Some((status, "application/json", body));
        let told = post(&proxy, &request(&[&png(b"a")]));
        assert_eq!(told.status, expected, "{status} {told:?}");
        let message = told.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{status} {message}");
        assert!(upstream.next().line.contains("/files"));
    }
    // Nothing of these was remembered.
    files.lock().unwrap().refusal = None;
    assert_eq!(post(&proxy, &request(&[&png(b"a")])).status, 200);
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    let gif = format!("data:image/gif;base64,{}", STANDARD.encode(b"GIF89a"));
    for (url, status, words) in [
        (gif.as_str(), 415, "image 2 of the request is image/gif"),
        ("https://images.example/a.png", 400, "image_urls = true"),
        ("data:image/png;base64,AAAA", 415, "JPEG, PNG, TIFF or BMP"),
    ] {
        let told = post(&proxy, &request(&[&png(b"a"), url]));
        assert_eq!(told.status, status, "{told:?}");
        let error = &told.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        assert_eq!(error["param"], "image_url");
    }
    assert!(upstream.received.try_recv().is_err());
}

#[test]
fn without_uploads_a_note_stands_in_the_images_place() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = configured(upstream.address, "upload_images = \"False\"");
    let told = post(&proxy, &request(&[&png(b"a")]));
    assert_eq!((told.status, told.header("x-patchbay-dropped")), (200, Some("input_image")));
    let sent = upstream.next().json();
    assert_eq!(sent["messages"][0]["content"], "Look\n[image left out]");
}

#[test]
fn nobody_is_served_with_a_file_of_somebody_elses() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = configured(upstream.address, "credential = { kind = \"client\" }");
    for (caller, uploads) in [("alice", 1), ("bob", 2), ("alice", 2), ("bob", 2)] {
        let mut client = proxy.connect();
        let authorization = format!("Bearer {caller}");
        let body = request(&[&png(b"a")]).to_string();
        client.send_post(PATH, &[("authorization", &authorization)], &body);
        assert_eq!(client.reply().status, 200);
        assert_eq!(files.lock().unwrap().uploaded.len(), uploads, "{caller}");
    }
    let owners: Vec<_> = (0..6)
        .map(|_| upstream.next())
        .filter(|request| request.line.contains("/files"))
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(owners, ["Bearer alice", "Bearer bob"]);
}

#[test]
fn images_by_url_never_lead_into_the_own_network() {
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let port = inside.local_addr().unwrap().port();
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = configured(upstream.address, "image_urls = true");
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0"] {
        let url = format!("https://{host}:{port}/a.png?token=secret");
        let told = post(&proxy, &request(&[&url]));
        assert_eq!(told.status, 400, "{host} {told:?}");
        let error = &told.json()["error"];
        assert_eq!(error["code"], "invalid_image_url", "{host}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("address") && !message.contains("secret"), "{message}");
    }
    for url in ["https://user:hunter2@images.example/a", "https://", "https://a b/"] {
        let told = post(&proxy, &request(&[url]));
        assert_eq!(told.status, 400, "{url} {told:?}");
        assert!(!told.text().contains("hunter2"), "{told:?}");
    }
    assert!(inside.accept().is_err(), "nobody came");
    assert!(upstream.received.try_recv().is_err());
}

#[test]
fn a_client_that_leaves_ends_the_upload() {
    let (sender, ended) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |_: &Received, wire: &mut dyn Wire| {
        // No reply: the connection is read to its end, which is that of the client.
        sender.send(()).unwrap();
        let _ = wire.read(&mut [0]);
        sender.send(()).unwrap();
        Then::Close
    });
    let proxy = proxy(&upstream);
    let mut client = proxy.connect();
    client.send_post(PATH, &[], &request(&[&png(b"a")]).to_string());
    ended.recv_timeout(support::PATIENCE).unwrap();
    drop(client);
    ended.recv_timeout(support::PATIENCE).unwrap();
}

#[test]
fn a_kept_connection_that_died_costs_an_upload_nothing() {
    // Each connection serves one request and says nothing of its end.
    let files = Arc::new(Mutex::new(Files::default()));
    let store = Arc::clone(&files);
    let upstream = Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        if request.line.contains("/files") {
            let (status, kind, body) = store.lock().unwrap().upload(request);
            reply(wire, &status, &kind, &body);
        } else {
            reply_stream(wire, TEXT);
        }
        Then::Close
    });
    let proxy = proxy(&upstream);
    for count in 1..=8_usize {
        let told = post(&proxy, &request(&[&png(&[u8::try_from(count).unwrap()])]));
        assert_eq!(told.status, 200, "{told:?}");
        assert_eq!(files.lock().unwrap().uploaded.len(), count);
    }
}

fn counters(server: &Server) -> Value {
    serde_json::from_slice::<Value>(&server.counters()).unwrap()["gigachat"].clone()
}

/// A session that shows a new image in each turn, one time the user's and one time a tool's.
fn conversation(turns: u8) -> Value {
    let mut input = vec![];
    for turn in 0..turns {
        let image = json!({"type": "input_image", "image_url": png(&[turn])});
        if turn % 2 == 0 {
            let words = json!({"type": "input_text", "text": format!("turn {turn}")});
            input.push(json!({"role": "user", "content": [words, image]}));
        } else {
            let id = format!("call_{turn}");
            input.push(json!({"type": "function_call", "call_id": id, "name": "view_image",
                "arguments": "{\"path\":\"a.png\"}"}));
            input.push(json!({"type": "function_call_output", "call_id": id, "output": [image]}));
        }
        if turn + 1 < turns {
            let words = json!([{"type": "output_text", "text": "I see."}]);
            input.push(json!({"type": "message", "role": "assistant", "content": words}));
        }
    }
    json!({"model": "mock:deltas=2", "input": input,
        "tools": [{"type": "function", "name": "view_image", "parameters": {"type": "object"}}]})
}

#[test]
fn sessions_with_images_pass_on_the_strict_gigachat() {
    let gigachat = GigaChat {
        accounts: vec![ACCOUNT.to_owned(), "anna:pw".to_owned()],
        ..GigaChat::default()
    };
    let options = Options { wire: Some(Script::GigaChat), gigachat, ..Options::default() };
    let server = Server::start(&options).unwrap();
    let token_url = format!("http://{}/api/v2/oauth", server.address());
    let keys = format!(
        "credential = {{ kind = \"client-credentials\", env = \"GIGACHAT_CREDENTIALS\", \
         scope = \"GIGACHAT_API_PERS\", token_url = \"{token_url}\" }}\n\
         callers = {{ enabled = true, scope = \"GIGACHAT_API_PERS\", token_url = \"{token_url}\" }}"
    );
    let proxy = configured(server.address(), &keys);
    let path = "/v1/responses";
    for turns in 1..=12 {
        let told = proxy.post(path, &conversation(turns).to_string());
        assert_eq!((told.status, &told.json()["status"]), (200, &json!("completed")), "{told:?}");
        let dropped = (turns > 10).then_some("input_image");
        assert_eq!(told.header("x-patchbay-dropped"), dropped, "{turns}");
    }
    let counted = counters(&server);
    assert_eq!((&counted["uploads"], &counted["tokens"]), (&json!(12), &json!(1)), "{counted}");
    assert_eq!(counted["refusals"], json!({}));
    assert_eq!(counted["attachments"], json!((1..=10).sum::<u64>() + 10 + 10));

    // A caller's files are its own, though the images are the same.
    let mut client = proxy.connect();
    let caller = [("authorization", "Bearer giga-cred-YW5uYTpwdw==")];
    client.send_post(path, &caller, &conversation(3).to_string());
    assert_eq!(client.reply().status, 200);
    let counted = counters(&server);
    assert_eq!(counted["accounts"]["anna"]["uploads"], 3, "{counted}");
    assert_eq!(counted["accounts"]["patch"]["uploads"], 12, "{counted}");
}

#[test]
fn what_is_written_down_is_the_request_that_counted() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let above = tempfile::tempdir().unwrap();
    let url = format!("http://{}/api/v1", upstream.address);
    let folder = above.path().join("captures");
    let capture = ["--upstream-dialect", "gigachat", "--capture", folder.to_str().unwrap()];
    let proxy = Patchbay::for_upstream(&url, &capture);
    let captured = |name: &str, is_there: &dyn Fn(&Value) -> bool| {
        support::wait_for("the capture", || {
            let mut exchanges = std::fs::read_dir(&folder).ok()?.flatten().map(|it| it.path());
            exchanges.find_map(|path| {
                let meta = std::fs::read(path.join("meta.json")).ok()?;
                let meta: Value = serde_json::from_slice(&meta).ok()?;
                is_there(&meta).then(|| (meta, std::fs::read(path.join(name)).unwrap()))
            })
        })
    };
    // An answer's: its own request, behind the upload that it needed.
    assert_eq!(post(&proxy, &request(&[&png(b"a")])).status, 200);
    let (meta, sent) = captured("upstream-request.json", &|meta| meta["status"] == 200);
    assert_eq!(meta["attempts"], 2, "{meta}");
    assert_eq!(ids(&serde_json::from_slice(&sent).unwrap()), ["file-0"]);
    // Of one that failed before: the upload.
    let refusal = json!({"status": 500, "message": "no upstream-secret"}).to_string();
    files.lock().unwrap().refusal = Some(("500 X", "application/json", refusal));
    let told = post(&proxy, &request(&[&png(b"b")]));
    assert!(told.status == 500 && !told.text().contains("upstream-secret"), "{told:?}");
    let (_, sent) = captured("upstream-request.http", &|meta| meta["status"] == 500);
    let text = String::from_utf8_lossy(&sent);
    assert!(text.starts_with("POST /api/v1/files HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("name=\"purpose\"") && !text.contains("upstream-secret"), "{text}");
}

#[test]
fn an_upload_whose_token_is_refused_goes_with_another_once() {
    let files = Arc::new(Mutex::new(Files::default()));
    let (store, tokens) = (Arc::clone(&files), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&tokens);
    let upstream = Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
        if request.line.contains("/oauth") {
            let mut count = count.lock().unwrap();
            *count += 1;
            let body =
                json!({"access_token": format!("t-{count}"), "expires_at": 4_000_000_000_000_u64});
            reply(wire, "200 OK", "application/json", &body.to_string());
        } else if request.header("authorization") == Some("Bearer t-1") {
            let body = json!({"status": 401, "message": "Token has expired"}).to_string();
            reply(wire, "401 Unauthorized", "application/json", &body);
        } else if request.line.contains("/files") {
            let (status, kind, body) = store.lock().unwrap().upload(request);
            reply(wire, &status, &kind, &body);
        } else {
            reply_stream(wire, TEXT);
        }
        Then::Keep
    });
    let keys = format!(
        "credential = {{ kind = \"client-credentials\", env = \"GIGACHAT_CREDENTIALS\", \
         scope = \"GIGACHAT_API_PERS\", token_url = \"http://{}/api/v2/oauth\" }}",
        upstream.address
    );
    let proxy = configured(upstream.address, &keys);
    let large = png(&vec![7; 100_000]);
    let told = post(&proxy, &request(&[&large, &png(b"b")]));
    assert_eq!(told.status, 200, "{told:?}");
    let sizes: Vec<usize> = files.lock().unwrap().uploaded.iter().map(Vec::len).collect();
    assert_eq!((sizes, *tokens.lock().unwrap()), (vec![100_008, 9], 2));
}

#[test]
fn an_older_image_that_the_upstream_refuses_is_left_out() {
    let files = Arc::new(Mutex::new(Files::default()));
    let upstream = upstream(&files);
    let proxy = proxy(&upstream);
    let mut body = request(&[&png(b"a")]);
    body["messages"].as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": "I see."}),
        json!({"role": "user", "content": "go on"}),
    ]);
    for (status, expected) in [("422 X", 200), ("413 X", 200), ("500 X", 500), ("401 X", 401)] {
        let refusal = json!({"status": 0, "message": "a \"bad\" one"}).to_string();
        files.lock().unwrap().refusal = Some((status, "application/json", refusal));
        let told = post(&proxy, &body);
        assert_eq!(told.status, expected, "{status} {told:?}");
        assert!(upstream.next().line.contains("/files"));
        if expected == 200 {
            let sent = upstream.next().json();
            let words = sent["messages"][0]["content"].as_str().unwrap();
            assert!(words.starts_with("Look\n[image left out: it cannot be uploaded: "), "{words}");
            assert!(words.contains("a \"bad\" one"), "{words}");
            assert!(ids(&sent).is_empty());
            assert_eq!(told.header("x-patchbay-dropped"), Some("input_image"));
        }
    }
}
