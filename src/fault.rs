//! What went wrong, in one vocabulary for every ring: status, envelope, metric label and log line
//! come from here and nowhere else.

use std::fmt;

/// Whose side a fault is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client sent something that cannot be served.
    Client,
    /// The upstream refused, failed or broke its protocol.
    Upstream,
    /// This process is out of something or is ending.
    Proxy,
}

/// What kind of fault it is; decides the status and the default `type` and `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Malformed request: HTTP, JSON or a value that cannot be right.
    BadRequest,
    /// A parameter that cannot be represented on the upstream's side.
    Unsupported,
    /// A credential is missing or wrong.
    Unauthorized,
    /// Payment or plan is needed (402).
    Payment,
    /// Refused by policy (403), also a foreign `Host` or `Origin`.
    Forbidden,
    /// No such path or object (404).
    NotFound,
    /// The model is unknown (404).
    ModelNotFound,
    /// Wrong method on a known path (405).
    MethodNotAllowed,
    /// Head or body over a limit (413, or 431 for heads).
    TooLarge,
    /// A content coding or type that is not understood (415).
    MediaType,
    /// 409 and 422 of an upstream.
    Conflict,
    /// The conversation does not fit the model's context window.
    ContextLength,
    /// The upstream's content policy refused the request.
    ContentPolicy,
    /// Too many requests; later is fine.
    RateLimited,
    /// The quota is used up; later is not fine.
    Quota,
    /// The peer took too long.
    Timeout,
    /// Name resolution, connect or TLS failed.
    Unreachable,
    /// The reply breaks HTTP or is not what the dialect says.
    BadReply,
    /// The reply ended before its end.
    Truncated,
    /// The upstream says it is overloaded (503, 529).
    Overloaded,
    /// Any other upstream failure (5xx).
    Server,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same request fails again.
    Never,
    /// The same request may succeed.
    Later,
    /// The same request may succeed after so many seconds.
    After(u32),
    /// The same request may succeed from this Unix time in seconds on (until 2106).
    At(u32),
}

/// A fault without its words: small and `Copy`, for state machines and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Whose fault.
    pub side: Side,
    /// What kind.
    pub kind: Kind,
    /// Whether to try again.
    pub retry: Retry,
}

impl Fault {
    /// A fault of the client's request: not to be retried.
    #[must_use]
    pub const fn client(kind: Kind) -> Self {
        Self { side: Side::Client, kind, retry: Retry::Never }
    }

    /// A fault of the upstream's, retry as its kind says.
    #[must_use]
    pub const fn upstream(kind: Kind) -> Self {
        let retry = match kind {
            Kind::RateLimited
            | Kind::Timeout
            | Kind::Unreachable
            | Kind::BadReply
            | Kind::Truncated
            | Kind::Overloaded
            | Kind::Server => Retry::Later,
            _ => Retry::Never,
        };
        Self { side: Side::Upstream, kind, retry }
    }

    /// A fault of this process's: later may work.
    #[must_use]
    pub const fn proxy(kind: Kind) -> Self {
        Self { side: Side::Proxy, kind, retry: Retry::Later }
    }

    /// The HTTP status that tells a client of this fault before any byte of the reply went out.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self.kind {
            Kind::BadRequest | Kind::Unsupported | Kind::ContextLength | Kind::ContentPolicy => 400,
            Kind::Unauthorized => 401,
            Kind::Payment => 402,
            Kind::Forbidden => 403,
            Kind::NotFound | Kind::ModelNotFound => 404,
            Kind::MethodNotAllowed => 405,
            Kind::Conflict => 409,
            Kind::TooLarge => 413,
            Kind::MediaType => 415,
            Kind::RateLimited | Kind::Quota => 429,
            Kind::Server => 500,
            Kind::Unreachable | Kind::BadReply | Kind::Truncated => 502,
            Kind::Overloaded => 503,
            Kind::Timeout if matches!(self.side, Side::Client) => 408,
            Kind::Timeout => 504,
        }
    }

    /// The `error.type` of OpenAI's envelope.
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self.kind {
            Kind::RateLimited => "rate_limit_error",
            Kind::Quota => "insufficient_quota",
            Kind::Unauthorized => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::Timeout if matches!(self.side, Side::Client) => "invalid_request_error",
            Kind::Timeout
            | Kind::Unreachable
            | Kind::BadReply
            | Kind::Truncated
            | Kind::Overloaded
            | Kind::Server => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The `error.code` when the upstream gave none; also the label in logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self.kind {
            Kind::BadRequest => "bad_request",
            Kind::Unsupported => "unsupported_parameter",
            Kind::Unauthorized => "invalid_api_key",
            Kind::Payment => "payment_required",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::ModelNotFound => "model_not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::TooLarge => "too_large",
            Kind::MediaType => "unsupported_media_type",
            Kind::Conflict => "conflict",
            Kind::ContextLength => "context_length_exceeded",
            Kind::ContentPolicy => "content_policy_violation",
            Kind::RateLimited => "rate_limit_exceeded",
            Kind::Quota => "insufficient_quota",
            Kind::Timeout => "timeout",
            Kind::Unreachable => "upstream_unreachable",
            Kind::BadReply => "bad_upstream_response",
            Kind::Truncated => "upstream_disconnected",
            Kind::Overloaded => "server_overloaded",
            Kind::Server => "server_error",
        }
    }
}

impl Retry {
    /// A point in time as the seconds until then, at least one; anything else as it is.
    #[must_use]
    pub fn from_now(self, unix_s: u64) -> Self {
        match self {
            Self::At(at) => {
                let now = u32::try_from(unix_s).unwrap_or(u32::MAX);
                Self::After(at.saturating_sub(now).max(1))
            }
            other => other,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A fault with its words, as a client is told of it. Made on cold paths only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The fault.
    pub fault: Fault,
    /// What happened, which value, what to do. Plain text, never a secret, at most a few hundred
    /// characters of an upstream's own text.
    pub message: String,
    /// The upstream's own `error.type`, else [`Fault::error_type`] is used.
    pub error_type: Option<String>,
    /// The upstream's own `error.code`, or a more exact one of ours, else [`Fault::code`].
    pub code: Option<String>,
    /// The request parameter that is wrong, as a path (`input[3].content`).
    pub param: Option<String>,
    /// The status the upstream answered with, when it is to be kept exactly (a 422, a 529).
    pub status: Option<u16>,
}

impl Failure {
    /// A failure with a message and nothing else.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { fault, message, error_type: None, code: None, param: None, status: None }
    }

    /// A 400 for a request that cannot be right.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Fault::client(Kind::BadRequest), message)
    }

    /// A 400 `unsupported_parameter` (or another `code`) that names the parameter.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Fault::client(Kind::Unsupported), message).with_param(param)
    }

    /// Names the parameter.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Sets the code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The `error.code` to write.
    #[must_use]
    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or(self.fault.code())
    }

    /// The `error.type` to write.
    #[must_use]
    pub fn error_type(&self) -> &str {
        self.error_type.as_deref().unwrap_or(self.fault.error_type())
    }

    /// The status to answer with, before any byte of a reply went out.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.fault.status())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message)
    }
}

impl std::error::Error for Failure {}
