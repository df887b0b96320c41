//! One request to one provider: what it asks for, how it proves who asks, and its bytes.

use crate::config::{Credential, Provider, Url};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::codex_fields;
use crate::proxy::net::Token;
use crate::proxy::order::Intake;
use crate::proxy::upstream::Outgoing;
use crate::wire::http1::{BodyLength, write_request_head};
use std::borrow::Cow;
use std::sync::Arc;

/// Bodies up to this size travel in one piece with their head: one write, one TLS record.
const SMALL_BODY_BYTES_MAX: usize = 16 << 10;
/// Most heads have no more, so that theirs is written without growing.
const HEAD_BYTES: usize = 512;

const AGENT: &str = concat!("patchbay/", env!("CARGO_PKG_VERSION"));
const JSON: &str = "application/json";

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the provider's URL: the operation of its dialect.
    Operation,
    /// To another path of the same API, below its base (`/files`).
    Beside(Cow<'static, str>),
    /// To a host that is not the provider's and gets nothing of it: no credential, no header field
    /// of the configuration or of the client, no client certificate, no roots but the built-in ones.
    /// Its addresses must be public ones, and its connection is used once.
    Stranger(Box<Url>),
}

/// One request to one provider. It writes its own head, and writes it anew for another token.
pub(crate) struct Call {
    /// Index of the provider.
    pub(crate) provider: usize,
    pub(crate) outgoing: Outgoing,
    /// A kept connection turned out to be dead: only a fresh one will do.
    pub(crate) retried: bool,
    /// The reply's head is awaited no longer than this, and than any other's.
    pub(crate) patience_s: Option<u16>,
    method: &'static str,
    place: Place,
    /// Of the body; not sent where there is none.
    content_type: Cow<'static, str>,
    accept: &'static str,
    /// Client and upstream speak the same dialect.
    same: bool,
    /// What the client calls its session.
    session: Option<String>,
    /// What the request shows, where that is fetched for each.
    token: Option<Arc<Token>>,
    /// The token that the upstream refused, and what it said.
    refused: Option<Box<(Arc<Token>, Failure)>>,
}

impl std::fmt::Debug for Call {
    /// Never shows the request, which holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("provider", &self.provider)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Call {
    fn new(provider: usize, method: &'static str, place: Place) -> Self {
        Self {
            provider,
            outgoing: Outgoing::default(),
            retried: false,
            patience_s: None,
            method,
            place,
            content_type: Cow::Borrowed(JSON),
            accept: JSON,
            same: false,
            session: None,
            token: None,
            refused: None,
        }
    }

    /// A POST of a JSON document that wants one back; see the setters for anything else. Nothing is
    /// written before [`Call::write`].
    pub(crate) fn post(provider: usize, place: Place) -> Self {
        Self::new(provider, "POST", place)
    }

    /// A GET that wants a JSON document.
    pub(crate) fn get(provider: usize, place: Place) -> Self {
        Self::new(provider, "GET", place)
    }

    /// Its reply's head has to come within so many seconds.
    pub(crate) const fn within(mut self, patience_s: u16) -> Self {
        self.patience_s = Some(patience_s);
        self
    }

    /// Its body is of this media type.
    pub(crate) fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// It wants a reply of this media type.
    pub(crate) fn accepting(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    /// It is a client's request, which goes on to an upstream that speaks the `same` dialect or
    /// another, in what the client calls its session.
    pub(crate) fn of_client(mut self, same: bool, session: Option<String>) -> Self {
        self.same = same;
        self.session = session;
        self
    }

    /// Client and upstream speak the same dialect.
    pub(crate) const fn same(&self) -> bool {
        self.same
    }

    /// Writes the head in front of its body; an empty one for a call that has none.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(
        &mut self,
        provider: &Provider,
        intake: &Intake,
        body: Vec<u8>,
    ) -> Result<(), Failure> {
        if provider.exec.is_some() {
            // To a command the body is all.
            self.outgoing = Outgoing { body, ..Outgoing::default() };
            return Ok(());
        }
        let url = self.detour().unwrap_or(&provider.url);
        let path = match &self.place {
            Place::Beside(path) => Cow::Owned(url.beside(provider.dialect.path(), path).path),
            Place::Operation | Place::Stranger(_) => Cow::Borrowed(url.path.as_str()),
        };
        let host = host(url);
        let length = match (self.method, body.is_empty()) {
            ("GET", true) => BodyLength::None,
            _ => BodyLength::Known(body.len() as u64),
        };
        let mut outgoing = Outgoing::default();
        let head = &mut outgoing.head;
        let small = body.len() <= SMALL_BODY_BYTES_MAX;
        head.reserve(HEAD_BYTES + if small { body.len() } else { 0 });
        let bearer = match &provider.credential {
            Credential::Key(key) => format!("Bearer {key}"),
            _ => String::new(),
        };
        let own: Vec<(String, &str)> = provider
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        let session = intake.forwarded.session(provider.dialect, self.session.as_deref());
        let session = session.as_ref().map(|(name, value)| (*name, &**value));
        let fields = self.fields(provider, intake, &own, &bearer, session, !body.is_empty());
        write_request_head(self.method, &path, &host, fields, length, head).map_err(|why| {
            Failure::new(
                Fault::proxy(Kind::Server),
                format!(
                    "the request to the provider \"{}\" cannot be written: {why}",
                    provider.name
                ),
            )
        })?;
        outgoing.head_bytes = outgoing.head.len();
        if small {
            outgoing.head.extend_from_slice(&body);
        } else {
            outgoing.body = body;
        }
        self.outgoing = outgoing;
        Ok(())
    }

    /// The header fields; the configuration's `own` come first, so that they win. `session` = the
    /// field that tells it, unless the client sent that itself.
    fn fields<'h>(
        &'h self,
        provider: &'h Provider,
        intake: &'h Intake,
        own: &'h [(String, &'h str)],
        bearer: &'h str,
        session: Option<(&'h str, &'h str)>,
        has_body: bool,
    ) -> Vec<(&'h str, &'h str)> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        let stranger = self.is_to_stranger();
        if !stranger {
            fields.extend(own.iter().map(|(name, value)| (name.as_str(), *value)));
            let token = self.token.as_deref();
            let shown = token.map(|token| token.authorization.as_str());
            let authorization = match &provider.credential {
                // Who brings an account is never served with another.
                _ if intake.caller(provider).is_some() => shown,
                Credential::None => None,
                Credential::CodexAuth(_) | Credential::Grant(_) => shown,
                Credential::Key(_) => Some(bearer),
                Credential::Client => intake.authorization.as_deref(),
            };
            if let Some(authorization) = authorization {
                add_field(&mut fields, "authorization", authorization);
            }
            if let Some(account) = token.and_then(|token| token.account.as_deref()) {
                add_field(&mut fields, "chatgpt-account-id", account);
            }
        }
        if has_body {
            add_field(&mut fields, "content-type", &self.content_type);
        }
        add_field(&mut fields, "accept", self.accept);
        let codex = provider.quirks.codex_headers && !stranger;
        add_field(&mut fields, "user-agent", if codex { codex_fields::USER_AGENT } else { AGENT });
        if stranger {
            return fields;
        }
        for (name, value) in intake.forwarded.fields(provider.dialect, self.same).chain(session) {
            add_field(&mut fields, name, value);
        }
        for (name, value) in codex_fields::fields(self.session.as_deref()).filter(|_| codex) {
            add_field(&mut fields, name, value);
        }
        fields
    }

    /// Writes the request anew so that it shows this token.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn show(
        &mut self,
        provider: &Provider,
        intake: &Intake,
        token: Arc<Token>,
    ) -> Result<(), Failure> {
        let body = std::mem::take(&mut self.outgoing).into_content();
        self.token = Some(token);
        self.write(provider, intake, body)
    }

    /// Takes the token back that the upstream refused in these words, so that another can be shown;
    /// once.
    pub(crate) fn take_back(&mut self, failure: &Failure) -> Option<Arc<Token>> {
        if self.refused.is_some() {
            return None;
        }
        let token = self.token.take()?;
        self.refused = Some(Box::new((Arc::clone(&token), failure.clone())));
        Some(token)
    }

    /// What the upstream said of this token, if it is the one that it refused.
    pub(crate) fn refusal_of(&self, token: &Token) -> Option<&Failure> {
        let (refused, failure) = self.refused.as_deref()?;
        (**refused == *token).then_some(failure)
    }

    /// What the request shows, or showed last.
    pub(crate) fn token(&self) -> Option<&Token> {
        let refused = || self.refused.as_deref().map(|(token, _)| token);
        self.token.as_ref().or_else(refused).map(AsRef::as_ref)
    }

    /// Whether it goes to a host that is not the provider's ([`Place::Stranger`]).
    pub(crate) const fn is_to_stranger(&self) -> bool {
        matches!(self.place, Place::Stranger(_))
    }

    /// Where its connection leads instead of to the provider's own URL.
    pub(crate) fn detour(&self) -> Option<&Url> {
        match &self.place {
            Place::Stranger(url) => Some(url),
            Place::Operation | Place::Beside(_) => self.token.as_ref()?.url.as_ref(),
        }
    }
}

/// Adds a field unless there is one of its name.
fn add_field<'h>(headers: &mut Vec<(&'h str, &'h str)>, name: &'h str, value: &'h str) {
    if !headers.iter().any(|(other, _)| name == *other) {
        headers.push((name, value));
    }
}

/// The `Host` field: the port only where it is not the scheme's own (RFC 9110 section 7.2).
fn host(url: &Url) -> Cow<'_, str> {
    let usual = if url.tls { 443 } else { 80 };
    match (url.host.contains(':'), url.port == usual) {
        (false, true) => Cow::Borrowed(&url.host),
        (false, false) => Cow::Owned(format!("{}:{}", url.host, url.port)),
        (true, true) => Cow::Owned(format!("[{}]", url.host)),
        (true, false) => Cow::Owned(format!("[{}]:{}", url.host, url.port)),
    }
}
