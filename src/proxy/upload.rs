//! Images that an upstream takes as files: uploaded before the order, each once, and remembered.
//!
//! Source: `POST /files` of GigaChat
//! (<https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-file>); OpenAI's has the
//! same form.

use crate::config::Provider;
use crate::dialect::image::{self, Format, Image, Place, Source};
use crate::fault::{Failure, Fault, Kind};
use crate::proxy::call::{self, Call};
use crate::proxy::digest::Digest;
use crate::proxy::errand::{Errand, Next, Purpose, Reply, Setting};
use crate::proxy::fetch;
use crate::proxy::order::Intake;
use crate::wire::json::{self, Escaped};
use crate::wire::multipart::Form;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Below the base of the API.
const PATH: &str = "/files";
/// What the files are for: to be named in messages.
const PURPOSE: (&str, &str) = ("purpose", "general");
/// The reply is a small document.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// So many ids are known at most.
const KNOWN_MAX: usize = 1000;
/// How long an upload serves.
const FRESH: Duration = Duration::from_secs(3600);
/// How long what was fetched from a URL serves: what is there may change. Behind that it serves only
/// where the URL does not any more, as signed ones do after a while.
const URL_FRESH: Duration = Duration::from_secs(300);

/// What was uploaded, where, and by whom: nobody is served with a file of somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    provider: usize,
    /// Who asks, as far as the upstream can tell callers apart.
    who: Digest,
    /// The content, or the URL that it came from.
    what: Digest,
}

#[derive(Debug)]
struct Known {
    id: String,
    fresh: Instant,
    until: Instant,
    used: Instant,
}

/// The ids of what was uploaded. Shared by all workers, and locked only by requests with images.
#[derive(Debug, Default)]
pub(crate) struct UploadTable {
    known: Mutex<BTreeMap<Key, Known>>,
}

impl UploadTable {
    /// The id, if there is one that should still serve.
    fn find(&self, key: &Key, now: Instant) -> Option<String> {
        self.find_any(key, now, |known| known.fresh)
    }

    /// The id, if there is one that can serve where nothing better is to be had.
    fn find_stale(&self, key: &Key, now: Instant) -> Option<String> {
        self.find_any(key, now, |known| known.until)
    }

    fn find_any(&self, key: &Key, now: Instant, end: fn(&Known) -> Instant) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get_mut(key).filter(|found| end(found) > now)?;
        found.used = now;
        Some(found.id.clone())
    }

    /// Remembers an id, which is `fresh` for so long; the one that was not used for the longest time
    /// makes room.
    fn put(&self, key: Key, id: &str, fresh: Duration, now: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(&key) {
            known.retain(|_, known| known.until > now);
            let oldest = known.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| known.len() >= KNOWN_MAX) {
                known.remove(&oldest);
            }
        }
        let (fresh, until) = (now + fresh, now + FRESH);
        known.insert(key, Known { id: id.to_owned(), fresh, until, used: now });
    }

    /// Forgets an id that the upstream does not know any more, whatever its owner found it by.
    fn forget(&self, owner: &Key, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, known| {
            (key.provider, key.who) != (owner.provider, owner.who) || known.id != id
        });
    }
}

/// One image of an order.
#[derive(Debug)]
struct Entry {
    number: usize,
    /// `None` once it was uploaded for this order.
    source: Option<Source>,
    key: Key,
    id: Option<String>,
    /// Without it there is no answer.
    required: bool,
    /// The note that stands for it, because it cannot be had.
    left_out: Option<String>,
    /// The id is from the table: the upstream may have forgotten it.
    remembered: bool,
}

/// The images of an order, and the body that their ids belong into.
pub(crate) struct Album {
    body: Vec<u8>,
    places: Vec<Place>,
    entries: Vec<Entry>,
    /// The upstream had forgotten some; that happens once.
    renewed: bool,
}

impl std::fmt::Debug for Album {
    /// Never shows what a client sent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Album").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Album {
    /// The `images` of a `body` that has `places` for their ids; `None` when there are none.
    pub(crate) fn new(
        provider: usize,
        intake: &Intake,
        images: Vec<Image>,
        mut places: Vec<Place>,
        body: &mut Vec<u8>,
    ) -> Option<Self> {
        if images.is_empty() {
            return None;
        }
        let who = Digest::of("caller", intake.authorization.as_deref().unwrap_or("").as_bytes());
        let mut entries: Vec<Entry> = Vec::with_capacity(images.len());
        let mut moved = Vec::with_capacity(images.len());
        for Image { number, required, source } in images {
            let what = match &source {
                Source::Inline(picture) => content_digest(picture.format, &picture.content),
                Source::Url(url) => Digest::of("url", url.as_bytes()),
            };
            let key = Key { provider, who, what };
            // Two URLs may hold the same bytes.
            let known = entries.iter().position(|entry| entry.key == key);
            moved.push(known.unwrap_or(entries.len()));
            if let Some(known) = known.and_then(|known| entries.get_mut(known)) {
                known.required |= required;
                continue;
            }
            entries.push(Entry {
                number,
                source: Some(source),
                key,
                id: None,
                required,
                left_out: None,
                remembered: false,
            });
        }
        for place in &mut places {
            place.image = moved.get(place.image).copied().unwrap_or(usize::MAX);
        }
        Some(Self { body: std::mem::take(body), places, entries, renewed: false })
    }

    /// The next thing to do before the order can be written; nothing once all images are known. One
    /// at a time, because a form of megabytes is made for each.
    ///
    /// # Errors
    /// An upload cannot be written, or a URL is none.
    pub(crate) fn errand(
        &mut self,
        provider: &Provider,
        intake: &Intake,
        table: &UploadTable,
        now: Instant,
    ) -> Result<Option<Errand>, Failure> {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.id.is_some() || entry.left_out.is_some() {
                continue;
            }
            entry.id = table.find(&entry.key, now);
            entry.remembered = entry.id.is_some();
            if entry.remembered {
                continue;
            }
            let aim = Aim { entry: index, number: entry.number, key: entry.key, url_key: None };
            return Ok(Some(match entry.source.take() {
                Some(Source::Inline(picture)) => {
                    upload(provider, intake, picture.format, &picture.content, aim)?
                }
                Some(Source::Url(url)) => {
                    let errand = fetch::errand(provider, intake, &url, aim)?;
                    entry.source = Some(Source::Url(url));
                    errand
                }
                None => return Err(lost(entry.number)),
            }));
        }
        Ok(None)
    }

    /// An image has its id; `remembered` = from an earlier order's upload.
    fn set(&mut self, entry: usize, id: String, remembered: bool) {
        if let Some(entry) = self.entries.get_mut(entry) {
            (entry.id, entry.remembered) = (Some(id), remembered);
        }
    }

    /// The body with the ids in their places.
    ///
    /// # Errors
    /// An id is missing, which is a defect.
    pub(crate) fn write(&self) -> Result<Vec<u8>, Failure> {
        let filled = image::fill(&self.body, &self.places, |image| {
            let entry = self.entries.get(image)?;
            let note = || entry.left_out.as_deref().map(Err);
            entry.id.as_deref().map(Ok).or_else(note)
        });
        filled.ok_or_else(|| lost(0))
    }

    /// An image cannot be had, for this reason; false when there is no answer without it.
    fn leave_out(&mut self, entry: usize, failure: &Failure) -> bool {
        let Some(entry) = self.entries.get_mut(entry).filter(|entry| !entry.required) else {
            return false;
        };
        entry.left_out = Some(image::left_out(failure, entry.number));
        true
    }

    /// Whether the failure of an order is that the upstream does not know a file any more which was
    /// uploaded for an earlier one. Then those are to be uploaded anew, once.
    pub(crate) fn forgot(&mut self, status: u16, failure: &Failure, table: &UploadTable) -> bool {
        let remembered = || self.entries.iter().filter(|entry| entry.remembered);
        let names = |id: &str| failure.message.contains(id);
        let named = remembered().any(|entry| entry.id.as_deref().is_some_and(names));
        let words = failure.message.to_lowercase();
        let spoken = ["file", "attachment", "файл"].iter().any(|word| words.contains(word));
        let plausible = matches!(status, 400 | 404 | 410 | 422) && (named || spoken);
        if self.renewed || !plausible || remembered().next().is_none() {
            return false;
        }
        self.renewed = true;
        for entry in self.entries.iter_mut().filter(|entry| entry.remembered) {
            if let Some(id) = entry.id.take() {
                table.forget(&entry.key, &id);
            }
            entry.remembered = false;
        }
        true
    }
}

/// Which image an errand is for.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    entry: usize,
    /// For people.
    pub(crate) number: usize,
    key: Key,
    /// For an image from a URL: the key that stands for the URL.
    url_key: Option<Key>,
}

impl Aim {
    /// Index of the provider that it is uploaded to.
    pub(crate) const fn provider(&self) -> usize {
        self.key.provider
    }
}

/// An image from a URL is here: it is uploaded, unless its content was before.
///
/// # Errors
/// The upload cannot be written.
pub(crate) fn fetched(
    format: Format,
    content: &[u8],
    mut aim: Aim,
    setting: &mut Setting<'_>,
) -> Result<Next, Failure> {
    aim.url_key = Some(aim.key);
    aim.key.what = content_digest(format, content);
    if let Some(id) = setting.uploads.find(&aim.key, setting.now) {
        aim.settle(id, true, setting);
        return Ok(Next::GoOn);
    }
    let errand = upload(setting.provider, setting.intake, format, content, aim)?;
    Ok(Next::Errands(vec![errand]))
}

/// An image cannot be had from its URL any more: what was there before serves, if that is known.
pub(crate) fn kept(aim: &Aim, setting: &mut Setting<'_>) -> bool {
    let Some(id) = setting.uploads.find_stale(&aim.key, setting.now) else { return false };
    if let Some(album) = setting.order.as_mut().and_then(|order| order.album.as_mut()) {
        album.set(aim.entry, id, true);
    }
    true
}

/// An image cannot be had: the order goes without it, if it may.
///
/// # Errors
/// It may not: the failure.
pub(crate) fn without(aim: &Aim, failure: Failure, setting: Setting<'_>) -> Result<Next, Failure> {
    let Some(order) = setting.order.filter(|_| !setting.config.strict) else {
        return Err(failure);
    };
    let album = order.album.as_mut();
    if !album.is_some_and(|album| album.leave_out(aim.entry, &failure)) {
        return Err(failure);
    }
    log::info!("an image of an older message is left out: {failure}");
    order.note_dropped("input_image");
    Ok(Next::GoOn)
}

impl Aim {
    /// The image has an id; `remembered` = from an earlier order's upload.
    fn settle(self, id: String, remembered: bool, setting: &mut Setting<'_>) {
        let (uploads, now) = (setting.uploads, setting.now);
        if !remembered {
            uploads.put(self.key, &id, FRESH, now);
        }
        if let Some(key) = self.url_key {
            uploads.put(key, &id, URL_FRESH, now);
        }
        if let Some(album) = setting.order.as_mut().and_then(|order| order.album.as_mut()) {
            album.set(self.entry, id, remembered);
        }
    }
}

fn content_digest(format: Format, content: &[u8]) -> Digest {
    Digest::of(format.media(), content)
}

fn upload(
    provider: &Provider,
    intake: &Intake,
    format: Format,
    content: &[u8],
    aim: Aim,
) -> Result<Errand, Failure> {
    let name = aim.key.what.short();
    let file_name = format!("{name}.{}", format.extension());
    // A content cannot hold its own digest.
    let boundary = format!("patchbay-{name}");
    let form = Form {
        fields: &[PURPOSE],
        name: "file",
        file_name: &file_name,
        media: format.media(),
        content,
    };
    let mut call = Call::post(aim.key.provider, call::Place::Beside(Cow::Borrowed(PATH)))
        .with_content_type(Form::content_type(&boundary));
    call.write(provider, intake, form.write(&boundary))?;
    Ok(Errand { call, reply_bytes_max: REPLY_BYTES_MAX, purpose: Box::new(Upload { aim }) })
}

/// An image goes to the upstream, whose reply tells its id.
#[derive(Debug)]
struct Upload {
    aim: Aim,
}

impl Purpose for Upload {
    fn done(self: Box<Self>, reply: &Reply<'_>, mut setting: Setting<'_>) -> Result<Next, Failure> {
        let id = id_in(reply.body).filter(|id| image::is_id(id)).ok_or_else(|| {
            let message = format!(
                "the provider \"{}\" took image {} of the request and told no id for it",
                setting.provider.name, self.aim.number
            );
            Failure::new(Fault::upstream(Kind::BadReply), message)
        })?;
        log::debug!("image {} was uploaded to {}", self.aim.number, setting.provider.name);
        self.aim.settle(id, false, &mut setting);
        Ok(Next::GoOn)
    }

    fn failed(&self, mut failure: Failure) -> Failure {
        let number = self.aim.number;
        if matches!(failure.fault.kind, Kind::ModelNotFound | Kind::NotFound) {
            // No model was named, whatever a 404 means elsewhere.
            failure.fault = Fault::upstream(Kind::NotFound);
            (failure.code, failure.error_type, failure.param) = (None, None, None);
            failure.message.push_str(" (`upload_images = false` leaves images out)");
        }
        failure.message =
            format!("{}cannot be uploaded: {}", image::named(number), failure.message);
        failure
    }

    fn recover(self: Box<Self>, failure: Failure, setting: Setting<'_>) -> Result<Next, Failure> {
        let failure = self.failed(failure);
        // Statuses that speak of the file, and not of who sends it or of the time.
        match failure.status() {
            400 | 413 | 415 | 422 => without(&self.aim, failure, setting),
            _ => Err(failure),
        }
    }
}

/// The `id` of a reply.
fn id_in(body: &[u8]) -> Option<String> {
    let text = json::utf8(body).ok()?;
    let id = json::document(text, |cursor| {
        let mut id: Option<Escaped<'_>> = None;
        cursor.object(|key, value| {
            if key == "id" {
                json::once(&mut id, value.string()?)?;
            } else {
                value.skip()?;
            }
            Ok(())
        })?;
        Ok(id)
    });
    id.ok().flatten().map(|id| id.decode().into_owned())
}

fn lost(number: usize) -> Failure {
    let message = format!("image {number} of the request was lost on its way: a defect");
    Failure::new(Fault::proxy(Kind::Server), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(provider: usize, who: &str, what: &str) -> Key {
        let (who, what) = (Digest::of("", who.as_bytes()), Digest::of("", what.as_bytes()));
        Key { provider, who, what }
    }

    #[test]
    fn an_id_serves_its_owner_for_its_time() {
        let (table, now) = (UploadTable::default(), Instant::now());
        table.put(key(0, "a", "x"), "id-1", FRESH, now);
        assert_eq!(table.find(&key(0, "a", "x"), now).as_deref(), Some("id-1"));
        for other in [key(1, "a", "x"), key(0, "b", "x"), key(0, "a", "y")] {
            assert_eq!(table.find(&other, now), None);
        }
        assert_eq!(table.find(&key(0, "a", "x"), now + FRESH), None);
        // A newer id is not forgotten for an older one.
        table.put(key(0, "a", "x"), "id-2", FRESH, now);
        table.forget(&key(0, "a", "x"), "id-1");
        assert_eq!(table.find(&key(0, "a", "x"), now).as_deref(), Some("id-2"));
        table.put(key(0, "a", "url"), "id-2", URL_FRESH, now);
        table.put(key(0, "b", "x"), "id-2", FRESH, now);
        table.forget(&key(0, "a", "url"), "id-2");
        assert_eq!(table.find(&key(0, "a", "x"), now), None);
        assert!(table.find(&key(0, "b", "x"), now).is_some());
        // One from a URL serves longer where it has to.
        table.put(key(0, "a", "u"), "id-3", URL_FRESH, now);
        assert_eq!(table.find(&key(0, "a", "u"), now + URL_FRESH), None);
        assert!(table.find_stale(&key(0, "a", "u"), now + URL_FRESH).is_some());
        assert_eq!(table.find_stale(&key(0, "a", "u"), now + FRESH), None);
    }

    #[test]
    fn the_table_is_bounded_and_the_unused_make_room() {
        let (table, start) = (UploadTable::default(), Instant::now());
        let at = |count: usize| start + Duration::from_millis(count as u64);
        for count in 0..KNOWN_MAX {
            table.put(key(count, "", ""), "id", FRESH, at(count));
        }
        assert!(table.find(&key(0, "", ""), at(KNOWN_MAX)).is_some());
        table.put(key(KNOWN_MAX, "", ""), "id", FRESH, at(KNOWN_MAX + 1));
        let now = at(KNOWN_MAX + 2);
        assert!(table.find(&key(0, "", ""), now).is_some());
        assert!(table.find(&key(1, "", ""), now).is_none());
        assert_eq!(table.known.lock().unwrap().len(), KNOWN_MAX);
        // Those that serve no more go first, and all at once.
        let later = start + FRESH + Duration::from_millis(KNOWN_MAX as u64);
        table.put(key(KNOWN_MAX + 1, "", ""), "id", FRESH, later);
        assert_eq!(table.known.lock().unwrap().len(), 2);
    }

    #[test]
    fn an_id_is_read_out_of_a_reply() {
        for (body, expected) in [
            (r#"{"object":"file","id":"a-1","bytes":3}"#, Some("a-1")),
            (r#"{"id":"a","id":"b"}"#, None),
            (r#"{"id":7}"#, None),
            (r#"{"file":{"id":"a"}}"#, None),
            ("[]", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(id_in(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
