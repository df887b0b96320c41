//! Secrets in the words of others.

/// Takes a secret out of a text, also one of which only the beginning is there: texts of upstreams are
/// cut somewhere.
pub(crate) fn take_out(secret: &str, text: &mut String) {
    /// What comes of a shorter beginning is nothing, and it may be what all secrets begin with.
    const BYTES_MIN: usize = 12;
    let least = secret.char_indices().map(|(at, _)| at).find(|at| *at >= BYTES_MIN);
    let begin = secret.get(..least.unwrap_or(secret.len())).unwrap_or_default();
    if begin.is_empty() || !text.contains(begin) {
        return;
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some((before, from)) = rest.find(begin).and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        out.push_str("[redacted]");
        let alike = from.chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        let bytes: usize = alike.map(|(one, _)| one.len_utf8()).sum();
        rest = from.get(bytes..).unwrap_or_default();
    }
    out.push_str(rest);
    *text = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_out_wherever_it_is_cut() {
        const SECRET: &str = "eyJhbGciOiJkaXIi.abc";
        for (text, expected) in [
            ("bad token: eyJhbGciOiJkaXIi.abc!", "bad token: [redacted]!"),
            ("(eyJhbGciOiJk...) and eyJhbGciOiJkaXIi.a", "([redacted]...) and [redacted]"),
            ("eyJhbGciOiJkaXIi.abceyJhbGciOiJkaXIi.abc", "[redacted][redacted]"),
            ("tokens begin with eyJhbGci", "tokens begin with eyJhbGci"),
            ("", ""),
        ] {
            let mut said = text.to_owned();
            take_out(SECRET, &mut said);
            assert_eq!(said, expected);
        }
        let mut said = "the word pass is in password, пароль".to_owned();
        take_out("pass", &mut said);
        take_out("", &mut said);
        take_out("пароль", &mut said);
        assert_eq!(said, "the word [redacted] is in [redacted]word, [redacted]");
    }
}
