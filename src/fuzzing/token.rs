//! Accounts that clients bring and what token endpoints reply: whatever it is, what comes of it can be
//! sent, is bounded, and tells nobody a secret.

use crate::config::{Callers, Grant, GrantKind, Url};
use crate::proxy::token::{Caller, FORMS, Reply, request};
use crate::wire::http1::{BodyLength, write_request_head};

/// Words of a token endpoint and of ours around them, at most.
const WORDS_BYTES_MAX: usize = 2000;
/// The secret of the grants that replies are for.
const SECRET: &str = "a secret that nobody is told";

/// A text is an `Authorization` field's value; other bytes are a token endpoint's reply, the first of
/// which choose its status and whose grant it is for.
///
/// # Panics
/// When a property does not hold.
pub fn token(bytes: &[u8]) {
    match bytes {
        [b'B' | b'b', ..] => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                caller(text);
            }
        }
        [status, own, body @ ..] => reply(*status, *own, body),
        _ => {}
    }
}

/// What can be sent as a header field's value.
fn check_field(value: &str) {
    let mut head = Vec::new();
    let fields = [("authorization", value)];
    let written =
        write_request_head("POST", "/", "a", fields, BodyLength::Known(0), &mut head).is_ok();
    assert!(written, "{value:?} cannot be sent");
}

fn caller(authorization: &str) {
    let callers = Callers {
        scope: Some("SCOPE".to_owned()),
        token_url: Some(url()),
        password_url: url(),
        max: 1,
    };
    match Caller::read(authorization) {
        Ok(None) => {}
        Ok(Some(caller)) => {
            assert_eq!(Caller::read(authorization), Ok(Some(caller.clone())));
            assert_eq!(caller.token().is_none(), caller.grant(&callers).is_some());
            if let Some(token) = caller.token() {
                check_field(&token.authorization);
            }
            if let Some(grant) = caller.grant(&callers) {
                for (_, value) in request(&grant, 7).headers {
                    check_field(&value);
                }
            }
            let debug = format!("{caller:?}");
            assert!(debug.len() < 20, "{debug}");
        }
        Err(failure) => {
            let told = failure.message.contains(authorization) && !FORMS.contains(authorization);
            assert!(!told || authorization.len() < 16, "{failure}");
            assert!(failure.message.len() < 500, "{failure}");
        }
    }
}

fn reply(status: u8, own: u8, body: &[u8]) {
    let status = 100 + u16::from(status) * 2;
    let kind = if own & 1 == 0 { GrantKind::Password } else { GrantKind::ClientCredentials };
    let basic = Grant::basic("name", SECRET);
    let scope = (own & 2 == 0).then(|| "SCOPE".to_owned());
    let grant = Grant { kind, basic, scope, token_url: url() };
    match Reply::decode(&grant, own & 4 == 0, status, None, body) {
        Reply::Token { access, .. } => {
            assert!((200..300).contains(&status));
            check_field(&format!("Bearer {access}"));
        }
        Reply::Refused(why) | Reply::Unreachable(why) | Reply::Later { why, .. } => {
            assert!(why.len() < WORDS_BYTES_MAX, "{}", why.len());
            assert!(!why.contains(SECRET) && !why.contains(&grant.basic), "{why}");
            assert!(!why.contains(char::is_control), "{why}");
        }
    }
}

fn url() -> Url {
    Url { tls: true, host: "a.example".to_owned(), port: 443, path: "/token".to_owned() }
}
