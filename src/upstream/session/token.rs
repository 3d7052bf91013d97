//! What tells us a client's endpoint, and the client nothing.

use std::{
    fmt::{self, Write as _},
    hash::Hasher,
    net::{IpAddr, SocketAddr},
};

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::chance::Chance;

/// The secret under which [sessions](super::Session) name endpoints.
///
/// An upstream has a key of its own, which nobody knows and which ends with the process, unless it is given one: the
/// instances of a gateway that are to know each other's sessions, and their successors, need the same.
///
/// ```
/// use portcullis::upstream::{SessionKey, Upstream};
///
/// let secret: [u8; 16] = *b"sixteen of chanc"; // of a file
/// let carts = Upstream::builder("carts").endpoint("192.0.2.1:9000").session_key(SessionKey::new(secret)).build()?;
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionKey(u64, u64);

/// What one hash is of is never what the other is of.
const NAME: u8 = 1;
const SEAL: u8 = 2;

impl SessionKey {
    /// This secret, all of it random: who knows it can find out the addresses of endpoints.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(secret);
        Self(both as u64, (both >> 64) as u64)
    }

    /// A secret of the system's entropy.
    #[must_use]
    pub fn random() -> Self {
        Self(Chance::new().next(), Chance::new().next()) // one seed of 64 bits would be half a secret
    }

    /// The name of the endpoint at this address: without the key nobody can tell which it is, or name another.
    pub(in crate::upstream) fn name(self, address: SocketAddr) -> u64 {
        let port = address.port().to_be_bytes();
        let hash = match address.ip() {
            IpAddr::V4(ip) => self.hash(NAME, [&ip.octets()[..], &port]),
            IpAddr::V6(ip) => self.hash(NAME, [&ip.octets()[..], &port]),
        };
        (hash >> 64) as u64
    }

    /// SipHash-2-4 of 128 bits, which is made to be a seal of short texts.
    fn hash<const N: usize>(self, tag: u8, parts: [&[u8]; N]) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write(&[tag]);
        parts.iter().for_each(|part| hasher.write(part));
        let hash = hasher.finish128();
        u128::from(hash.h1) << 64 | u128::from(hash.h2)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// A session as the client carries it: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Token {
    /// The name of its endpoint.
    pub(super) name: u64,
    /// When it began, in seconds since 1970.
    pub(super) begun: u32,
    /// When it was last told that somebody used it.
    pub(super) seen: u32,
}

const LENGTH: usize = 64;

impl Token {
    pub(super) fn write(self, key: SessionKey) -> String {
        let Self { name, begun, seen } = self;
        let mut text = String::with_capacity(LENGTH);
        let _ = write!(text, "{name:016x}{begun:08x}{seen:08x}{:032x}", self.seal(key));
        text
    }

    /// What a client has sent, if it is one of ours.
    pub(super) fn read(text: &[u8], key: SessionKey) -> Option<Self> {
        if text.len() != LENGTH || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let word = |from, to| u64::from_str_radix(text.get(from..to)?, 16).ok();
        let time = |from, to| u32::from_str_radix(text.get(from..to)?, 16).ok();
        let token = Self { name: word(0, 16)?, begun: time(16, 24)?, seen: time(24, 32)? };
        let seal = u128::from(word(32, 48)?) << 64 | u128::from(word(48, 64)?);
        // Of two words, not byte by byte: how long it takes tells nothing.
        (seal == token.seal(key)).then_some(token)
    }

    fn seal(self, key: SessionKey) -> u128 {
        let Self { name, begun, seen } = self;
        key.hash(SEAL, [&name.to_be_bytes(), &begun.to_be_bytes(), &seen.to_be_bytes()])
    }
}
