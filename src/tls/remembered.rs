//! Chains that were believed: who connects again shows the same one, of which the same roots say the same.
use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Crypto, trust::Usage};
use crate::{
    cache::{Cache, Domain, Item},
    identity::PeerIdentity,
    time::after,
};

const MOST: usize = 1024;
const MOST_BYTES: usize = 4 << 20;
/// What was found out under the roots and revocation lists that it belongs to.
pub(super) struct Remembered {
    found: Cache<Found, [u8; 32]>,
    domain: Domain,
}

struct Found {
    peer: PeerIdentity,
    /// While all that it was found from is valid.
    valid: Range<SystemTime>,
}

impl Remembered {
    /// Whose chain this is, if it was believed for the same use and all of it is valid at the moment.
    pub(super) fn find(&self, chain: &[u8; 32], now: SystemTime) -> Option<PeerIdentity> {
        let valid = |found: &Found| found.valid.contains(&now).then(|| found.peer.clone());
        self.found.read(self.domain, chain, Instant::now(), valid).flatten()
    }

    pub(super) fn keep(
        &self,
        chain: [u8; 32],
        peer: PeerIdentity,
        valid: Range<SystemTime>,
        now: SystemTime,
    ) {
        let at = Instant::now();
        let left = valid.end.duration_since(now).unwrap_or(Duration::ZERO);
        // The chain, and what the leaf says, of which some is told in twice as many letters.
        let (leaf, chain_len) =
            peer.chain().fold((0, 0), |(leaf, all), one| (leaf.max(one.len()), all + one.len()));
        let weight = chain_len + 3 * leaf;
        let value = Found { peer, valid };
        let item = Item { domain: self.domain, key: chain, value, weight, expires: after(at, left) };
        self.found.insert(item, at);
    }
}

/// What tells a chain and its use from all others.
pub(super) fn print(chain: &[CertificateDer<'_>], usage: Usage, crypto: Crypto) -> [u8; 32] {
    let mut print = Sha256::new_with_prefix([usage as u8, crypto as u8]);
    for certificate in chain {
        print.update(certificate.len().to_be_bytes());
        print.update(certificate);
    }
    print.finalize().into()
}

impl Default for Remembered {
    fn default() -> Self {
        Self { found: Cache::new(MOST, MOST_BYTES), domain: Domain::unique() }
    }
}
