//! Who may ask. With client keys: whoever shows one. Without: whoever reaches us by a name of ours,
//! because a browser page of a stranger can reach a loopback port too (DNS rebinding).

use crate::config::Config;
use crate::fault::{Failure, Fault, Kind};
use std::net::IpAddr;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// What of a request's head says who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'h> {
    /// The `Host` field, or the authority of an absolute target.
    pub host: Option<&'h [u8]>,
    /// The `Origin` field.
    pub origin: Option<&'h [u8]>,
    /// The `Sec-Fetch-Site` field.
    pub fetch_site: Option<&'h [u8]>,
    /// The `Authorization` field.
    pub authorization: Option<&'h [u8]>,
    /// The `X-Api-Key` field.
    pub api_key: Option<&'h [u8]>,
}

/// How a request passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Index into [`Config::client_keys`].
    pub key: Option<usize>,
    /// The key was the one in `Authorization`: it is ours and must not go upstream.
    pub by_authorization: bool,
}

/// Checks a request that needs a key, if there are keys.
///
/// # Errors
/// 401 for a missing or wrong key, in the same words; 403 for a foreign host or origin.
pub fn check(config: &Config, shown: &Shown<'_>) -> Result<Passed, Failure> {
    if config.client_keys.is_empty() {
        return check_place(config, shown).map(|()| Passed::default());
    }
    let bearer = shown.authorization.and_then(bearer);
    for (key, by_authorization) in [(bearer, true), (shown.api_key, false)] {
        if let Some(key) = key.and_then(|key| find(config, key)) {
            return Ok(Passed { key: Some(key), by_authorization });
        }
    }
    let message = "this proxy needs a client key: send it as \"Authorization: Bearer KEY\" or as \
                   \"x-api-key: KEY\"";
    Err(Failure::new(Fault::client(Kind::Unauthorized), message))
}

/// Checks the host and the origin of a request, if there are no client keys.
///
/// # Errors
/// 403 that says what to configure.
pub fn check_place(config: &Config, shown: &Shown<'_>) -> Result<(), Failure> {
    if !config.client_keys.is_empty() {
        return Ok(());
    }
    let refuse = |message: String| Failure::new(Fault::client(Kind::Forbidden), message);
    // HTTP/1.0 knows no Host, and no browser speaks it.
    if let Some(host) = shown.host
        && !is_own_host(config, host)
    {
        let host = shorten(host);
        return Err(refuse(format!(
            "the Host \"{host}\" is not a name of this proxy: add it to server.hosts, or set \
             client keys"
        )));
    }
    if let Some(origin) = shown.origin
        && !is_own_origin(config, shown.host, origin)
    {
        let origin = shorten(origin);
        return Err(refuse(format!(
            "web pages of \"{origin}\" may not use this proxy: add it to server.origins, or set \
             client keys"
        )));
    }
    // An image or a form of a foreign page sends no Origin with a GET.
    if shown.origin.is_none() && matches!(shown.fetch_site, Some(b"cross-site" | b"same-site")) {
        return Err(refuse("web pages of other sites may not use this proxy".to_owned()));
    }
    Ok(())
}

/// Compares with every key, so that the time says nothing of which one it was nor how far it fits.
fn find(config: &Config, shown: &[u8]) -> Option<usize> {
    let (mut found, mut place) = (Choice::from(0), 0u64);
    for (key, index) in config.client_keys.iter().zip(0u64..) {
        let equal = key.secret.as_bytes().ct_eq(shown);
        place = u64::conditional_select(&place, &index, equal);
        found |= equal;
    }
    bool::from(found).then(|| usize::try_from(place).ok()).flatten()
}

/// The token of an `Authorization: Bearer` field (RFC 6750, section 2.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn is_own_host(config: &Config, host: &[u8]) -> bool {
    let Some(name) = std::str::from_utf8(host).ok().and_then(without_port) else { return false };
    if let Ok(address) = name.parse::<IpAddr>() {
        // A rebound name is a name: an address in its place cannot be one.
        return address.to_canonical().is_loopback()
            || config.listen.iter().any(|own| {
                own.ip().is_unspecified() || own.ip().to_canonical() == address.to_canonical()
            });
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || config.hosts.iter().any(|own| own.eq_ignore_ascii_case(&name))
}

/// The host of `host[:port]`, an IPv6 address without its brackets.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            (name, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    (!name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// A configured origin, or a page that this proxy itself served.
fn is_own_origin(config: &Config, host: Option<&[u8]>, origin: &[u8]) -> bool {
    let same = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    config.origins.iter().any(|own| own.as_bytes() == origin) || (same.is_some() && same == host)
}

/// A header's value, fit to be shown.
fn shorten(value: &[u8]) -> String {
    let shown = value.iter().take(100).map(|&byte| match byte {
        b' '..=b'~' if byte != b'"' => char::from(byte),
        _ => '?',
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientKey, Limits, Timeouts};

    fn config(keys: &[&str]) -> Config {
        let key = |secret: &&str| ClientKey { name: "k".to_owned(), secret: (*secret).to_owned() };
        Config {
            listen: vec!["192.0.2.7:8080".parse().unwrap()],
            workers: 1,
            providers: Vec::new(),
            routes: Vec::new(),
            client_keys: keys.iter().map(key).collect(),
            hosts: vec!["proxy.example".to_owned()],
            origins: vec!["https://app.example".to_owned()],
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            strict: false,
            retry_stale: true,
            http_shutdown: false,
            server_info: None,
        }
    }

    fn status(config: &Config, shown: &Shown<'_>) -> u16 {
        check(config, shown).map_or_else(|failure| failure.status(), |_| 200)
    }

    #[test]
    fn without_keys_only_own_names_pass() {
        let config = config(&[]);
        for (host, expected) in [
            ("localhost", 200),
            ("LOCALHOST:8080", 200),
            ("localhost.:8080", 200),
            ("a.localhost", 200),
            ("127.0.0.1:1", 200),
            ("127.9.9.9", 200),
            ("[::1]:8080", 200),
            ("[::1]", 200),
            ("[::ffff:127.0.0.1]", 200),
            ("192.0.2.7:8080", 200),
            ("proxy.example:443", 200),
            ("Proxy.Example", 200),
            ("192.0.2.8", 403),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("evillocalhost", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost:80@evil.example", 403),
            ("[::1]x", 403),
            ("[::1", 403),
            ("", 403),
            (":80", 403),
        ] {
            let shown = Shown { host: Some(host.as_bytes()), ..Shown::default() };
            assert_eq!(status(&config, &shown), expected, "{host}");
        }
        assert_eq!(status(&config, &Shown::default()), 200);
    }

    #[test]
    fn any_address_passes_when_every_address_is_listened_on() {
        let mut config = config(&[]);
        config.listen = vec!["0.0.0.0:80".parse().unwrap()];
        for (host, expected) in [(&b"198.51.100.1"[..], 200), (b"evil.example", 403)] {
            let shown = Shown { host: Some(host), ..Shown::default() };
            assert_eq!(status(&config, &shown), expected);
        }
    }

    #[test]
    fn without_keys_foreign_pages_are_refused() {
        let config = config(&[]);
        let host = Some(&b"localhost:8080"[..]);
        for (origin, fetch_site, expected) in [
            (None, None, 200),
            (Some("https://app.example"), None, 200),
            (Some("http://localhost:8080"), None, 200),
            (Some("http://localhost:3000"), None, 403),
            (Some("https://app.example.evil"), None, 403),
            (Some("null"), None, 403),
            (None, Some("cross-site"), 403),
            (None, Some("same-site"), 403),
            (None, Some("same-origin"), 200),
            (None, Some("none"), 200),
        ] {
            let (origin, fetch_site) = (origin.map(str::as_bytes), fetch_site.map(str::as_bytes));
            let shown = Shown { host, origin, fetch_site, ..Shown::default() };
            assert_eq!(status(&config, &shown), expected, "{origin:?} {fetch_site:?}");
        }
    }

    #[test]
    fn with_keys_any_of_them_passes_and_nothing_else() {
        let config = config(&["first-key", "second-key"]);
        for (authorization, api_key, expected) in [
            (Some("Bearer first-key"), None, Some((0, true))),
            (Some("bearer second-key "), None, Some((1, true))),
            (None, Some("second-key"), Some((1, false))),
            (Some("Bearer sk-upstream"), Some("first-key"), Some((0, false))),
            (Some("Bearer first-ke"), None, None),
            (Some("Bearer "), None, None),
            (Some("first-key"), None, None),
            (Some("Basic first-key"), None, None),
            (None, None, None),
        ] {
            let shown = Shown {
                host: Some(b"evil.example"),
                authorization: authorization.map(str::as_bytes),
                api_key: api_key.map(str::as_bytes),
                ..Shown::default()
            };
            let passed = check(&config, &shown);
            let expected =
                expected.map(|(key, by_authorization)| Passed { key: Some(key), by_authorization });
            assert_eq!(passed.as_ref().ok().copied(), expected, "{authorization:?} {api_key:?}");
            if let Err(failure) = passed {
                assert_eq!(failure.status(), 401);
                assert!(!failure.message.contains("first"), "{failure}");
            }
        }
    }
}
