//! Images: files that are uploaded first, and whose ids stand in the `attachments` of messages.
//!
//! The upstream takes one image a message and ten a request
//! (<https://developers.sber.ru/docs/ru/gigachat/api/working-with-files>). A message with several
//! becomes several of its role, cut in front of each image but the first, so that nothing is lost and
//! everything keeps its place. Of more than ten images the newest go, and a note stands where the
//! others were. Only the user's messages have images: those of a tool's result follow in a message
//! of the user's, once all calls of that step have their results.
//!
//! An image of the user's that cannot go is an error, which the user hears of; but only in the newest
//! message: nobody can take it out of a conversation again, which would be at its end. In older ones,
//! and in results of tools, a note says why it does not go, and the model may make another one.

use super::Body;
use super::messages::{GAP, Last};
use crate::dialect::image::{self, Image, Place, Source};
use crate::dialect::order::Order;
use crate::dialect::request::Content;
use crate::fault::{Failure, Kind};
use crate::wire::json::{self, Escaped};

/// Images of one request.
const IMAGES_MAX: usize = 10;
/// What stands for an image that does not go.
const LEFT_OUT: &str = "[image left out]";
/// What stands in a text whose image follows elsewhere.
const FOLLOWS: &str = "[image, see below]";
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

/// An image on its way into a message.
#[derive(Debug)]
struct Going<'b> {
    /// Its number among those of the request.
    number: usize,
    shown: Shown<'b>,
    /// It is the user's, in the newest message.
    required: bool,
    /// What was read of its URL already.
    source: Option<Source>,
}

/// The images of a body in the making.
#[derive(Debug, Default)]
pub(super) struct Images<'b> {
    /// How many came by, those that do not go too.
    seen: usize,
    /// So many of the first ones do not go.
    skipped: usize,
    /// Those with a URL that have their places, and the URL. The index is for the reader.
    placed: Vec<(Place, Escaped<'b>, Going<'b>)>,
    /// Images of a text that can have none, until a message of the user's can follow.
    carried: Vec<Going<'b>>,
    /// The image of the message that is being written.
    attached: Option<Going<'b>>,
    /// The message that is being written is the user's newest.
    pub(super) newest: bool,
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
        let mut read: Vec<Escaped<'b>> = Vec::new();
        let mut places = Vec::with_capacity(self.placed.len());
        for (mut place, url, Going { number, required, source, .. }) in self.placed {
            let known = read.iter().position(|known| *known == url);
            if known.is_none() {
                let source = match source {
                    Some(source) => source,
                    None => image::read(&url.decode(), number, urls)?,
                };
                images.push(Image { number, required: false, source });
                read.push(url);
            }
            place.image = known.unwrap_or(images.len() - 1);
            if let Some(image) = images.get_mut(place.image) {
                image.required |= required;
            }
            places.push(place);
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
        shown: Shown<'b>,
        user: Option<&mut Last>,
        gap: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let number = if self.quirks.images { self.images.next() } else { None };
        let required = user.is_some() && self.images.newest;
        let going = number.map(|number| self.going(number, shown, required)).transpose();
        let note = match (going, user) {
            (Ok(Some(going)), Some(last)) => {
                if self.images.attached.is_some() {
                    self.close(last, out);
                    last.open("user", out);
                    *gap = false;
                }
                self.images.attached = Some(going);
                return Ok(());
            }
            (Ok(Some(going)), None) => {
                self.images.carried.push(going);
                Ok(FOLLOWS)
            }
            (Ok(None), _) => Err(LEFT_OUT.to_owned()),
            (Err(failure), _) if required => return Err(failure),
            (Err(failure), _) => Err(image::left_out(&failure, number.unwrap_or_default())),
        };
        if std::mem::replace(gap, true) {
            out.extend_from_slice(GAP);
        }
        match note {
            Ok(note) => json::escape(note, out),
            Err(note) => {
                json::escape(&note, out);
                self.drop("input_image")?;
            }
        }
        Ok(())
    }

    /// Looks whether an image can go.
    fn going(&self, number: usize, shown: Shown<'b>, required: bool) -> Result<Going<'b>, Failure> {
        let source = match shown {
            Shown::Url(url) => {
                // The same one again costs no memory, and what is only counted costs no time.
                let known = self.images.placed.iter().any(|(_, known, _)| *known == url);
                let counted = self.images.seen - self.images.skipped > IMAGES_MAX;
                let read = || image::read(&url.decode(), number, self.quirks.image_urls);
                if known || counted { None } else { Some(read()?) }
            }
            Shown::File(id) => check_id(id, number).map(|()| None)?,
        };
        Ok(Going { number, shown, required, source })
    }

    /// Writes the messages of the user's that images follow in.
    pub(super) fn follow_up(&mut self, last: &mut Last, out: &mut Vec<u8>) {
        for carried in std::mem::take(&mut self.images.carried) {
            last.open("user", out);
            out.extend_from_slice(CARRIED);
            self.images.attached = Some(carried);
            self.close(last, out);
        }
    }

    /// Ends a message, with its image if it has one: nothing can be added to it then.
    pub(super) fn close(&mut self, last: &mut Last, out: &mut Vec<u8>) {
        let Some(going) = self.images.attached.take() else {
            out.extend_from_slice(b"\"}");
            return;
        };
        if last.is_empty(out) || out.ends_with(GAP) {
            out.extend_from_slice(ALONE);
        }
        out.push(b'"');
        let start = out.len();
        json::key("attachments", out);
        out.extend_from_slice(b"[\"");
        let at = out.len();
        if let Shown::File(id) = going.shown {
            out.extend_from_slice(id.raw().as_bytes());
        }
        out.extend_from_slice(b"\"]");
        if let Shown::Url(url) = going.shown {
            let place = Place { at, member: start..out.len(), image: 0 };
            self.images.placed.push((place, url, going));
        }
        out.push(b'}');
        last.seal();
    }
}

/// Checks an id that goes into the body as it is.
fn check_id(id: Escaped<'_>, number: usize) -> Result<(), Failure> {
    if image::is_id(id.raw()) {
        return Ok(());
    }
    let why = "has a file id that is none: letters, digits, `-`, `_` and `.` are";
    Err(image::refused(number, Kind::BadRequest, why))
}

/// The image that a piece of content is.
pub(super) fn of<'b>(content: &Content<'b>) -> Option<Shown<'b>> {
    match content {
        Content::Image { url, .. } => Some(Shown::Url(*url)),
        Content::ImageFile { id, .. } => Some(Shown::File(*id)),
        _ => None,
    }
}
