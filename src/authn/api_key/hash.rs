use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::InvalidText;
use crate::{hex, secret};

/// The fewest bytes of a pepper: as many as the hash has (RFC 2104 section 3).
const PEPPER: usize = 32;
/// The most characters of a pepper's name.
const NAME: usize = 32;

/// What is kept of a key in the place of the key.
///
/// There are two forms, which stand side by side in one table, so that a store can be moved from one to the other:
///
/// - `sha256:` and 64 hexadecimal digits: the SHA-256 of the whole key;
/// - `hmac-sha256:`, the name of a pepper, `:` and 64 digits: the HMAC-SHA-256 of that SHA-256 under a secret that is
///   not kept with the hashes. It is made of the first form without the key, so nobody has to be given a new one.
///
/// A password must be hashed slowly, because people choose passwords that can be guessed. A key has a secret of 256
/// random bits: nobody guesses it however fast the hash is, and a slow hash would let strangers spend our time. A pepper
/// guards against something else: whoever can *write* to the store, but does not know the pepper, cannot make a key.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash {
    pub(super) pepper: Option<Box<str>>,
    pub(super) bytes: [u8; 32],
}

impl KeyHash {
    const EXPECTED: InvalidText = InvalidText {
        expected: "`sha256:` and 64 hexadecimal digits, or `hmac-sha256:`, a pepper's name, `:` and 64 digits",
    };

    /// The SHA-256 of a whole key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self { pepper: None, bytes: digest(key) }
    }

    /// This hash under a pepper; `None` if it is under one already.
    #[must_use]
    pub fn with_pepper(&self, pepper: &Pepper) -> Option<Self> {
        let bytes = self.pepper.is_none().then(|| pepper.seal(&self.bytes))?;
        Some(Self { pepper: Some(pepper.0.name.clone()), bytes })
    }

    /// The name of the pepper that it is under.
    #[must_use]
    pub fn pepper(&self) -> Option<&str> {
        self.pepper.as_deref()
    }
}

/// The SHA-256 of a whole key.
pub(super) fn digest(key: &str) -> [u8; 32] {
    #[cfg(test)]
    HASHED.set(HASHED.get() + 1);
    Sha256::digest(key).into()
}

#[cfg(test)]
thread_local! {
    /// How often this thread has hashed a key, under a pepper or not.
    pub(super) static HASHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl FromStr for KeyHash {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let (kind, rest) = text.split_once(':').ok_or(Self::EXPECTED)?;
        let (pepper, digits) = match (kind, rest.split_once(':')) {
            ("sha256", None) => (None, rest),
            ("hmac-sha256", Some((name, digits))) if is_name(name) => (Some(name.into()), digits),
            _ => return Err(Self::EXPECTED),
        };
        let bytes = unhex(digits.as_bytes()).ok_or(Self::EXPECTED)?;
        Ok(Self { pepper, bytes })
    }
}

fn unhex(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex::byte(pair)?;
    }
    Some(bytes)
}

impl TryFrom<String> for KeyHash {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pepper {
            None => f.write_str("sha256:")?,
            Some(name) => write!(f, "hmac-sha256:{name}:")?,
        }
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    /// No secret, and of no use in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A secret that is mixed into hashes and is not kept with them, with the name under which hashes refer to it. Cheap to
/// clone.
#[derive(Clone)]
pub struct Pepper(Arc<Inner>);

struct Inner {
    name: Box<str>,
    keyed: Hmac<Sha256>,
}

/// Why something is no pepper. The secret is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PepperError {
    /// The name does not fit into a hash's text.
    #[error("a pepper's name is 1 to {NAME} lower-case letters, digits and `-`")]
    Name,
    /// The secret is too short to be one.
    #[error("a pepper has at least {PEPPER} bytes")]
    Short,
}

impl Pepper {
    /// A pepper of this name. Line ends at the end of the secret are not part of it, so that it can be made by
    /// `openssl rand -base64 32 > pepper`.
    ///
    /// # Errors
    /// [`PepperError`]
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, PepperError> {
        let secret = secret::bare(secret);
        if !is_name(name) {
            return Err(PepperError::Name);
        }
        if secret.len() < PEPPER {
            return Err(PepperError::Short);
        }
        let keyed = Hmac::new_from_slice(secret).map_err(|_| PepperError::Short)?;
        Ok(Self(Arc::new(Inner { name: name.into(), keyed })))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn seal(&self, digest: &[u8; 32]) -> [u8; 32] {
        #[cfg(test)]
        HASHED.set(HASHED.get() + 1);
        self.0.keyed.clone().chain_update(digest).finalize().into_bytes().into()
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME).contains(&name.len()) && name.bytes().all(plain)
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// The peppers under which hashes may be, found by their names.
#[derive(Debug, Clone, Default)]
pub struct Peppers(BTreeMap<Box<str>, Pepper>);

impl Peppers {
    /// The pepper of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Pepper> {
        self.0.get(name)
    }

    /// One of them: the work of a check is the same whichever it is.
    pub(super) fn any(&self) -> Option<&Pepper> {
        self.0.values().next()
    }
}

impl FromIterator<Pepper> for Peppers {
    fn from_iter<I: IntoIterator<Item = Pepper>>(peppers: I) -> Self {
        Self(peppers.into_iter().map(|pepper| (pepper.0.name.clone(), pepper)).collect())
    }
}

impl From<Pepper> for Peppers {
    fn from(pepper: Pepper) -> Self {
        Self::from_iter([pepper])
    }
}
