//! `patchbay run`: a proxy for the lifetime of one command.

use super::common::code;
use super::variables::Variables;
use super::{Flags, codex, common};
use patchbay::config::Config;
use patchbay::reactor::{Notice, Proxy};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// The flags of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: patchbay run --upstream-url https://host/v1 \
    --api-key-env KEY -- codex exec \"explain this repository\"")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,

    /// Say where the proxy listens and logs.
    #[arg(short, long)]
    verbose: bool,

    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

impl Args {
    /// The flags that it shares.
    pub(super) fn flags(&self) -> &Flags {
        &self.flags
    }
}

/// Runs the command to its end and returns its exit code.
pub(crate) fn run(args: &Args, variables: &Variables) -> Result<ExitCode, String> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err("no command given".to_owned());
    };
    let scratch = common::Scratch::new()?;
    let log = scratch.file("patchbay.log");
    let file = common::create_private(&log).map_err(|why| format!("cannot log: {why}"))?;

    let mut overrides = args.flags.overrides();
    overrides.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    overrides.workers = overrides.workers.or(Some(1));
    // The command on this machine would have to trust the certificate, and is told http://.
    overrides.plain = true;
    let (config, tls) = common::load(args.flags.config.as_deref(), &overrides, variables)?;
    let level = config.log_level.as_deref().unwrap_or("info");
    common::start_log(args.flags.log_level.as_deref(), level, Some(file));
    let proxy = Proxy::start(&config, &tls)?;
    common::watch(&proxy, &[SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP], false)?;
    let address = proxy.addresses().first().copied().ok_or("the proxy has no address")?;
    let base_url = format!("http://{address}/v1");
    if args.verbose {
        common::say(&format!("patchbay: proxy at {base_url}, log in {}", log.display()));
    }

    let mut command = Command::new(program);
    if codex::is_codex(program) {
        point_codex(&mut command, rest, &config, &base_url, &scratch)?;
    } else {
        command.args(rest).env("OPENAI_BASE_URL", &base_url);
        // Clients refuse to start without a key, whatever the proxy thinks of it.
        let key = config.client_keys.first().map(|key| key.secret.as_str());
        if key.is_some() || is_unset("OPENAI_API_KEY") {
            command.env("OPENAI_API_KEY", key.unwrap_or("unused"));
        }
    }
    bypass_http_proxies(&mut command);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(why) => {
            proxy.stop();
            return Err(format!("cannot run {}: {why}", program.display()));
        }
    };
    let status = accompany(proxy, child)?;
    let logged = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if !status.success() && logged {
        common::say(&format!("patchbay: the proxy's log is in {}", log.display()));
        scratch.keep();
    }
    Ok(code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
}

/// Waits for the child while the proxy runs. The terminal's own signals reach the child without
/// us; those that a supervisor sends to us alone are passed on.
fn accompany(mut proxy: Proxy, mut child: Child) -> Result<ExitStatus, String> {
    let status = loop {
        match proxy.wait() {
            Notice::Signal(SIGCHLD) => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => break Ok(status),
                Err(why) => break Err(format!("lost sight of the command: {why}")),
            },
            Notice::Signal(SIGTERM) => signal(&child, "TERM"),
            Notice::Signal(SIGHUP) => signal(&child, "HUP"),
            Notice::Signal(_) | Notice::Reload | Notice::Shutdown => {}
            Notice::Worker(words) => {
                log::error!("the proxy has ended: {}", words.unwrap_or_default());
            }
        }
    };
    proxy.stop();
    status
}

/// Sends a signal to the child. It is ours and not reaped yet, so its id cannot be another's.
fn signal(child: &Child, name: &str) {
    // The shell's own `kill`: without unsafe code there is no other, and every system has it.
    let script = format!("kill -s {name} {}", child.id());
    let sent = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    if let Err(why) = sent {
        log::error!("cannot pass the signal {name} on: {why}");
    }
}

/// Puts our overrides right behind `codex`, where they hold for every subcommand and lose against
/// those that the user typed behind one.
fn point_codex(
    command: &mut Command,
    rest: &[OsString],
    config: &Config,
    base_url: &str,
    scratch: &common::Scratch,
) -> Result<(), String> {
    let catalog = match codex::models(config, codex::chosen_model(rest).as_deref()) {
        None => None,
        Some(bytes) => {
            let path = scratch.file("models.json");
            let written = common::create_private(&path).and_then(|mut it| it.write_all(&bytes));
            written.map_err(|why| format!("cannot write {}: {why}", path.display()))?;
            Some(path)
        }
    };
    for setting in codex::overrides(config, base_url, catalog.as_deref()) {
        command.arg("-c").arg(setting);
    }
    command.args(rest);
    if let Some(key) = config.client_keys.first() {
        command.env(codex::KEY_ENV, &key.secret);
    }
    Ok(())
}

fn is_unset(name: &str) -> bool {
    std::env::var_os(name).is_none_or(|value| value.is_empty())
}

/// A client must not ask a company's HTTP proxy for a server on this machine.
fn bypass_http_proxies(command: &mut Command) {
    const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    if PROXIES.iter().all(|name| is_unset(name)) {
        return;
    }
    for name in ["NO_PROXY", "no_proxy"] {
        let mut list = std::env::var_os(name).unwrap_or_default();
        if !list.is_empty() {
            list.push(",");
        }
        list.push("127.0.0.1");
        command.env(name, list);
    }
}
