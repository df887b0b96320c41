//! What the process does, checked and immutable: the meaning of flags, environment and file.

mod build;
mod check;
mod clients;
pub mod codex_home;
mod credential;
pub mod exec;
mod expand;
mod file;
mod nearest;
mod preset;
mod provider;
mod url;
mod value;
mod variables;

pub use build::{Overrides, World, address, addresses, load};
pub use credential::{Callers, CodexAuth, Credential, Grant, GrantKind, codex_auth_path};
pub use preset::PRESETS;
pub use variables::Variables;

use crate::dialect::Dialect;
use crate::dialect::quirks::{EffortStyle, Quirks};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use value::{count, milliseconds};

/// Everything a worker needs to know. Shared by all, never changed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Number of workers, each with its own thread, listeners and pool.
    pub workers: usize,
    /// The upstreams.
    pub providers: Vec<Provider>,
    /// Which model goes where; the first that matches.
    pub routes: Vec<Route>,
    /// Keys that clients must show; empty = anybody who passes the `Host` check.
    pub client_keys: Vec<ClientKey>,
    /// Host names (no port) that a request's `Host` may carry when there are no client keys, next
    /// to loopback names and the listen addresses.
    pub hosts: Vec<String>,
    /// Origins that a browser may send, exactly (`https://app.example`).
    pub origins: Vec<String>,
    /// Sizes and counts.
    pub limits: Limits,
    /// Patience.
    pub timeouts: Timeouts,
    /// Refuse with a 400 what would be dropped with a note.
    pub strict: bool,
    /// Retry once on a fresh connection when a reused one died before its first reply byte.
    pub retry_stale: bool,
    /// `GET /shutdown` from loopback ends the process.
    pub http_shutdown: bool,
    /// Where to write `{"port":N,"pid":N}` once listening.
    pub server_info: Option<PathBuf>,
    /// Speak TLS to clients with this certificate, which is read again on SIGHUP.
    pub tls: Option<CertificateFiles>,
    /// Requests that one address may make where there are no client keys; `None` = any number.
    pub address_rate: Option<Rate>,
    /// Where exchanges are written down, for engineers; `None` = nowhere.
    pub capture: Option<Capture>,
    /// What is logged, where neither a flag nor the environment says: `info` ...
    pub log_level: Option<String>,
    /// The environment variables that it goes by.
    pub variables: Variables,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the own certificate first.
    pub certificate: PathBuf,
    /// Its private key; perhaps in the same file.
    pub key: PathBuf,
}

/// Whom to believe in TLS towards an upstream, and who to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Certificates trusted next to the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for an upstream that wants one.
    pub client_certificate: Option<CertificateFiles>,
    /// Believe any certificate: whoever is in between can read the credential and all content.
    pub unverified: bool,
}

/// How often something may happen (GCRA: a steady rate with a burst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a minute, at least 1.
    pub per_minute: u32,
    /// Of those, at once; at least 1.
    pub burst: u32,
}

/// Where exchanges are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The folder.
    pub folder: PathBuf,
    /// Of each side of an exchange, so many bytes.
    pub side_bytes_max: usize,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in the configuration.
    pub name: String,
    /// The wire API that it speaks.
    pub dialect: &'static dyn Dialect,
    /// Where.
    pub url: Url,
    /// What proves that we may.
    pub credential: Credential,
    /// Clients may bring an account of their own, and then nothing else is used for them.
    pub callers: Option<Callers>,
    /// Headers sent with every request, checked: legal names and values.
    pub headers: Vec<(String, String)>,
    /// How it is spoken to in TLS.
    pub tls: UpstreamTls,
    /// Acknowledge its streams late, several reads at once: saves a fifth of a paced delta's cost, and
    /// makes an upstream that keeps a small piece back until the last one is acknowledged (Nagle,
    /// RFC 896) wait up to 40 ms for that. Off unless asked for.
    pub delay_acks: bool,
    /// Its habits.
    pub quirks: Quirks,
    /// The models it is known to have, listed by `GET /models`.
    pub models: Vec<Model>,
    /// The only models that clients may name for it (400 `model_not_allowed` for others); empty =
    /// all. A name with an effort suffix counts as its model.
    pub allow: Vec<String>,
    /// Tell clients of the models that it lists itself (`GET /models`), too.
    pub list_models: bool,
    /// The model for embeddings that stands for names which are none of its own; `None` = any name
    /// goes as it is.
    pub embeddings_model: Option<String>,
    /// Text put into `instructions` when the client brings its own system prompt and tools, which
    /// then stay as developer text; `None` = off.
    pub bridge: Option<String>,
    /// `instructions` for requests that have none, where the upstream wants some.
    pub instructions: Option<String>,
    /// How it is run, where it is a local `codex exec`.
    pub exec: Option<exec::Exec>,
}

/// A model as `GET /models` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name that clients use.
    pub id: String,
    /// Tokens that fit, for the Codex catalog.
    pub context_window: u64,
    /// Takes images.
    pub images: bool,
    /// Reasons, and takes an effort.
    pub reasoning: bool,
    /// Offer `apply_patch` as a freeform tool in the Codex catalog.
    pub apply_patch: bool,
}

impl Model {
    /// What can be assumed of a model of which only the name and the upstream's habits are known.
    #[must_use]
    pub fn guess(id: String, quirks: &Quirks) -> Self {
        let openai = quirks.openai_parameters;
        Self {
            id,
            context_window: 128_000,
            images: quirks.images,
            reasoning: openai && quirks.effort != EffortStyle::Omit,
            apply_patch: openai,
        }
    }
}

/// An upstream URL, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// `https`?
    pub tls: bool,
    /// Host name or address, lower case, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The full path of the operation, with the query if there is one
    /// (`/v1/chat/completions`).
    pub path: String,
}

/// A key that a client may show.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Who it is, for logs.
    pub name: String,
    /// The secret.
    pub secret: String,
    /// How often it may be used.
    pub rate: Option<Rate>,
    /// Exchanges at once.
    pub exchanges_max: Option<u32>,
    /// The models that it may ask for, as patterns; empty = all.
    pub models: Vec<String>,
}

impl std::fmt::Debug for ClientKey {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientKey({})", self.name)
    }
}

/// Sends the models that match a pattern to a provider.
#[derive(Clone, Debug)]
pub struct Route {
    /// The model name; one `*` stands for any text.
    pub pattern: String,
    /// Index into [`Config::providers`].
    pub provider: usize,
    /// The model name upstream; `None` keeps the client's.
    pub model: Option<String>,
    /// Settings for requests that do not say.
    pub defaults: Defaults,
}

/// Settings for requests that do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Reasoning effort.
    pub effort: Option<String>,
    /// Reasoning summary (`auto`, `concise`, `detailed`).
    pub summary: Option<String>,
    /// Verbosity (`low`, `medium`, `high`).
    pub verbosity: Option<String>,
    /// The answer's tokens, at most.
    pub output_tokens_max: Option<u64>,
}

/// Sizes and counts. Every one is a key of `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Request and reply heads, whole.
    #[serde(deserialize_with = "count")]
    pub head_bytes_max: usize,
    /// The request line.
    #[serde(deserialize_with = "count")]
    pub request_line_bytes_max: usize,
    /// Header fields of a head.
    #[serde(deserialize_with = "count")]
    pub headers_max: usize,
    /// A request body, decoded.
    #[serde(deserialize_with = "count")]
    pub body_bytes_max: usize,
    /// A request body up to this size is translated in its worker's turn, where all others wait for
    /// it; a larger one, or one with a content coding, in a thread beside.
    #[serde(deserialize_with = "count")]
    pub inline_bytes_max: usize,
    /// Chunk extensions and trailers of one body, together.
    #[serde(deserialize_with = "count")]
    pub chunk_overhead_bytes_max: usize,
    /// One event of a stream, or a whole reply document.
    #[serde(deserialize_with = "count")]
    pub frame_bytes_max: usize,
    /// Reading from the upstream stops above this many bytes that the client has not taken.
    #[serde(deserialize_with = "count")]
    pub pending_high_bytes: usize,
    /// And goes on below this many.
    #[serde(deserialize_with = "count")]
    pub pending_low_bytes: usize,
    /// Informational (1xx) replies before the final one.
    #[serde(deserialize_with = "count")]
    pub informational_max: u32,
    /// Idle upstream connections kept for each provider and worker.
    #[serde(deserialize_with = "count")]
    pub pool_idle_max: usize,
    /// Requests on one upstream connection.
    #[serde(deserialize_with = "count")]
    pub pool_uses_max: u32,
    /// Upstream connects under way at once in each worker.
    #[serde(deserialize_with = "count")]
    pub connecting_max: usize,
    /// Client connections of one worker.
    #[serde(deserialize_with = "count")]
    pub clients_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 << 10,
            request_line_bytes_max: 8 << 10,
            headers_max: 100,
            body_bytes_max: 64 << 20,
            inline_bytes_max: 1 << 20,
            chunk_overhead_bytes_max: 16 << 10,
            frame_bytes_max: 16 << 20,
            pending_high_bytes: 64 << 10,
            pending_low_bytes: 16 << 10,
            informational_max: 16,
            pool_idle_max: 64,
            pool_uses_max: 1000,
            connecting_max: 256,
            clients_max: 100_000,
        }
    }
}

/// Patience. Every one is a key of `[timeouts]`: in milliseconds there, or text as `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the first byte of a request head to its end.
    #[serde(rename = "client_head_ms", deserialize_with = "milliseconds")]
    pub client_head: Duration,
    /// A kept-alive connection without a request.
    #[serde(rename = "client_idle_ms", deserialize_with = "milliseconds")]
    pub client_idle: Duration,
    /// A request body, whole; a second more for every 64 KiB of it.
    #[serde(rename = "client_body_ms", deserialize_with = "milliseconds")]
    pub client_body: Duration,
    /// The client takes no byte of what is ready for it.
    #[serde(rename = "client_write_ms", deserialize_with = "milliseconds")]
    pub client_write: Duration,
    /// TCP connect to the upstream.
    #[serde(rename = "connect_ms", deserialize_with = "milliseconds")]
    pub connect: Duration,
    /// TLS handshake with the upstream.
    #[serde(rename = "tls_ms", deserialize_with = "milliseconds")]
    pub tls: Duration,
    /// The upstream takes no byte of the request.
    #[serde(rename = "upstream_write_ms", deserialize_with = "milliseconds")]
    pub upstream_write: Duration,
    /// From the request's last byte to the reply head's last.
    #[serde(rename = "upstream_head_ms", deserialize_with = "milliseconds")]
    pub upstream_head: Duration,
    /// Between two reads of a reply body.
    #[serde(rename = "upstream_idle_ms", deserialize_with = "milliseconds")]
    pub upstream_idle: Duration,
    /// A pooled connection without use.
    #[serde(rename = "pool_idle_ms", deserialize_with = "milliseconds")]
    pub pool_idle: Duration,
    /// Upstream silence after which the client gets a keep-alive.
    #[serde(rename = "keep_alive_ms", deserialize_with = "milliseconds")]
    pub keep_alive: Duration,
    /// From a shutdown signal to the end, however many streams run.
    #[serde(rename = "drain_ms", deserialize_with = "milliseconds")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            client_head: seconds(10),
            client_idle: seconds(75),
            client_body: seconds(60),
            client_write: seconds(60),
            connect: seconds(5),
            tls: seconds(5),
            upstream_write: seconds(60),
            upstream_head: seconds(600),
            upstream_idle: seconds(300),
            pool_idle: seconds(30),
            keep_alive: seconds(15),
            drain: seconds(30),
        }
    }
}
