use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::OnceCell,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::memory::{Memory, Row};
use crate::file::replace;

/// What a file begins with.
const HEADER: &str = "portcullis-quota 1";
/// How soon a file that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How much longer than writing the pause after it is, at least.
const PAUSE: u32 = 10;

/// Counters in memory, and perhaps in a file.
pub(super) struct Kept {
    pub(super) memory: Memory,
    file: Option<Keeper>,
}

struct Keeper {
    name: Arc<str>,
    path: PathBuf,
    every: Duration,
    /// The lock on the file, once it is open.
    open: OnceCell<File>,
    failed: Mutex<Option<(Instant, Arc<str>)>>,
    /// One writer at a time.
    turn: Mutex<()>,
}

impl Kept {
    pub(super) fn new(name: &Arc<str>, most: u32, file: Option<&(PathBuf, Duration)>) -> Self {
        let file = file.map(|(path, every)| Keeper {
            name: Arc::clone(name),
            path: path.clone(),
            every: *every,
            open: OnceCell::new(),
            failed: Mutex::default(),
            turn: Mutex::default(),
        });
        Self { memory: Memory::new(most), file }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_open(&self) -> bool {
        self.file.as_ref().is_none_or(|keeper| keeper.open.initialized())
    }

    /// Takes the file and what stands in it, and begins to write it. Only the first call does something.
    pub(super) async fn open(self: &Arc<Self>) -> Result<(), Arc<str>> {
        let Some(keeper) = &self.file else { return Ok(()) };
        let open = keeper.open.get_or_try_init(|| async {
            keeper.may_try()?;
            let this = Arc::clone(self);
            let read = spawn_blocking(move || this.read()).await.unwrap_or_else(|lost| Err(lost.into()));
            let lock = read.map_err(|error| keeper.has_failed(&error))?;
            tokio::spawn(write_on(Arc::downgrade(self), keeper.every));
            Ok(lock)
        });
        open.await.map(drop)
    }

    /// Writes what has changed. It blocks.
    pub(super) fn write(&self) -> io::Result<()> {
        let Some(keeper) = self.file.as_ref().filter(|keeper| keeper.open.initialized()) else {
            return Ok(());
        };
        let _turn = keeper.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rows) = self.memory.take_changes() else { return Ok(()) };
        let mut text = format!("{HEADER} {}\n", keeper.name);
        for Row { account, start, used } in rows {
            let _ = writeln!(text, "{account:032x} {start} {used}"); // a String takes everything
        }
        replace(&keeper.path, text.as_bytes()).inspect_err(|error| {
            self.memory.not_kept();
            tracing::error!(quota = &*keeper.name, %error, "the counters of a quota were not written");
        })
    }

    fn read(&self) -> io::Result<File> {
        let Some(keeper) = &self.file else { return Err(io::ErrorKind::Unsupported.into()) };
        let lock = lock(&keeper.path)?;
        match fs::read_to_string(&keeper.path) {
            Ok(text) => self.memory.load(rows(&text, &keeper.name)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.memory.not_kept(),
            Err(error) => return Err(error),
        }
        Ok(lock)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It was logged, and nobody is left to be told.
        let _ = self.write();
    }
}

impl Keeper {
    fn may_try(&self) -> Result<(), Arc<str>> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, why)) if at.elapsed() < AGAIN => Err(Arc::clone(why)),
            _ => Ok(()),
        }
    }

    fn has_failed(&self, error: &io::Error) -> Arc<str> {
        tracing::error!(quota = &*self.name, %error, "the file of a quota cannot be used");
        let why = Arc::<str>::from(error.to_string());
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&why)));
        why
    }
}

/// Only one process, and in it one quota, may have a file. Its lock lies beside it, since the file itself is replaced.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let lock = File::options().create(true).truncate(false).write(true).open(beside)?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::other("another has this file in use"),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// What stands in a file; all of it, or nothing.
fn rows(text: &str, name: &str) -> io::Result<Vec<Row>> {
    let mut lines = text.lines();
    let is_ours = lines.next().and_then(|line| line.strip_prefix(HEADER)).is_some_and(|of| of.trim() == name);
    let all = lines.map(row).collect::<Option<Vec<_>>>();
    match all.filter(|_| is_ours) {
        Some(rows) => Ok(rows),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "not the counters of this quota")),
    }
}

fn row(line: &str) -> Option<Row> {
    let mut words = line.split(' ');
    let account = words.next().filter(|word| word.len() == 32)?;
    let account = u128::from_str_radix(account, 16).ok()?;
    let row = Row { account, start: words.next()?.parse().ok()?, used: words.next()?.parse().ok()? };
    words.next().is_none().then_some(row)
}

/// Writes what changes, for as long as the counters are used.
async fn write_on(kept: Weak<Kept>, every: Duration) {
    let mut pause = every;
    loop {
        sleep(pause).await;
        let Some(kept) = kept.upgrade() else { return };
        let began = Instant::now();
        // Why it failed was logged, and the next round comes.
        let _ = spawn_blocking(move || kept.write()).await;
        pause = every.max(began.elapsed() * PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_a_whole_or_not_at_all() {
        let id = "0123456789abcdef0123456789abcdef";
        let read = |lines: &str| rows(&format!("{HEADER} monthly\n{lines}"), "monthly").ok();
        let account = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(read(&format!("{id} -60 7\n")), Some(vec![Row { account, start: -60, used: 7 }]));
        assert_eq!(read(""), Some(Vec::new()));
        for bad in ["\n", "x", &format!("{id} 1"), &format!("{id} 1 2 3"), &format!("{id} 1 -2"), "0 1 2"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        for text in ["", "portcullis-quota 1 daily\n", "portcullis-quota 2 monthly\n"] {
            assert!(rows(text, "monthly").is_err(), "{text:?}");
        }
    }
}
