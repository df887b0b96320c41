//! An account that a client brings with its request, as GigaChat's proxies take it:
//! `Authorization: Bearer giga-cred-<key>[:SCOPE]`, `giga-user-<name>:<password>` or
//! `giga-auth-<access token>`.

use crate::config::{Callers, Grant, GrantKind};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::auth::bearer;
use crate::proxy::net::Token;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// What all of them begin with.
const PREFIX: &str = "giga-";
/// A longer secret is not kept: it bounds the memory that a table of callers takes.
const SECRET_BYTES_MAX: usize = 4 << 10;
/// How an account is shown.
pub(crate) const FORMS: &str = "\"Authorization: Bearer giga-cred-KEY\" (or giga-cred-KEY:SCOPE), \
                                giga-user-NAME:PASSWORD or giga-auth-ACCESS_TOKEN";

/// An account that a client brings. Two are equal when their secrets are; the comparison takes the
/// same time wherever they differ.
#[derive(Clone)]
pub struct Caller(Shown);

#[derive(Clone)]
enum Shown {
    /// The key of an application, and a scope if one is named.
    Key { basic: String, scope: Option<String> },
    /// A name and a password, as `Basic` has them.
    User { basic: String },
    /// An access token, used as it is.
    Token(Arc<Token>),
}

impl std::fmt::Debug for Caller {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Shown::Key { .. } => "Caller(key)",
            Shown::User { .. } => "Caller(user)",
            Shown::Token(_) => "Caller(token)",
        })
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &str, other: &str| bool::from(one.as_bytes().ct_eq(other.as_bytes()));
        match (&self.0, &other.0) {
            (Shown::Key { basic, scope }, Shown::Key { basic: other, scope: named }) => {
                same(basic, other) && scope == named
            }
            (Shown::User { basic }, Shown::User { basic: other }) => same(basic, other),
            (Shown::Token(token), Shown::Token(other)) => {
                same(&token.authorization, &other.authorization)
            }
            _ => false,
        }
    }
}

impl Eq for Caller {}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(&self.0).hash(state);
        match &self.0 {
            Shown::Key { basic, scope } => (basic, scope).hash(state),
            Shown::User { basic } => basic.hash(state),
            Shown::Token(token) => token.authorization.hash(state),
        }
    }
}

impl Caller {
    /// Reads the value of an `Authorization` field; `None` when it brings no account.
    ///
    /// # Errors
    /// 400: it begins like one, and is none.
    pub fn read(authorization: &str) -> Result<Option<Self>, Failure> {
        let Some(shown) = bearer(authorization).and_then(|it| it.strip_prefix(PREFIX)) else {
            return Ok(None);
        };
        let (kind, secret) = shown.split_once('-').unwrap_or((shown, ""));
        let shown = match kind {
            "cred" | "user" if secret.len() > SECRET_BYTES_MAX => {
                return Err(malformed("its secret is longer than 4096 bytes"));
            }
            "cred" => Self::key(secret)?,
            "user" => Self::user(secret)?,
            "auth" if !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic()) => {
                let authorization = format!("Bearer {secret}");
                Shown::Token(Arc::new(Token { authorization, account: None, url: None }))
            }
            "auth" => return Err(malformed("behind giga-auth- stands no access token")),
            _ => return Err(malformed("giga- begins it, and none of the known kinds follows")),
        };
        Ok(Some(Self(shown)))
    }

    fn key(secret: &str) -> Result<Shown, Failure> {
        let (basic, scope) = match secret.split_once(':') {
            Some((basic, scope)) => (basic, Some(scope)),
            None => (secret, None),
        };
        if !Grant::is_key(basic) {
            return Err(malformed("behind giga-cred- stands no key in base64"));
        }
        if scope.is_some_and(|scope| !Grant::is_scope(scope)) {
            return Err(malformed("behind the key's colon stands no scope"));
        }
        Ok(Shown::Key { basic: basic.to_owned(), scope: scope.map(str::to_owned) })
    }

    fn user(secret: &str) -> Result<Shown, Failure> {
        match secret.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Ok(Shown::User { basic: Grant::basic(name, password) })
            }
            _ => {
                Err(malformed("behind giga-user- stand no name and password with a colon between"))
            }
        }
    }

    /// The token, where the caller brings one that is ready.
    #[must_use]
    pub fn token(&self) -> Option<&Arc<Token>> {
        match &self.0 {
            Shown::Token(token) => Some(token),
            Shown::Key { .. } | Shown::User { .. } => None,
        }
    }

    /// What a token endpoint is asked with on the caller's behalf; `None` for a ready token, and for
    /// keys where no endpoint takes them.
    #[must_use]
    pub fn grant(&self, callers: &Callers) -> Option<Grant> {
        match &self.0 {
            Shown::Key { basic, scope } => Some(Grant {
                kind: GrantKind::ClientCredentials,
                basic: basic.clone(),
                scope: scope.clone().or_else(|| callers.scope.clone()),
                token_url: callers.token_url.clone()?,
            }),
            Shown::User { basic } => Some(Grant {
                kind: GrantKind::Password,
                basic: basic.clone(),
                scope: None,
                token_url: callers.password_url.clone(),
            }),
            Shown::Token(_) => None,
        }
    }

    /// What nobody else may see of it.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        match &self.0 {
            Shown::Key { basic, .. } | Shown::User { basic } => Grant::secrets_of(basic),
            Shown::Token(token) => {
                bearer(&token.authorization).map(str::to_owned).into_iter().collect()
            }
        }
    }
}

fn malformed(why: &str) -> Failure {
    let message = format!("the Authorization field brings no account: {why}; send {FORMS}");
    Failure::new(Fault::client(Kind::BadRequest), message).with_code("invalid_authorization")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Url;

    fn callers() -> Callers {
        Callers {
            scope: Some("PERS".to_owned()),
            token_url: Some(Url::parse("https://auth.example/o").unwrap()),
            password_url: Url::parse("https://api.example/token").unwrap(),
            max: 2,
        }
    }

    fn read(secret: &str) -> Caller {
        Caller::read(&format!("Bearer {secret}")).unwrap().unwrap()
    }

    #[test]
    fn each_form_is_read() {
        for (shown, kind, basic, scope) in [
            ("giga-cred-aWQ6c2Vj", GrantKind::ClientCredentials, "aWQ6c2Vj", Some("PERS")),
            ("giga-cred-aWQ6c2Vj:CORP", GrantKind::ClientCredentials, "aWQ6c2Vj", Some("CORP")),
            ("giga-user-b\u{f6}b:p:w", GrantKind::Password, "YsO2YjpwOnc=", None),
            ("giga-user-a-b:c-d", GrantKind::Password, "YS1iOmMtZA==", None),
        ] {
            let caller = read(shown);
            let grant = caller.grant(&callers()).unwrap();
            assert_eq!(
                (grant.kind, grant.basic.as_str(), grant.scope.as_deref()),
                (kind, basic, scope),
                "{shown}"
            );
            assert_eq!(caller.token(), None);
            assert!(!format!("{caller:?}").contains(basic));
        }
        let caller = read("giga-auth-a.b-c");
        assert_eq!(caller.token().unwrap().authorization, "Bearer a.b-c");
        assert_eq!(caller.grant(&callers()), None);
        assert_eq!(caller.secrets(), ["a.b-c"]);
        assert_eq!(read("giga-user-u:long-word").secrets(), ["dTpsb25nLXdvcmQ=", "long-word"]);
        let none = Callers { token_url: None, ..callers() };
        assert_eq!(read("giga-cred-aWQ6c2Vj").grant(&none), None);
        for other in ["Bearer sk-1", "Basic giga-cred-aWQ6c2Vj", "", "Bearer", "giga-cred-a"] {
            assert_eq!(Caller::read(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn what_is_malformed_is_told_without_it() {
        let long = format!("giga-user-hush:{}", "x".repeat(SECRET_BYTES_MAX));
        for (shown, words) in [
            ("giga-", "none of the known kinds"),
            ("giga-hush", "none of the known kinds"),
            ("giga-token-hush", "none of the known kinds"),
            ("giga-cred-", "no key in base64"),
            ("giga-cred-hush!", "no key in base64"),
            ("giga-cred-hush:", "no scope"),
            ("giga-cred-hush:\"", "no scope"),
            ("giga-user-hush", "no name and password"),
            ("giga-user-:hush", "no name and password"),
            ("giga-user-hush:", "no name and password"),
            ("giga-auth-", "no access token"),
            ("giga-auth-hush hush", "no access token"),
            (&long, "longer than 4096"),
        ] {
            let failure = Caller::read(&format!("Bearer {shown}")).unwrap_err();
            assert_eq!(failure.status(), 400);
            assert!(failure.message.contains(words), "{shown}: {failure}");
            assert!(!failure.message.contains("hush"), "{failure}");
        }
    }

    #[test]
    fn callers_are_equal_when_all_of_their_secret_is() {
        for (one, other, equal) in [
            ("giga-cred-aWQ6", "giga-cred-aWQ6", true),
            ("giga-cred-aWQ6", "giga-cred-aWQ7", false),
            ("giga-cred-aWQ6", "giga-cred-aWQ6:S", false),
            ("giga-user-a:b", "giga-user-a:b", true),
            ("giga-user-a:b", "giga-user-a:bc", false),
            ("giga-auth-a", "giga-auth-a", true),
            ("giga-auth-aWQ6", "giga-cred-aWQ6", false),
        ] {
            assert_eq!(read(one) == read(other), equal, "{one} {other}");
        }
    }
}
