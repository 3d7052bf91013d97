use std::{fmt, io};

use super::{InvalidText, KeyEntry, KeyHash, Pepper, text};

/// A key that was just made. It is shown once, to whom it is for, and cannot be had again.
#[must_use]
pub struct Minted {
    key: String,
    entry: KeyEntry,
}

/// Makes a new key for `owner`. The prefix, of lower-case letters, digits and `_`, says whose keys these are:
/// `acme_live`.
///
/// ```
/// use portcullis::authn::api_key;
///
/// let minted = api_key::mint("shop", "acme")?.with(|entry| entry.scopes(["orders.read"]));
/// assert!(minted.reveal().starts_with("shop_"));
/// assert!(minted.entry().to_yaml().contains("owner: \"acme\""));
/// assert!(!minted.entry().to_yaml().contains(minted.reveal()));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if the prefix is not of that form or longer than 32 characters; the system's error if
/// it has no randomness.
pub fn mint(prefix: &str, owner: impl Into<String>) -> io::Result<Minted> {
    if !text::is_prefix(prefix) {
        let expected = "a prefix of 1 to 32 lower-case letters, digits and `_`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, InvalidText { expected }));
    }
    let key = text::generate(prefix)?;
    let id = text::id_of(&key).ok_or_else(|| io::Error::other("a new key cannot be read"))?;
    let entry = KeyEntry::new(id, KeyHash::of(&key), owner).prefix(prefix);
    Ok(Minted { key, entry })
}

impl Minted {
    /// The key.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.key
    }

    /// What is kept of it.
    pub fn entry(&self) -> &KeyEntry {
        &self.entry
    }

    /// Completes the entry.
    pub fn with(mut self, complete: impl FnOnce(KeyEntry) -> KeyEntry) -> Self {
        self.entry = complete(self.entry);
        self
    }

    /// Puts the kept hash under a pepper.
    pub fn peppered(self, pepper: &Pepper) -> Self {
        self.with(|entry| entry.peppered(pepper))
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("entry", &self.entry).finish_non_exhaustive()
    }
}
