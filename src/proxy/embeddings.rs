//! `POST /embeddings`: an exchange that is one errand.

use crate::config::{Config, Provider};
use crate::dialect::embeddings::{Asked, Embeddings, Wanted};
use crate::dialect::peek::{self, Peek};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::call::{Call, Place};
use crate::proxy::content::Content;
use crate::proxy::desk::Work;
use crate::proxy::errand::{Agenda, Errand, Next, Purpose, Reply, Setting};
use crate::proxy::order::{self, Intake};
use crate::proxy::reply::Answer;
use crate::proxy::route::Target;
use crate::transcode::Form;
use crate::wire::json::Escaped;
use std::collections::VecDeque;

/// The operation's path below an API's base URL.
const PATH: &str = "/embeddings";

/// Makes of a client's whole request what is to be asked.
///
/// # Errors
/// The body is not a request, or cannot be served.
pub(crate) fn agenda(
    config: &Config,
    intake: &Intake,
    content: Content,
) -> Result<Agenda, Failure> {
    let text = intake.open(content, config.limits.body_bytes_max)?;
    let peek = Peek::read(&text).map_err(order::no_json)?;
    let model = peek.model.map(Escaped::decode).ok_or_else(order::no_model_named)?.into_owned();
    let (target, provider) = order::locate(config, intake, &model)?;
    if provider.quirks.codex_headers {
        let message = format!(
            "the provider \"{}\", where this model is, makes no embeddings: route the model to \
             one that does",
            provider.name
        );
        return Err(Failure::bad_request(message).with_param("model"));
    }
    let translated = provider.dialect.embeddings();
    let there = model_there(provider, &target, &model);
    let (mut body, mut dropped) = (Vec::new(), String::new());
    let purpose: Box<dyn Purpose> = if let Some(embeddings) = translated {
        let wanted = Wanted::read(&text)?;
        if let (true, Some(name)) = (config.strict, wanted.dropped.first()) {
            let message = format!(
                "`{name}` has no form in the embeddings of the provider \"{}\" (strict mode)",
                provider.name
            );
            return Err(Failure::unsupported(name.clone(), message));
        }
        embeddings.encode(&wanted, there, &mut body);
        dropped = order::dropped_header(&wanted.dropped, &[]);
        let (texts, base64) = (wanted.texts.len(), wanted.base64);
        let asked = Asked { model: model.clone(), texts, base64 };
        Box::new(Translate { embeddings, asked, dropped: dropped.clone() })
    } else {
        let model_at = peek.model_at();
        body = text.into_bytes();
        if there != model {
            peek::rename(&mut body, model_at, there);
        }
        Box::new(Relay)
    };
    let call = Call::post(target.provider, Place::Beside(PATH.into()));
    let mut call = call.of_client(translated.is_none(), None);
    call.write(provider, intake, body)?;
    let errand = Errand { call, reply_bytes_max: config.limits.body_bytes_max, purpose };
    Ok(Agenda {
        errands: VecDeque::from([errand]),
        provider: Some(target.provider),
        model,
        dropped,
        ..Agenda::default()
    })
}

/// The model's name at the provider. Where a provider has a model for embeddings, it stands for the
/// names that are none of the provider's: clients ask for `text-embedding-3-small`, and a route for
/// any name leads to a model for answers.
fn model_there<'a>(provider: &'a Provider, target: &Target<'a>, model: &'a str) -> &'a str {
    let known = |name: &&str| match provider.dialect.embeddings() {
        Some(embeddings) => embeddings.knows(name),
        None => provider.models.iter().any(|known| known.id == *name),
    };
    match &provider.embeddings_model {
        Some(own) if !target.exact => [model, target.model].into_iter().find(known).unwrap_or(own),
        _ => target.model,
    }
}

/// The reply passes as it is.
#[derive(Debug)]
struct Relay;

impl Purpose for Relay {
    fn done(self: Box<Self>, reply: &Reply<'_>, _: Setting<'_>) -> Result<Next, Failure> {
        if reply.head.form != Some(Form::Document) {
            let message = "the upstream's reply holds no embeddings: it is not JSON";
            return Err(Failure::new(Fault::upstream(Kind::BadReply), message));
        }
        let mut answer = Answer::json(reply.head.status, reply.body);
        answer.pass(reply.head, true);
        Ok(Next::Answer(answer))
    }
}

/// The reply is another API's.
#[derive(Debug)]
struct Translate {
    embeddings: &'static dyn Embeddings,
    asked: Asked,
    /// The value of `x-patchbay-dropped`.
    dropped: String,
}

impl Translate {
    fn fill(&self, mut answer: Answer, reply: &[u8]) -> Result<Answer, Failure> {
        answer.body.reserve(reply.len());
        self.embeddings.decode(reply, &self.asked, &mut answer.body)?;
        Ok(answer)
    }
}

impl Purpose for Translate {
    fn done(self: Box<Self>, reply: &Reply<'_>, setting: Setting<'_>) -> Result<Next, Failure> {
        let mut answer = Answer::json(200, Vec::new());
        answer.pass(reply.head, false);
        if !self.dropped.is_empty() {
            answer = answer.with("x-patchbay-dropped", &self.dropped);
        }
        if reply.body.len() <= setting.config.limits.inline_bytes_max {
            return self.fill(answer, reply.body).map(Next::Answer);
        }
        let body = reply.body.to_vec();
        Ok(Next::Work(Work::new(move || self.fill(answer, &body))))
    }
}
