//! `data:` URLs (RFC 2397): a media type and the content itself.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use std::fmt;

/// Longest media type with its parameters.
const MEDIA_BYTES_MAX: usize = 256;

/// The standard alphabet; the padding may be missing, as some encoders leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A data URL in base64, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataUrl<'a> {
    /// The media type without its parameters, as it is written; may be empty.
    pub media: &'a str,
    /// The content, in base64.
    data: &'a str,
}

/// Why a data URL is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It has no comma, or something unreadable in front of it.
    Form,
    /// Its content is not in base64.
    NotBase64,
    /// Its content says that it is in base64, and is not.
    Content,
    /// Its content has more bytes than allowed.
    TooLarge,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it is not of the form `data:TYPE;base64,CONTENT`",
            Self::NotBase64 => "its content is not marked as `;base64`",
            Self::Content => "its content is not valid base64",
            Self::TooLarge => "it is too large",
        })
    }
}

/// Whether a URL is of this scheme.
#[must_use]
pub fn is_data_url(url: &str) -> bool {
    url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

impl<'a> DataUrl<'a> {
    /// Takes a URL for which [`is_data_url`] holds apart. Its content is not looked at.
    ///
    /// # Errors
    /// The URL is not of that form.
    pub fn parse(url: &'a str) -> Result<Self, Bad> {
        let rest = url.get(5..).filter(|_| is_data_url(url)).ok_or(Bad::Form)?;
        // The content may be megabytes: the comma stands in front or nowhere.
        let front = rest.as_bytes().get(..MEDIA_BYTES_MAX).unwrap_or(rest.as_bytes());
        let comma = memchr::memchr(b',', front).ok_or(Bad::Form)?;
        let (head, data) = rest.split_at_checked(comma).ok_or(Bad::Form)?;
        let mut parts = head.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !media.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Bad::Form);
        }
        if !parts.next_back().is_some_and(|last| last.eq_ignore_ascii_case("base64")) {
            return Err(Bad::NotBase64);
        }
        Ok(Self { media, data: data.get(1..).unwrap_or_default() })
    }

    /// The content, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// It is no base64, or too long; the latter is known before anything is decoded.
    pub fn decode(self, bytes_max: usize) -> Result<Vec<u8>, Bad> {
        let data = self.data.as_bytes();
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        // Some encoders break lines; then it is copied without them.
        let data = match data.iter().any(blank) {
            true => Cow::Owned(data.iter().copied().filter(|byte| !blank(byte)).collect()),
            false => Cow::Borrowed(data),
        };
        let end = data.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        if end / 4 * 3 > bytes_max {
            return Err(Bad::TooLarge);
        }
        let bytes = BASE64.decode(&*data).map_err(|_| Bad::Content)?;
        if bytes.len() > bytes_max { Err(Bad::TooLarge) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, bytes_max: usize) -> Result<(String, Vec<u8>), Bad> {
        let parsed = DataUrl::parse(url)?;
        Ok((parsed.media.to_owned(), parsed.decode(bytes_max)?))
    }

    #[test]
    fn the_content_is_taken_out() {
        for (url, media, content) in [
            ("data:image/png;base64,aGVsbG8=", "image/png", "hello"),
            ("DATA:image/png;charset=x;BASE64,aGVsbG8", "image/png", "hello"),
            ("data:;base64,aGVs\r\nbG8=\n", "", "hello"),
            ("data:image/png;base64,", "image/png", ""),
            ("data:image/png; base64,+/+/", "image/png", "\u{fb}"),
        ] {
            let (read_media, bytes) = read(url, 5).unwrap();
            assert_eq!(read_media, media, "{url}");
            if content.is_ascii() {
                assert_eq!(bytes, content.as_bytes(), "{url}");
            } else {
                assert_eq!(bytes, [0xfb, 0xff, 0xbf], "{url}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let long = format!("data:image/png;{};base64,AA==", "x".repeat(MEDIA_BYTES_MAX));
        for (url, why) in [
            ("", Bad::Form),
            ("data", Bad::Form),
            ("data:", Bad::Form),
            ("https://x.example/a,b", Bad::Form),
            ("data:image/png;base64", Bad::Form),
            ("data:image /png;base64,AA==", Bad::Form),
            ("data:б;base64,AA==", Bad::Form),
            (long.as_str(), Bad::Form),
            ("data:image/png,AA==", Bad::NotBase64),
            ("data:,AA==", Bad::NotBase64),
            ("data:base64,AA==", Bad::NotBase64),
            ("data:image/png;base64;x=y,AA==", Bad::NotBase64),
            ("data:image/png;base64,A", Bad::Content),
            ("data:image/png;base64,A===", Bad::Content),
            ("data:image/png;base64,AA=A", Bad::Content),
            ("data:image/png;base64,-_-_", Bad::Content),
            ("data:image/png;base64,aGVs%62", Bad::Content),
            ("data:image/png;base64,aGVsbG8h", Bad::TooLarge),
            ("data:image/png;base64,aGVsbG8haGVs", Bad::TooLarge),
        ] {
            assert_eq!(read(url, 5).unwrap_err(), why, "{url}");
        }
    }
}
