//! Images for the CLI: it takes files, and a client's request brings them along.

use super::Image;
use crate::dialect::image::{refused, shown, too_large};
use crate::fault::{Failure, Kind};
use crate::wire::data_url::{self, DataUrl};

/// Bytes of one image.
const BYTES_MAX: usize = 15_000_000;

/// Reads an image's URL; `number` is its number for people. Only data URLs are read: nothing is
/// fetched, and no file of this machine is opened because a client names it.
///
/// # Errors
/// 400, 413 or 415, and what to do.
pub(super) fn read(url: &str, number: usize) -> Result<Image, Failure> {
    if !data_url::is_data_url(url) {
        let why = format!(
            "has the URL `{}`: send it as a data URL (`data:image/png;base64,...`)",
            shown(url)
        );
        return Err(refused(number, Kind::BadRequest, &why));
    }
    let bytes =
        DataUrl::parse(url).and_then(|url| url.decode(BYTES_MAX)).map_err(|why| match why {
            data_url::Bad::TooLarge => too_large(number),
            why => refused(number, Kind::BadRequest, &format!("cannot be read: {why}")),
        })?;
    match extension(&bytes) {
        Some(extension) => Ok(Image { extension, bytes }),
        None => {
            let why = "is of no known kind: send it as PNG, JPEG, GIF or WebP";
            Err(refused(number, Kind::MediaType, why))
        }
    }
}

/// How the names of files of a format end, by how its content begins.
fn extension(content: &[u8]) -> Option<&'static str> {
    Some(match content {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "png",
        [0xff, 0xd8, 0xff, ..] => "jpg",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        _ => return None,
    })
}
