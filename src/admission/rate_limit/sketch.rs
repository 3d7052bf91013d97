//! What is known of accounts that are not held: a count-min sketch whose counts are times.
//!
//! Two rows of cells; a key has one in each. A cell holds the latest time at which any account that fell into it is
//! due, so that the earlier of a key's two is never before its own: nobody gains by not being held. Others in the same
//! cells may make it later, so whoever is not held may be refused though its account is whole.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::store::Fingerprint;

pub(super) struct Sketch {
    /// Two rows. Made when the first account is noted.
    cells: OnceLock<Box<[AtomicU64]>>,
    /// The cells of a row: a power of two.
    row: usize,
}

impl Sketch {
    /// A sketch beside a store of at most `most` accounts: at most 4 bytes for each.
    pub(super) fn beside(most: usize) -> Self {
        Self { cells: OnceLock::new(), row: 1 << (most / 4).max(1).ilog2() }
    }

    /// A time that is not before the one at which this account is due.
    pub(super) fn due(&self, key: Fingerprint) -> u64 {
        let Some(cells) = self.cells.get() else { return 0 };
        let [one, other] = self.places(key).map(|at| cells[at].load(Relaxed));
        one.min(other)
    }

    /// Notes that this account, which is no longer held, is due then.
    pub(super) fn note(&self, key: Fingerprint, due: u64) {
        let new = || std::iter::repeat_with(AtomicU64::default).take(2 * self.row).collect();
        let cells = self.cells.get_or_init(new);
        for at in self.places(key) {
            cells[at].fetch_max(due, Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.cells.get().map_or(0, |cells| size_of_val(&**cells))
    }

    /// Of other bits than those which choose a bucket: the accounts of one bucket do not meet here again.
    fn places(&self, key: Fingerprint) -> [usize; 2] {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let within = |bits: u64| (bits >> 32) as usize & (self.row - 1);
        [within(key), self.row + within(key.wrapping_mul(ODD))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_never_before_the_truth(
            most in 1_usize..100,
            notes in prop::collection::vec((any::<u64>(), 1_u64..1000), 0..100),
        ) {
            let sketch = Sketch::beside(most);
            for &(key, due) in &notes {
                sketch.note(key, due);
            }
            for &(key, due) in &notes {
                prop_assert!(sketch.due(key) >= due);
            }
            prop_assert!(sketch.bytes() <= 4 * most.max(4));
        }
    }

    #[test]
    fn few_are_taken_for_others() {
        let sketch = Sketch::beside(40_000);
        assert_eq!((sketch.due(1), sketch.bytes()), (0, 0));
        let chance = crate::chance::Chance::seeded(1);
        (0..1000).for_each(|_| sketch.note(chance.next(), 1));
        let wrong = (0..10_000).filter(|_| sketch.due(chance.next()) > 0).count();
        assert!(wrong < 10_000 / 50, "{wrong}"); // (1000 / 8192)^2 is one in 67
    }
}
