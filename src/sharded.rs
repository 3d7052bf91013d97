//! Tables that many threads change at once, in parts with a lock each.
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(any(feature = "admission", feature = "resilience"))]
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Parts of a table, each with its lock. What is locked is left whole by whoever panics: counts and maps.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[Mutex<T>]>);

impl<T: Default> Sharded<T> {
    /// So many parts, each as it begins.
    pub(crate) fn new(parts: usize) -> Self {
        Self((0..parts.max(1)).map(|_| Mutex::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// The part of this hash. Maps look at the lower bits of it, so the upper ones say which.
    pub(crate) fn of(&self, hash: u64) -> MutexGuard<'_, T> {
        lock(&self.0[(hash >> 32) as usize % self.0.len()])
    }

    /// All parts, one locked after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(lock)
    }
}

/// A hash of this part of any table.
#[cfg(feature = "admission")]
pub(crate) const fn hash_of(part: usize) -> u64 {
    (part as u64) << 32
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map whose keys are scattered already, such as hashes under a secret.
#[cfg(any(feature = "admission", feature = "resilience"))]
pub(crate) type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsIs>>;

/// Takes a number for its own hash.
#[cfg(any(feature = "admission", feature = "resilience"))]
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

#[cfg(any(feature = "admission", feature = "resilience"))]
impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(all(test, feature = "admission"))]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_part() {
        let table = Sharded::<ByHash<u32>>::new(4);
        for n in 0..100_u64 {
            table.of(n << 32 | 7).insert(n << 32 | 7, 1);
        }
        let sizes: Vec<_> = table.iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [25; 4]);
        for part in 0..4 {
            table.of(hash_of(part)).insert(9, 1);
        }
        assert!(table.iter().all(|part| part.contains_key(&9)));
        assert_eq!(Sharded::<u32>::new(0).iter().count(), 1);
    }

    #[test]
    fn what_a_panic_left_can_be_used() {
        let table = Sharded::<u32>::new(1);
        let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _part = table.of(0);
            panic!("with a lock held");
        }));
        assert!(lost.is_err());
        *table.of(0) += 1;
        assert_eq!(*table.of(0), 1);
    }
}
