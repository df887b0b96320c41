//! Failures inside a Responses stream: which code a client is told, and what an upstream said.

use crate::dialect::faults;
use crate::fault::{Failure, Kind, Retry};
use crate::wire::json::Raw;
use std::borrow::Cow;

/// Codes after which Codex does not send the request again, and shows the message.
const CODEX_FINAL: &[&str] = &[
    "context_length_exceeded",
    "insufficient_quota",
    "usage_not_included",
    "invalid_prompt",
    "model_not_found",
    "cyber_policy",
    "bio_policy",
];

/// The code and message of `response.failed`.
///
/// Codex repeats the request after any code that it does not know, so a failure that cannot be
/// repeated with success gets one that it does know.
pub(super) fn told(failure: &Failure, codex: bool) -> (&str, Cow<'_, str>) {
    let code = match failure.fault.kind {
        // The API's types know one code for whatever is the server's fault.
        _ if !codex && failure.code.is_none() && failure.error_type() == "server_error" => {
            "server_error"
        }
        _ if !codex => failure.code(),
        Kind::RateLimited => "rate_limit_exceeded",
        Kind::ContextLength => "context_length_exceeded",
        Kind::Quota => "insufficient_quota",
        Kind::ModelNotFound => "model_not_found",
        _ if failure.fault.retry != Retry::Never => "server_error",
        _ if CODEX_FINAL.contains(&failure.code()) => failure.code(),
        _ => "invalid_prompt",
    };
    let message = match (failure.fault.kind, failure.fault.retry) {
        // Codex reads the pause from these very words.
        (Kind::RateLimited, Retry::After(s)) if !failure.message.contains("try again in") => {
            Cow::Owned(format!("{} Please try again in {s}s.", failure.message))
        }
        _ if failure.message.is_empty() => Cow::Borrowed(failure.fault.code()),
        _ => Cow::Borrowed(failure.message.as_str()),
    };
    (code, message)
}

/// What an upstream says in an `error` event or in `response.error`. `event` is the whole event,
/// for those that put the members at its top.
pub(super) fn said(error: Option<Raw<'_>>, event: &[u8]) -> Failure {
    let failure = match error {
        Some(error) => faults::from_body(0, format!("{{\"error\":{}}}", error.text()).as_bytes()),
        None => faults::from_body(0, event),
    };
    Failure { error_type: failure.error_type.filter(|kind| kind != "error"), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn codex_is_told_whether_to_try_again() {
        let later = |kind| Failure::new(Fault::upstream(kind), "m");
        let mut limited = later(Kind::RateLimited);
        limited.fault.retry = Retry::After(7);
        let cases = [
            (limited.clone(), "rate_limit_exceeded", "m Please try again in 7s."),
            (later(Kind::RateLimited), "rate_limit_exceeded", "m"),
            (later(Kind::Truncated), "server_error", "m"),
            (later(Kind::Overloaded).with_code("server_is_overloaded"), "server_error", "m"),
            (later(Kind::BadRequest), "invalid_prompt", "m"),
            (later(Kind::ContentPolicy).with_code("cyber_policy"), "cyber_policy", "m"),
            (later(Kind::Unauthorized), "invalid_prompt", "m"),
            (later(Kind::ContextLength), "context_length_exceeded", "m"),
            (later(Kind::Quota), "insufficient_quota", "m"),
            (later(Kind::ModelNotFound), "model_not_found", "m"),
        ];
        for (failure, code, message) in &cases {
            let (told_code, told_message) = told(failure, true);
            assert_eq!((told_code, &*told_message), (*code, *message), "{failure:?}");
        }
        assert_eq!(told(&later(Kind::Unauthorized), false).0, "invalid_api_key");
        assert_eq!(told(&later(Kind::Truncated), false).0, "server_error");
        assert_eq!(told(&later(Kind::Server).with_code("own"), false).0, "own");
        limited.message = "Wait: try again in 3s".to_owned();
        assert_eq!(told(&limited, true).1, "Wait: try again in 3s");
    }
}
