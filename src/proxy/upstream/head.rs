//! What is kept of a reply's head.

use crate::transcode::Form;
use crate::wire::http1::{BodyFraming, ReplyHead};

/// Header fields of a reply that are passed on, at most.
const PASSED_MAX: usize = 32;

/// A reply's head, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `None` when the content type says neither.
    pub(crate) form: Option<Form>,
    /// The body is compressed, though that was not asked for.
    pub(crate) coded: bool,
    /// There is a body.
    pub(crate) has_body: bool,
    /// Seconds, from whichever form the upstream used.
    pub(crate) retry_after_s: Option<u32>,
    /// What only a few replies have, and few who read them want.
    pub(crate) rare: Option<Box<Rare>>,
    /// The upstream's id of the request.
    pub(crate) request_id: Option<String>,
    /// Fields that tell of rate limits, and those of the dialect's own family.
    pub(crate) passed: Vec<(String, String)>,
    /// The head as it came, where exchanges are written down.
    pub(crate) raw: Vec<u8>,
}

/// See [`Head::rare`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    /// The content type, where it says neither form.
    media: Option<String>,
    /// Of a redirect: where to (RFC 9110 section 10.2.2).
    location: Option<String>,
}

impl Head {
    /// The content type, where it says neither form.
    pub(crate) fn media(&self) -> Option<&str> {
        self.rare.as_ref()?.media.as_deref()
    }

    /// Where a redirect leads.
    pub(crate) fn location(&self) -> Option<&str> {
        self.rare.as_ref()?.location.as_deref()
    }

    /// Forgets what an upstream tells its own clients: this one is somebody else's server.
    pub(crate) fn be_strange(&mut self) {
        self.retry_after_s = None;
        self.request_id = None;
        self.passed = Vec::new();
    }
}

/// Keeps of a head what matters. `unix_s` is now.
pub(super) fn summary(head: &ReplyHead<'_>, unix_s: u64) -> Head {
    let coding = head.content_encoding.map(str::trim).unwrap_or_default();
    let mut kept = Head {
        status: head.status,
        form: head.content_type.and_then(form),
        coded: !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"),
        has_body: head.framing != BodyFraming::None,
        ..Head::default()
    };
    if let (None, Some(media)) = (kept.form, head.content_type) {
        kept.rare.get_or_insert_default().media = Some(media.to_owned());
    }
    let (mut retry_after, mut retry_after_ms) = (None, None);
    let redirects = (300..400).contains(&head.status);
    for field in head.fields() {
        match field.name.len() {
            8 if redirects && field.is("location") => {
                let rare = kept.rare.get_or_insert_default();
                rare.location = rare.location.take().or(field.text().map(str::to_owned));
            }
            11 if field.is("retry-after") => retry_after = retry_after.or(Some(field)),
            12 if field.is("x-request-id") && kept.request_id.is_none() => {
                kept.request_id = field.text().map(str::to_owned);
            }
            14 if field.is("retry-after-ms") => retry_after_ms = retry_after_ms.or(Some(field)),
            _ if kept.passed.len() < PASSED_MAX && is_passed(field.name) => {
                let value = field.text().map(str::to_owned);
                kept.passed.extend(value.map(|value| (field.name.to_ascii_lowercase(), value)));
            }
            _ => {}
        }
    }
    let seconds = retry_after.and_then(|field| field.text());
    let ms = retry_after_ms.and_then(|field| field.text());
    kept.retry_after_s = retry_after_s(seconds, ms, unix_s);
    kept
}

/// What a content type makes of the body.
fn form(value: &str) -> Option<Form> {
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let suffix = essence.len().checked_sub(5).and_then(|at| essence.get(at..));
    if is("text/event-stream") {
        Some(Form::Stream)
    } else if is("application/json") || suffix.is_some_and(|s| s.eq_ignore_ascii_case("+json")) {
        Some(Form::Document)
    } else {
        None
    }
}

/// Fields that tell of rate limits, and those of the Codex backend's own family.
fn is_passed(name: &str) -> bool {
    // Most names begin otherwise, and one look tells.
    if !name.starts_with(['x', 'X']) {
        return false;
    }
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    begins("x-ratelimit-") || begins("x-codex-")
}

/// `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3), or `retry-after-ms`.
pub(crate) fn retry_after_s(value: Option<&str>, ms: Option<&str>, unix_s: u64) -> Option<u32> {
    let digits = |value: &&str| !value.is_empty() && value.bytes().all(|it| it.is_ascii_digit());
    if let Some(seconds) = value.filter(digits).and_then(|value| value.parse().ok()) {
        return Some(seconds);
    }
    if let Some(at) = value.and_then(http_date) {
        return Some(u32::try_from(at.saturating_sub(unix_s)).unwrap_or(u32::MAX));
    }
    let ms: u32 = ms?.trim().split('.').next()?.parse().ok()?;
    Some(ms.div_ceil(1000))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7) as Unix time in seconds.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split([' ', ':']);
    let mut number = |max: u64| parts.next()?.parse::<u64>().ok().filter(|&part| part <= max);
    let day = number(31)?;
    let month = text.split(' ').nth(2)?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    // The month itself is no number: step over it.
    let _ = number(0);
    let year = number(9999).filter(|&year| year >= 1970)?;
    let (hour, minute, second) = (number(23)?, number(59)?, number(60)?);
    // Days since 1970 of a year that begins in March (Hinnant, days_from_civil).
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{HeadLimits, HeadSearch};

    fn kept(fields: &str) -> Head {
        const LIMITS: HeadLimits =
            HeadLimits { head_bytes_max: 4096, request_line_bytes_max: 512, headers_max: 40 };
        let text = format!("HTTP/1.1 429 Slow\r\n{fields}\r\n\r\n");
        let found = HeadSearch::default().reply(text.as_bytes(), &LIMITS, false).unwrap();
        summary(&found.unwrap().0, 1_709_208_000)
    }

    #[test]
    fn a_head_is_kept_as_far_as_it_matters() {
        let head = kept(
            "X-Request-Id: req_1\r\nX-RateLimit-Remaining: 3\r\nX-Other: a\r\nServer: x\r\n\
             x-codex-limit-name: plan\r\nX-Request-Id: req_2\r\nContent-Encoding: gzip",
        );
        assert_eq!(head.request_id.as_deref(), Some("req_1"));
        let passed: Vec<_> = head.passed.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(passed, [("x-ratelimit-remaining", "3"), ("x-codex-limit-name", "plan")]);
        assert!(head.coded && head.has_body && head.status == 429 && head.form.is_none());
        for (value, form) in [
            ("Text/Event-Stream; charset=utf-8", Some(Form::Stream)),
            (" application/JSON", Some(Form::Document)),
            ("application/problem+json;x=y", Some(Form::Document)),
            ("+json", Some(Form::Document)),
            ("application/jsonl", None),
            ("json", None),
        ] {
            assert_eq!(kept(&format!("content-type:{value}")).form, form, "{value}");
        }
    }

    #[test]
    fn a_wait_is_read_in_each_of_its_forms() {
        for (fields, expected) in [
            ("retry-after: 7\r\nretry-after-ms: 10", Some(7)),
            ("Retry-After: Thu, 29 Feb 2024 12:00:05 GMT", Some(5)),
            ("retry-after: Thu, 29 Feb 2024 11:00:00 GMT", Some(0)),
            ("retry-after: soon\r\nRetry-After-Ms: 1500.5", Some(2)),
            ("retry-after: 99999999999", None),
            ("retry-after: -1", None),
            ("retry: 1", None),
        ] {
            assert_eq!(kept(fields).retry_after_s, expected, "{fields}");
        }
    }

    #[test]
    fn dates_are_read_as_unix_time() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 20 Nov 2026 12:18:05 GMT", Some(1_795_177_085)),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nox 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }
}
