//! The accounts of one limit: a table of [buckets](Bucket) that grows with use and never above its bound.
//!
//! An account that owes nothing any more is like one that was never seen, so it may be dropped: each newcomer drops such
//! accounts from its own bucket and a few others, wherever they lie.
//!
//! The table grows by linear hashing (Litwin, 1980): one bucket at a time is split in two, under the locks of these
//! two, so that it never stands still. The buckets lie in pages, which are made as they are needed.
//!
//! When the table is full of accounts that owe something, the one that owes least of the newcomer and some others goes
//! into the [sketch](Sketch), which remembers at least what it owes. So nobody gains by a flood of newcomers: neither
//! those who are held, nor those who are not.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, TryLockError,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use super::{
    bucket::{Accounts, Bucket, Slot},
    judge::Judge,
    prices::{Price, Prices, Unit},
    sketch::Sketch,
};

/// 64 bits of a keyed hash, or of a keyed permutation: strangers cannot make two accounts meet.
pub(super) type Fingerprint = u64;

/// The buckets that a newcomer looks through for accounts to drop.
const SWEEP: usize = 3;
/// The buckets, besides its own, in which a newcomer looks for one that owes less.
const AROUND: usize = 4;

/// The pages of a large table, and the buckets in a page of a small one.
const MOST_PAGES: usize = 256;
const LEAST_PAGE: usize = 8;

/// A bucket is split when there are more than seven accounts to four buckets.
const fn is_crowded(accounts: usize, buckets: usize) -> bool {
    accounts * 4 > buckets * 7
}

pub(super) struct Store {
    pages: Box<[OnceLock<Box<[Bucket]>>]>,
    /// A page has this power of two of buckets; the last may have less.
    page_bits: u32,
    /// The buckets in use. Every request looks at this, and it changes only as the table grows.
    buckets: AtomicUsize,
    most_buckets: usize,
    most: usize,
    sketch: Sketch,
    prices: Arc<Prices>,
    tally: Tally,
}

/// How states are read: by whom, when, and at what price.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) judge: &'a Judge,
    pub(super) now: u64,
    pub(super) unit: Unit,
    /// The most that an account owes which comes from another price.
    pub(super) most: u64,
}

impl At<'_> {
    pub(super) fn owed(self, state: u64) -> u64 {
        self.judge.owed(state, self.now)
    }
}

/// What changes as accounts come and go; in cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Tally {
    used: AtomicUsize,
    /// Where the next newcomer looks for accounts to drop.
    cursor: AtomicUsize,
    growth: Mutex<()>,
    forgotten: AtomicU64,
}

/// The account of one key, locked.
pub(super) struct Entry<'a> {
    store: &'a Store,
    key: Fingerprint,
    bucket: MutexGuard<'a, Accounts>,
}

impl Store {
    /// A store for at most `most` accounts. It allocates when the first one comes.
    pub(super) fn with_most(most: NonZeroU32, prices: Arc<Prices>) -> Self {
        let most = most.get() as usize;
        let most_buckets = most / 7 * 4 + most % 7 * 4 / 7 + 1; // from here on they are not crowded
        let page_bits = (most_buckets / MOST_PAGES).max(LEAST_PAGE).next_power_of_two().ilog2();
        Self {
            pages: (0..=(most_buckets - 1) >> page_bits).map(|_| OnceLock::new()).collect(),
            page_bits,
            buckets: AtomicUsize::new(1),
            most_buckets,
            most,
            sketch: Sketch::beside(most),
            prices,
            tally: Tally::default(),
        }
    }

    /// Locks the account of `key`. Whoever holds one of this store's must not lock another, nor [tend](Self::tend).
    #[inline]
    pub(super) fn open(&self, key: Fingerprint) -> Entry<'_> {
        let mut buckets = self.buckets.load(Acquire);
        loop {
            let at = index(key, buckets);
            let bucket = self.bucket(at).lock();
            // It may have been split before we had the lock, but not since.
            let now = self.buckets.load(Acquire);
            if now == buckets || index(key, now) == at {
                return Entry { store: self, key: Price::bare(key), bucket };
            }
            buckets = now;
        }
    }

    /// Makes room, as is to be done after each newcomer: drops accounts that are whole by now, and splits a bucket.
    pub(super) fn tend(&self, at: At<'_>) {
        for _ in 0..SWEEP {
            if let Some(mut bucket) = self.another().try_lock() {
                self.drop_whole(&mut bucket, at);
            }
        }
        self.grow(at);
    }

    /// Tells another store what each account that is held here owes.
    pub(super) fn tell(&self, other: &Self, at: At<'_>) {
        let mut next = 0;
        // What is split meanwhile comes again, at the end.
        while next < self.buckets.load(Acquire) {
            let mut held = Vec::new();
            self.bucket(next).lock().drop_if(|account| {
                held.push(account);
                false
            });
            for account in held.into_iter().filter(|account| at.owed(account.state) > 0) {
                // Of prices without a number the other store knows as much as this one.
                let at = At { unit: Unit { number: Price::of(account.key), nanos: 0 }, ..at };
                if other.open(account.key).set(account.state, at) {
                    other.tend(at);
                }
            }
            next += 1;
        }
    }

    /// The accounts that it holds, those not yet dropped included.
    pub(super) fn len(&self) -> usize {
        self.tally.used.load(Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        let lines = pages.clone().map(|page| size_of_val(&**page)).sum::<usize>();
        let extents = pages.flatten().map(|bucket| bucket.lock().extents()).sum::<usize>();
        lines + extents * size_of::<Accounts>() + self.sketch.bytes() + self.prices.bytes()
    }

    /// The accounts that were not held, or no longer, before they were whole.
    pub(super) fn forgotten(&self) -> u64 {
        self.tally.forgotten.load(Relaxed)
    }

    /// The bucket at `at`, which is below the number of them.
    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        let page = at >> self.page_bits;
        let buckets = self.pages[page].get_or_init(|| self.new_page(page));
        &buckets[at & ((1 << self.page_bits) - 1)]
    }

    #[cold]
    fn new_page(&self, page: usize) -> Box<[Bucket]> {
        let left = self.most_buckets - (page << self.page_bits);
        std::iter::repeat_with(Bucket::default).take(left.min(1 << self.page_bits)).collect()
    }

    fn converted(&self, account: Slot, at: At<'_>) -> u64 {
        self.prices.convert(account.key, (account.state, at.most), at.now, at.unit)
    }

    /// A bucket, in turn.
    fn another(&self) -> &Bucket {
        let turn = self.tally.cursor.fetch_add(1, Relaxed) as u64;
        self.bucket(index(turn, self.buckets.load(Acquire)))
    }

    fn drop_whole(&self, bucket: &mut Accounts, at: At<'_>) {
        let mut dropped = 0;
        bucket.drop_if(|account| {
            let whole = at.owed(account.state) == 0;
            dropped += usize::from(whole);
            whole
        });
        if dropped > 0 {
            self.tally.used.fetch_sub(dropped, Relaxed);
        }
    }

    /// Takes an account into its bucket, where it is not, or into the sketch.
    fn admit(&self, bucket: &mut Accounts, newcomer: Slot, at: At<'_>) {
        self.drop_whole(bucket, at);
        let one_more = |used: usize| (used < self.most).then_some(used + 1);
        if self.tally.used.fetch_update(Relaxed, Relaxed, one_more).is_ok()
            || self.forget_one_below(newcomer, bucket, at)
        {
            bucket.put(newcomer);
        } else {
            self.forget(newcomer, at);
        }
    }

    /// Forgets the account that owes least of some, if that is less than the newcomer does.
    fn forget_one_below(&self, newcomer: Slot, bucket: &mut Accounts, at: At<'_>) -> bool {
        let owed = |account: Slot| at.owed(account.state);
        let mut least = bucket.idlest(|state| at.owed(state));
        let mut elsewhere = None;
        for _ in 0..AROUND {
            // Buckets that somebody is at work on, and our own, are left out: nobody waits here.
            let Some(other) = self.another().try_lock() else { continue };
            let Some(idlest) = other.idlest(|state| at.owed(state)) else { continue };
            if least.is_none_or(|least| owed(idlest) < owed(least)) {
                (least, elsewhere) = (Some(idlest), Some(other));
            }
        }
        let Some(least) = least.filter(|least| owed(*least) < owed(newcomer)) else { return false };
        elsewhere.as_deref_mut().unwrap_or(bucket).drop_if(|account| account.key == least.key);
        self.forget(least, at);
        true
    }

    fn forget(&self, account: Slot, at: At<'_>) {
        if at.owed(account.state) > 0 {
            self.tally.forgotten.fetch_add(1, Relaxed);
            self.sketch.note(Price::bare(account.key), account.state, at);
        }
        self.prices.forget(account.key);
    }

    /// Splits the next bucket, if they are crowded.
    fn grow(&self, at: At<'_>) {
        if !is_crowded(self.len(), self.buckets.load(Acquire)) {
            return;
        }
        let _alone = match self.tally.growth.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            held => held,
        };
        let buckets = self.buckets.load(Acquire);
        if buckets == self.most_buckets {
            return;
        }
        let new = self.bucket(buckets);
        let old = self.bucket(index(buckets as u64, buckets));
        let (mut old, mut new) = (old.lock(), new.lock());
        self.drop_whole(&mut old, at);
        old.drop_if(|account| {
            let moves = index(account.key, buckets + 1) == buckets;
            if moves {
                new.put(account);
            }
            moves
        });
        self.buckets.store(buckets + 1, Release);
    }
}

impl Entry<'_> {
    /// The account's state; zero if it is whole as far as anybody knows. From now on it is counted at this price.
    #[inline]
    pub(super) fn state(&mut self, at: At<'_>) -> u64 {
        match self.bucket.account(self.key) {
            Some(held) if Price::of(held.key) == at.unit.number && at.unit.number != Price::OTHER => {
                held.state
            }
            Some(held) => {
                let state = self.store.converted(*held, at);
                if at.unit.number != Price::OTHER {
                    self.store.prices.forget(held.key);
                }
                *held = Slot { key: at.unit.number.on(self.key), state };
                self.note(state, at);
                state
            }
            None => self.store.sketch.state(self.key, at),
        }
    }

    /// As [`state`](Self::state), which is left as it is.
    pub(super) fn look(&mut self, at: At<'_>) -> u64 {
        match self.bucket.account(self.key) {
            Some(held) => self.store.converted(*held, at),
            None => self.store.sketch.state(self.key, at),
        }
    }

    /// Sets its state. Whether it is a newcomer, for which the store is to be tended.
    #[inline]
    pub(super) fn set(&mut self, state: u64, at: At<'_>) -> bool {
        let key = at.unit.number.on(self.key);
        self.note(state, at);
        match self.bucket.account(self.key) {
            Some(held) if state != 0 => {
                *held = Slot { key, state };
                return false;
            }
            Some(_) => {
                self.remove();
            }
            None if state == 0 => {}
            None => {
                self.store.admit(&mut self.bucket, Slot { key, state }, at);
                return true;
            }
        }
        false
    }

    /// Notes a price that has no number, if it is such a one.
    #[inline]
    fn note(&self, state: u64, at: At<'_>) {
        if at.unit.number == Price::OTHER && at.unit.nanos > 0 && state > at.now {
            self.store.prices.note(self.key, (at.unit.nanos, state), at.now);
        }
    }

    /// Drops the account, if it is held.
    pub(super) fn remove(&mut self) -> bool {
        let (key, mut held) = (self.key, false);
        self.bucket.drop_if(|account| {
            let is_it = Price::bare(account.key) == key;
            held |= is_it;
            is_it
        });
        self.store.tally.used.fetch_sub(usize::from(held), Relaxed);
        held
    }
}

/// The bucket of a key where there are so many: its lowest bits, without the highest of these if that is too much.
#[inline]
fn index(key: Fingerprint, buckets: usize) -> usize {
    let mask = buckets.next_power_of_two() - 1;
    let at = key as usize & mask;
    if at < buckets { at } else { at & (mask >> 1) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::chance::Chance;
    use proptest::prelude::*;
    use std::{collections::HashMap, sync::LazyLock, time::Duration};

    use crate::admission::rate_limit::{Algorithm, Quota, Rate};

    /// A bucket that never refuses, whose states are the times at which it is whole.
    pub(in super::super) fn at(now: u64) -> At<'static> {
        static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
            let rate = Rate::new(1, Duration::from_nanos(100)).unwrap();
            Judge::new(Algorithm::TokenBucket, Quota::new(rate), u32::MAX, 0).unwrap()
        });
        At { judge: &JUDGE, now, unit: Unit::NONE, most: 0 }
    }

    fn store(most: u32) -> Store {
        Store::with_most(NonZeroU32::new(most).unwrap(), Arc::default())
    }

    fn due(store: &Store, key: Fingerprint) -> u64 {
        store.open(key).state(at(0))
    }

    fn set(store: &Store, key: Fingerprint, due: u64, now: u64) {
        let came = store.open(key).set(due, at(now));
        if came {
            store.tend(at(now));
        }
    }

    fn keys(seed: u64, count: usize) -> Vec<Fingerprint> {
        let chance = Chance::seeded(seed);
        (0..count).map(|_| chance.next()).collect()
    }

    /// All accounts are in the bucket in which they are looked for, and are counted.
    fn check(store: &Store) {
        let buckets = store.buckets.load(Acquire);
        let mut used = 0;
        for at in 0..buckets {
            store.bucket(at).lock().drop_if(|account| {
                assert_eq!(index(account.key, buckets), at);
                used += 1;
                false
            });
        }
        assert_eq!(store.len(), used);
        assert!(used <= store.most && buckets <= store.most_buckets);
    }

    #[test]
    fn a_key_falls_into_one_bucket_until_that_is_split() {
        for key in keys(1, 200) {
            let mut at = 0;
            for buckets in 1..300 {
                let now = index(key, buckets);
                assert!(now < buckets && (now == at || now + 1 == buckets));
                at = now;
            }
        }
    }

    #[test]
    fn what_is_told_another_is_owed_there() {
        let (store, all) = (store(1000), keys(10, 800));
        for (n, &key) in all.iter().enumerate() {
            set(&store, key, 10 + n as u64, 1);
        }
        for most in [2000, 100] {
            let other = self::store(most);
            store.tell(&other, at(500));
            check(&other);
            assert!(all.iter().enumerate().all(|(n, &key)| n <= 490 || due(&other, key) >= 10 + n as u64));
            assert_eq!(other.len(), (most as usize).min(309));
        }
    }

    proptest! {
        #[test]
        fn nobody_gains_by_being_forgotten(
            most in 1_u32..40,
            steps in prop::collection::vec((0_u64..60, 1_u64..500, 0_u64..30, any::<bool>()), 1..400),
        ) {
            let store = store(most);
            let scattered = keys(7, 60);
            let mut truth = HashMap::new();
            let mut now = 1;
            for (key, debt, wait, clash) in steps {
                // Half of the keys have one bucket.
                let key = if clash { key << 32 } else { scattered[key as usize] };
                now += wait;
                let owed = *truth.get(&key).unwrap_or(&0);
                let known = due(&store, key);
                prop_assert!(known.max(now) >= u64::max(owed, now), "{known} < {owed}");
                let then = known.max(now) + debt;
                set(&store, key, then, now);
                truth.insert(key, then);
                prop_assert!(due(&store, key) >= then);
                check(&store);
            }
        }

        #[test]
        fn below_its_bound_it_is_a_map(
            steps in prop::collection::vec((0_usize..200, 1_u64..100, 0_u64..20), 1..600),
        ) {
            let store = store(1000);
            let keys = keys(8, 200);
            let mut truth = HashMap::new();
            let mut now = 1;
            for (key, debt, wait) in steps {
                now += wait;
                set(&store, keys[key], now + debt, now);
                truth.insert(keys[key], now + debt);
                for (&key, &then) in truth.iter().filter(|(_, then)| **then > now) {
                    prop_assert_eq!(due(&store, key), then);
                }
            }
            check(&store);
            prop_assert_eq!((store.forgotten(), store.sketch.bytes()), (0, 0));
        }
    }

    #[test]
    fn it_grows_with_use_and_never_above_its_bound() {
        let store = store(100_000);
        assert_eq!(store.bytes(), 0);
        let mut worst = 0;
        for (n, key) in keys(1, 300_000).into_iter().enumerate() {
            set(&store, key, 1 << 38, 1);
            if n % 10_000 == 9_999 {
                worst = worst.max(store.bytes() / store.len());
            }
        }
        check(&store);
        assert_eq!((store.len(), store.forgotten()), (100_000, 200_000));
        assert!(worst <= 48, "{worst} bytes an account");
        assert!(store.bytes() <= 46 * 100_000, "{} bytes", store.bytes());
    }

    #[test]
    fn accounts_that_are_due_make_room_as_others_come() {
        let store = store(10_000);
        for (n, key) in keys(2, 300_000).into_iter().enumerate() {
            set(&store, key, n as u64 + 100, n as u64); // a hundred are alive at any time
        }
        check(&store);
        assert_eq!(store.forgotten(), 0);
        assert!(store.bytes() < 100 * 72, "{} bytes for a hundred accounts", store.bytes());
    }

    #[test]
    fn a_flood_forgets_the_flood_first() {
        let store = store(1000);
        let (abusers, flood) = (keys(3, 100), keys(4, 50_000));
        for &abuser in &abusers {
            set(&store, abuser, 1_000_000, 1);
        }
        for key in flood {
            let known = due(&store, key);
            set(&store, key, known.max(1) + 10, 1);
        }
        check(&store);
        assert!(abusers.iter().all(|&abuser| due(&store, abuser) == 1_000_000));
        let owed: Vec<_> = keys(5, 1000).into_iter().map(|key| due(&store, key)).collect();
        assert!(owed.iter().all(|&owed| owed < 2000), "newcomers owe {owed:?}");
    }

    #[test]
    fn who_spends_is_held_though_a_flood_came_first() {
        let store = store(1000);
        keys(6, 10_000).into_iter().for_each(|key| set(&store, key, 100, 1));
        for spent in 1..50 {
            set(&store, 7, due(&store, 7).max(1) + 10, 1);
            assert!(due(&store, 7) > 10 * spent);
        }
        assert!(store.open(7).bucket.account(7).is_some());
        check(&store);
    }

    #[test]
    fn threads_that_make_it_grow_lose_nothing() {
        let store = store(200_000);
        let all = keys(9, 160_000);
        std::thread::scope(|scope| {
            for part in all.chunks(40_000) {
                let store = &store;
                scope.spawn(move || {
                    for (n, &key) in part.iter().enumerate() {
                        set(store, key, 1000 + n as u64, 1);
                        let earlier = n / 2;
                        assert_eq!(due(store, part[earlier]), 1000 + earlier as u64);
                    }
                });
            }
        });
        check(&store);
        assert_eq!((store.len(), store.forgotten()), (160_000, 0));
    }
}
