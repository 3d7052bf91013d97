use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use super::{KeyEntry, KeyTableError, KeyUse, MAX_KEYS};
use crate::body::BoxError;

/// What a [`KeyStore`] answers in time.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyStoreError>> + Send + 'a>>;

/// Keeps the entries of one provider's keys.
///
/// It is a list with a version and no more: what is done with keys is in [`KeyAdmin`](super::KeyAdmin), and the hot path
/// reads a table in memory, which [`KeyFollower`](super::KeyFollower) keeps like the list. So a store of your own is
/// three methods:
///
/// ```
/// use portcullis::authn::api_key::{
///     Asked, KeyAdmin, KeyChange, KeyList, KeyStore, KeyUse, KeyVersion, MemoryKeyStore, mint,
/// };
///
/// /// Tells an auditor of every change.
/// #[derive(Debug)]
/// struct Audited(MemoryKeyStore);
///
/// impl KeyStore for Audited {
///     fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
///         self.0.read(known)
///     }
///     fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
///         println!("{changes:?}"); // hashes do not show
///         self.0.write(at, changes)
///     }
///     fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()> {
///         self.0.used(uses)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let admin = KeyAdmin::new(Audited(MemoryKeyStore::default()));
/// let minted = admin.create(mint("shop", "acme")?).await?;
/// assert_eq!(admin.list().await?[0].id(), minted.entry().id());
/// # Ok(())
/// # }
/// ```
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// What is kept; `None` if it still is what had the version `known`. It is asked about once a second.
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>>;

    /// Makes all the changes or none, if what is kept still has the version `at`; else it fails with
    /// [`KeyStoreError::Conflict`].
    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()>;

    /// Remembers the uses, if it can. It is no change: the version stays. Each key's latest use counts, and uses of keys
    /// that are not there are forgotten.
    fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()>;
}

/// Tells what is kept from what was kept before. It says nothing of which is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyVersion(pub u64);

/// What a store keeps.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeyList {
    /// Its version.
    pub version: KeyVersion,
    /// The entries, with their last uses.
    pub entries: Vec<KeyEntry>,
    /// How many entries cannot be read. They are left out, and stay where they are.
    pub unreadable: usize,
}

impl KeyList {
    /// These entries, in this version.
    #[must_use]
    pub fn new(version: KeyVersion, entries: Vec<KeyEntry>) -> Self {
        Self { version, entries, unreadable: 0 }
    }

    /// Whether a table can be made of these entries, if the peppers are there.
    ///
    /// # Errors
    /// [`KeyTableError`]
    pub fn check(&self) -> Result<(), KeyTableError> {
        let mut ids = HashSet::new();
        for entry in &self.entries {
            if !ids.insert(entry.check()?) {
                return Err(KeyTableError::Duplicate(entry.id().into()));
            }
        }
        if ids.len() > MAX_KEYS { Err(KeyTableError::TooMany) } else { Ok(()) }
    }
}

/// One change of what is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum KeyChange {
    /// Forgets the key of this public part, as if it had never been.
    Forget(String),
    /// Puts the entry in the place of that of the same public part, or at the end.
    Put(Box<KeyEntry>),
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// Somebody else changed what is kept in the meantime.
    #[error("somebody else has changed the keys meanwhile")]
    Conflict,
    /// What was kept is gone: it is no list without keys, but no list.
    #[error("there is no list of keys in the store any more")]
    Lost,
    /// What is kept cannot be used.
    #[error("the keys cannot be used: {0}")]
    Malformed(String),
    /// It cannot be asked now.
    #[error("the store cannot be asked: {0}")]
    Unavailable(#[source] BoxError),
}

/// Keeps keys as long as the process lives: for tests, and for keys that are made at the start.
#[derive(Default)]
pub struct MemoryKeyStore(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    version: u64,
    entries: BTreeMap<String, KeyEntry>,
}

impl MemoryKeyStore {
    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> Result<T, KeyStoreError>) -> Asked<'_, T>
    where
        T: Send + 'static,
    {
        Box::pin(ready(work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

impl KeyStore for MemoryKeyStore {
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
        self.with(|memory| {
            let version = KeyVersion(memory.version);
            let list = || KeyList::new(version, memory.entries.values().cloned().collect());
            Ok((known != Some(version)).then(list))
        })
    }

    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
        self.with(|memory| {
            if at != KeyVersion(memory.version) {
                return Err(KeyStoreError::Conflict);
            }
            memory.version += 1;
            for change in changes {
                match change {
                    KeyChange::Forget(id) => drop(memory.entries.remove(&id)),
                    KeyChange::Put(entry) => drop(memory.entries.insert(entry.id().to_owned(), *entry)),
                }
            }
            Ok(())
        })
    }

    fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()> {
        self.with(|memory| {
            for KeyUse { id, at } in uses {
                if let Some(entry) = memory.entries.get_mut(&id) {
                    *entry = entry.clone().last_used(at);
                }
            }
            Ok(())
        })
    }
}

impl fmt::Debug for MemoryKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeyStore").finish_non_exhaustive()
    }
}
