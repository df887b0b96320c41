//! Takes secrets out of what is written down: fields by their names, and the values of those fields
//! and of the configuration wherever else they stand, also escaped.

use crate::config::{Config, Credential};

/// What stands where a secret was.
pub(super) const REDACTED: &str = "[redacted]";
/// A value shorter than this is no secret that could be told from ordinary text.
const SECRET_BYTES_MIN: usize = 6;
/// So much of a secret at the end of a text is taken for a cut one.
const CUT_BYTES_MIN: usize = 4;
/// Backslashes in front of an escaped character: three levels of JSON in JSON.
const BACKSLASHES_MAX: usize = 7;

/// Values that nobody may see.
#[derive(Clone)]
pub struct Secrets {
    /// Longest first, so that of two that begin alike the whole one goes.
    values: Vec<Vec<u8>>,
    /// The bytes that a secret may begin with.
    first: [bool; 256],
}

impl std::fmt::Debug for Secrets {
    /// Never shows a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// What a text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    Otherwise,
    /// With a secret of so many bytes.
    Secret(usize),
    /// With the start of one, and there it ends.
    Cut,
}

impl Secrets {
    /// Those of a configuration: keys of providers and of clients, and what its own header fields
    /// and URLs carry under a name that says so.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut secrets = Self { values: Vec::new(), first: [false; 256] };
        for provider in &config.providers {
            match &provider.credential {
                Credential::Key(key) => secrets.add(key.as_bytes()),
                Credential::Grant(grant) => {
                    grant.secrets().iter().for_each(|secret| secrets.add(secret.as_bytes()));
                }
                Credential::None | Credential::Client | Credential::CodexAuth(_) => {}
            }
            for (name, value) in &provider.headers {
                secrets.add_field(name, value.as_bytes());
            }
            secrets.add_query(provider.url.path.as_bytes());
        }
        for key in &config.client_keys {
            secrets.add(key.secret.as_bytes());
        }
        secrets
    }

    pub(super) fn add(&mut self, value: &[u8]) {
        let value = value.trim_ascii();
        if value.len() < SECRET_BYTES_MIN || self.values.iter().any(|known| known == value) {
            return;
        }
        self.values.push(value.to_vec());
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for first in value.first().into_iter().chain(b"\\%") {
            if let Some(first) = self.first.get_mut(usize::from(*first)) {
                *first = true;
            }
        }
    }

    /// Adds the value of a header field whose name says that it is secret.
    pub(super) fn add_field(&mut self, name: &str, value: &[u8]) {
        if !is_secret_name(name) {
            return;
        }
        if name.to_ascii_lowercase().contains("cookie") {
            for pair in value.split(|&byte| byte == b';') {
                if let Some(at) = pair.iter().position(|&byte| byte == b'=') {
                    self.add(pair.get(at + 1..).unwrap_or_default());
                }
                // Behind the first come a Set-Cookie's attributes.
                if name.eq_ignore_ascii_case("set-cookie") {
                    break;
                }
            }
            return;
        }
        let (_, token) = scheme(value);
        self.add(token);
    }

    /// Adds the values of a target's query parameters whose names say that they are secret.
    pub(super) fn add_query(&mut self, target: &[u8]) {
        for (name, value) in parameters(target) {
            if is_secret_parameter(name) {
                self.add(value);
            }
        }
    }

    /// A copy of `text` without them.
    pub(super) fn redact(&self, text: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return text.to_vec();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((&byte, behind)) = rest.split_first() {
            let may = self.first.get(usize::from(byte)).copied().unwrap_or_default();
            match if may { self.begins(rest) } else { Begins::Otherwise } {
                Begins::Otherwise => {
                    out.push(byte);
                    rest = behind;
                }
                Begins::Secret(bytes) => {
                    out.extend_from_slice(REDACTED.as_bytes());
                    rest = rest.get(bytes..).unwrap_or_default();
                }
                Begins::Cut => {
                    out.extend_from_slice(REDACTED.as_bytes());
                    break;
                }
            }
        }
        out
    }

    fn begins(&self, text: &[u8]) -> Begins {
        let mut found = Begins::Otherwise;
        for value in &self.values {
            match begins(text, value) {
                Begins::Otherwise => {}
                Begins::Cut => found = Begins::Cut,
                secret @ Begins::Secret(_) => return secret,
            }
        }
        found
    }
}

fn begins(text: &[u8], secret: &[u8]) -> Begins {
    let mut rest = text;
    for (matched, &byte) in secret.iter().enumerate() {
        if rest.is_empty() {
            return if matched >= CUT_BYTES_MIN { Begins::Cut } else { Begins::Otherwise };
        }
        let Some(bytes) = escaped(rest, byte) else { return Begins::Otherwise };
        rest = rest.get(bytes..).unwrap_or_default();
    }
    Begins::Secret(text.len() - rest.len())
}

/// How many bytes at the start of `text` stand for `byte`: itself, a JSON escape at any level, or a
/// percent-encoded byte.
fn escaped(text: &[u8], byte: u8) -> Option<usize> {
    let hex = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let is = |code: Option<u32>| code == Some(u32::from(byte));
    let slashes = text.iter().take(BACKSLASHES_MAX).take_while(|&&byte| byte == b'\\').count();
    if slashes > 0 {
        return match text.get(slashes) {
            Some(b'u') if is(hex(text.get(slashes + 1..slashes + 5))) => Some(slashes + 5),
            Some(&next @ (b'/' | b'"')) if next == byte => Some(slashes + 1),
            _ if byte == b'\\' => Some(if slashes > 1 { 2 } else { 1 }),
            _ => None,
        };
    }
    match text.first() {
        Some(&first) if first == byte => Some(1),
        Some(b'%') if is(hex(text.get(1..3))) => Some(3),
        _ => None,
    }
}

/// Whether the name of a field says that its value is nobody's business.
pub(super) fn is_secret_name(name: &str) -> bool {
    const PARTS: [&str; 7] =
        ["auth", "cookie", "secret", "password", "credential", "signature", "account-id"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part)) || name.ends_with("key") || name.ends_with("token")
}

fn is_secret_parameter(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| is_secret_name(name) || matches!(name, "sig"))
}

/// An authorization scheme with its blank, and what follows it.
pub(super) fn scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let at = value.iter().position(|&byte| byte == b' ').map_or(0, |at| at + 1);
    value.split_at_checked(at).unwrap_or((&[], value))
}

/// The parameters of a target's query.
fn parameters(target: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let query = target.splitn(2, |&byte| byte == b'?').nth(1).unwrap_or_default();
    query.split(|&byte| byte == b'&').filter_map(|pair| {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        Some((halves.next()?, halves.next()?))
    })
}

/// A target whose secret parameters are replaced by a word that a URL may hold.
pub(super) fn target(target: &[u8]) -> Vec<u8> {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let mut out = path.to_vec();
    let query = target.get(path.len() + 1..).unwrap_or_default();
    for (index, pair) in query.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        } else if target.len() > path.len() {
            out.push(b'?');
        }
        match pair.iter().position(|&byte| byte == b'=') {
            Some(at) if is_secret_parameter(pair.get(..at).unwrap_or_default()) => {
                out.extend_from_slice(pair.get(..=at).unwrap_or_default());
                out.extend_from_slice(b"REDACTED");
            }
            _ => out.extend_from_slice(pair),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets { values: Vec::new(), first: [false; 256] };
        values.iter().for_each(|value| secrets.add(value.as_bytes()));
        secrets
    }

    #[test]
    fn values_go_wherever_they_stand_and_however_they_are_escaped() {
        let secrets = secrets(&["sk-a/b+\"c", "sk-a/b+\"c-long", "short", "  padded-key "]);
        for (text, expected) in [
            ("", ""),
            ("nothing here \\n %41", "nothing here \\n %41"),
            ("short stays", "short stays"),
            ("is padded-key.", "is [redacted]."),
            ("a sk-a/b+\"c b", "a [redacted] b"),
            ("sk-a/b+\"csk-a/b+\"c", "[redacted][redacted]"),
            ("sk-a/b+\"c-long", "[redacted]"),
            (r#"{"k":"sk-a\/b+\"c"}"#, r#"{"k":"[redacted]"}"#),
            (r#"{"k":"\u0073k-a/b\u002b\u0022c"}"#, r#"{"k":"[redacted]"}"#),
            (r#"{"k":"{\"k\":\"sk-a\\\/b+\\\"c\"}"}"#, r#"{"k":"{\"k\":\"[redacted]\"}"}"#),
            (r"\\u0073k-a\\u002Fb\\u002B\\u0022c", "[redacted]"),
            ("?q=sk-a%2Fb%2b%22c&x", "?q=[redacted]&x"),
            // Cut off at the end.
            ("tail sk-a/", "tail [redacted]"),
            ("tail sk-", "tail sk-"),
            ("sk-a/ no", "sk-a/ no"),
        ] {
            let found = String::from_utf8(secrets.redact(text.as_bytes())).unwrap();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn many_backslashes_cost_no_more_than_other_bytes() {
        let text = vec![b'\\'; 1 << 20];
        assert_eq!(secrets(&["sk-secret"]).redact(&text), text);
    }

    #[test]
    fn names_say_what_is_secret() {
        for (name, secret) in [
            ("Authorization", true),
            ("proxy-authorization", true),
            ("X-Api-Key", true),
            ("api-key", true),
            ("x-goog-api-key", true),
            ("Cookie", true),
            ("set-cookie", true),
            ("ChatGPT-Account-ID", true),
            ("x-auth", true),
            ("x-amz-security-token", true),
            ("content-type", false),
            ("x-ratelimit-remaining-tokens", false),
            ("x-request-id", false),
            ("session-id", false),
        ] {
            assert_eq!(is_secret_name(name), secret, "{name}");
        }
    }

    #[test]
    fn a_field_gives_its_token_away_elsewhere_too() {
        for (name, value, secret) in [
            ("authorization", "Bearer token-1", "token-1"),
            ("authorization", "token-1", "token-1"),
            ("cookie", "a=b; session=cookie-1", "cookie-1"),
            ("set-cookie", "session=cookie-1; Path=/", "cookie-1"),
            ("chatgpt-account-id", "account-1", "account-1"),
        ] {
            let mut secrets = secrets(&[]);
            secrets.add_field(name, value.as_bytes());
            let found = secrets.redact(secret.as_bytes());
            assert_eq!(found, REDACTED.as_bytes(), "{name}: {value}");
        }
        let mut none = secrets(&[]);
        none.add_field("x-team", b"blue-team");
        assert_eq!(none.redact(b"blue-team"), b"blue-team");
    }

    #[test]
    fn a_target_loses_its_keys_and_nothing_else() {
        for (from, to) in [
            ("/v1/responses", "/v1/responses"),
            ("/v1?", "/v1?"),
            (
                "/v1?key=k&api-version=2&access_token=&x",
                "/v1?key=REDACTED&api-version=2&access_token=REDACTED&x",
            ),
            ("/v1?sig=a?b=c", "/v1?sig=REDACTED"),
        ] {
            assert_eq!(String::from_utf8(target(from.as_bytes())).unwrap(), to);
        }
    }
}
