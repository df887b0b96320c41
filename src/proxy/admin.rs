//! What is answered without an upstream: health, models, usage, the way out.

use crate::config::{Config, Model};
use crate::dialect::codex;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::auth::{self, Passed, Shown};
use crate::proxy::operation::Operation;
use crate::proxy::reply::Answer;
use crate::proxy::route::{self, Place};
use crate::proxy::usage::UsageBoard;
use crate::wire::http1::{Method, RequestHead};
use std::net::SocketAddr;

/// When a model was made is not known here, and the field must be there.
const MODEL_CREATED_S: u64 = 0;

/// What the worker has to do with a request.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// Say this.
    Answer(Answer),
    /// Say this, and end the process.
    Shutdown(Answer),
    /// Serve this for who passed so.
    Serve(Operation, Passed),
}

/// Why a request is not admitted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) failure: Box<Failure>,
    /// The methods that the path allows, for a 405.
    pub(crate) allow: Option<&'static str>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), allow: None }
    }
}

/// Decides by the head alone.
///
/// # Errors
/// What to tell the client instead.
pub(crate) fn admit(
    config: &Config,
    usage: &UsageBoard,
    head: &RequestHead<'_>,
    path: &str,
    peer: SocketAddr,
    draining: bool,
) -> Result<Admitted, Refused> {
    let shown = Shown::from(head);
    auth::check_place(config, &shown)?;
    let place = route::place(path);
    let reads = matches!(head.method, Method::Get | Method::Head);
    match place {
        Place::Operation(_) | Place::Embeddings if head.upgrade_websocket => {
            return Err(upgrade_required().into());
        }
        Place::Operation(_) | Place::Embeddings if head.method != Method::Post => {
            return Err(wrong_method("POST"));
        }
        Place::Nowhere => return Err(nowhere(head.method.name(), path).into()),
        Place::Shutdown if !config.http_shutdown => {
            return Err(nowhere(head.method.name(), path).into());
        }
        Place::Operation(_) | Place::Embeddings => {}
        _ if !reads => return Err(wrong_method("GET, HEAD")),
        _ => {}
    }
    // Probes carry no key.
    match place {
        Place::Health => return Ok(Admitted::Answer(Answer::json(200, "{\"status\":\"ok\"}"))),
        Place::Ready if draining => {
            return Ok(Admitted::Answer(Answer::json(503, "{\"status\":\"draining\"}")));
        }
        Place::Ready => return Ok(Admitted::Answer(Answer::json(200, "{\"status\":\"ready\"}"))),
        Place::Shutdown if !peer.ip().to_canonical().is_loopback() => {
            let message = "the process can be ended from this machine only";
            return Err(Failure::new(Fault::client(Kind::Forbidden), message).into());
        }
        // A head alone asks for nothing to happen.
        Place::Shutdown if head.method == Method::Get => {
            return Ok(Admitted::Shutdown(Answer::json(200, "{\"status\":\"ending\"}")));
        }
        Place::Shutdown => return Ok(Admitted::Answer(Answer::json(200, "{}"))),
        _ => {}
    }
    let passed = auth::check(config, &shown)?;
    match place {
        Place::Operation(dialect) => Ok(Admitted::Serve(Operation::Answer(dialect), passed)),
        Place::Embeddings => Ok(Admitted::Serve(Operation::Embeddings, passed)),
        Place::Model(id) => {
            one(config, passed.key, id).map(Admitted::Answer).map_err(Refused::from)
        }
        Place::Usage => {
            let mut body = Vec::new();
            usage.write(config, &mut body);
            Ok(Admitted::Answer(Answer::json(200, body)))
        }
        _ => Ok(Admitted::Answer(models(config, passed.key, head.query.unwrap_or_default()))),
    }
}

fn models(config: &Config, key: Option<usize>, query: &str) -> Answer {
    let models: Vec<Model> = known(config, key).cloned().collect();
    let mut body = Vec::new();
    // Codex asks with its version, and reads its own shape only.
    if route::has_parameter(query, "client_version") {
        codex::catalog(&models, &mut body);
    } else {
        codex::list(&models, MODEL_CREATED_S, &mut body);
    }
    Answer::json(200, body)
}

fn one(config: &Config, key: Option<usize>, id: &str) -> Result<Answer, Failure> {
    let Some(model) = known(config, key).find(|model| model.id == id) else {
        let id: String = id.chars().take(100).collect();
        let message = format!("the model \"{id}\" is not listed here");
        return Err(Failure::new(Fault::client(Kind::ModelNotFound), message).with_param("model"));
    };
    let mut body = Vec::new();
    codex::one(model, MODEL_CREATED_S, &mut body);
    Ok(Answer::json(200, body))
}

/// Every model that a key may ask for, once: the first provider that has it wins, as with routes.
fn known(config: &Config, key: Option<usize>) -> impl Iterator<Item = &Model> {
    let all = || config.providers.iter().flat_map(|provider| &provider.models);
    all()
        .enumerate()
        .filter(move |(place, model)| !all().take(*place).any(|earlier| earlier.id == model.id))
        .map(|(_, model)| model)
        .filter(move |model| auth::may_use(config, key, &model.id))
}

fn upgrade_required() -> Failure {
    let message = "WebSocket is not spoken here: use POST";
    let mut failure =
        Failure::new(Fault::client(Kind::BadRequest), message).with_code("upgrade_required");
    failure.status = Some(426);
    failure
}

fn wrong_method(allowed: &'static str) -> Refused {
    let message = format!("this path takes {allowed} only");
    let failure = Failure::new(Fault::client(Kind::MethodNotAllowed), message);
    Refused { failure: Box::new(failure), allow: Some(allowed) }
}

fn nowhere(method: &str, path: &str) -> Failure {
    let path: String = path.chars().take(100).collect();
    let message = format!(
        "there is no {method} {path} here: try POST /v1/responses, POST /v1/chat/completions or \
         GET /v1/models"
    );
    Failure::new(Fault::client(Kind::NotFound), message)
}
