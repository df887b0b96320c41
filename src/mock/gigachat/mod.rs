//! GigaChat (API v1) as strict as the real one: what it is known to refuse is refused here, with its
//! statuses and envelopes, so that what passes here passes there.

pub(super) mod answer;
mod embeddings;
mod files;
mod request;
pub(super) mod schema;
mod service;
mod token;

pub use request::judge;
pub use schema::accepted;
pub use service::GigaChat;

pub(super) use request::Facts;
pub(super) use service::Service;

use super::route::Document;
use super::scene::{self, Moment, Scene};
use super::script::Script;
use super::wire::{Form, MODEL, Wire};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::http1::{Method, RequestHead};
use crate::wire::json;

/// The largest body of a request for an answer, in bytes.
const REQUEST_BYTES_MAX: usize = 20 << 20;

/// Models that chat; each is there as a preview, too.
const CHAT_MODELS: [&str; 7] = [
    "GigaChat",
    "GigaChat-Pro",
    "GigaChat-Max",
    "GigaChat-2",
    "GigaChat-2-Pro",
    "GigaChat-2-Max",
    MODEL,
];

/// Models that embed.
const EMBEDDERS: [&str; 3] = ["Embeddings", "Embeddings-2", "EmbeddingsGigaR"];

/// What is refused, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status, which is in the body, too.
    status: u16,
    /// The name under which it is counted.
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    fn failure(self) -> Failure {
        let mut failure = Failure::new(Fault::client(Kind::BadRequest), self.message);
        failure.status = Some(self.status);
        failure
    }

    fn document(self) -> Document {
        Document::failure(Wire::GigaChat, &self.failure())
    }
}

/// What there is besides answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// An access token for an authorization key.
    OAuth,
    /// An access token for a user and a password.
    Token,
    /// All models.
    Models,
    /// One model.
    Model,
    /// A new file.
    Upload,
    /// All files of the account.
    Files,
    /// One file.
    File,
    /// The end of a file.
    Delete,
    /// Vectors of texts.
    Embeddings,
}

impl Operation {
    /// What is at a path below the base; an error names the methods that are.
    pub(super) fn find(path: &str, method: Method<'_>) -> Option<Result<Self, &'static str>> {
        let post = method == Method::Post;
        let get = matches!(method, Method::Get | Method::Head);
        let only = |fits: bool, found, allow| Some(if fits { Ok(found) } else { Err(allow) });
        const GET: &str = "GET, HEAD";
        match path.split_once('/') {
            None => match path {
                "token" => only(post, Self::Token, "POST"),
                "embeddings" => only(post, Self::Embeddings, "POST"),
                "models" => only(get, Self::Models, GET),
                "files" if post => Some(Ok(Self::Upload)),
                "files" => only(get, Self::Files, "GET, HEAD, POST"),
                _ => None,
            },
            Some(("models", _)) => only(get, Self::Model, GET),
            Some(("files", rest)) if rest.ends_with("/delete") => only(post, Self::Delete, "POST"),
            Some(("files", rest)) if !rest.contains('/') => only(get, Self::File, GET),
            Some(_) => None,
        }
    }
}

/// What of a head decides how a request is taken.
#[derive(Debug, Default)]
pub(super) struct Shown {
    authorization: Option<String>,
    content_type: Option<String>,
    request_id: Option<String>,
}

impl Shown {
    pub(super) fn new(head: &RequestHead<'_>) -> Self {
        let text = |name| head.text(name).map(str::to_owned);
        Self {
            authorization: head.authorization.map(str::to_owned),
            content_type: text("content-type"),
            request_id: text("rquid"),
        }
    }

    /// What stands behind the scheme of `Authorization`.
    fn credential(&self, scheme: &str) -> Option<&str> {
        let (named, credential) = self.authorization.as_deref()?.split_once(' ')?;
        let credential = credential.trim();
        (named.eq_ignore_ascii_case(scheme) && !credential.is_empty()).then_some(credential)
    }
}

impl Service {
    /// The account that a request belongs to.
    ///
    /// # Errors
    /// 401: no token, an unknown or an expired one.
    pub(super) fn admit(&self, shown: &Shown) -> Result<String, Failure> {
        self.account(shown).map_err(|refusal| self.count(refusal).failure())
    }

    /// Reads a request for an answer.
    ///
    /// # Errors
    /// What the real one refuses.
    pub(super) fn read(&self, account: &str, body: &[u8]) -> Result<Facts, Failure> {
        self.facts(account, body).map_err(|refusal| self.count(refusal).failure())
    }

    /// Answers what is no request for an answer. `path` is that of the request.
    pub(super) fn react(
        &self,
        operation: Operation,
        shown: &Shown,
        path: &str,
        body: &[u8],
    ) -> Document {
        match operation {
            Operation::OAuth => return self.oauth(shown, body),
            Operation::Token => return self.token(shown),
            _ => {}
        }
        let found = self.account(shown).and_then(|account| match operation {
            Operation::Upload => self.upload(&account, shown, body),
            Operation::Files => Ok(self.files(&account)),
            Operation::File => self.file(&account, last_of(path)),
            Operation::Delete => self
                .delete(&account, last_of(path.trim_end_matches('/').trim_end_matches("/delete"))),
            Operation::Embeddings => self.embeddings(body),
            Operation::Model => model(last_of(path)),
            Operation::Models | Operation::OAuth | Operation::Token => Ok(models()),
        });
        match found {
            Ok(body) => Document::json(body),
            Err(refusal) => self.count(refusal).document(),
        }
    }
}

impl Facts {
    /// Makes of script and form what the request leaves open: nothing is called that must not be,
    /// and where a scene fits it speaks.
    pub(super) fn direct(&self, scenes: &[Scene], script: &mut Script, form: &mut Form) {
        script.calls = match self.callable.len() {
            0 => 0,
            _ => script.calls.max(u32::from(self.forced)),
        };
        let tool = self.callable.first().filter(|_| script.calls > 0);
        form.tool = tool.cloned().unwrap_or_default();
        let moment = Moment {
            said: &self.said,
            results: &self.results,
            callable: &self.callable,
            attachments: self.attachments,
        };
        let line = scene::line(scenes, &moment, script.bytes as usize);
        // Who must call does not speak.
        let Some(line) = line.filter(|line| !self.forced || line.call.is_some()) else { return };
        script.deltas = u32::try_from(line.pieces.len()).unwrap_or(u32::MAX);
        script.calls = u32::from(line.call.is_some());
        script.call_deltas = 1;
        script.stamp = false;
        form.tool = line.call.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        form.line = Some(line);
    }
}

fn last_of(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Whether a model of this name chats.
fn chats(name: &str) -> bool {
    let plain = name.strip_suffix("-preview").unwrap_or(name);
    CHAT_MODELS.contains(&plain) || name.starts_with(super::script::PREFIX)
}

fn write_model(name: &str, kind: &str, out: &mut Vec<u8>) {
    json::comma(out);
    out.push(b'{');
    json::member("id", name, out);
    json::member("object", "model", out);
    json::member("owned_by", "salutedevices", out);
    json::member("type", kind, out);
    out.push(b'}');
}

fn models() -> Vec<u8> {
    let mut out = b"{\"data\":[".to_vec();
    for name in CHAT_MODELS {
        write_model(name, "chat", &mut out);
    }
    for name in EMBEDDERS {
        write_model(name, "embedder", &mut out);
    }
    out.extend_from_slice(b"],\"object\":\"list\"}");
    out
}

fn model(name: &str) -> Result<Vec<u8>, Refusal> {
    let kind = match name {
        _ if chats(name) => "chat",
        _ if EMBEDDERS.contains(&name) => "embedder",
        _ => return Err(no_model()),
    };
    let mut out = Vec::new();
    write_model(name, kind, &mut out);
    Ok(out)
}

fn no_model() -> Refusal {
    Refusal::new(404, "unknown_model", "No such model")
}

/// A body that must be JSON.
fn text_of(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body)
        .map_err(|_| Refusal::new(400, "json", "the request body is not UTF-8"))
}

/// What serde found wrong in a body.
fn unreadable(why: &serde_json::Error) -> Refusal {
    let words = why.to_string();
    let reason = match why.classify() {
        serde_json::error::Category::Data if words.starts_with("unknown field") => "unknown_member",
        serde_json::error::Category::Data if words.starts_with("duplicate field") => "twice",
        serde_json::error::Category::Data => "type",
        _ => return Refusal::new(400, "json", format!("the request body is no JSON: {words}")),
    };
    Refusal::new(422, reason, format!("Invalid params: {words}"))
}
