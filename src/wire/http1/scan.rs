//! Looks through the short pieces that heads are made of, eight bytes at a time: for so few, a call
//! of a wide search costs more than the search.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where `byte` is first.
pub(super) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        // The lowest mark is right: what is borrowed goes upwards, and only from a hit.
        let hits = word.wrapping_sub(ONES) & !word & HIGHS;
        if hits != 0 {
            return Some(at * 8 + first(hits));
        }
    }
    let found = rest.iter().position(|&found| found == byte)?;
    Some(words.len() * 8 + found)
}

/// How many bytes at the front are visible ASCII or spaces, as nearly everything in a head is.
pub(super) fn visible(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Below a space by borrowing, DEL by carrying, and above by the highest bit; again only the
        // lowest mark is looked at.
        let below = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
        let odd = (below | word.wrapping_add(ONES) | word) & HIGHS;
        if odd != 0 {
            return at * 8 + first(odd);
        }
    }
    let odd = |byte: &u8| !matches!(byte, b' '..=b'~');
    words.len() * 8 + rest.iter().position(odd).unwrap_or(rest.len())
}

/// Whether a token is this name, in any case. The name has lower-case letters and hyphens only: then
/// no other byte of a token differs from one of its own in nothing but the bit of the case.
pub(super) fn is_name(token: &[u8], name: &str) -> bool {
    const CASES: u64 = 0x2020_2020_2020_2020;
    debug_assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-')), "{name}");
    if token.len() != name.len() {
        return false;
    }
    let (words, rest) = token.as_chunks::<8>();
    let (name_words, name_rest) = name.as_bytes().as_chunks::<8>();
    let same = |word: &[u8; 8], name: &[u8; 8]| {
        u64::from_le_bytes(*word) | CASES == u64::from_le_bytes(*name)
    };
    words.iter().zip(name_words).all(|(word, name)| same(word, name))
        && rest.iter().zip(name_rest).all(|(byte, name)| byte | 0x20 == *name)
}

/// The byte that the lowest mark stands for.
const fn first(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::fields::TOKEN;
    use proptest::prelude::*;

    #[test]
    fn every_byte_is_told_at_every_place() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    let plain = (b' '..=b'~').contains(&byte);
                    assert_eq!(visible(&bytes), if plain { length } else { at }, "{byte} {at}");
                    let found = if byte == b'a' { 0 } else { at };
                    assert_eq!(find(&bytes, byte), Some(found), "{byte} {at}");
                }
            }
        }
        assert_eq!((find(b"", 0), visible(b""), find(&[1; 20], 0)), (None, 0, None));
    }

    #[test]
    fn names_are_told_in_any_case_and_from_any_other_token() {
        for name in ["te", "host", "connection", "content-length", "transfer-encoding", ""] {
            assert!(is_name(name.as_bytes(), name));
            assert!(is_name(name.to_ascii_uppercase().as_bytes(), name));
            for at in 0..name.len() {
                for byte in (0..=255_u8).filter(|&byte| TOKEN[usize::from(byte)]) {
                    let mut token = name.as_bytes().to_vec();
                    token[at] = byte;
                    let same = token.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(is_name(&token, name), same, "{}", token.escape_ascii());
                }
            }
        }
        assert!(!is_name(b"hos", "host") && !is_name(b"hostx", "host"));
    }

    proptest! {
        #[test]
        fn equals_a_search_byte_by_byte(bytes in proptest::collection::vec(any::<u8>(), 0..70), byte in any::<u8>()) {
            prop_assert_eq!(find(&bytes, byte), bytes.iter().position(|&found| found == byte));
            let odd = |byte: &u8| !(b' '..=b'~').contains(byte);
            prop_assert_eq!(visible(&bytes), bytes.iter().position(odd).unwrap_or(bytes.len()));
        }
    }
}
