//! Error bodies as servers send them.

use super::*;

fn read(status: u16, body: &str) -> Failure {
    from_body(status, body.as_bytes())
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_known_shape_gives_its_message_and_kind() {
    let openai = r#"{"error":{"message":"Bad key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
    let google = r#"[{"error":{"code":429,"message":"Resource exhausted","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34s"}]}}]"#;
    let list = r#"{"detail":[{"loc":["body","messages",0,"content"],"msg":"Field required","type":"missing"}]}"#;
    let nested =
        r#"{"object":"error","message":{"detail":[{"loc":["body","n"],"msg":"no"}]},"code":1000}"#;
    let raw =
        r#"{"error":{"message":"Provider returned error","code":503,"metadata":{"raw":"busy"}}}"#;
    let cases: &[(u16, &str, Kind, u16, &str)] = &[
        (401, openai, Kind::Unauthorized, 401, "Bad key"),
        (
            400,
            r#"{"detail":"Unsupported parameter: top_p"}"#,
            Kind::BadRequest,
            400,
            "Unsupported parameter: top_p",
        ),
        (422, list, Kind::Conflict, 422, "messages[0].content: Field required"),
        (400, nested, Kind::BadRequest, 400, "n: no"),
        (
            401,
            r#"{"status":401,"message":"Token has expired"}"#,
            Kind::Unauthorized,
            401,
            "Token has expired",
        ),
        (500, r#"{"error":"out of memory"}"#, Kind::Server, 500, "out of memory"),
        (429, google, Kind::RateLimited, 429, "Resource exhausted"),
        (200, raw, Kind::Overloaded, 503, "Provider returned error: busy"),
        (200, r#""it broke""#, Kind::Server, 502, "it broke"),
        (
            200,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Kind::Overloaded,
            503,
            "Overloaded",
        ),
        (
            400,
            r#"{"error":"invalid_client","error_description":"no such client"}"#,
            Kind::BadRequest,
            400,
            "no such client",
        ),
        (403, r#"{"errors":[{"message":"blocked","code":1020}]}"#, Kind::Forbidden, 403, "blocked"),
        (
            502,
            "<html><body>nginx</body></html>",
            Kind::Server,
            502,
            "the upstream answered 502 Bad Gateway and did not say why",
        ),
        (
            503,
            "upstream connect error",
            Kind::Overloaded,
            503,
            "the upstream answered 503 Service Unavailable: upstream connect error",
        ),
        (
            500,
            "",
            Kind::Server,
            500,
            "the upstream answered 500 Internal Server Error and did not say why",
        ),
        (
            408,
            "{}",
            Kind::Timeout,
            504,
            "the upstream answered 408 Request Timeout and did not say why",
        ),
        (529, r#"{"message":"busy"}"#, Kind::Overloaded, 529, "busy"),
    ];
    for (status, body, kind, told, message) in cases {
        let failure = read(*status, body);
        assert_eq!(failure.fault.kind, *kind, "{body}");
        assert_eq!(failure.status(), *told, "{body}");
        assert_eq!(failure.message, *message, "{body}");
    }
}

#[test]
fn codes_and_words_refine_the_kind() {
    let cases: &[(u16, &str, Kind)] = &[
        (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, Kind::ContextLength),
        (
            413,
            r#"{"message":"This model's maximum context length is 4096 tokens"}"#,
            Kind::ContextLength,
        ),
        (
            429,
            r#"{"error":{"message":"Request too large, maximum context length","code":"rate_limit_exceeded"}}"#,
            Kind::RateLimited,
        ),
        (429, r#"{"error":{"message":"x","type":"insufficient_quota"}}"#, Kind::Quota),
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED"}}"#,
            Kind::RateLimited,
        ),
        (404, r#"{"error":"model 'x' not found"}"#, Kind::ModelNotFound),
        (404, r#"{"error":"no route"}"#, Kind::NotFound),
        (400, r#"{"error":{"message":"x","code":"model_not_found"}}"#, Kind::ModelNotFound),
        (400, r#"{"error":{"message":"x","code":"content_filter"}}"#, Kind::ContentPolicy),
        (200, r#"{"message":"Rate limit reached"}"#, Kind::RateLimited),
        (402, r#"{"error":{"message":"Insufficient Balance"}}"#, Kind::Payment),
    ];
    for (status, body, kind) in cases {
        assert_eq!(read(*status, body).fault.kind, *kind, "{body}");
    }
}

#[test]
fn pauses_are_understood() {
    let cases = [
        ("Please try again in 1.2s.", 2),
        ("Please try again in 20ms.", 1),
        ("try again in 2m30s", 150),
        ("retry after 7 seconds", 7),
    ];
    for (words, seconds) in cases {
        let failure = read(429, &format!(r#"{{"error":{{"message":"{words}"}}}}"#));
        assert_eq!(failure.fault.retry, Retry::After(seconds), "{words}");
    }
    assert_eq!(read(429, r#"{"error":"later"}"#).fault.retry, Retry::Later);
    assert_eq!(read(401, r#"{"error":"try again in 5s"}"#).fault.retry, Retry::Never);
}

#[test]
fn messages_hold_no_secret_no_private_address_and_no_flood() {
    let failure = read(
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-proj-abcdef123456. Header Authorization: Bearer abc.def at http://10.0.0.7:8080/v1 and https://openai.com/x"}}"#,
    );
    assert_eq!(
        failure.message,
        "Incorrect API key provided: [redacted] Header Authorization: Bearer [redacted] at \
             http://[redacted]:8080/v1 and https://openai.com/x"
    );
    let long = format!(r#"{{"message":"{}"}}"#, "word ".repeat(10_000));
    assert!(read(400, &long).message.chars().count() <= MESSAGE_CHARS_MAX + 3);
    let flood = vec![b'x'; 1 << 20];
    assert!(from_body(500, &flood).message.len() < 400);
    assert!(from_body(500, b"\xff\xfe\x00bad").message.contains("bad"));
    let html = r#"{"error":{"message":"<!DOCTYPE html><p>oops"}}"#;
    assert_eq!(
        read(500, html).message,
        "the upstream answered 500 Internal Server Error and did not say why"
    );
}

#[test]
fn the_envelope_always_has_its_four_keys() {
    let mut out = Vec::new();
    envelope(&Failure::bad_request("not \"JSON\""), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"error":{"message":"not \"JSON\"","type":"invalid_request_error","param":null,"code":null}}"#
    );
    let mut out = Vec::new();
    envelope(&read(429, r#"{"error":{"message":"slow","code":1302}}"#), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"error":{"message":"slow","type":"rate_limit_error","param":null,"code":"1302"}}"#
    );
}

#[test]
fn a_plans_limit_is_a_rate_limit_that_names_its_end() {
    let limit = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_at":1795177085,"resets_in_seconds":125}}"#;
    for status in [404, 429] {
        let failure = read(status, limit);
        assert_eq!((failure.status(), failure.fault.kind), (429, Kind::RateLimited));
        assert_eq!(failure.fault.retry, Retry::After(125));
        assert!(failure.message.ends_with("(the limit is lifted at 2026-11-20 12:18 UTC)"));
        assert_eq!(failure.error_type(), "usage_limit_reached");
    }
    let at = r#"{"error":{"type":"usage_limit_reached","message":"no","resets_at":1000}}"#;
    let failure = read(429, at);
    assert_eq!(failure.fault.retry, Retry::At(1000));
    assert_eq!(failure.fault.retry.from_now(990), Retry::After(10));
    assert_eq!(failure.fault.retry.from_now(2000), Retry::After(1));
    let soon = read(404, r#"{"detail":"usage limit","resets_in_seconds":7201}"#);
    assert!(soon.message.ends_with("(the limit is lifted in 2 h 1 min)"), "{}", soon.message);
    assert_eq!(soon.status(), 429);
    let plan = read(404, r#"{"detail":{"code":"usage_not_included","message":"buy more"}}"#);
    assert_eq!((plan.status(), plan.fault.kind), (429, Kind::Quota));
    let rate = read(404, r#"{"error":{"code":"rate_limit_exceeded","message":"slow"}}"#);
    assert_eq!(rate.status(), 429);
}

#[test]
fn times_are_told_as_people_write_them() {
    for (unix_s, expected) in [
        (0, Some("1970-01-01 00:00 UTC")),
        (951_782_400, Some("2000-02-29 00:00 UTC")),
        (1_709_208_000, Some("2024-02-29 12:00 UTC")),
        (1_795_177_085, Some("2026-11-20 12:18 UTC")),
        (253_402_300_799, Some("9999-12-31 23:59 UTC")),
        (253_402_300_800, None),
        (u64::MAX, None),
    ] {
        assert_eq!(utc(unix_s).as_deref(), expected, "{unix_s}");
    }
}
