//! What is answered without an upstream: health, models, usage, the way out.

use crate::config::Config;
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::auth::{self, Passed, Shown};
use crate::proxy::limit::LimitTable;
use crate::proxy::models::{self, Ask, Wanted};
use crate::proxy::operation::Operation;
use crate::proxy::reply::Answer;
use crate::proxy::route::{self, Place};
use crate::wire::http1::{Method, RequestHead};
use std::net::SocketAddr;

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
    limits: &LimitTable,
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
        Place::Usage => {
            let mut body = Vec::new();
            limits.usage().write(config, &mut body);
            Ok(Admitted::Answer(Answer::json(200, body)))
        }
        Place::Model(id) => models(config, limits, head, &Wanted::One(id.to_owned()), passed),
        _ => {
            models(config, limits, head, &Wanted::of_query(head.query.unwrap_or_default()), passed)
        }
    }
}

/// Models: of the configuration, unless upstreams may have more. A head alone is not worth asking.
fn models(
    config: &Config,
    limits: &LimitTable,
    head: &RequestHead<'_>,
    wanted: &Wanted,
    passed: Passed,
) -> Result<Admitted, Refused> {
    let (query, key) = (head.query.unwrap_or_default(), passed.key);
    if head.method == Method::Get
        && let Some(ask) = Ask::new(config, key, wanted, query, limits.models())
    {
        return Ok(Admitted::Serve(Operation::Models(ask), passed));
    }
    let answer = models::configured(config, key, wanted)?;
    Ok(Admitted::Answer(answer))
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
