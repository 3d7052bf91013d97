//! What is known of accounts that are not held: a count-min sketch whose counts are states of accounts.
//!
//! Two rows of cells; a key has one in each. A cell holds a state that owes at least what any account owes that fell
//! into it, so that of a key's two neither owes less than its own: nobody gains by not being held. Others in the same
//! cells may make both owe more, so whoever is not held may be refused though its account is whole.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::store::{At, Fingerprint};

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

    /// A state that owes no less than this account does.
    #[inline]
    pub(super) fn state(&self, key: Fingerprint, at: At<'_>) -> u64 {
        let Some(cells) = self.cells.get() else { return 0 };
        let [one, other] = self.places(key).map(|place| cells[place].load(Relaxed));
        if at.owed(one) <= at.owed(other) { one } else { other }
    }

    /// Notes that this account, which is no longer held, is in that state.
    pub(super) fn note(&self, key: Fingerprint, state: u64, at: At<'_>) {
        let new = || std::iter::repeat_with(AtomicU64::default).take(2 * self.row).collect();
        let cells = self.cells.get_or_init(new);
        for place in self.places(key) {
            let join = |held| Some(at.judge.join(held, state, at.now));
            let _ = cells[place].fetch_update(Relaxed, Relaxed, join); // it always has a new state
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
    use crate::admission::rate_limit::store::tests::at;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_never_before_the_truth(
            most in 1_usize..100,
            notes in prop::collection::vec((any::<u64>(), 1_u64..1000), 0..100),
        ) {
            let sketch = Sketch::beside(most);
            for &(key, due) in &notes {
                sketch.note(key, due, at(0));
            }
            for &(key, due) in &notes {
                prop_assert!(sketch.state(key, at(0)) >= due);
            }
            prop_assert!(sketch.bytes() <= 4 * most.max(4));
        }
    }

    #[test]
    fn few_are_taken_for_others() {
        let sketch = Sketch::beside(40_000);
        assert_eq!((sketch.state(1, at(0)), sketch.bytes()), (0, 0));
        let chance = crate::chance::Chance::seeded(1);
        (0..1000).for_each(|_| sketch.note(chance.next(), 1, at(0)));
        let wrong = (0..10_000).filter(|_| sketch.state(chance.next(), at(0)) > 0).count();
        assert!(wrong < 10_000 / 50, "{wrong}"); // (1000 / 8192)^2 is one in 67
    }
}
