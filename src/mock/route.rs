//! Which path means what, and everything that is answered without a script.

use super::gigachat::Operation;
use super::wire::{MODEL, Wire};
use crate::config::Model;
use crate::dialect::codex;
use crate::dialect::models::{self, Entry};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::http1::{Method, RequestHead};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// An answer of the script's.
    Answer(Wire),
    /// The one model, in a list of this wire API's.
    Models(Wire),
    /// The one model alone.
    Model,
    /// Something else of GigaChat's.
    GigaChat(Operation),
    /// Whether the server is up.
    Health,
    /// What it did so far.
    Counters,
    /// A WebSocket, where Codex tries one first.
    Socket,
    /// Nothing that there is.
    Missing,
    /// A path that is there, with another method.
    Method(&'static str),
}

/// A whole reply of its own.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The methods that the path has, for a 405.
    pub(super) allow: Option<&'static str>,
}

impl Route {
    /// Finds it. With `only`, other wire APIs are not there, and GigaChat is at the path that its
    /// newer host has, too.
    pub(super) fn find(head: &RequestHead<'_>, only: Option<Wire>) -> Self {
        // Base URLs end in a slash or not, and so double one.
        let path = head.path.trim_matches('/');
        let below = |base| path.strip_prefix(base).map(|rest| rest.trim_start_matches('/'));
        let plain = below("v1/").unwrap_or(path);
        if let Some(found) = Self::of_gigachat(below("api/"), plain, head.method, only) {
            return found;
        }
        let found = match plain {
            "chat/completions" if only == Some(Wire::GigaChat) => Self::Answer(Wire::GigaChat),
            "chat/completions" => Self::Answer(Wire::Chat),
            "responses" => Self::Answer(Wire::Responses),
            "models" => Self::Models(Wire::Chat),
            "healthz" | "health" => Self::Health,
            "counters" => Self::Counters,
            "backend-api/codex/responses" => Self::Answer(Wire::Codex),
            "backend-api/codex/models" => Self::Models(Wire::Codex),
            "api/v1/chat/completions" => Self::Answer(Wire::GigaChat),
            _ if plain.strip_prefix("models/") == Some(MODEL) => Self::Model,
            _ => Self::Missing,
        };
        let other = |wire| only.is_some_and(|only| only != wire);
        match (found, head.method) {
            (Self::Answer(wire), _) if other(wire) => Self::Missing,
            (Self::Answer(_), Method::Get) if head.upgrade_websocket => Self::Socket,
            (Self::Answer(_), Method::Post) | (Self::Missing, _) => found,
            (Self::Answer(_), _) => Self::Method("POST"),
            (_, Method::Get | Method::Head) => found,
            (..) => Self::Method("GET, HEAD"),
        }
    }

    /// What only GigaChat has: below `/api/v1`, and with it alone below `/v1` and the root.
    fn of_gigachat(
        api: Option<&str>,
        plain: &str,
        method: Method<'_>,
        only: Option<Wire>,
    ) -> Option<Self> {
        let alone = only == Some(Wire::GigaChat);
        if only.is_some() && !alone {
            return None;
        }
        let found = match api {
            Some("v2/oauth") if method == Method::Post => Some(Ok(Operation::OAuth)),
            Some("v2/oauth") => Some(Err("POST")),
            Some(path) => {
                let path = path.strip_prefix("v1/").map(|rest| rest.trim_start_matches('/'));
                path.and_then(|path| Operation::find(path, method))
            }
            None if alone => Operation::find(plain, method),
            None => None,
        };
        found.map(|found| found.map_or_else(Self::Method, Self::GigaChat))
    }
}

impl Document {
    /// A JSON document.
    pub(super) fn json(body: Vec<u8>) -> Self {
        Self { status: 200, body, allow: None }
    }

    /// An error in the envelope of a wire API.
    pub(super) fn failure(wire: Wire, failure: &Failure) -> Self {
        let mut body = Vec::new();
        wire.envelope(failure, &mut body);
        Self { status: failure.status(), body, allow: None }
    }

    /// The 404, which says what there is.
    pub(super) fn missing(path: &str, only: Option<Wire>) -> Self {
        let all: Vec<String> = Wire::ALL
            .into_iter()
            .filter(|wire| only.is_none_or(|only| only == *wire))
            .map(|wire| format!("POST {}", wire.path()))
            .collect();
        let flag = only.map_or(String::new(), |wire| format!(" with --dialect {}", wire.name()));
        let path: String = path.chars().take(200).collect();
        let words = format!(
            "nothing is at {path}; this patchbay mock{flag} answers {}, GET /v1/models, \
             GET /healthz and GET /counters",
            all.join(", ")
        );
        Self::failure(Wire::Chat, &Failure::new(Fault::client(Kind::NotFound), words))
    }

    /// The 405.
    pub(super) fn method(path: &str, allow: &'static str) -> Self {
        let words = format!("{path} takes {allow}");
        let failure = Failure::new(Fault::client(Kind::MethodNotAllowed), words);
        Self { allow: Some(allow), ..Self::failure(Wire::Chat, &failure) }
    }

    /// The 426 that lets Codex fall back to HTTP at once.
    pub(super) fn no_socket(wire: Wire) -> Self {
        let mut failure = Failure::bad_request("no WebSocket is spoken here; post over HTTP");
        failure.status = Some(426);
        Self::failure(wire, &failure)
    }

    /// The one model, in a list.
    pub(super) fn models(wire: Wire, unix_s: u64) -> Self {
        let models = [model()];
        let mut body = Vec::new();
        match wire {
            Wire::Codex => codex::catalog(&models, &mut body),
            Wire::Chat | Wire::Responses | Wire::GigaChat => {
                models::list(models.iter().map(|it| Entry::own(&it.id, unix_s)), &mut body);
            }
        }
        Self::json(body)
    }

    /// The one model.
    pub(super) fn model(unix_s: u64) -> Self {
        let mut body = Vec::new();
        Entry::own(MODEL, unix_s).write(&mut body);
        Self::json(body)
    }
}

fn model() -> Model {
    Model {
        id: MODEL.to_owned(),
        context_window: 200_000,
        images: false,
        reasoning: false,
        apply_patch: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{HeadLimits, HeadSearch};

    fn route(line: &str, only: Option<Wire>) -> Route {
        let text = format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n");
        let limits =
            HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 1024, headers_max: 8 };
        let (head, _) = HeadSearch::default().request(text.as_bytes(), &limits).unwrap().unwrap();
        Route::find(&head, only)
    }

    #[test]
    fn paths_decide() {
        for (line, expected) in [
            ("POST /v1/chat/completions", Route::Answer(Wire::Chat)),
            ("POST /chat/completions?x=1", Route::Answer(Wire::Chat)),
            ("POST //v1/responses/", Route::Answer(Wire::Responses)),
            ("POST /responses", Route::Answer(Wire::Responses)),
            ("POST /v1//responses", Route::Answer(Wire::Responses)),
            ("POST /backend-api/codex/responses", Route::Answer(Wire::Codex)),
            ("POST /api/v1/chat/completions", Route::Answer(Wire::GigaChat)),
            ("POST /api/v2/oauth", Route::GigaChat(Operation::OAuth)),
            ("GET /api/v2/oauth", Route::Method("POST")),
            ("POST /api/v1/token", Route::GigaChat(Operation::Token)),
            ("GET /api/v1//models", Route::GigaChat(Operation::Models)),
            ("POST /api/v1/embeddings", Route::GigaChat(Operation::Embeddings)),
            ("POST /api/v1/files", Route::GigaChat(Operation::Upload)),
            ("GET /api/v1/files/1-2", Route::GigaChat(Operation::File)),
            ("POST /api/v1/files/1-2/delete", Route::GigaChat(Operation::Delete)),
            ("PUT /api/v1/files", Route::Method("GET, HEAD, POST")),
            ("POST /v1/files", Route::Missing),
            ("GET /v1/models", Route::Models(Wire::Chat)),
            ("HEAD /v1/models/mock-model", Route::Model),
            ("GET /v1/models/other", Route::Missing),
            ("GET /v1/chat/completions", Route::Method("POST")),
            ("DELETE /healthz", Route::Method("GET, HEAD")),
            ("POST /v1", Route::Missing),
            ("POST /v1embeddings", Route::Missing),
            ("GET /", Route::Missing),
        ] {
            assert_eq!(route(line, None), expected, "{line}");
        }
    }

    #[test]
    fn one_dialect_alone_hides_the_others() {
        let giga = Some(Wire::GigaChat);
        assert_eq!(route("POST /v1/responses", giga), Route::Missing);
        assert_eq!(route("POST /v1/chat/completions", giga), Route::Answer(Wire::GigaChat));
        assert_eq!(route("POST /v1/files", giga), Route::GigaChat(Operation::Upload));
        assert_eq!(route("GET /models", giga), Route::GigaChat(Operation::Models));
        for path in ["POST /api/v2/oauth", "GET /api/v1/models"] {
            assert_eq!(route(path, Some(Wire::Chat)), Route::Missing);
        }
        assert_eq!(route("GET /healthz", giga), Route::Health);
        let said = String::from_utf8(Document::missing("/x", giga).body).unwrap();
        assert!(said.contains("--dialect gigachat") && !said.contains("responses"), "{said}");
    }
}
