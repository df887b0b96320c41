//! The content of a message: a string or an array of parts.

use super::members::{Members, Path, Refusal, missing, wrong};
use crate::dialect::keys::{Key as _, keys};
use crate::dialect::request::{Content, Contents};
use crate::fault::Failure;
use crate::wire::json::{Bad, Cursor, Kind, Raw};

keys!(PartKey {
    Type = "type",
    Text = "text",
    Refusal = "refusal",
    ImageUrl = "image_url",
    Detail = "detail",
    InputAudio = "input_audio",
    File = "file",
    FileData = "file_data",
    FileId = "file_id",
    Filename = "filename",
});

keys!(
    /// The members of what a part holds in an object of its own.
    InnerKey {
        Url = "url",
        Detail = "detail",
        Data = "data",
        Format = "format",
        FileData = "file_data",
        FileId = "file_id",
        Filename = "filename",
    }
);

/// What the objects in a part came to; its `type` says which of them counts.
#[derive(Default)]
struct Inner<'a> {
    image: Option<Result<Content<'a>, Failure>>,
    audio: Option<Result<Content<'a>, Failure>>,
    file: Option<Result<Content<'a>, Failure>>,
}

/// Reads a message's content, which is not null.
pub(super) fn read<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
) -> Result<Contents<'a>, Bad> {
    match cursor.kind()? {
        Kind::String => Ok(Contents::One(Content::Text(cursor.string()?))),
        Kind::Array => {
            let (mut parts, mut index) = (Contents::NONE, 0);
            cursor.array(|cursor| {
                let part = part(cursor, path.element(index), refusal)?;
                index += 1;
                parts.push(part);
                Ok(())
            })?;
            Ok(parts)
        }
        _ => Err(refusal.keep(wrong(path, "a string or an array of parts"), cursor)),
    }
}

fn part<'a>(
    cursor: &mut Cursor<'a>,
    path: Path<'_>,
    refusal: &mut Refusal,
) -> Result<Content<'a>, Bad> {
    if cursor.kind()? == Kind::String {
        return Ok(Content::Text(cursor.string()?));
    }
    let start = cursor.position();
    let mut inner = Inner::default();
    let part = Members::walk(cursor, path, refusal, |key, _, cursor, refusal| {
        let Some(key) = key else { return Ok(()) };
        let slot = match key {
            PartKey::ImageUrl => &mut inner.image,
            PartKey::InputAudio => &mut inner.audio,
            PartKey::File => &mut inner.file,
            _ => return Ok(()),
        };
        if cursor.kind()? == Kind::Object {
            let path = path.member(key.text());
            let read = |cursor: &mut Cursor<'a>, refusal: &mut Refusal| {
                let object = Members::read(cursor, path, refusal)?;
                held(key, &object).map_err(|failure| refusal.keep(failure, cursor))
            };
            *slot = Some(refusal.attempt(cursor, read)?);
        }
        Ok(())
    })?;
    let content = known(&part, inner).map_err(|failure| refusal.keep(failure, cursor))?;
    Ok(content.unwrap_or_else(|| Content::Opaque(cursor.since(start))))
}

/// What the object under this key of a part is.
fn held<'a>(key: PartKey, object: &Members<'_, 'a, InnerKey>) -> Result<Content<'a>, Failure> {
    match key {
        PartKey::ImageUrl => Ok(Content::Image {
            url: object.needed(InnerKey::Url)?,
            detail: object.string(InnerKey::Detail)?,
        }),
        PartKey::InputAudio => Ok(Content::Audio {
            data: object.needed(InnerKey::Data)?,
            format: object.needed(InnerKey::Format)?,
        }),
        _ => Ok(Content::File {
            data: object.string(InnerKey::FileData)?,
            id: object.string(InnerKey::FileId)?,
            url: None,
            name: object.string(InnerKey::Filename)?,
        }),
    }
}

/// What a part is; `None` when it is nothing known.
fn known<'a>(
    part: &Members<'_, 'a, PartKey>,
    inner: Inner<'a>,
) -> Result<Option<Content<'a>>, Failure> {
    let needed = |key: PartKey, inner: Option<Result<Content<'a>, Failure>>| {
        part.object(key)?;
        inner.transpose()?.ok_or_else(|| missing(part.path(key)))
    };
    Ok(Some(match part.needed(PartKey::Type)?.raw() {
        "text" | "input_text" | "output_text" => Content::Text(part.needed(PartKey::Text)?),
        "refusal" => Content::Refusal(part.needed(PartKey::Refusal)?),
        // The URL stands in an object here, and some clients leave the object out.
        "image_url" | "input_image" => match part.value(PartKey::ImageUrl).and_then(Raw::string) {
            Some(url) => Content::Image { url, detail: part.string(PartKey::Detail)? },
            None => needed(PartKey::ImageUrl, inner.image)?,
        },
        "input_audio" => needed(PartKey::InputAudio, inner.audio)?,
        "file" => needed(PartKey::File, inner.file)?,
        "input_file" => Content::File {
            data: part.string(PartKey::FileData)?,
            id: part.string(PartKey::FileId)?,
            url: None,
            name: part.string(PartKey::Filename)?,
        },
        _ => return Ok(None),
    }))
}
