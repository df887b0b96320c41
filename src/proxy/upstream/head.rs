//! What is kept of a reply's head.

use crate::transcode::Form;
use crate::wire::http1::{BodyFraming, Field, ReplyHead};

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
    /// The upstream's id of the request.
    pub(crate) request_id: Option<String>,
    /// Fields that tell of rate limits, and those of the dialect's own family.
    pub(crate) passed: Vec<(String, String)>,
    /// The head as it came, where exchanges are written down.
    pub(crate) raw: Vec<u8>,
}

/// Keeps of a head what matters. `unix_s` is now.
pub(super) fn summary(head: &ReplyHead<'_>, unix_s: u64) -> Head {
    let is = |field: &Field<'_>, prefix: &str| {
        field.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let passed = head.fields().filter(|field| is(field, "x-ratelimit-") || is(field, "x-codex-"));
    let passed = passed
        .filter_map(|field| Some((field.name.to_ascii_lowercase(), field.text()?.to_owned())))
        .take(PASSED_MAX)
        .collect();
    let form = head.content_type.and_then(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        match essence.as_str() {
            "text/event-stream" => Some(Form::Stream),
            "application/json" => Some(Form::Document),
            _ if essence.ends_with("+json") => Some(Form::Document),
            _ => None,
        }
    });
    let coding = head.content_encoding.map(str::trim).unwrap_or_default();
    Head {
        status: head.status,
        form,
        coded: !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"),
        has_body: head.framing != BodyFraming::None,
        retry_after_s: retry_after_s(head, unix_s),
        request_id: head.text("x-request-id").map(str::to_owned),
        passed,
        raw: Vec::new(),
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3), or `retry-after-ms`.
fn retry_after_s(head: &ReplyHead<'_>, unix_s: u64) -> Option<u32> {
    if let Some(seconds) = head.retry_after_seconds() {
        return Some(seconds);
    }
    if let Some(at) = head.text("retry-after").and_then(http_date) {
        return Some(u32::try_from(at.saturating_sub(unix_s)).unwrap_or(u32::MAX));
    }
    let ms: u32 = head.text("retry-after-ms")?.trim().split('.').next()?.parse().ok()?;
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
