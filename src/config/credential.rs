//! What proves to an upstream who asks, as it is written and as it is meant.

use super::build::{World, path_of};
use super::expand::is_name;
use super::file;
use super::value::{Number, Switch};
use super::{Provider, Url};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the tokens of `codex login` are refreshed.
const TOKEN_URL: &str = "https://auth.openai.com/oauth/token";
/// Where the API key of `auth.json` is good for.
const KEY_URL: &str = "https://api.openai.com";
/// Where a name and a password get a token, behind the provider's base URL.
const PASSWORD_OPERATION: &str = "/token";
/// A shorter piece of a secret cannot be told from ordinary text.
const SECRET_BYTES_MIN: usize = 4;
/// Callers whose tokens are kept, unless the file says otherwise.
const CALLERS_MAX: u32 = 32;

/// How requests to a provider are authorised.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Not at all.
    None,
    /// `Authorization: Bearer` with this secret.
    Key(String),
    /// The caller's own `Authorization` passes through.
    Client,
    /// The tokens of `codex login`, refreshed; else the API key of the same file.
    CodexAuth(CodexAuth),
    /// Access tokens that a token endpoint gives for a secret.
    Grant(Arc<Grant>),
}

/// Where the tokens of `codex login` are, and where they are refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodexAuth {
    /// `auth.json`.
    pub path: PathBuf,
    /// The token endpoint.
    pub token_url: Url,
    /// Where requests go when the file holds only an API key.
    pub key_url: Url,
}

/// How a token endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// With the key of an application and a scope (after RFC 6749, section 4.4).
    ClientCredentials,
    /// With a user's name and password.
    Password,
}

/// A secret that an endpoint gives access tokens for.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// How.
    pub kind: GrantKind,
    /// What stands behind `Authorization: Basic `: base64 of `id:secret` or of `name:password`.
    pub basic: String,
    /// What the tokens are to be good for (RFC 6749, section 3.3).
    pub scope: Option<String>,
    /// The token endpoint.
    pub token_url: Url,
}

/// How clients bring an account of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// The scope of keys that name none.
    pub scope: Option<String>,
    /// The token endpoint for keys; `None` = keys are not taken.
    pub token_url: Option<Url>,
    /// The token endpoint for names with passwords.
    pub password_url: Url,
    /// So many callers' tokens are kept at once.
    pub max: usize,
}

impl std::fmt::Debug for Credential {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Key(_) => "Key(..)",
            Self::Client => "Client",
            Self::CodexAuth(_) => "CodexAuth(..)",
            Self::Grant(_) => "Grant(..)",
        })
    }
}

impl std::fmt::Debug for Grant {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("kind", &self.kind)
            .field("scope", &self.scope)
            .field("token_url", &self.token_url)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// The value for `Authorization: Basic` of a name and a password (RFC 7617, in UTF-8).
    #[must_use]
    pub fn basic(name: &str, password: &str) -> String {
        STANDARD.encode(format!("{name}:{password}"))
    }

    /// What nobody may see of a value for `Authorization: Basic`: itself, and the secret in it.
    #[must_use]
    pub fn secrets_of(basic: &str) -> Vec<String> {
        let mut secrets = vec![basic.to_owned()];
        let decoded = STANDARD.decode(basic).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            secrets.push(secret.to_owned());
        }
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        secrets
    }

    /// What nobody may see of it.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        Self::secrets_of(&self.basic)
    }

    /// Whether a text can be a key as vendors hand it out: base64, of either alphabet.
    #[must_use]
    pub fn is_key(text: &str) -> bool {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"+/-_".contains(&b);
        let digits = text.trim_end_matches('=');
        !digits.is_empty() && text.len() - digits.len() <= 2 && digits.bytes().all(legal)
    }

    /// Whether a text can be a scope: words of visible ASCII without `"` and `\`, a space between
    /// (RFC 6749, section 3.3).
    #[must_use]
    pub fn is_scope(text: &str) -> bool {
        let legal = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        text.split(' ').all(|word| !word.is_empty() && word.bytes().all(legal))
    }
}

impl Provider {
    /// Whether anything that is asked on its behalf is asked in TLS.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        let credential = match &self.credential {
            Credential::CodexAuth(auth) => auth.token_url.tls || auth.key_url.tls,
            Credential::Grant(grant) => grant.token_url.tls,
            Credential::None | Credential::Key(_) | Credential::Client => false,
        };
        let callers = self.callers.as_ref().is_some_and(|callers| {
            callers.password_url.tls || callers.token_url.as_ref().is_some_and(|url| url.tls)
        });
        self.url.tls || credential || callers
    }
}

/// Where a provider's credential is written, and what its defaults follow from.
pub(super) struct Place<'p> {
    /// The provider's URL, complete.
    pub(super) url: &'p Url,
    /// The path of the dialect's operation, with which the URL ends.
    pub(super) operation: &'p str,
    pub(super) folder: &'p Path,
    pub(super) world: World<'p>,
}

impl Place<'_> {
    /// The credential that counts. `callers`: clients may bring their own, so that there need not
    /// be one.
    ///
    /// # Errors
    /// Which secret is missing or cannot be one.
    pub(super) fn credential(
        &self,
        written: Option<file::Credentials>,
        callers: bool,
    ) -> Result<Credential, String> {
        let all = match written {
            None => return Ok(Credential::None),
            Some(file::Credentials::One(one)) => return self.one(one),
            Some(file::Credentials::First(all)) => all,
        };
        let mut missing = Vec::new();
        for it in all {
            match self.missing(&it)? {
                None => return self.one(it),
                Some(variables) => missing.push(variables),
            }
        }
        if callers {
            return Ok(Credential::None);
        }
        Err(format!("missing or empty env vars: set {}", missing.join(", or ")))
    }

    /// The variables that an alternative lacks, in words; `None` = it can be used, or is to be
    /// complained of.
    ///
    /// # Errors
    /// Half of it is there.
    fn missing(&self, written: &file::Credential) -> Result<Option<String>, String> {
        let lacks = |name: &str| is_name(name) && !self.is_set(name);
        match written {
            file::Credential::None { env: Some(env) } if lacks(env) => Ok(Some(env.clone())),
            file::Credential::Key { env: Some(env), file }
            | file::Credential::ClientCredentials { env: Some(env), file, .. }
                if given(file.as_deref()).is_none() && lacks(env) =>
            {
                Ok(Some(env.clone()))
            }
            file::Credential::Password {
                user_env: Some(user), password_env: Some(word), ..
            } => match (lacks(user), lacks(word)) {
                (true, true) => Ok(Some(format!("{user} and {word}"))),
                (false, false) => Ok(None),
                (gone, _) => {
                    let (set, gone) = if gone { (word, user) } else { (user, word) };
                    Err(format!("missing or empty env var: {gone} ({set} is set)"))
                }
            },
            _ => Ok(None),
        }
    }

    fn one(&self, written: file::Credential) -> Result<Credential, String> {
        Ok(match written {
            file::Credential::None { .. } => Credential::None,
            file::Credential::Client {} => Credential::Client,
            file::Credential::Key { env, file } => {
                Credential::Key(self.key(env.as_deref(), file.as_deref())?)
            }
            file::Credential::CodexAuth { path, token_url, key_url } => {
                self.codex_auth(path.as_deref(), token_url, key_url.as_deref())?
            }
            file::Credential::ClientCredentials { env, file, scope, token_url } => {
                let basic = self.key(env.as_deref(), file.as_deref())?;
                let token_url = token_url.filter(|url| !url.is_empty()).ok_or_else(|| {
                    "credential: client-credentials need a `token_url`".to_owned()
                })?;
                if !Grant::is_key(&basic) {
                    let place = env.or_else(|| Some(file?.display().to_string()));
                    return Err(not_a_key(&place.unwrap_or_default()));
                }
                Credential::Grant(Arc::new(Grant {
                    kind: GrantKind::ClientCredentials,
                    basic,
                    scope: scope_of(scope, "credential: scope")?,
                    token_url: Url::parse(&token_url)?,
                }))
            }
            file::Credential::Password { user_env, password_env, token_url } => {
                let (Some(user_env), Some(password_env)) = (user_env, password_env) else {
                    let why = "credential: a password needs `user_env` and `password_env`";
                    return Err(why.to_owned());
                };
                let user = self.words(&user_env)?;
                if user.contains(':') {
                    return Err(format!("the env var {user_env} holds a colon, and no name has"));
                }
                Credential::Grant(Arc::new(Grant {
                    kind: GrantKind::Password,
                    basic: Grant::basic(&user, &self.words(&password_env)?),
                    scope: None,
                    token_url: self.password_url(token_url)?,
                }))
            }
        })
    }

    /// How clients bring their own, if they may.
    ///
    /// # Errors
    /// Which value is wrong.
    pub(super) fn callers(
        &self,
        written: Option<file::Callers>,
        credential: Option<&file::Credentials>,
    ) -> Result<Option<Callers>, String> {
        let Some(written) = written.filter(|it| it.enabled != Some(Switch(false))) else {
            return Ok(None);
        };
        let all = match credential {
            None => &[][..],
            Some(file::Credentials::One(one)) => std::slice::from_ref(one),
            Some(file::Credentials::First(all)) => all,
        };
        // What the server's own key is shown with is meant for the callers' too.
        let own = all.iter().find_map(|it| match it {
            file::Credential::ClientCredentials { scope, token_url, .. } => {
                Some((scope.clone(), token_url.clone()))
            }
            _ => None,
        });
        let (scope, token_url) = own.unwrap_or_default();
        let token_url = written.token_url.or(token_url).filter(|url| !url.is_empty());
        let max = written.max.and_then(|Number(max)| max).unwrap_or(CALLERS_MAX);
        if !(1..=10_000).contains(&max) {
            return Err(format!("callers: max is {max}: it must be from 1 to 10000"));
        }
        let wrong = |why| format!("callers: {why}");
        Ok(Some(Callers {
            scope: scope_of(written.scope.or(scope), "callers: scope")?,
            token_url: token_url.map(|url| Url::parse(&url)).transpose().map_err(wrong)?,
            password_url: self.password_url(written.password_url).map_err(wrong)?,
            max: max as usize,
        }))
    }

    fn codex_auth(
        &self,
        path: Option<&Path>,
        token_url: Option<String>,
        key_url: Option<&str>,
    ) -> Result<Credential, String> {
        let path = match path {
            Some(path) => path_of(path, self.folder, self.world)?,
            None => {
                codex_auth_path(self.world).ok_or("credential: name the `path` of auth.json")?
            }
        };
        // The same variable as for the Codex CLI itself.
        let token_url = (self.world.var)("CODEX_REFRESH_TOKEN_URL_OVERRIDE")
            .filter(|url| !url.is_empty())
            .or(token_url);
        let token_url = Url::parse(token_url.as_deref().unwrap_or(TOKEN_URL))?;
        let key_url = Url::parse(key_url.unwrap_or(KEY_URL))?;
        let key_url = key_url.with_operation(self.operation);
        Ok(Credential::CodexAuth(CodexAuth { path, token_url, key_url }))
    }

    fn key(&self, env: Option<&str>, file: Option<&Path>) -> Result<String, String> {
        match (env.filter(|env| !env.is_empty()), given(file)) {
            (Some(env), None) => secret(env, self.world),
            (None, Some(path)) => secret_file(&path_of(path, self.folder, self.world)?),
            _ => Err("a key comes from `env` or from `file`: write one of them".to_owned()),
        }
    }

    /// A name or a password from the environment: any text on one line.
    fn words(&self, name: &str) -> Result<String, String> {
        if !is_name(name) {
            return Err(no_name(name));
        }
        let value = (self.world.var)(name).unwrap_or_default();
        let value = value.trim_end_matches(['\r', '\n']);
        match value {
            "" => Err(format!("missing or empty env var: {name}")),
            _ if value.contains(char::is_control) => {
                Err(format!("the env var {name} holds control characters"))
            }
            _ => Ok(value.to_owned()),
        }
    }

    fn is_set(&self, name: &str) -> bool {
        (self.world.var)(name).is_some_and(|value| !value.trim().is_empty())
    }

    /// The written token endpoint, or the provider's own.
    fn password_url(&self, written: Option<String>) -> Result<Url, String> {
        if let Some(url) = written.filter(|url| !url.is_empty()) {
            return Url::parse(&url);
        }
        Ok(self.url.beside(self.operation, PASSWORD_OPERATION))
    }
}

/// A path that is not empty.
fn given(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// A scope, if one is written; an empty text is none.
fn scope_of(written: Option<String>, what: &str) -> Result<Option<String>, String> {
    match written.filter(|scope| !scope.is_empty()) {
        Some(scope) if !Grant::is_scope(&scope) => {
            Err(format!("{what}: `{scope}` is no scope: words of ASCII with a space between"))
        }
        scope => Ok(scope),
    }
}

fn not_a_key(place: &str) -> String {
    format!(
        "what {place} holds is no authorization key: that is one word of base64, as the vendor \
         shows it (of `id:secret`, without `Basic`)"
    )
}

/// Where `codex login` leaves its tokens: `$CODEX_HOME/auth.json`, else `~/.codex/auth.json`.
/// `None` when neither variable is set.
#[must_use]
pub fn codex_auth_path(world: World<'_>) -> Option<PathBuf> {
    let var = |name| (world.var)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = var("CODEX_HOME").or_else(|| var("HOME").map(|home| home.join(".codex")));
    home.map(|home| home.join("auth.json"))
}

/// A secret from the environment.
///
/// # Errors
/// Which variable is missing, empty, or holds no key.
pub(super) fn secret(name: &str, world: World<'_>) -> Result<String, String> {
    if !is_name(name) {
        return Err(no_name(name));
    }
    let value = (world.var)(name).map(|value| value.trim().to_owned()).unwrap_or_default();
    if value.is_empty() {
        return Err(format!("missing or empty env var: {name}"));
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("the env var {name} holds characters that no key has"));
    }
    Ok(value)
}

fn no_name(name: &str) -> String {
    format!("`{name}` is no name of an environment variable: give the name, not the key itself")
}

/// A secret that is all of a file.
///
/// # Errors
/// Why the file cannot be read, or that it holds no key.
pub(super) fn secret_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|why| format!("cannot read the key in {shown}: {why}"))?;
    let value = text.trim();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("the file {shown} does not hold just one key"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, load};

    const SET: &[(&str, &str)] = &[
        ("TOKEN", "ready-token"),
        ("KEY", "aWQ6c2VjcmV0"),
        ("USER", "b\u{f6}b"),
        ("PASSWORD", "p:w d"),
        ("COLON", "a:b"),
        ("SECRET", "id:hush"),
        ("PREFIXED", "Basic"),
        ("LINES", "a\nb"),
    ];

    fn read(lines: &str) -> Result<Config, String> {
        let text = format!(
            "[providers.giga]\ndialect = 'gigachat'\nurl = 'https://giga.example/api/v1'\n{lines}"
        );
        let var = |name: &str| {
            let found = SET.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let file = Some((Path::new("/etc/patchbay.toml"), text.as_str()));
        load(file, &Overrides::default(), World { var: &var, cores: 1 })
    }

    fn credential(written: &str) -> Result<Credential, String> {
        read(&format!("credential = {written}"))
            .map(|config| config.providers[0].credential.clone())
    }

    fn grant(kind: GrantKind, basic: &str, scope: Option<&str>, token_url: &str) -> Credential {
        Credential::Grant(Arc::new(Grant {
            kind,
            basic: basic.to_owned(),
            scope: scope.map(str::to_owned),
            token_url: Url::parse(token_url).unwrap(),
        }))
    }

    #[test]
    fn tokens_are_asked_for_with_a_key_or_a_password() {
        let key = |scope| {
            grant(GrantKind::ClientCredentials, "aWQ6c2VjcmV0", scope, "https://auth.example:9/o")
        };
        let url = "token_url = 'https://auth.example:9/o'";
        for (written, expected) in [
            (format!("env = 'KEY', {url}"), key(None)),
            (format!("env = 'KEY', scope = '', {url}"), key(None)),
            (format!("env = 'KEY', file = '', scope = 'A B', {url}"), key(Some("A B"))),
        ] {
            let written = format!("{{ kind = 'client-credentials', {written} }}");
            assert_eq!(credential(&written), Ok(expected), "{written}");
        }
        let password = |url| grant(GrantKind::Password, "YsO2YjpwOncgZA==", None, url);
        for (more, url) in [
            ("", "https://giga.example/api/v1/token"),
            (", token_url = ''", "https://giga.example/api/v1/token"),
            (", token_url = 'http://other.example/t'", "http://other.example/t"),
        ] {
            let written = format!(
                "{{ kind = 'password', user_env = 'USER', password_env = 'PASSWORD'{more} }}"
            );
            assert_eq!(credential(&written), Ok(password(url)), "{written}");
        }
        let shown = format!(
            "{:?}",
            read(
                "credential = { kind = 'password', user_env = 'USER', \
                                          password_env = 'PASSWORD' }"
            )
        );
        assert!(shown.contains("Grant(..)") && !shown.contains("YsO2"), "{shown}");
        let Ok(Credential::Grant(it)) = credential(
            "{ kind = 'client-credentials', env = 'KEY', token_url = 'https://a.example' }",
        ) else {
            panic!()
        };
        assert!(!format!("{it:?}").contains("aWQ6"), "{it:?}");
    }

    #[test]
    fn of_a_list_the_first_whose_secrets_are_there_counts() {
        let list = |token: &str, key: &str, user: &str| {
            format!(
                "[{{ kind = 'key', env = '{token}' }},
                  {{ kind = 'client-credentials', env = '{key}', token_url = 'https://a.example' }},
                  {{ kind = 'password', user_env = '{user}', password_env = 'PASSWORD' }}"
            )
        };
        let key = grant(GrantKind::ClientCredentials, "aWQ6c2VjcmV0", None, "https://a.example");
        let token = Credential::Key("ready-token".to_owned());
        assert_eq!(credential(&(list("TOKEN", "KEY", "USER") + "]")), Ok(token));
        assert_eq!(credential(&(list("GONE", "KEY", "USER") + "]")), Ok(key));
        let password = credential(&(list("GONE", "GONE", "USER") + "]"));
        assert!(matches!(password, Ok(Credential::Grant(it)) if it.kind == GrantKind::Password));

        let why = credential(&(list("GONE", "GONE", "AWAY") + "]")).unwrap_err();
        assert!(why.contains("missing or empty env var: AWAY (PASSWORD is set)"), "{why}");
        let none = "[{ kind = 'key', env = 'A' }, { kind = 'client-credentials', env = 'B', \
                     token_url = 'https://a.example' }, \
                     { kind = 'password', user_env = 'C', password_env = 'D' }";
        let why = credential(&format!("{none}]")).unwrap_err();
        assert_eq!(why, "/etc/patchbay.toml: missing or empty env vars: set A, or B, or C and D");
        let open = credential(&format!("{none}, {{ kind = 'none' }}]"));
        assert_eq!(open, Ok(Credential::None));
        let callers = format!("credential = {none}]\ncallers = {{ enabled = 'True' }}");
        assert_eq!(read(&callers).unwrap().providers[0].credential, Credential::None);
        let off = format!("credential = {none}]\ncallers = {{ enabled = 'False' }}");
        assert!(read(&off).unwrap_err().contains("set A, or B"));
    }

    #[test]
    fn callers_are_told_of_where_the_server_asks() {
        let config = read(
            "credential = { kind = 'client-credentials', env = 'KEY', scope = 'S', \
             token_url = 'https://a.example/o' }\ncallers = { enabled = '1' }",
        );
        let callers = config.unwrap().providers[0].callers.clone().unwrap();
        let expected = Callers {
            scope: Some("S".to_owned()),
            token_url: Some(Url::parse("https://a.example/o").unwrap()),
            password_url: Url::parse("https://giga.example/api/v1/token").unwrap(),
            max: 32,
        };
        assert_eq!(callers, expected);
        let config = read(
            "callers = { scope = 'T', token_url = 'http://b.example', max = '7', \
             password_url = 'http://c.example' }",
        );
        let provider = &config.unwrap().providers[0];
        let expected = Callers {
            scope: Some("T".to_owned()),
            token_url: Some(Url::parse("http://b.example").unwrap()),
            password_url: Url::parse("http://c.example").unwrap(),
            max: 7,
        };
        assert_eq!(provider.callers.as_ref(), Some(&expected));
        let config = read("callers = {}").unwrap();
        assert_eq!(config.providers[0].callers.as_ref().unwrap().token_url, None);
        assert_eq!(read("callers = { enabled = '' }").unwrap().providers[0].callers, None);
    }

    #[test]
    fn mistakes_are_explained_without_the_secret() {
        for (written, words) in [
            ("credential = []", "an empty list: write { kind = \"none\" }"),
            ("credential = 'KEY'", "a credential's table with its `kind`, or a list"),
            ("credential = [{ kind = 'token' }]", "unknown variant `token`"),
            ("credential = [{ kind = 'key', en = 'X' }]", "did you mean `env`?"),
            ("credential = { kind = 'client-credentials', env = 'KEY' }", "need a `token_url`"),
            (
                "credential = { kind = 'client-credentials', token_url = 'https://a.example' }",
                "comes from `env` or from `file`",
            ),
            (
                "credential = { kind = 'client-credentials', env = 'KEY', token_url = 'nowhere' }",
                "must start with https://",
            ),
            (
                "credential = { kind = 'client-credentials', env = 'GONE', token_url = 'https://a' }",
                "missing or empty env var: GONE",
            ),
            (
                "credential = { kind = 'client-credentials', env = 'SECRET', token_url = 'https://a' }",
                "what SECRET holds is no authorization key",
            ),
            (
                "credential = { kind = 'client-credentials', env = 'KEY', scope = 'a  b', \
                 token_url = 'https://a' }",
                "credential: scope: `a  b` is no scope",
            ),
            ("credential = { kind = 'password', user_env = 'USER' }", "needs `user_env` and"),
            (
                "credential = { kind = 'password', user_env = 'COLON', password_env = 'USER' }",
                "the env var COLON holds a colon",
            ),
            (
                "credential = { kind = 'password', user_env = 'USER', password_env = 'LINES' }",
                "the env var LINES holds control characters",
            ),
            (
                "credential = { kind = 'password', user_env = 'USER', password_env = 'p-w' }",
                "`p-w` is no name of an environment variable",
            ),
            ("callers = { max = 0 }", "callers: max is 0"),
            ("callers = { scope = '\"' }", "callers: scope: `\"` is no scope"),
            ("callers = { token_url = 'x' }", "callers: the URL `x` must start with"),
            ("callers = { enabled = 'perhaps' }", "neither true nor false"),
            ("callers = { maxx = 1 }", "did you mean `max`?"),
        ] {
            let why = read(written).unwrap_err();
            assert!(why.contains(words) && !why.contains("hush"), "{written}: {why}");
        }
    }
}
