//! A client's request made into an upstream's: decode, route, encode, and a head from parsed parts.

use crate::config::{Config, Credential, Defaults, Provider, Url};
use crate::dialect::ids::Ids;
use crate::dialect::peek::{self, Peek};
use crate::dialect::request::Request;
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target, codex, soften, stops};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::adapt::Adapted;
use crate::proxy::auth::{self, Passed};
use crate::proxy::codex_fields;
use crate::proxy::content::Content;
use crate::proxy::net::Token;
use crate::proxy::route;
use crate::proxy::upstream::Outgoing;
use crate::transcode::{Form, Transcoder};
use crate::wire::coding;
use crate::wire::http1::{BodyLength, RequestHead, Version, write_request_head};
use std::borrow::Cow;
use std::sync::Arc;

/// Bodies up to this size travel in one piece with their head: one write, one TLS record.
const SMALL_BODY_BYTES_MAX: usize = 16 << 10;
/// Most heads have no more, so that theirs is written without growing.
const HEAD_BYTES: usize = 512;
/// How often a request is made anew for an upstream that refuses its parameters.
const SOFTENED_MAX: u32 = 3;
/// A forwarded field's value, at most.
const FORWARDED_BYTES_MAX: usize = 8 << 10;

/// Fields of a client that go to any upstream: they choose who pays.
const FORWARDED: [&str; 2] = ["openai-organization", "openai-project"];
/// Fields that go to an upstream of the client's own dialect: they tie the requests of a session
/// together (caches, sticky routing). Everything that is not named stays here.
const FORWARDED_SAME: [&str; 14] = [
    "openai-beta",
    "session-id",
    "session_id",
    "conversation_id",
    "thread-id",
    "x-client-request-id",
    "originator",
    "x-codex-beta-features",
    "x-codex-window-id",
    "x-codex-turn-metadata",
    "x-codex-turn-state",
    "x-codex-parent-thread-id",
    "x-openai-subagent",
    "x-openai-memgen-request",
];

/// What has to be remembered of a request's head.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) dialect: &'static dyn Dialect,
    /// The client takes chunks.
    pub(crate) chunks: bool,
    /// The client is the Codex CLI.
    pub(crate) codex: bool,
    /// Index of the client key that it came with.
    pub(crate) key: Option<usize>,
    /// `Content-Encoding`, if it is not identity.
    pub(crate) coding: Option<String>,
    /// The client's own credential, unless it is one of ours.
    authorization: Option<String>,
    forwarded: Vec<(String, String)>,
}

impl Intake {
    pub(crate) fn new(
        dialect: &'static dyn Dialect,
        head: &RequestHead<'_>,
        passed: Passed,
    ) -> Result<Self, Failure> {
        let coding = head.content_encoding.filter(|coding| !coding::is_identity(coding));
        if let Some(coding) = coding
            && !coding.trim().eq_ignore_ascii_case("zstd")
        {
            return Err(refused(coding::Refused::Unsupported));
        }
        let named = |name: &[u8]| {
            let same = |known: &&str| known.as_bytes().eq_ignore_ascii_case(name);
            FORWARDED.iter().any(same) || FORWARDED_SAME.iter().any(same)
        };
        let forwarded = head
            .fields()
            .wanted(named)
            .filter(|field| field.value.len() <= FORWARDED_BYTES_MAX)
            .filter_map(|field| Some((field.name.to_ascii_lowercase(), field.text()?.to_owned())))
            .collect();
        Ok(Self {
            dialect,
            chunks: head.version == Version::Http11,
            codex: Self::is_codex(head),
            key: passed.key,
            coding: coding.map(str::to_owned),
            authorization: head
                .authorization
                .filter(|_| !passed.by_authorization)
                .map(str::to_owned),
            forwarded,
        })
    }

    /// Takes the secrets that the upstream was shown out of its words.
    pub(crate) fn redact(
        &self,
        credential: &Credential,
        token: Option<&Token>,
        failure: &mut Failure,
    ) {
        let own = match credential {
            Credential::Key(key) => Some(key.as_str()),
            Credential::Client => self.authorization.as_deref(),
            Credential::CodexAuth(_) => token.map(|token| token.authorization.as_str()),
            Credential::None => None,
        };
        let own = own.map(|own| own.rsplit(' ').next().unwrap_or(own));
        if let Some(secret) = own.filter(|secret| !secret.is_empty())
            && failure.message.contains(secret)
        {
            failure.message = failure.message.replace(secret, "[redacted]");
        }
    }

    /// The body as text, without its content coding.
    fn open(&self, content: Content, bytes_max: usize) -> Result<String, Failure> {
        let text = content.into_text().or_else(|bytes| match &self.coding {
            None => Err(None),
            Some(coding) => {
                let decoded = coding::decode(coding, &bytes, bytes_max);
                String::from_utf8(decoded.map_err(Some)?).map_err(|_| None)
            }
        });
        text.map_err(|why| match why {
            Some(why) => refused(why),
            None => Failure::bad_request("the request body is not UTF-8"),
        })
    }

    /// Whether the client says that it is the Codex CLI.
    pub(crate) fn is_codex(head: &RequestHead<'_>) -> bool {
        let (agent, originator) = (head.user_agent, head.originator);
        codex::is_client(agent.unwrap_or_default(), originator.unwrap_or_default())
    }
}

/// A request that is ready to be sent, and what its reply will need.
pub(crate) struct Order {
    pub(crate) provider: usize,
    /// The model as the client names it, for logs.
    pub(crate) model: String,
    /// The client wants a stream.
    pub(crate) stream: bool,
    pub(crate) outgoing: Outgoing,
    /// Memory that is needed no more.
    pub(crate) spent: Vec<u8>,
    /// What was dropped on the way.
    pub(crate) dropped: String,
    /// Client and upstream speak the same dialect.
    pub(crate) same: bool,
    /// Request and reply pass as they are.
    relayed: bool,
    /// What the client calls its session.
    session: Option<String>,
    /// The client's name of the model, when the upstream has another.
    model_back: Option<String>,
    decoder: Option<Box<dyn Decode>>,
    encoder: Option<Box<dyn Encode>>,
    /// What the request shows, where that is fetched for each.
    token: Option<Arc<Token>>,
    /// A token was refused once already.
    refused: bool,
    /// Parameters that were left out because the upstream refused them.
    softened: u32,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Order {
    /// Makes the upstream's request of a whole body, in `memory` if it is large enough.
    ///
    /// # Errors
    /// The body is not a request, or cannot be served.
    pub(crate) fn new(
        config: &Config,
        intake: &Intake,
        content: Content,
        memory: Vec<u8>,
        ids: Ids,
        unix_s: u64,
    ) -> Result<Self, Failure> {
        let text = intake.open(content, config.limits.body_bytes_max)?;
        let mut decoded = intake.dialect.decode_request(&text);
        let peek = peek(&decoded, &text)?;
        let model = peek.model.ok_or_else(no_model_named)?.decode().into_owned();
        let (target, provider) = locate(config, intake, &model)?;
        let same = provider.dialect.name() == intake.dialect.name();
        let relayed =
            same && !provider.quirks.rewrites() && *target.defaults == Defaults::default();
        // A request that was read has no references.
        let bare = (!relayed && provider.quirks.plain_input && decoded.is_err())
            .then(|| intake.dialect.without_references(&text))
            .flatten();
        if let Some(bare) = &bare {
            decoded = intake.dialect.decode_request(bare);
        }
        let adapted;
        let mut request = match decoded {
            // What is passed on unread may hold what could not be translated.
            Err(_) if relayed => Request { stream: peek.stream, ..Request::default() },
            decoded => decoded?,
        };
        let (sent, mut body) = if relayed {
            (Sent { provider: provider.name.clone(), ..Sent::default() }, memory)
        } else {
            let shows_only = !intake.dialect.asks_for_summaries();
            adapted = Adapted::of(&request, provider, &target, intake.codex, shows_only);
            adapted.apply(&mut request);
            encode(&request, config, provider, target.model, room_for(&text, memory))?
        };
        let told = if relayed { &[][..] } else { &request.dropped[..] };
        let dropped = dropped_header(told, &sent.dropped);
        // Sealed reasoning is of use only if a client can give it back.
        request.settings.include_sealed |= !same && provider.dialect.seals_reasoning();
        let reply =
            Reply { ids, created_at: unix_s, codex: intake.codex, done_marker: !intake.codex };
        let encoder = intake.dialect.encoder(&request, reply);
        let mut decoder = provider.dialect.decoder(sent, &provider.quirks);
        if let Some(stop) = request.settings.stop.filter(|_| !provider.dialect.takes_stop()) {
            decoder = stops::cut_at(stop, decoder);
        }
        let mut order = Self {
            provider: target.provider,
            model_back: (target.model != model).then(|| model.clone()),
            stream: request.stream,
            outgoing: Outgoing::default(),
            spent: Vec::new(),
            dropped,
            same,
            relayed,
            session: request.settings.prompt_cache_key.map(|key| key.decode().into_owned()),
            decoder: Some(decoder),
            encoder: Some(encoder),
            token: None,
            refused: false,
            softened: 0,
            model: model.clone(),
        };
        let model_at = peek.model_at();
        drop(request);
        order.spent = text.into_bytes();
        if relayed {
            std::mem::swap(&mut body, &mut order.spent);
            if target.model != model {
                peek::rename(&mut body, model_at, target.model);
            }
        }
        order.outgoing = order.write(provider, intake, body)?;
        Ok(order)
    }

    /// Makes the request anew when the upstream refused it because of a parameter that only tunes
    /// the answer. False when it did not, or was asked often enough. A relayed request stays as
    /// its client wrote it.
    pub(crate) fn soften(
        &mut self,
        provider: &Provider,
        intake: &Intake,
        failure: &Failure,
    ) -> bool {
        let Ok(body) = std::str::from_utf8(self.outgoing.content()) else { return false };
        if self.relayed || self.softened >= SOFTENED_MAX {
            return false;
        }
        let optional = provider.dialect.optional_parameters();
        let Some(refused) = soften::refused(failure, body, optional) else { return false };
        let mut softer = Vec::with_capacity(body.len());
        if !soften::apply(body, refused, &mut softer) {
            return false;
        }
        let Ok(outgoing) = self.write(provider, intake, softer) else { return false };
        log::info!("provider {} refuses {}: asking without it", provider.name, refused.name);
        self.outgoing = outgoing;
        self.softened += 1;
        if refused.other_name.is_none() {
            let known = if self.dropped.is_empty() { "" } else { ", " };
            self.dropped = format!("{}{known}{}", self.dropped, refused.name);
        }
        true
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
        self.outgoing = self.write(provider, intake, body)?;
        Ok(())
    }

    /// Takes the token back that the upstream refused, so that another can be shown; once.
    pub(crate) fn refused_token(&mut self) -> Option<Arc<Token>> {
        if std::mem::replace(&mut self.refused, true) { None } else { self.token.take() }
    }

    /// What the request shows.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    /// Where the request goes instead of the provider's own URL.
    pub(crate) fn detour(&self) -> Option<&Url> {
        self.token.as_ref()?.url.as_ref()
    }

    /// What turns a reply of this form into the client's; once.
    pub(crate) fn transcoder(&mut self, form: Form, frame_bytes_max: usize) -> Option<Transcoder> {
        let (decoder, encoder) = (self.decoder.take()?, self.encoder.take()?);
        let wanted = if self.stream { Form::Stream } else { Form::Document };
        Some(if self.relayed && form == wanted {
            Transcoder::relay(decoder, encoder, form, self.model_back.take(), frame_bytes_max)
        } else {
            Transcoder::new(decoder, encoder, form, wanted, frame_bytes_max)
        })
    }

    /// Writes the request's head in front of its body.
    fn write(
        &self,
        provider: &Provider,
        intake: &Intake,
        body: Vec<u8>,
    ) -> Result<Outgoing, Failure> {
        const AGENT: &str = concat!("patchbay/", env!("CARGO_PKG_VERSION"));
        let token = self.token.as_deref();
        let bearer;
        let authorization = match &provider.credential {
            Credential::None => None,
            Credential::CodexAuth(_) => token.map(|token| token.authorization.as_str()),
            Credential::Key(key) => {
                bearer = format!("Bearer {key}");
                Some(bearer.as_str())
            }
            Credential::Client => intake.authorization.as_deref(),
        };
        let stream = self.stream || provider.quirks.forced_stream;
        let accept = if stream { "text/event-stream" } else { "application/json" };
        let mut headers: Vec<(&str, &str)> = Vec::new();
        // The configuration's own fields come first, so that they win.
        let own: Vec<(String, &str)> = provider
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        headers.extend(own.iter().map(|(name, value)| (name.as_str(), *value)));
        if let Some(authorization) = authorization {
            add_field(&mut headers, "authorization", authorization);
        }
        if let Some(account) = token.and_then(|token| token.account.as_deref()) {
            add_field(&mut headers, "chatgpt-account-id", account);
        }
        add_field(&mut headers, "content-type", "application/json");
        add_field(&mut headers, "accept", accept);
        let codex = provider.quirks.codex_headers;
        add_field(&mut headers, "user-agent", if codex { codex_fields::USER_AGENT } else { AGENT });
        for (name, value) in &intake.forwarded {
            if self.same || FORWARDED.contains(&name.as_str()) {
                add_field(&mut headers, name, value);
            }
        }
        let session = self.session.as_deref();
        for (name, value) in codex_fields::fields(session).filter(|_| codex) {
            add_field(&mut headers, name, value);
        }
        let url = self.detour().unwrap_or(&provider.url);
        let host = host(url);
        let length = BodyLength::Known(body.len() as u64);
        let mut outgoing = Outgoing::default();
        let head = &mut outgoing.head;
        head.reserve(HEAD_BYTES + if body.len() <= SMALL_BODY_BYTES_MAX { body.len() } else { 0 });
        write_request_head("POST", &url.path, &host, headers, length, head).map_err(|why| {
            Failure::new(
                Fault::proxy(Kind::Server),
                format!(
                    "the request to the provider \"{}\" cannot be written: {why}",
                    provider.name
                ),
            )
        })?;
        outgoing.head_bytes = outgoing.head.len();
        if body.len() <= SMALL_BODY_BYTES_MAX {
            outgoing.head.extend_from_slice(&body);
        } else {
            outgoing.body = body;
        }
        Ok(outgoing)
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

/// The value of `x-patchbay-dropped`: names once each, cut to what fits into a field.
fn dropped_header(request: &[Cow<'_, str>], sent: &[String]) -> String {
    const BYTES_MAX: usize = 1000;
    let mut header = String::new();
    let mut seen: Vec<&str> = Vec::new();
    let names = request.iter().map(AsRef::as_ref).chain(sent.iter().map(String::as_str));
    for name in names {
        let legal = !name.is_empty() && name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !legal || seen.contains(&name) || header.len() + name.len() + 2 > BYTES_MAX {
            continue;
        }
        if !header.is_empty() {
            header.push_str(", ");
        }
        header.push_str(name);
        seen.push(name);
    }
    header
}

/// Memory for a request that becomes another: most of it is text that stays as it is.
fn room_for(text: &str, memory: Vec<u8>) -> Vec<u8> {
    let bytes = text.len() + text.len() / 16 + 1024;
    if memory.capacity() < bytes { Vec::with_capacity(bytes) } else { memory }
}

/// Writes the request for its upstream into `body`.
fn encode(
    request: &Request<'_>,
    config: &Config,
    provider: &Provider,
    model: &str,
    mut body: Vec<u8>,
) -> Result<(Sent, Vec<u8>), Failure> {
    let target = Target {
        model,
        quirks: &provider.quirks,
        provider: &provider.name,
        strict: config.strict,
        stream: request.stream || provider.quirks.forced_stream,
    };
    let sent = provider.dialect.encode_request(request, &target, &mut body)?;
    Ok((sent, body))
}

/// What decides where a request goes. One that was read says it; of one that was not, it is looked
/// for, so that a body which is no JSON, or a model that nobody may have, is told of first.
fn peek<'a>(decoded: &Result<Request<'a>, Failure>, text: &'a str) -> Result<Peek<'a>, Failure> {
    if let Some(peek) = decoded.as_ref().ok().and_then(|request| Peek::of(request, text)) {
        return Ok(peek);
    }
    Peek::read(text)
        .map_err(|bad| Failure::bad_request(format!("the request body is not valid JSON: {bad}")))
}

fn no_model_named() -> Failure {
    Failure::bad_request("the request names no model")
        .with_code("missing_required_parameter")
        .with_param("model")
}

/// Where a model is, if clients may name it.
fn locate<'c>(
    config: &'c Config,
    intake: &Intake,
    model: &'c str,
) -> Result<(route::Target<'c>, &'c Provider), Failure> {
    auth::check_model(config, intake.key, model).map_err(|mut failure| {
        // Codex repeats what it takes for a passing 403.
        failure.status = intake.codex.then_some(400);
        failure
    })?;
    let found = route::target(config, model)
        .and_then(|target| Some((target, config.providers.get(target.provider)?)));
    let (target, provider) = found.ok_or_else(|| no_model(model))?;
    route::check_allowed(provider, model, target.model)?;
    Ok((target, provider))
}

fn no_model(model: &str) -> Failure {
    let model: String = model.chars().take(100).collect();
    Failure::new(
        Fault::client(Kind::ModelNotFound),
        format!("the model \"{model}\" is not known here: no route of the configuration names it"),
    )
    .with_param("model")
}

fn refused(why: coding::Refused) -> Failure {
    let (kind, advice) = match why {
        coding::Refused::Unsupported => (Kind::MediaType, "; send it as it is, or in zstd"),
        coding::Refused::TooLarge => (Kind::TooLarge, ""),
        coding::Refused::Bad => (Kind::BadRequest, ""),
    };
    Failure::new(Fault::client(kind), format!("the request body is {why}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_named_once_and_bounded() {
        let request = [Cow::Borrowed("store"), Cow::Borrowed("a\r\nb: c"), Cow::Borrowed("")];
        let sent = ["store".to_owned(), "tools[2]".to_owned(), "x".repeat(2000)];
        assert_eq!(dropped_header(&request, &sent), "store, tools[2]");
    }
}
