//! Images: files that are uploaded first, and whose ids stand in the `attachments` of messages.
//!
//! The upstream takes one image a message and ten a request
//! (<https://developers.sber.ru/docs/ru/gigachat/api/working-with-files>). A message with several
//! becomes several of its role, cut in front of each image but the first, so that nothing is lost and
//! everything keeps its place. Of more than ten images the newest go, and a note stands where the
//! others were. Only the user's messages have images: those of a tool's result follow in a message
//! of the user's, once all calls of that step have their results.

use super::Body;
use super::messages::{GAP, Last};
use crate::dialect::image::{self, Image, Place};
use crate::dialect::order::Order;
use crate::dialect::request::Content;
use crate::fault::{Failure, Kind};
use crate::wire::json::{self, Escaped};

/// Images of one request.
const IMAGES_MAX: usize = 10;
/// What stands for an image that does not go.
const LEFT_OUT: &[u8] = b"[image left out]";
/// What stands in a text whose image follows elsewhere.
const FOLLOWS: &[u8] = b"[image, see below]";
/// The text of a message that has an image and no words of its own.
const ALONE: &[u8] = b"[image]";
/// The same, where the image belongs to a text further up.
const CARRIED: &[u8] = b"[image of the above]";

/// How a request shows an image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shown<'b> {
    /// By its URL, whatever that is.
    Url(Escaped<'b>),
    /// By the id of a file that the upstream has.
    File(Escaped<'b>),
}

/// The images of a body in the making.
#[derive(Debug, Default)]
pub(super) struct Images<'b> {
    /// How many came by, those that do not go too.
    seen: usize,
    /// So many of the first ones do not go.
    skipped: usize,
    /// Where an id belongs, the image's number, and the image.
    shown: Vec<(usize, usize, Escaped<'b>)>,
    /// Images of a text that can have none, with their numbers, until a message of the user's can
    /// follow.
    carried: Vec<(usize, Shown<'b>)>,
    /// The image of the message that is being written, with its number.
    attached: Option<(usize, Shown<'b>)>,
}

impl<'b> Images<'b> {
    /// The number of the next image, if it goes.
    fn next(&mut self) -> Option<usize> {
        self.seen += 1;
        (self.seen > self.skipped).then_some(self.seen)
    }

    /// Takes the images out, each of them read once, and where their ids belong.
    pub(super) fn read(self, urls: bool) -> Result<(Vec<Image>, Vec<Place>), Failure> {
        let mut images: Vec<Image> = Vec::new();
        let mut urls_read: Vec<Escaped<'b>> = Vec::new();
        let mut places = Vec::with_capacity(self.shown.len());
        for (at, number, url) in self.shown {
            let known = urls_read.iter().position(|read| *read == url);
            if known.is_none() {
                let source = image::read(&url.decode(), number, urls)?;
                images.push(Image { number, source });
                urls_read.push(url);
            }
            places.push(Place { at, image: known.unwrap_or(images.len() - 1) });
        }
        Ok((images, places))
    }
}

impl<'b> Body<'b, '_> {
    /// Appends `messages`, with as many images as may go.
    pub(super) fn messages_with_images(
        &mut self,
        order: &Order<'b>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let start = out.len();
        self.messages(order, out)?;
        let seen = self.images.seen;
        if seen > IMAGES_MAX {
            // Rare: only now is it known which are the newest.
            self.images = Images { skipped: seen - IMAGES_MAX, ..Images::default() };
            out.truncate(start);
            self.messages(order, out)?;
        }
        Ok(())
    }

    /// An image in a text: it goes into the `user`'s message that is being written, or into another
    /// one if that has one already. Texts of others have it follow later. `gap`: there is text in
    /// front.
    pub(super) fn image(
        &mut self,
        image: Shown<'b>,
        user: Option<&mut Last>,
        gap: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let number = if self.quirks.images { self.images.next() } else { None };
        match (number, user) {
            (Some(number), Some(last)) => {
                if self.images.attached.is_some() {
                    self.close(last, out)?;
                    last.open("user", out);
                    *gap = false;
                }
                self.images.attached = Some((number, image));
                return Ok(());
            }
            (Some(number), None) => self.images.carried.push((number, image)),
            (None, _) => self.drop("input_image")?,
        }
        if std::mem::replace(gap, true) {
            out.extend_from_slice(GAP);
        }
        out.extend_from_slice(if number.is_some() { FOLLOWS } else { LEFT_OUT });
        Ok(())
    }

    /// Writes the messages of the user's that images follow in.
    pub(super) fn follow_up(&mut self, last: &mut Last, out: &mut Vec<u8>) -> Result<(), Failure> {
        for carried in std::mem::take(&mut self.images.carried) {
            last.open("user", out);
            out.extend_from_slice(CARRIED);
            self.images.attached = Some(carried);
            self.close(last, out)?;
        }
        Ok(())
    }

    /// Ends a message, with its image if it has one: nothing can be added to it then.
    pub(super) fn close(&mut self, last: &mut Last, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some((number, image)) = self.images.attached.take() else {
            out.extend_from_slice(b"\"}");
            return Ok(());
        };
        if last.is_empty(out) || out.ends_with(GAP) {
            out.extend_from_slice(ALONE);
        }
        out.push(b'"');
        json::key("attachments", out);
        out.extend_from_slice(b"[\"");
        match image {
            Shown::Url(url) => self.images.shown.push((out.len(), number, url)),
            Shown::File(id) if image::is_id(id.raw()) => out.extend_from_slice(id.raw().as_bytes()),
            Shown::File(_) => {
                let why = "has a file id that is none: letters, digits, `-`, `_` and `.` are";
                return Err(image::refused(number, Kind::BadRequest, why));
            }
        }
        out.extend_from_slice(b"\"]}");
        last.seal();
        Ok(())
    }
}

/// The image that a piece of content is.
pub(super) fn of<'b>(content: &Content<'b>) -> Option<Shown<'b>> {
    match content {
        Content::Image { url, .. } => Some(Shown::Url(*url)),
        Content::ImageFile { id, .. } => Some(Shown::File(*id)),
        _ => None,
    }
}
