//! What a client is told, but for the answer's own bytes: statuses, envelopes, fields.

use crate::dialect::Dialect;
use crate::dialect::faults;
use crate::fault::{Failure, Kind, Retry, Side};
use crate::proxy::upstream::Head;

/// The longest wait that a client is told of: some sleep for whatever they are given.
const RETRY_AFTER_S_MAX: u32 = 3600;
/// What the Codex CLI is told when an upstream names no time: without one it gives up at once.
const RETRY_AFTER_S_USUAL: u32 = 5;

/// A whole reply of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A JSON document.
    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![field("content-type", "application/json")];
        Self { status, headers, body: body.into() }
    }

    /// An error in the client's own envelope.
    pub(crate) fn failure(dialect: Option<&dyn Dialect>, failure: &Failure, codex: bool) -> Self {
        let mut body = Vec::new();
        match dialect {
            Some(dialect) => dialect.encode_fault(failure, &mut body),
            None => faults::envelope(failure, &mut body),
        }
        let mut answer = Self::json(status(failure, codex), body);
        match failure.fault.retry {
            Retry::After(seconds) => answer.retry_after(seconds),
            _ if codex && answer.status == 429 && failure.fault.kind == Kind::RateLimited => {
                answer.retry_after(RETRY_AFTER_S_USUAL);
            }
            _ => {}
        }
        answer
    }

    /// Adds what the upstream said beside its error.
    pub(crate) fn pass(&mut self, head: &Head, same: bool) {
        if let Some(seconds) = head.retry_after_s
            && matches!(self.status, 429 | 500..=599)
        {
            self.retry_after(seconds);
        }
        self.headers.extend(passed(head, same).cloned());
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push(field(name, value));
        self
    }

    fn retry_after(&mut self, seconds: u32) {
        self.headers.retain(|(name, _)| name != "retry-after");
        let seconds = seconds.min(RETRY_AFTER_S_MAX);
        self.headers.push(field("retry-after", itoa::Buffer::new().format(seconds)));
    }
}

/// The fields of an upstream's reply that a client gets.
pub(crate) fn passed(head: &Head, same: bool) -> impl Iterator<Item = &(String, String)> {
    head.passed.iter().filter(move |(name, _)| same || name.starts_with("x-ratelimit-"))
}

/// The status that tells of a failure. The Codex CLI repeats a request up to thirty times for
/// statuses that will not change; a 400 ends its turn at once and shows the message.
pub(crate) fn status(failure: &Failure, codex: bool) -> u16 {
    let status = failure.status();
    let final_for_codex = match status {
        404 => failure.code() != "model_not_found",
        401..=403 | 405 | 409 | 410 | 413 | 415 | 422 => true,
        _ => false,
    };
    let own = failure.fault.side == Side::Client && matches!(status, 413 | 415);
    let mapped = codex && (own || failure.fault.side == Side::Upstream) && final_for_codex;
    if mapped { 400 } else { status.clamp(400, 599) }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn told(failure: &Failure, codex: bool) -> (u16, Option<String>) {
        let answer = Answer::failure(None, failure, codex);
        let after = answer.headers.iter().find(|(name, _)| name == "retry-after");
        (answer.status, after.map(|(_, value)| value.clone()))
    }

    #[test]
    fn codex_is_told_what_ends_its_turn() {
        for (kind, plain, codex) in [
            (Kind::Unauthorized, 401, 400),
            (Kind::Payment, 402, 400),
            (Kind::Forbidden, 403, 400),
            (Kind::NotFound, 404, 400),
            (Kind::ModelNotFound, 404, 404),
            (Kind::TooLarge, 413, 400),
            (Kind::RateLimited, 429, 429),
            (Kind::Server, 500, 500),
            (Kind::Unreachable, 502, 502),
            (Kind::Timeout, 504, 504),
        ] {
            let failure = Failure::new(Fault::upstream(kind), "no");
            let statuses = (told(&failure, false).0, told(&failure, true).0);
            assert_eq!(statuses, (plain, codex), "{kind:?}");
        }
        for (kind, plain, codex) in [
            (Kind::Unauthorized, 401, 401),
            (Kind::TooLarge, 413, 400),
            (Kind::MediaType, 415, 400),
        ] {
            let failure = Failure::new(Fault::client(kind), "no");
            let statuses = (told(&failure, false).0, told(&failure, true).0);
            assert_eq!(statuses, (plain, codex), "{kind:?}");
        }
    }

    #[test]
    fn a_wait_is_passed_on_but_not_an_absurd_one() {
        let limited = Failure::new(Fault::upstream(Kind::RateLimited), "no");
        assert_eq!(told(&limited, false).1, None);
        assert_eq!(told(&limited, true).1.as_deref(), Some("5"));
        let quota = Failure::new(Fault::upstream(Kind::Quota), "no");
        assert_eq!(told(&quota, true), (429, None));
        for (seconds, expected) in [(7, "7"), (u32::MAX, "3600")] {
            let mut answer = Answer::failure(None, &limited, true);
            answer.pass(&Head { retry_after_s: Some(seconds), ..Head::default() }, false);
            let after: Vec<_> =
                answer.headers.iter().filter(|(name, _)| name == "retry-after").collect();
            assert_eq!(after, [&("retry-after".to_owned(), expected.to_owned())]);
        }
    }
}
