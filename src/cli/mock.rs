//! `patchbay mock`

use super::common;
use patchbay::config::address;
use patchbay::mock::script::Script;
use patchbay::mock::{GigaChat, Options, Scene, Server, Wire, read_scenes};
use patchbay::proxy::transport::TlsTable;
use patchbay::reactor::watch_signals;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What stands behind the flags in `--help`.
pub(crate) const HELP: &str = "\
A script is key=value pairs with commas between them; each key is also a flag of its own.
  The flags say what every request gets. A model named mock:deltas=200,pace=20ms is the whole
  script itself (what it leaves out has its default, whatever the flags say), and the header
  x-mock-script: status=429 changes single keys of either. A wrong one is a 400 that names it.

Paths:
  POST /v1/chat/completions            chat: Chat Completions (also without /v1)
  POST /v1/responses                   responses: Responses (also without /v1)
  POST /backend-api/codex/responses    codex: the Codex backend of ChatGPT, with its refusals
  POST /api/v1/chat/completions        gigachat, with its refusals
  POST /api/v2/oauth, /api/v1/token    tokens of gigachat for an account
  POST /api/v1/embeddings, /api/v1/files; GET /api/v1/models, /api/v1/files[/ID]
  GET  /v1/models, /healthz, /counters (requests, deltas, bytes, open connections, answers; of
       gigachat tokens, uploads, accounts by their ids, and refusals by their reasons)

What is simulated, and what is not:
  The text, the arguments ({\"call\":0,\"text\":...} of the request's first function tool, tool_0
  without one) and the token counts (a delta is a token, a prompt 16) follow from the script
  alone. Of a request only model, stream, stream_options, tools and functions are looked at; the
  Codex path also asks for store, stream and instructions as the backend does. Any key passes,
  but GigaChat takes nothing but its tokens, and refuses what the real one is known to refuse:
  unknown members, a second system message, temperature 0, results that are no JSON objects or
  have no call, schemas that are not normalised, functions without function_call, unknown files.
  Answers do not repeat a request's instructions, tools or settings. Without stream: true the
  same answer comes as one document. GigaChat answers with one call at most, of a function that
  may be called. The model is always mock-model; ids and times are new in each answer.
  A scene is chosen by what the user said last: the first whose \"when\" is in it. Its calls are
  made one behind the other, each when the result of the last is there; then its text is said,
  in which {results} and {attachments} (their number) are filled in.
  A delta frame is 243 bytes and its text in chat (256 with include_usage), 208 to 212 in
  responses and codex, 125 in gigachat; a write adds 12 bytes of chunk framing.
  frames counts server-sent events, those before and behind the deltas and [DONE] too; each write
  is one HTTP chunk. The timer ticks in milliseconds: a shorter pace holds on average. A write
  that is late (a client that does not read) moves those behind it; none is ever merged. When
  fail_after and cut_after are both reached, the lower number counts, and the failure if equal.
  A client that ends its sending side while its answer waits is taken for gone. Nothing times
  out. A request's body may have 64 MiB, an answer 128 MiB.";

/// The flags of `mock`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on at 127.0.0.1; 0 or none takes a free one, which is printed.
    #[arg(short, long, value_name = "N", env = "PATCHBAY_MOCK_PORT", conflicts_with = "listen")]
    port: Option<u16>,

    /// Address to listen on, IP:PORT [default: 127.0.0.1 with a free port].
    #[arg(long, value_name = "ADDR", env = "PATCHBAY_MOCK_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,

    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 1, env = "PATCHBAY_MOCK_WORKERS")]
    workers: usize,

    /// Answer this wire API alone: chat, responses, codex or gigachat (then also below
    /// /v1) [default: all; the path decides].
    #[arg(long, value_name = "NAME", env = "PATCHBAY_MOCK_DIALECT")]
    dialect: Option<Wire>,

    /// Speak TLS with this certificate (PEM, the chain behind it).
    #[arg(long, value_name = "FILE", env = "PATCHBAY_MOCK_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", env = "PATCHBAY_MOCK_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Take only clients that show a certificate of an authority in this file (PEM).
    #[arg(long, value_name = "FILE", env = "PATCHBAY_MOCK_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Write {"port":N,"pid":N} to this file once listening.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_MOCK_SERVER_INFO")]
    server_info: Option<PathBuf>,

    /// What is logged: off, error, warn, info, debug, trace, or what RUST_LOG takes
    /// [default: RUST_LOG, else info].
    #[arg(long, value_name = "LEVEL", env = "PATCHBAY_MOCK_LOG_LEVEL")]
    log_level: Option<String>,

    #[command(flatten)]
    keys: Keys,

    #[command(flatten)]
    gigachat: GigaChatFlags,
}

/// Who may use GigaChat, and what it says.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "GigaChat")]
struct GigaChatFlags {
    /// An account that may have tokens: client id and secret, or user and password. May be repeated
    /// [default: every pair is one].
    #[arg(long, value_name = "ID:SECRET", env = "PATCHBAY_MOCK_ACCOUNT", hide_env_values = true)]
    account: Vec<String>,

    /// The scope of all accounts [default: GIGACHAT_API_PERS, GIGACHAT_API_B2B and
    /// GIGACHAT_API_CORP].
    #[arg(long, value_name = "SCOPE", env = "PATCHBAY_MOCK_SCOPE")]
    scope: Option<String>,

    /// A token that is taken, too, and does not expire. May be repeated.
    #[arg(long, value_name = "TOKEN", env = "PATCHBAY_MOCK_ACCESS_TOKEN", hide_env_values = true)]
    access_token: Vec<String>,

    /// How long a token lives, in milliseconds.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_800_000,
        env = "PATCHBAY_MOCK_TOKEN_LIFETIME_MS"
    )]
    token_lifetime_ms: u64,

    /// Scenes to answer with where one fits: [{"when":TEXT,"calls":[{"name":NAME,"arguments":{}}],
    /// "text":TEXT}], see below.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_MOCK_SCENES")]
    scenes: Option<PathBuf>,
}

impl GigaChatFlags {
    fn gigachat(&self) -> Result<GigaChat, String> {
        if self.account.iter().any(|account| !account.contains(':')) {
            return Err("--account takes ID:SECRET".to_owned());
        }
        Ok(GigaChat {
            accounts: self.account.clone(),
            scope: self.scope.clone(),
            access_tokens: self.access_token.clone(),
            token_lifetime: Duration::from_millis(self.token_lifetime_ms),
        })
    }

    fn scenes(&self) -> Result<Vec<Scene>, String> {
        let Some(path) = &self.scenes else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path)
            .map_err(|why| format!("cannot read the scenes {}: {why}", path.display()))?;
        read_scenes(&text).map_err(|why| format!("the scenes {} are wrong: {why}", path.display()))
    }
}

/// The keys of a script as flags.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Script")]
struct Keys {
    /// The script as key=value,...; the flags below beat it.
    #[arg(long, value_name = "SCRIPT", env = "PATCHBAY_MOCK_SCRIPT")]
    script: Option<Script>,

    /// Text deltas [default: 16].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_DELTAS", value_parser = key("deltas"))]
    deltas: Option<String>,

    /// Bytes of text in each delta [default: 6].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_BYTES", value_parser = key("bytes"))]
    bytes: Option<String>,

    /// Reasoning deltas before the text [default: 0].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_REASONING", value_parser = key("reasoning"))]
    reasoning: Option<String>,

    /// Calls of the request's first function tool behind the text [default: 0].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_CALLS", value_parser = key("calls"))]
    calls: Option<String>,

    /// Argument deltas of each call [default: 4].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_CALL_DELTAS", value_parser = key("call_deltas"))]
    call_deltas: Option<String>,

    /// plain (words), code (quotes, backslashes, line ends) or cjk (three bytes a character)
    /// [default: plain].
    #[arg(long, value_name = "KIND", env = "PATCHBAY_MOCK_TEXT", value_parser = key("text"))]
    text: Option<String>,

    /// Begin every text delta with `@`, the time at which it is sent (16 digits, microseconds since
    /// 1970) and a space [default: false].
    #[arg(
        long,
        value_name = "BOOL",
        env = "PATCHBAY_MOCK_STAMP",
        value_parser = key("stamp"),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    stamp: Option<String>,

    /// Time between a request and the first byte: 20ms, 500us, 2s [default: 0us].
    #[arg(long, value_name = "TIME", env = "PATCHBAY_MOCK_FIRST", value_parser = key("first"))]
    first: Option<String>,

    /// Time between two writes [default: 0us].
    #[arg(long, value_name = "TIME", env = "PATCHBAY_MOCK_PACE", value_parser = key("pace"))]
    pace: Option<String>,

    /// Frames in one write; 0 puts the whole answer into one, or as many as 256 KiB need
    /// [default: 1].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_FRAMES", value_parser = key("frames"))]
    frames: Option<String>,

    /// Most bytes of the body in one write, wherever that cuts; 0 cuts nowhere [default: 0].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_SLICE", value_parser = key("slice"))]
    slice: Option<String>,

    /// Answer with this HTTP status and an error instead, a 429 and a 503 with Retry-After; 0 for
    /// none [default: 0].
    #[arg(long, value_name = "STATUS", env = "PATCHBAY_MOCK_STATUS", value_parser = key("status"))]
    status: Option<String>,

    /// End with the error event of the wire API behind so many text deltas, at the end of the text
    /// at the latest; without a stream, answer 500.
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_FAIL_AFTER", value_parser = key("fail_after"))]
    fail_after: Option<String>,

    /// Close the connection behind so many text deltas, at the end of the text at the latest.
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_CUT_AFTER", value_parser = key("cut_after"))]
    cut_after: Option<String>,

    /// Chooses the words [default: 1].
    #[arg(long, value_name = "N", env = "PATCHBAY_MOCK_SEED", value_parser = key("seed"))]
    seed: Option<String>,
}

/// Checks the value of a key, so that a wrong one is wrong usage.
fn key(key: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    move |value| Script::default().set(key, value).map(|()| value.to_owned())
}

impl Keys {
    fn script(&self) -> Result<Script, String> {
        let mut script = self.script.unwrap_or_default();
        let flags = [
            ("deltas", &self.deltas),
            ("bytes", &self.bytes),
            ("reasoning", &self.reasoning),
            ("calls", &self.calls),
            ("call_deltas", &self.call_deltas),
            ("text", &self.text),
            ("stamp", &self.stamp),
            ("first", &self.first),
            ("pace", &self.pace),
            ("frames", &self.frames),
            ("slice", &self.slice),
            ("status", &self.status),
            ("fail_after", &self.fail_after),
            ("cut_after", &self.cut_after),
            ("seed", &self.seed),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                script.set(key, value)?;
            }
        }
        Ok(script)
    }
}

/// Serves until a signal.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    common::start_log(args.log_level.as_deref(), "info", None);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port.unwrap_or(0)));
    let options = Options {
        listen: args.listen.unwrap_or(local),
        workers: args.workers,
        script: args.keys.script()?,
        wire: args.dialect,
        tls: certificate(args)?,
        gigachat: args.gigachat.gigachat()?,
        scenes: args.gigachat.scenes()?,
    };
    let server = Server::start(&options)?;
    watch_signals(&[SIGINT, SIGTERM], false, server.mailbox())
        .map_err(|why| format!("cannot catch signals: {why}"))?;
    let address = server.address();
    if let Some(path) = &args.server_info {
        common::write_server_info(path, address)?;
    }
    tell(&options, address).map_err(|why| format!("cannot write to stdout: {why}"))?;
    server.keep()?;
    Ok(ExitCode::SUCCESS)
}

fn certificate(args: &Args) -> Result<Option<Arc<TlsTable>>, String> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let table = TlsTable::new(&[])?;
    let read = |path: &PathBuf, what: &str| {
        std::fs::read(path).map_err(|why| format!("cannot read {what} {}: {why}", path.display()))
    };
    let (chain, secret) = (read(certificate, "the certificate")?, read(key, "the private key")?);
    let clients =
        args.tls_client_ca.as_ref().map(|path| read(path, "the authorities")).transpose()?;
    table.set_server_for(&chain, &secret, clients.as_deref()).map_err(|why| {
        format!("{why} (certificate {}, key {})", certificate.display(), key.display())
    })?;
    Ok(Some(Arc::new(table)))
}

/// Says where it listens, for a program on stdout, and how to ask it, for a person on stderr.
fn tell(options: &Options, address: SocketAddr) -> io::Result<()> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let mut out = io::stdout().lock();
    writeln!(out, "patchbay mock listens on {scheme}://{address}")?;
    out.flush()?;
    let wire = options.wire.unwrap_or(Wire::Chat);
    let body = match wire {
        Wire::Chat => r#"{"model":"mock:deltas=5","stream":true,"messages":[]}"#,
        Wire::GigaChat => {
            r#"{"model":"mock:deltas=5","stream":true,"messages":[{"role":"user","content":"hello"}]}"#
        }
        Wire::Responses => r#"{"model":"mock:deltas=5","stream":true,"input":"hello"}"#,
        Wire::Codex => {
            r#"{"model":"mock:deltas=5","stream":true,"store":false,"instructions":"x","input":[]}"#
        }
    };
    let insecure = if options.tls.is_some() { "k" } else { "" };
    let mut words = format!("script: {}", shown(&options.script));
    let mut token = "";
    if wire == Wire::GigaChat {
        token = " -H \"Authorization: Bearer $TOKEN\"";
        let _ = write!(
            words,
            "\ncurl -{insecure}H 'Authorization: Basic bW9jazptb2Nr' \
             -H 'RqUID: 6f0b1291-c7f3-43c6-bb2e-9f3efb2dc98e' {scheme}://{address}/api/v2/oauth \
             -d scope=GIGACHAT_API_PERS"
        );
    }
    let path = wire.path();
    let _ = write!(words, "\ncurl -N{insecure}{token} {scheme}://{address}{path} -d '{body}'");
    common::say(&words);
    Ok(())
}

fn shown(script: &Script) -> String {
    let text = script.to_string();
    if text.is_empty() {
        "the default (16 text deltas of 6 bytes, no pauses)".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _};

    fn keys(args: &[&str]) -> Result<Script, String> {
        let command = super::super::Cli::command().no_binary_name(true);
        let matches = command.try_get_matches_from([&["mock"], args].concat());
        let matches = matches.map_err(|why| why.to_string())?;
        let (_, matches) = matches.subcommand().unwrap();
        Args::from_arg_matches(matches).unwrap().keys.script()
    }

    #[test]
    fn every_key_of_a_script_is_a_flag() {
        let command = super::super::Cli::command();
        let mock = command.find_subcommand("mock").unwrap();
        let flags: Vec<_> = mock.get_arguments().map(|flag| flag.get_id().as_str()).collect();
        for key in Script::KEYS {
            assert!(flags.contains(&key), "--{key} is missing");
        }
    }

    #[test]
    fn flags_beat_the_script_that_they_stand_beside() {
        let script = keys(&["--script", "deltas=3,pace=1ms", "--deltas", "4", "--stamp"]);
        assert_eq!(script, "deltas=4,pace=1ms,stamp=true".parse());
        let script = keys(&["--call-deltas", "2", "--stamp=false", "--fail-after", "0"]);
        assert_eq!(script, "call_deltas=2,fail_after=0".parse());
        let why = keys(&["--pace", "20"]).unwrap_err();
        assert!(why.contains("pace=20: takes a number with us, ms or s"), "{why}");
    }
}
