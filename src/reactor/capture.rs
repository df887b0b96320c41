//! Writes exchanges down: one thread, one folder for each exchange, the oldest removed. A worker
//! never waits for the disk: what comes while the thread is behind is lost, counted and said.

use crate::config::Config;
use crate::proxy::capture::{Record, Secrets};
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Exchanges that wait for the disk, at most, and the bytes of all of them.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: u64 = 64 << 20;
/// Exchanges that are kept, at most; the oldest are removed.
const KEPT_MAX: usize = 1000;
/// Exchanges of one second with one id.
const TWINS_MAX: u32 = 100;

/// Where a worker leaves its exchanges. When the last of these is gone, the thread ends.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    records: SyncSender<Record>,
    counts: Arc<Counts>,
}

/// What the workers and the thread tell each other.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes of the exchanges that wait.
    waiting_bytes: AtomicU64,
    /// Exchanges that there was no room for.
    lost: AtomicU64,
}

impl Recorder {
    /// Leaves an exchange to be written down, or loses it.
    pub(super) fn record(&self, record: Record) {
        let (counts, bytes) = (&self.counts, record.bytes());
        let waiting = counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single one may be larger than all that may wait.
        let fits = waiting == 0 || waiting.saturating_add(bytes) <= WAITING_BYTES_MAX;
        if fits && self.records.try_send(record).is_ok() {
            return;
        }
        counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if counts.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!("exchanges come faster than they can be captured: some are not");
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Scribe {
    ended: Receiver<()>,
}

impl Scribe {
    /// Prepares the folder and starts the thread; `None` when nothing is to be written down.
    ///
    /// # Errors
    /// Nothing can be written there, or no thread could be started; in words for people.
    pub(super) fn start(config: &Config) -> Result<Option<(Recorder, Self)>, String> {
        let Some(capture) = &config.capture else { return Ok(None) };
        let mut folder = Folder::open(&capture.folder, KEPT_MAX).map_err(|why| {
            let shown = capture.folder.display();
            format!("cannot write captures to {shown}: {why}; choose another folder for them")
        })?;
        let secrets = Secrets::new(config);
        let (records, received) = sync_channel::<Record>(WAITING_MAX);
        let (end, ended) = channel::<()>();
        let counts = Arc::new(Counts::default());
        let theirs = Arc::clone(&counts);
        let write = move || {
            let mut failed = 0_u64;
            for record in received {
                let name = record.folder(&secrets);
                if let Err(why) = folder.keep(&name, &record.files(&secrets)) {
                    if failed == 0 {
                        log::error!("cannot capture the exchange {name}: {why}");
                    }
                    failed += 1;
                }
                theirs.waiting_bytes.fetch_sub(record.bytes(), Ordering::Relaxed);
            }
            let lost = theirs.lost.load(Ordering::Relaxed) + failed;
            if lost > 0 {
                log::warn!("{lost} exchanges were not captured");
            }
            drop(end);
        };
        let started = thread::Builder::new().name("captures".to_owned()).spawn(write);
        started.map_err(|why| format!("cannot start: {why}"))?;
        Ok(Some((Recorder { records, counts }, Self { ended })))
    }

    /// Waits until everything is written that was left before the last [`Recorder`] went.
    pub(super) fn finish(&self, patience: Duration) {
        if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(patience) {
            log::warn!("not all captures could be written in time");
        }
    }
}

/// The folder, and what we know to be in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    kept_max: usize,
    /// The exchanges in it, oldest first.
    kept: VecDeque<String>,
}

impl Folder {
    /// Makes it if there is none, and shows that it can be written to.
    fn open(path: &Path, kept_max: usize) -> io::Result<Self> {
        // A folder that is there already keeps its mode: it may be anybody's. What is made in it
        // is ours alone in any case.
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let probe = path.join(format!(".patchbay-{}", std::process::id()));
        let _ = fs::remove_dir(&probe);
        DirBuilder::new().mode(0o700).create(&probe)?;
        fs::remove_dir(&probe)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if let Some(unix_s) = began(&name)
                && entry.file_type()?.is_dir()
            {
                kept.push((unix_s, name));
            }
        }
        kept.sort_unstable();
        let kept = kept.into_iter().map(|(_, name)| name).collect();
        let mut folder = Self { path: path.to_owned(), kept_max, kept };
        folder.forget();
        Ok(folder)
    }

    /// Writes the files of an exchange and removes what is too old.
    fn keep(&mut self, name: &str, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        let (name, folder) = self.make(name)?;
        self.kept.push_back(name);
        let written = files.iter().try_for_each(|(name, bytes)| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(folder.join(name))?.write_all(bytes)
        });
        if written.is_err()
            && let Some(name) = self.kept.pop_back()
        {
            self.remove(&name);
        }
        self.forget();
        written
    }

    /// Makes the folder of an exchange, which nobody can have prepared for us.
    fn make(&self, name: &str) -> io::Result<(String, PathBuf)> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for twin in 1..=TWINS_MAX {
            let name = if twin == 1 { name.to_owned() } else { format!("{name}-{twin}") };
            let path = self.path.join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok((name, path)),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => last = why,
                Err(why) => return Err(why),
            }
        }
        Err(last)
    }

    fn forget(&mut self) {
        while self.kept.len() > self.kept_max
            && let Some(name) = self.kept.pop_front()
        {
            self.remove(&name);
        }
    }

    /// Removes our files, and the folder if nothing else is in it.
    fn remove(&self, name: &str) {
        let folder = self.path.join(name);
        for file in Record::file_names() {
            let _ = fs::remove_file(folder.join(file));
        }
        let _ = fs::remove_dir(folder);
    }
}

/// When an exchange began whose folder has this name; `None` for what is not ours.
fn began(name: &str) -> Option<u64> {
    let (unix_s, id) = name.split_once('-')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let ours = unix_s.bytes().all(|byte| byte.is_ascii_digit()) && id.bytes().all(legal);
    if ours { unix_s.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn exchanges_are_private_and_the_oldest_go() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/captures");
        let files = [("meta.json".to_owned(), b"{}".to_vec())];
        let mut folder = Folder::open(&path, 3).unwrap();
        assert_eq!((mode(&path), names(&path).len()), (0o700, 0));
        for name in ["9-b", "10-a", "10-a", "11-c"] {
            folder.keep(name, &files).unwrap();
        }
        assert_eq!(names(&path), ["10-a", "10-a-2", "11-c"]);
        let exchange = path.join("10-a");
        assert_eq!((mode(&exchange), mode(&exchange.join("meta.json"))), (0o700, 0o600));

        // What is not ours stays, also where it lies in a folder of ours.
        for foreign in ["notes", "10-x.y", "a-b"] {
            fs::create_dir(path.join(foreign)).unwrap();
        }
        fs::write(exchange.join("notes"), "mine").unwrap();
        let mut folder = Folder::open(&path, 2).unwrap();
        folder.keep("8-late", &files).unwrap();
        assert_eq!(names(&exchange), ["notes"]);
        assert_eq!(names(&path), ["10-a", "10-x.y", "11-c", "8-late", "a-b", "notes"]);
    }

    #[test]
    fn a_worker_loses_what_the_disk_has_no_time_for() {
        let (records, received) = sync_channel(2);
        let recorder = Recorder { records, counts: Arc::default() };
        let small = || Record::of_body(&[0; 10]);
        let large = || Record::of_body(&vec![0; usize::try_from(WAITING_BYTES_MAX).unwrap()]);
        // Room for one that is too large, then for none; and no more than so many small ones.
        for (record, lost) in [(large(), 0), (small(), 1)] {
            recorder.record(record);
            assert_eq!(recorder.counts.lost.load(Ordering::Relaxed), lost);
        }
        drop(received.recv().unwrap());
        recorder.counts.waiting_bytes.store(0, Ordering::Relaxed);
        for lost in [1, 1, 2, 3] {
            recorder.record(small());
            assert_eq!(recorder.counts.lost.load(Ordering::Relaxed), lost);
        }
        assert_eq!(recorder.counts.waiting_bytes.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn a_half_written_exchange_is_removed() {
        let path = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(path.path(), 3).unwrap();
        let file = |name: &str| (name.to_owned(), Vec::new());
        let files = [file("meta.json"), file("no/such")];
        assert!(folder.keep("9-a", &files).is_err());
        assert!(names(path.path()).is_empty() && folder.kept.is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let path = tempfile::tempdir().unwrap();
        let file = path.path().join("file");
        fs::write(&file, "").unwrap();
        for taken in [file.join("below"), file] {
            assert!(Folder::open(&taken, 3).is_err());
        }
    }
}
