//! What the peers of the worker say, by number: enough for whole exchanges, and enough to spoil
//! them.

const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

/// Requests that are translated name this, so that what comes back can be held to the client's API.
pub(super) const TRANSLATED: &str = "translated";

/// Something that a client says.
pub(super) fn request(number: u8) -> Vec<u8> {
    let stream = r#"{"model":"chat-translated","stream":true,"input":"hi"}"#;
    let chat_stream = r#"{"model":"responses-x","stream":true,"messages":[{"role":"user","content":"translated"}]}"#;
    let document = r#"{"model":"chat-translated","input":"hi","temperature":1}"#;
    let chat_document =
        r#"{"model":"responses-x","messages":[{"role":"user","content":"translated"}]}"#;
    let held = r#"{"model":"chat-translated","input":"hi"}"#;
    match number % 29 {
        0 => post(RESPONSES, "", stream),
        1 => post(CHAT, "", chat_stream),
        2 => post(RESPONSES, "", document),
        3 => post(CHAT, "", chat_document),
        4 => post(RESPONSES, "user-agent: codex_cli_rs/1\r\n", stream),
        // Relayed.
        5 => post(CHAT, "", r#"{"model":"chat-x","stream":true,"messages":[]}"#),
        6 => post(RESPONSES, "", r#"{"model":"responses-x","stream":true,"input":"hi"}"#),
        7 => post(RESPONSES, "", r#"{"model":"responses-x","input":"hi"}"#),
        // Answered here, the list of models with what an upstream lists.
        8 => head("GET /v1/models HTTP/1.1", ""),
        9 => head("GET /health HTTP/1.1", ""),
        10 => head("GET /metrics HTTP/1.1", ""),
        // A body that waits for its leave, and one in chunks.
        11 => head(
            "POST /v1/responses HTTP/1.1",
            &format!("expect: 100-continue\r\ncontent-length: {}\r\n", held.len()),
        ),
        12 => held.as_bytes().to_vec(),
        13 => {
            let mut out = head("POST /v1/responses HTTP/1.1", "transfer-encoding: chunked\r\n");
            out.extend_from_slice(&chunk(held));
            out
        }
        14 => b"0\r\n\r\n".to_vec(),
        // An old client, one that will leave, one that is foreign.
        15 => String::from_utf8_lossy(&post(RESPONSES, "", stream))
            .replacen("HTTP/1.1", "HTTP/1.0", 1)
            .into_bytes(),
        16 => post(RESPONSES, "connection: close\r\n", stream),
        17 => {
            b"GET / HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n\r\n".to_vec()
        }
        // Two halves.
        18 => b"POST /v1/chat/completions HTTP/1.1\r\nhost: local".to_vec(),
        19 => b"host\r\nauthorization: Bearer mine\r\ncontent-length: 200000\r\n\r\n{".to_vec(),
        // Refused.
        20 => post(RESPONSES, "", r#"{"model":"#),
        21 => post(RESPONSES, "", r#"{"model":"nobody","input":"hi"}"#),
        22 => post(RESPONSES, "", &"x".repeat(700)),
        // Errands: a reply that passes, one that is translated, and a list that is to be fresh.
        24 => post(EMBEDDINGS, "", r#"{"model":"chat-translated","input":"hi"}"#),
        25 => post(EMBEDDINGS, "", r#"{"model":"giga-translated","input":["hi"]}"#),
        26 => head("GET /v1/models?refresh=1 HTTP/1.1", ""),
        // Images, which are uploaded first; one of them twice.
        27 => post(RESPONSES, "", &image(true, &["AQ=="])),
        28 => post(RESPONSES, "", &image(false, &["AQ==", "Ag==", "AQ"])),
        // Two at once.
        _ => [post(CHAT, "", chat_document), post(RESPONSES, "", stream)].concat(),
    }
}

/// A request that shows images with these ends.
fn image(stream: bool, ends: &[&str]) -> String {
    let images: Vec<String> = ends
        .iter()
        .map(|end| {
            let url = format!("data:image/png;base64,iVBORw0KGgoA{end}");
            format!(r#"{{"type":"input_image","image_url":"{url}"}}"#)
        })
        .collect();
    format!(
        r#"{{"model":"giga-translated","stream":{stream},"input":[{{"role":"user","content":[{}]}}]}}"#,
        images.join(",")
    )
}

fn head(line: &str, fields: &str) -> Vec<u8> {
    let usual = "host: localhost\r\nauthorization: Bearer mine\r\n";
    format!("{line}\r\n{usual}{fields}\r\n").into_bytes()
}

fn post(path: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let fields = format!("content-type: application/json\r\n{fields}content-length: {length}\r\n");
    let mut out = head(&format!("POST {path} HTTP/1.1"), &fields);
    out.extend_from_slice(body.as_bytes());
    out
}

fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
const CHUNKED: &str = "transfer-encoding: chunked\r\n\r\n";

/// A Chat stream: its beginning, a call, its end.
const CHAT_FRAMES: [&str; 3] = [
    "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
     \"content\":\"Hi\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\
     \"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"shell\",\"arguments\":\"{}\"}}]},\
     \"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"model\":\"up\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\
     \n\ndata: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
     data: [DONE]\n\n",
];

/// A whole answer of GigaChat.
const GIGA_FRAME: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\
    \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

const ITEM: &str = r#"{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi","annotations":[]}]}"#;

/// A Responses stream: its beginning, a delta, its end.
fn responses_frames() -> [String; 3] {
    let event = |kind: &str, members: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{members}}}\n\n")
    };
    let place = "\"item_id\":\"m\",\"output_index\":0,\"content_index\":0";
    [
        event(
            "response.created",
            "\"sequence_number\":0,\"response\":{\"id\":\"r\",\"model\":\"up\",\"output\":[]}",
        ) + &event(
            "response.output_item.added",
            "\"sequence_number\":1,\"output_index\":0,\"item\":{\"type\":\"message\",\"id\":\"m\",\
             \"role\":\"assistant\",\"content\":[]}",
        ),
        event(
            "response.output_text.delta",
            &format!("\"sequence_number\":2,{place},\"delta\":\"Hi\""),
        ),
        event(
            "response.output_item.done",
            &format!("\"sequence_number\":3,\"output_index\":0,\"item\":{ITEM}"),
        ) + &event(
            "response.completed",
            &format!(
                "\"sequence_number\":4,\"response\":{{\"id\":\"r\",\"status\":\"completed\",\
                 \"model\":\"up\",\"output\":[{ITEM}]}}"
            ),
        ),
    ]
}

/// Something that an upstream says.
pub(super) fn reply(number: u8) -> Vec<u8> {
    let responses = responses_frames();
    let text = |parts: &[&str]| parts.concat().into_bytes();
    let whole =
        |frames: &str| [text(&[STREAM, CHUNKED]), chunk(frames), text(&["0\r\n\r\n"])].concat();
    match number % 32 {
        0 => whole(&CHAT_FRAMES.concat()),
        1 => text(&[STREAM, CHUNKED]),
        frame @ 2..=4 => chunk(CHAT_FRAMES[usize::from(frame) - 2]),
        5 => text(&["0\r\n\r\n"]),
        6 => whole(&responses.concat()),
        frame @ 7..=9 => chunk(&responses[usize::from(frame) - 7]),
        // Documents.
        10 => document(
            "200 OK",
            "",
            r#"{"id":"c","model":"up","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#,
        ),
        11 => document(
            "200 OK",
            "",
            &format!(r#"{{"id":"r","object":"response","status":"completed","output":[{ITEM}]}}"#),
        ),
        26 => document("200 OK", "", r#"{"object":"list","data":[{"id":"giga-x"},{"id":"up"}]}"#),
        27 => document("200 OK", "", r#"{"data":[{"index":0,"embedding":[1.5,2],"usage":{}}]}"#),
        // A file, one that is gone, and answers to who showed it.
        28 => document("200 OK", "", r#"{"id":"file-1","object":"file"}"#),
        29 => document("404 Not Found", "", r#"{"status":404,"message":"No such file: file-1"}"#),
        30 => whole(GIGA_FRAME),
        31 => document(
            "200 OK",
            "",
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#,
        ),
        // Refusals.
        12 => document(
            "429 Too Many Requests",
            "retry-after: 2\r\n",
            r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#,
        ),
        13 => document(
            "400 Bad Request",
            "",
            r#"{"error":{"message":"Unsupported parameter: 'temperature'","param":"temperature","code":"unsupported_parameter"}}"#,
        ),
        14 => document("401 Unauthorized", "", r#"{"error":{"message":"no"}}"#),
        15 => text(&["HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>no</html>"]),
        // Before a reply, in place of one, and inside one.
        16 => text(&["HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"]),
        17 => text(&["HTTP/1.1 100 Continue\r\n\r\n"]),
        18 => text(&["HTTP/1.1 204 No Content\r\n\r\n"]),
        19 => text(&["HTTP/1.1 101 Switching Protocols\r\n\r\n"]),
        20 => text(&["zz\r\n"]),
        // With other ends.
        21 => text(&[STREAM, "\r\n", CHAT_FRAMES[0]]),
        22 => text(&[STREAM, "content-length: 5000\r\n\r\n", CHAT_FRAMES[0]]),
        23 => text(&CHAT_FRAMES),
        24 => text(&["data: {\"error\":{\"message\":\"overloaded\"}}\n\n"]),
        _ => chunk("data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
    }
}

fn document(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}content-length: {length}\
         \r\n\r\n{body}"
    )
    .into_bytes()
}
