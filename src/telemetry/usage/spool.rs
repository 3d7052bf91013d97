use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::AcqRel},
};

use super::UsageBatch;

/// How the name of a sealed batch ends.
const SEALED: &str = "jsonl";

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
            let written = write(&path, batch.text());
            let failed = |error: &io::Error| tracing::error!(%error, "a batch of usage is in memory only");
            written.inspect_err(failed).ok().map(|()| path)
        });
        Self { batch, path, left: AtomicUsize::new(sinks) }
    }

    /// The batches that a process before has left, the oldest first.
    pub(super) fn left(directory: &Path, sinks: usize) -> io::Result<Vec<Self>> {
        fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|id| id.to_str()).map(str::to_owned);
            if let (Some(id), true) = (id, path.extension().is_some_and(|ending| ending == SEALED)) {
                found.push((path.metadata()?.modified()?, id, path));
            }
        }
        found.sort();
        let read = |(_, id, path): (_, String, PathBuf)| {
            let batch = UsageBatch::left(&id, fs::read_to_string(&path)?);
            Ok(Self { batch, path: Some(path), left: AtomicUsize::new(sinks) })
        };
        found.into_iter().map(read).collect()
    }

    /// One more sink has it.
    pub(super) fn is_done_with(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1
            && let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a batch of usage that was delivered will be delivered again");
        }
    }
}

/// Under another name until it is whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
