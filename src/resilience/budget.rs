//! How many calls may be made twice.
//!
//! Retries make an outage worse: where every call fails, three attempts each are three times the load on servers that
//! cannot bear the one. A [`Budget`] bounds what all calls together may add: a share of the calls that are made, 20% unless
//! told, and a few a second besides, 10, so that where there are few calls each may still be tried again. It is shared by
//! all clones, and by whatever makes second attempts: retries and hedges.
//!
//! # Example
//!
//! ```
//! use portcullis::{ratio::Ratio, resilience::budget::Budget};
//! use tokio::time::Instant;
//!
//! let budget = Budget::new(Ratio::percent(20)).floor(0, std::time::Duration::from_secs(1));
//! (0..10).for_each(|_| budget.call());
//! let now = Instant::now();
//! assert!(budget.spend(now) && budget.spend(now)); // 20% of ten
//! assert!(!budget.spend(now));
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::{ratio::Ratio, resilience::budget::Budget};
//! use std::time::Duration;
//!
//! // A tenth more within any half minute, and two a second besides, however few calls there are.
//! let budget = Budget::new(Ratio::percent(10)).window(Duration::from_secs(30)).floor(2, Duration::from_secs(1));
//!
//! // Whoever makes second attempts of these calls is given a clone.
//! let (retries, hedges) = (budget.clone(), budget.clone());
//! # let _ = (retries, hedges);
//! assert_eq!((budget.calls(), budget.spent(), budget.refused()), (0, 0, 0));
//! ```
//!
//! # How exact it is
//!
//! In every window of 10 seconds, unless told, there are at most so many second attempts as the floor and the share of the
//! calls in it allow. The window slides in tenths: what was called and spent in one leaves together. It reckons in whole
//! numbers, so that any share is exact, and a spent attempt is seen by every later one: threads that ask at once do not
//! overdraw it. Calls are counted without a lock, and each 64th looks at the clock: so that what was called lately is known
//! when the first of them fails, all of it but for 64 calls and a tenth of the window. Calls that may be too old are not
//! counted: nobody can save up for an outage.
//!
//! # Shared state
//!
//! Clones share the calls and what was spent. [`Budget::after`] keeps them where other terms take the place of these.
//!
//! # Compared with tower
//!
//! The budgets of tower (`retry::budget`) are for its retries alone; its hedges have none.
//!
//! # Metrics
//!
//! [`Budget::calls`], [`Budget::spent`] and [`Budget::refused`], which the gateway tells as `portcullis_retry_budget_calls_total` and so on.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::ratio::Ratio;

/// In how many steps what was spent leaves the window.
const BUCKETS: u32 = 10;

/// How many calls are made between two looks at the clock.
const UNTIMED: u64 = 64;

/// A bound on second attempts. See the [module docs](self). Clones share what is left of it.
#[derive(Clone)]
#[must_use]
pub struct Budget(Arc<Account>);

struct Account {
    policy: Policy,
    /// All calls that there ever were.
    calls: AtomicU64,
    refused: AtomicU64,
    spent: Mutex<Spent>,
}

#[derive(Debug, Clone, Copy)]
struct Policy {
    ratio: Option<Ratio>,
    floor: u32,
    floor_each: Duration,
    window: Duration,
}

/// What was spent lately.
#[derive(Clone)]
struct Spent {
    buckets: VecDeque<Bucket>,
    total: u64,
}

/// A part of the window, from its beginning to that of the next.
#[derive(Clone, Copy)]
struct Bucket {
    since: Instant,
    /// How many calls there had been when it began.
    calls: u64,
    spent: u64,
}

impl Budget {
    /// This share of the calls, and 10 a second, over 10 seconds.
    pub fn new(ratio: Ratio) -> Self {
        Self::of(Policy {
            ratio: Some(ratio),
            floor: 10,
            floor_each: Duration::from_secs(1),
            window: Duration::from_secs(10),
        })
    }

    /// One that never ends. An outage is made worse by as much as there are attempts.
    pub fn danger_unlimited() -> Self {
        let Self(account) = Self::default();
        Self::of(Policy { ratio: None, ..account.policy })
    }

    /// So many in each `interval`, however few calls there are: in a [window](Self::window) as many as that comes to, rounded
    /// down, so that the interval should be no longer than it. After a quiet time all of these may be spent at once: ten a
    /// second are a hundred in a window of ten. An interval of zero is none.
    pub fn floor(self, attempts: u32, interval: Duration) -> Self {
        Self::of(Policy { floor: attempts, floor_each: interval, ..self.0.policy })
    }

    /// How far back calls and attempts count.
    pub fn window(self, window: Duration) -> Self {
        Self::of(Policy { window, ..self.0.policy })
    }

    fn of(policy: Policy) -> Self {
        Self(Arc::new(Account {
            policy,
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            spent: Mutex::new(Spent::since(Instant::now())),
        }))
    }

    /// Goes on with what was called and spent under `before`, in whose place it is put. What is called there from now on is
    /// not seen here.
    pub fn after(self, before: &Self) -> Self {
        let account = Account {
            policy: self.0.policy,
            calls: AtomicU64::new(before.calls()),
            refused: AtomicU64::new(before.refused()),
            spent: Mutex::new(before.0.lock().clone()),
        };
        Self(Arc::new(account))
    }

    /// A call has reached the server, for the first time.
    #[inline]
    pub fn call(&self) {
        if self.0.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(UNTIMED) {
            self.0.look(Instant::now());
        }
    }

    /// Spends one attempt; `false` if there is none left.
    #[must_use]
    pub fn spend(&self, now: Instant) -> bool {
        let allowed = self.0.spend(now);
        if !allowed {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// Whether it allows nothing, whatever is called.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.policy.ratio == Some(Ratio::NEVER) && self.0.policy.in_window() == 0
    }

    /// A layer is made that could use it, if it allowed anything.
    pub(super) fn warn_if_zero(&self, layer: &'static str) {
        if self.is_zero() {
            tracing::warn!(layer, "its budget allows no attempt beside the first");
        }
    }

    /// Calls that there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Attempts that were made beside them.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.0.lock().total
    }

    /// Attempts that were not made, since there was nothing left.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Default for Budget {
    /// 20% of the calls, and 10 a second.
    fn default() -> Self {
        Self::new(Ratio::percent(20))
    }
}

impl Policy {
    /// What the floor allows in a window.
    fn in_window(&self) -> u64 {
        let floor = u128::from(self.floor) * self.window.as_nanos();
        floor
            .checked_div(self.floor_each.as_nanos())
            .map_or(0, |floor| u64::try_from(floor).unwrap_or(u64::MAX))
    }

    /// Whether after so many calls so many attempts are within the bounds.
    fn allows(&self, calls: u64, attempts: u64) -> bool {
        let Some(ratio) = self.ratio else { return true };
        let beyond_floor = u128::from(attempts.saturating_sub(self.in_window()));
        beyond_floor * u128::from(ratio.denominator()) <= u128::from(calls) * u128::from(ratio.numerator())
    }
}

impl Account {
    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how many calls there were by now, unless somebody else is at it.
    #[cold]
    fn look(&self, now: Instant) {
        if let Ok(mut spent) = self.spent.try_lock() {
            let calls = self.calls.load(Ordering::Relaxed);
            spent.turn(now, calls, self.policy.window);
        }
    }

    fn spend(&self, now: Instant) -> bool {
        let mut spent = self.lock();
        let calls = self.calls.load(Ordering::Relaxed);
        let since = spent.turn(now, calls, self.policy.window);
        let attempts: u64 = spent.buckets.iter().map(|bucket| bucket.spent).sum();
        let allowed = self.policy.allows(calls.saturating_sub(since), attempts + 1);
        if let (true, Some(bucket)) = (allowed, spent.buckets.back_mut()) {
            bucket.spent += 1;
            spent.total += 1;
        }
        allowed
    }
}

impl Spent {
    fn since(now: Instant) -> Self {
        Self { buckets: VecDeque::from([Bucket { since: now, calls: 0, spent: 0 }]), total: 0 }
    }

    /// Lets go of what has left the window, and begins a bucket if it is time. Gives how many calls there had been when
    /// the window began.
    fn turn(&mut self, now: Instant, calls: u64, window: Duration) -> u64 {
        let part = window / BUCKETS;
        let age = |bucket: &Bucket| now.saturating_duration_since(bucket.since);
        // What was spent in a bucket was so in its first part; later calls may be counted with it, and are taken for as old.
        while self.buckets.front().is_some_and(|first| age(first) >= window.saturating_add(part)) {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|last| age(last) >= part) {
            self.buckets.push_back(Bucket { since: now, calls, spent: 0 });
        }
        self.buckets.front().map_or(calls, |first| first.calls)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("policy", &self.0.policy)
            .field("calls", &self.calls())
            .field("spent", &self.spent())
            .field("refused", &self.refused())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_FLOOR: Duration = Duration::ZERO;

    fn spend_all(budget: &Budget, now: Instant) -> u64 {
        (0..).take_while(|_| budget.spend(now)).count() as u64
    }

    #[test]
    fn the_defaults_are_a_fifth_and_ten_a_second() {
        let budget = Budget::default();
        (0..1000).for_each(|_| budget.call());
        assert_eq!(spend_all(&budget, Instant::now()), 200 + 100);
        assert_eq!((budget.calls(), budget.spent(), budget.refused()), (1000, 300, 1));
        assert!(Budget::new(Ratio::NEVER).floor(0, Duration::from_secs(1)).is_zero());
        assert!(!Budget::new(Ratio::NEVER).is_zero() && !Budget::danger_unlimited().is_zero());
    }

    #[test]
    fn clones_share_it() {
        let budget = Budget::new(Ratio::NEVER).floor(1, Duration::from_secs(10));
        let now = Instant::now();
        assert!(budget.clone().spend(now) && !budget.spend(now));
        assert_eq!(spend_all(&Budget::new(Ratio::ALWAYS).window(Duration::ZERO), now), 0);
        assert!((0..10_000).all(|_| Budget::danger_unlimited().spend(now)));
    }

    /// Other terms are no new beginning.
    #[test]
    fn what_takes_its_place_goes_on() {
        let before = Budget::new(Ratio::percent(20)).floor(0, NO_FLOOR);
        (0..100).for_each(|_| before.call());
        let now = Instant::now();
        assert_eq!(spend_all(&before, now), 20);
        let after = Budget::new(Ratio::percent(30)).floor(0, NO_FLOOR).after(&before);
        assert_eq!((after.calls(), after.spent(), after.refused()), (100, 20, 1));
        assert_eq!(spend_all(&after, now), 10);
        assert_eq!(before.spent(), 20);
    }

    /// Nobody can save up for an outage.
    #[test]
    fn a_day_without_failures_is_worth_nothing() {
        let budget = Budget::new(Ratio::percent(20)).floor(0, NO_FLOOR);
        (0..1_000_000).for_each(|_| budget.call());
        let later = Instant::now() + Duration::from_secs(86_400);
        assert_eq!(spend_all(&budget, later), 0);
        (0..50).for_each(|_| budget.call());
        assert_eq!(spend_all(&budget, later), 10);
        // These leave as well, and what was spent with them.
        assert_eq!(spend_all(&budget, later + Duration::from_secs(11)), 0);
    }

    /// A loop over what has passed would be at it for hours, with the lock.
    #[test]
    fn an_idle_year_takes_no_longer_than_an_idle_moment() {
        let budget = Budget::new(Ratio::ALWAYS).floor(0, NO_FLOOR).window(Duration::from_millis(1));
        let (call, start) = (|| (0..UNTIMED).for_each(|_| budget.call()), Instant::now());
        call();
        for year in 1..=100 {
            let now = start + Duration::from_secs(365 * 86_400) * year;
            assert!(!budget.spend(now), "what was called a year ago is forgotten");
            call();
            assert!(budget.spend(now));
        }
        assert!(budget.0.lock().buckets.len() <= 2 + BUCKETS as usize);
    }

    /// Whoever holds the lock keeps no call waiting, not even one that would look at the clock.
    #[test]
    fn calls_take_no_lock() {
        let budget = Budget::default();
        let held = budget.0.lock();
        let (done, waits) = std::sync::mpsc::channel();
        let calls = budget.clone();
        std::thread::spawn(move || {
            (0..4 * UNTIMED).for_each(|_| calls.call());
            let _ = done.send(());
        });
        assert_eq!(waits.recv_timeout(Duration::from_secs(30)), Ok(()), "a call waits for the lock");
        drop(held);
        assert_eq!(budget.calls(), 4 * UNTIMED);
    }

    /// What was called in a calm time counts as soon as something fails, as far as it is in the window.
    #[tokio::test(start_paused = true)]
    async fn calls_before_the_first_failure_count() {
        let budget = Budget::new(Ratio::percent(20)).floor(0, NO_FLOOR);
        for _ in 0..600 {
            (0..100).for_each(|_| budget.call());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let spent = spend_all(&budget, Instant::now());
        // 1,000 a second: of at least nine seconds of the window, and at most eleven.
        assert!((1_800..=2_200).contains(&spent), "{spent}");
    }

    /// Threads that ask at once do not overdraw it.
    #[test]
    fn threads_share_it_exactly() {
        let budget = Budget::new(Ratio::new(3, 10).unwrap()).floor(7, Duration::from_secs(10));
        let now = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        budget.call();
                        let _ = budget.spend(now);
                    }
                });
            }
        });
        assert_eq!(budget.calls(), 80_000);
        let left = spend_all(&budget, now);
        assert_eq!(budget.spent(), 24_000 + 7, "{left} were left");
    }

    proptest! {
        /// tower makes 100% of 70%, and 33% of 30%.
        #[test]
        fn any_ratio_is_exact(numerator in 0_u32..5_000, more in 0_u32..5_000, calls in 0_u64..2_000) {
            let denominator = (numerator + more).max(1);
            let budget = Budget::new(Ratio::new(numerator, denominator).unwrap()).floor(0, NO_FLOOR);
            (0..calls).for_each(|_| budget.call());
            let exact = calls * u64::from(numerator) / u64::from(denominator);
            prop_assert_eq!(spend_all(&budget, Instant::now()), exact);
        }

        /// Whenever it says yes: what was spent in a window is within the bounds of the calls in it and in the second before, as
        /// windows are counted by seconds.
        #[test]
        fn no_window_is_overdrawn(
            percent in 0_u8..=100,
            floor in 0_u32..4,
            steps in prop::collection::vec((0_u64..900, 0_u8..6, 0_u8..6), 0..120),
        ) {
            let budget = Budget::new(Ratio::percent(percent)).floor(floor, Duration::from_secs(5));
            let (mut now, mut calls, mut spent) = (Instant::now(), Vec::new(), Vec::new());
            for (pause, called, asked) in steps {
                now += Duration::from_millis(pause);
                for _ in 0..called {
                    budget.call();
                    calls.push(now);
                }
                for _ in 0..asked {
                    if !budget.spend(now) {
                        continue;
                    }
                    spent.push(now);
                    let within = |times: &[Instant], window| {
                        times.iter().filter(|time| now - **time < Duration::from_secs(window)).count() as u64
                    };
                    let allowed = u64::from(floor) * 2 + within(&calls, 11) * u64::from(percent) / 100;
                    prop_assert!(within(&spent, 10) <= allowed, "{} of {allowed}", within(&spent, 10));
                }
            }
        }
    }
}
