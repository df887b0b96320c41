//! Error replies of upstreams, whatever their shape, as a [`Failure`]; and the one error envelope
//! that clients of both APIs get.
//!
//! Shapes understood: OpenAI's envelope, `FastAPI`'s `detail` (text, list or object), a bare
//! `message` (with or without `status`), `{"error": "text"}`, Google's array of envelopes,
//! Cloudflare's `errors`, and bodies that are no JSON at all. All of it is a cold path.

use crate::fault::{Failure, Fault, Kind, Retry};
use crate::wire::json;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Characters kept of a message in a JSON error.
const MESSAGE_CHARS_MAX: usize = 500;
/// Characters kept of a body that is plain text.
const TEXT_CHARS_MAX: usize = 200;
/// Larger error bodies are not parsed: no error needs that much.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Longest `code`, `type` or `param` taken over from an upstream.
const WORD_CHARS_MAX: usize = 128;
/// Longest pause taken from an error's own words, in seconds.
const RETRY_S_MAX: f64 = 86_400.0;

/// What an error body said, before it is judged.
#[derive(Debug, Default)]
struct Said {
    message: String,
    error_type: Option<String>,
    code: Option<String>,
    param: Option<String>,
    /// An HTTP status given inside the body.
    status: Option<u16>,
    retry_s: Option<f64>,
    /// When a plan's limit is lifted, in Unix seconds.
    resets_at_s: Option<u64>,
}

/// Reads an error body. `status` is the HTTP status it came with; below 400 (an error inside a
/// stream, or a 200 that is none) the body's own numbers and words decide, and 502 is the default.
///
/// The message is plain text of a few hundred characters, never HTML, with whatever looks like a
/// credential taken out.
#[must_use]
pub fn from_body(status: u16, body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]);
    let text = text.trim_start_matches('\u{feff}').trim();
    let parsed = serde_json::from_str::<Value>(text).ok().filter(|_| body.len() <= BODY_BYTES_MAX);
    let mut said = Said::default();
    match &parsed {
        Some(value) => said.read(value),
        None if looks_like_html(text) => {}
        None => said.message = clean(text, TEXT_CHARS_MAX),
    }
    if looks_like_html(&said.message) {
        said.message.clear();
    }
    let told = if status >= 400 { Some(status) } else { said.status };
    said.judge(told, parsed.is_some())
}

/// Appends the envelope of both APIs: `error` with `message`, `type`, `param` and `code`, all four
/// always there; `code` is a string or null (null for a plain malformed request).
pub fn envelope(failure: &Failure, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    object(failure, out);
    out.push(b'}');
}

/// Appends the object inside [`envelope`].
pub fn object(failure: &Failure, out: &mut Vec<u8>) {
    out.push(b'{');
    json::member("message", &failure.message, out);
    json::member("type", failure.error_type(), out);
    json::key("param", out);
    match &failure.param {
        Some(param) => json::string(param, out),
        None => out.extend_from_slice(b"null"),
    }
    json::key("code", out);
    if failure.code.is_none() && failure.fault.kind == Kind::BadRequest {
        out.extend_from_slice(b"null");
    } else {
        json::string(failure.code(), out);
    }
    out.push(b'}');
}

impl Said {
    fn read(&mut self, value: &Value) {
        match value {
            Value::Array(list) => {
                if let Some(first) = list.first() {
                    self.read(first);
                }
            }
            Value::String(text) => self.say(text),
            Value::Object(map) => self.read_object(map),
            _ => {}
        }
    }

    fn read_object(&mut self, map: &Map<String, Value>) {
        match map.get("error") {
            Some(Value::Object(error)) => {
                self.read_members(error);
                // Some put the words beside an `error` that only classifies.
                self.read_members(map);
                return;
            }
            Some(Value::String(text)) => {
                self.read_members(map);
                if let Some(more) = map.get("error_description").and_then(Value::as_str) {
                    self.say(more);
                }
                if self.message.is_empty() {
                    self.say(text);
                } else if self.code.is_none() {
                    self.code = word(text);
                }
                return;
            }
            _ => {}
        }
        self.read_members(map);
        if let (true, Some(Value::Array(errors))) = (self.message.is_empty(), map.get("errors"))
            && let Some(first) = errors.first()
        {
            match first {
                Value::Object(error) => self.read_members(error),
                Value::String(text) => self.say(text),
                _ => {}
            }
        }
    }

    /// Takes what one object says; what is known already stays.
    fn read_members(&mut self, map: &Map<String, Value>) {
        for name in ["message", "detail", "msg", "title"] {
            match map.get(name) {
                Some(Value::String(text)) => self.say(text),
                Some(Value::Array(list)) => self.read_details(list),
                Some(Value::Object(inner)) => self.read_members(inner),
                _ => {}
            }
        }
        if let Some(raw) = map.get("metadata").and_then(|data| data.get("raw")?.as_str())
            && !looks_like_html(raw)
        {
            let more = clean(raw, TEXT_CHARS_MAX);
            if !more.is_empty() && !self.message.contains(&more) {
                let _ = write!(self.message, ": {more}");
            }
        }
        let text = |name: &str| map.get(name).and_then(Value::as_str).and_then(word);
        self.error_type = self.error_type.take().or_else(|| text("type").filter(|t| t != "error"));
        self.param = self.param.take().or_else(|| text("param"));
        for name in ["code", "status", "status_code", "http_code"] {
            match map.get(name) {
                Some(Value::Number(number)) => self.number(number),
                Some(Value::String(word)) => self.word_or_number(name, word),
                _ => {}
            }
        }
        self.read_pause(map);
    }

    /// A number is an HTTP status when it can be one, else a vendor's code.
    fn number(&mut self, number: &serde_json::Number) {
        match number.as_u64().and_then(|n| u16::try_from(n).ok()) {
            Some(status @ 400..=599) => self.status = self.status.or(Some(status)),
            _ if self.code.is_none() => self.code = Some(number.to_string()),
            _ => {}
        }
    }

    fn word_or_number(&mut self, name: &str, text: &str) {
        match text.parse::<u16>() {
            Ok(status @ 400..=599) => self.status = self.status.or(Some(status)),
            _ if self.code.is_some() => {}
            // `"status": "error"` or `"failed"` says nothing; Google's names are upper case.
            _ if name == "code" || text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => {
                self.code = word(text);
            }
            _ => {}
        }
    }

    /// `FastAPI`'s list: where, and what is wrong there.
    fn read_details(&mut self, list: &[Value]) {
        for entry in list.iter().take(3) {
            let (place, message) = match entry {
                Value::String(text) => (String::new(), text.as_str()),
                Value::Object(map) => {
                    let place = map.get("loc").and_then(Value::as_array).map(|loc| path(loc));
                    let message = map.get("msg").or_else(|| map.get("message"));
                    (place.unwrap_or_default(), message.and_then(Value::as_str).unwrap_or(""))
                }
                _ => continue,
            };
            if message.is_empty() {
                continue;
            }
            if !self.message.is_empty() {
                self.message.push_str("; ");
            }
            if place.is_empty() {
                self.message.push_str(&clean(message, TEXT_CHARS_MAX));
            } else {
                let _ = write!(self.message, "{place}: {}", clean(message, TEXT_CHARS_MAX));
                self.param = self.param.take().or(Some(place));
            }
        }
    }

    fn read_pause(&mut self, map: &Map<String, Value>) {
        for name in ["retry_after", "resets_in_seconds", "retry_after_seconds"] {
            self.retry_s = self.retry_s.or_else(|| map.get(name).and_then(Value::as_f64));
        }
        self.resets_at_s =
            self.resets_at_s.or_else(|| map.get("resets_at").and_then(Value::as_u64));
        if let Some(Value::Array(details)) = map.get("details") {
            for detail in details {
                let delay = detail.get("retryDelay").and_then(Value::as_str);
                let seconds = delay.and_then(|d| d.strip_suffix('s')?.parse::<f64>().ok());
                self.retry_s = self.retry_s.or(seconds);
            }
        }
    }

    fn say(&mut self, text: &str) {
        if self.message.is_empty() && !looks_like_html(text) {
            self.message = clean(text, MESSAGE_CHARS_MAX);
        }
    }

    fn judge(self, status: Option<u16>, json: bool) -> Failure {
        let kind = self.refine(status);
        let mut fault = Fault::upstream(kind);
        let pause = self.retry_s.or_else(|| pause_in(&self.message)).filter(|s| s.is_finite());
        if let (Some(seconds), true) = (pause, fault.retry == Retry::Later) {
            fault.retry = Retry::After(whole_seconds(seconds));
        } else if let (Some(at), Retry::Later) = (self.resets_at_s, fault.retry) {
            fault.retry = Retry::At(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let resets = self.resets();
        let message = match (self.message.is_empty(), json || status.is_none()) {
            (false, true) => self.message,
            (empty, _) => {
                let mut text = "the upstream answered ".to_owned();
                match status {
                    Some(status) => {
                        let _ = write!(text, "{status} {}", reason(status));
                    }
                    None => text.push_str("with an error"),
                }
                if empty {
                    text.push_str(" and did not say why");
                } else {
                    let _ = write!(text, ": {}", self.message);
                }
                text
            }
        };
        let mut failure = Failure::new(fault, message + &resets);
        failure.error_type = self.error_type;
        failure.code = self.code;
        failure.param = self.param;
        failure.status = kept_status(status, fault);
        failure
    }

    /// When a plan's limit is lifted, in words; empty when nobody said.
    fn resets(&self) -> String {
        match (self.resets_at_s.and_then(utc), self.retry_s) {
            (Some(time), _) => format!(" (the limit is lifted at {time})"),
            (None, Some(seconds)) if self.is_usage_limit() && seconds.is_finite() => {
                let minutes = whole_seconds(seconds).div_ceil(60);
                format!(" (the limit is lifted in {} h {} min)", minutes / 60, minutes % 60)
            }
            _ => String::new(),
        }
    }

    /// A plan's limit, which the Codex backend tells of with 404 as well as 429.
    fn is_usage_limit(&self) -> bool {
        let named = |word: &Option<String>| word.as_deref() == Some("usage_limit_reached");
        named(&self.code)
            || named(&self.error_type)
            || self.message.to_ascii_lowercase().contains("usage limit")
    }

    /// The kind that the status says, unless the body knows better.
    fn refine(&self, status: Option<u16>) -> Kind {
        let lower = |text: &Option<String>| text.as_deref().unwrap_or("").to_ascii_lowercase();
        let (code, kind_word) = (lower(&self.code), lower(&self.error_type));
        let message = self.message.to_ascii_lowercase();
        let word = |words: &[&str]| words.iter().any(|w| code == *w || kind_word == *w);
        let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
        let limited = status == Some(429);
        if word(&["context_length_exceeded", "context_window_exceeded", "string_above_max_length"])
            || (!limited && says(CONTEXT_WORDS))
        {
            return Kind::ContextLength;
        }
        if word(&["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"])
            || (limited && code != "resource_exhausted" && says(QUOTA_WORDS))
        {
            return Kind::Quota;
        }
        if word(&["usage_not_included"]) {
            return Kind::Quota;
        }
        if self.is_usage_limit() && matches!(status, None | Some(403 | 404 | 429)) {
            return Kind::RateLimited;
        }
        if word(&["model_not_found", "unknown_model", "invalid_model"])
            || (status == Some(404) && says(&["model"]) && says(ABSENT_WORDS))
        {
            return Kind::ModelNotFound;
        }
        if word(&["content_policy_violation", "content_filter", "moderation_blocked"])
            || (status == Some(400) && says(&["content management policy", "content policy"]))
        {
            return Kind::ContentPolicy;
        }
        if word(&["rate_limit_exceeded", "rate_limit_error", "too_many_requests"]) {
            return Kind::RateLimited;
        }
        if word(&["server_overloaded", "overloaded_error", "overloaded", "slow_down"]) {
            return Kind::Overloaded;
        }
        if let Some(status) = status {
            return by_status(status);
        }
        match () {
            () if word(&["resource_exhausted"]) || says(LIMIT_WORDS) => Kind::RateLimited,
            () if word(&["unavailable"]) || says(&["overloaded"]) => Kind::Overloaded,
            () if word(&["invalid_api_key", "authentication_error", "unauthenticated"]) => {
                Kind::Unauthorized
            }
            () if word(&["permission_error", "permission_denied"]) => Kind::Forbidden,
            () if word(&["invalid_prompt", "invalid_request_error", "invalid_argument"]) => {
                Kind::BadRequest
            }
            () if word(&["timeout", "deadline_exceeded"]) => Kind::Timeout,
            () => Kind::Server,
        }
    }
}

const CONTEXT_WORDS: &[&str] = &[
    "maximum context length",
    "context length exceeded",
    "context_length_exceeded",
    "exceeds the context",
    "context window",
    "prompt is too long",
    "input is too long",
    "exceeds the available context size",
];
const QUOTA_WORDS: &[&str] =
    &["exceeded your current quota", "insufficient balance", "credit balance", "out of credits"];
const ABSENT_WORDS: &[&str] =
    &["not found", "does not exist", "not exist", "no such", "not supported", "unknown"];
const LIMIT_WORDS: &[&str] = &["rate limit", "too many requests"];

fn by_status(status: u16) -> Kind {
    match status {
        401 => Kind::Unauthorized,
        402 => Kind::Payment,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        405 => Kind::MethodNotAllowed,
        408 | 504 => Kind::Timeout,
        409 | 422 => Kind::Conflict,
        413 => Kind::TooLarge,
        415 => Kind::MediaType,
        429 => Kind::RateLimited,
        503 | 529 => Kind::Overloaded,
        400..=499 => Kind::BadRequest,
        _ => Kind::Server,
    }
}

/// The upstream's status where it says more than the kind's own. A 408 of the upstream's is its
/// own patience with us, not with the client.
fn kept_status(status: Option<u16>, fault: Fault) -> Option<u16> {
    let refined = matches!(
        fault.kind,
        Kind::ContextLength | Kind::ModelNotFound | Kind::Quota | Kind::RateLimited
    );
    match status {
        None if fault.kind == Kind::Server => Some(502),
        Some(408) | None => None,
        Some(status) if refined || status == fault.status() => None,
        Some(status @ 400..=599) => Some(status),
        Some(_) => None,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ if status < 500 => "(a refusal)",
        _ => "(a failure)",
    }
}

fn path(parts: &[Value]) -> String {
    let mut place = String::new();
    for part in parts.iter().take(16) {
        match part {
            // The first step only says that it is the body, which goes without saying.
            Value::String(name) if name == "body" && place.is_empty() => {}
            Value::String(name) => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(&clean(name, WORD_CHARS_MAX));
            }
            Value::Number(index) => {
                let _ = write!(place, "[{index}]");
            }
            _ => {}
        }
    }
    place
}

fn word(text: &str) -> Option<String> {
    let text = clean(text, WORD_CHARS_MAX);
    (!text.is_empty()).then_some(text)
}

/// True for text that a browser should render, not a person read.
fn looks_like_html(text: &str) -> bool {
    let head: String = text.chars().take(512).collect::<String>().to_ascii_lowercase();
    head.trim_start().starts_with('<')
        || ["<html", "<!doctype", "<body", "<head"].iter().any(|tag| head.contains(tag))
}

/// White space and control characters become single blanks, credentials go, the rest is cut.
fn clean(text: &str, chars_max: usize) -> String {
    let mut plain = String::new();
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let mut secret_next = false;
    for piece in text.split(blank).filter(|piece| !piece.is_empty()) {
        if !plain.is_empty() {
            plain.push(' ');
        }
        let scheme = piece.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if secret_next && piece.len() > 3 {
            plain.push_str(REDACTED);
        } else {
            redact(piece, &mut plain);
        }
        secret_next = ["Bearer", "Basic"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
        if plain.len() > chars_max * 4 {
            break;
        }
    }
    match plain.char_indices().nth(chars_max) {
        Some((at, _)) => {
            plain.truncate(at);
            plain.push_str("...");
            plain
        }
        None => plain,
    }
}

const REDACTED: &str = "[redacted]";
/// How credentials of known vendors begin.
const SECRET_PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "pk-",
    "gsk_",
    "xai-",
    "hf_",
    "ghp_",
    "gho_",
    "github_pat_",
    "AIza",
    "eyJ",
    "nvapi-",
    "csk-",
    "r8_",
    "key-",
    "pplx-",
    "fw_",
    "tgp_",
];

/// Copies one word, without what looks like a credential or an address of a private network.
fn redact(piece: &str, plain: &mut String) {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.*~+".contains(c);
    let mut rest = piece;
    while let Some(first) = rest.chars().next() {
        if !part(first) {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        let secret = SECRET_PREFIXES
            .iter()
            .any(|prefix| token.len() >= prefix.len() + 6 && token.starts_with(prefix));
        if secret || (plain.ends_with("://") && is_private_host(token)) {
            plain.push_str(REDACTED);
        } else {
            plain.push_str(token);
        }
        rest = after;
    }
}

fn is_private_host(host: &str) -> bool {
    let second = |prefix: &str| host.strip_prefix(prefix)?.split('.').next()?.parse::<u8>().ok();
    !host.contains('.')
        || ["127.", "10.", "192.168.", "169.254."].iter().any(|net| host.starts_with(net))
        || second("172.").is_some_and(|part| (16..32).contains(&part))
        || [".internal", ".local", ".svc", ".lan", ".cluster"]
            .iter()
            .any(|zone| host.ends_with(zone) || host.contains(&format!("{zone}.")))
}

/// The pause that a rate limit's own words ask for: `try again in 1.2s`, `20ms`, `2m30s`.
fn pause_in(message: &str) -> Option<f64> {
    let at = ["try again in ", "retry after ", "retry in "]
        .iter()
        .find_map(|words| message.find(words).map(|at| at + words.len()))?;
    let mut rest = message.get(at..)?;
    let mut seconds = None;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(value) = rest[..end].trim_end_matches('.').parse::<f64>() else { return seconds };
        let unit_text = rest[end..].trim_start();
        let (scale, used) = match unit_text {
            _ if unit_text.starts_with("ms") => (0.001, 2),
            _ if unit_text.starts_with('m') => (60.0, 1),
            _ if unit_text.starts_with('h') => (3600.0, 1),
            _ if unit_text.starts_with('s') => (1.0, 1),
            _ => return seconds.or(Some(value)),
        };
        seconds = Some(seconds.unwrap_or(0.0) + value * scale);
        rest = unit_text.get(used..)?;
    }
}

/// A Unix time in seconds as people write it; `None` beyond the year 9999.
fn utc(unix_s: u64) -> Option<String> {
    const DAY_S: u64 = 86_400;
    if unix_s >= 253_402_300_800 {
        return None;
    }
    // Years that begin in March, from the year 0 on (Hinnant, civil_from_days).
    let days = unix_s / DAY_S + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days / 146_097 * 400 + u64::from(month <= 2);
    let (hour, minute) = (unix_s % DAY_S / 3600, unix_s % 3600 / 60);
    Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC"))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn whole_seconds(seconds: f64) -> u32 {
    seconds.clamp(1.0, RETRY_S_MAX).ceil() as u32
}

#[cfg(test)]
mod tests;
