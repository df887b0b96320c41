//! Error replies: `{"status":404,"message":"No such model"}`.

use crate::dialect::faults;
use crate::fault::{Failure, Fault, Kind};

/// Reads an error reply.
pub(super) fn read(status: u16, body: &[u8]) -> Failure {
    let mut failure = faults::from_body(status, body);
    match status {
        401 => {
            // `invalid_api_key` would send people to look at the key that they show to the proxy.
            failure.code = Some("upstream_unauthorized".to_owned());
            failure.message = format!(
                "GigaChat refused the access token that it was given ({}): such tokens live for \
                 30 minutes, and this one is over or never was one",
                failure.message
            );
        }
        402 => {
            failure.fault = Fault::upstream(Kind::Quota);
            failure.status = Some(402);
        }
        // It checks every request against its schema, the functions' schemas included.
        422 => {
            failure.fault = Fault::upstream(Kind::BadRequest);
            failure.status = Some(422);
            if failure.code.is_none() {
                failure.code = Some("invalid_request".to_owned());
            }
            if failure.param.is_none() && failure.message.contains("function") {
                failure.param = Some("tools".to_owned());
            }
        }
        _ => {}
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Retry;

    #[test]
    fn each_status_has_its_kind() {
        for (status, body, kind, told, code) in [
            (400, r#"{"status":400,"message":"bad"}"#, Kind::BadRequest, 400, "bad_request"),
            (
                401,
                r#"{"status":401,"message":"Token has expired"}"#,
                Kind::Unauthorized,
                401,
                "upstream_unauthorized",
            ),
            (
                402,
                r#"{"status":402,"message":"Payment Required"}"#,
                Kind::Quota,
                402,
                "insufficient_quota",
            ),
            (403, r#"{"status":403,"message":"no"}"#, Kind::Forbidden, 403, "forbidden"),
            (
                404,
                r#"{"status":404,"message":"No such model"}"#,
                Kind::ModelNotFound,
                404,
                "model_not_found",
            ),
            (413, "", Kind::TooLarge, 413, "too_large"),
            (
                422,
                r#"{"status":422,"message":"Invalid params: functions[0].parameters"}"#,
                Kind::BadRequest,
                422,
                "invalid_request",
            ),
            (
                429,
                r#"{"status":429,"message":"Too many requests"}"#,
                Kind::RateLimited,
                429,
                "rate_limit_exceeded",
            ),
            (
                500,
                r#"{"status":500,"message":"Internal Server Error"}"#,
                Kind::Server,
                500,
                "server_error",
            ),
            (503, "<html>", Kind::Overloaded, 503, "server_overloaded"),
        ] {
            let failure = read(status, body.as_bytes());
            assert_eq!(
                (failure.fault.kind, failure.status(), failure.code()),
                (kind, told, code),
                "{body}"
            );
            assert!(!failure.message.is_empty() && !failure.message.contains('<'), "{failure}");
        }
        assert_eq!(read(402, b"").fault.retry, Retry::Never);
        assert_eq!(read(429, b"").fault.retry, Retry::Later);
        let schema = read(422, br#"{"status":422,"message":"functions[0] is wrong"}"#);
        assert_eq!(schema.param.as_deref(), Some("tools"));
        let expired = read(401, br#"{"status":401,"message":"Token has expired"}"#);
        assert!(expired.message.contains("Token has expired"), "{expired}");
    }
}
