//! `${NAME}`, `${NAME:-default}` and `${NAME:+text}` in the strings of a configuration file.

use super::value::switch;
use std::collections::BTreeSet;

/// Replaces every `${NAME}` by what `var` says of it. `${NAME:-text}` is `text` when the variable
/// is missing or empty. `${NAME:+text}` is `text` when the variable is switched on (it is not empty,
/// and none of `0`, `false`, `no`, `off`), else nothing; `${NAME:+text:-other}` is `other` then.
/// `$$` is a dollar sign. A replacement is not expanded again.
///
/// # Errors
/// Which variable is missing or empty, or what is wrong with the braces.
pub(super) fn expand(text: &str, var: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((inside, after)) = after.split_once('}') else {
                return Err("`${` without a closing `}`".to_owned());
            };
            let place = Reference::read(inside);
            let name = place.name;
            if !is_name(name) {
                return Err(format!("`${{{inside}}}` does not hold the name of a variable"));
            }
            let value = var(name).filter(|value| !value.is_empty());
            match (value, place.on, place.default) {
                (Some(value), None, _) => out.push_str(&value),
                (Some(value), Some(on), _) if switch(&value) != Some(false) => out.push_str(on),
                (_, _, Some(default)) => out.push_str(default),
                (_, Some(_), None) => {}
                (None, None, None) => return Err(format!("missing or empty env var: {name}")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The inside of one `${...}`.
struct Reference<'t> {
    name: &'t str,
    on: Option<&'t str>,
    default: Option<&'t str>,
}

impl<'t> Reference<'t> {
    fn read(inside: &'t str) -> Self {
        let (front, default) = match inside.split_once(":-") {
            Some((front, default)) => (front, Some(default)),
            None => (inside, None),
        };
        let (name, on) = match front.split_once(":+") {
            Some((name, on)) => (name, Some(on)),
            None => (front, None),
        };
        Self { name, on, default }
    }
}

/// Adds the names of the variables that a text refers to.
pub(super) fn names(text: &str, into: &mut BTreeSet<String>) {
    for part in text.split("${").skip(1) {
        let name = Reference::read(part.split('}').next().unwrap_or_default()).name;
        if is_name(name) {
            into.insert(name.to_owned());
        }
    }
}

/// Whether a text can be the name of an environment variable.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once() {
        let var = |name: &str| match name {
            "KEY" => Some("sk-${KEY}".to_owned()),
            "EMPTY" => Some(String::new()),
            "ON" => Some("True".to_owned()),
            "OFF" => Some("False".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("a${KEY}b", Ok("ask-${KEY}b")),
            ("${GONE:-x}${EMPTY:-y}${KEY:-z}", Ok("xysk-${KEY}")),
            ("${GONE:-}", Ok("")),
            ("$$ $ $5 a$", Ok("$ $ $5 a$")),
            ("$${KEY}", Ok("${KEY}")),
            ("${ON:+a}${KEY:+b}${OFF:+c}${GONE:+d}${EMPTY:+e}", Ok("ab")),
            ("${ON:+a:-b}${OFF:+a:-b}${GONE:+a:-b}", Ok("abb")),
            ("${:+a}", Err("`${:+a}` does not hold the name of a variable")),
            ("${GONE}", Err("missing or empty env var: GONE")),
            ("${EMPTY}", Err("missing or empty env var: EMPTY")),
            ("${KEY", Err("`${` without a closing `}`")),
            ("${}", Err("`${}` does not hold the name of a variable")),
            ("${1A}", Err("`${1A}` does not hold the name of a variable")),
        ] {
            let got = expand(text, &var);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
