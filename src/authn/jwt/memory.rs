use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{
    claims::Remembered,
    issuer::{Findings, Told},
};
use crate::{
    cache::{Cache, Domain, Item},
    identity::Principal,
    time,
};

/// The size that tokens are thought to have, with what is kept of them, in bytes.
const USUAL: usize = 1_024;

/// The tokens that were verified, so that the next time each costs no signature.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    cache: Arc<Cache<Known, Whole>>,
    /// The configuration under which tokens are verified.
    domain: Domain,
}

/// The key of the cache is the whole token, which its claims have, too.
struct Whole(Arc<Remembered>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What is known of a token.
#[derive(Debug)]
pub(super) struct Known {
    /// Which of the issuers it is of.
    pub(super) issuer: usize,
    pub(super) findings: Findings,
}

/// What a request is told of its token.
#[derive(Debug)]
pub(in crate::authn) struct Verified {
    pub(in crate::authn) principal: Principal,
    pub(in crate::authn) told: Told,
}

/// What the fields for the upstream keep in memory, in bytes.
pub(in crate::authn) fn weight(told: &Told) -> usize {
    let field = |(name, value): &(HeaderName, HeaderValue)| {
        size_of::<(HeaderName, HeaderValue)>() + name.as_str().len() + value.len()
    };
    told.iter().flat_map(|told| told.iter()).map(field).sum()
}

impl Known {
    pub(super) fn told(&self) -> Verified {
        Verified { principal: self.findings.principal.clone(), told: self.findings.told.clone() }
    }
}

impl Memory {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { cache: Arc::new(Cache::new(max_bytes / USUAL, max_bytes)), domain: Domain::unique() }
    }

    /// Forgets all, for whoever has this handle: what was verified under other rules does not count.
    pub(super) fn renew(&mut self) {
        self.domain = Domain::unique();
    }

    pub(super) fn recall<T>(&self, token: &str, now: Instant, then: impl FnOnce(&Known) -> T) -> Option<T> {
        self.cache.read(self.domain, token.as_bytes(), now, then)
    }

    pub(super) fn forget(&self, token: &str) {
        self.cache.remove(self.domain, token.as_bytes());
    }

    /// Keeps what is known of `token` until it ends.
    pub(super) fn keep(&self, token: Arc<Remembered>, known: Known, lives: Duration, now: Instant) {
        let weight = token.weight() + known.findings.principal.weight() + weight(&known.findings.told);
        let expires = time::after(now, lives);
        self.cache
            .insert(Item { domain: self.domain, key: Whole(token), value: known, weight, expires }, now);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.cache.bytes()
    }
}
