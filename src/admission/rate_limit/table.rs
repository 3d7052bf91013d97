//! Accounts by fingerprint, in one flat table that grows with use and never above its bound.
//!
//! An account is *due* at the time when it will be whole again. One that is due by now is like one that was never
//! seen, so it may be forgotten: each newcomer sweeps a few slots for such accounts, wherever they lie.
//!
//! When the table is full of accounts that are not due, a newcomer takes the place of the one nearest to it in its
//! neighbourhood. The table then remembers the latest time at which a forgotten account would have been due, its
//! *floor*, and whoever is not in the table owes at least that. So nobody gains by being forgotten, or by a flood
//! that makes others forgotten.

/// The slots that a newcomer sweeps.
const SWEEP: usize = 8;
/// The accounts among which one is chosen to be forgotten.
const NEIGHBOURS: usize = 16;
/// The smallest table.
const SMALL: usize = 8;

/// A fingerprint: 128 bits of a keyed hash, so that strangers cannot make two accounts meet.
pub(super) type Fingerprint = u128;

/// Open addressing with linear probing and no tombstones. At most four of five slots are used.
#[derive(Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    used: u32,
    most: u32,
    cursor: u32,
    floor: u64,
    forgotten: u64,
    refused: u64,
}

/// 24 bytes: the fingerprint in halves, since a `u128` would be aligned to 32.
#[derive(Clone, Copy, Default)]
struct Slot {
    high: u64,
    low: u64,
    /// Zero: vacant.
    due: u64,
}

/// Where an account is, or that it is not there, and when it is due.
#[derive(Clone, Copy)]
pub(super) struct Found {
    slot: Option<usize>,
    pub(super) due: u64,
}

impl Table {
    /// A table for at most `most` accounts. It allocates when the first one comes.
    pub(super) fn with_most(most: u32) -> Self {
        Self { most: most.max(1), ..Self::default() }
    }

    /// Finds an account.
    pub(super) fn find(&self, key: Fingerprint) -> Found {
        let (high, low) = halves(key);
        let mut at = self.home(low);
        while let Some(slot) = self.slots.get(at).filter(|slot| slot.due != 0) {
            if (slot.high, slot.low) == (high, low) {
                return Found { slot: Some(at), due: slot.due };
            }
            at = self.after(at);
        }
        Found { slot: None, due: self.floor }
    }

    /// Makes an account due at `due`, where [`find`](Self::find) has just found it or not.
    pub(super) fn store(&mut self, key: Fingerprint, found: Found, due: u64, now: u64) {
        match found.slot.and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.due = due,
            None => self.insert(key, due, now),
        }
    }

    pub(super) fn count_refusal(&mut self) {
        self.refused += 1;
    }

    /// The accounts in the table, those not yet swept included.
    pub(super) fn len(&self) -> usize {
        self.used as usize
    }

    /// The accounts that were forgotten before they were due.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    fn insert(&mut self, key: Fingerprint, due: u64, now: u64) {
        self.sweep(now);
        let (high, low) = halves(key);
        if self.used >= self.room() && self.slots.len() < self.largest() {
            self.rebuild(now);
        }
        if self.used >= self.room() {
            self.forget_one_near(self.home(low), now);
        }
        self.place(Slot { high, low, due });
        self.used += 1;
    }

    /// Puts a slot that is not there into the first vacancy of its chain.
    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.low);
        while self.slots[at].due != 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Forgets accounts that are due by now, in the next few slots.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            let at = self.cursor as usize;
            if (1..=now).contains(&self.slots[at].due) {
                self.remove(at); // and look at this slot again: another may have moved there
            } else {
                self.cursor = self.after(at) as u32;
            }
        }
        if self.slots.len() > 64 && self.len() < self.slots.len() / 8 {
            self.rebuild(now);
        }
    }

    /// Makes room by forgetting, of the accounts from `home` on, the one that is due first.
    fn forget_one_near(&mut self, home: usize, now: u64) {
        let around = (home..self.slots.len()).chain(0..home);
        let neighbours = around.filter(|&at| self.slots[at].due != 0).take(NEIGHBOURS);
        let Some(at) = neighbours.min_by_key(|&at| self.slots[at].due) else { return };
        let due = self.slots[at].due;
        if due > now {
            self.forgotten += 1;
            self.floor = self.floor.max(due);
        }
        self.remove(at);
    }

    /// Vacates a slot, and moves back those after it that had to give way, so that every chain stays whole.
    fn remove(&mut self, at: usize) {
        let len = self.slots.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + len - from };
        let mut hole = at;
        let mut next = self.after(at);
        while self.slots[next].due != 0 {
            let home = self.home(self.slots[next].low);
            if distance(home, next) >= distance(hole, next) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = Slot::default();
        self.used -= 1;
    }

    /// Moves the accounts that are not due into a table of a size that suits them.
    fn rebuild(&mut self, now: u64) {
        let live = |slot: &&Slot| slot.due > now;
        let count = self.slots.iter().filter(live).count();
        let len = (SMALL + count + count * 7 / 8).min(self.largest());
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); len].into());
        for slot in old.iter().filter(live) {
            self.place(*slot);
        }
        self.used = count as u32;
        self.cursor = 0;
    }

    fn room(&self) -> u32 {
        self.most.min((self.slots.len() * 4 / 5) as u32)
    }

    fn largest(&self) -> usize {
        let most = self.most as usize;
        most + most / 4 + 2
    }

    /// Where the chain of a key begins: its share of the table's length.
    fn home(&self, low: u64) -> usize {
        ((u128::from(low) * self.slots.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }
}

const fn halves(key: Fingerprint) -> (u64, u64) {
    ((key >> 64) as u64, key as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn scatter(key: u64) -> Fingerprint {
        let mut x = u128::from(key) + 1;
        for _ in 0..3 {
            x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            x ^= x >> 61;
        }
        x
    }

    fn set(table: &mut Table, key: Fingerprint, due: u64, now: u64) {
        let found = table.find(key);
        table.store(key, found, due, now);
    }

    /// Every account is found from its home, and the count is right.
    fn check(table: &Table) {
        let used: Vec<_> = table.slots.iter().filter(|slot| slot.due != 0).collect();
        assert_eq!(used.len(), table.len());
        assert!(table.used <= table.room());
        for slot in used {
            let key = (u128::from(slot.high) << 64) | u128::from(slot.low);
            assert!(table.find(key).slot.is_some(), "a chain is broken");
        }
    }

    proptest! {
        #[test]
        fn nobody_gains_by_being_forgotten(
            most in 1_u32..40,
            steps in prop::collection::vec((0_u64..60, 1_u64..500, 0_u64..30, any::<bool>()), 1..400),
        ) {
            let mut table = Table::with_most(most);
            let mut truth = HashMap::new();
            let mut now = 1;
            for (key, debt, wait, clash) in steps {
                // Half of the keys have one home, to make long chains.
                let key = if clash { u128::from(key) << 64 } else { scatter(key) };
                now += wait;
                let owed = *truth.get(&key).unwrap_or(&0);
                let found = table.find(key);
                prop_assert!(found.due.max(now) >= u64::max(owed, now), "{} < {owed}", found.due);
                let due = found.due.max(now) + debt;
                table.store(key, found, due, now);
                truth.insert(key, due);
                prop_assert_eq!(table.find(key).due, due);
                prop_assert!(table.len() <= most as usize);
                check(&table);
            }
        }

        #[test]
        fn below_its_bound_it_is_a_map(
            steps in prop::collection::vec((0_u64..200, 1_u64..100, 0_u64..20), 1..600),
        ) {
            let mut table = Table::with_most(1000);
            let mut truth = HashMap::new();
            let mut now = 1;
            for (key, debt, wait) in steps {
                now += wait;
                set(&mut table, scatter(key), now + debt, now);
                truth.insert(key, now + debt);
                for (&key, &due) in truth.iter().filter(|(_, due)| **due > now) {
                    prop_assert_eq!(table.find(scatter(key)).due, due);
                }
                prop_assert_eq!(table.floor, 0);
            }
            prop_assert_eq!(table.forgotten(), 0);
        }
    }

    #[test]
    fn it_grows_with_use_and_never_above_its_bound() {
        let mut table = Table::with_most(100_000);
        assert_eq!(table.bytes(), 0);
        let mut worst = 0;
        for key in 0..300_000 {
            set(&mut table, scatter(key), u64::MAX - 1, 1);
            if table.len() > 1000 {
                worst = worst.max(table.bytes() / table.len());
            }
        }
        check(&table);
        assert_eq!(table.len(), 100_000);
        assert_eq!(table.forgotten(), 200_000);
        assert!(worst <= 48, "{worst} bytes an account");
        assert!(table.bytes() <= 30 * 100_000 + 100);
    }

    #[test]
    fn accounts_that_are_due_make_room_as_others_come() {
        let mut table = Table::with_most(10_000);
        let mut largest = 0;
        for key in 0..1_000_000_u64 {
            set(&mut table, scatter(key), key + 100, key); // a hundred are alive at any time
            largest = largest.max(table.bytes());
        }
        check(&table);
        assert_eq!((table.forgotten(), table.floor), (0, 0));
        assert!(largest < 100 * 72, "{largest} bytes for a hundred accounts");
    }

    #[test]
    fn it_shrinks_after_a_flood() {
        let mut table = Table::with_most(10_000);
        for key in 0..10_000 {
            set(&mut table, scatter(key), 100, 1);
        }
        let flooded = table.bytes();
        for key in 10_000..15_000 {
            set(&mut table, scatter(key), key + 2, key);
        }
        check(&table);
        assert!(table.bytes() < flooded / 50, "{} of {flooded}", table.bytes());
    }

    #[test]
    fn a_flood_forgets_the_flood_first() {
        let mut table = Table::with_most(1000);
        let abusers = 0..100;
        for abuser in abusers.clone() {
            set(&mut table, scatter(abuser), 1_000_000, 1);
        }
        for key in 1000..50_000 {
            let found = table.find(scatter(key));
            table.store(scatter(key), found, found.due.max(1) + 10, 1);
        }
        for abuser in abusers {
            assert_eq!(table.find(scatter(abuser)).due, 1_000_000);
        }
        assert!(table.floor < 2000, "newcomers owe {}", table.floor);
    }
}
