use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;

use super::{KeyEntry, KeyHash, text};
use crate::identity::Principal;

/// The most keys of a table.
pub const MAX_KEYS: usize = 100_000;

/// The keys of one provider, found by their public part.
pub struct KeyTable {
    entries: HashMap<Box<str>, Entry>,
}

struct Entry {
    hash: KeyHash,
    expires: Option<SystemTime>,
    principal: Principal,
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
    /// There is no such key, or its secret is wrong.
    #[error("the API key is unknown")]
    Unknown,
}

/// Compared with the hash of keys that are unknown, so that they take the same work. It is the hash of nothing known.
const DUMMY: KeyHash = KeyHash([0x5a; 32]);

impl KeyTable {
    /// A table of these entries. `provider` is the first part of the principals; their subject is the owner.
    ///
    /// # Errors
    /// [`KeyTableError`]
    pub fn new(provider: &str, entries: impl IntoIterator<Item = KeyEntry>) -> Result<Self, KeyTableError> {
        let provider: Arc<str> = provider.into();
        let mut table = HashMap::new();
        for entry in entries {
            let id: Box<str> = entry.id().into();
            if !text::is_id(&id) {
                return Err(KeyTableError::Id(id));
            }
            if entry.owner().trim().is_empty() {
                return Err(KeyTableError::Owner(id));
            }
            if table.len() == MAX_KEYS {
                return Err(KeyTableError::TooMany);
            }
            let kept =
                Entry { hash: entry.hash(), expires: entry.end(), principal: principal(&provider, &entry) };
            if table.insert(id, kept).is_some() {
                return Err(KeyTableError::Duplicate(entry.id().into()));
            }
        }
        Ok(Self { entries: table })
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whose key this is. A key that is written rightly costs one hash and one comparison, known or not.
    ///
    /// # Errors
    /// [`InvalidKey`], for logs.
    pub fn verify(&self, key: &str, now: SystemTime) -> Result<Principal, InvalidKey> {
        let id = text::id_of(key).ok_or(InvalidKey::Malformed)?;
        let entry = self.entries.get(id);
        let wanted = entry.map_or(DUMMY, |entry| entry.hash);
        let equal = bool::from(KeyHash::of(key).0.ct_eq(&wanted.0));
        match entry {
            Some(entry) if equal && entry.expires.is_some_and(|end| now >= end) => Err(InvalidKey::Expired),
            Some(entry) if equal => Ok(entry.principal.clone()),
            _ => Err(InvalidKey::Unknown),
        }
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

/// A provider's keys, which can be replaced while requests are served. Clones are handles to the same keys; reading
/// takes no lock.
#[derive(Clone)]
pub struct ApiKeys(Arc<ArcSwap<KeyTable>>);

impl ApiKeys {
    /// Puts these keys in the place of the present ones, for the next request on.
    pub fn replace(&self, table: KeyTable) {
        self.0.store(Arc::new(table));
    }

    /// The present keys.
    #[must_use]
    pub fn current(&self) -> Arc<KeyTable> {
        self.0.load_full()
    }

    pub(super) fn verify(&self, key: &str, now: SystemTime) -> Result<Principal, InvalidKey> {
        self.0.load().verify(key, now)
    }
}

impl From<KeyTable> for ApiKeys {
    fn from(table: KeyTable) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(table)))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiKeys").field(&*self.0.load()).finish()
    }
}
