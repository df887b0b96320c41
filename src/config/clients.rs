//! Who may call, and how often.

use super::build::{World, check_pattern, path_of};
use super::file::{Clients, KeyTable};
use super::provider::{secret, secret_file};
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
    let missing = |env: &str| (world.var)(env).is_none_or(|value| value.trim().is_empty());
    let secret = match (written.secret, written.env, written.file) {
        (Some(secret), None, None) if written.optional && secret.is_empty() => return Ok(None),
        (Some(secret), None, None) => secret,
        (None, Some(env), None) if written.optional && missing(&env) => return Ok(None),
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
