//! The configuration file as it is written: TOML, every key known, nothing checked yet.

use super::expand::expand;
use super::nearest::nearest;
use super::{Limits, Timeouts};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue, Deserializer};

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
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: Vec<String>,
    pub(super) workers: Option<usize>,
    pub(super) hosts: Vec<String>,
    pub(super) origins: Vec<String>,
    pub(super) http_shutdown: bool,
    pub(super) server_info: Option<PathBuf>,
    pub(super) strict: bool,
    pub(super) retry_stale: Option<bool>,
}

/// `[clients]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Clients {
    /// Name to secret.
    pub(super) keys: BTreeMap<String, String>,
}

/// `[providers.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) url: String,
    pub(super) dialect: Option<String>,
    pub(super) credential: Option<Credential>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) ca_file: Option<PathBuf>,
    /// A host name whose known habits are taken instead of the URL's.
    pub(super) quirks_profile: Option<String>,
    /// On top of the profile.
    #[serde(default)]
    pub(super) quirks: toml::Table,
    #[serde(default)]
    pub(super) models: Vec<Model>,
}

/// `credential = { kind = "...", ... }`
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Credential {
    None {},
    Client {},
    Key { env: String },
    CodexAuth { path: Option<PathBuf>, token_url: Option<String>, key_url: Option<String> },
}

/// An element of `models`: a name, or a table with a name and what is known of the model.
#[derive(Debug)]
pub(super) struct Model(pub(super) ModelTable);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelTable {
    pub(super) id: String,
    pub(super) context_window: Option<u64>,
    pub(super) images: Option<bool>,
    pub(super) reasoning: Option<bool>,
    pub(super) apply_patch: Option<bool>,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Model;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a model's name, or a table with its `id`")
            }

            fn visit_str<E>(self, id: &str) -> Result<Model, E> {
                Ok(Model(ModelTable { id: id.to_owned(), ..ModelTable::default() }))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Model, A::Error> {
                ModelTable::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(Model)
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// `[[routes]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) model: String,
    pub(super) provider: String,
    pub(super) upstream_model: Option<String>,
}

/// Reads a file's text. Its strings are expanded by `var`.
///
/// # Errors
/// The line, and what is wrong there.
pub(super) fn parse(text: &str, var: &dyn Fn(&str) -> Option<String>) -> Result<File, String> {
    let mut table = DeTable::parse(text).map_err(|error| explain(text, &error))?;
    expand_all(text, table.get_mut(), var)?;
    File::deserialize(Deserializer::from(table)).map_err(|error| explain(text, &error))
}

/// Expands every string of a document. A list instead of recursion: depth costs no stack.
fn expand_all(
    text: &str,
    table: &mut DeTable<'_>,
    var: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let mut left: Vec<_> = table.iter_mut().map(|(_, value)| value).collect();
    while let Some(value) = left.pop() {
        let start = value.span().start;
        match value.get_mut() {
            DeValue::String(string) if string.contains('$') => {
                let expanded = expand(string, var).map_err(|why| at(text, start, &why))?;
                *string = expanded.into();
            }
            DeValue::Array(array) => left.extend(array.iter_mut()),
            DeValue::Table(table) => left.extend(table.iter_mut().map(|(_, value)| value)),
            _ => {}
        }
    }
    Ok(())
}

/// A message with its line.
fn at(text: &str, start: usize, message: &str) -> String {
    let before = text.get(..start).unwrap_or(text);
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

/// An error of the parser in our words: the line, and for an unknown key the nearest known one.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = unknown_key(error.message()).unwrap_or_else(|| error.message().to_owned());
    match error.span() {
        Some(span) => at(text, span.start, &message),
        None => message,
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
