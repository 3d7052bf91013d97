//! The written form of a key: `prefix_id_secretchecksum`.
//!
//! All parts are letters and digits, so that a double click selects a key whole; the prefix lets people and secret
//! scanners see what it is; the checksum tells a typing error from a wrong key without a look into any table.

use std::io;

/// A regular expression that finds keys in any text, for secret scanners; whether what it finds is a key is told by
/// [`is_key`]. Put your own prefix in the place of `[a-z0-9_]{1,32}` where a service asks for a narrow one.
pub const PATTERN: &str = r"\b[a-z0-9_]{1,32}_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\b";

/// Characters of the public part: 71 bits, enough for no two to meet.
const ID: usize = 12;
/// Characters of the secret: 256 bits.
const SECRET: usize = 43;
/// Characters of the checksum: 32 bits.
const CHECKSUM: usize = 6;
/// The most characters of a prefix.
pub(super) const MAX_PREFIX: usize = 32;
/// The most characters of a key.
pub(super) const MAX_KEY: usize = MAX_PREFIX + 1 + ID + 1 + SECRET + CHECKSUM;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether this is written as a key is, its checksum included. Nobody is asked whether there is such a key: a scanner
/// tells keys from what only looks like one by this, and a form tells a typing error at once.
///
/// ```
/// use portcullis::authn::api_key;
///
/// let minted = api_key::mint("shop", "acme")?;
/// assert!(api_key::is_key(minted.reveal()));
/// assert!(!api_key::is_key(&minted.reveal().replace("shop", "chop")));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn is_key(text: &str) -> bool {
    id_of(text).is_some()
}

/// The public part of a key, if it is written as a key is.
pub(super) fn id_of(key: &str) -> Option<&str> {
    if key.len() > MAX_KEY {
        return None;
    }
    let (head, tail) = key.rsplit_once('_')?;
    let (prefix, id) = head.rsplit_once('_')?;
    let alphanumeric = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_prefix(prefix) || to_id(id).is_none() || tail.len() != SECRET + CHECKSUM || !alphanumeric(tail) {
        return None;
    }
    let (signed, checksum) = key.split_at(key.len() - CHECKSUM);
    (base62(crc32(signed.as_bytes())) == checksum.as_bytes()).then_some(id)
}

pub(super) fn is_prefix(prefix: &str) -> bool {
    (1..=MAX_PREFIX).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The public part of a key, as tables hold it.
pub(super) type Id = [u8; ID];

pub(super) fn to_id(id: &str) -> Option<Id> {
    let id = Id::try_from(id.as_bytes()).ok()?;
    id.iter().all(u8::is_ascii_alphanumeric).then_some(id)
}

pub(super) fn id_text(id: &Id) -> String {
    id.iter().copied().map(char::from).collect()
}

/// A new key, from the system's randomness.
pub(super) fn generate(prefix: &str) -> io::Result<String> {
    let mut key = format!("{prefix}_");
    push_random(&mut key, ID)?;
    key.push('_');
    push_random(&mut key, SECRET)?;
    Ok(with_checksum(&key))
}

pub(super) fn with_checksum(text: &str) -> String {
    text.chars().chain(base62(crc32(text.as_bytes())).map(char::from)).collect()
}

fn push_random(text: &mut String, mut count: usize) -> io::Result<()> {
    let mut bytes = [0; 64];
    while count > 0 {
        getrandom::fill(&mut bytes).map_err(io::Error::from)?;
        // Bytes above the largest multiple of 62 would make some digits likelier than others.
        for byte in bytes.iter().filter(|byte| **byte < 248).take(count) {
            text.push(char::from(DIGITS[usize::from(byte % 62)]));
            count -= 1;
        }
    }
    Ok(())
}

fn base62(mut number: u32) -> [u8; CHECKSUM] {
    let mut digits = [0; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    digits
}

/// CRC-32 as in ISO 3309 and gzip. A key is short, so a table would not pay.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
