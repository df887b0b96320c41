//! Strings at the front of bytes that nobody has looked at yet.

use super::text::{Escape, escape_len, plain_len};

/// The inside of the JSON string whose opening quote stands just before `bytes`, checked as
/// [`Cursor::string`](super::Cursor::string) checks it, UTF-8 too. `None` when it is not valid or
/// does not end in `bytes`.
#[must_use]
pub fn string_inside(bytes: &[u8]) -> Option<&str> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let plain = plain_len(rest);
        at += plain;
        match rest.get(plain)? {
            b'"' => return std::str::from_utf8(bytes.get(..at)?).ok(),
            b'\\' => match escape_len(rest.get(plain..)?) {
                Escape::Whole(used) => at += used,
                Escape::Cut | Escape::Bad => return None,
            },
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cursor, Escaped};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_cursor(bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(b'u'), Just(b'n'), Just(b'0'), any::<u8>()],
            0..40,
        )) {
            let mut quoted = vec![b'"'];
            quoted.extend_from_slice(&bytes);
            let valid = match std::str::from_utf8(&quoted) {
                Ok(text) => text,
                Err(bad) => std::str::from_utf8(&quoted[..bad.valid_up_to()]).unwrap(),
            };
            let expected = Cursor::new(valid).string().ok().map(Escaped::raw);
            prop_assert_eq!(string_inside(&bytes), expected);
        }
    }
}
