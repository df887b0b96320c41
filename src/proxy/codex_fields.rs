//! The header fields by which the Codex backend knows a client.

/// The version of the Codex CLI whose requests ours are like: the backend offers some models to
/// known versions only.
const VERSION: &str = "0.169.0";
/// Who we say we are, honestly, in a form that the backend takes.
pub(crate) const USER_AGENT: &str =
    concat!("codex_cli_rs/0.169.0 (patchbay/", env!("CARGO_PKG_VERSION"), ")");
/// Longest value of a session field.
const SESSION_BYTES_MAX: usize = 256;

/// The fields, for a session known by its `prompt_cache_key`. A key that cannot stand in a field is
/// left out.
pub(crate) fn fields(session: Option<&str>) -> impl Iterator<Item = (&'static str, &str)> {
    let legal = |key: &&str| {
        !key.is_empty()
            && key.len() <= SESSION_BYTES_MAX
            && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let session = session.filter(legal);
    // Three spellings, of three ages.
    let names = ["session_id", "session-id", "conversation_id"];
    [
        ("originator", "codex_cli_rs"),
        ("version", VERSION),
        ("openai-beta", "responses=experimental"),
    ]
    .into_iter()
    .chain(session.into_iter().flat_map(move |key| names.map(|name| (name, key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_if_its_key_can_be() {
        let sessions = |key| fields(key).filter(|(name, _)| name.contains("_id")).count();
        let long = "x".repeat(SESSION_BYTES_MAX + 1);
        for (key, expected) in [
            (Some("0199-ab"), 2),
            (None, 0),
            (Some(""), 0),
            (Some("a b"), 0),
            (Some("a\r\nx: y"), 0),
            (Some("ключ"), 0),
            (Some(long.as_str()), 0),
        ] {
            assert_eq!(sessions(key), expected, "{key:?}");
        }
        assert!(USER_AGENT.contains(VERSION));
    }
}
