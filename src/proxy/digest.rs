//! SHA-256 (FIPS 180-4), of the library that TLS uses.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use std::fmt::Write as _;

/// Tells contents apart: nobody can make two that have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of a content. The `kind` keeps contents of one sort apart from those of another.
    pub(crate) fn of(kind: &str, content: &[u8]) -> Self {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else {
            return Self::default();
        };
        let mut hash = suite.common.hash_provider.start();
        hash.update(kind.as_bytes());
        hash.update(&[0]);
        hash.update(content);
        let output = hash.finish();
        let mut digest = Self::default();
        for (byte, known) in digest.0.iter_mut().zip(output.as_ref()) {
            *byte = *known;
        }
        digest
    }

    /// The first half, in hexadecimal: 32 characters.
    pub(crate) fn short(&self) -> String {
        self.0.iter().take(16).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_of_kind_and_content() {
        // printf 'a\0bc' | sha256sum
        assert_eq!(Digest::of("a", b"bc").short(), "40bb547d936bbd31318ee37ac8799e7e");
        assert_ne!(Digest::of("a", b"bc"), Digest::of("ab", b"c"));
    }
}
