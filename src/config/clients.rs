//! Who may call, and how often.

use super::build::{World, check_pattern, path_of};
use super::credential::{secret, secret_file};
use super::file::{Clients, KeyTable};
use super::value::Number;
use super::{ClientKey, Rate};
use std::path::Path;

/// The keys of `[clients.keys]`.
///
/// # Errors
/// Which key is wrong, and why.
pub(super) fn client_keys(
    written: Clients,
    folder: &Path,
    world: World<'_>,
) -> Result<Vec<ClientKey>, String> {
    let mut keys: Vec<ClientKey> = Vec::new();
    for (name, key) in written.keys {
        let named = |why: String| format!("[clients.keys] {name}: {why}");
        let Some(key) = client_key(&name, key.0, folder, world).map_err(named)? else {
            continue;
        };
        if let Some(other) = keys.iter().find(|other| other.secret == key.secret) {
            return Err(named(format!("the same secret as `{}`", other.name)));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn client_key(
    name: &str,
    written: KeyTable,
    folder: &Path,
    world: World<'_>,
) -> Result<Option<ClientKey>, String> {
    if written.enabled.0 == Some(false) {
        return Ok(None);
    }
    let optional = written.optional && written.enabled.0.is_none();
    let missing = |env: &str| (world.var)(env).is_none_or(|value| value.trim().is_empty());
    let secret = match (written.secret, written.env, written.file) {
        (Some(secret), None, None) if optional && secret.is_empty() => return Ok(None),
        (Some(secret), None, None) => secret,
        (None, Some(env), None) if optional && missing(&env) => return Ok(None),
        (None, Some(env), None) => secret(&env, world)?,
        (None, None, Some(path)) => secret_file(&path_of(&path, folder, world)?)?,
        _ => return Err("write one of `secret`, `env` and `file`".to_owned()),
    };
    if secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a key is made of visible ASCII characters, at least one".to_owned());
    }
    for pattern in &written.models.0 {
        check_pattern(pattern)?;
    }
    let exchanges_max = written.exchanges_max.and_then(|it| it.0);
    if exchanges_max == Some(0) {
        return Err("exchanges_max is 0: leave it out for any number".to_owned());
    }
    Ok(Some(ClientKey {
        name: name.to_owned(),
        secret,
        rate: rate(written.per_minute, written.burst, "per_minute")?,
        exchanges_max,
        models: written.models.0,
    }))
}

/// The rate for each address.
///
/// # Errors
/// A burst without a rate.
pub(super) fn address_rate(written: &Clients) -> Result<Option<Rate>, String> {
    rate(written.per_minute_address, written.burst_address, "per_minute_address")
        .map_err(|why| format!("[clients] {why}"))
}

/// 0 requests a minute are any number. Unless said otherwise, a minute's requests may come at once.
fn rate(
    per_minute: Option<Number>,
    burst: Option<Number>,
    key: &str,
) -> Result<Option<Rate>, String> {
    let burst = burst.and_then(|it| it.0);
    match per_minute.and_then(|it| it.0) {
        None if burst.is_some() => Err(format!("a burst needs {key}")),
        None | Some(0) => Ok(None),
        Some(_) if burst == Some(0) => Err("a burst of 0 lets nothing through".to_owned()),
        Some(per_minute) => Ok(Some(Rate { per_minute, burst: burst.unwrap_or(per_minute) })),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides, Rate, World, load};
    use std::path::Path;

    fn loaded(clients: &str, folder: &Path) -> Result<Config, String> {
        let var = |name: &str| (name == "KEY").then(|| " sk-env\n".to_owned());
        let text = format!("{clients}\n[providers.a]\nurl = 'https://a.example'\n");
        let path = folder.join("p.toml");
        load(Some((&path, &text)), &Overrides::default(), World { var: &var, cores: 1 })
    }

    #[test]
    fn keys_are_texts_or_tables() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "sk-file\n").unwrap();
        let text = "[clients]\nper_minute_address = '30'\nburst_address = 5\n\
                    [clients.keys]\na = 'sk-plain'\nb = { env = 'KEY', per_minute = 60 }\n\
                    c = { file = 'key', per_minute = 60, burst = 2, exchanges_max = 3, \
                    models = ['gpt-*', 'm'] }\nd = { env = 'GONE', optional = true }\n\
                    e = { secret = '${GONE:-}', optional = true }\n\
                    g = { secret = 'sk-g', enabled = '${GONE:-off}' }\n\
                    h = { env = 'GONE', optional = true, enabled = '' }\n\
                    [clients.keys.f]\nsecret = 'sk-f'\nper_minute = 0";
        let config = loaded(text, folder.path()).unwrap();
        let keys: Vec<_> = config
            .client_keys
            .iter()
            .map(|it| (it.name.as_str(), it.secret.as_str(), it.rate.map(|it| it.burst)))
            .collect();
        assert_eq!(
            keys,
            [
                ("a", "sk-plain", None),
                ("b", "sk-env", Some(60)),
                ("c", "sk-file", Some(2)),
                ("f", "sk-f", None),
            ]
        );
        assert_eq!(config.client_keys[2].exchanges_max, Some(3));
        assert_eq!(config.client_keys[2].models, ["gpt-*", "m"]);
        assert_eq!(config.address_rate, Some(Rate { per_minute: 30, burst: 5 }));
    }

    #[test]
    fn mistakes_name_the_key() {
        for (text, words) in [
            ("a = {}", "[clients.keys] a: write one of `secret`, `env` and `file`"),
            ("a = { secret = 'x', env = 'KEY' }", "a: write one of"),
            ("a = { optional = true }", "a: write one of"),
            ("a = { env = 'GONE' }", "a: missing or empty env var: GONE"),
            ("a = { env = 'GONE', optional = true, enabled = 'True' }", "env var: GONE"),
            ("a = { secret = 'x', enabled = 'so' }", "neither true nor false"),
            ("a = { file = 'gone' }", "a: cannot read the key in "),
            ("a = { file = 'gone', optional = true }", "a: cannot read the key in "),
            ("a = { secret = '' }", "a: a key is made of visible"),
            ("a = 'x'\nb = 'x'", "b: the same secret as `a`"),
            ("a = { secret = 'x', burst = 1 }", "a: a burst needs per_minute"),
            ("a = { secret = 'x', per_minute = 1, burst = 0 }", "a: a burst of 0"),
            ("a = { secret = 'x', exchanges_max = 0 }", "a: exchanges_max is 0"),
            ("a = { secret = 'x', models = ['a*b*'] }", "a: the model `a*b*` has more than one"),
            ("a = { secret = 'x', per_minut = 1 }", "unknown key `per_minut`; did you mean"),
        ] {
            let error = loaded(&format!("[clients.keys]\n{text}"), Path::new("/no")).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = loaded("[clients]\nburst_address = 1", Path::new("/no")).unwrap_err();
        assert!(error.contains("[clients] a burst needs per_minute_address"), "{error}");
    }
}
