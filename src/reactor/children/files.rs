//! The files that a run is given: in a folder of its own that nobody else can read, gone with it.

use crate::dialect::exec::Run;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The files of a run; removed when dropped.
#[derive(Debug, Default)]
pub(super) struct Files {
    folder: Option<PathBuf>,
    /// Paths of its images, in their order.
    pub(super) images: Vec<String>,
    /// Path of the schema of its answer.
    pub(super) schema: Option<String>,
}

impl Files {
    /// Writes what the run needs.
    ///
    /// # Errors
    /// The system's folder for temporary files cannot be written.
    pub(super) fn write(run: &Run) -> io::Result<Self> {
        let mut files = Self::default();
        if run.images.is_empty() && run.schema.is_none() {
            return Ok(files);
        }
        let random = RandomState::new().build_hasher().finish();
        let folder = std::env::temp_dir().join(format!("patchbay-run-{random:016x}"));
        // Fails when it exists: nobody can have prepared it for us.
        DirBuilder::new().mode(0o700).create(&folder)?;
        files.folder = Some(folder.clone());
        for (at, image) in run.images.iter().enumerate() {
            let path = folder.join(format!("image-{}.{}", at + 1, image.extension));
            files.images.push(write(&path, &image.bytes)?);
        }
        if let Some(schema) = &run.schema {
            files.schema = Some(write(&folder.join("schema.json"), schema.as_bytes())?);
        }
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder
            && let Err(why) = fs::remove_dir_all(folder)
        {
            log::error!("cannot remove {}: {why}", folder.display());
        }
    }
}

/// Writes a file that was not there before and that nobody else can read.
fn write(path: &Path, bytes: &[u8]) -> io::Result<String> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a path that is not UTF-8"))
}
