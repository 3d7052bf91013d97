use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::spawn_blocking;

use super::{UsageBatch, UsageSink, sink::Delivering};

/// Delivers usage to a file: a JSON object on each line, on disk before a batch counts as delivered.
///
/// The file is opened for each batch, so whoever renames it (logrotate) finds the next batch in a new one. A batch that
/// could not be written to its end leaves nothing behind but what a crash leaves, and that is ended with a line end. Who
/// writes holds the lock on a file of the same name with `.lock`, so that several can have the same.
#[derive(Clone, Debug)]
#[must_use]
pub struct UsageFile(Arc<Target>);

#[derive(Clone, Debug)]
struct Target {
    path: PathBuf,
    most: Option<u64>,
}

impl UsageFile {
    /// At this path. Only its owner can read a file that is made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Target { path: path.into(), most: None }))
    }

    /// Renames the file before it grows beyond so many bytes: the id of the batch that comes next is put behind its name,
    /// and a number if there is such a file already. No limit unless told. Nothing is deleted.
    pub fn rotate(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.0).most = Some(bytes);
        self
    }
}

impl UsageSink for UsageFile {
    fn name(&self) -> &'static str {
        "file"
    }

    fn deliver<'a>(&'a self, batch: &'a UsageBatch) -> Delivering<'a> {
        let (target, batch) = (Arc::clone(&self.0), batch.clone());
        Box::pin(async move { Ok(spawn_blocking(move || target.append(&batch)).await??) })
    }
}

impl Target {
    fn append(&self, batch: &UsageBatch) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut file = open(&self.path)?;
        let mut length = file.seek(SeekFrom::End(0))?;
        let more = batch.text().len() as u64;
        if length > 0 && self.most.is_some_and(|most| length + more > most) {
            fs::rename(&self.path, self.full(batch.id())?)?;
            file = open(&self.path)?;
            length = file.seek(SeekFrom::End(0))?;
        }
        let written = end_line(&mut file, length).and_then(|()| {
            file.write_all(batch.text().as_bytes())?;
            file.sync_data()
        });
        written.inspect_err(|_| {
            // It comes again as a whole.
            let _ = file.set_len(length);
        })
    }

    /// A name that no file has. The same batch may have come before.
    fn full(&self, id: &str) -> io::Result<PathBuf> {
        let (mut name, mut times) = (self.beside(id), 0);
        while name.try_exists()? {
            times += 1;
            name = self.beside(&format!("{id}.{times}"));
        }
        Ok(name)
    }

    /// One writer at a time: what failed is cut off again, and the file may be renamed.
    fn lock(&self) -> io::Result<File> {
        let lock = open(&self.beside("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another writes to this file"),
            TryLockError::Error(error) => error,
        })?;
        Ok(lock)
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{what}"));
        name.into()
    }
}

/// Ends the line that a crash may have left open.
fn end_line(file: &mut File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
