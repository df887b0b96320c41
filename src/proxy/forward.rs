//! Which header fields of a client go to the upstream. Everything that is not named here or by a
//! dialect stays: credentials, cookies, and what an SDK tells of the machine that it runs on.

use crate::dialect::{DIALECTS, Dialect};
use crate::wire::http1::RequestHead;
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher as _};

/// A forwarded field's value, at most.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// Longest name of a session that is told as it is.
const SESSION_BYTES_MAX: usize = 256;

/// Fields that go to an upstream of the client's own dialect: they tie the requests of a session
/// together (caches, sticky routing).
const SAME: [&str; 14] = [
    "openai-beta",
    "session-id",
    "session_id",
    "conversation_id",
    "thread-id",
    "x-client-request-id",
    "originator",
    "x-codex-beta-features",
    "x-codex-window-id",
    "x-codex-turn-metadata",
    "x-codex-turn-state",
    "x-codex-parent-thread-id",
    "x-openai-subagent",
    "x-openai-memgen-request",
];
/// Those of them in which the Codex CLI and its like name a session.
const SESSIONS: [&str; 3] = ["session_id", "session-id", "conversation_id"];

/// The fields of one request that may be forwarded, names in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded(Vec<(String, String)>);

impl Forwarded {
    /// Picks the fields that any upstream may get: which one it will be is not known yet.
    pub(crate) fn of(head: &RequestHead<'_>) -> Self {
        let named = |name: &[u8]| {
            let same = |known: &&str| known.as_bytes().eq_ignore_ascii_case(name);
            let of_dialect = |dialect: &&dyn Dialect| dialect.client_fields().iter().any(same);
            SAME.iter().any(same) || DIALECTS.iter().any(of_dialect)
        };
        let fields = head
            .fields()
            .wanted(named)
            .filter(|field| field.value.len() <= VALUE_BYTES_MAX)
            .filter_map(|field| Some((field.name.to_ascii_lowercase(), field.text()?.to_owned())));
        Self(fields.collect())
    }

    /// What an upstream of this dialect gets; `same` = the client speaks it too.
    pub(crate) fn fields(
        &self,
        upstream: &dyn Dialect,
        same: bool,
    ) -> impl Iterator<Item = (&str, &str)> {
        let own = upstream.client_fields();
        let goes = move |name: &str| own.contains(&name) || (same && SAME.contains(&name));
        let fields = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        fields.filter(move |(name, _)| goes(name))
    }

    /// The session as the dialect's own field tells it, where it has one: `key` is the request's
    /// `prompt_cache_key`; without one, the session that the client's fields name counts.
    pub(crate) fn session<'f>(
        &'f self,
        upstream: &dyn Dialect,
        key: Option<&'f str>,
    ) -> Option<(&'static str, Cow<'f, str>)> {
        let field = upstream.session_field()?;
        let named = |wanted: &&str| {
            let found = self.0.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let key = key.filter(|key| !key.is_empty());
        let session = key.or_else(|| SESSIONS.iter().find_map(named))?;
        Some((field, fitting(session)))
    }
}

/// A session's name as a field's value: as it is, or, if it could not stand there, a number made
/// of it. Which one is of no matter as long as it is the same in every request of the session.
fn fitting(session: &str) -> Cow<'_, str> {
    if session.len() <= SESSION_BYTES_MAX && session.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(session);
    }
    let mut hash = DefaultHasher::new();
    hash.write(session.as_bytes());
    Cow::Owned(format!("{:016x}", hash.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect;
    use crate::wire::http1::{HeadLimits, HeadSearch};

    fn forwarded(fields: &str) -> Forwarded {
        const LIMITS: HeadLimits =
            HeadLimits { head_bytes_max: 1 << 16, request_line_bytes_max: 512, headers_max: 40 };
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n");
        let found = HeadSearch::default().request(text.as_bytes(), &LIMITS).unwrap();
        Forwarded::of(&found.unwrap().0)
    }

    fn names(fields: &Forwarded, upstream: &str, same: bool) -> Vec<String> {
        let dialect = dialect::by_name(upstream).unwrap();
        fields.fields(dialect, same).map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn each_upstream_gets_the_fields_that_it_knows() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let fields = forwarded(&format!(
            "OpenAI-Organization: org\r\nsession_id: s\r\nX-Session-ID: one\r\nX-Request-Id: two\r\n\
             X-Client-ID: three\r\nX-Trace-ID: caf\u{e9}\r\nX-Agent-ID: {long}\r\n\
             Authorization: Bearer secret\r\nCookie: secret\r\nX-Api-Key: secret\r\n\
             X-Stainless-OS: Linux\r\nX-Other: a"
        ));
        let giga = ["x-session-id=one", "x-request-id=two", "x-client-id=three"];
        assert_eq!(names(&fields, "gigachat", false), giga);
        for dialect in ["chat", "responses"] {
            assert_eq!(names(&fields, dialect, false), ["openai-organization=org"]);
            let same = ["openai-organization=org", "session_id=s"];
            assert_eq!(names(&fields, dialect, true), same);
        }
        assert!(!format!("{fields:?}").contains("secret"));
    }

    #[test]
    fn a_session_is_told_in_the_words_of_the_upstream() {
        let giga = dialect::by_name("gigachat").unwrap();
        let told = |fields: &str, key| {
            let forwarded = forwarded(fields);
            let session = forwarded.session(giga, key);
            session.map(|(field, value)| format!("{field}={value}"))
        };
        let codex = "session_id: s1\r\nconversation_id: s2";
        assert_eq!(told(codex, None).as_deref(), Some("x-session-id=s1"));
        assert_eq!(told(codex, Some("key")).as_deref(), Some("x-session-id=key"));
        assert_eq!(told(codex, Some("")).as_deref(), Some("x-session-id=s1"));
        assert_eq!(told("x-other: a", None), None);
        let chat = dialect::by_name("chat").unwrap();
        assert_eq!(forwarded(codex).session(chat, Some("key")), None);
    }

    #[test]
    fn a_session_that_fits_no_field_gets_a_number_of_its_own() {
        let long = "x".repeat(SESSION_BYTES_MAX + 1);
        let unfit = ["a b", "a\r\nx: y", "\u{43a}\u{43b}\u{44e}\u{447}", long.as_str()];
        let told = unfit.map(|key| fitting(key).into_owned());
        for (key, value) in unfit.iter().zip(&told) {
            assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
            assert_eq!(fitting(key), *value, "the same session has the same number");
        }
        assert!(told.iter().enumerate().all(|(at, one)| !told[..at].contains(one)));
        assert_eq!(fitting("0199-ab"), "0199-ab");
    }
}
