//! The scripted model server over real sockets, read by a client that shares no code with it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod mock_cases;
mod support;

use mock_cases::{Chunks, chat_document, chat_stream, check, chunks, events, read};
use patchbay::mock::script::{STAMP_BYTES, Script};
use patchbay::mock::{GigaChat, MODEL, Options, PROMPT_TOKENS, Server, TOOL, Wire};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Client, PATIENCE, Reply, wait_for};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const CODEX: &str = "/backend-api/codex/responses";
const GIGACHAT: &str = "/api/v1/chat/completions";

/// What GigaChat takes as a token.
const TOKEN: &str = "ready-token";

fn start() -> Server {
    let gigachat = GigaChat { access_tokens: vec![TOKEN.to_owned()], ..GigaChat::default() };
    Server::start(&Options { gigachat, ..Options::default() }).unwrap()
}

/// A request of a wire API for a script, with one tool.
fn request(path: &str, script: &str, stream: bool) -> Value {
    let mut body = json!({"model": format!("mock:{script}"), "stream": stream});
    let parameters = json!({"type": "object", "properties": {}});
    match path {
        CHAT => {
            body["messages"] = json!([{"role": "user", "content": "\"model\":\"mock:deltas=9\""}]);
            body["tools"] = json!([{"type": "function",
                "function": {"name": "look", "parameters": parameters}}]);
        }
        GIGACHAT => {
            body["messages"] = json!([{"role": "user", "content": "hello"}]);
            body["functions"] = json!([{"name": "look", "parameters": parameters}]);
            body["function_call"] = json!("auto");
        }
        _ => {
            body["input"] = json!([{"role": "user", "content": "hello"}]);
            body["instructions"] = json!("be brief");
            body["store"] = json!(false);
            body["tools"] = json!([{"type": "web_search"},
                {"type": "function", "name": "look", "parameters": parameters}]);
        }
    }
    body
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    let mut client = Client::connect(server.address());
    let bearer = format!("Bearer {TOKEN}");
    client.send_post(path, &[("authorization", &bearer)], &body.to_string());
    client.reply()
}

fn ask(server: &Server, path: &str, script: &str, stream: bool) -> Reply {
    post(server, path, &request(path, script, stream))
}

#[test]
fn every_wire_api_says_what_the_script_says() {
    let server = start();
    let mut ids = HashSet::new();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        for text in [
            "",
            "deltas=40,bytes=31,text=code",
            "deltas=9,text=cjk,reasoning=5,bytes=20",
            "deltas=0,calls=1,call_deltas=1",
            "deltas=3,calls=3,call_deltas=7,text=code,reasoning=1",
            "deltas=300,frames=0,seed=7",
        ] {
            let script: Script = text.parse().unwrap();
            for stream in [true, false] {
                if path == CODEX && !stream {
                    continue;
                }
                let reply = ask(&server, path, text, stream);
                assert_eq!((reply.status, reply.complete), (200, true), "{path} {reply:?}");
                let said = read(path, stream, &reply);
                check(path, &script, stream, &said);
                for id in said.ids {
                    assert!(id.len() >= 32, "{id}");
                    assert!(ids.insert(id), "an id comes twice");
                }
            }
        }
    }
    let counts = server.counts();
    assert_eq!(counts.requests, 42);
    assert!(counts.deltas > 1400 && counts.bytes > 400_000, "{counts:?}");
    server.stop();
}

#[test]
fn usage_and_function_calls_come_as_a_chat_client_asks_for_them() {
    let server = start();
    let mut body = request(CHAT, "deltas=2", true);
    body["stream_options"] = json!({"include_usage": true});
    let reply = post(&server, CHAT, &body);
    let said = chat_stream(&reply);
    assert_eq!(said.usage, Some((PROMPT_TOKENS, 2, 0)));
    assert!(events(&reply, true)[0]["usage"].is_null());

    let mut body = request(CHAT, "deltas=0,calls=2", false);
    body["tools"] = json!([]);
    let call = &chat_document(&post(&server, CHAT, &body)).calls[0].0.clone();
    assert_eq!(call, TOOL);
    body.as_object_mut().unwrap().remove("tools");
    body["functions"] = json!([{"name": "old"}]);
    let reply = post(&server, CHAT, &body).json();
    assert_eq!(reply["choices"][0]["finish_reason"], "function_call");
    assert_eq!(reply["choices"][0]["message"]["function_call"]["name"], "old");
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn send(stream: &mut impl Write, path: &str, body: &Value) {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         authorization: Bearer {TOKEN}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
}

fn ask_chunks(server: &Server, path: &str, script: &str) -> Chunks {
    let mut stream = connect(server);
    send(&mut stream, path, &request(path, script, true));
    chunks(&mut stream)
}

#[test]
fn writes_are_shaped_as_the_script_says() {
    let server = start();
    let frames = |chunk: &String| chunk.matches("\n\n").count();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        let single = ask_chunks(&server, path, "deltas=20,pace=100us,first=1ms");
        assert!(single.complete && single.chunks.iter().all(|chunk| frames(chunk) == 1));
        let total = single.chunks.len();
        assert!(total >= 22, "{total}");

        let few = ask_chunks(&server, path, "deltas=20,frames=4,pace=1ms");
        assert_eq!(few.chunks.len(), total.div_ceil(4));
        let (last, full) = few.chunks.split_last().unwrap();
        assert!(few.complete && full.iter().all(|chunk| frames(chunk) == 4));
        assert_eq!(frames(last), total - 4 * full.len());

        let whole = ask_chunks(&server, path, "deltas=20,frames=0");
        assert_eq!((whole.chunks.len(), frames(&whole.chunks[0])), (1, total));

        let sliced = ask_chunks(&server, path, "deltas=20,frames=0,slice=7");
        let (last, full) = sliced.chunks.split_last().unwrap();
        assert!(sliced.complete && full.iter().all(|chunk| chunk.len() == 7) && last.len() <= 7);
        // Ids and times are of the same length in every answer.
        assert_eq!(sliced.chunks.concat().len(), whole.chunks.concat().len());

        // A slice does not reach over the frames of its write.
        let both = ask_chunks(&server, path, "deltas=20,frames=1,slice=100");
        let ends = both.chunks.iter().filter(|chunk| chunk.ends_with("\n\n")).count();
        assert_eq!(ends, total);
        assert!(both.chunks.iter().all(|chunk| chunk.len() <= 100));
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// The times in the front of deltas that the script stamps.
fn stamps(text: &str, script: &Script) -> Vec<u64> {
    assert_eq!(text.len(), script.whole_text().len());
    let zeros: String = (0..script.deltas)
        .map(|index| {
            let at = script.bytes as usize * index as usize;
            let (stamp, words) = text[at..][..script.bytes as usize].split_at(STAMP_BYTES);
            assert!(stamp.starts_with('@') && stamp.ends_with(' '));
            format!("@{:016} {words}", 0)
        })
        .collect();
    assert_eq!(zeros, script.whole_text());
    let deltas = text.split('@').skip(1);
    deltas.map(|delta| delta[..16].parse().unwrap()).collect()
}

#[test]
fn stamps_are_the_times_of_their_writes() {
    let server = start();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        for (shape, writes) in [("pace=1ms", 6), ("frames=0", 1), ("slice=5", 6)] {
            let text = format!("stamp=true,bytes=30,deltas=6,{shape}");
            let script: Script = text.parse().unwrap();
            let before = now_us();
            let said = read(path, true, &ask(&server, path, &text, true));
            let times = stamps(&said.text.concat(), &script);
            assert!(times.is_sorted() && times[0] >= before && times[5] <= now_us(), "{times:?}");
            let different: HashSet<_> = times.iter().collect();
            // Two writes may have the same microsecond; two paced ones cannot.
            assert!(different.len() <= writes, "{path} {shape} {times:?}");
            assert!(different.len() == writes || !shape.starts_with("pace"), "{times:?}");
        }
    }
    let script: Script = "stamp=true,bytes=30,deltas=6".parse().unwrap();
    let said = read(CHAT, false, &ask(&server, CHAT, "stamp=true,bytes=30,deltas=6", false));
    assert!(stamps(&said.text.concat(), &script).iter().all(|time| now_us() - time < 60_000_000));
}

#[test]
fn a_status_comes_in_the_envelope_of_its_wire_api() {
    let server = start();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        for status in [400, 401, 404, 429, 500, 503, 529] {
            let reply = ask(&server, path, &format!("status={status}"), true);
            assert_eq!((reply.status, reply.complete), (status, true));
            let limited = matches!(status, 429 | 503);
            assert_eq!(reply.header("retry-after"), limited.then_some("1"), "{status}");
            let body = reply.json();
            let message = match path {
                CODEX => &body["detail"],
                GIGACHAT => {
                    assert_eq!(body["status"], status);
                    &body["message"]
                }
                _ => {
                    assert!(body["error"]["type"].is_string(), "{body}");
                    &body["error"]["message"]
                }
            };
            assert!(message.as_str().unwrap().contains(&format!("status={status}")), "{body}");
        }
    }
    let limited = ask(&server, CHAT, "status=429", false).json();
    assert_eq!(limited["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn a_failure_is_told_as_the_wire_api_tells_it() {
    let server = start();
    for (script, count) in [("fail_after=3", 3), ("fail_after=0", 0), ("fail_after=99,deltas=4", 4)]
    {
        let script = format!("{script},calls=1");
        let reply = ask(&server, CHAT, &script, true);
        let mut frames = events(&reply, false);
        let failure = frames.pop().unwrap();
        assert_eq!(failure["error"]["type"], "server_error", "{failure}");
        assert_eq!(frames.len(), 1 + count);

        for (path, marker) in [(RESPONSES, true), (CODEX, false)] {
            let frames = events(&ask(&server, path, &script, true), marker);
            let deltas = frames.iter().filter(|it| it["type"] == "response.output_text.delta");
            assert_eq!(deltas.count(), count);
            let last = frames.last().unwrap();
            assert_eq!(last["type"], "response.failed");
            assert!(last["response"]["error"]["message"].as_str().unwrap().contains("fail_after"));
        }
        let frames = events(&ask(&server, GIGACHAT, &script, true), false);
        assert_eq!((frames.len(), &frames[count]["status"]), (count + 1, &json!(500)));
    }
    for path in [CHAT, RESPONSES, GIGACHAT] {
        assert_eq!(ask(&server, path, "fail_after=1", false).status, 500, "{path}");
    }
}

#[test]
fn a_cut_answer_never_ends() {
    let server = start();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        for (script, count) in [("cut_after=5", 5), ("cut_after=0", 0), ("cut_after=99", 16)] {
            let cut = ask_chunks(&server, path, &format!("{script},pace=100us"));
            assert!(cut.head.contains("transfer-encoding: chunked") && !cut.complete);
            let body = cut.chunks.concat();
            assert_eq!(body.matches("[DONE]").count(), 0);
            assert!(!body.contains("finish_reason\":\"") && !body.contains("output_text.done"));
            let delta = if path == CHAT || path == GIGACHAT {
                // The first chunk of Chat has an empty text.
                body.matches("\"content\":\"").count() - usize::from(path == CHAT)
            } else {
                body.matches("event: response.output_text.delta").count()
            };
            assert_eq!(delta, count, "{path} {script}");
        }
        if path == CODEX {
            continue;
        }
        let whole = ask(&server, path, "cut_after=99", false);
        let part = ask(&server, path, "cut_after=2", false);
        assert!(!whole.complete && !part.complete && part.body.len() < whole.body.len());
        let script = Script { deltas: 2, ..Script::default() };
        let text = String::from_utf8(part.body).unwrap();
        assert!(text.contains(&script.whole_text()), "{text}");
        let script = Script { deltas: 3, ..Script::default() };
        assert!(!text.contains(&script.whole_text()), "{text}");
    }
    // The failure comes first when both are reached.
    assert!(ask(&server, CHAT, "fail_after=2,cut_after=2", true).complete);
    assert!(!ask(&server, CHAT, "fail_after=3,cut_after=2", true).complete);
}

#[test]
fn wrong_scripts_are_refused_by_name() {
    let server = start();
    for path in [CHAT, RESPONSES, CODEX, GIGACHAT] {
        for (script, part) in [
            ("delta=3", "has no key \\\"delta\\\""),
            ("pace=3", "pace=3"),
            ("deltas=10000000,bytes=1000", "deltas=10000000"),
            ("calls=1000,call_deltas=10000000", "call_deltas=10000000"),
        ] {
            let reply = ask(&server, path, script, true);
            assert_eq!(reply.status, 400, "{reply:?}");
            assert!(reply.text().contains(part), "{reply:?}");
        }
    }
    let mut client = Client::connect(server.address());
    let body = request(CHAT, "deltas=2", true).to_string();
    client.send_post(CHAT, &[("x-mock-script", "deltas=3, calls = 1")], &body);
    let said = chat_stream(&client.reply());
    assert_eq!((said.text.len(), said.calls.len()), (3, 1));
    client.send_post(CHAT, &[("x-mock-script", "nonsense")], &body);
    let reply = client.reply();
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("x-mock-script")));
    for (body, part) in [
        ("{\"model\":\"m\"", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "names no model"),
        ("{\"model\":7}", "wrong type"),
        ("{\"model\":\"a\",\"model\":\"b\"}", "same key twice"),
    ] {
        client.send_post(RESPONSES, &[], body);
        let reply = client.reply();
        assert!(reply.status == 400 && reply.text().contains(part), "{body} {reply:?}");
    }
}

#[test]
fn the_servers_own_script_answers_other_models() {
    let script: Script = "deltas=2,reasoning=1".parse().unwrap();
    let options = Options { script, wire: Some(Wire::Chat), workers: 2, ..Options::default() };
    let server = Server::start(&options).unwrap();
    for model in ["gpt-5", "mock-model"] {
        let mut body = request(CHAT, "", true);
        body["model"] = json!(model);
        let said = chat_stream(&post(&server, CHAT, &body));
        assert_eq!((said.text.len(), said.reasoning.len()), (2, 1));
    }
    let said = chat_stream(&ask(&server, CHAT, "deltas=1", true));
    assert_eq!((said.text.len(), said.reasoning.len()), (1, 0), "a model's script is whole");
    let reply = ask(&server, RESPONSES, "", true);
    assert!(reply.status == 404 && reply.text().contains("--dialect chat"), "{reply:?}");
}

#[test]
fn the_codex_backend_refuses_what_it_refuses() {
    let server = start();
    for (key, value, why) in [
        ("stream", json!(false), "Stream must be set to true"),
        ("store", json!(true), "Store must be set to false"),
        ("instructions", json!(""), "Instructions are required"),
        ("temperature", json!(1), "Unsupported parameter: temperature"),
    ] {
        let mut body = request(CODEX, "", true);
        body[key] = value;
        let reply = post(&server, CODEX, &body);
        assert_eq!((reply.status, reply.json()), (400, json!({"detail": why})));
    }
}

#[test]
fn one_connection_serves_many_requests_however_they_come() {
    let server = start();
    let mut client = Client::connect(server.address());
    let body = request(CHAT, "deltas=2,pace=1ms", true).to_string();
    for _ in 0..3 {
        client.send_post(CHAT, &[], &body);
        assert_eq!(chat_stream(&client.reply()).text.len(), 2);
    }
    // Three at once, one of them in chunks.
    let length = body.len();
    let plain =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
    let (a, b) = body.split_at(9);
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x};x=\"y\"\r\n{a}\r\n{:X}\r\n{b}\r\n0\r\ntrailer: x\r\n\r\n",
        a.len(),
        b.len()
    );
    client.send(format!("{plain}{chunked}GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert_eq!(chat_stream(&client.reply()).text.len(), 2);
    assert_eq!(chat_stream(&client.reply()).text.len(), 2);
    assert_eq!(client.reply().json(), json!({"status": "ok"}));
    // Byte by byte, with a body that waits to be asked for.
    let expects = plain.replace("\r\nhost: a\r\n", "\r\nhost: a\r\nexpect: 100-continue\r\n");
    let (head, body) = expects.split_at(expects.len() - length);
    head.bytes().for_each(|byte| client.send(&[byte]));
    assert_eq!(client.reply().status, 100);
    body.bytes().for_each(|byte| client.send(&[byte]));
    assert_eq!(chat_stream(&client.reply()).text.len(), 2);
    let counts = server.counts();
    assert_eq!((counts.open, counts.requests), (1, 6));
}

#[test]
fn what_is_no_request_for_an_answer_is_told_what_there_is() {
    let server = start();
    let mut client = Client::connect(server.address());
    client.send_get("/v1/models");
    assert_eq!(client.reply().json()["data"][0]["id"], MODEL);
    client.send_get("/v1/models/mock-model");
    assert_eq!(client.reply().json()["object"], "model");
    client.send_get("/backend-api/codex/models?client_version=1");
    assert_eq!(client.reply().json()["models"][0]["slug"], MODEL);
    client.send_get("/v2");
    let reply = client.reply();
    assert!(reply.status == 404 && reply.text().contains(CODEX), "{reply:?}");
    client.send_get(CHAT);
    let reply = client.reply();
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    client.send_get("/counters");
    assert_eq!(client.reply().json()["open"], 1);
    client.send(b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(client.reply().status, 426);
    client.send(
        b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let mut line = client.line();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    while line != "\r\n" {
        line = client.line();
    }
    assert_eq!(client.reply().json(), json!({"status": "ok"}), "a HEAD has no body");

    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET /\x01", 400),
        ("POST /responses HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n", 413),
        ("POST /responses HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
    ] {
        let mut client = Client::connect(server.address());
        client.send(bytes.as_bytes());
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")));
        assert!(reply.json()["error"]["message"].is_string());
        assert!(client.is_closed());
    }
}

#[test]
fn old_and_compressed_requests_are_answered() {
    let server = start();
    let body = request(CHAT, "deltas=3", true).to_string();
    let mut stream = connect(&server);
    let length = body.len();
    let head = format!("POST {CHAT} HTTP/1.0\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(!text.contains("transfer-encoding") && text.ends_with("data: [DONE]\n\n"), "{text}");

    // A zstd frame with one raw block (RFC 8878): magic, a single segment of a one-byte size, the
    // block's header, the block.
    let size = u8::try_from(length).unwrap();
    let block = u32::try_from(length << 3 | 1).unwrap().to_le_bytes();
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, size];
    packed.extend_from_slice(&block[..3]);
    packed.extend_from_slice(body.as_bytes());
    let mut client = Client::connect(server.address());
    for (coding, status) in [("zstd", 200), ("identity", 400), ("br", 415)] {
        let length = packed.len();
        client.send(
            format!(
                "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-encoding: {coding}\r\n\
                 content-length: {length}\r\n\r\n"
            )
            .as_bytes(),
        );
        client.send(&packed);
        assert_eq!(client.reply().status, status, "{coding}");
    }
}

#[test]
fn two_hundred_paced_streams_at_once_come_whole() {
    for workers in [1, 2] {
        let server = Server::start(&Options { workers, ..Options::default() }).unwrap();
        let script: Script = "deltas=30,pace=2ms,first=5ms,text=code".parse().unwrap();
        let streams: Vec<_> = (0..200)
            .map(|_| {
                let mut client = Client::connect(server.address());
                client.send_post(CHAT, &[], &request(CHAT, &script.to_string(), true).to_string());
                client
            })
            .collect();
        wait_for("all answers to be under way", || {
            let counts = server.counts();
            (counts.requests == 200).then_some(counts)
        });
        for mut client in streams {
            check(CHAT, &script, true, &chat_stream(&client.reply()));
        }
        wait_for("everything to be over", || {
            let counts = server.counts();
            (counts.answers == 0 && counts.open == 0).then_some(counts)
        });
        assert_eq!(server.counts().deltas, 6000);
    }
}

#[test]
fn a_client_that_goes_ends_its_answer_at_once() {
    let server = start();
    for script in ["first=1000s", "pace=1000s", "deltas=200000,bytes=100"] {
        let mut clients: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        for client in &mut clients {
            send(client, CHAT, &request(CHAT, script, true));
        }
        wait_for("the answers to begin", || (server.counts().answers == 5).then_some(()));
        drop(clients);
        wait_for("their end", || {
            let counts = server.counts();
            (counts.answers == 0 && counts.open == 0).then_some(())
        });
    }
}
