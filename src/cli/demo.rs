//! `patchbay demo`: the whole path on one machine, with a scripted model for an upstream.

use super::{common, scripted};
use patchbay::config::{self, Overrides, World};
use patchbay::proxy::transport::TlsTable;
use patchbay::reactor::Proxy;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, BufRead as _, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What the demo asks the model.
const PROMPT: &str = "hello from the demo";

/// Longest silence of the stream before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The flags of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of the proxy on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0, env = "PATCHBAY_DEMO_PORT")]
    port: u16,
    /// Port of the scripted model on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0, env = "PATCHBAY_DEMO_UPSTREAM_PORT")]
    upstream_port: u16,
    /// Leave after the first exchange instead of staying up.
    #[arg(long, env = "PATCHBAY_DEMO_ONCE")]
    once: bool,
}

/// Runs the demo to its end.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    common::start_log(None, "warn", None);
    let model = scripted::start(args.upstream_port).map_err(|why| {
        format!("the scripted model cannot use port {}: {why}", args.upstream_port)
    })?;
    let proxy = start(args.port, model)?;
    common::watch(&proxy, &[SIGINT, SIGTERM, SIGHUP], false)?;
    let address = *proxy.addresses().first().ok_or("the proxy listens nowhere")?;
    let failed = |why: io::Error| format!("the demo's own request failed: {why}");
    let mut out = io::stdout().lock();
    let told = writeln!(
        out,
        "scripted model (Chat Completions)   http://{model}/v1\n\
         patchbay (Responses and Chat)       http://{address}/v1\n\n\
         POST /v1/responses  \"{PROMPT}\"  streamed back:\n"
    );
    told.map_err(failed)?;
    exchange(address, &mut out).map_err(failed)?;
    if args.once {
        proxy.stop();
        return Ok(ExitCode::SUCCESS);
    }
    stay(&mut out, address).map_err(failed)?;
    drop(out);
    Ok(common::keep(proxy, || {}))
}

fn start(port: u16, model: SocketAddr) -> Result<Proxy, String> {
    let file = format!(
        "[providers.scripted]\n\
         dialect = \"chat\"\n\
         url = \"http://{model}/v1\"\n\
         credential = {{ kind = \"none\" }}\n\
         [[providers.scripted.models]]\n\
         id = \"{}\"\n\
         [[routes]]\n\
         model = \"*\"\n\
         provider = \"scripted\"\n\
         upstream_model = \"{0}\"\n",
        scripted::MODEL
    );
    let overrides = Overrides {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        workers: Some(1),
        ..Overrides::default()
    };
    let world = World { var: &|_| None, cores: 1 };
    let config = config::load(Some((Path::new("demo.toml"), &file)), &overrides, world)?;
    Proxy::start(&Arc::new(config), &Arc::new(TlsTable::new(&[])?))
}

/// Sends one request as any client would and prints the events as they come.
fn exchange(address: SocketAddr, out: &mut impl Write) -> io::Result<()> {
    let body =
        serde_json::json!({"model": scripted::MODEL, "input": PROMPT, "stream": true}).to_string();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /v1/responses HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let (mut completed, mut status) = (false, String::new());
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if status.is_empty() {
            status.clone_from(&line);
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        completed |= data.contains("\"type\":\"response.completed\"");
        show(data, out)?;
    }
    if completed {
        return Ok(());
    }
    Err(io::Error::other(format!("the stream has no response.completed ({status})")))
}

/// Prints one event on one line: its type, and what it says.
fn show(data: &str, out: &mut impl Write) -> io::Result<()> {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let kind = event["type"].as_str().unwrap_or(data);
    let says = ["delta", "text", "arguments"].into_iter().find_map(|key| event[key].as_str());
    match says {
        Some(text) => writeln!(out, "  {kind:40} {}", Value::from(text))?,
        None => writeln!(out, "  {kind}")?,
    }
    out.flush()
}

fn stay(out: &mut impl Write, address: SocketAddr) -> io::Result<()> {
    let model = scripted::MODEL;
    writeln!(
        out,
        "\nThe proxy stays up until Ctrl-C. Use it:\n\n\
         curl -N http://{address}/v1/responses -H 'content-type: application/json' \\\n  \
         -d '{{\"model\":\"{model}\",\"input\":\"hello\",\"stream\":true}}'\n\n\
         codex exec --skip-git-repo-check \\\n  \
         -c 'model_providers.patchbay={{name=\"patchbay\",base_url=\"http://{address}/v1\",\
         wire_api=\"responses\"}}' \\\n  \
         -c 'model_provider=\"patchbay\"' -c 'model=\"{model}\"' 'list the files here'\n"
    )?;
    out.flush()
}
