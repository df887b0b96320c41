//! One request for an access token and its reply: after RFC 6749 section 4.4, as GigaChat's OAuth
//! endpoint speaks it, and `/token` of its API for a name and a password.

use crate::config::{Grant, GrantKind};
use crate::proxy::secret::take_out;
use serde_json::Value;
use std::time::Duration;

/// A longer token fits into no request's head.
const ACCESS_BYTES_MAX: usize = 16 << 10;
/// Of an endpoint's own words, so many characters are told.
const WORDS_MAX: usize = 200;
/// What is above this is a Unix time in milliseconds: as seconds it would be the year 5138.
const SECONDS_MAX: u64 = 100_000_000_000;

/// What is posted to a token endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Header fields, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty where the credential in the head says all.
    pub body: String,
}

impl std::fmt::Debug for Request {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("body", &self.body).finish_non_exhaustive()
    }
}

/// When a token ends, as its endpoint says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It does not say.
    Unknown,
    /// At this Unix time in milliseconds (`expires_at`, `exp`), by its own clock.
    At(u64),
    /// So long after its reply (`expires_in`).
    After(Duration),
}

/// What a token endpoint said.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// A token.
    Token {
        /// It.
        access: String,
        /// How long it is good.
        ends: Ends,
    },
    /// None for this secret, and why.
    Refused(String),
    /// The endpoint could not be asked, and why.
    Unreachable(String),
    /// None now, and why; later may be different.
    Later {
        /// In words, without a secret.
        why: String,
        /// `Retry-After`, in seconds.
        after_s: Option<u32>,
    },
}

impl std::fmt::Debug for Reply {
    /// Never shows the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token { ends, .. } => write!(f, "Token({ends:?})"),
            Self::Refused(why) => write!(f, "Refused({why})"),
            Self::Unreachable(why) => write!(f, "Unreachable({why})"),
            Self::Later { why, after_s } => write!(f, "Later({why}, {after_s:?})"),
        }
    }
}

/// The request for a token. `random` makes its id; each request needs another.
#[must_use]
pub fn request(grant: &Grant, random: u128) -> Request {
    let mut headers = vec![
        ("authorization", format!("Basic {}", grant.basic)),
        ("accept", "application/json".to_owned()),
    ];
    let body = match grant.kind {
        GrantKind::Password => String::new(),
        GrantKind::ClientCredentials => {
            headers.push(("rquid", uuid(random)));
            headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            format!("scope={}", form(grant.scope.as_deref().unwrap_or_default()))
        }
    };
    Request { headers, body }
}

impl Reply {
    /// Reads the endpoint's reply to a request of the server's `own` grant, or of a caller's.
    #[must_use]
    pub fn decode(
        grant: &Grant,
        own: bool,
        status: u16,
        after_s: Option<u32>,
        body: &[u8],
    ) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Self::token(&body).unwrap_or_else(|| Self::Later {
                why: "the token endpoint's reply holds no access token".to_owned(),
                after_s,
            });
        }
        let (code, said) = (code(&body), said(grant, &body));
        let told = format!("{status}{said}");
        if !(400..500).contains(&status) || matches!(status, 408 | 425 | 429) {
            return Self::Later { why: format!("the token endpoint answers {told}"), after_s };
        }
        let scope = grant.scope.as_deref().unwrap_or_default();
        let where_to = if own {
            "set `scope` of the credential"
        } else {
            "name it behind the key, as in giga-cred-KEY:SCOPE"
        };
        let whose = "GigaChat's are GIGACHAT_API_PERS, GIGACHAT_API_B2B and GIGACHAT_API_CORP";
        let why = match (grant.kind, status, code) {
            (GrantKind::ClientCredentials, 400, Some(7)) => format!(
                "the authorization key is not one for the scope \"{scope}\": {where_to} to the \
                 scope that the key was made for ({whose}); the token endpoint answers {told}"
            ),
            (GrantKind::ClientCredentials, 400, Some(5)) => {
                format!("the token endpoint wants a scope: {where_to} ({whose}); it answers {told}")
            }
            (GrantKind::ClientCredentials, 401, _) => format!(
                "the token endpoint refuses the authorization key ({told}): it has to be the \
                 whole key as the vendor shows it, and one that is still valid"
            ),
            (GrantKind::Password, 401, _) => {
                format!("the token endpoint refuses the name and the password ({told})")
            }
            (_, 404 | 405, _) => format!(
                "there is no token endpoint at {}{} ({told})",
                grant.token_url.host, grant.token_url.path
            ),
            _ => format!("the token endpoint refuses the request ({told})"),
        };
        Self::Refused(why)
    }

    fn token(body: &Value) -> Option<Self> {
        let access = ["access_token", "tok"].into_iter().find_map(|name| body.get(name)?.as_str());
        let legal = |it: &&str| {
            (1..=ACCESS_BYTES_MAX).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_graphic())
        };
        let access = access.filter(legal)?.to_owned();
        let whole = |name: &str| number(body.get(name)?);
        let at = whole("expires_at").or_else(|| whole("exp"));
        let ends = match (whole("expires_in"), at) {
            (Some(seconds), _) => Ends::After(Duration::from_secs(seconds)),
            (None, Some(at)) if at > SECONDS_MAX => Ends::At(at),
            (None, Some(at)) => Ends::At(at * 1000),
            (None, None) => Ends::Unknown,
        };
        Some(Self::Token { access, ends })
    }
}

/// A whole number, also as text, as some servers write it.
fn number(value: &Value) -> Option<u64> {
    let text = value.as_str().map_or_else(
        || value.as_number().map(ToString::to_string),
        |text| Some(text.trim().to_owned()),
    )?;
    text.split('.').next()?.parse().ok()
}

/// GigaChat's number of an error.
fn code(body: &Value) -> Option<u64> {
    number(body.get("code")?)
}

/// The endpoint's own code and words, without the secret that they may repeat.
fn said(grant: &Grant, body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    // GigaChat's form, its API's, or RFC 6749's (section 5.2).
    let code = code(body).map(|code| format!("code {code}")).or_else(|| text("error"));
    let words = text("message").or_else(|| text("error_description"));
    let said = [code, words].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let mut said: String = said.chars().filter(|it| !it.is_control()).collect();
    for secret in grant.secrets() {
        take_out(&secret, &mut said);
    }
    match said.trim() {
        "" => String::new(),
        said => format!(", {}", said.chars().take(WORDS_MAX).collect::<String>()),
    }
}

/// A random UUID (RFC 9562, section 5.4).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.char_indices() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// A value of `application/x-www-form-urlencoded`.
fn form(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b' ' => out.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Url;

    fn grant(kind: GrantKind, scope: Option<&str>) -> Grant {
        Grant {
            kind,
            basic: Grant::basic("id", "hush-hush"),
            scope: scope.map(str::to_owned),
            token_url: Url::parse("https://auth.example/oauth").unwrap(),
        }
    }

    fn key() -> Grant {
        grant(GrantKind::ClientCredentials, Some("GIGACHAT_API_PERS"))
    }

    #[test]
    fn a_request_shows_the_key_as_it_was_given_and_an_id_of_its_own() {
        let asked = request(&grant(GrantKind::ClientCredentials, Some("A &B")), u128::MAX);
        let field = |request: &Request, name: &str| {
            let found = request.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(asked.body, "scope=A+%26B");
        assert_eq!(field(&asked, "authorization").unwrap(), "Basic aWQ6aHVzaC1odXNo");
        let form = "application/x-www-form-urlencoded";
        assert_eq!(field(&asked, "content-type").as_deref(), Some(form));
        assert_eq!(field(&asked, "accept").as_deref(), Some("application/json"));
        let id = field(&asked, "rquid").unwrap();
        assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let other = request(&key(), 0);
        assert_eq!(field(&other, "rquid").unwrap(), "00000000-0000-4000-8000-000000000000");
        assert!(!format!("{asked:?}").contains("aWQ6"), "{asked:?}");

        let asked = request(&grant(GrantKind::Password, None), 7);
        assert_eq!((asked.body.as_str(), field(&asked, "rquid")), ("", None));
    }

    #[test]
    fn every_shape_of_a_token_is_read() {
        let after = |seconds| Ends::After(Duration::from_secs(seconds));
        for (body, expected) in [
            (r#"{"access_token":"t","expires_at":1764265723000}"#, Ends::At(1_764_265_723_000)),
            (r#"{"access_token":"t","expires_at":1764265723}"#, Ends::At(1_764_265_723_000)),
            (r#"{"tok":"t","exp":1764265723}"#, Ends::At(1_764_265_723_000)),
            (r#"{"tok":"t","exp":1764265723123}"#, Ends::At(1_764_265_723_123)),
            (r#"{"tok":"t","exp":"1764265723123"}"#, Ends::At(1_764_265_723_123)),
            (r#"{"access_token":"t","expires_in":3600,"token_type":"Bearer"}"#, after(3600)),
            (r#"{"access_token":"t","expires_in":3600.5,"expires_at":1}"#, after(3600)),
            (r#"{"access_token":"t"}"#, Ends::Unknown),
            (r#"{"access_token":"t","expires_at":null}"#, Ends::Unknown),
        ] {
            let expected = Reply::Token { access: "t".to_owned(), ends: expected };
            assert_eq!(Reply::decode(&key(), true, 200, None, body.as_bytes()), expected, "{body}");
        }
        let long = format!("{{\"tok\":\"{}\"}}", "t".repeat(ACCESS_BYTES_MAX + 1));
        for body in ["", "{}", "[", r#"{"tok":""}"#, r#"{"tok":"a\r\nb: c"}"#, &long] {
            let reply = Reply::decode(&key(), true, 200, None, body.as_bytes());
            assert!(matches!(reply, Reply::Later { .. }), "{body:.50}: {reply:?}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_to_do() {
        let (word, key) = (grant(GrantKind::Password, None), key());
        for (grant, own, status, body, words) in [
            (
                &key,
                true,
                400,
                r#"{"code":7,"message":"scope from db not fully includes consumed scope"}"#,
                &["scope \"GIGACHAT_API_PERS\"", "set `scope`", "GIGACHAT_API_CORP", "code 7: sc"]
                    [..],
            ),
            (&key, false, 400, r#"{"code":7}"#, &["giga-cred-KEY:SCOPE"]),
            (&key, true, 400, r#"{"code":5,"message":"scope is empty"}"#, &["wants a scope"]),
            (&key, true, 401, r#"{"code":6,"message":"x"}"#, &["refuses the authorization key"]),
            (&key, true, 400, r#"{"code":1}"#, &["refuses the request (400, code 1)"]),
            (&word, true, 401, r#"{"status":401,"message":"no"}"#, &["name and the pass", "no"]),
            (&key, true, 404, "<html>", &["no token endpoint at auth.example/oauth (404)"]),
            (&key, true, 400, r#"{"error":"invalid_client"}"#, &["400, invalid_client"]),
            (
                &key,
                true,
                401,
                "{\"message\":\"aWQ6aHVzaC1odXNo is not hush-hush\\n\"}",
                &["[redacted] is not [redacted]"],
            ),
        ] {
            match Reply::decode(grant, own, status, None, body.as_bytes()) {
                Reply::Refused(why) => {
                    for word in words {
                        assert!(why.contains(word), "{body}: {why}");
                    }
                    assert!(!why.contains("hush"), "{why}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
        for (status, after_s) in [(429, Some(7)), (500, None), (503, Some(1)), (302, None)] {
            match Reply::decode(&key, true, status, after_s, b"{\"message\":\"busy\"}") {
                Reply::Later { why, after_s: told } => {
                    assert_eq!(told, after_s);
                    assert!(why.contains(&status.to_string()) && why.contains("busy"), "{why}");
                }
                other => panic!("{status}: {other:?}"),
            }
        }
        let long = format!("{{\"message\":\"{}\"}}", "я".repeat(1000));
        let Reply::Later { why, .. } = Reply::decode(&key, true, 500, None, long.as_bytes()) else {
            panic!()
        };
        assert!(why.chars().count() < 300, "{why}");
    }
}
