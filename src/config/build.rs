//! From what was written (a file, flags) to what is meant: a checked [`Config`].

use super::expand::is_name;
use super::file::{self, File};
use super::nearest::nearest;
use super::{
    ClientKey, CodexAuth, Config, Credential, Defaults, Limits, Model, Provider, Route, Timeouts,
    Url,
};
use crate::dialect::quirks::Quirks;
use crate::dialect::{self, DIALECTS, Dialect};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The upstream when neither a flag nor a file names one.
const OPENAI: &str = "https://api.openai.com/v1/chat/completions";
/// And the variable with its key.
const OPENAI_KEY: &str = "OPENAI_API_KEY";
/// Where the Codex CLI refreshes its tokens, and the variable that tells it another place.
const TOKEN_URL: &str = "https://auth.openai.com/oauth/token";
const TOKEN_URL_ENV: &str = "CODEX_REFRESH_TOKEN_URL_OVERRIDE";
/// Where the API key of the Codex CLI's file is good for.
const KEY_URL: &str = "https://api.openai.com";
/// The provider that flags describe.
const FLAGS_PROVIDER: &str = "upstream";
/// More workers than any machine has cores for are a mistake.
const WORKERS_MAX: usize = 1024;
/// Header fields that the proxy writes itself.
const OWN_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept",
    "accept-encoding",
    "proxy-connection",
];

/// What flags and their environment variables say; it beats the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Addresses to listen on instead of the file's.
    pub listen: Vec<SocketAddr>,
    /// Number of workers.
    pub workers: Option<usize>,
    /// URL of the only provider.
    pub upstream_url: Option<String>,
    /// Dialect of the only provider.
    pub upstream_dialect: Option<String>,
    /// Name of the variable that holds the only provider's key.
    pub api_key_env: Option<String>,
    /// Certificates trusted for the only provider.
    pub ca_file: Option<PathBuf>,
    /// Routes before the file's: `FROM=TO` or `FROM=PROVIDER/TO`.
    pub models: Vec<String>,
    /// Where to write the port.
    pub server_info: Option<PathBuf>,
    /// Allow `GET /shutdown`; `false` keeps what the file says.
    pub http_shutdown: bool,
}

/// What configuration may know of the machine.
#[derive(Clone, Copy)]
pub struct World<'w> {
    /// Reads an environment variable.
    pub var: &'w dyn Fn(&str) -> Option<String>,
    /// Number of cores.
    pub cores: usize,
}

/// Reads a file's text (if there is one; its path is for messages and for the paths in it), lays
/// the overrides over it and checks everything.
///
/// # Errors
/// Where something is wrong, which value, and what to do, in words for people.
pub fn load(
    file: Option<(&Path, &str)>,
    overrides: &Overrides,
    world: World<'_>,
) -> Result<Config, String> {
    let Some((path, text)) = file else {
        return build(File::default(), Path::new(""), overrides, world);
    };
    let named = |why: String| format!("{}: {why}", path.display());
    let read = file::parse(text, world.var).map_err(named)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    build(read, folder, overrides, world).map_err(named)
}

fn build(
    mut file: File,
    folder: &Path,
    overrides: &Overrides,
    world: World<'_>,
) -> Result<Config, String> {
    apply_upstream(&mut file, overrides)?;
    check_limits(&file.limits)?;
    check_timeouts(&file.timeouts)?;
    let mut providers = Vec::new();
    for (name, written) in file.providers {
        let built = provider(&name, written, folder, world);
        providers.push(built.map_err(|why| {
            if why.starts_with("missing or empty env var") {
                why
            } else {
                format!("[providers.{name}] {why}")
            }
        })?);
    }
    let mut routes = Vec::new();
    for typed in &overrides.models {
        routes.push(typed_route(typed, &mut providers)?);
    }
    let has_routes = !file.routes.is_empty();
    for (index, written) in file.routes.into_iter().enumerate() {
        let built = file_route(written, &providers);
        routes.push(built.map_err(|why| format!("[[routes]] number {}: {why}", index + 1))?);
    }
    implied_routes(&mut routes, &providers, has_routes)?;
    let server = file.server;
    Ok(Config {
        listen: listen(&server.listen, &overrides.listen)?,
        workers: workers(overrides.workers.or(server.workers), world.cores)?,
        providers,
        routes,
        client_keys: client_keys(file.clients)?,
        hosts: server.hosts.iter().map(|it| host(it)).collect::<Result<_, _>>()?,
        origins: server.origins.iter().map(|it| origin(it)).collect::<Result<_, _>>()?,
        limits: file.limits,
        timeouts: file.timeouts,
        strict: server.strict,
        retry_stale: server.retry_stale.unwrap_or(true),
        http_shutdown: server.http_shutdown || overrides.http_shutdown,
        server_info: overrides
            .server_info
            .clone()
            .or_else(|| server.server_info.map(|path| folder.join(path))),
        tls: None,
        address_rate: None,
        capture: None,
    })
}

/// Lays the flags that describe an upstream over the file's only provider, or makes one of them.
fn apply_upstream(file: &mut File, overrides: &Overrides) -> Result<(), String> {
    let given = [
        ("--upstream-url", overrides.upstream_url.is_some()),
        ("--upstream-dialect", overrides.upstream_dialect.is_some()),
        ("--api-key-env", overrides.api_key_env.is_some()),
        ("--ca-file", overrides.ca_file.is_some()),
    ];
    if file.providers.is_empty() {
        // The key of api.openai.com must never go to another host by default.
        let (url, credential) = match &overrides.upstream_url {
            Some(url) => (url.clone(), None),
            None => {
                let env = OPENAI_KEY.to_owned();
                (OPENAI.to_owned(), Some(file::Credential::Key { env }))
            }
        };
        let made = file::Provider { url, credential, ..file::Provider::default() };
        file.providers.insert(FLAGS_PROVIDER.to_owned(), made);
    } else if file.providers.len() > 1
        && let Some((flag, _)) = given.iter().find(|(_, given)| *given)
    {
        let names: Vec<&str> = file.providers.keys().map(String::as_str).collect();
        return Err(format!(
            "{flag} describes the only provider, but the file has {}: {}. Change the file instead",
            names.len(),
            names.join(", ")
        ));
    }
    for provider in file.providers.values_mut() {
        if let Some(url) = &overrides.upstream_url {
            provider.url.clone_from(url);
        }
        if let Some(dialect) = &overrides.upstream_dialect {
            provider.dialect = Some(dialect.clone());
        }
        if let Some(env) = &overrides.api_key_env {
            provider.credential = Some(file::Credential::Key { env: env.clone() });
        }
        if let Some(path) = &overrides.ca_file {
            provider.ca_file = Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        }
    }
    Ok(())
}

fn provider(
    name: &str,
    written: file::Provider,
    folder: &Path,
    world: World<'_>,
) -> Result<Provider, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err("a provider's name is made of letters, digits, `-`, `_` and `.`".to_owned());
    }
    let url = Url::parse(&written.url)?;
    let dialect = dialect_of(written.dialect.as_deref(), &url)?;
    let profile = match written.quirks_profile {
        Some(host) => Quirks::for_host(&host.to_ascii_lowercase()),
        None => Quirks::for_host(&url.host),
    };
    let quirks = overlay(&profile, written.quirks)?;
    let credential = match written.credential {
        None | Some(file::Credential::None {}) => Credential::None,
        Some(file::Credential::Client {}) => Credential::Client,
        Some(file::Credential::Key { env }) => Credential::Key(secret(&env, world)?),
        Some(file::Credential::CodexAuth { path, token_url, key_url }) => {
            let token_url = token_url.or_else(|| (world.var)(TOKEN_URL_ENV));
            let key_url = Url::parse(key_url.as_deref().unwrap_or(KEY_URL))?;
            let path = path.map(|path| folder.join(path)).or_else(|| codex_auth_path(world));
            Credential::CodexAuth(CodexAuth {
                path: path.ok_or("credential: name the `path` of auth.json")?,
                token_url: Url::parse(token_url.as_deref().unwrap_or(TOKEN_URL))?,
                key_url: key_url.with_operation(dialect.path()),
            })
        }
    };
    let mut headers = Vec::new();
    for (field, value) in written.headers {
        headers.push(header(&field, &value)?);
    }
    let models =
        written.models.into_iter().map(|it| model(it.0, &quirks)).collect::<Result<_, _>>()?;
    Ok(Provider {
        name: name.to_owned(),
        dialect,
        url: url.with_operation(dialect.path()),
        credential,
        headers,
        ca_file: written.ca_file.map(|path| folder.join(path)),
        quirks,
        models,
        allow: Vec::new(),
        bridge: None,
        instructions: None,
    })
}

/// The dialect that was named, or the one whose operation the URL ends in, or Chat Completions.
fn dialect_of(named: Option<&str>, url: &Url) -> Result<&'static dyn Dialect, String> {
    let of_url = DIALECTS.iter().copied().find(|it| url.has_operation(it.path()));
    let Some(name) = named else {
        return of_url.or_else(|| dialect::by_name("chat")).ok_or_else(|| "no dialect".to_owned());
    };
    let Some(found) = dialect::by_name(name) else {
        let known: Vec<&str> = DIALECTS.iter().map(|it| it.name()).collect();
        return Err(format!("the dialect `{name}` is unknown; known: {}", known.join(", ")));
    };
    match of_url {
        Some(other) if other.name() != found.name() => Err(format!(
            "the dialect is `{name}`, but the URL ends in `{}`, which is `{}`: change one of them",
            other.path(),
            other.name()
        )),
        _ => Ok(found),
    }
}

/// Where `codex login` leaves its tokens: `$CODEX_HOME/auth.json`, else `~/.codex/auth.json`.
/// `None` when neither variable is set.
#[must_use]
pub fn codex_auth_path(world: World<'_>) -> Option<PathBuf> {
    let var = |name| (world.var)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = var("CODEX_HOME").or_else(|| var("HOME").map(|home| home.join(".codex")));
    home.map(|home| home.join("auth.json"))
}

/// A secret from the environment.
fn secret(name: &str, world: World<'_>) -> Result<String, String> {
    if !is_name(name) {
        return Err(format!(
            "`{name}` is no name of an environment variable: give the name, not the key itself"
        ));
    }
    let value = (world.var)(name).map(|value| value.trim().to_owned()).unwrap_or_default();
    if value.is_empty() {
        return Err(format!("missing or empty env var: {name}"));
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("the env var {name} holds characters that no key has"));
    }
    Ok(value)
}

/// Lays the keys of a `quirks` table over a profile.
fn overlay(profile: &Quirks, written: toml::Table) -> Result<Quirks, String> {
    let wrong = |why: &toml::de::Error| {
        let why = file::unknown_key(why.message()).unwrap_or_else(|| why.message().to_owned());
        format!("quirks: {}", why.trim_end())
    };
    let mut table = toml::Table::try_from(profile).map_err(|why| format!("quirks: {why}"))?;
    table.extend(written);
    table.try_into().map_err(|why| wrong(&why))
}

/// Checks a header field that is sent with every request.
fn header(field: &str, value: &str) -> Result<(String, String), String> {
    let name = field.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("headers: `{field}` is no legal name of a header field"));
    }
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(format!("headers: `{field}` is written by the proxy itself: remove it"));
    }
    if name == "authorization" {
        return Err("headers: `authorization` belongs into `credential`".to_owned());
    }
    if !value.bytes().all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic()) {
        return Err(format!("headers: the value of `{field}` holds a character that is not ASCII"));
    }
    Ok((name, value.trim().to_owned()))
}

fn model(written: file::ModelTable, quirks: &Quirks) -> Result<Model, String> {
    if written.id.is_empty() || written.id.chars().any(char::is_control) {
        return Err("models: a model needs an id".to_owned());
    }
    if written.context_window == Some(0) {
        return Err(format!("models: the context_window of `{}` is 0", written.id));
    }
    let guess = Model::guess(written.id, quirks);
    Ok(Model {
        context_window: written.context_window.unwrap_or(guess.context_window),
        images: written.images.unwrap_or(guess.images),
        reasoning: written.reasoning.unwrap_or(guess.reasoning),
        apply_patch: written.apply_patch.unwrap_or(guess.apply_patch),
        id: guess.id,
    })
}

/// A `--model FROM=TO` or `FROM=PROVIDER/TO`. A text before the first slash that names no provider
/// belongs to the model (`FROM=openai/gpt-oss`). The model is listed from then on.
fn typed_route(typed: &str, providers: &mut [Provider]) -> Result<Route, String> {
    let wrong = |why: &str| format!("--model {typed}: {why}");
    let Some((pattern, target)) = typed.split_once('=') else {
        return Err(wrong("write FROM=TO or FROM=PROVIDER/TO"));
    };
    check_pattern(pattern).map_err(|why| wrong(&why))?;
    let split = target.split_once('/').and_then(|(name, model)| {
        let index = providers.iter().position(|provider| provider.name == name)?;
        Some((index, model))
    });
    let (provider, model) = match split {
        Some(found) => found,
        None if providers.len() == 1 => (0, target),
        None => {
            let names: Vec<&str> = providers.iter().map(|it| it.name.as_str()).collect();
            return Err(wrong(&format!(
                "say which provider: PROVIDER/{target} with one of {}",
                names.join(", ")
            )));
        }
    };
    if model.is_empty() {
        return Err(wrong("the upstream's model name is empty"));
    }
    if let Some(provider) = providers.get_mut(provider) {
        let id = if pattern.contains('*') { model } else { pattern }.to_owned();
        if !id.contains('*') && provider.models.iter().all(|known| known.id != id) {
            let written = file::ModelTable { id, ..file::ModelTable::default() };
            provider.models.push(self::model(written, &provider.quirks)?);
        }
    }
    let (pattern, model) = (pattern.to_owned(), Some(model.to_owned()));
    Ok(Route { pattern, provider, model, defaults: Defaults::default() })
}

fn file_route(written: file::Route, providers: &[Provider]) -> Result<Route, String> {
    check_pattern(&written.model)?;
    let index = providers.iter().position(|provider| provider.name == written.provider);
    let Some(provider) = index else {
        let near = nearest(&written.provider, providers.iter().map(|it| it.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!("there is no provider `{}`{hint}", written.provider));
    };
    if written.upstream_model.as_deref() == Some("") {
        return Err("upstream_model is empty: leave it out to keep the client's".to_owned());
    }
    let (pattern, model) = (written.model, written.upstream_model);
    Ok(Route { pattern, provider, model, defaults: Defaults::default() })
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("the model is empty; `*` stands for any".to_owned());
    }
    if pattern.matches('*').count() > 1 {
        return Err(format!("the model `{pattern}` has more than one `*`"));
    }
    Ok(())
}

/// Behind the written routes: every listed model leads to its provider, and with a single
/// provider everything else does too, unless the file has routes.
fn implied_routes(
    routes: &mut Vec<Route>,
    providers: &[Provider],
    has_routes: bool,
) -> Result<(), String> {
    for (provider, it) in providers.iter().enumerate() {
        for model in &it.models {
            let pattern = model.id.clone();
            if routes.iter().all(|route| route.pattern != pattern) {
                routes.push(Route {
                    pattern,
                    provider,
                    model: None,
                    defaults: Defaults::default(),
                });
            }
        }
    }
    if providers.len() == 1 && !has_routes && routes.iter().all(|route| route.pattern != "*") {
        let (pattern, defaults) = ("*".to_owned(), Defaults::default());
        routes.push(Route { pattern, provider: 0, model: None, defaults });
    }
    if routes.is_empty() {
        return Err("no model leads anywhere: add `models` to the providers, or [[routes]]".into());
    }
    Ok(())
}

fn listen(written: &[String], typed: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    if !typed.is_empty() {
        return Ok(typed.to_vec());
    }
    let mut all = Vec::new();
    for text in written {
        all.push(address(text).map_err(|why| format!("[server] listen: {why}"))?);
    }
    if all.is_empty() {
        all.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    }
    Ok(all)
}

/// Reads `127.0.0.1:8080`, `[::1]:8080` and `localhost:8080`.
///
/// # Errors
/// What is wrong with the text.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        format!(
            "`{text}` is no address: write IP:PORT, as 127.0.0.1:8080 (port 0 takes a free one)"
        )
    })
}

fn workers(wanted: Option<usize>, cores: usize) -> Result<usize, String> {
    match wanted {
        None => Ok(cores.clamp(1, WORKERS_MAX)),
        Some(count @ 1..=WORKERS_MAX) => Ok(count),
        Some(count) => Err(format!("workers is {count}: it must be from 1 to {WORKERS_MAX}")),
    }
}

fn client_keys(written: file::Clients) -> Result<Vec<ClientKey>, String> {
    let key = |(name, secret): (String, String)| {
        if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "[clients.keys] {name}: a key is made of visible ASCII characters, at least one"
            ));
        }
        Ok(ClientKey { name, secret, rate: None, exchanges_max: None, models: Vec::new() })
    };
    written.keys.into_iter().map(key).collect()
}

fn host(text: &str) -> Result<String, String> {
    match Url::parse(&format!("http://{text}")) {
        Ok(url) if url.host == text.to_ascii_lowercase() && url.path == "/" => Ok(url.host),
        _ => Err(format!("[server] hosts: `{text}` is no host name (no scheme, no port)")),
    }
}

fn origin(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if url.path == "/" && !text.ends_with('/') => Ok(text.to_ascii_lowercase()),
        _ => Err(format!(
            "[server] origins: `{text}` is no origin: write scheme://host or scheme://host:port"
        )),
    }
}

/// Every limit has a range in which the proxy works, and some must stand in an order.
fn check_limits(it: &Limits) -> Result<(), String> {
    const GIB: usize = 1 << 30;
    let (informational, uses) = (it.informational_max as usize, it.pool_uses_max as usize);
    let ranges = [
        ("head_bytes_max", it.head_bytes_max, 1 << 10, 16 << 20),
        ("request_line_bytes_max", it.request_line_bytes_max, 128, 16 << 20),
        ("headers_max", it.headers_max, 8, 10_000),
        ("body_bytes_max", it.body_bytes_max, 1 << 10, GIB),
        ("chunk_overhead_bytes_max", it.chunk_overhead_bytes_max, 0, 16 << 20),
        ("frame_bytes_max", it.frame_bytes_max, 4 << 10, GIB),
        ("pending_high_bytes", it.pending_high_bytes, 4 << 10, GIB),
        ("pending_low_bytes", it.pending_low_bytes, 0, GIB),
        ("informational_max", informational, 0, 10_000),
        ("pool_idle_max", it.pool_idle_max, 0, 1 << 20),
        ("pool_uses_max", uses, 1, u32::MAX as usize),
        ("connecting_max", it.connecting_max, 1, 1 << 20),
        ("clients_max", it.clients_max, 1, 1 << 24),
    ];
    for (name, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(format!("[limits] {name} is {value}: it must be from {min} to {max}"));
        }
    }
    if it.pending_low_bytes >= it.pending_high_bytes {
        return Err(format!(
            "[limits] pending_low_bytes ({}) must be below pending_high_bytes ({})",
            it.pending_low_bytes, it.pending_high_bytes
        ));
    }
    if it.request_line_bytes_max > it.head_bytes_max {
        return Err(format!(
            "[limits] request_line_bytes_max ({}) must not be above head_bytes_max ({})",
            it.request_line_bytes_max, it.head_bytes_max
        ));
    }
    Ok(())
}

/// No patience at all and patience for more than a day are mistakes.
fn check_timeouts(it: &Timeouts) -> Result<(), String> {
    let all = [
        ("client_head_ms", it.client_head),
        ("client_idle_ms", it.client_idle),
        ("client_body_ms", it.client_body),
        ("client_write_ms", it.client_write),
        ("connect_ms", it.connect),
        ("tls_ms", it.tls),
        ("upstream_write_ms", it.upstream_write),
        ("upstream_head_ms", it.upstream_head),
        ("upstream_idle_ms", it.upstream_idle),
        ("pool_idle_ms", it.pool_idle),
        ("keep_alive_ms", it.keep_alive),
        ("drain_ms", it.drain),
    ];
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, value) in all {
        if value > day || (value.is_zero() && name != "drain_ms") {
            let ms = value.as_millis();
            return Err(format!("[timeouts] {name} is {ms}: it must be from 1 to 86400000"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
