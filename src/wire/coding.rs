//! Content codings of request bodies (RFC 9110, section 8.4; `zstd`: RFC 8878), decoded under a
//! limit: a few bytes can ask for terabytes.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fmt;

/// Largest window, in bytes, that a frame may ask for where the body's own limit is smaller: what
/// RFC 8878, section 3.1.1.1.2, wants every decoder to support.
const WINDOW_BYTES_USUAL: usize = 8 * 1024 * 1024;

/// Largest window, in bytes, however large the body may be.
const WINDOW_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Most frames in one body. A frame without content costs its sender nine bytes and us a decoder.
const FRAMES_MAX: usize = 1024;

/// Why a body was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The coding is not one of [`ACCEPTED`].
    Unsupported,
    /// The content, or the memory that is needed to decode it, exceeds the limit.
    TooLarge,
    /// The body is not what its coding says, or is cut.
    Bad,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "a content coding other than zstd or identity",
            Self::TooLarge => "larger than the limit when decoded",
            Self::Bad => "not valid data of its content coding, or cut short",
        })
    }
}

impl std::error::Error for Refused {}

/// The codings that [`decode`] knows, as `Accept-Encoding` lists them.
pub const ACCEPTED: &str = "zstd, identity";

/// True when `coding` leaves the body as it is, so that nothing needs to be decoded.
#[must_use]
pub fn is_identity(coding: &str) -> bool {
    let coding = coding.trim_matches([' ', '\t']);
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

/// Decodes a whole body. `coding` is the value of `Content-Encoding`; `bytes_max` bounds the result,
/// and (with some for the decoder itself) the memory used on the way.
///
/// # Errors
/// [`Refused`] says which of the three reasons.
pub fn decode(coding: &str, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refused> {
    if is_identity(coding) {
        return if body.len() > bytes_max { Err(Refused::TooLarge) } else { Ok(body.to_vec()) };
    }
    if coding.trim_matches([' ', '\t']).eq_ignore_ascii_case("zstd") {
        return zstd(body, bytes_max);
    }
    Err(Refused::Unsupported)
}

/// Decodes one or more frames, one behind the other, with skippable frames between them.
fn zstd(mut rest: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    for _ in 0..FRAMES_MAX {
        zstd_frame(&mut rest, bytes_max, &mut out)?;
        if rest.is_empty() {
            return Ok(out);
        }
    }
    Err(Refused::TooLarge)
}

/// Takes one frame off the front of `rest` and appends its content to `out`.
fn zstd_frame(rest: &mut &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refused> {
    let window_bytes_max = bytes_max.clamp(WINDOW_BYTES_USUAL, WINDOW_BYTES_MAX);
    // A decoder that is used again allocates the window it is told; a fresh one, as it fills.
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(window_bytes_max as u64);
    match decoder.init(&mut *rest) {
        Ok(()) => {}
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
            length,
            ..
        })) => {
            let length = usize::try_from(length).map_err(|_| Refused::Bad)?;
            *rest = rest.get(length..).ok_or(Refused::Bad)?;
            return Ok(());
        }
        Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Err(Refused::TooLarge),
        Err(_) => return Err(Refused::Bad),
    }
    if decoder.content_size() > (bytes_max - out.len()) as u64 {
        return Err(Refused::TooLarge);
    }
    let before = out.len();
    while !decoder.is_finished() {
        decoder
            .decode_blocks(&mut *rest, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| Refused::Bad)?;
        if decoder.can_collect() > bytes_max - out.len() {
            return Err(Refused::TooLarge);
        }
        decoder.collect_to_writer(&mut *out).map_err(|_| Refused::Bad)?;
    }
    let (sent, found) = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
    if sent.is_some() && sent != found {
        return Err(Refused::Bad);
    }
    // Zero also stands for a size that was not given.
    let size = decoder.content_size();
    if size != 0 && size != (out.len() - before) as u64 {
        return Err(Refused::Bad);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const MIB: usize = 1024 * 1024;

    fn pack(plain: &[u8]) -> Vec<u8> {
        compress_to_vec(plain, CompressionLevel::Fastest)
    }

    /// A frame header for a window of 8 MiB, without content size and checksum.
    fn header() -> Vec<u8> {
        vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3]
    }

    /// A block that is one byte, `length` times.
    fn run(byte: u8, length: u32, last: bool) -> [u8; 4] {
        let [a, b, c, _] = (length << 3 | 1 << 1 | u32::from(last)).to_le_bytes();
        [a, b, c, byte]
    }

    fn sample(bytes: usize) -> Vec<u8> {
        let line = |n: usize| format!("{{\"n\":{n},\"text\":\"line {}\"}}\n", n * n % 1009);
        (0..).flat_map(|n| line(n).into_bytes()).take(bytes).collect()
    }

    #[test]
    fn identity_is_a_copy_within_the_limit() {
        for coding in ["", "identity", "Identity", " identity\t"] {
            assert!(is_identity(coding));
            assert_eq!(decode(coding, b"abc", 3), Ok(b"abc".to_vec()));
            assert_eq!(decode(coding, b"abcd", 3), Err(Refused::TooLarge));
        }
    }

    #[test]
    fn unknown_codings_are_named_so() {
        for coding in ["gzip", "br", "deflate", "zstd, zstd", "identity, zstd", "zstd;q=1", "x"] {
            assert_eq!(decode(coding, b"", 9), Err(Refused::Unsupported), "{coding}");
        }
    }

    #[test]
    fn what_was_packed_comes_back() {
        for bytes in [0, 1, 100, 128 * 1024, 3 * MIB] {
            let plain = sample(bytes);
            let packed = pack(&plain);
            for coding in ["zstd", "ZSTD", " zstd "] {
                assert_eq!(decode(coding, &packed, bytes).as_ref(), Ok(&plain), "{bytes} bytes");
            }
            if bytes > 0 {
                assert_eq!(decode("zstd", &packed, bytes - 1), Err(Refused::TooLarge));
            }
        }
    }

    #[test]
    fn several_frames_are_one_body() {
        let mut body = pack(b"one, ");
        body.extend_from_slice(b"\x52\x2a\x4d\x18\x03\0\0\0xyz");
        body.extend_from_slice(&pack(b""));
        body.extend_from_slice(&pack(b"two"));
        assert_eq!(decode("zstd", &body, 8), Ok(b"one, two".to_vec()));
        assert_eq!(decode("zstd", &body, 7), Err(Refused::TooLarge));
        body.push(0);
        assert_eq!(decode("zstd", &body, 8), Err(Refused::Bad), "a byte behind the last frame");
    }

    #[test]
    fn a_cut_body_is_bad_wherever_it_is_cut() {
        let packed = pack(&sample(5000));
        for at in 0..packed.len() {
            assert_eq!(decode("zstd", &packed[..at], MIB), Err(Refused::Bad), "cut at {at}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_bad() {
        let mut packed = pack(&sample(5000));
        assert!(packed[4] & 4 != 0, "the encoder writes a checksum");
        if let Some(last) = packed.last_mut() {
            *last ^= 1;
        }
        assert_eq!(decode("zstd", &packed, MIB), Err(Refused::Bad));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let mut bomb = header();
        for _ in 0..100_000 {
            bomb.extend_from_slice(&run(b'a', 128 * 1024, false));
        }
        bomb.extend_from_slice(&run(b'a', 1, true));
        assert_eq!(decode("zstd", &bomb, MIB), Err(Refused::TooLarge));
        let frames = [header(), run(b'a', 128 * 1024, true).to_vec()].concat().repeat(9);
        assert_eq!(decode("zstd", &frames, MIB), Err(Refused::TooLarge));
        assert_eq!(decode("zstd", &frames, 9 * MIB / 8).map(|plain| plain.len()), Ok(9 * MIB / 8));
    }

    #[test]
    fn a_hostile_window_is_refused_before_any_content() {
        let last = run(b'a', 1, true);
        let frame = |exponent: u8| {
            let mut frame = header();
            frame[5] = exponent << 3;
            [&frame[..], &last].concat()
        };
        // 2^(10+exponent) bytes.
        assert_eq!(decode("zstd", &frame(13), 10), Ok(b"a".to_vec()));
        assert_eq!(decode("zstd", &frame(14), 10), Err(Refused::TooLarge));
        assert_eq!(decode("zstd", &frame(14), 16 * MIB), Ok(b"a".to_vec()));
        assert_eq!(decode("zstd", &frame(18), 1 << 40), Err(Refused::TooLarge));
        assert!(decode("zstd", &frame(31), usize::MAX).is_err());
    }

    #[test]
    fn a_declared_size_is_kept_or_refused() {
        let sized = |size: u64, content: &[u8]| {
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
            frame.extend_from_slice(&size.to_le_bytes());
            frame.extend_from_slice(content);
            frame
        };
        let content = run(b'a', 2000, true);
        assert_eq!(decode("zstd", &sized(2000, &content), MIB), Ok(vec![b'a'; 2000]));
        assert_eq!(decode("zstd", &sized(2001, &content), MIB), Err(Refused::Bad));
        assert_eq!(decode("zstd", &sized(u64::MAX, &content), MIB), Err(Refused::TooLarge));
    }

    #[test]
    fn a_foreign_dictionary_is_refused() {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b0000_0001, 13 << 3, 7];
        frame.extend_from_slice(&run(b'a', 1, true));
        assert_eq!(decode("zstd", &frame, MIB), Err(Refused::Bad));
    }

    #[test]
    fn endless_empty_frames_are_refused() {
        let empty = pack(b"");
        assert_eq!(decode("zstd", &empty.repeat(FRAMES_MAX), MIB), Ok(Vec::new()));
        assert_eq!(decode("zstd", &empty.repeat(FRAMES_MAX + 1), MIB), Err(Refused::TooLarge));
    }

    proptest! {
        #[test]
        fn damaged_bodies_are_errors(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            size in 0usize..20_000,
        ) {
            let mut packed = pack(&sample(size));
            let at = at.index(packed.len());
            packed[at] = byte;
            fuzzing::coding(&packed);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzzing::coding(&[header(), bytes].concat());
        }
    }
}
