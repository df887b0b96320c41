//! `auth.json` on disk. The Codex CLI truncates and writes it in place, without a lock: a reader may
//! see it empty or torn, and must look again.

use crate::proxy::token::{ADVICE, AuthFile};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// No such file is larger.
const BYTES_MAX: u64 = 1 << 20;
/// How often a torn file is looked at, and the pause between.
const LOOKS_MAX: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(40);

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// The state of the file behind a path, if there is one.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    let modified = (data.mtime(), data.mtime_nsec());
    Some(Stamp { inode: data.ino(), bytes: data.len(), modified })
}

/// Reads the file, a torn one several times.
///
/// # Errors
/// There is none, or none that can be read, with its path and what to do.
pub fn read(path: &Path) -> Result<AuthFile, String> {
    read_with(path, || thread::sleep(LOOK_PAUSE))
}

fn read_with(path: &Path, mut pause: impl FnMut()) -> Result<AuthFile, String> {
    let mut looks = 0;
    loop {
        let bytes = bytes(path).map_err(|why| match why.kind() {
            ErrorKind::NotFound => {
                let path = path.display();
                format!("there is no {path}: {ADVICE}, or name the file (--auth-path)")
            }
            _ => format!("cannot read {}: {why}", path.display()),
        })?;
        looks += 1;
        match AuthFile::decode(&bytes) {
            Ok(file) => return Ok(file),
            Err(_) if looks < LOOKS_MAX => pause(),
            Err(why) => {
                return Err(format!("cannot use {}: {why}; {ADVICE} again", path.display()));
            }
        }
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Replaces the file as a whole, readable for its owner only: a temporary one beside it, flushed to
/// the disk and renamed. A symbolic link stays one. Where the file itself is a mount point nothing
/// can be renamed onto it, and it is written in place.
///
/// # Errors
/// Why it could not be written; the old one is untouched unless it was written in place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_by(path, bytes, |from, to| fs::rename(from, to))
}

fn write_by(
    path: &Path,
    bytes: &[u8],
    rename: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    // A stricter mode is somebody's wish; a wider one is a mistake around secrets.
    let mode = fs::metadata(&path)?.permissions().mode() & 0o600;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    // What an ended process of the same id may have left behind.
    let _ = fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&temporary);
    let renamed = made.and_then(|mut file| {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&temporary, &path)
    });
    match renamed {
        Ok(()) => {
            // The name is on the disk once its folder is; the bytes are there already.
            let folder = path.parent().map(File::open);
            let _ = folder.and_then(Result::ok).map(|folder| folder.sync_all());
            Ok(())
        }
        Err(why) => {
            let _ = fs::remove_file(&temporary);
            let in_place = matches!(
                why.kind(),
                ErrorKind::ResourceBusy | ErrorKind::CrossesDevices | ErrorKind::PermissionDenied
            );
            if in_place { write_in_place(&path, bytes) } else { Err(why) }
        }
    }
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    // Whoever mounted it may own it: then its mode is theirs.
    let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_private_behind_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("auth.json"));
        fs::write(&real, "{\"old\": \"and longer than the new one\"}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for (before, after) in [(0o644, 0o600), (0o600, 0o600), (0o400, 0o400)] {
            fs::set_permissions(&real, fs::Permissions::from_mode(before)).unwrap();
            let old = stamp(&link);
            write(&link, b"{}").unwrap();
            assert_eq!(fs::read(&real).unwrap(), b"{}");
            assert_eq!(mode(&real), after, "from {before:o}");
            assert_ne!(stamp(&link), old);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn a_mount_point_is_written_in_place_and_a_full_disk_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        fs::write(&path, "{\"old\": \"and longer\"}").unwrap();
        let inode = stamp(&path).unwrap().inode;
        for kind in [ErrorKind::ResourceBusy, ErrorKind::CrossesDevices] {
            write_by(&path, b"{\"new\":1}", |_, _| Err(kind.into())).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"{\"new\":1}");
            assert_eq!(stamp(&path).unwrap().inode, inode);
        }
        let full = write_by(&path, b"{}", |_, _| Err(ErrorKind::StorageFull.into()));
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"{\"new\":1}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let why = read(&path).unwrap_err();
        assert!(why.contains("auth.json") && why.contains("codex login"), "{why}");
        fs::write(&path, "{\"tokens\":").unwrap();
        let why = read(&path).unwrap_err();
        assert!(why.contains("not JSON") && why.contains("codex login"), "{why}");
        let why = read(folder.path()).unwrap_err();
        assert!(why.contains("not a file"), "{why}");
    }

    #[test]
    fn a_torn_file_is_read_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        fs::write(&path, "").unwrap();
        let mut writes = ["{\"OPENAI_A", "{\"OPENAI_API_KEY\":\"k\"}"].into_iter();
        let read = read_with(&path, || fs::write(&path, writes.next().unwrap()).unwrap());
        assert!(read.unwrap().offer().is_ok());
    }
}
