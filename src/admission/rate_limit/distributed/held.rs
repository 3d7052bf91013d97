//! What is known here of accounts on Redis: units that were taken ahead, and how long it is of no use to ask.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::params::Params;
use crate::admission::rate_limit::Quota;

const SHARDS: usize = 64;
/// Units that were taken ahead are good for so long. What is left of them then is given back.
const LEASE: Duration = Duration::from_secs(3);
/// What is taken ahead the first time.
const FIRST: u32 = 2;

/// Where an account is on Redis, and the limit that it is held to.
#[derive(Debug)]
pub(super) struct Place {
    /// That of all limits which count by one thing.
    pub(super) key: String,
    /// By which it is known there among them.
    pub(super) name: u64,
    pub(super) params: Params,
    /// That of the account's plan, if it has one.
    pub(super) plan: Option<Quota>,
}

/// What to do about a request.
#[derive(Debug)]
pub(super) enum Known {
    /// It was paid from what was taken ahead, there and in this window. It is time to take more, if this says how much.
    Paid { place: Arc<Place>, window: u64, soon: Option<u32> },
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

/// Units that are given back, or may be.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) place: Arc<Place>,
    pub(super) units: u32,
    pub(super) window: u64,
}

/// The accounts of a limit of which something is known, in shards of which each has a lock.
pub(super) struct Held {
    shards: Box<[Mutex<Shard>]>,
    most_in_shard: usize,
    /// For how long at most a refusal is remembered.
    remembered: Duration,
    /// Since when refusals are of use: units have come back.
    forgiven: Mutex<Option<Instant>>,
}

type Shard = HashMap<u64, Account, BuildHasherDefault<Prints>>;

struct Account {
    place: Arc<Place>,
    units: u32,
    window: u64,
    until: Instant,
    /// When their window ends, after which nobody takes them back.
    ends: Instant,
    /// How much was in hand when units were taken last, and how much is wanted next.
    size: u32,
    wanted: u32,
    /// Spent since units were taken last, and since the last sweep.
    spent: u32,
    lately: u32,
    used: bool,
    /// Whether it was all spent before more came that was asked for.
    ran_out: bool,
    /// Until when somebody may be asking for more.
    asking: Option<Instant>,
    denied: Option<Denied>,
}

/// This cost and any larger is refused for so long, and it is to be asked again then.
struct Denied {
    until: Instant,
    again: Instant,
    least: u32,
}

impl Held {
    pub(super) fn new(most: u32, remembered: Duration) -> Self {
        let most_in_shard = (most as usize).div_ceil(SHARDS);
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, most_in_shard, remembered, forgiven: Mutex::default() }
    }

    /// Pays from what was taken ahead, if there is enough, and hands out what is not good any more. `most` is what may be
    /// taken ahead.
    pub(super) fn pay(
        &self,
        key: u64,
        cost: u32,
        (plan, most): (Option<Quota>, u32),
        now: Instant,
    ) -> (Known, Option<Rest>) {
        let mut shard = self.shard(key);
        let Some(account) = shard.get_mut(&key) else {
            return (Known::Unknown { ahead: FIRST.min(most) }, None);
        };
        account.used = true;
        let is_other = account.place.plan != plan;
        if is_other || account.denied.as_ref().is_some_and(|denied| !denied.is_believed(now)) {
            account.denied = None;
        }
        if let Some(denied) = account.denied.as_ref().filter(|denied| cost >= denied.least) {
            return (Known::Denied(denied.until - now), None);
        }
        // Another plan is another account: what was taken of the old one goes back to it.
        // What was taken when fewer shared it, is theirs who came.
        let rest =
            if is_other || account.until <= now { account.take(0, now) } else { account.trim(most, now) };
        if account.units < cost || most == 0 {
            account.ran_out |= account.is_asking(now);
            return (Known::Unknown { ahead: account.more(most, now).unwrap_or_default() }, rest);
        }
        account.units -= cost;
        account.spent = account.spent.saturating_add(cost);
        account.lately = account.lately.saturating_add(cost);
        let is_low = account.units <= account.size.min(most) / 2;
        let soon = if is_low { account.more(most, now) } else { None };
        (Known::Paid { place: Arc::clone(&account.place), window: account.window, soon }, rest)
    }

    /// Takes back what a request has not spent after all; returns it, if what was taken ahead since is other than that.
    pub(super) fn unpay(&self, key: u64, rest: Rest) -> Option<Rest> {
        match self.shard(key).get_mut(&key) {
            Some(account) if account.window == rest.window && account.place.plan == rest.place.plan => {
                account.units = account.units.saturating_add(rest.units);
                None
            }
            _ => Some(rest),
        }
    }

    /// Knows nothing of the account any more.
    pub(super) fn forget(&self, key: u64) {
        self.shard(key).remove(&key);
    }

    /// Keeps what was given ahead, up to `most` in all. What cannot be kept is returned, also of what was there.
    pub(super) fn keep(
        &self,
        key: u64,
        place: &Arc<Place>,
        (grant, most): (Grant, u32),
        asked_at: Instant,
    ) -> Vec<Rest> {
        let mut shard = self.shard(key);
        let rest =
            |units| (units > 0).then(|| Rest { place: Arc::clone(place), units, window: grant.window });
        let Some(account) = self.entry(&mut shard, key, place, asked_at) else {
            return rest(grant.units).into_iter().collect();
        };
        account.asking = None;
        let is_other = account.place.plan != place.plan;
        let is_over = account.until <= asked_at || account.window != grant.window;
        let before = if is_other || is_over { account.take(0, asked_at) } else { None };
        account.place = Arc::clone(place);
        if is_other {
            account.denied = None;
        }
        let kept = grant.units.min(most.saturating_sub(account.units));
        account.units += kept;
        account.window = grant.window;
        account.until = asked_at + grant.good_for.min(LEASE);
        account.ends = crate::time::after(asked_at, grant.good_for);
        // Where there is not much left, there is no use in asking for more.
        let is_scarce = grant.units < grant.asked;
        account.size = if is_scarce { account.units } else { account.wanted.max(account.units) };
        account.ran_out &= !is_scarce;
        account.spent = 0;
        account.used = true;
        before.into_iter().chain(rest(grant.units - kept)).collect()
    }

    /// Remembers that this cost is refused until then, which was asked at `at`.
    pub(super) fn deny(&self, key: u64, place: &Arc<Place>, cost: u32, until: Instant, at: Instant) {
        if self.remembered.is_zero() {
            return;
        }
        let mut shard = self.shard(key);
        if lock(&self.forgiven).is_some_and(|since| at < since) {
            return;
        }
        if let Some(account) = self.entry(&mut shard, key, place, at)
            && account.place.plan == place.plan
        {
            let again = until.min(crate::time::after(at, self.remembered));
            account.denied = Some(Denied { until, again, least: cost });
        }
    }

    /// Forgets who is refused, also by what was asked before and is not heard yet.
    pub(super) fn forgive(&self, now: Instant) {
        *lock(&self.forgiven) = Some(now);
        for shard in &self.shards {
            lock(shard).values_mut().for_each(|account| account.denied = None);
        }
    }

    /// Nobody is asked for more any longer.
    pub(super) fn gave_up(&self, key: u64) {
        if let Some(account) = self.shard(key).get_mut(&key) {
            account.asking = None;
        }
    }

    /// Forgets what is of no use any more, and takes out what will not be used soon, or all of it: whatever was not used
    /// since the last time, and of what was, all but twice as much as was spent.
    pub(super) fn sweep(&self, all: bool, now: Instant) -> Vec<Rest> {
        let mut rests = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            // Who is refused and does not come again, leaves half of the room to others.
            let mut too_many = shard.len().saturating_sub(self.most_in_shard / 2);
            shard.retain(|_, account| {
                let is_idle = all || !account.used;
                let keep = account.lately.saturating_mul(2).max(FIRST);
                rests.extend(account.take(if is_idle || account.until <= now { 0 } else { keep }, now));
                if is_idle {
                    account.spent = 0;
                    account.size /= 2;
                } else {
                    account.size = account.size.min(keep);
                }
                let is_denied = account.denied.as_ref().is_some_and(|denied| denied.is_believed(now));
                let mut keeps = account.used || account.is_asking(now);
                if !keeps && is_denied {
                    keeps = too_many == 0;
                    too_many = too_many.saturating_sub(1);
                }
                account.used = false;
                account.lately = 0;
                keeps
            });
        }
        rests
    }

    /// Takes out what is more than may be taken ahead now.
    pub(super) fn trim(&self, most: impl Fn(&Place) -> u32, now: Instant) -> Vec<Rest> {
        let mut rests = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            rests.extend(shard.values_mut().filter_map(|account| account.trim(most(&account.place), now)));
        }
        rests
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The account, or a new one; `None` where there is no room for that.
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
        Some(shard.entry(key).or_insert_with(|| Account {
            place: Arc::clone(place),
            units: 0,
            window: 0,
            until: now,
            ends: now,
            size: 0,
            wanted: 0,
            spent: 0,
            lately: 0,
            used: true,
            ran_out: false,
            asking: None,
            denied: None,
        }))
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(key >> 32) as usize % SHARDS])
    }
}

impl Account {
    /// What to take now, unless somebody does already: so much that there is twice as much in hand if what was taken last
    /// was used or did not last until more came, and no more than may be.
    fn more(&mut self, most: u32, now: Instant) -> Option<u32> {
        if self.is_asking(now) {
            return None;
        }
        let used = mem::take(&mut self.ran_out) || self.spent.saturating_mul(2) >= self.size;
        let size = if used { self.size.saturating_mul(2) } else { self.size };
        self.wanted = size.max(FIRST).min(most);
        let more = self.wanted.saturating_sub(self.units);
        self.asking = (more > 0).then_some(now + LEASE);
        (more > 0).then_some(more)
    }

    /// Whoever asked and was not heard of for so long, is not heard of any more.
    fn is_asking(&self, now: Instant) -> bool {
        self.asking.is_some_and(|until| until > now)
    }

    /// Takes out what is more than may be taken ahead. While nothing may be, since it is not known how many share it, what is
    /// in hand is kept.
    fn trim(&mut self, most: u32, now: Instant) -> Option<Rest> {
        if most > 0 { self.take(most, now) } else { None }
    }

    /// Takes out all but so many units, for those who take them back.
    fn take(&mut self, keep: u32, now: Instant) -> Option<Rest> {
        let units = self.units.saturating_sub(keep);
        self.units -= units;
        let is_of_use = units > 0 && self.ends > now;
        is_of_use.then(|| Rest { place: Arc::clone(&self.place), units, window: self.window })
    }
}

impl Denied {
    fn is_believed(&self, now: Instant) -> bool {
        now < self.again
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
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
        Arc::new(Place { key: String::new(), name: 0, params, plan: None })
    }

    /// What is known, with how much is to be taken now.
    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Paid(Option<u32>),
        Denied(Duration),
        Unknown(u32),
    }

    impl From<Known> for Told {
        fn from(known: Known) -> Self {
            match known {
                Known::Paid { soon, .. } => Self::Paid(soon),
                Known::Denied(time) => Self::Denied(time),
                Known::Unknown { ahead } => Self::Unknown(ahead),
            }
        }
    }

    fn pay(held: &Held, cost: u32, most: u32, now: Instant) -> Told {
        held.pay(1, cost, (None, most), now).0.into()
    }

    fn units(rests: impl IntoIterator<Item = Rest>) -> u32 {
        rests.into_iter().map(|rest| rest.units).sum()
    }

    fn grant(units: u32) -> (Grant, u32) {
        (Grant { units, asked: units, window: 0, good_for: 60 * LEASE }, 20)
    }

    #[test]
    fn what_is_taken_ahead_grows_with_use_and_is_given_back_when_idle() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        assert_eq!(pay(&held, 1, 0, now), Told::Unknown(0));
        assert_eq!(pay(&held, 1, 20, now), Told::Unknown(2));
        assert!(held.keep(1, &place, grant(2), now).is_empty());
        assert_eq!(pay(&held, 1, 20, now), Told::Paid(Some(3)));
        assert_eq!(pay(&held, 1, 20, now), Told::Paid(None), "it was asked for");
        assert_eq!(pay(&held, 1, 20, now), Told::Unknown(0));
        assert!(held.keep(1, &place, grant(3), now).is_empty());
        assert_eq!(pay(&held, 2, 20, now), Told::Paid(Some(7)));
        // More than may be in hand is given back.
        assert_eq!(units(held.keep(1, &place, grant(22), now)), 3);
        assert_eq!(pay(&held, 12, 20, now), Told::Paid(Some(12)));

        assert!(held.sweep(false, now).is_empty());
        let rests = held.sweep(false, now);
        assert_eq!(rests.iter().map(|rest| rest.units).collect::<Vec<_>>(), [8]);
        held.gave_up(1);
        assert_eq!(pay(&held, 1, 20, now), Told::Unknown(10), "it was not used for a while");
        held.gave_up(1);
        held.sweep(true, now);
        held.sweep(true, now);
        assert_eq!(held.len(), 0);
    }

    /// Others have come: what is more than the share is theirs.
    #[test]
    fn what_is_more_than_the_share_is_given_back() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        assert!(held.keep(1, &place, grant(20), now).is_empty());
        let (known, rest) = held.pay(1, 1, (None, 5), now);
        assert_eq!((Told::from(known), units(rest)), (Told::Paid(None), 15));
        assert!(held.trim(|_| 5, now).is_empty());
        assert!(held.trim(|_| 0, now).is_empty(), "how many share it is not known");
        assert_eq!(units(held.trim(|_| 1, now)), 3);
        assert_eq!(units(held.sweep(true, now)), 1);
    }

    #[test]
    fn units_are_good_for_their_time() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        assert!(held.keep(1, &place, (Grant { good_for: 10 * MS, ..grant(9).0 }, 20), now).is_empty());
        assert!(matches!(pay(&held, 1, 20, now + 9 * MS), Told::Paid(_)));
        assert!(matches!(pay(&held, 1, 20, now + 10 * MS), Told::Unknown(_)));
        assert!(held.sweep(true, now + 10 * MS).is_empty(), "nobody has a use for them");
    }

    #[test]
    fn who_is_refused_is_refused_until_its_time() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        held.deny(1, &place, 5, now + 10 * MS, now);
        assert_eq!(pay(&held, 5, 0, now + 4 * MS), Told::Denied(6 * MS));
        assert!(matches!(pay(&held, 4, 0, now + 4 * MS), Told::Unknown(_)), "less may pass");
        assert!(matches!(pay(&held, 5, 0, now + 10 * MS), Told::Unknown(_)));
    }

    #[test]
    fn strangers_keys_take_no_more_than_there_is() {
        let (held, place, now) = (Held::new(64, Duration::MAX), place(), Instant::now());
        let kept = (0..1000_u64).filter(|key| held.keep(key << 32, &place, grant(1), now).is_empty()).count();
        assert_eq!((kept, held.len()), (64, 64));
    }

    #[test]
    fn what_is_not_spent_after_all_goes_back_to_where_it_came_from() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        let rest = |window| Rest { place: Arc::clone(&place), units: 3, window };
        assert_eq!(units(held.unpay(1, rest(0))), 3, "nothing is known of it");
        assert!(held.keep(1, &place, grant(9), now).is_empty());
        assert_eq!(units(held.unpay(1, rest(7))), 3, "that window is over");
        assert!(held.unpay(1, rest(0)).is_none());
        assert_eq!(units(held.sweep(true, now)), 12);
        held.forget(1);
        assert_eq!(held.len(), 0);
    }

    /// A burst takes much ahead; who is slow afterwards, neither holds it nor burns it.
    #[test]
    fn no_unit_is_burnt() {
        let (held, place, start) = (Held::new(100, Duration::MAX), place(), Instant::now());
        let most = 500;
        let (mut given, mut back, mut spent) = (0, 0, 0);
        for at in 0..20_000_u32 {
            let now = start + at * MS;
            if at % 1000 == 0 {
                back += units(held.sweep(false, now));
            }
            // A thousand in the first second, then two a second.
            if at >= 1000 && at % 500 != 0 {
                continue;
            }
            let (known, rest) = held.pay(1, 1, (None, most), now);
            back += units(rest);
            let ahead = match known {
                Known::Paid { soon, .. } => soon,
                Known::Unknown { ahead } => {
                    given += 1;
                    Some(ahead)
                }
                Known::Denied(_) => panic!("nobody denied it"),
            };
            spent += 1;
            if let Some(ahead) = ahead {
                given += ahead;
                back += units(held.keep(1, &place, (grant(ahead).0, most), now));
            }
            if at > 3000 {
                assert!(given - back - spent <= 8, "{} are idle", given - back - spent);
            }
        }
        back += units(held.sweep(true, start + 20_000 * MS));
        assert_eq!(given, back + spent);
    }

    /// Whoever uses more in a round trip than is in hand has more in hand in the end, however little was left each time.
    #[test]
    fn what_does_not_last_until_more_comes_grows() {
        let (held, place, now, most) = (Held::new(100, Duration::MAX), place(), Instant::now(), 10_000);
        let mut waits = 0;
        for _ in 0..20 {
            let mut asked = None;
            // As many as come in a round trip.
            for _ in 0..1000 {
                match held.pay(1, 1, (None, most), now).0 {
                    Known::Paid { soon, .. } => asked = soon.or(asked),
                    Known::Unknown { ahead } => {
                        waits += 1;
                        asked = Some(ahead).filter(|ahead| *ahead > 0).or(asked);
                    }
                    Known::Denied(_) => panic!("nobody denied it"),
                }
            }
            if let Some(asked) = asked {
                held.keep(1, &place, (grant(asked).0, most), now);
            }
        }
        assert!(waits <= 11 * 1000, "{waits}");
        assert!(matches!(pay(&held, 1, most, now), Told::Paid(_)));
    }

    #[test]
    fn who_asks_and_is_not_heard_of_is_not_waited_for() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        assert!(held.keep(1, &place, grant(0), now).is_empty());
        assert_eq!(pay(&held, 1, 20, now), Told::Unknown(2));
        assert_eq!(pay(&held, 1, 20, now), Told::Unknown(0));
        assert_eq!(pay(&held, 1, 20, now + LEASE), Told::Unknown(2));
        held.sweep(false, now + LEASE);
        held.sweep(false, now + 2 * LEASE);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn a_refusal_is_remembered_until_its_time_and_for_its_plan() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        let month = 1_000_000 * LEASE;
        held.deny(1, &place, 1, now + month, now);
        for at in [MS, LEASE, month - MS] {
            assert_eq!(pay(&held, 1, 0, now + at), Told::Denied(month - at));
            (0..3).for_each(|_| assert!(held.sweep(false, now + at).is_empty()));
        }
        assert!(matches!(pay(&held, 1, 0, now + month), Told::Unknown(_)));
        held.deny(1, &place, 1, now + month, now);
        let gold = Some(Quota::new("1000/month".parse().unwrap()));
        assert!(matches!(held.pay(1, 1, (gold, 0), now + MS).0, Known::Unknown { .. }));
    }

    #[test]
    fn a_refusal_is_remembered_for_no_longer_than_it_may_be() {
        let (held, place, now) = (Held::new(100, 10 * MS), place(), Instant::now());
        held.deny(1, &place, 1, now + 100 * MS, now);
        assert_eq!(pay(&held, 1, 0, now + 9 * MS), Told::Denied(91 * MS), "the time is the true one");
        assert!(matches!(pay(&held, 1, 0, now + 10 * MS), Told::Unknown(_)));
        let none = Held::new(100, Duration::ZERO);
        none.deny(1, &place, 1, now + 100 * MS, now);
        assert!(matches!(pay(&none, 1, 0, now), Told::Unknown(_)));
        assert_eq!(none.len(), 0, "what is never believed is not kept");
    }

    /// What was asked before units came back, is of no use, whenever it is heard.
    #[test]
    fn who_is_forgiven_is_asked_about() {
        let (held, place, now) = (Held::new(100, Duration::MAX), place(), Instant::now());
        held.deny(1, &place, 1, now + LEASE, now);
        held.forgive(now + 2 * MS);
        assert!(matches!(pay(&held, 1, 0, now + 2 * MS), Told::Unknown(_)));
        held.deny(1, &place, 1, now + LEASE, now + MS);
        assert!(matches!(pay(&held, 1, 0, now + 3 * MS), Told::Unknown(_)));
        held.deny(1, &place, 1, now + LEASE, now + 2 * MS);
        assert!(matches!(pay(&held, 1, 0, now + 3 * MS), Told::Denied(_)));
    }

    /// Those who are refused for a month and do not come again, take half of the room.
    #[test]
    fn who_is_refused_leaves_room_for_others() {
        let (held, place, now) = (Held::new(640, Duration::MAX), place(), Instant::now());
        let month = now + 1_000_000 * LEASE;
        let known = |from: u64, count: u64| {
            (from..from + count).for_each(|key| held.deny(key << 32, &place, 1, month, now));
            (0..2).for_each(|_| assert!(held.sweep(false, now).is_empty()));
            held.len()
        };
        assert_eq!(known(0, 320), 320);
        assert_eq!(known(1000, 1), 320);
        assert_eq!(known(2000, 10_000), 320);
        assert!(held.keep(77 << 32, &place, grant(1), now).is_empty(), "there is room");
    }
}
