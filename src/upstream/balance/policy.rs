use crate::key::Key;

/// The fewest places on a ring, unless it is told otherwise.
const MIN_RING: u32 = 1024;
/// The most places on a ring.
const MAX_RING: u32 = 8 << 20;

/// How a request is given to one of several endpoints. Weights count in each of them.
///
/// A request is in flight until its response's body has ended, or its tunnel has closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Balance {
    /// One after the other; whoever weighs more has more turns, spread evenly.
    #[default]
    RoundRobin,
    /// Of two drawn by chance the one with fewer requests in flight.
    LeastRequest,
    /// Of two drawn by chance the one that is expected to answer sooner: how long its answers take, times the requests in
    /// flight and this one. A slower answer is believed at once, a faster one over ten seconds; a failure and a 429 count as
    /// slow, so that nothing is drawn to who fails fast.
    PeakEwma,
    /// By chance.
    Random,
    /// The same key to the same endpoint, by a ring.
    RingHash(RingHash),
    /// The same key to the same endpoint, by Maglev's table.
    Maglev(Maglev),
}

/// The same key to the same endpoint, by a ring that is Envoy's: who leaves takes no key from another, and who comes takes
/// only those that are its own.
///
/// A request without the key goes anywhere. The ring is built when the set changes, off the path of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RingHash {
    pub(super) key: Key,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) bound: Option<u32>,
}

impl RingHash {
    /// A ring of 1,024 places or more.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self { key, min: MIN_RING, max: MAX_RING, bound: None }
    }

    /// How many places it has at least: more of them are more even, and cost 12 bytes each. By default 1,024; the most are
    /// 8,388,608.
    #[must_use]
    pub const fn min_size(mut self, places: u32) -> Self {
        self.min = if places > MAX_RING { MAX_RING } else { places };
        if self.min > self.max {
            self.max = self.min;
        }
        self
    }

    /// How many places it has at most, with endpoints of very different weights. By default and at most 8,388,608.
    #[must_use]
    pub const fn max_size(mut self, places: u32) -> Self {
        self.max = if places > MAX_RING { MAX_RING } else { places };
        if self.max < self.min {
            self.min = self.max;
        }
        self
    }

    /// How many percent of its part of the requests in flight an endpoint has at most; 125, say. A key whose endpoint has
    /// that many goes to others, always the same ones. Less than 100 counts as 100; in a [subset](crate::upstream::Subset) it
    /// is its part of all requests of the upstream. By default there is no bound.
    #[must_use]
    pub const fn bounded_load(mut self, percent: u32) -> Self {
        self.bound = Some(percent);
        self
    }
}

/// The same key to the same endpoint, by the table of 65,537 places that Envoy builds: faster and more even than a ring, and
/// a few keys move that need not when the set changes.
///
/// A request without the key goes anywhere. The table is built when the set changes, off the path of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Maglev {
    pub(super) key: Key,
    pub(super) bound: Option<u32>,
}

impl Maglev {
    /// A table by this key.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self { key, bound: None }
    }

    /// As [`RingHash::bounded_load`].
    #[must_use]
    pub const fn bounded_load(mut self, percent: u32) -> Self {
        self.bound = Some(percent);
        self
    }
}

impl Balance {
    /// By what it hashes.
    pub(in super::super) const fn key(&self) -> Option<&Key> {
        match self {
            Self::RingHash(ring) => Some(&ring.key),
            Self::Maglev(maglev) => Some(&maglev.key),
            _ => None,
        }
    }

    /// How many percent of its part an endpoint has at most.
    pub(super) fn bound(&self) -> Option<u32> {
        match self {
            Self::RingHash(RingHash { bound, .. }) | Self::Maglev(Maglev { bound, .. }) => {
                bound.map(|bound| bound.max(100))
            }
            _ => None,
        }
    }
}
