//! The accounts whose keys fall into one bucket, with their lock in the same cache line: a decision moves one line
//! between processors.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::{prices::Price, store::Fingerprint};

/// The accounts that fit into a line beside the lock. What comes above it goes into an extent.
const WIDTH: usize = 3;

/// An account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// With the price at which the account is counted.
    pub(super) key: Fingerprint,
    /// What its limit's algorithm knows of it. Zero: there is no account.
    pub(super) state: u64,
}

/// The accounts of a bucket, or of its extent.
#[derive(Default)]
pub(super) struct Accounts {
    slots: [Slot; WIDTH],
    more: Option<Box<Self>>,
}

#[derive(Default)]
#[repr(align(64))]
pub(super) struct Bucket(Mutex<Accounts>);

impl Bucket {
    /// Nothing panics under the lock, so that accounts are whole even where their lock is said to be poisoned.
    pub(super) fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if it is locked.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Accounts>> {
        match self.0.try_lock() {
            Ok(accounts) => Some(accounts),
            Err(TryLockError::Poisoned(accounts)) => Some(accounts.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Slot {
    const fn is_there(self) -> bool {
        self.state != 0
    }
}

impl Accounts {
    /// This account, if it is here, at whatever price.
    pub(super) fn account(&mut self, key: Fingerprint) -> Option<&mut Slot> {
        let mut at = self;
        loop {
            let place = place(&at.slots, key);
            if let Some(slot) = at.slots.get_mut(place) {
                return Some(slot);
            }
            at = at.more.as_deref_mut()?;
        }
    }

    /// Takes in an account that is not here.
    pub(super) fn put(&mut self, account: Slot) {
        let mut at = self;
        loop {
            if let Some(slot) = at.slots.iter_mut().find(|slot| !slot.is_there()) {
                *slot = account;
                return;
            }
            at = at.more.get_or_insert_default();
        }
    }

    /// The account that owes least.
    pub(super) fn idlest(&self, owed: impl Fn(u64) -> u64) -> Option<Slot> {
        self.iter().min_by_key(|account| owed(account.state))
    }

    /// Drops the accounts of which `gone` says so; it is asked about each.
    pub(super) fn drop_if(&mut self, mut gone: impl FnMut(Slot) -> bool) {
        let mut at = Some(&mut *self);
        while let Some(accounts) = at {
            for slot in accounts.slots.iter_mut().filter(|slot| slot.is_there()) {
                if gone(*slot) {
                    *slot = Slot::default();
                }
            }
            at = accounts.more.as_deref_mut();
        }
        self.trim();
    }

    /// The extents.
    pub(super) fn extents(&self) -> usize {
        std::iter::successors(self.more.as_deref(), |extent| extent.more.as_deref()).count()
    }

    fn iter(&self) -> impl Iterator<Item = Slot> {
        std::iter::successors(Some(self), |accounts| accounts.more.as_deref())
            .flat_map(|accounts| accounts.slots)
            .filter(|account| account.is_there())
    }

    /// Gives back the extents at the end that hold nothing.
    fn trim(&mut self) {
        let Some(more) = &mut self.more else { return };
        more.trim();
        if more.iter().next().is_none() {
            self.more = None;
        }
    }
}

/// Where the account is, or `WIDTH`. All slots are looked at, since nobody can foretell which it is.
fn place(slots: &[Slot; WIDTH], key: Fingerprint) -> usize {
    let is_it = |slot: &Slot| (Price::bare(slot.key ^ key) == 0) & slot.is_there();
    slots.iter().enumerate().fold(WIDTH, |at, (n, slot)| if is_it(slot) { n } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u64..12, 1_u64..50, 0_u32..4), 0..80)) {
            let mut accounts = Accounts::default();
            let mut truth = BTreeMap::new();
            for (key, state, what) in steps {
                match accounts.account(key).map(|slot| &mut slot.state) {
                    _ if what == 0 => {
                        accounts.drop_if(|account| account.state < state);
                        truth.retain(|_, held| *held >= state);
                    }
                    Some(held) => {
                        prop_assert_eq!(*held, truth[&key]);
                        *held = state;
                        truth.insert(key, state);
                    }
                    None => {
                        prop_assert!(!truth.contains_key(&key));
                        accounts.put(Slot { key, state });
                        truth.insert(key, state);
                    }
                }
                let mut held: Vec<_> = accounts.iter().map(|account| (account.key, account.state)).collect();
                held.sort_unstable();
                prop_assert_eq!(held, truth.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(accounts.idlest(|state| state).map(|account| account.state), truth.values().min().copied());
                prop_assert!(accounts.extents() <= 12_usize.div_ceil(WIDTH));
                if truth.is_empty() {
                    prop_assert_eq!(accounts.extents(), 0);
                }
            }
        }
    }
}
