//! Why a turn of `codex exec` failed: it only says so in words, some of them another API's reply.

use crate::dialect::event::Stop;
use crate::dialect::faults;
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json;

/// What a failed turn came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// The model's answer was cut, which the agent takes for a failure.
    Stop(Stop),
    /// It failed.
    Fail(Failure),
}

/// Reads the message of `turn.failed`.
pub(super) fn read(message: &str) -> End {
    let message = message.trim();
    let words = message.strip_prefix("stream disconnected before completion: ").unwrap_or(message);
    match words.strip_prefix("Incomplete response returned, reason: ") {
        Some("max_output_tokens") => return End::Stop(Stop::Length),
        Some("content_filter") => return End::Stop(Stop::Filter),
        _ => {}
    }
    if message.starts_with('{') {
        // The body of a 400, which the agent shows as it came.
        return End::Fail(faults::from_body(400, message.as_bytes()));
    }
    // Where the agent's own provider is, is nobody's business.
    let words = words.split(", url: ").next().unwrap_or(words);
    if let Some((status, said)) = status(words) {
        return End::Fail(of_status(status, said));
    }
    let has = |part: &str| words.contains(part);
    let kind = if has("Quota exceeded") {
        Kind::Quota
    } else if has("at capacity") || has("high demand") {
        Kind::Overloaded
    } else if has("stream closed before") || has("idle timeout waiting") || has("Transport error") {
        Kind::Truncated
    } else {
        let mut body = vec![b'{'];
        json::member("message", words, &mut body);
        body.push(b'}');
        let status = if has("odel") && (has("not found") || has("no such")) { 404 } else { 0 };
        return End::Fail(faults::from_body(status, &body));
    };
    End::Fail(Failure::new(Fault::upstream(kind), cut(words)))
}

/// The status in `unexpected status 401 Unauthorized: WORDS` or `exceeded retry limit, last status:
/// 429 Too Many Requests`, and what was said with it.
fn status(words: &str) -> Option<(u16, &str)> {
    const LAST: &str = "exceeded retry limit, last status: ";
    let (rest, alone) = match words.strip_prefix("unexpected status ") {
        Some(rest) => (rest, false),
        None => (words.strip_prefix(LAST)?, true),
    };
    let status = rest.split(' ').next()?.parse().ok().filter(|it| (400..600).contains(it))?;
    let said = if alone { "" } else { rest.split_once(": ").map_or("", |(_, said)| said) };
    Some((status, said))
}

fn of_status(status: u16, said: &str) -> Failure {
    let mut body = Vec::new();
    if !said.is_empty() {
        body.push(b'{');
        json::member("message", said, &mut body);
        body.push(b'}');
    }
    let mut failure = faults::from_body(status, &body);
    if failure.fault.kind == Kind::Unauthorized {
        // The client's own key is good: it got this far.
        failure.code = Some("upstream_unauthorized".to_owned());
        failure.message = format!(
            "the Codex CLI is not let in by its provider ({}): run `codex login` where patchbay \
             runs",
            failure.message
        );
    }
    failure
}

fn cut(words: &str) -> String {
    const CHARS_MAX: usize = 500;
    words.chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_kinds() {
        let cut = "stream disconnected before completion: ";
        for (message, kind, status) in [
            (
                "Codex ran out of room in the model's context window. Start a new thread or clear \
                 earlier history before retrying.",
                Kind::ContextLength,
                400,
            ),
            (
                r#"{"error": {"message": "Unsupported parameter: foo", "type": "invalid_request_error", "code": "unsupported_parameter", "param": "foo"}}"#,
                Kind::BadRequest,
                400,
            ),
            (
                "unexpected status 401 Unauthorized: Incorrect API key provided, url: \
                 http://127.0.0.1:1/v1/responses, request id: req_401",
                Kind::Unauthorized,
                401,
            ),
            ("unexpected status 404 Not Found: Not found, url: http://a/", Kind::NotFound, 404),
            ("exceeded retry limit, last status: 429 Too Many Requests", Kind::RateLimited, 429),
            (
                "exceeded retry limit, last status: 503 Service Unavailable, request id: x",
                Kind::Overloaded,
                503,
            ),
            ("Quota exceeded. Check your plan and billing details.", Kind::Quota, 429),
            ("You’ve hit your usage limit. Buy more, or try again later.", Kind::RateLimited, 429),
            ("Selected model is at capacity. Please try another.", Kind::Overloaded, 503),
            ("We’re currently experiencing high demand.", Kind::Overloaded, 503),
            ("model not found", Kind::ModelNotFound, 404),
            ("no such model", Kind::ModelNotFound, 404),
            (&format!("{cut}stream closed before response.completed"), Kind::Truncated, 502),
            (&format!("{cut}idle timeout waiting for SSE"), Kind::Truncated, 502),
            (&format!("{cut}The server had an error"), Kind::Server, 502),
            ("Missing environment variable: `KEY`.", Kind::Server, 502),
            ("", Kind::Server, 502),
        ] {
            let End::Fail(failure) = read(message) else { panic!("{message}") };
            assert_eq!((failure.fault.kind, failure.status()), (kind, status), "{message}");
            assert!(!failure.message.is_empty() && !failure.message.contains("http://"));
        }
        let stop = |reason| read(&format!("{cut}Incomplete response returned, reason: {reason}"));
        assert_eq!(stop("content_filter"), End::Stop(Stop::Filter));
        assert_eq!(
            read("Incomplete response returned, reason: max_output_tokens"),
            End::Stop(Stop::Length)
        );
        assert!(matches!(stop("other"), End::Fail(_)));
    }
}
