//! The file of API keys as a store that can be written.
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    mem,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_blocking, time::sleep};

use super::{
    document::Document,
    files::{LARGEST, print, slurp},
    schema::{KeyFile, schema_of},
};
use crate::{
    authn::api_key::{
        Asked, KeyChange, KeyEntry, KeyList, KeyStore, KeyStoreError, KeyUse, KeyVersion, MAX_KEYS,
    },
    file::{fresh, replace},
};

/// How long a change should rest before it is taken: the file may be half written.
const REST: Duration = Duration::from_millis(250);
/// How many changes are waited for to rest: whoever writes all the time keeps no revocation from coming into force.
const RESTS: u32 = 3;

/// Keeps keys in a [file](https://docs.rs/portcullis) of the form that `apiKey` names: `keys:` and a list of entries.
///
/// It is replaced atomically, by renaming a whole file into its place, so that no reader sees half of it; its
/// permissions and the comments at its top stay. Writers on one machine wait for each other. When keys were last used
/// stands beside it, in a file with `.used` behind the name: gateways write there, and never where people write.
///
/// ```
/// use portcullis::{authn::api_key::{KeyAdmin, mint}, config::FileKeyStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("portcullis-doc-{}.yaml", std::process::id()));
/// let store = FileKeyStore::create(&path)?;
/// KeyAdmin::new(store).create(mint("shop", "acme")?).await?;
/// assert!(std::fs::read_to_string(&path)?.contains("owner: \"acme\""));
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileKeyStore(Arc<Paths>);

#[derive(Debug)]
struct Paths {
    keys: PathBuf,
    used: PathBuf,
}

impl FileKeyStore {
    /// The keys of this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let keys = path.into();
        let mut used = keys.clone().into_os_string();
        used.push(".used");
        Self(Arc::new(Paths { keys, used: used.into() }))
    }

    /// The same, with a file that is made if there is none. Only its owner can read it.
    ///
    /// # Errors
    /// The system's, if it cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let store = Self::new(path);
        match fresh(&store.0.keys) {
            Ok(mut file) => file.write_all(b"keys: []\n")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(store)
    }

    /// All keys that stand there now. It blocks.
    ///
    /// # Errors
    /// [`KeyStoreError`]; what is wrong with the file is told with lines and columns.
    pub fn load(&self) -> Result<Vec<KeyEntry>, KeyStoreError> {
        self.0.read().map(|list| list.entries)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Paths) -> Result<T, KeyStoreError> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let paths = Arc::clone(&self.0);
        spawn_blocking(move || work(&paths)).await.unwrap_or_else(|lost| Err(unavailable(lost)))
    }

    async fn look(&self, known: Option<KeyVersion>) -> Result<Option<KeyList>, KeyStoreError> {
        let mut version = self.version().await?;
        if known == Some(version) {
            return Ok(None);
        }
        for _ in 0..if known.is_some() { RESTS } else { 0 } {
            sleep(REST).await;
            let before = mem::replace(&mut version, self.version().await?);
            if before == version {
                break;
            }
        }
        self.blocking(Paths::read).await.map(Some)
    }

    async fn version(&self) -> Result<KeyVersion, KeyStoreError> {
        self.blocking(|paths| Ok(paths.text()?.0)).await
    }
}

impl KeyStore for FileKeyStore {
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
        Box::pin(self.look(known))
    }

    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
        Box::pin(self.blocking(move |paths| paths.write(at, changes)))
    }

    fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()> {
        Box::pin(self.blocking(move |paths| paths.tell(uses)))
    }
}

impl Paths {
    fn text(&self) -> Result<(KeyVersion, Vec<u8>), KeyStoreError> {
        let text = slurp(&self.keys);
        let version = KeyVersion(print(&text));
        let named = |problem| unavailable(format!("{}: {problem}", self.keys.display()));
        text.map(|text| (version, text)).map_err(named)
    }

    /// The keys as they stand there: all of them, or none.
    fn read(&self) -> Result<KeyList, KeyStoreError> {
        let (version, text) = self.text()?;
        let document =
            Document::<KeyFile>::read(&self.keys.to_string_lossy(), &text, &schema_of::<KeyFile>().into());
        let malformed = |faults: super::Faults| KeyStoreError::Malformed(faults.to_string());
        let Document { typed, log, .. } = document.map_err(malformed)?;
        let faults = log.into_faults();
        let file = typed.filter(|_| !faults.refuse()).ok_or_else(|| malformed(faults))?;
        let used = self.uses();
        let entries = file.keys.into_iter().map(|item| match used.get(item.0.id()) {
            Some(at) => item.0.last_used(*at),
            None => item.0,
        });
        let list = KeyList::new(version, entries.collect());
        list.check().map_err(|error| KeyStoreError::Malformed(error.to_string()))?;
        Ok(list)
    }

    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Result<(), KeyStoreError> {
        // Links stay links.
        let path = self.keys.canonicalize().map_err(unavailable)?;
        let lock = File::open(&path).map_err(unavailable)?;
        lock.lock().map_err(unavailable)?;
        // Whoever had the lock before may have put another file here: what counts is what stands here now.
        let list = self.read()?;
        if list.version != at {
            return Err(KeyStoreError::Conflict);
        }
        let mut entries = list.entries;
        let mut places: HashMap<String, usize> =
            entries.iter().enumerate().map(|(at, entry)| (entry.id().to_owned(), at)).collect();
        let mut gone = vec![false; entries.len()];
        for change in changes {
            match change {
                KeyChange::Put(entry) => match places.get(entry.id()) {
                    Some(place) => (entries[*place], gone[*place]) = (*entry, false),
                    None => {
                        places.insert(entry.id().to_owned(), entries.len());
                        entries.push(*entry);
                        gone.push(false);
                    }
                },
                KeyChange::Forget(id) => {
                    if let Some(place) = places.get(&id) {
                        gone[*place] = true;
                    }
                }
            }
        }
        let entries: Vec<_> =
            entries.into_iter().zip(gone).filter(|(_, gone)| !gone).map(|(entry, _)| entry).collect();
        let text = file_text(&self.text()?.1, &entries);
        if text.len() as u64 > LARGEST {
            return Err(KeyStoreError::Malformed("the file would be larger than 1 MiB".to_owned()));
        }
        replace(&path, text.as_bytes()).map_err(unavailable)?;
        let uses = entries.iter().filter_map(|entry| entry.last_use().map(|at| (entry.id().to_owned(), at)));
        self.put_uses(&uses.collect())
    }

    fn tell(&self, uses: Vec<KeyUse>) -> Result<(), KeyStoreError> {
        let lock = File::open(&self.keys).map_err(unavailable)?;
        lock.lock().map_err(unavailable)?;
        let mut all = self.uses();
        for KeyUse { id, at } in uses {
            let last = all.entry(id).or_insert(at);
            *last = at.max(*last);
        }
        self.put_uses(&all)
    }

    /// Lines of a key's id and a time. What is no such line says nothing.
    fn uses(&self) -> BTreeMap<String, SystemTime> {
        let text = slurp(&self.used).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| {
            let (id, seconds) = line.split_once(' ')?;
            let seconds = Duration::from_secs(seconds.parse::<u32>().ok()?.into());
            Some((id.to_owned(), SystemTime::UNIX_EPOCH + seconds))
        });
        lines.take(MAX_KEYS).collect()
    }

    fn put_uses(&self, uses: &BTreeMap<String, SystemTime>) -> Result<(), KeyStoreError> {
        let mut text = String::new();
        for (id, at) in uses.iter().take(MAX_KEYS) {
            let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{id} {seconds}");
        }
        if uses.is_empty() && !self.used.exists() {
            return Ok(());
        }
        replace(&self.used, text.as_bytes()).map_err(unavailable)
    }
}

/// The file with these entries, below the comments that stand at its top.
fn file_text(before: &[u8], entries: &[KeyEntry]) -> String {
    let before = String::from_utf8_lossy(before);
    let comment = |line: &&str| line.trim().is_empty() || line.starts_with('#');
    let mut text: String = before.lines().take_while(comment).flat_map(|line| [line, "\n"]).collect();
    text.push_str(if entries.is_empty() { "keys: []\n" } else { "keys:\n" });
    entries.iter().for_each(|entry| text.push_str(&entry.without_use().to_yaml()));
    text
}

fn unavailable(error: impl Into<crate::body::BoxError>) -> KeyStoreError {
    KeyStoreError::Unavailable(error.into())
}
