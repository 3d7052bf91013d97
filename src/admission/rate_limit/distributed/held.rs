//! What is known here of accounts on Redis: units that were taken ahead, and how long it is of no use to ask.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::params::Params;

const SHARDS: usize = 64;
/// Units that were taken ahead are good for so long. What is left of them then was given back before, or is lost.
const LEASE: Duration = Duration::from_secs(3);
/// What is taken ahead the first time.
const FIRST: u32 = 2;

/// An account's key on Redis, and the limit that it is held to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) params: Params,
}

/// What to do about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was paid from what was taken ahead. It is time to take more, if this says how much.
    Paid { soon: Option<u32> },
    /// It would be refused for so long.
    Denied(Duration),
    /// Redis has to be asked, also for so much ahead.
    Unknown { ahead: u32 },
}

/// What Redis gave ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) units: u32,
    /// Of what was asked for. Less was given where there is not much left.
    pub(super) asked: u32,
    pub(super) window: u64,
    /// For how long they mean what they mean now: windows end.
    pub(super) good_for: Duration,
}

/// Units that are given back.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) place: Arc<Place>,
    pub(super) units: u32,
    pub(super) window: u64,
}

/// The accounts of a limit of which something is known, in shards of which each has a lock.
pub(super) struct Held {
    shards: Box<[Mutex<Shard>]>,
    most_in_shard: usize,
}

type Shard = HashMap<u64, Account, BuildHasherDefault<Prints>>;

struct Account {
    place: Arc<Place>,
    units: u32,
    window: u64,
    until: Instant,
    /// How much is taken at a time.
    size: u32,
    /// Spent since units were taken last.
    spent: u32,
    used: bool,
    asking: bool,
    /// Until when this cost and any larger is refused.
    denied: Option<(Instant, u32)>,
}

impl Held {
    pub(super) fn new(most: u32) -> Self {
        let most_in_shard = (most as usize).div_ceil(SHARDS);
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), most_in_shard }
    }

    /// Pays from what was taken ahead, if there is enough. `most` is what may be taken ahead.
    pub(super) fn pay(&self, key: u64, cost: u32, most: u32, now: Instant) -> Known {
        let mut shard = self.shard(key);
        let Some(account) = shard.get_mut(&key) else { return Known::Unknown { ahead: FIRST.min(most) } };
        if let Some((until, least)) = account.denied {
            if until <= now {
                account.denied = None;
            } else if cost >= least {
                return Known::Denied(until - now);
            }
        }
        account.used = true;
        if account.until <= now {
            account.units = 0;
        }
        account.size = account.size.min(most);
        if account.units < cost || most == 0 {
            return Known::Unknown { ahead: account.grow(most) };
        }
        account.units -= cost;
        account.spent = account.spent.saturating_add(cost);
        let is_low = account.units <= account.size / 2 && !account.asking;
        account.asking |= is_low;
        Known::Paid { soon: is_low.then(|| account.grow(most)) }
    }

    /// Takes back what a request has not spent after all.
    pub(super) fn unpay(&self, key: u64, cost: u32) {
        if let Some(account) = self.shard(key).get_mut(&key) {
            account.units = account.units.saturating_add(cost);
        }
    }

    /// Keeps what was given ahead. What cannot be kept is returned.
    pub(super) fn keep(&self, key: u64, place: &Arc<Place>, grant: Grant, asked_at: Instant) -> Option<Rest> {
        let mut shard = self.shard(key);
        let Some(account) = self.entry(&mut shard, key, place, asked_at) else {
            return Some(Rest { place: Arc::clone(place), units: grant.units, window: grant.window });
        };
        account.asking = false;
        if account.until <= asked_at || account.window != grant.window {
            account.units = 0;
        }
        account.units = account.units.saturating_add(grant.units);
        account.window = grant.window;
        account.until = asked_at + grant.good_for.min(LEASE);
        account.size = if grant.units < grant.asked { grant.units } else { grant.asked };
        account.spent = 0;
        account.used = true;
        None
    }

    /// Remembers that this cost is refused until then.
    pub(super) fn deny(&self, key: u64, place: &Arc<Place>, cost: u32, until: Instant, now: Instant) {
        let mut shard = self.shard(key);
        if let Some(account) = self.entry(&mut shard, key, place, now) {
            account.denied = Some((until, cost));
        }
    }

    /// Nobody is asked for more any longer.
    pub(super) fn gave_up(&self, key: u64) {
        if let Some(account) = self.shard(key).get_mut(&key) {
            account.asking = false;
        }
    }

    /// Forgets what is of no use any more, and takes out what was not used since the last time, or all of it.
    pub(super) fn sweep(&self, all: bool, now: Instant) -> Vec<Rest> {
        let mut rests = Vec::new();
        for shard in &self.shards {
            lock(shard).retain(|_, account| {
                let is_idle = all || !account.used;
                if is_idle && account.units > 0 && account.until > now {
                    let (place, units, window) = (Arc::clone(&account.place), account.units, account.window);
                    rests.push(Rest { place, units, window });
                }
                if is_idle {
                    (account.units, account.spent) = (0, 0);
                    account.size /= 2;
                }
                let is_denied = account.denied.is_some_and(|(until, _)| until > now);
                let keeps = account.used || is_denied || account.asking;
                account.used = false;
                keeps
            });
        }
        rests
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The account; a new one if there is room, for which what is of no use goes.
    fn entry<'s>(
        &self,
        shard: &'s mut Shard,
        key: u64,
        place: &Arc<Place>,
        now: Instant,
    ) -> Option<&'s mut Account> {
        if shard.len() >= self.most_in_shard && !shard.contains_key(&key) {
            return None;
        }
        let account = shard.entry(key).or_insert_with(|| Account {
            place: Arc::clone(place),
            units: 0,
            window: 0,
            until: now,
            size: 0,
            spent: 0,
            used: true,
            asking: false,
            denied: None,
        });
        if !Arc::ptr_eq(&account.place, place) && account.place.params != place.params {
            // Another plan is another account: what was taken of the old one is left to it.
            (account.units, account.denied) = (0, None);
        }
        account.place = Arc::clone(place);
        Some(account)
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(key >> 32) as usize % SHARDS])
    }
}

impl Account {
    /// What to take next: twice as much if what was taken last was used, within what may be.
    fn grow(&self, most: u32) -> u32 {
        let used = self.spent.saturating_mul(2) >= self.size;
        let size = if used { self.size.saturating_mul(2) } else { self.size };
        size.max(FIRST).min(most)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys are hashes already, under a secret.
#[derive(Default)]
struct Prints(u64);

impl Hasher for Prints {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn place() -> Arc<Place> {
        let params = Params::Sliding { window: 1_000_000, count: 100 };
        Arc::new(Place { key: String::new(), params })
    }

    fn grant(units: u32) -> Grant {
        Grant { units, asked: units, window: 0, good_for: LEASE }
    }

    #[test]
    fn what_is_taken_ahead_grows_with_use_and_is_given_back_when_idle() {
        let (held, place, now) = (Held::new(100), place(), Instant::now());
        assert_eq!(held.pay(1, 1, 0, now), Known::Unknown { ahead: 0 });
        assert_eq!(held.pay(1, 1, 20, now), Known::Unknown { ahead: 2 });
        assert!(held.keep(1, &place, grant(2), now).is_none());
        assert_eq!(held.pay(1, 1, 20, now), Known::Paid { soon: Some(4) });
        assert_eq!(held.pay(1, 1, 20, now), Known::Paid { soon: None }, "it was asked for");
        assert_eq!(held.pay(1, 1, 20, now), Known::Unknown { ahead: 4 });
        assert!(held.keep(1, &place, grant(16), now).is_none());
        assert_eq!(held.pay(1, 20, 20, now), Known::Unknown { ahead: 16 }, "hardly used");
        assert_eq!(held.pay(1, 8, 20, now), Known::Paid { soon: Some(20) });

        assert!(held.sweep(false, now).is_empty());
        let rests = held.sweep(false, now);
        assert_eq!(rests.iter().map(|rest| rest.units).collect::<Vec<_>>(), [8]);
        assert_eq!(held.pay(1, 1, 20, now), Known::Unknown { ahead: 8 });
        held.gave_up(1);
        held.sweep(true, now);
        held.sweep(true, now);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn units_are_good_for_their_time() {
        let (held, place, now) = (Held::new(100), place(), Instant::now());
        assert!(held.keep(1, &place, Grant { good_for: 10 * MS, ..grant(9) }, now).is_none());
        assert!(matches!(held.pay(1, 1, 20, now + 9 * MS), Known::Paid { .. }));
        assert!(matches!(held.pay(1, 1, 20, now + 10 * MS), Known::Unknown { .. }));
        assert!(held.sweep(true, now + 10 * MS).is_empty(), "nobody has a use for them");
    }

    #[test]
    fn who_is_refused_is_refused_until_its_time() {
        let (held, place, now) = (Held::new(100), place(), Instant::now());
        held.deny(1, &place, 5, now + 10 * MS, now);
        assert_eq!(held.pay(1, 5, 0, now + 4 * MS), Known::Denied(6 * MS));
        assert!(matches!(held.pay(1, 4, 0, now + 4 * MS), Known::Unknown { .. }), "less may pass");
        assert!(matches!(held.pay(1, 5, 0, now + 10 * MS), Known::Unknown { .. }));
    }

    #[test]
    fn strangers_keys_take_no_more_than_there_is() {
        let (held, place, now) = (Held::new(64), place(), Instant::now());
        let kept = (0..1000_u64).filter(|key| held.keep(key << 32, &place, grant(1), now).is_none()).count();
        assert_eq!((kept, held.len()), (64, 64));
    }
}
