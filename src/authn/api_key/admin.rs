use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    KeyChange, KeyEntry, KeyState, KeyStore, KeyStoreError, KeyTableError, MAX_KEYS, Minted, Pepper, mint,
};
use crate::time::{WallClock, date};

/// How often a change is tried when others are making theirs.
const ATTEMPTS: usize = 8;
/// What keys begin with, if nobody says.
const PREFIX: &str = "pc";

/// Makes keys, and takes them back: everything that is done with the keys of a [`KeyStore`] but verifying them.
///
/// What it does is in force wherever the store is [followed](super::KeyFollower) within two seconds.
///
/// ```
/// use std::time::Duration;
/// use portcullis::authn::api_key::{KeyAdmin, MemoryKeyStore, Rotation, mint};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let admin = KeyAdmin::new(MemoryKeyStore::default());
/// let first = admin.create(mint("shop", "acme")?.with(|entry| entry.scopes(["orders.read"]))).await?;
///
/// // A new key; the old one stays good for a week.
/// let second = admin.rotate(first.entry().id(), Rotation::overlap(Duration::from_secs(7 * 86_400))).await?;
/// assert_eq!(second.entry().scope_list(), ["orders.read"]);
///
/// admin.revoke(first.entry().id()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct KeyAdmin {
    store: Arc<dyn KeyStore>,
    pepper: Option<Pepper>,
    clock: WallClock,
}

/// How a key gives way to the next.
#[derive(Debug, Clone)]
#[must_use]
pub struct Rotation {
    overlap: Duration,
    expires: Option<SystemTime>,
}

/// What became of a backup's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Entries that were put into the store.
    pub put: usize,
    /// Entries that the store has, and that stayed as they were.
    pub kept: usize,
}

/// Why something was not done with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyAdminError {
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// There is no key of this public part.
    #[error("there is no key with the id {0:?}")]
    Unknown(Box<str>),
    /// The key is not valid any more.
    #[error("the key {0:?} is not valid any more")]
    Ended(Box<str>),
    /// The key ends, and it is not known how long it was to live: say when the next one ends.
    #[error("the key {0:?} does not say when it was made: say when the new one ends")]
    Lifetime(Box<str>),
    /// The entry cannot be kept.
    #[error(transparent)]
    Entry(#[from] KeyTableError),
    /// No key could be made.
    #[error("no key can be made: {0}")]
    Mint(#[from] std::io::Error),
}

impl Rotation {
    /// The old key stays valid for this long, but no longer than it would have been.
    pub fn overlap(overlap: Duration) -> Self {
        Self { overlap, expires: None }
    }

    /// When the new key ends. Unless told it lives as long as the old one was to.
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }
}

/// What is to be done, and what to tell of it.
type Decision<T> = Result<(Vec<KeyChange>, T), KeyAdminError>;

impl KeyAdmin {
    /// Of this store.
    pub fn new(store: impl KeyStore) -> Self {
        Self::shared(Arc::new(store))
    }

    /// Of a store that others use too.
    pub fn shared(store: Arc<dyn KeyStore>) -> Self {
        Self { store, pepper: None, clock: WallClock::default() }
    }

    /// Puts the hashes of keys that it makes under this pepper.
    pub fn pepper(mut self, pepper: Pepper) -> Self {
        self.pepper = Some(pepper);
        self
    }

    /// The clock by which keys are made and taken back.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps a new key.
    ///
    /// # Errors
    /// [`KeyAdminError`]
    pub async fn create(&self, minted: Minted) -> Result<Minted, KeyAdminError> {
        let minted = self.finish(minted);
        self.change(|_| Ok((vec![put(minted.entry().clone())], ()))).await?;
        Ok(minted)
    }

    /// All keys, also those that are not valid any more.
    ///
    /// # Errors
    /// [`KeyAdminError::Store`]
    pub async fn list(&self) -> Result<Vec<KeyEntry>, KeyAdminError> {
        let list = self.store.read(None).await?;
        Ok(list.ok_or(KeyStoreError::Lost)?.entries)
    }

    /// One key.
    ///
    /// # Errors
    /// [`KeyAdminError::Unknown`], [`KeyAdminError::Store`]
    pub async fn find(&self, id: &str) -> Result<KeyEntry, KeyAdminError> {
        find(&self.list().await?, id).cloned()
    }

    /// Makes the next key of the same owner, with the same scopes, roles, plan and notes, and lets the old one end.
    ///
    /// # Errors
    /// [`KeyAdminError`]
    pub async fn rotate(&self, id: &str, rotation: Rotation) -> Result<Minted, KeyAdminError> {
        let old = self.find(id).await?;
        let minted = self.finish(mint(old.prefix_text().unwrap_or(PREFIX), old.owner())?);
        let now = self.clock.now();
        let entry = self
            .change(|entries| {
                let old = find(entries, id)?;
                if matches!(old.state(now), KeyState::Revoked | KeyState::Expired) {
                    return Err(KeyAdminError::Ended(id.into()));
                }
                let mut new = minted.entry().clone().inherit(old);
                if let Some(end) = rotation.end(old, now)? {
                    new = new.expires(end);
                }
                let old = old.clone().ending(date::after(now, rotation.overlap));
                Ok((vec![put(old), put(new.clone())], new))
            })
            .await?;
        Ok(minted.with(|_| entry))
    }

    /// Takes a key back. It stays in the list; to revoke it again changes nothing.
    ///
    /// # Errors
    /// [`KeyAdminError::Unknown`], [`KeyAdminError::Store`]
    pub async fn revoke(&self, id: &str) -> Result<(), KeyAdminError> {
        let now = self.clock.now();
        self.change(|entries| {
            let entry = find(entries, id)?;
            let revoked = entry.clone().revoked(now);
            Ok((if *entry == revoked { Vec::new() } else { vec![put(revoked)] }, ()))
        })
        .await
    }

    /// Puts back what [`list`](Self::list) told once. Keys that the store has stay as they are, unless `replace`; what
    /// is revoked in either stays revoked.
    ///
    /// Of keys that the store does not have it knows nothing: one that was revoked after the backup, and then
    /// [pruned](Self::prune) or lost with the store, comes back as it was in the backup, and is good again. Revoke it
    /// again.
    ///
    /// # Errors
    /// [`KeyAdminError`]; then nothing was put back.
    pub async fn restore(&self, backup: Vec<KeyEntry>, replace: bool) -> Result<Restored, KeyAdminError> {
        self.change(|entries| {
            let known: HashMap<&str, &KeyEntry> = entries.iter().map(|entry| (entry.id(), entry)).collect();
            let mut restored = Restored::default();
            let mut changes = Vec::new();
            for entry in &backup {
                let wanted = match known.get(entry.id()) {
                    None => entry.clone(),
                    Some(own) => {
                        let base = if replace { entry } else { *own };
                        let revocation = own.revocation().or(entry.revocation());
                        revocation.into_iter().fold(base.clone(), KeyEntry::revoked)
                    }
                };
                if known.get(entry.id()).is_some_and(|own| **own == wanted) {
                    restored.kept += 1;
                } else {
                    restored.put += 1;
                    changes.push(put(wanted));
                }
            }
            Ok((changes, restored))
        })
        .await
    }

    /// Puts the hashes that are under no pepper under this one. The keys stay what they are. Returns how many.
    ///
    /// # Errors
    /// [`KeyAdminError::Store`]
    pub async fn rehash(&self, pepper: &Pepper) -> Result<usize, KeyAdminError> {
        self.change(|entries| {
            let bare = entries.iter().filter(|entry| entry.hash().pepper().is_none());
            let changes: Vec<_> = bare.map(|entry| put(entry.clone().peppered(pepper))).collect();
            let count = changes.len();
            Ok((changes, count))
        })
        .await
    }

    /// Forgets the keys that ended, or were taken back, before this moment. Returns how many.
    ///
    /// It forgets that they were taken back, too: a backup from before that [brings them back](Self::restore). So this
    /// moment is to be earlier than the oldest backup that may ever be restored.
    ///
    /// # Errors
    /// [`KeyAdminError::Store`]
    pub async fn prune(&self, before: SystemTime) -> Result<usize, KeyAdminError> {
        self.change(|entries| {
            let gone = entries.iter().filter(|entry| {
                [entry.end(), entry.revocation()].into_iter().flatten().any(|end| end < before)
            });
            let changes: Vec<_> = gone.map(|entry| KeyChange::Forget(entry.id().to_owned())).collect();
            let count = changes.len();
            Ok((changes, count))
        })
        .await
    }

    fn finish(&self, minted: Minted) -> Minted {
        let minted = minted.with(|entry| entry.created(self.clock.now()));
        match &self.pepper {
            Some(pepper) => minted.peppered(pepper),
            None => minted,
        }
    }

    /// Decides on what is kept and writes it; again, if somebody else was faster.
    async fn change<T>(&self, decide: impl Fn(&[KeyEntry]) -> Decision<T>) -> Result<T, KeyAdminError> {
        for _ in 0..ATTEMPTS {
            let list = self.store.read(None).await?.ok_or(KeyStoreError::Lost)?;
            let (changes, told) = decide(&list.entries)?;
            if changes.is_empty() {
                return Ok(told);
            }
            check(&list.entries, &changes)?;
            match self.store.write(list.version, changes).await {
                Err(KeyStoreError::Conflict) => {}
                written => return Ok(written.map(|()| told)?),
            }
        }
        Err(KeyStoreError::Conflict.into())
    }
}

impl Rotation {
    /// When the key after `old` ends.
    fn end(&self, old: &KeyEntry, now: SystemTime) -> Result<Option<SystemTime>, KeyAdminError> {
        let Some(end) = old.end().filter(|_| self.expires.is_none()) else { return Ok(self.expires) };
        let created = old.creation().ok_or_else(|| KeyAdminError::Lifetime(old.id().into()))?;
        Ok(Some(date::after(now, end.duration_since(created).unwrap_or_default())))
    }
}

fn put(entry: KeyEntry) -> KeyChange {
    KeyChange::Put(Box::new(entry))
}

fn find<'e>(entries: &'e [KeyEntry], id: &str) -> Result<&'e KeyEntry, KeyAdminError> {
    let found = entries.iter().find(|entry| entry.id() == id);
    found.ok_or_else(|| KeyAdminError::Unknown(id.into()))
}

/// Whether a table could be made of what will be kept.
fn check(entries: &[KeyEntry], changes: &[KeyChange]) -> Result<(), KeyTableError> {
    let mut more = 0;
    for change in changes {
        if let KeyChange::Put(entry) = change {
            entry.check()?;
            more += 1;
        }
    }
    // Those that take another's place are counted only where it matters.
    let total = || {
        let known: std::collections::HashSet<&str> = entries.iter().map(KeyEntry::id).collect();
        let new = changes.iter().filter(|change| match change {
            KeyChange::Put(entry) => !known.contains(entry.id()),
            KeyChange::Forget(_) => false,
        });
        entries.len() + new.count()
    };
    if entries.len() + more > MAX_KEYS && total() > MAX_KEYS { Err(KeyTableError::TooMany) } else { Ok(()) }
}
