use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use subtle::ConstantTimeEq as _;

use super::{KeyEntry, KeyState, Pepper, Peppers, hash, text};
use crate::{identity::Principal, time::date};

/// The most keys of a table.
pub const MAX_KEYS: usize = 100_000;

/// A key's last use is remembered to this many seconds, so that most requests write nothing.
const COARSE: u64 = 60;

/// The keys of one provider, found by their public part.
pub struct KeyTable {
    provider: Arc<str>,
    peppers: Peppers,
    entries: HashMap<text::Id, Entry>,
}

struct Entry {
    hash: [u8; 32],
    pepper: Option<Pepper>,
    revoked: Option<SystemTime>,
    not_before: Option<SystemTime>,
    expires: Option<SystemTime>,
    principal: Principal,
    /// When it was last used, in seconds.
    used: AtomicU64,
    /// Which use the store knows of.
    stored: AtomicU64,
}

/// That a key was used, for whoever keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUse {
    /// The public part of the key.
    pub id: String,
    /// When, to about a minute.
    pub at: SystemTime,
}

impl KeyUse {
    /// That the key with this public part was used at this moment.
    #[must_use]
    pub fn new(id: impl Into<String>, at: SystemTime) -> Self {
        Self { id: id.into(), at }
    }
}

/// Why a table cannot be used. No hash is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTableError {
    /// Two entries have one public part.
    #[error("two keys have the id {0:?}")]
    Duplicate(Box<str>),
    /// The public part is not of the form that keys have.
    #[error("{0:?} is not the id of a key: 12 letters and digits are needed")]
    Id(Box<str>),
    /// The entry says nothing about whose key it is.
    #[error("the key {0:?} has no owner")]
    Owner(Box<str>),
    /// The hash is under a pepper that is not there.
    #[error("the hash of the key {0:?} is under a pepper that is not known")]
    Pepper(Box<str>),
    /// There are more than [`MAX_KEYS`].
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
}

/// Why a key is not valid. For logs: strangers get one answer for all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The key has ended.
    #[error("the API key has expired")]
    Expired,
    /// It is not written as a key is: a typing error, most often.
    #[error("not an API key")]
    Malformed,
    /// The key is not valid yet.
    #[error("the API key is not valid yet")]
    NotYet,
    /// The key was taken back.
    #[error("the API key is revoked")]
    Revoked,
    /// There is no such key, or its secret is wrong.
    #[error("the API key is unknown")]
    Unknown,
}

/// Compared with the hash of keys that are unknown, so that they take the same work. It is the hash of nothing known.
const DUMMY: [u8; 32] = [0x5a; 32];

impl KeyTable {
    /// A table of these entries. `provider` is the first part of the principals; their subject is the owner.
    ///
    /// # Errors
    /// [`KeyTableError`]
    pub fn new(provider: &str, entries: impl IntoIterator<Item = KeyEntry>) -> Result<Self, KeyTableError> {
        Self::peppered(provider, Peppers::default(), entries)
    }

    /// A table of these entries, whose hashes may be under these peppers.
    ///
    /// # Errors
    /// [`KeyTableError`]
    pub fn peppered(
        provider: &str,
        peppers: Peppers,
        entries: impl IntoIterator<Item = KeyEntry>,
    ) -> Result<Self, KeyTableError> {
        let mut table = Self::empty(provider, peppers);
        entries.into_iter().try_for_each(|entry| table.add(&entry))?;
        Ok(table)
    }

    pub(super) fn empty(provider: &str, peppers: Peppers) -> Self {
        Self { provider: provider.into(), peppers, entries: HashMap::new() }
    }

    pub(super) fn add(&mut self, entry: &KeyEntry) -> Result<(), KeyTableError> {
        let id = entry.check()?;
        let refused = || Box::from(entry.id());
        let pepper = entry.hash().pepper().map(|name| self.peppers.find(name).cloned());
        if pepper.as_ref().is_some_and(Option::is_none) {
            return Err(KeyTableError::Pepper(refused()));
        }
        if self.entries.contains_key(&id) {
            return Err(KeyTableError::Duplicate(refused()));
        }
        if self.entries.len() == MAX_KEYS {
            return Err(KeyTableError::TooMany);
        }
        let used = entry.last_use().map_or(0, date::seconds);
        let kept = Entry {
            hash: entry.hash().bytes,
            pepper: pepper.flatten(),
            revoked: entry.revocation(),
            not_before: entry.begin(),
            expires: entry.end(),
            principal: principal(&self.provider, entry),
            used: used.into(),
            stored: used.into(),
        };
        self.entries.insert(id, kept);
        Ok(())
    }

    /// How many keys there are, also those that are not valid.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whose key this is. A key that is written rightly costs one look-up, one hash (two, if there are peppers) and one
    /// comparison, known or not.
    ///
    /// # Errors
    /// [`InvalidKey`], for logs.
    pub fn verify(&self, key: &str, now: SystemTime) -> Result<Principal, InvalidKey> {
        let id = text::id_of(key).and_then(text::to_id).ok_or(InvalidKey::Malformed)?;
        let entry = self.entries.get(&id);
        let plain = hash::digest(key);
        let own = entry.and_then(|entry| entry.pepper.as_ref());
        // The second step is taken for hashes without a pepper as well: nobody learns which are which.
        let sealed = own.or_else(|| self.peppers.any()).map(|pepper| pepper.seal(&plain));
        let found = if own.is_some() { sealed.unwrap_or(plain) } else { plain };
        let equal = bool::from(found.ct_eq(entry.map_or(&DUMMY, |entry| &entry.hash)));
        match entry {
            Some(entry) if equal => entry.check(now),
            _ => Err(InvalidKey::Unknown),
        }
    }

    /// The uses that the store does not know of.
    pub(super) fn uses(&self) -> Vec<KeyUse> {
        let news = self.entries.iter().filter_map(|(id, entry)| {
            let used = entry.used.load(Relaxed);
            let id = (used > entry.stored.load(Relaxed)).then(|| text::id_text(id))?;
            Some(KeyUse { id, at: date::from_seconds(used) })
        });
        news.collect()
    }

    /// The store knows of these now.
    pub(super) fn stored(&self, uses: &[KeyUse]) {
        for KeyUse { id, at } in uses {
            if let Some(entry) = text::to_id(id).and_then(|id| self.entries.get(&id)) {
                entry.stored.fetch_max(date::seconds(*at), Relaxed);
            }
        }
    }

    /// Takes over what only the table before it knows.
    pub(super) fn succeed(&self, before: &Self) {
        for (id, old) in &before.entries {
            if let Some(entry) = self.entries.get(id) {
                entry.used.fetch_max(old.used.load(Relaxed), Relaxed);
                entry.stored.fetch_max(old.stored.load(Relaxed), Relaxed);
            }
        }
    }
}

impl Entry {
    fn check(&self, now: SystemTime) -> Result<Principal, InvalidKey> {
        match KeyState::at(now, self.revoked, self.not_before, self.expires) {
            KeyState::Active => {}
            KeyState::Expired => return Err(InvalidKey::Expired),
            KeyState::NotYet => return Err(InvalidKey::NotYet),
            KeyState::Revoked => return Err(InvalidKey::Revoked),
        }
        let now = date::seconds(now);
        if now >= self.used.load(Relaxed) + COARSE {
            self.used.store(now, Relaxed);
        }
        Ok(self.principal.clone())
    }
}

fn principal(provider: &Arc<str>, entry: &KeyEntry) -> Principal {
    let mut principal = Principal::new(provider.clone(), "", entry.owner())
        .with_scopes(entry.scope_list())
        .with_roles(entry.role_list().iter().map(String::as_str));
    if let Some(plan) = entry.plan_name() {
        principal = principal.with_plan(plan);
    }
    match entry.end() {
        Some(end) => principal.with_expiry(end),
        None => principal,
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("len", &self.len()).finish()
    }
}
