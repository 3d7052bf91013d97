use std::{
    fmt::{self, Write as _},
    io,
    str::FromStr,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use super::{date, text};

/// What is kept of a key: whom it was given to, what it may do, and the hash by which it is known again. The key itself
/// is not in it.
///
/// With the feature `config` it can be read from a file (in camelCase; unknown fields are errors).
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "camelCase", deny_unknown_fields))]
#[must_use]
pub struct KeyEntry {
    id: String,
    hash: KeyHash,
    owner: String,
    #[cfg_attr(feature = "config", serde(default))]
    scopes: Vec<String>,
    #[cfg_attr(feature = "config", serde(default))]
    roles: Vec<String>,
    #[cfg_attr(feature = "config", serde(default))]
    plan: Option<String>,
    #[cfg_attr(feature = "config", serde(default))]
    expires: Option<Timestamp>,
}

/// The SHA-256 of a whole key, written `sha256:` and 64 hexadecimal digits.
///
/// A password must be hashed slowly, because people choose passwords that can be guessed. A key has a secret of 256
/// random bits: nobody guesses it however fast the hash is, and a slow hash would let strangers spend our time.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(try_from = "String"))]
pub struct KeyHash(pub(super) [u8; 32]);

/// A moment in UTC, written as in RFC 3339: `2027-02-19T08:00:00Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(try_from = "String"))]
pub(super) struct Timestamp(pub(super) SystemTime);

/// The text is not of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidText {
    expected: &'static str,
}

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
    let entry = KeyEntry::new(id, KeyHash::of(&key), owner);
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
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl KeyEntry {
    /// The entry of a key with this public part and this hash.
    pub fn new(id: impl Into<String>, hash: KeyHash, owner: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            hash,
            owner: owner.into(),
            scopes: Vec::new(),
            roles: Vec::new(),
            plan: None,
            expires: None,
        }
    }

    /// Sets the scopes.
    pub fn scopes<T: Into<String>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the roles.
    pub fn roles<T: Into<String>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the plan, by whose name limits can be chosen.
    pub fn plan(mut self, plan: impl Into<String>) -> Self {
        self.plan = Some(plan.into());
        self
    }

    /// Sets when the key ends; whole seconds count. It never does unless told.
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(Timestamp(at));
        self
    }

    /// The public part of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whom the key was given to.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The hash of the key.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    pub(super) fn scope_list(&self) -> &[String] {
        &self.scopes
    }

    pub(super) fn role_list(&self) -> &[String] {
        &self.roles
    }

    pub(super) fn plan_name(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    pub(super) fn end(&self) -> Option<SystemTime> {
        self.expires.map(|at| at.0)
    }

    /// The entry as an item of a key file's list, with a line end.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut yaml = format!("- id: {}\n  hash: {}\n", quoted(&self.id), quoted(&self.hash.to_string()));
        let mut field = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(yaml, "  {name}: {value}");
        };
        field("owner", quoted(&self.owner));
        for (name, list) in [("scopes", &self.scopes), ("roles", &self.roles)] {
            if !list.is_empty() {
                let items: Vec<String> = list.iter().map(|item| quoted(item)).collect();
                field(name, format!("[{}]", items.join(", ")));
            }
        }
        if let Some(plan) = &self.plan {
            field("plan", quoted(plan));
        }
        if let Some(at) = self.expires {
            field("expires", quoted(&at.to_string()));
        }
        yaml
    }
}

/// A double-quoted YAML scalar, which can hold any text on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

impl KeyHash {
    const EXPECTED: InvalidText = InvalidText { expected: "`sha256:` and 64 hexadecimal digits" };

    /// The hash of a whole key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        #[cfg(test)]
        HASHED.set(HASHED.get() + 1);
        Self(Sha256::digest(key).into())
    }
}

#[cfg(test)]
thread_local! {
    /// How often this thread has hashed a key.
    pub(super) static HASHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl FromStr for KeyHash {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let digits = text.strip_prefix("sha256:").ok_or(Self::EXPECTED)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != hash.len() * 2 {
            return Err(Self::EXPECTED);
        }
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(high, low)| high << 4 | low)
                .ok_or(Self::EXPECTED)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        text.parse()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    /// No secret, and of no use in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        date::parse(&text)
            .map(Self)
            .ok_or(InvalidText { expected: "a UTC time such as 2027-02-19T08:00:00Z" })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&date::format(self.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
