//! What the end-to-end tests share: the binary as a child, an upstream that answers by script, and
//! a client that shows what it got byte for byte. Blocking sockets with deadlines, no sleeps.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

pub(crate) mod codex;
pub(crate) mod vendor;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running `patchbay serve`; killed when dropped.
pub(crate) struct Patchbay {
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    folder: tempfile::TempDir,
}

impl Patchbay {
    /// Starts it for one upstream, with a key, and waits until it listens.
    pub(crate) fn for_upstream(url: &str, more: &[&str]) -> Self {
        let mut args = vec!["--upstream-url", url, "--api-key-env", "PATCHBAY_TEST_KEY"];
        args.extend(more);
        Self::start(&args)
    }

    /// Starts `serve` with these arguments on a free port.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--workers", "1"]).args(args);
        Self::spawn(command)
    }

    /// Starts a prepared command that ends in `serve` arguments.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let info = folder.path().join("info.json");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.args(["--port", "0", "--server-info"]).arg(&info);
        command.env("PATCHBAY_TEST_KEY", "upstream-secret").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let port = wait_for("the server-info file", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(folder.path().join("log"));
                panic!("patchbay ended with {status}: {}", log.unwrap_or_default());
            }
            let text = std::fs::read_to_string(&info).ok()?;
            let info: serde_json::Value = serde_json::from_str(&text).ok()?;
            u16::try_from(info["port"].as_u64()?).ok()
        });
        Self { address: ([127, 0, 0, 1], port).into(), child, folder }
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Where it logs.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Posts JSON on a new connection and returns the reply.
    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        let mut client = self.connect();
        client.send_post(path, &[], body);
        client.reply()
    }
}

impl Drop for Patchbay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; panics after [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// One client connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A reply as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
}

impl Reply {
    /// A header's value; names are compared in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `data` of every event of a stream.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(str::to_owned).collect()
    }
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a POST with a JSON body.
    pub(crate) fn send_post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send(format!("{head}\r\n{body}").as_bytes());
    }

    /// Sends a GET.
    pub(crate) fn send_get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes());
    }

    /// Reads one whole reply; panics when not even a head comes.
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Reads one reply; an error when the connection ends or is silent before its head ended.
    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.reader)
    }

    /// Reads the next line of a body or head, as it comes.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line
    }

    /// True when the peer has closed the connection and sent nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Reads one reply; an error when the stream ends before its head did.
pub(crate) fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let (line, headers) = read_head(reader)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {line}")))?;
    let mut reply = Reply { status, headers, body: Vec::new(), complete: false };
    let none = matches!(status, 100..=199 | 204 | 304);
    reply.complete = none || read_body(reader, &reply.headers, &mut reply.body).is_ok();
    if !none && !is_framed(&reply.headers) {
        reply.complete = reader.read_to_end(&mut reply.body).is_ok();
    }
    Ok(reply)
}

/// Start line and header fields, names in lower case.
fn read_head(reader: &mut impl BufRead) -> io::Result<(String, Vec<(String, String)>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" if lines.is_empty() => {}
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let fields = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Ok((lines[0].clone(), headers.collect()))
}

fn field<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn is_framed(headers: &[(String, String)]) -> bool {
    ["content-length", "transfer-encoding"].iter().any(|name| field(headers, name).is_some())
}

/// Reads a length-framed or chunked body; an error when it ends early.
fn read_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
    body: &mut Vec<u8>,
) -> io::Result<()> {
    if let Some(length) = field(headers, "content-length") {
        let length: u64 = length.parse().map_err(io::Error::other)?;
        let read = reader.take(length).read_to_end(body)?;
        return if read as u64 == length {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
    }
    if field(headers, "transfer-encoding").is_none() {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        let read = reader.take(size).read_to_end(body)?;
        if read as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// A request as an upstream received it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Counts the connections of the upstream, from 0.
    pub(crate) connection: usize,
}

impl Received {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What an upstream's script may do with a connection.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// What happens after a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
}

/// An upstream on a thread of its own, a thread a connection.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// Every request, as soon as it is whole.
    pub(crate) received: Receiver<Received>,
}

impl Upstream {
    /// Starts one. `script` answers each request on its connection.
    pub(crate) fn start<F>(script: F) -> Self
    where
        F: Fn(&Received, &mut dyn Wire) -> Then + Send + Sync + Clone + 'static,
    {
        Self::start_wrapped(script, Ok)
    }

    /// Starts one whose connections are wrapped first, for instance in TLS.
    pub(crate) fn start_wrapped<F, W, S>(script: F, wrap: W) -> Self
    where
        F: Fn(&Received, &mut dyn Wire) -> Then + Send + Sync + Clone + 'static,
        W: Fn(TcpStream) -> io::Result<S> + Send + Sync + Clone + 'static,
        S: Read + Write + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::channel();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (script, wrap, sender) = (script.clone(), wrap.clone(), sender.clone());
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || {
                    let Ok(stream) = wrap(stream) else { return };
                    serve(stream, connection, &script, &sender);
                });
            }
        });
        Self { address, received }
    }

    /// The URL of its Chat Completions operation.
    pub(crate) fn chat_url(&self) -> String {
        format!("http://{}/v1/chat/completions", self.address)
    }

    /// The next request that it received.
    pub(crate) fn next(&self) -> Received {
        self.received.recv_timeout(PATIENCE).expect("the upstream received no request")
    }
}

fn serve<S: Read + Write + Send>(
    stream: S,
    connection: usize,
    script: &impl Fn(&Received, &mut dyn Wire) -> Then,
    sender: &mpsc::Sender<Received>,
) {
    let mut reader = BufReader::new(stream);
    while let Ok((line, headers)) = read_head(&mut reader) {
        let mut body = Vec::new();
        if read_body(&mut reader, &headers, &mut body).is_err() {
            return;
        }
        let request = Received { line, headers, body, connection };
        let then = script(&request, reader.get_mut());
        let _ = sender.send(request);
        if then == Then::Close {
            return;
        }
    }
}

/// A Chat Completions stream of these deltas, with a usage chunk and `[DONE]`.
pub(crate) fn chat_stream(deltas: &[serde_json::Value], finish: &str) -> String {
    let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
        let value = serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion.chunk",
            "created": 1_750_000_000, "model": "upstream-model", "choices": choices,
            "usage": usage});
        format!("data: {value}\n\n")
    };
    let choice = |delta: &serde_json::Value, finish: serde_json::Value| serde_json::json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let mut stream = String::new();
    for delta in deltas {
        stream += &chunk(choice(delta, serde_json::Value::Null), serde_json::Value::Null);
    }
    stream += &chunk(choice(&serde_json::json!({}), finish.into()), serde_json::Value::Null);
    let usage = serde_json::json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
    stream += &chunk(serde_json::json!([]), usage);
    stream + "data: [DONE]\n\n"
}

/// A text answer as a chat stream.
pub(crate) fn chat_text(text: &str) -> String {
    chat_stream(&[serde_json::json!({"role": "assistant", "content": text})], "stop")
}

/// Writes a reply with a length.
pub(crate) fn reply(wire: &mut dyn Wire, status: &str, content_type: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    let _ = wire.write_all((head + body).as_bytes());
    let _ = wire.flush();
}

/// Writes a chunked event stream.
pub(crate) fn reply_stream(wire: &mut dyn Wire, stream: &str) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{head}{:x}\r\n{stream}\r\n0\r\n\r\n", stream.len());
    let _ = wire.write_all(chunk.as_bytes());
    let _ = wire.flush();
}

/// A smallest Responses request.
pub(crate) fn responses_request(text: &str, stream: bool) -> String {
    serde_json::json!({"model": "m", "input": text, "stream": stream}).to_string()
}

/// The path of a file under `tests/`.
pub(crate) fn test_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}
