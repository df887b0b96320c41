//! Images on their way to an upstream that takes them as files: found in a request, checked, and
//! uploaded before it.

use crate::config::Url;
use crate::fault::{Failure, Fault, Kind};
use crate::wire::data_url::{self, DataUrl};
use crate::wire::json;
use std::ops::Range;

/// Bytes of one image (GigaChat, "Обработка файлов": 15 MB).
pub const BYTES_MAX: usize = 15_000_000;
/// Characters of a file's id.
const ID_BYTES_MAX: usize = 128;
/// The error code of `OpenAI` for an image that cannot be had.
pub const URL_CODE: &str = "invalid_image_url";
/// Characters of a URL that are repeated to people.
const SHOWN_CHARS_MAX: usize = 100;

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "names of formats")]
pub enum Format {
    Jpeg,
    Png,
    Tiff,
    Bmp,
}

impl Format {
    /// The format that content is in, by how it begins; `None` for any other.
    #[must_use]
    pub fn of(content: &[u8]) -> Option<Self> {
        Some(match content {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Png,
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Self::Tiff,
            // The header's size tells a picture from a text that begins with "BM".
            [b'B', b'M', rest @ ..] if matches!(rest.get(12..16), Some([12..=124, 0, 0, 0])) => {
                Self::Bmp
            }
            _ => return None,
        })
    }

    /// Its media type.
    #[must_use]
    pub const fn media(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Tiff => "image/tiff",
            Self::Bmp => "image/bmp",
        }
    }

    /// How the names of its files end.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Tiff => "tiff",
            Self::Bmp => "bmp",
        }
    }
}

/// An image, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// The format that it really is in.
    pub format: Format,
    /// The file, at most [`BYTES_MAX`].
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    /// Never shows what a client sent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({:?}, {} bytes)", self.format, self.content.len())
    }
}

/// Where an image is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Inline(Picture),
    /// Behind an `https` URL, which is yet to be fetched.
    Url(String),
}

impl std::fmt::Debug for Source {
    /// Never shows what a client sent, nor a query, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(picture) => write!(f, "Inline({picture:?})"),
            Self::Url(url) => write!(f, "Url({})", shown(url)),
        }
    }
}

/// An image of a request, once however often the request shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its number among the request's images, from 1, for people.
    pub number: usize,
    /// Without it there is no answer. Any other is left out where it cannot be had.
    pub required: bool,
    /// Where it is.
    pub source: Source,
}

/// Where an image's id belongs in a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The offset in the body, inside an empty string.
    pub at: usize,
    /// The whole member that names the image, with the comma in front of it. Right before it stands
    /// the closing quote of the message's text.
    pub member: Range<usize>,
    /// Index of the image in [`Sent::images`](super::Sent::images).
    pub image: usize,
}

/// Appends the `body` with each image's id in its place, or without the image and with a note behind
/// the message's text: what `of` says of the image with this index. `None` when it says nothing.
#[must_use]
pub fn fill<'o>(
    body: &[u8],
    places: &[Place],
    of: impl Fn(usize) -> Option<Result<&'o str, &'o str>>,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len() + places.len() * 40);
    let mut from = 0;
    for place in places {
        match of(place.image)? {
            Ok(id) => {
                out.extend_from_slice(body.get(from..place.at)?);
                out.extend_from_slice(id.as_bytes());
                from = place.at;
            }
            Err(note) => {
                out.extend_from_slice(body.get(from..place.member.start.checked_sub(1)?)?);
                out.extend_from_slice(b"\\n");
                json::escape(note, &mut out);
                out.push(b'"');
                from = place.member.end;
            }
        }
    }
    out.extend_from_slice(body.get(from..)?);
    Some(out)
}

/// The note that stands for an image which does not go.
#[must_use]
pub fn left_out(failure: &Failure, number: usize) -> String {
    format!("[image left out: it {}]", why(failure, number))
}

/// Reads an image's URL. `number` is its number for people; `urls`: whether an `https` URL would be
/// fetched.
///
/// # Errors
/// 400, 413 or 415, and what to do.
pub fn read(url: &str, number: usize, urls: bool) -> Result<Source, Failure> {
    if data_url::is_data_url(url) {
        let read = DataUrl::parse(url)
            .and_then(|url| Ok((url.media, url.decode(BYTES_MAX)?)))
            .map_err(|why| match why {
                data_url::Bad::TooLarge => too_large(number),
                why => refused(number, Kind::BadRequest, &format!("cannot be read: {why}")),
            })?;
        let (media, content) = read;
        let format = check(&content, media, number)?;
        return Ok(Source::Inline(Picture { format, content }));
    }
    let https = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if https && urls {
        fetchable(url).map_err(|why| {
            let why = format!("cannot be fetched from `{}`: {why}", shown(url));
            refused(number, Kind::BadRequest, &why).with_code(URL_CODE)
        })?;
        return Ok(Source::Url(url.to_owned()));
    }
    let shown = shown(url);
    let why = match https {
        true => format!(
            "is a URL (`{shown}`), and images are not fetched here: send it as a data URL \
             (`data:image/png;base64,...`), or set `image_urls = true` for the provider"
        ),
        false => format!(
            "has the URL `{shown}`: send it as a data URL (`data:image/png;base64,...`){}",
            if urls { ", or by an https:// URL" } else { "" }
        ),
    };
    Err(refused(number, Kind::BadRequest, &why))
}

/// Reads the URL of an image that is to be fetched: `https`, and nothing secret in front of the host.
///
/// # Errors
/// What is wrong with it, in words for people.
pub fn fetchable(text: &str) -> Result<Url, String> {
    // A fragment is the client's own business.
    let text = text.split('#').next().unwrap_or_default();
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    if authority.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        return Err("no names and passwords are shown to its host".to_owned());
    }
    let url = Url::parse(text)?;
    if url.tls { Ok(url) } else { Err("only https:// URLs are fetched".to_owned()) }
}

/// Checks content that is said to be an image of this media type, and tells what it is.
///
/// # Errors
/// 413 or 415, and what to do.
pub fn check(content: &[u8], media: &str, number: usize) -> Result<Format, Failure> {
    if content.len() > BYTES_MAX {
        return Err(too_large(number));
    }
    Format::of(content).ok_or_else(|| {
        let said = if media.is_empty() { "something unknown" } else { media };
        let said: String = said.chars().take(SHOWN_CHARS_MAX).collect();
        let why =
            format!("is {said}: send it as JPEG, PNG, TIFF or BMP, the upstream takes no other");
        refused(number, Kind::MediaType, &why)
    })
}

/// Whether a text can be the id of a file: short, and of characters that change nothing around it.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// A URL for people: without its query, which may be a secret, and short.
#[must_use]
pub fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let url = match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').map_or(rest, |(host, _)| host) {
            host if host.contains('@') => return format!("{scheme}://..."),
            _ => url,
        },
        None => url,
    };
    url.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

/// 413 for an image of more than [`BYTES_MAX`].
#[must_use]
pub fn too_large(number: usize) -> Failure {
    let why = format!("has more than {} MB: send a smaller one", BYTES_MAX / 1_000_000);
    refused(number, Kind::TooLarge, &why)
}

/// A failure that names the image; its code is one of OpenAI's for images.
#[must_use]
pub fn refused(number: usize, kind: Kind, why: &str) -> Failure {
    let code = match kind {
        Kind::TooLarge => "image_too_large",
        Kind::MediaType => "unsupported_image_media_type",
        _ => "invalid_image",
    };
    let message = format!("{}{why}", named(number));
    Failure::new(Fault::client(kind), message).with_param("image_url").with_code(code)
}

/// What [`refused`] was told, without the image's number.
fn why(failure: &Failure, number: usize) -> &str {
    failure.message.strip_prefix(&named(number)).unwrap_or(&failure.message)
}

/// How a message about an image begins.
#[must_use]
pub fn named(number: usize) -> String {
    format!("image {number} of the request ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n0123";

    fn data_url(media: &str, content: &[u8]) -> String {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        format!("data:{media};base64,{content}")
    }

    #[test]
    fn a_format_is_known_by_its_first_bytes() {
        let bmp = |size: u8| [&b"BM\0\0\0\0\0\0\0\0\x36\0\0\0"[..], &[size, 0, 0, 0]].concat();
        for (content, format) in [
            (PNG, Some(Format::Png)),
            (b"\xff\xd8\xff\xe0", Some(Format::Jpeg)),
            (b"II\x2a\0", Some(Format::Tiff)),
            (b"MM\0\x2a", Some(Format::Tiff)),
            (&bmp(40), Some(Format::Bmp)),
            (&bmp(0), None),
            (b"BMW drives", None),
            (b"GIF89a", None),
            (b"RIFF\0\0\0\0WEBPVP8 ", None),
            (b"<svg", None),
            (b"", None),
        ] {
            assert_eq!(Format::of(content), format, "{content:?}");
        }
    }

    #[test]
    fn a_data_url_is_checked_for_what_it_holds() {
        // What it is decides, not what it is called.
        let Ok(Source::Inline(picture)) = read(&data_url("image/jpeg", PNG), 1, false) else {
            panic!("refused")
        };
        assert_eq!((picture.format, &picture.content[..]), (Format::Png, PNG));
        let large = [PNG, &vec![0; BYTES_MAX]].concat();
        for (url, status, words) in [
            (
                data_url("image/webp", b"RIFF\0\0\0\0WEBP"),
                415,
                "image 3 of the request is image/webp",
            ),
            (data_url("", b"hello"), 415, "something unknown"),
            (data_url("image/png", &large), 413, "more than 15 MB"),
            ("data:image/png;base64,@@@@".to_owned(), 400, "base64"),
            ("data:image/png,x".to_owned(), 400, ";base64"),
            ("file:///etc/passwd".to_owned(), 400, "send it as a data URL"),
            ("http://x.example/a.png".to_owned(), 400, "`http://x.example/a.png`"),
            ("https://x.example/a.png?sig=secret".to_owned(), 400, "image_urls = true"),
            (String::new(), 400, "data URL"),
        ] {
            let failure = read(&url, 3, false).unwrap_err();
            assert_eq!(failure.status(), status, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
            assert!(!failure.message.contains("secret"), "{failure}");
            assert_eq!(failure.param.as_deref(), Some("image_url"));
        }
    }

    #[test]
    fn an_https_url_is_taken_where_they_are_fetched() {
        let url = "HTTPS://x.example/a.png";
        assert_eq!(read(url, 1, true), Ok(Source::Url(url.to_owned())));
        for url in ["https://user:secret@x.example/a.png", "https://", "https://x.example/a b"] {
            let failure = read(url, 1, true).unwrap_err();
            assert_eq!(failure.code(), URL_CODE, "{failure}");
            assert!(!failure.message.contains("secret"), "{failure}");
        }
        let failure = read("http://x.example/a.png", 1, true).unwrap_err();
        assert!(failure.message.contains("https:// URL"), "{failure}");
    }

    #[test]
    fn what_is_shown_of_a_url_is_no_secret() {
        for (url, expected) in [
            ("https://x.example/a?b#c", "https://x.example/a"),
            ("https://user:pass@x.example/a", "https://..."),
            ("https://x.example/@a", "https://x.example/@a"),
            ("a\nb", "ab"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn a_body_is_filled_with_ids_and_notes() {
        let body = br#"[{"c":"a","f":[""]},{"c":"b","f":[""]}]"#;
        let place = |image: usize, at: usize| Place { at, member: at - 7..at + 2, image };
        let places = [place(0, 16), place(1, 35)];
        let filled = fill(body, &places, |image| match image {
            0 => Some(Err("no \"x\"")),
            _ => Some(Ok("id")),
        });
        let expected = r#"[{"c":"a\nno \"x\""},{"c":"b","f":["id"]}]"#;
        assert_eq!(String::from_utf8(filled.unwrap()).unwrap(), expected);
        assert_eq!(fill(body, &places, |_| None), None);
    }

    #[test]
    fn ids_are_short_and_plain() {
        for (id, expected) in [
            ("5a0e2f6e-7d0c-4c43-9d4a-0f0f3f9f2a10", true),
            ("a.b_c", true),
            ("", false),
            ("a\"b", false),
            ("a/b", false),
            ("идент", false),
        ] {
            assert_eq!(is_id(id), expected, "{id}");
        }
        assert!(!is_id(&"x".repeat(ID_BYTES_MAX + 1)));
    }
}
