//! A request's body while it comes: text that is checked piece by piece, so that a large one takes no
//! long look at its end.

/// Longest part of a character that a piece can end with.
const CUT_BYTES_MAX: usize = 3;

/// The content of a request's body as far as it came.
#[derive(Debug)]
pub(crate) enum Content {
    /// UTF-8 so far.
    Text {
        /// Whole characters.
        text: String,
        /// The begin of the next one.
        cut: Cut,
    },
    /// Under a content coding, or not UTF-8.
    Bytes(Vec<u8>),
}

/// The begin of a character whose other bytes have not come yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    bytes: [u8; CUT_BYTES_MAX],
    len: usize,
}

impl Cut {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Text { text: String::new(), cut: Cut::default() }
    }
}

impl Content {
    /// Nothing yet, of a body with a content coding.
    pub(crate) const fn coded() -> Self {
        Self::Bytes(Vec::new())
    }

    /// Bytes that came.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text { text, cut } => text.len() + cut.len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Bytes that there is room for in all.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
        }
    }

    /// Makes room for so many more bytes.
    pub(crate) fn reserve(&mut self, more: usize) {
        match self {
            Self::Text { text, .. } => text.reserve_exact(more),
            Self::Bytes(bytes) => bytes.reserve_exact(more),
        }
    }

    /// Before anything came: puts it into memory that is used again.
    pub(crate) fn move_into(&mut self, mut memory: Vec<u8>) {
        memory.clear();
        match self {
            // What is empty is UTF-8.
            Self::Text { text, .. } if text.is_empty() => {
                *text = String::from_utf8(memory).unwrap_or_default();
            }
            Self::Bytes(bytes) if bytes.is_empty() => *bytes = memory,
            _ => {}
        }
    }

    /// Adds what came.
    pub(crate) fn push(&mut self, mut data: &[u8]) {
        let (text, cut) = match self {
            Self::Text { text, cut } => (text, cut),
            Self::Bytes(bytes) => return bytes.extend_from_slice(data),
        };
        // A character that the last piece began; at most three times.
        while cut.len > 0
            && let [byte, rest @ ..] = data
        {
            let mut char_bytes = [0; CUT_BYTES_MAX + 1];
            char_bytes[..cut.len].copy_from_slice(cut.bytes());
            char_bytes[cut.len] = *byte;
            match std::str::from_utf8(&char_bytes[..=cut.len]) {
                Ok(whole) => {
                    text.push_str(whole);
                    cut.len = 0;
                }
                Err(bad) if bad.error_len().is_none() => {
                    cut.bytes[cut.len] = *byte;
                    cut.len += 1;
                }
                Err(_) => return self.give_up(data),
            }
            data = rest;
        }
        match std::str::from_utf8(data) {
            Ok(whole) => text.push_str(whole),
            Err(bad) => {
                let (whole, rest) = data.split_at(bad.valid_up_to());
                text.push_str(std::str::from_utf8(whole).unwrap_or_default());
                if bad.error_len().is_some() {
                    return self.give_up(rest);
                }
                cut.len = rest.len().min(CUT_BYTES_MAX);
                cut.bytes[..cut.len].copy_from_slice(&rest[..cut.len]);
            }
        }
    }

    /// It is not text: goes on with bytes.
    #[cold]
    fn give_up(&mut self, data: &[u8]) {
        let mut bytes = std::mem::take(self).into_bytes();
        bytes.extend_from_slice(data);
        *self = Self::Bytes(bytes);
    }

    /// The bytes that came.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text { text, cut } => {
                let mut bytes = text.into_bytes();
                bytes.extend_from_slice(cut.bytes());
                bytes
            }
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The whole body as text; the bytes when it is none.
    pub(crate) fn into_text(self) -> Result<String, Vec<u8>> {
        match self {
            Self::Text { text, cut } if cut.len == 0 => Ok(text),
            other => Err(other.into_bytes()),
        }
    }

    /// The bytes that came, but for those of a character that has not come whole.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text { text, .. } => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pushed(pieces: &[&[u8]]) -> Content {
        let mut content = Content::default();
        pieces.iter().for_each(|piece| content.push(piece));
        content
    }

    fn check(bytes: &[u8], cuts: (usize, usize)) {
        let (first, second) = (cuts.0.min(cuts.1), cuts.0.max(cuts.1));
        let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let expected =
            String::from_utf8(bytes.to_vec()).map_err(std::string::FromUtf8Error::into_bytes);
        for content in [pushed(&pieces), pushed(&single), pushed(&[bytes])] {
            assert_eq!(content.len(), bytes.len());
            assert_eq!(content.into_text(), expected, "{bytes:?} cut at {first} and {second}");
        }
    }

    #[test]
    fn text_is_text_wherever_it_is_cut() {
        for bytes in [
            "aé漢😀z".as_bytes(),
            b"a\xff\xc3\xa9",
            b"\xed\xa0\x80",
            b"\xf0\x9f\x98",
            b"\xf0\x9f\x98a",
            b"\xc3",
            b"\xe6\xbc\xa2\xe6\xbc",
            b"\xf4\x90\x80\x80",
        ] {
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    check(bytes, (first, second));
                }
            }
        }
    }

    #[test]
    fn coded_bytes_are_no_text_and_memory_is_used_again() {
        let mut coded = Content::coded();
        coded.move_into(Vec::with_capacity(100));
        coded.push(b"abc");
        assert!(coded.capacity() >= 100);
        assert_eq!(coded.into_text(), Err(b"abc".to_vec()));
        let mut content = Content::default();
        content.move_into(b"old bytes of another client".to_vec());
        content.push(b"new");
        assert!(content.capacity() > 20);
        assert_eq!(content.as_bytes(), b"new");
        assert_eq!(content.into_text().as_deref(), Ok("new"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_as_a_whole(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(b'a'), Just(0xe6), Just(0xbc), Just(0xa2)],
                0..40,
            ),
            first in 0usize..41,
            second in 0usize..41,
        ) {
            check(&bytes, (first.min(bytes.len()), second.min(bytes.len())));
        }
    }
}
