//! What was typed. What it means is [`patchbay::config`]'s business.

pub(crate) mod auth;
pub(crate) mod bench;
mod codex;
mod common;
pub(crate) mod demo;
mod log;
pub(crate) mod mock;
pub(crate) mod run;
mod scripted;
pub(crate) mod serve;
mod variables;

pub(crate) use variables::parse;

use clap::{ArgAction, Args, Parser, Subcommand};
use patchbay::config::Overrides;
use std::path::PathBuf;

/// Lets any coding agent use any model API: a streaming proxy between wire APIs.
#[derive(Debug, Parser)]
#[command(
    name = "patchbay",
    version,
    after_help = "Exit codes: 0 in order, 1 failure, 2 wrong usage, 128+N ended by a second signal N."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole path without a key or a network: the proxy and a scripted model.
    ///
    /// Sends one request through both, shows the stream that comes back, then stays up and tells
    /// how to use it.
    Demo(demo::Args),
    /// Run the proxy until a signal ends it.
    ///
    /// SIGINT and SIGTERM let what runs finish for `[timeouts] drain_ms` while nothing new is
    /// taken, then the exit code is 0. A second signal ends it at once. SIGHUP reads the certificate
    /// of `--tls-cert` again, and is ignored without one.
    Serve(serve::Args),
    /// Run one command with a proxy of its own, which it is pointed at.
    ///
    /// `codex` is given a provider, and a catalog of the models that the flags or the file name,
    /// as `-c` overrides. Any other command gets OPENAI_BASE_URL, and OPENAI_API_KEY if it has
    /// none. Terminal, signals and exit code pass through, and nothing is left behind.
    Run(run::Args),
    /// Show which credential of `codex login` would be used, and until when; never the secret.
    ///
    /// The exit code is 1 when there is none that is of use.
    Auth(auth::Args),
    /// Run a scripted model server in any upstream's wire API, to test and to measure with.
    ///
    /// What it answers follows from a script to the byte, and when it answers, too: how many deltas,
    /// how large, how far apart, how they are cut, where they fail. SIGINT and SIGTERM end it at
    /// once.
    #[command(after_help = mock::HELP)]
    Mock(Box<mock::Args>),
    /// Put load on a server of the Responses or Chat Completions API and check every answer.
    ///
    /// Tells what answers and deltas cost (CPU, memory) and how long they took, for one server or
    /// for several side by side. Ctrl-C stops it and tells what there is.
    Bench(Box<bench::Args>),
}

/// The flags that describe where requests go.
#[derive(Debug, Default, Args)]
pub(crate) struct Flags {
    /// Configuration file (TOML); flags beat it.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_CONFIG")]
    config: Option<PathBuf>,

    /// A built-in configuration below the file: chatgpt, codex-backend, codex-exec or gigachat.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_PRESET")]
    preset: Option<String>,

    /// Variables for flags and configuration that the environment does not set, as NAME=value lines
    /// [default: `serve` reads .env in its working directory, if there is one].
    #[arg(long, value_name = "FILE", env = "PATCHBAY_ENV_FILE")]
    env_file: Option<PathBuf>,

    /// The upstream: a base URL (https://host, https://host/v1) or the whole URL of the operation
    /// [default: https://api.openai.com/v1/chat/completions, with the key of OPENAI_API_KEY].
    #[arg(long, value_name = "URL", env = "PATCHBAY_UPSTREAM_URL", hide_env_values = true)]
    upstream_url: Option<String>,

    /// The wire API that the upstream speaks: chat, responses or gigachat [default: as the URL
    /// ends, else chat].
    #[arg(long, value_name = "NAME", env = "PATCHBAY_UPSTREAM_DIALECT")]
    upstream_dialect: Option<String>,

    /// Name of the environment variable that holds the upstream's key.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_API_KEY_ENV", hide_env_values = true)]
    api_key_env: Option<String>,

    /// Use the tokens of `codex login` in this file for the upstream
    /// [default URL: https://chatgpt.com/backend-api/codex/responses].
    #[arg(long, value_name = "FILE", env = "PATCHBAY_AUTH_PATH", conflicts_with = "api_key_env")]
    auth_path: Option<PathBuf>,

    /// Send requests for the model FROM (one `*` stands for any text) as model TO, or to a named
    /// provider: FROM=PROVIDER/TO. May be repeated; the first that matches counts.
    #[arg(
        long = "model",
        value_name = "FROM=TO",
        env = "PATCHBAY_MODEL",
        value_delimiter = ',',
        action = ArgAction::Append
    )]
    models: Vec<String>,

    /// Certificates (PEM) to trust next to the built-in roots.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_CA_FILE")]
    ca_file: Option<PathBuf>,

    /// Write all four sides of every exchange to files in this folder, without secrets.
    #[arg(long, value_name = "DIR", env = "PATCHBAY_CAPTURE")]
    capture: Option<PathBuf>,

    /// Worker threads [default: one for each core; `run`: 1].
    #[arg(long, value_name = "N", env = "PATCHBAY_WORKERS")]
    workers: Option<usize>,

    /// What is logged: off, error, warn, info, debug, trace, or what RUST_LOG takes
    /// [default: RUST_LOG, else info].
    #[arg(long, value_name = "LEVEL", env = "PATCHBAY_LOG_LEVEL")]
    log_level: Option<String>,
}

impl Flags {
    /// What they say about the configuration.
    fn overrides(&self) -> Overrides {
        Overrides {
            preset: self.preset.clone(),
            auth_path: self.auth_path.clone(),
            capture: self.capture.clone(),
            workers: self.workers,
            upstream_url: self.upstream_url.clone(),
            upstream_dialect: self.upstream_dialect.clone(),
            api_key_env: self.api_key_env.clone(),
            ca_file: self.ca_file.clone(),
            models: self.models.clone(),
            ..Overrides::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_name() {
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter(|it| it.get_long().is_some()) {
                let id = flag.get_id().as_str();
                if matches!(id, "help" | "version" | "verbose" | "once") {
                    continue;
                }
                let env = flag.get_env().unwrap_or_else(|| panic!("--{id} has none"));
                assert!(env.to_str().unwrap().starts_with("PATCHBAY_"), "{env:?}");
            }
        }
    }
}
