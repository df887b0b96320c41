//! Upstreams, as flags and files describe them.

use super::build::{Overrides, World, absolute, file_of};
use super::credential;
use super::exec;
use super::file::{self, File};
use super::value::{Switch, Wording};
use super::{CertificateFiles, Model, Provider, UpstreamTls, Url};
use crate::dialect::quirks::Quirks;
use crate::dialect::{self, DIALECTS, Dialect};
use std::path::Path;

/// The upstream of `--auth-path` alone.
const CHATGPT: &str = "https://chatgpt.com/backend-api/codex/responses";
/// Tells a model made for Codex which harness it really is in.
const BRIDGE: &str = include_str!("../presets/bridge.md");
/// For requests that bring no system text.
const INSTRUCTIONS: &str = include_str!("../presets/instructions.md");
/// The upstream when neither a flag nor a file names one.
const OPENAI: &str = "https://api.openai.com/v1/chat/completions";
/// And the variable with its key.
const OPENAI_KEY: &str = "OPENAI_API_KEY";
/// The dialect whose upstream is a command.
const RUNS: &str = "codex-exec";
/// The provider that flags describe.
const FLAGS_PROVIDER: &str = "upstream";
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

/// Lays the flags that describe an upstream over the file's only provider, or makes one of them.
pub(super) fn apply_upstream(file: &mut File, overrides: &Overrides) -> Result<(), String> {
    let given = [
        ("--upstream-url", overrides.upstream_url.is_some()),
        ("--upstream-dialect", overrides.upstream_dialect.is_some()),
        ("--api-key-env", overrides.api_key_env.is_some()),
        ("--auth-path", overrides.auth_path.is_some()),
        ("--ca-file", overrides.ca_file.is_some()),
    ];
    if overrides.api_key_env.is_some() && overrides.auth_path.is_some() {
        return Err("--api-key-env and --auth-path exclude each other".to_owned());
    }
    if file.providers.is_empty() {
        // The key of api.openai.com must never go to another host by default.
        let (url, credential) = match (&overrides.upstream_url, &overrides.auth_path) {
            (Some(_), _) => (None, None),
            (None, Some(_)) => (Some(CHATGPT.to_owned()), None),
            (None, None) => {
                let env = Some(OPENAI_KEY.to_owned());
                let key = file::Credential::Key { env, file: None };
                (Some(OPENAI.to_owned()), Some(file::Credentials::One(key)))
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
            provider.url = Some(url.clone());
        }
        if let Some(dialect) = &overrides.upstream_dialect {
            provider.dialect = Some(dialect.clone());
        }
        if let Some(env) = &overrides.api_key_env {
            let env = Some(env.clone());
            let key = file::Credential::Key { env, file: None };
            provider.credential = Some(file::Credentials::One(key));
        }
        if let Some(typed) = &overrides.auth_path {
            let typed = Some(absolute(typed));
            match &mut provider.credential {
                Some(file::Credentials::One(file::Credential::CodexAuth { path, .. })) => {
                    *path = typed;
                }
                other => {
                    *other = Some(file::Credentials::One(file::Credential::CodexAuth {
                        path: typed,
                        token_url: None,
                        key_url: None,
                    }));
                }
            }
        }
        if let Some(path) = &overrides.ca_file {
            provider.ca_file = Some(absolute(path));
        }
    }
    Ok(())
}

pub(super) fn provider(
    name: &str,
    mut written: file::Provider,
    folder: &Path,
    world: World<'_>,
) -> Result<Provider, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(legal) {
        return Err("a provider's name is made of letters, digits, `-`, `_` and `.`".to_owned());
    }
    let runs = written.dialect.as_deref() == Some(RUNS);
    let url = place(written.url.as_deref().filter(|url| !url.is_empty()), runs)?;
    let exec = match (written.exec.take(), runs) {
        (Some(_), false) => return Err(format!("`exec` is for the dialect `{RUNS}`")),
        (table, true) => Some(exec::exec(table.unwrap_or_default(), folder, world)?),
        (None, false) => None,
    };
    let host = url.host.clone();
    let dialect = dialect_of(written.dialect.as_deref(), &url)?;
    let quirks = quirks(dialect, &url.host, &written)?;
    let mut headers = Vec::new();
    for (field, value) in written.headers {
        headers.push(header(&field, &value)?);
    }
    let allow = written.allow.0;
    let models = models(written.models, &allow, &quirks)?;
    let url = match &written.base_path {
        Some(base) => url.with_base(base, dialect.path())?,
        None => url.with_usual_base(dialect.base_path(&host)),
    };
    let url = url.with_operation(dialect.path());
    let place = credential::Place { url: &url, operation: dialect.path(), folder, world };
    let callers = place.callers(written.callers, written.credential.as_ref())?;
    let credential = place.credential(written.credential, callers.is_some())?;
    Ok(Provider {
        name: name.to_owned(),
        dialect,
        url,
        credential,
        callers,
        headers,
        tls: UpstreamTls {
            ca_file: file_of(written.ca_file, folder, world)?,
            client_certificate: client_certificate(written.client_certificate, folder, world)?,
            unverified: written.verify_tls == Some(Switch(false)),
        },
        delay_acks: written.delay_acks.unwrap_or(false),
        quirks,
        models,
        allow,
        list_models: written.list_models.map_or(runs, |switch| switch.0),
        embeddings_model: written.embeddings_model.filter(|model| !model.is_empty()),
        bridge: wording(written.bridge, BRIDGE),
        instructions: wording(written.instructions, INSTRUCTIONS),
        exec,
    })
}

/// Where a provider is; one that `runs` a command is nowhere.
fn place(url: Option<&str>, runs: bool) -> Result<Url, String> {
    match (url, runs) {
        (Some(_), true) => Err(format!("the dialect `{RUNS}` runs a command: it has no url")),
        (Some(url), false) => Url::parse(url),
        (None, true) => {
            Ok(Url { tls: false, host: "localhost".to_owned(), port: 0, path: String::new() })
        }
        (None, false) => Err("needs a `url`, or the flag --upstream-url".to_owned()),
    }
}

/// What is known of an upstream's habits, and over that what is written of them.
fn quirks(dialect: &dyn Dialect, host: &str, written: &file::Provider) -> Result<Quirks, String> {
    let profile = written.quirks_profile.as_deref().map(str::to_ascii_lowercase);
    let mut profile = Quirks::for_host(profile.as_deref().unwrap_or(host));
    dialect.settle(&mut profile);
    let mut quirks = overlay(&profile, &written.quirks)?;
    let switches =
        (written.upload_images.as_ref().map(|it| it.0), written.image_urls.as_ref().map(|it| it.0));
    images(dialect, switches, written.quirks.contains_key("images"), &mut quirks)?;
    match written.structured_output.as_deref().map(str::trim) {
        None | Some("") => {}
        Some("native") => quirks.json_schema = true,
        Some("function" | "function_call") => quirks.json_schema = false,
        Some(other) => {
            return Err(format!(
                "structured_output: `{other}` is unknown; known: native, function"
            ));
        }
    }
    quirks.profanity_check = written.profanity_check.0.or(quirks.profanity_check);
    for (key, given) in [
        ("structured_output", written.structured_output.is_some()),
        ("profanity_check", written.profanity_check.0.is_some()),
    ] {
        if given && !dialect.has_key(key) {
            let name = dialect.name();
            return Err(format!("`{key}` means nothing for the dialect `{name}`: remove it"));
        }
    }
    Ok(quirks)
}

/// The models that are listed. One that is named twice keeps its first place, and has what was said
/// of it last.
fn models(
    written: Vec<file::Model>,
    allow: &[String],
    quirks: &Quirks,
) -> Result<Vec<Model>, String> {
    let mut models: Vec<Model> = Vec::new();
    for it in written {
        let new = model(it.0, quirks)?;
        match models.iter_mut().find(|known| known.id == new.id) {
            Some(known) => *known = new,
            None => models.push(new),
        }
    }
    if models.is_empty() {
        models.extend(allow.iter().map(|id| Model::guess(id.clone(), quirks)));
    }
    Ok(models)
}

/// A certificate to show to the upstream. Its key may be in the same file.
fn client_certificate(
    written: file::Tls,
    folder: &Path,
    world: World<'_>,
) -> Result<Option<CertificateFiles>, String> {
    let certificate = file_of(written.certificate, folder, world)?;
    let key = file_of(written.key, folder, world)?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err("client_certificate: a key needs its `certificate`".to_owned()),
        (Some(certificate), key) => {
            let key = key.unwrap_or_else(|| certificate.clone());
            Ok(Some(CertificateFiles { certificate, key }))
        }
    }
}

/// The built-in text when it is switched on, or the written one.
fn wording(written: Option<Wording>, usual: &str) -> Option<String> {
    match written {
        None | Some(Wording::Switch(false)) => None,
        Some(Wording::Switch(true)) => Some(usual.trim_end().to_owned()),
        Some(Wording::Text(text)) => Some(text),
    }
}

/// The dialect that was named, or the one that is spoken by the URL's host alone, or the one whose
/// operation the URL ends in, or Chat Completions.
fn dialect_of(named: Option<&str>, url: &Url) -> Result<&'static dyn Dialect, String> {
    // A path that upstreams of several dialects have is that of the one which clients speak too.
    let of_url = dialect::for_clients().find(|it| url.has_operation(it.path()));
    let Some(name) = named else {
        if let Some(only) = DIALECTS.iter().find(|it| it.is_home(&url.host)) {
            return Ok(*only);
        }
        return of_url.or_else(|| dialect::by_name("chat")).ok_or_else(|| "no dialect".to_owned());
    };
    let Some(found) = dialect::by_name(name) else {
        let known: Vec<&str> = DIALECTS.iter().map(|it| it.name()).collect();
        return Err(format!("the dialect `{name}` is unknown; known: {}", known.join(", ")));
    };
    match of_url {
        Some(other) if !url.has_operation(found.path()) => Err(format!(
            "the dialect is `{name}`, but the URL ends in `{}`, which is `{}`: change one of them",
            other.path(),
            other.name()
        )),
        _ => Ok(found),
    }
}

/// Lays the keys of a `quirks` table over a profile.
fn overlay(profile: &Quirks, written: &toml::Table) -> Result<Quirks, String> {
    let wrong = |why: &toml::de::Error| {
        let why = file::unknown_key(why.message()).unwrap_or_else(|| why.message().to_owned());
        format!("quirks: {}", why.trim_end())
    };
    let mut table = toml::Table::try_from(profile).map_err(|why| format!("quirks: {why}"))?;
    table.extend(written.clone());
    table.try_into().map_err(|why| wrong(&why))
}

/// Whether images go, and how: `switches` are `upload_images` and `image_urls`; `named` when the
/// quirks say something themselves.
fn images(
    dialect: &dyn Dialect,
    switches: (Option<bool>, Option<bool>),
    named: bool,
    quirks: &mut Quirks,
) -> Result<(), String> {
    let (upload, urls) = switches;
    if dialect.uploads_images() {
        // The profile of the host is that of its Chat Completions, which take none.
        quirks.images = upload.unwrap_or(!named || quirks.images);
        quirks.image_urls = urls.unwrap_or(quirks.image_urls);
        return Ok(());
    }
    for (key, written) in [("upload_images", upload), ("image_urls", urls)] {
        if written.is_some() {
            return Err(format!(
                "`{key}` is for upstreams that take images as files; those of the dialect `{}` \
                 take them in the request: remove it",
                dialect.name()
            ));
        }
    }
    Ok(())
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

pub(super) fn model(written: file::ModelTable, quirks: &Quirks) -> Result<Model, String> {
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
