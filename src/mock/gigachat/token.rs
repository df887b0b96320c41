//! Access tokens: for an authorization key at the OAuth endpoint, for a user and a password at
//! `/token`.

use super::service::Service;
use super::{Refusal, Shown};
use crate::mock::route::Document;
use crate::wire::json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Every scope that there is.
const SCOPES: [&str; 3] = ["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"];

/// A refusal of the OAuth endpoint, whose envelope is `{"code":N,"message":".."}`.
struct Refused {
    status: u16,
    code: u64,
    reason: &'static str,
    message: &'static str,
}

impl Service {
    /// `{"access_token":..,"expires_at":MILLISECONDS}`
    pub(super) fn oauth(&self, shown: &Shown, body: &[u8]) -> Document {
        match self.authorized(shown, body) {
            Ok(account) => {
                let (token, until_ms) = self.hand_out(&account);
                let mut out = vec![b'{'];
                json::member("access_token", &token, &mut out);
                json::member_number("expires_at", until_ms, &mut out);
                out.push(b'}');
                Document::json(out)
            }
            Err(Refused { status, code, reason, message }) => {
                self.count(Refusal::new(status, reason, message));
                let mut out = vec![b'{'];
                json::member_number("code", code, &mut out);
                json::member("message", message, &mut out);
                out.push(b'}');
                Document { status, body: out, allow: None }
            }
        }
    }

    /// `{"tok":..,"exp":SECONDS}`
    pub(super) fn token(&self, shown: &Shown) -> Document {
        let pair = shown.credential("basic").and_then(decoded).filter(|pair| self.knows(pair));
        let Some(pair) = pair else {
            return self.count(Refusal::new(401, "account", "Unauthorized")).document();
        };
        let (token, until_ms) = self.hand_out(label(&pair));
        let mut out = vec![b'{'];
        json::member("tok", &token, &mut out);
        json::member_number("exp", until_ms / 1000, &mut out);
        out.push(b'}');
        Document::json(out)
    }

    /// The account that may have a token.
    fn authorized(&self, shown: &Shown, body: &[u8]) -> Result<String, Refused> {
        let refuse = |status, code, reason, message| Refused { status, code, reason, message };
        let Some(pair) = shown.credential("basic").and_then(decoded) else {
            return Err(refuse(401, 4, "account", "Can't decode 'Authorization' header"));
        };
        if !shown.request_id.as_deref().is_some_and(is_uuid4) {
            return Err(refuse(400, 1, "request_id", "RqUID is missing or no UUID of version 4"));
        }
        if !self.knows(&pair) {
            return Err(refuse(401, 6, "account", "credentials doesn't match db data"));
        }
        let form = shown.content_type.as_deref().is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        // What is no form has no fields.
        let Some(scope) = scope(body).filter(|scope| form && !scope.is_empty()) else {
            return Err(refuse(400, 5, "scope", "scope is empty"));
        };
        let fits = match &self.options.scope {
            Some(only) => scope == only.as_bytes(),
            None => SCOPES.iter().any(|one| scope == one.as_bytes()),
        };
        if !fits {
            let message = "scope from db not fully includes consumed scope";
            return Err(refuse(400, 7, "scope", message));
        }
        Ok(label(&pair).to_owned())
    }

    fn knows(&self, pair: &str) -> bool {
        let accounts = &self.options.accounts;
        accounts.is_empty() || accounts.iter().any(|account| account == pair)
    }
}

/// The `id:secret` of a Basic credential (RFC 7617, section 2).
fn decoded(credential: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(credential).ok()?).ok()?;
    pair.split_once(':')
        .is_some_and(|(id, secret)| !id.is_empty() && !secret.is_empty())
        .then_some(pair)
}

/// What an account is called where secrets must not show.
fn label(pair: &str) -> &str {
    pair.split(':').next().unwrap_or_default()
}

fn scope(body: &[u8]) -> Option<&[u8]> {
    body.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"scope="))
}

/// `xxxxxxxx-xxxx-4xxx-[89ab]xxx-xxxxxxxxxxxx` (RFC 9562, section 5.4)
fn is_uuid4(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    groups.eq([8, 4, 4, 4, 12])
        && text.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit())
        && text.as_bytes().get(14) == Some(&b'4')
        && matches!(text.as_bytes().get(19), Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        assert!(is_uuid4("6f0b1291-c7f3-43c6-bb2e-9f3efb2dc98e"));
        assert!(is_uuid4("6F0B1291-C7F3-43C6-BB2E-9F3EFB2DC98E"));
        for text in [
            "",
            "6f0b1291c7f343c6bb2e9f3efb2dc98e",
            "zf0b1291-c7f3-43c6-bb2e-9f3efb2dc98e",
            "6f0b1291-c7f3-13c6-bb2e-9f3efb2dc98e",
            "6f0b1291-c7f3-43c6-cb2e-9f3efb2dc98e",
        ] {
            assert!(!is_uuid4(text), "{text}");
        }
    }

    #[test]
    fn a_basic_credential_is_a_pair() {
        assert_eq!(decoded("bW9jazptb2Nr").as_deref(), Some("mock:mock"));
        for credential in ["", "bW9jaw==", "bW9jaz", "Om1vY2s=", "bW9jazo="] {
            assert_eq!(decoded(credential), None, "{credential}");
        }
    }
}
