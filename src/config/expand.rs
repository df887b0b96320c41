//! `${NAME}` and `${NAME:-default}` in the strings of a configuration file.

/// Replaces every `${NAME}` by what `var` says of it. `${NAME:-text}` is `text` when the variable
/// is missing or empty; `$$` is a dollar sign. A replacement is not expanded again.
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
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err(format!("`${{{inside}}}` does not hold the name of a variable"));
            }
            match (var(name).filter(|value| !value.is_empty()), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => return Err(format!("missing or empty env var: {name}")),
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
