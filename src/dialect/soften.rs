//! An upstream that refuses a parameter by name gets the same request once more without it, if the
//! parameter only tunes the answer. So a vendor nobody has described yet works at its second request.

use crate::fault::Failure;
use crate::wire::json::{self, Cursor};
use std::ops::Range;

/// A parameter that a request can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optional {
    /// The member of the request's top-level object.
    pub name: &'static str,
    /// The name that the same value has at other upstreams, to be tried before it is left out.
    pub other_name: Option<&'static str>,
}

impl Optional {
    /// A parameter that is left out when refused.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, other_name: None }
    }

    /// A parameter that is renamed when refused.
    #[must_use]
    pub const fn renamed(name: &'static str, other_name: &'static str) -> Self {
        Self { name, other_name: Some(other_name) }
    }
}

/// Which of the `optional` parameters of the sent `body` an upstream's refusal is about: the one
/// that its `param` names, or its message as a whole word. `None` for any failure that is not a
/// refusal of the request as such (400, 422).
#[must_use]
pub fn refused(failure: &Failure, body: &str, optional: &[Optional]) -> Option<Optional> {
    if !matches!(failure.status(), 400 | 422) {
        return None;
    }
    let param = failure.param.as_deref().unwrap_or_default();
    let param = param.split(['.', '[']).next().unwrap_or_default();
    let named = |optional: &&Optional| {
        optional.name == param || (param.is_empty() && has_word(&failure.message, optional.name))
    };
    optional.iter().filter(named).find(|optional| member(body, optional.name).is_some()).copied()
}

/// Appends `body` without the parameter, or with its other name. False, and nothing appended, when
/// the body does not have it.
pub fn apply(body: &str, optional: Optional, out: &mut Vec<u8>) -> bool {
    let Some(found) = member(body, optional.name) else { return false };
    if let Some(other) = optional.other_name
        && member(body, other).is_none()
    {
        out.extend_from_slice(&body.as_bytes()[..found.name.start]);
        json::escape(other, out);
        out.extend_from_slice(&body.as_bytes()[found.name.end..]);
        return true;
    }
    out.extend_from_slice(&body.as_bytes()[..found.whole.start]);
    out.extend_from_slice(&body.as_bytes()[found.whole.end..]);
    true
}

/// Where a member of the top-level object stands.
struct Member {
    /// The inside of the quotes of its name.
    name: Range<usize>,
    /// Name, value and one comma beside them.
    whole: Range<usize>,
}

fn member(body: &str, name: &str) -> Option<Member> {
    let mut found = None;
    let mut cursor = Cursor::new(body);
    let mut previous_end = body.find('{')? + 1;
    cursor
        .object(|key, cursor| {
            let value = cursor.position();
            cursor.skip()?;
            if key == name {
                let quote = format!("\"{name}\"");
                let at = body[previous_end..value].find(&quote).map(|at| previous_end + at);
                found = at.map(|at| (at, cursor.position()));
            }
            previous_end = cursor.position();
            Ok(())
        })
        .ok()?;
    let (start, end) = found?;
    let before = body[..start].trim_end();
    let after = body[end..].trim_start();
    let whole = if after.starts_with(',') {
        start..body.len() - after.len() + 1
    } else if before.ends_with(',') {
        before.len() - 1..end
    } else {
        start..end
    };
    Some(Member { name: start + 1..start + 1 + name.len(), whole })
}

/// True when `text` holds `word` with no letter, digit or underscore on either side.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Kind};

    const OPTIONAL: &[Optional] = &[
        Optional::new("stream_options"),
        Optional::renamed("max_tokens", "max_completion_tokens"),
        Optional::new("max_completion_tokens"),
    ];

    fn refusal(message: &str, param: Option<&str>) -> Failure {
        let mut failure = Failure::new(Fault::upstream(Kind::BadRequest), message);
        failure.param = param.map(str::to_owned);
        failure
    }

    #[test]
    fn finds_the_parameter_that_a_refusal_names() {
        let body = r#"{"model":"m","stream_options":{"include_usage":true},"max_tokens":5}"#;
        for (message, param, expected) in [
            ("Unknown parameter: 'stream_options'.", None, Some("stream_options")),
            ("no", Some("stream_options.include_usage"), Some("stream_options")),
            ("max_tokens is not supported, use max_completion_tokens", None, Some("max_tokens")),
            ("'max_completion_tokens' is unknown", None, None),
            ("stream_options_x is unknown", None, None),
            ("messages are wrong; stream_options", Some("messages"), None),
        ] {
            let found = refused(&refusal(message, param), body, OPTIONAL);
            assert_eq!(found.map(|found| found.name), expected, "{message}");
        }
        let other = Failure::new(Fault::upstream(Kind::RateLimited), "stream_options");
        assert_eq!(refused(&other, body, OPTIONAL), None);
    }

    #[test]
    fn takes_a_member_out_and_leaves_valid_json() {
        for (body, expected) in [
            (r#"{"stream_options":{"a":[1,2]},"m":1}"#, r#"{"m":1}"#),
            (r#"{"m":1 , "stream_options" : {"stream_options":1} }"#, r#"{"m":1  }"#),
            (r#"{"stream_options":null}"#, "{}"),
            (
                r#"{"a":"\"stream_options\":","stream_options":1,"b":2}"#,
                r#"{"a":"\"stream_options\":","b":2}"#,
            ),
        ] {
            let mut out = Vec::new();
            assert!(apply(body, OPTIONAL[0], &mut out));
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
        assert!(!apply(r#"{"m":{"stream_options":1}}"#, OPTIONAL[0], &mut Vec::new()));
    }

    #[test]
    fn renames_a_member_unless_the_other_name_is_taken() {
        let mut out = Vec::new();
        assert!(apply(r#"{"a":1,"max_tokens":5}"#, OPTIONAL[1], &mut out));
        assert_eq!(out, br#"{"a":1,"max_completion_tokens":5}"#);
        out.clear();
        assert!(apply(r#"{"max_completion_tokens":1,"max_tokens":5}"#, OPTIONAL[1], &mut out));
        assert_eq!(out, br#"{"max_completion_tokens":1}"#);
    }
}
