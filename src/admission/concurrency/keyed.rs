use std::sync::{
    Arc, MutexGuard,
    atomic::{AtomicU32, Ordering},
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    permit::{Permit, Place},
    pool::Pool,
    queue::{Joined, Queue, Ticket, Waiter, Waiters},
};
use crate::{
    admission::Priority,
    head::Head,
    key::{Key, KeySeed},
    sharded::{ByHash, Sharded, hash_of},
};

const SHARDS: usize = 16;

/// The places of a limit that each key has for itself. A key without a request in flight or waiting is not kept.
#[derive(Debug)]
pub(super) struct Keyed {
    shards: Sharded<Shard>,
    key: Key,
    seed: KeySeed,
    limit: AtomicU32,
    /// The keys of one shard.
    most: AtomicU32,
    in_flight: AtomicU32,
    waiting: AtomicU32,
}

#[derive(Debug, Default)]
struct Shard {
    entries: ByHash<Entry>,
    /// Keys for which there is no room share this one.
    crowd: Entry,
}

#[derive(Debug, Default)]
struct Entry {
    in_flight: u32,
    waiters: Option<Box<Waiters>>,
}

/// Whose places these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    key: u64,
    crowd: bool,
}

/// What became of one who wanted to wait.
pub(super) enum Wanted {
    /// A place was free after all.
    Entered(Account),
    Waits(Account, Ticket, oneshot::Receiver<Permit>),
    Full,
}

impl Entry {
    fn enter(&mut self, limit: u32) -> bool {
        let free = self.in_flight < limit && self.waiters.as_ref().is_none_or(|waiters| waiters.is_empty());
        self.in_flight += u32::from(free);
        free
    }

    fn waiting(&self) -> u32 {
        self.waiters.as_ref().map_or(0, |waiters| u32::try_from(waiters.len()).unwrap_or(u32::MAX))
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiters.as_ref().is_none_or(|waiters| waiters.is_empty())
    }
}

impl Shard {
    fn entry(&mut self, key: u64, most: usize) -> (&mut Entry, Account) {
        let crowd = self.entries.len() >= most && !self.entries.contains_key(&key);
        let account = Account { key, crowd };
        let entry = if crowd { &mut self.crowd } else { self.entries.entry(key).or_default() };
        (entry, account)
    }

    fn known(&mut self, account: Account) -> Option<&mut Entry> {
        if account.crowd { Some(&mut self.crowd) } else { self.entries.get_mut(&account.key) }
    }

    fn forget_idle(&mut self, account: Account) {
        if !account.crowd && self.entries.get(&account.key).is_some_and(Entry::is_idle) {
            self.entries.remove(&account.key);
        }
    }
}

impl Keyed {
    pub(super) fn new(key: Key, limit: u32, max_keys: u32) -> Self {
        let keyed = Self {
            shards: Sharded::new(SHARDS),
            key,
            seed: KeySeed::new(),
            limit: AtomicU32::new(0),
            most: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
        };
        keyed.set_limit(limit, max_keys);
        keyed
    }

    /// Other numbers from now on. Who waits is to be [served](Self::serve).
    pub(super) fn set_limit(&self, limit: u32, max_keys: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        self.most.store(max_keys.div_ceil(SHARDS as u32), Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed) as usize
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The keys that are held now.
    pub(super) fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    pub(super) fn capacity(&self) -> usize {
        self.most() * SHARDS
    }

    pub(super) fn fingerprint(&self, head: &Head<'_>) -> u64 {
        self.key.fingerprint(head, &self.seed)
    }

    pub(super) fn enter(&self, key: u64) -> Option<Account> {
        let mut shard = self.shards.of(key);
        let (entry, account) = shard.entry(key, self.most());
        let entered = entry.enter(self.limit());
        drop(shard);
        entered.then(|| self.entered(account))
    }

    /// Takes a place, and tells whether one was free.
    pub(super) fn add(&self, key: u64) -> (Account, bool) {
        let mut shard = self.shards.of(key);
        let (entry, account) = shard.entry(key, self.most());
        let was_free = entry.enter(self.limit());
        entry.in_flight += u32::from(!was_free);
        drop(shard);
        (self.entered(account), was_free)
    }

    fn entered(&self, account: Account) -> Account {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        account
    }

    /// Begins to wait, unless a place is free by now.
    pub(super) fn join(&self, queue: &Queue, key: u64, now: Instant, priority: Priority) -> Wanted {
        let mut shard = self.shards.of(key);
        let (entry, account) = shard.entry(key, self.most());
        if entry.enter(self.limit()) {
            return Wanted::Entered(self.entered(account));
        }
        let (grant, granted) = oneshot::channel();
        let waiters = entry.waiters.get_or_insert_default();
        match waiters.join(queue, priority, Waiter { since: now, share: None, grant }) {
            Joined::Full => Wanted::Full,
            Joined::Displaced(ticket) => Wanted::Waits(account, ticket, granted),
            Joined::Waits(ticket) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                Wanted::Waits(account, ticket, granted)
            }
        }
    }

    /// Waits no longer.
    pub(super) fn abandon(&self, account: Account, ticket: Ticket) {
        let mut shard = self.shards.of(account.key);
        let waiters = shard.known(account).and_then(|entry| entry.waiters.as_mut());
        if waiters.is_some_and(|waiters| waiters.leave(ticket)) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        shard.forget_idle(account);
    }

    /// Hands a place on to who waits for it, or gives it back.
    pub(super) fn leave(&self, pool: &Arc<Pool>, account: Account) {
        let mut shard = self.shards.of(account.key);
        let Some(entry) = shard.known(account) else { return };
        entry.in_flight -= 1;
        let next = self.next(entry);
        if next.is_none() {
            shard.forget_idle(account);
        }
        drop(shard);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.grant(pool, account, next);
    }

    /// Takes a place for who is next, if there is one. Those who were dropped before wait no longer either.
    fn next(&self, entry: &mut Entry) -> Option<Waiter> {
        let before = entry.waiting();
        if before == 0 || entry.in_flight >= self.limit() {
            return None;
        }
        let next = entry.waiters.as_mut().and_then(|waiters| waiters.next(Instant::now()));
        entry.in_flight += u32::from(next.is_some());
        self.waiting.fetch_sub(before - entry.waiting(), Ordering::Relaxed);
        next
    }

    /// Hands the places over that were taken for these. Who is gone drops the permit, and the next one is looked for.
    fn grant(&self, pool: &Arc<Pool>, account: Account, waiters: impl IntoIterator<Item = Waiter>) {
        for Waiter { grant, .. } in waiters {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            drop(grant.send(Permit::new(Arc::clone(pool), Place::OfKey(account))));
        }
    }

    /// Hands out all places that are free, after the limit has changed.
    pub(super) fn serve(&self, pool: &Arc<Pool>) {
        for (part, mut shard) in self.shards.iter().enumerate() {
            let mut served = Vec::new();
            let Shard { entries, crowd } = &mut *shard;
            let keys = entries.iter_mut().map(|(key, entry)| (Account { key: *key, crowd: false }, entry));
            // Any key of this part stands for its crowd.
            let crowd = (Account { key: hash_of(part), crowd: true }, crowd);
            for (account, entry) in keys.chain([crowd]) {
                served.extend(std::iter::from_fn(|| self.next(entry)).map(|waiter| (account, waiter)));
            }
            drop(shard);
            for (account, waiter) in served {
                self.grant(pool, account, [waiter]);
            }
        }
    }

    /// How long somebody has waited at most.
    pub(super) fn age(&self, now: Instant) -> std::time::Duration {
        if self.waiting() == 0 {
            return std::time::Duration::ZERO;
        }
        let age_in = |shard: MutexGuard<'_, Shard>| {
            let entries = shard.entries.values().chain([&shard.crowd]);
            entries.filter_map(|entry| Some(entry.waiters.as_ref()?.age(now))).max().unwrap_or_default()
        };
        self.shards.iter().map(age_in).max().unwrap_or_default()
    }
}
