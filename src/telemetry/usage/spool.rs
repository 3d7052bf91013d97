use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::AcqRel},
};

use super::UsageBatch;
use crate::file;

/// How the name of a sealed batch ends.
const SEALED: &str = "jsonl";
/// How the name of what is none ends.
const BAD: &str = "bad";

/// A batch, and where it lies until all sinks have it.
pub(super) struct Spooled {
    pub(super) batch: UsageBatch,
    path: Option<PathBuf>,
    /// The sinks that do not have it yet.
    left: AtomicUsize,
}

impl Spooled {
    /// Puts a batch on disk, if there is a directory for it.
    pub(super) fn keep(batch: UsageBatch, sinks: usize, directory: Option<&Path>) -> Self {
        let path = directory.and_then(|directory| {
            let path = directory.join(format!("{}.{SEALED}", batch.id()));
            let written = file::replace(&path, batch.text().as_bytes());
            let failed = |error: &io::Error| tracing::error!(%error, "a batch of usage is in memory only");
            written.inspect_err(failed).ok().map(|()| path)
        });
        Self { batch, path, left: AtomicUsize::new(sinks) }
    }

    pub(super) const fn is_on_disk(&self) -> bool {
        self.path.is_some()
    }

    /// The files of batches that others than `own` have left, the oldest first.
    pub(super) fn left(directory: &Path, own: &str) -> io::Result<Vec<PathBuf>> {
        fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_own =
                id(&path).is_none_or(|id| id.strip_prefix(own).is_some_and(|rest| rest.starts_with('-')));
            if is_own || path.extension().is_none_or(|ending| ending != SEALED) {
                continue;
            }
            // What is gone by now was delivered by who has sealed it.
            if let Ok(at) = path.metadata().and_then(|known| known.modified()) {
                found.push((at, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// What lies there, if it is still there and a batch. What is none is put aside.
    pub(super) fn read(path: PathBuf, sinks: usize) -> Option<Self> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a batch of usage in the spool cannot be read");
                if error.kind() == io::ErrorKind::InvalidData {
                    // If it cannot be, it is told again by the next start.
                    let _ = fs::rename(&path, path.with_extension(BAD));
                }
                return None;
            }
        };
        let batch = UsageBatch::left(id(&path)?, text);
        Some(Self { batch, path: Some(path), left: AtomicUsize::new(sinks) })
    }

    /// One more sink has it, or has given it up.
    pub(super) fn is_done_with(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1
            && let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a batch of usage that is done with will be delivered again");
        }
    }
}

fn id(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()
}
