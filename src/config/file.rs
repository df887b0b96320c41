//! The configuration file as it is written: TOML, every key known, nothing checked yet.

use super::expand::{expand, names};
use super::nearest::nearest;
use super::value::{Choice, Names, Number, Switch, Wording, count};
use super::{Limits, Timeouts};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) clients: Clients,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) providers: BTreeMap<String, Provider>,
    pub(super) routes: Vec<Route>,
    pub(super) capture: Option<Capture>,
    pub(super) variables: Variables,
}

/// `[variables]`: which environment variables somebody may think to have an effect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Variables {
    /// Beginnings of their names.
    pub(super) prefixes: Names,
    /// Those without, each with its reason; a name may end in `*`.
    pub(super) ignored: BTreeMap<String, String>,
    /// Those that the text refers to.
    #[serde(skip)]
    pub(super) read: BTreeSet<String>,
    /// Of those, the ones that hold secrets.
    #[serde(skip)]
    pub(super) secret: BTreeSet<String>,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: Vec<String>,
    pub(super) workers: Option<usize>,
    pub(super) hosts: Names,
    pub(super) origins: Names,
    pub(super) http_shutdown: bool,
    pub(super) server_info: Option<PathBuf>,
    pub(super) strict: bool,
    pub(super) retry_stale: Option<bool>,
    pub(super) log_level: Option<String>,
    pub(super) tls: ServerTls,
}

/// `tls` of `[server]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerTls {
    /// Nothing said: if files are named.
    pub(super) enabled: Choice,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// `client_certificate = { certificate = "...", key = "..." }` of a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// `[capture]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub(super) folder: Option<PathBuf>,
    pub(super) enabled: Option<Switch>,
    pub(super) side_bytes_max: Option<usize>,
}

/// `[clients]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Clients {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) per_minute_address: Option<Number>,
    pub(super) burst_address: Option<Number>,
}

/// An element of `[clients.keys]`: the secret, or a table.
#[derive(Debug)]
pub(super) struct Key(pub(super) KeyTable);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    pub(super) secret: Option<String>,
    pub(super) env: Option<String>,
    pub(super) file: Option<PathBuf>,
    /// False: there is no such key. True: there is one, even if it is `optional`.
    #[serde(default)]
    pub(super) enabled: Choice,
    /// No error when the secret is missing or empty: there is no such key then.
    #[serde(default)]
    pub(super) optional: bool,
    pub(super) per_minute: Option<Number>,
    pub(super) burst: Option<Number>,
    pub(super) exchanges_max: Option<Number>,
    #[serde(default)]
    pub(super) models: Names,
}

/// `[providers.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) url: Option<String>,
    /// What a URL that does not name the whole operation is completed by, instead of `/v1`.
    pub(super) base_path: Option<String>,
    pub(super) dialect: Option<String>,
    pub(super) credential: Option<Credentials>,
    pub(super) callers: Option<Callers>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) ca_file: Option<PathBuf>,
    /// False: any certificate is believed.
    pub(super) verify_tls: Option<Switch>,
    #[serde(default)]
    pub(super) client_certificate: Tls,
    pub(super) delay_acks: Option<bool>,
    pub(super) upload_images: Option<Switch>,
    pub(super) image_urls: Option<Switch>,
    /// A host name whose known habits are taken instead of the URL's.
    pub(super) quirks_profile: Option<String>,
    /// On top of the profile.
    #[serde(default)]
    pub(super) quirks: toml::Table,
    #[serde(default)]
    pub(super) models: Vec<Model>,
    #[serde(default)]
    pub(super) allow: Names,
    pub(super) list_models: Option<Switch>,
    pub(super) embeddings_model: Option<String>,
    pub(super) bridge: Option<Wording>,
    pub(super) instructions: Option<Wording>,
    /// How the schema of an answer is sent: `native`, or as the schema of a `function`.
    pub(super) structured_output: Option<String>,
    /// What requests say of the upstream's filter of profanity.
    #[serde(default)]
    pub(super) profanity_check: Choice,
    pub(super) exec: Option<Exec>,
}

/// `[providers.NAME.exec]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Exec {
    pub(super) command: Option<PathBuf>,
    pub(super) workdir: Option<PathBuf>,
    pub(super) home: Option<PathBuf>,
    pub(super) sandbox: Option<String>,
    pub(super) network_access: Option<Switch>,
    pub(super) effort: Option<String>,
    pub(super) hide_reasoning: Option<Switch>,
    pub(super) show_activity: Option<Switch>,
    pub(super) local_only: Option<Switch>,
    pub(super) allow_danger_full_access: Option<Switch>,
    pub(super) unset: Names,
    pub(super) timeout_s: Option<Number>,
    pub(super) processes_max: Option<Number>,
    pub(super) queue_s: Option<Number>,
}

/// `credential = { kind = "...", ... }`, or a list of such tables.
#[derive(Debug)]
pub(super) enum Credentials {
    /// It, or an error.
    One(Credential),
    /// The first whose secrets are there.
    First(Vec<Credential>),
}

/// `{ kind = "...", ... }`
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Credential {
    /// In a list: if this variable is set, which says that something else is the proof.
    None {
        env: Option<String>,
    },
    Client {},
    Key {
        env: Option<String>,
        file: Option<PathBuf>,
    },
    CodexAuth {
        path: Option<PathBuf>,
        token_url: Option<String>,
        key_url: Option<String>,
    },
    ClientCredentials {
        env: Option<String>,
        file: Option<PathBuf>,
        scope: Option<String>,
        token_url: Option<String>,
    },
    Password {
        user_env: Option<String>,
        password_env: Option<String>,
        token_url: Option<String>,
    },
}

/// `callers = { ... }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Callers {
    pub(super) enabled: Option<Switch>,
    pub(super) scope: Option<String>,
    pub(super) token_url: Option<String>,
    pub(super) password_url: Option<String>,
    pub(super) max: Option<Number>,
}

/// An element of `models`: a name, or a table with a name and what is known of the model.
#[derive(Debug)]
pub(super) struct Model(pub(super) ModelTable);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelTable {
    pub(super) id: String,
    #[serde(default, deserialize_with = "some_count")]
    pub(super) context_window: Option<u64>,
    pub(super) images: Option<bool>,
    pub(super) reasoning: Option<bool>,
    pub(super) apply_patch: Option<bool>,
}

/// `[[routes]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) model: String,
    pub(super) provider: String,
    pub(super) upstream_model: Option<String>,
    /// Leave the client's name for the model, whatever `upstream_model` says.
    pub(super) keep_model: Option<Switch>,
    pub(super) effort: Option<String>,
    pub(super) summary: Option<String>,
    pub(super) verbosity: Option<String>,
    pub(super) max_output_tokens: Option<Number>,
}

/// A count that is written.
fn some_count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    count(from).map(Some)
}

/// The texts that make a configuration: the second is laid over the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layers<'t> {
    /// A preset's name and text.
    pub(super) preset: Option<(&'t str, &'t str)>,
    /// A file's path and text.
    pub(super) file: Option<(&'t Path, &'t str)>,
}

/// Reads the texts. Their strings are expanded by `var` once they are one.
///
/// # Errors
/// In which text, the line, and what is wrong there.
pub(super) fn parse(
    layers: Layers<'_>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<File, String> {
    let (_, preset) = layers.preset.unwrap_or_default();
    // Spaces in front of the file's text give every place in both texts a number of its own.
    let moved = layers.file.map(|(_, text)| format!("{:1$}{text}", "", preset.len()));
    let places = Places { layers, preset };
    let mut table = DeTable::parse(preset).map_err(|error| places.explain(&error))?;
    if let Some(moved) = &moved {
        let over = DeTable::parse(moved).map_err(|error| places.explain(&error))?;
        if layers.preset.is_some() {
            lay_over(table.get_mut(), over.into_inner());
        } else {
            table = over;
        }
    }
    let (secret, mut read) = expand_all(&places, table.get_mut(), var)?;
    read.extend(secret.iter().cloned());
    let mut file =
        File::deserialize(Deserializer::from(table)).map_err(|error| places.explain(&error))?;
    (file.variables.secret, file.variables.read) = (secret, read);
    Ok(file)
}

/// Merges tables; everything else is replaced, and so is a table of another `kind`.
fn lay_over<'t>(under: &mut DeTable<'t>, over: DeTable<'t>) {
    let mut left = vec![(under, over)];
    while let Some((under, over)) = left.pop() {
        let mut merged: Vec<(Spanned<DeString<'t>>, DeTable<'t>)> = Vec::new();
        for (key, value) in over {
            let span = value.span();
            match (under.get_mut(&key).map(Spanned::get_mut), value.into_inner()) {
                (Some(DeValue::Table(old)), DeValue::Table(new)) if !other_kind(old, &new) => {
                    merged.push((key, new));
                }
                (_, new) => {
                    // The old key goes too: an error has to point at the new one.
                    under.remove(&key);
                    under.insert(key, Spanned::new(span, new));
                }
            }
        }
        for (key, value) in under.iter_mut() {
            let Some(at) = merged.iter().position(|(name, _)| name == key) else { continue };
            if let DeValue::Table(old) = value.get_mut() {
                left.push((old, merged.swap_remove(at).1));
            }
        }
    }
}

/// Whether both tables say a `kind`, and not the same.
fn other_kind(old: &DeTable<'_>, new: &DeTable<'_>) -> bool {
    let kind = |table: &DeTable<'_>| Some(table.get("kind")?.get_ref().as_str()?.to_owned());
    let new = kind(new);
    new.is_some() && new != kind(old)
}

/// Expands every string of a document, and returns the names of the variables that it goes by: those
/// that keys of its name, and those in its strings. A list instead of recursion: depth costs no stack.
fn expand_all(
    places: &Places<'_>,
    table: &mut DeTable<'_>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<(BTreeSet<String>, BTreeSet<String>), String> {
    let (mut by_name, mut read) = (BTreeSet::new(), BTreeSet::new());
    named(table, &mut by_name);
    let mut left: Vec<_> = table.iter_mut().map(|(_, value)| value).collect();
    while let Some(value) = left.pop() {
        let start = value.span().start;
        match value.get_mut() {
            DeValue::String(string) if string.contains('$') => {
                names(string, &mut read);
                let expanded = expand(string, var).map_err(|why| places.at(start, &why))?;
                *string = expanded.into();
            }
            DeValue::Array(array) => left.extend(array.iter_mut()),
            DeValue::Table(table) => {
                named(table, &mut by_name);
                left.extend(table.iter_mut().map(|(_, value)| value));
            }
            _ => {}
        }
    }
    Ok((by_name, read))
}

/// Adds what the keys of a table name as variables: `env`, `user_env` ...
fn named(table: &DeTable<'_>, into: &mut BTreeSet<String>) {
    let keys = table.iter().filter(|(key, _)| {
        let key: &str = key.get_ref();
        key == "env" || key.ends_with("_env")
    });
    into.extend(keys.filter_map(|(_, value)| Some(value.get_ref().as_str()?.to_owned())));
}

/// Where in which text something is.
struct Places<'t> {
    layers: Layers<'t>,
    /// The preset's text, whose length comes before the file's.
    preset: &'t str,
}

impl Places<'_> {
    /// A message with its text and line.
    fn at(&self, start: usize, message: &str) -> String {
        let line =
            |text: &str, start: usize| text.get(..start).unwrap_or(text).matches('\n').count() + 1;
        match (self.layers.preset, self.layers.file, start.checked_sub(self.preset.len())) {
            (_, Some((path, text)), Some(start)) => {
                format!("{}: line {}: {message}", path.display(), line(text, start))
            }
            (Some((name, text)), ..) => {
                let number = line(text, start);
                // A user knows the variables of a preset, and not its lines.
                let mut read = BTreeSet::new();
                names(text.lines().nth(number - 1).unwrap_or_default(), &mut read);
                let read: Vec<String> = read.into_iter().collect();
                let read =
                    if read.is_empty() { String::new() } else { format!(" ({})", read.join(", ")) };
                format!("preset {name}: line {number}{read}: {message}")
            }
            _ => message.to_owned(),
        }
    }

    /// An error of the parser in our words: the line, and for an unknown key the nearest known one.
    fn explain(&self, error: &toml::de::Error) -> String {
        let message = unknown_key(error.message()).unwrap_or_else(|| error.message().to_owned());
        match (error.span(), self.layers.file) {
            (Some(span), _) => self.at(span.start, &message),
            (None, Some((path, _))) => format!("{}: {message}", path.display()),
            (None, None) => message,
        }
    }
}

/// Serde says "unknown field `a`, expected one of `b`, `c`"; people want to hear which they meant.
pub(super) fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    })
}
