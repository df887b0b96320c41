//! Who may ask. With client keys: whoever shows one. Without: whoever reaches us by a name of ours,
//! because a browser page of a stranger can reach a loopback port too (DNS rebinding).

use crate::config::Config;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::route;
use crate::wire::http1::{Host, Origin, RequestHead};
use std::net::IpAddr;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// What of a request's head says who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'h> {
    /// Whom the client thinks it talks to.
    pub host: Option<Host<'h>>,
    /// The `Origin` field.
    pub origin: Option<&'h str>,
    /// The `Sec-Fetch-Site` field.
    pub fetch_site: Option<&'h str>,
    /// The `Authorization` field.
    pub authorization: Option<&'h str>,
    /// The `X-Api-Key` field.
    pub api_key: Option<&'h str>,
}

impl<'h> From<&RequestHead<'h>> for Shown<'h> {
    fn from(head: &RequestHead<'h>) -> Self {
        Self {
            host: head.host,
            origin: head.origin,
            fetch_site: head.fetch_site,
            authorization: head.authorization,
            api_key: head.api_key,
        }
    }
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
        if let Some(key) = key.and_then(|key| find(config, key.as_bytes())) {
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
        && !is_own_host(config, &host)
    {
        return Err(refuse(format!(
            "the Host \"{}\" is not a name of this proxy: add it to server.hosts, or set client \
             keys",
            host.name
        )));
    }
    match shown.origin {
        Some(origin) if !is_own_origin(config, shown.host.as_ref(), origin) => {
            Err(refuse(format!(
                "web pages of \"{}\" may not use this proxy: add it to server.origins, or set \
                 client keys",
                origin.chars().take(100).collect::<String>()
            )))
        }
        // An image or a form of a foreign page sends no Origin with a GET.
        None if matches!(shown.fetch_site, Some("cross-site" | "same-site")) => {
            Err(refuse("web pages of other sites may not use this proxy".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The name of a key, for logs.
#[must_use]
pub fn key_name(config: &Config, key: Option<usize>) -> &str {
    key.and_then(|key| config.client_keys.get(key)).map_or("-", |key| key.name.as_str())
}

/// Whether the key of this index may ask for a model. A pattern with a star has to match what
/// chooses the model: else `small-*` would let `small-/large` or `small-high` through to providers
/// that take a prefix or an effort off.
#[must_use]
pub fn may_use(config: &Config, key: Option<usize>, model: &str) -> bool {
    let models = key.and_then(|key| config.client_keys.get(key)).map(|key| &key.models);
    models.is_none_or(|models| {
        let plain = route::plain(config, model);
        let named = |pattern: &String| pattern == model || route::matches(pattern, plain);
        models.is_empty() || models.iter().any(named)
    })
}

/// Checks the model of a request against the key that it came with.
///
/// # Errors
/// 403 that names what the key may ask for.
pub fn check_model(config: &Config, key: Option<usize>, model: &str) -> Result<(), Failure> {
    /// Of the patterns, so many are told.
    const TOLD_MAX: usize = 20;
    if may_use(config, key, model) {
        return Ok(());
    }
    let name = key_name(config, key);
    let key = key.and_then(|key| config.client_keys.get(key));
    let models = key.map_or(&[][..], |key| &key.models);
    let told: Vec<&str> = models.iter().take(TOLD_MAX).map(String::as_str).collect();
    let more = if models.len() > TOLD_MAX { " and others" } else { "" };
    let model: String = model.chars().take(100).collect();
    let message = format!(
        "the key \"{name}\" may not ask for the model \"{model}\", only for {}{more}",
        told.join(", ")
    );
    let failure = Failure::new(Fault::client(Kind::Forbidden), message);
    Err(failure.with_code("model_not_allowed").with_param("model"))
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
pub(crate) fn bearer(field: &str) -> Option<&str> {
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}

fn is_own_host(config: &Config, host: &Host<'_>) -> bool {
    if let Ok(address) = host.name.parse::<IpAddr>() {
        // A rebound name is a name: an address in its place cannot be one.
        let address = address.to_canonical();
        return address.is_loopback()
            || config
                .listen
                .iter()
                .any(|own| own.ip().is_unspecified() || own.ip().to_canonical() == address);
    }
    host.is_loopback() || config.hosts.iter().any(|own| host.is(own))
}

/// A configured origin, a page of this machine, or one that came from this proxy's own address.
fn is_own_origin(config: &Config, host: Option<&Host<'_>>, origin: &str) -> bool {
    let decoded = Origin::decode(origin);
    let same = match (&decoded, host) {
        (Some(Origin::Site { host: page, .. }), Some(host)) => page == host,
        _ => false,
    };
    same || decoded.is_some_and(|origin| origin.is_loopback())
        || config.origins.iter().any(|own| own == origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientKey, Limits, Timeouts};

    fn config(keys: &[&str]) -> Config {
        let key = |secret: &&str| ClientKey {
            name: "k".to_owned(),
            secret: (*secret).to_owned(),
            rate: None,
            exchanges_max: None,
            models: Vec::new(),
        };
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
            tls: None,
            address_rate: None,
            capture: None,
            log_level: None,
            variables: crate::config::Variables::default(),
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
        ] {
            let shown = Shown { host: Host::decode(host), ..Shown::default() };
            assert_eq!(status(&config, &shown), expected, "{host}");
        }
        assert_eq!(status(&config, &Shown::default()), 200);
    }

    #[test]
    fn any_address_passes_when_every_address_is_listened_on() {
        let mut config = config(&[]);
        config.listen = vec!["0.0.0.0:80".parse().unwrap()];
        for (host, expected) in [("198.51.100.1", 200), ("evil.example", 403)] {
            let shown = Shown { host: Host::decode(host), ..Shown::default() };
            assert_eq!(status(&config, &shown), expected);
        }
    }

    #[test]
    fn without_keys_foreign_pages_are_refused() {
        let config = config(&[]);
        let host = Host::decode("localhost:8080");
        for (origin, fetch_site, expected) in [
            (None, None, 200),
            (Some("https://app.example"), None, 200),
            (Some("http://localhost:8080"), None, 200),
            (Some("http://localhost:3000"), None, 200),
            (Some("https://app.example.evil"), None, 403),
            (Some("null"), None, 403),
            (None, Some("cross-site"), 403),
            (None, Some("same-site"), 403),
            (None, Some("same-origin"), 200),
            (None, Some("none"), 200),
        ] {
            let shown = Shown { host, origin, fetch_site, ..Shown::default() };
            assert_eq!(status(&config, &shown), expected, "{origin:?} {fetch_site:?}");
        }
    }

    #[test]
    fn a_missing_and_a_wrong_key_are_told_the_same() {
        let config = config(&["first-key"]);
        let shown = |authorization| Shown { authorization, ..Shown::default() };
        let told = |authorization| check(&config, &shown(authorization)).unwrap_err();
        for wrong in ["Bearer first-kez", "Bearer x", "Bearer ", "Basic first-key", ""] {
            assert_eq!(told(Some(wrong)), told(None), "{wrong}");
        }
    }

    #[test]
    fn a_key_may_use_what_its_patterns_name() {
        let mut config = config(&["all", "some"]);
        config.client_keys[1].models = vec!["a".to_owned(), "b-*".to_owned()];
        for (key, model, expected) in [
            (None, "c", true),
            (Some(0), "c", true),
            (Some(1), "a", true),
            (Some(1), "b-1", true),
            (Some(1), "aa", false),
            (Some(1), "b", false),
            (Some(1), "", false),
        ] {
            assert_eq!(may_use(&config, key, model), expected, "{key:?} {model}");
            assert_eq!(check_model(&config, key, model).is_ok(), expected);
        }
        config.client_keys[1].models = (0..100).map(|n| format!("m{n}")).collect();
        let failure = check_model(&config, Some(1), &"x".repeat(1000)).unwrap_err();
        assert_eq!((failure.status(), failure.code()), (403, "model_not_allowed"));
        assert!(failure.message.contains("m19 and others") && failure.message.len() < 400);
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
                host: Host::decode("evil.example"),
                authorization,
                api_key,
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
