//! Into what a set is to be divided, so that a pick need not look for it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use super::plan::Seat;
use crate::upstream::{session::SessionKey, subset::Keys};

/// The most subsets of an upstream: each has tables of its own.
const MOST: usize = 1_000;

/// What a plan has to make ready.
#[derive(Clone, Default)]
pub(in super::super) struct Wants {
    /// Marks are under a seed, so that nobody outside can make one that is another subset's.
    seed: RandomState,
    selectors: Vec<Keys>,
    /// By what sessions name endpoints, if there are sessions.
    sessions: Option<SessionKey>,
}

impl Wants {
    pub(super) fn of(selectors: &[Keys]) -> Self {
        let mut wants = Self::default();
        for keys in selectors {
            wants.select(keys.clone());
        }
        wants
    }

    /// By how many lists of keys it is divided.
    pub(super) fn divisions(&self) -> usize {
        self.selectors.len()
    }

    /// Whether subsets by these keys were not asked for before.
    pub(super) fn select(&mut self, keys: Keys) -> bool {
        let is_new = !self.selectors.contains(&keys);
        if is_new {
            self.selectors.push(keys);
        }
        is_new
    }

    /// Whether nobody has asked for sessions before.
    pub(super) fn keep_sessions(&mut self, key: SessionKey) -> bool {
        self.sessions.replace(key).is_none()
    }

    /// The places of those at `places` by the names that sessions have for them.
    pub(super) fn names(&self, seats: &[Seat], places: &[usize]) -> HashMap<u64, usize> {
        let Some(key) = self.sessions else { return HashMap::new() };
        places.iter().map(|&place| (key.name(seats[place].member.address()), place)).collect()
    }

    /// Whether a seat is in the subset of this mark.
    pub(super) fn is_in(&self, seat: &Seat, mark: u64) -> bool {
        self.selectors.iter().any(|keys| self.mark_of(seat, keys) == Some(mark))
    }

    /// What tells the subset with these labels from others.
    pub(in super::super) fn mark<'l>(&self, labels: impl Iterator<Item = (&'l str, &'l [u8])>) -> u64 {
        let mut hasher = self.seed.build_hasher();
        for part in labels.flat_map(|(key, value)| [key.as_bytes(), value]) {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// The mark of the subset by these keys in which a seat is, if it has all of them.
    fn mark_of(&self, seat: &Seat, keys: &Keys) -> Option<u64> {
        let labels = &seat.endpoint.labels;
        let is_in = keys.iter().all(|key| labels.contains_key(key));
        is_in.then(|| self.mark(keys.iter().map(|key| (&**key, labels[key].as_bytes()))))
    }

    /// Who of those at `places` is in which subset.
    pub(super) fn subsets(&self, seats: &[Seat], places: &[usize]) -> HashMap<u64, Vec<usize>> {
        let mut subsets: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut left_out = 0_usize;
        for keys in &self.selectors {
            for &place in places {
                let Some(mark) = self.mark_of(&seats[place], keys) else { continue };
                if subsets.len() < MOST || subsets.contains_key(&mark) {
                    subsets.entry(mark).or_default().push(place);
                } else {
                    left_out += 1;
                }
            }
        }
        if left_out > 0 {
            tracing::warn!(most = MOST, left_out, "an upstream has too many subsets: endpoints are left out");
        }
        subsets
    }
}
