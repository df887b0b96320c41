//! A client's request made into an upstream's: decode, route, encode, and a head from parsed parts.

use crate::config::{Config, Credential, Defaults, Provider};
use crate::dialect::exec;
use crate::dialect::ids::Ids;
use crate::dialect::peek::{self, Peek};
use crate::dialect::request::Request;
use crate::dialect::{Decode, Dialect, Encode, Reply, Sent, Target, codex, soften, stops};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::adapt::Adapted;
use crate::proxy::auth::{self, Passed};
use crate::proxy::call::{Call, Place};
use crate::proxy::content::Content;
use crate::proxy::errand::Errand;
use crate::proxy::forward::Forwarded;
use crate::proxy::launch::Run;
use crate::proxy::net::Token;
use crate::proxy::operation::Operation;
use crate::proxy::route;
use crate::proxy::secret::take_out;
use crate::proxy::token::Caller;
use crate::proxy::upload::{Album, UploadTable};
use crate::transcode::{Form, Transcoder};
use crate::wire::coding;
use crate::wire::http1::{RequestHead, Version};
use crate::wire::json::Bad;
use std::borrow::Cow;
use std::mem::take;
use std::sync::Arc;
use std::time::Instant;

/// How often a request is made anew for an upstream that refuses its parameters.
const SOFTENED_MAX: u32 = 3;

/// What has to be remembered of a request's head.
#[derive(Clone)]
pub(crate) struct Intake {
    /// What is wanted.
    pub(crate) operation: Operation,
    /// The client's dialect.
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
    pub(crate) authorization: Option<String>,
    /// The account that it brings, where a provider takes such.
    caller: Option<Arc<Caller>>,
    /// Fields that may go on to the upstream.
    pub(crate) forwarded: Forwarded,
}

impl std::fmt::Debug for Intake {
    /// Never shows what a client sent, which holds its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Intake {
    pub(crate) fn new(
        config: &Config,
        operation: Operation,
        head: &RequestHead<'_>,
        passed: Passed,
    ) -> Result<Self, Failure> {
        let coding = head.content_encoding.filter(|coding| !coding::is_identity(coding));
        if let Some(coding) = coding
            && !coding.trim().eq_ignore_ascii_case("zstd")
        {
            return Err(refused(coding::Refused::Unsupported));
        }
        let authorization = head.authorization.filter(|_| !passed.by_authorization);
        let callers = config.providers.iter().any(|it| it.callers.is_some());
        let caller = authorization.filter(|_| callers).map_or(Ok(None), Caller::read)?;
        Ok(Self {
            dialect: operation.dialect(),
            operation,
            chunks: head.version == Version::Http11,
            codex: Self::is_codex(head),
            key: passed.key,
            coding: coding.map(str::to_owned),
            authorization: authorization.map(str::to_owned),
            caller: caller.map(Arc::new),
            forwarded: Forwarded::of(head),
        })
    }

    /// The account that the client brings for a provider. Nothing else may be used for it then, above
    /// all not the server's own.
    pub(crate) fn caller(&self, provider: &Provider) -> Option<&Arc<Caller>> {
        self.caller.as_ref().filter(|_| provider.callers.is_some())
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
            Credential::CodexAuth(_) | Credential::Grant(_) | Credential::None => None,
        };
        let shown = token.map(|token| token.authorization.as_str());
        let mut secrets: Vec<String> = [own, shown]
            .into_iter()
            .flatten()
            .map(|own| own.rsplit(' ').next().unwrap_or(own).to_owned())
            .collect();
        secrets.extend(self.caller.iter().flat_map(|caller| caller.secrets()));
        for secret in &secrets {
            take_out(secret, &mut failure.message);
        }
    }

    /// The body as text, without its content coding.
    pub(crate) fn open(&self, content: Content, bytes_max: usize) -> Result<String, Failure> {
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
    pub(crate) call: Call,
    /// The model as the client names it, for logs.
    pub(crate) model: String,
    /// The client wants a stream.
    pub(crate) stream: bool,
    /// Memory that is needed no more.
    pub(crate) spent: Vec<u8>,
    /// The run, where the upstream is a command.
    pub(crate) run: Option<Box<Run>>,
    /// What was dropped on the way.
    pub(crate) dropped: String,
    /// Images whose ids belong into the request, which is not written before they are known.
    pub(crate) album: Option<Box<Album>>,
    /// Request and reply pass as they are.
    relayed: bool,
    /// The client's name of the model, when the upstream has another.
    model_back: Option<String>,
    decoder: Option<Box<dyn Decode>>,
    encoder: Option<Box<dyn Encode>>,
    /// Parameters that were left out because the upstream refused them.
    softened: u32,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("call", &self.call).finish_non_exhaustive()
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
        let (mut sent, mut body) = if relayed {
            (Sent { provider: provider.name.clone(), ..Sent::default() }, memory)
        } else {
            let shows_only = !intake.dialect.asks_for_summaries();
            adapted = Adapted::of(&request, provider, &target, intake.codex, shows_only);
            adapted.apply(&mut request);
            encode(&request, config, provider, target.model, room_for(&text, memory))?
        };
        let (images, places) = (take(&mut sent.images), take(&mut sent.places));
        let run = settle_run(&mut sent, provider)?;
        let told = if relayed { &[][..] } else { &request.dropped[..] };
        let dropped = dropped_header(told, &sent.dropped);
        // Sealed reasoning is of use only if a client can give it back.
        request.settings.include_sealed |= !same && provider.dialect.seals_reasoning();
        let reply =
            Reply { ids, created_at: unix_s, codex: intake.codex, done_marker: !intake.codex };
        let encoder = intake.dialect.encoder(&request, reply);
        let decoder = decoder(provider, sent, &request);
        let stream = request.stream || provider.quirks.forced_stream;
        let session = request.settings.prompt_cache_key.map(|key| key.decode().into_owned());
        let mut order = Self {
            call: Call::post(target.provider, Place::Operation)
                .accepting(if stream { "text/event-stream" } else { "application/json" })
                .of_client(same, session),
            model_back: (target.model != model).then(|| model.clone()),
            stream: request.stream,
            spent: Vec::new(),
            run: run.map(|run| Box::new(Run::Wanted(run))),
            dropped,
            album: None,
            relayed,
            decoder: Some(decoder),
            encoder: Some(encoder),
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
        match Album::new(target.provider, intake, images, places, &mut body) {
            None => order.call.write(provider, intake, body)?,
            album => order.album = album.map(Box::new),
        }
        Ok(order)
    }

    /// The next errand that is to be run before it can be written, which it is at once when there is
    /// none.
    ///
    /// # Errors
    /// One of them, or the order itself, cannot be written.
    pub(crate) fn prepare(
        &mut self,
        provider: &Provider,
        intake: &Intake,
        uploads: &UploadTable,
        now: Instant,
    ) -> Result<Option<Errand>, Failure> {
        let Some(album) = &mut self.album else { return Ok(None) };
        let errand = album.errand(provider, intake, uploads, now)?;
        if errand.is_none() {
            self.call.write(provider, intake, album.write()?)?;
        }
        Ok(errand)
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
        let Ok(body) = std::str::from_utf8(self.call.outgoing.content()) else { return false };
        if self.relayed || self.softened >= SOFTENED_MAX {
            return false;
        }
        let optional = provider.dialect.optional_parameters();
        let Some(refused) = soften::refused(failure, body, optional) else { return false };
        let mut softer = Vec::with_capacity(body.len());
        if !soften::apply(body, refused, &mut softer) {
            return false;
        }
        if self.call.write(provider, intake, softer).is_err() {
            return false;
        }
        log::info!("provider {} refuses {}: asking without it", provider.name, refused.name);
        self.softened += 1;
        if refused.other_name.is_none() {
            self.note_dropped(refused.name);
        }
        true
    }

    /// Notes what was dropped after all, for `x-patchbay-dropped`.
    pub(crate) fn note_dropped(&mut self, name: &str) {
        if self.dropped.split(", ").any(|known| known == name) {
            return;
        }
        if !self.dropped.is_empty() {
            self.dropped.push_str(", ");
        }
        self.dropped.push_str(name);
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
}

/// The value of `x-patchbay-dropped`: names once each, cut to what fits into a field.
pub(crate) fn dropped_header(request: &[Cow<'_, str>], sent: &[String]) -> String {
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

/// A decoder for the reply; where the upstream knows no stop sequences, it looks for them itself.
fn decoder(provider: &Provider, sent: Sent, request: &Request<'_>) -> Box<dyn Decode> {
    let decoder = provider.dialect.decoder(sent, &provider.quirks);
    match request.settings.stop.filter(|_| !provider.dialect.takes_stop()) {
        Some(stop) => stops::cut_at(stop, decoder),
        None => decoder,
    }
}

/// Completes the run that a request asks for by what the provider says; the reply's decoder keeps what
/// it needs of it.
fn settle_run(sent: &mut Sent, provider: &Provider) -> Result<Option<Box<exec::Run>>, Failure> {
    let (Some(exec), Some(mut run)) = (&provider.exec, sent.run.take()) else { return Ok(None) };
    run.settle(exec)?;
    sent.run = Some(Box::new(run.without_files()));
    Ok(Some(run))
}

/// What decides where a request goes. One that was read says it; of one that was not, it is looked
/// for, so that a body which is no JSON, or a model that nobody may have, is told of first.
fn peek<'a>(decoded: &Result<Request<'a>, Failure>, text: &'a str) -> Result<Peek<'a>, Failure> {
    if let Some(peek) = decoded.as_ref().ok().and_then(|request| Peek::of(request, text)) {
        return Ok(peek);
    }
    Peek::read(text).map_err(no_json)
}

pub(crate) fn no_json(bad: Bad) -> Failure {
    Failure::bad_request(format!("the request body is not valid JSON: {bad}"))
}

pub(crate) fn no_model_named() -> Failure {
    Failure::bad_request("the request names no model")
        .with_code("missing_required_parameter")
        .with_param("model")
}

/// Where a model is, if clients may name it.
pub(crate) fn locate<'c>(
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
