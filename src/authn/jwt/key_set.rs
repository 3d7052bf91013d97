use std::{collections::HashMap, fmt, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Algorithm, Key, KeyError, headers::Headers, key::Verifier};

/// The largest key set document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 512 * 1024;
/// The most keys of a set.
pub const MAX_KEYS: usize = 256;
/// The most keys that one token is tried against.
const MAX_TRIES: usize = 8;

/// The keys that verify a provider's tokens.
///
/// A token's `kid` selects among the keys that have a name; keys without a name are tried for any token. A token
/// without `kid` is tried against the keys that fit its algorithm. No token is tried against more than eight.
///
/// ```
/// use portcullis::authn::jwt::{Key, KeySet};
///
/// let keys = KeySet::new([Key::secret(&[7; 32])?.named("2026-11")])?;
/// assert_eq!(keys.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeySet {
    keys: Vec<Arc<Key>>,
    by_id: HashMap<Box<str>, Vec<usize>>,
    unnamed: Vec<usize>,
    skipped: Vec<Skipped>,
    /// Of tokens that these keys have verified.
    pub(super) headers: Headers,
}

/// A key of a document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its place in the document, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub error: KeyError,
}

/// Why a key set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It is not a JSON Web Key Set (RFC 7517 section 5).
    #[error("not a JSON Web Key Set: an object with a list of keys is needed")]
    Malformed,
    /// There is no key that can be used.
    #[error("no usable key among {}: {}", .0.len(), Reasons(.0))]
    NoKey(Vec<Skipped>),
    /// The document is larger than [`MAX_DOCUMENT`].
    #[error("the document is larger than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// There are more keys than [`MAX_KEYS`].
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
}

struct Reasons<'a>(&'a [Skipped]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(first) => write!(f, "key {}: {}", first.index, first.error),
            None => f.write_str("it is empty"),
        }
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// A set of these keys.
    ///
    /// # Errors
    /// [`KeySetError`] if there are none or too many.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeySetError> {
        Self::with_skipped(keys.into_iter().take(MAX_KEYS + 1).collect(), Vec::new())
    }

    /// The usable keys of a JSON Web Key Set. Those that cannot be used are left out, and told by
    /// [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// [`KeySetError`] if it is no such document, is too large, or has no usable key.
    pub fn jwks(json: &str) -> Result<Self, KeySetError> {
        Self::read(json, Key::jwk)
    }

    /// As [`jwks`](Self::jwks), of a document that everybody can read: shared secrets are left out of it.
    pub(in crate::authn) fn published(json: &str) -> Result<Self, KeySetError> {
        Self::read(json, |json| match Key::jwk(json)? {
            key if key.is_secret() => Err(KeyError::Published),
            key => Ok(key),
        })
    }

    fn read(json: &str, key: impl Fn(&str) -> Result<Key, KeyError>) -> Result<Self, KeySetError> {
        if json.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLarge);
        }
        let document: Document<'_> = serde_json::from_str(json).map_err(|_| KeySetError::Malformed)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, raw) in document.keys.iter().enumerate() {
            match key(raw.get()) {
                Ok(key) => keys.push(key),
                Err(error) => skipped.push(Skipped { index, error }),
            }
        }
        Self::with_skipped(keys, skipped)
    }

    fn with_skipped(keys: Vec<Key>, skipped: Vec<Skipped>) -> Result<Self, KeySetError> {
        if keys.is_empty() {
            return Err(KeySetError::NoKey(skipped));
        }
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let (mut by_id, mut unnamed) = (HashMap::<Box<str>, Vec<usize>>::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            match key.id() {
                Some(id) => by_id.entry(id.into()).or_default().push(index),
                None => unnamed.push(index),
            }
        }
        let keys = keys.into_iter().map(Arc::new).collect();
        Ok(Self { keys, by_id, unnamed, skipped, headers: Headers::default() })
    }

    /// Takes the place of `before`: a key that was there is the one that was there, so that what it has verified stays
    /// verified.
    pub(super) fn after(mut self, before: &Self) -> Self {
        for key in &mut self.keys {
            if let Some(known) = before.of_id(key.id()).find(|known| known.is(key)) {
                *key = Arc::clone(known);
            }
        }
        self
    }

    /// Whether this very key is in the set.
    pub(in crate::authn) fn has(&self, key: &Arc<Key>) -> bool {
        self.of_id(key.id()).any(|own| Arc::ptr_eq(own, key))
    }

    fn of_id(&self, id: Option<&str>) -> impl Iterator<Item = &Arc<Key>> + '_ {
        let places = match id {
            Some(id) => self.by_id.get(id).map_or(&[][..], Vec::as_slice),
            None => self.unnamed.as_slice(),
        };
        places.iter().map(|&place| &self.keys[place])
    }

    /// The number of usable keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without a usable key is not made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The usable keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(|key| &**key)
    }

    /// The usable keys, to be held beyond the set's life.
    #[cfg(test)]
    pub(in crate::authn) fn shared(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter()
    }

    /// The keys of the document that were left out, each with the reason.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether a token with this `kid` can be verified here at all.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| !self.unnamed.is_empty() || self.by_id.contains_key(id))
    }

    /// Whether a key of that name is here. Of a token without `kid` nobody can say so: a key that comes later may be the
    /// one that has signed it, named or not.
    pub(super) fn is_complete(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| self.by_id.contains_key(id))
    }

    /// The keys to try for a token.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = (&Arc<Key>, &Verifier)> + '_ {
        let named = id.and_then(|id| self.by_id.get(id)).map_or(&[][..], Vec::as_slice);
        let rest = if id.is_some() { self.unnamed.as_slice() } else { &[] };
        let all = if id.is_none() { 0..self.keys.len() } else { 0..0 };
        let indices = named.iter().copied().chain(rest.iter().copied()).chain(all);
        let fitting = indices.filter_map(move |index| {
            let key = &self.keys[index];
            Some((key, key.verifier(algorithm)?))
        });
        fitting.take(MAX_TRIES)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys).field("skipped", &self.skipped).finish()
    }
}
