//! From what was written (a file, flags) to what is meant: a checked [`Config`].

use super::check::{check_limits, check_timeouts};
use super::clients::{address_rate, client_keys};
use super::file::{self, File, Layers};
use super::nearest::nearest;
use super::preset::preset;
use super::provider::{apply_upstream, provider};
use super::value::{Number, Switch};
use super::{Capture, CertificateFiles, Config, Defaults, Provider, Route, Url, Variables};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// More workers than any machine has cores for are a mistake.
const WORKERS_MAX: usize = 1024;
/// Of each side of an exchange, so much is written down unless the file says otherwise.
const CAPTURE_SIDE_BYTES_MAX: usize = 4 << 20;

/// Reasoning efforts (`reasoning.effort` of the Responses API).
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];
/// Reasoning summaries (`reasoning.summary`).
const SUMMARIES: &[&str] = &["auto", "concise", "detailed"];
/// Verbosities (`text.verbosity`).
const VERBOSITIES: &[&str] = &["low", "medium", "high"];

/// Levels of the log, as Rust programs call them, and other words for them.
const LOG_LEVELS: &[(&str, &str)] = &[
    ("off", "off"),
    ("error", "error"),
    ("critical", "error"),
    ("fatal", "error"),
    ("warn", "warn"),
    ("warning", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
];

/// What flags and their environment variables say; it beats the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Name of the preset below the file.
    pub preset: Option<String>,
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
    /// `auth.json` of `codex login` as the credential of the only provider.
    pub auth_path: Option<PathBuf>,
    /// Certificates trusted for the only provider.
    pub ca_file: Option<PathBuf>,
    /// Routes before the file's: `FROM=TO` or `FROM=PROVIDER/TO`.
    pub models: Vec<String>,
    /// The certificate shown to clients.
    pub tls_certificate: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Plain HTTP for clients, whatever the file says.
    pub plain: bool,
    /// The folder for captures.
    pub capture: Option<PathBuf>,
    /// Where to write the port.
    pub server_info: Option<PathBuf>,
    /// Allow `GET /shutdown`; `false` keeps what the file says.
    pub http_shutdown: bool,
}

/// What configuration may know of the machine.
#[derive(Clone, Copy)]
pub struct World<'w> {
    /// Reads a variable: of the environment, else of the `.env` file.
    pub var: &'w dyn Fn(&str) -> Option<String>,
    /// Number of cores.
    pub cores: usize,
}

/// Reads a file's text (if there is one; its path is for messages and for the paths in it), lays it
/// over the preset that the overrides name, the overrides over both, and checks everything.
///
/// # Errors
/// Where something is wrong, which value, and what to do, in words for people.
pub fn load(
    file: Option<(&Path, &str)>,
    overrides: &Overrides,
    world: World<'_>,
) -> Result<Config, String> {
    let preset = overrides.preset.as_deref().map(preset).transpose()?;
    let read = file::parse(Layers { preset, file }, world.var)?;
    let Some((path, _)) = file else {
        return build(read, Path::new(""), overrides, world);
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    build(read, folder, overrides, world).map_err(|why| format!("{}: {why}", path.display()))
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
    for exec in providers.iter_mut().filter_map(|provider| provider.exec.as_mut()) {
        // Whatever a command's model runs sees its environment.
        exec.unset.extend(file.variables.secret.iter().cloned());
    }
    let routes = routes(file.routes, overrides, &mut providers)?;
    let server = file.server;
    Ok(Config {
        listen: listen(&server.listen, &overrides.listen)?,
        workers: workers(overrides.workers.or(server.workers), world.cores)?,
        providers,
        routes,
        address_rate: address_rate(&file.clients)?,
        client_keys: client_keys(file.clients, folder, world)?,
        hosts: server.hosts.0.iter().map(|it| host(it)).collect::<Result<_, _>>()?,
        origins: server.origins.0.iter().map(|it| origin(it)).collect::<Result<_, _>>()?,
        limits: file.limits,
        timeouts: file.timeouts,
        strict: server.strict,
        retry_stale: server.retry_stale.unwrap_or(true),
        http_shutdown: server.http_shutdown || overrides.http_shutdown,
        server_info: overrides
            .server_info
            .clone()
            .or_else(|| server.server_info.map(|path| folder.join(path))),
        tls: if overrides.plain { None } else { tls(server.tls, overrides, folder, world)? },
        capture: capture(file.capture, overrides, folder, world)?,
        log_level: log_level(server.log_level)?,
        variables: Variables {
            prefixes: file.variables.prefixes.0,
            read: file.variables.read,
            ignored: file.variables.ignored,
        },
    })
}

fn routes(
    written: Vec<file::Route>,
    overrides: &Overrides,
    providers: &mut [Provider],
) -> Result<Vec<Route>, String> {
    let mut of_file = Vec::new();
    for (index, route) in written.into_iter().enumerate() {
        let built = file_route(route, providers);
        of_file.push(built.map_err(|why| format!("[[routes]] number {}: {why}", index + 1))?);
    }
    let mut routes = Vec::new();
    for typed in &overrides.models {
        let mut route = typed_route(typed, providers)?;
        // What holds for every model of a provider holds for a typed one too.
        let all = |it: &&Route| it.pattern == "*" && it.provider == route.provider;
        if let Some(all) = of_file.iter().find(all) {
            route.defaults = all.defaults.clone();
        }
        routes.push(route);
    }
    let has_routes = !of_file.is_empty();
    routes.append(&mut of_file);
    implied_routes(&mut routes, providers, has_routes)?;
    Ok(routes)
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
            provider.models.push(super::provider::model(written, &provider.quirks)?);
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
    let output_tokens_max = written.max_output_tokens.and_then(|Number(max)| max);
    if output_tokens_max == Some(0) {
        return Err("max_output_tokens is 0: leave it out for any number".to_owned());
    }
    let defaults = Defaults {
        output_tokens_max: output_tokens_max.map(u64::from),
        effort: one_of("effort", written.effort, EFFORTS)?,
        summary: one_of("summary", written.summary, SUMMARIES)?,
        verbosity: one_of("verbosity", written.verbosity, VERBOSITIES)?,
    };
    let kept = written.keep_model == Some(Switch(true));
    let (pattern, model) = (written.model, written.upstream_model.filter(|_| !kept));
    Ok(Route { pattern, provider, model, defaults })
}

/// One of the known words; an empty text says nothing.
fn one_of(key: &str, written: Option<String>, known: &[&str]) -> Result<Option<String>, String> {
    match written {
        Some(word) if word.is_empty() => Ok(None),
        Some(word) if !known.contains(&word.as_str()) => {
            Err(format!("{key}: `{word}` is unknown; known: {}", known.join(", ")))
        }
        other => Ok(other),
    }
}

pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
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
        for address in addresses(text).map_err(|why| format!("[server] listen: {why}"))? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    if all.is_empty() {
        all.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    }
    Ok(all)
}

/// The addresses to listen on for a text as [`address`] reads it. `localhost:8080` is `[::1]:8080`
/// too: some clients take the one for that name, some the other. A free port is taken at 127.0.0.1
/// alone, as two would not be the same.
///
/// # Errors
/// What is wrong with the text.
pub fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    let first = address(text)?;
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, first.port()));
    let both = text.starts_with("localhost:") && first.port() != 0;
    Ok([first].into_iter().chain(both.then_some(other)).collect())
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
            "`{text}` is no address: write IP:PORT, as 127.0.0.1:8080 or [::1]:8080 (port 0 takes a \
             free one)"
        )
    })
}

fn log_level(written: Option<String>) -> Result<Option<String>, String> {
    let Some(word) = written.filter(|word| !word.trim().is_empty()) else { return Ok(None) };
    let lower = word.trim().to_ascii_lowercase();
    match LOG_LEVELS.iter().find(|(known, _)| *known == lower) {
        Some((_, level)) => Ok(Some((*level).to_owned())),
        None => Err(format!(
            "[server] log_level: `{word}` is unknown; known: off, error, warn, info, debug, trace"
        )),
    }
}

fn workers(wanted: Option<usize>, cores: usize) -> Result<usize, String> {
    match wanted {
        None => Ok(cores.clamp(1, WORKERS_MAX)),
        Some(count @ 1..=WORKERS_MAX) => Ok(count),
        Some(count) => Err(format!("workers is {count}: it must be from 1 to {WORKERS_MAX}")),
    }
}

fn tls(
    written: file::ServerTls,
    overrides: &Overrides,
    folder: &Path,
    world: World<'_>,
) -> Result<Option<CertificateFiles>, String> {
    let off = written.enabled.0 == Some(false);
    let chosen = |typed: &Option<PathBuf>, written: Option<PathBuf>| match (typed, written) {
        (Some(typed), _) => Ok(Some(absolute(typed))),
        (None, written) => file_of(written.filter(|_| !off), folder, world),
    };
    let certificate = chosen(&overrides.tls_certificate, written.certificate)?;
    let key = chosen(&overrides.tls_key, written.key)?;
    match (certificate, key) {
        (None, None) if written.enabled.0 == Some(true) => Err("[server] tls is enabled, and \
                                names no `certificate` and `key`"
            .to_owned()),
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
        (Some(_), None) => Err("the certificate for clients needs its key: --tls-key, or \
                                `key` in [server] tls"
            .to_owned()),
        (None, Some(_)) => Err("the key for clients needs its certificate: --tls-cert, or \
                                `certificate` in [server] tls"
            .to_owned()),
    }
}

fn capture(
    written: Option<file::Capture>,
    overrides: &Overrides,
    folder: &Path,
    world: World<'_>,
) -> Result<Option<Capture>, String> {
    let typed = overrides.capture.as_deref().map(absolute);
    let Some(written) = written else {
        let side_bytes_max = CAPTURE_SIDE_BYTES_MAX;
        return Ok(typed.map(|folder| Capture { folder, side_bytes_max }));
    };
    let side_bytes_max = written.side_bytes_max.unwrap_or(CAPTURE_SIDE_BYTES_MAX);
    if !(1 << 10..=1 << 30).contains(&side_bytes_max) {
        return Err(format!(
            "[capture] side_bytes_max is {side_bytes_max}: it must be from 1024 to 1073741824"
        ));
    }
    if typed.is_none() && written.enabled == Some(Switch(false)) {
        return Ok(None);
    }
    let folder = match (typed, written.folder) {
        (Some(typed), _) => typed,
        (None, Some(written)) => path_of(&written, folder, world)?,
        (None, None) => return Err("[capture] needs a `folder`".to_owned()),
    };
    Ok(Some(Capture { folder, side_bytes_max }))
}

/// A typed path, which must stay what it is wherever it is used.
pub(super) fn absolute(typed: &Path) -> PathBuf {
    std::path::absolute(typed).unwrap_or_else(|_| typed.to_owned())
}

/// A path of the file: relative to its folder, `~/` to the user's.
///
/// # Errors
/// `~` without a known home folder.
pub(super) fn path_of(written: &Path, folder: &Path, world: World<'_>) -> Result<PathBuf, String> {
    match written.strip_prefix("~") {
        Ok(rest) => Ok(home(world)?.join(rest)),
        Err(_) => Ok(folder.join(written)),
    }
}

/// A file that may be named, as [`path_of`]; an empty name is none.
///
/// # Errors
/// As there.
pub(super) fn file_of(
    written: Option<PathBuf>,
    folder: &Path,
    world: World<'_>,
) -> Result<Option<PathBuf>, String> {
    let named = written.filter(|path| !path.as_os_str().is_empty());
    named.map(|path| path_of(&path, folder, world)).transpose()
}

/// The user's folder.
///
/// # Errors
/// `HOME` is not set.
pub(super) fn home(world: World<'_>) -> Result<PathBuf, String> {
    (world.var)("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| "missing or empty env var: HOME".to_owned())
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
