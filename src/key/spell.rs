//! Accounts in full, for what is kept under them.

use std::hash::Hasher;

use http::{HeaderName, header};

use super::{
    Key,
    account::{address, client},
};
use crate::head::Head;

impl Key {
    /// Whether it tells one caller from another: no address does, which many share, nor what is asked for.
    pub(crate) fn tells_callers(&self) -> bool {
        match self {
            Self::Principal | Self::Claim(_) | Self::Cookie(_) => true,
            Self::Header(name) => name != header::HOST,
            Self::ClientAddr | Self::Route => false,
            Self::Tuple(keys) => keys.iter().any(Self::tells_callers),
        }
    }

    /// Whether the whole of this header field is part of it.
    pub(crate) fn has_field(&self, field: &HeaderName) -> bool {
        match self {
            Self::Header(name) => name == field && name != header::HOST,
            Self::Tuple(keys) => keys.iter().any(|key| key.has_field(field)),
            _ => false,
        }
    }

    /// Its name among those of its kind.
    fn name(&self) -> &str {
        match self {
            Self::Header(name) => name.as_str(),
            Self::Claim(name) | Self::Cookie(name) => name,
            _ => "",
        }
    }
}

/// Keys and texts, written one after the other so that no two lists of them are the same bytes.
#[derive(Default)]
pub(crate) struct Spelled(Vec<u8>);

impl Spelled {
    /// Writes a key by its name, with all that the request has of it, and says whether it has every part: nothing is put in the
    /// place of one that it lacks.
    pub(crate) fn key(&mut self, key: &Key, head: &Head<'_>) -> bool {
        let told = match key {
            Key::Tuple(keys) => {
                let missing = keys.iter().filter(|key| !self.key(key, head)).count(); // all are written
                return missing == 0;
            }
            Key::ClientAddr => {
                address(head, self);
                client(head).is_some()
            }
            part => {
                self.text(part.name().as_bytes());
                part.told(head, self)
            }
        };
        self.0.push(0); // where a further value would have its tag
        told
    }

    /// Writes its length first, so that no two can be taken for two others.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// What a key feeds, as it is.
impl Hasher for Spelled {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Of no use: no hash is meant.
    fn finish(&self) -> u64 {
        0
    }
}
