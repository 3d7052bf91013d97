//! The machine of a circuit breaker: whether to ask somebody who has been failing lately.
//!
//! Closed, everything goes and results are counted. When too many fail it opens: nothing goes until a wait is over,
//! which grows each time it opens again. Then, half open, a few probes go; when enough of them succeed it closes, and
//! when one fails it opens again. The names are those of Release It! and Resilience4j.
//!
//! It knows neither requests nor what a failure is. Whoever asks takes an [`Entry`], and says with it how it went.
//!
//! # Example
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use portcullis::{backoff::Backoff, trip::{Policy, Trip}};
//! use tokio::time::Instant;
//!
//! const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();
//! let trip = Trip::new(Policy::new().consecutive(THREE));
//! let now = Instant::now();
//! for _ in 0..3 {
//!     trip.enter(now)?.failure(now);
//! }
//! let wait = trip.enter(now).unwrap_err().retry_after();
//! trip.enter(now + wait)?.success(now + wait);
//! assert!(trip.enter(now + wait).is_ok());
//! # Ok::<(), portcullis::trip::CircuitOpen>(())
//! ```
//!
//! # Shared state
//!
//! Clones are one machine. Closed, an entry is one atomic read and a clone of a reference, and a result a few atomic
//! operations; a lock is taken only to open, to close and for probes. An entry that is dropped without a word counts
//! for nothing and gives its probe back. What began before the machine changed its state has no say in the new one.

use std::{
    fmt,
    num::{NonZeroU16, NonZeroU32},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::time::Instant;

use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
    ratio::Ratio,
    window::Window,
};

const BUCKETS: NonZeroU16 = NonZeroU16::new(10).unwrap();
const ONE: NonZeroU32 = NonZeroU32::MIN;
const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// When a machine opens, for how long, and when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    consecutive: Option<NonZeroU32>,
    ratio: Ratio,
    least: NonZeroU32,
    window: Duration,
    wait: Backoff,
    probes: NonZeroU32,
    successes: NonZeroU32,
}

impl Policy {
    /// Opens after 5 failures in a row, or when half of at least 20 results of the last 10 seconds are failures; waits
    /// 1 second, growing to 30 while it keeps opening, half of it random; and closes when one probe succeeds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            consecutive: NonZeroU32::new(5),
            ratio: Ratio::percent(50),
            least: TWENTY,
            window: Duration::from_secs(10),
            wait: Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(30)).jitter(Jitter::Equal),
            probes: ONE,
            successes: ONE,
        }
    }

    /// Sets how many failures in a row open it; `None`: no number does.
    #[must_use]
    pub fn consecutive(mut self, failures: impl Into<Option<NonZeroU32>>) -> Self {
        self.consecutive = failures.into();
        self
    }

    /// Sets which share of failures opens it, from how many results on. [`Ratio::NEVER`]: no share does.
    #[must_use]
    pub fn ratio(mut self, failures: Ratio, least: NonZeroU32) -> Self {
        (self.ratio, self.least) = (failures, least);
        self
    }

    /// Sets over how long the share is taken.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long it stays open, the nth time without having closed between.
    #[must_use]
    pub fn wait(mut self, wait: Backoff) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how many probes are under way at once when it is half open, and how many must succeed for it to close.
    #[must_use]
    pub fn probes(mut self, at_once: NonZeroU32, successes: NonZeroU32) -> Self {
        (self.probes, self.successes) = (at_once, successes);
        self
    }

    fn opens(&self, consecutive: u32, [successes, failures]: [u64; 2]) -> bool {
        let all = successes + failures;
        let by_share = self.ratio != Ratio::NEVER
            && all >= u64::from(self.least.get())
            && u128::from(failures) * u128::from(self.ratio.denominator())
                >= u128::from(all) * u128::from(self.ratio.numerator());
        by_share || self.consecutive.is_some_and(|most| consecutive >= most.get())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// Nothing goes for now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the circuit is open")]
pub struct CircuitOpen {
    retry_after: Duration,
}

impl CircuitOpen {
    /// After how long asking again makes sense. Not zero.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything goes.
    Closed,
    /// Nothing goes.
    Open,
    /// The wait is over, and probes go.
    HalfOpen,
}

/// A machine. See the [module](self).
#[derive(Clone)]
pub struct Trip(Arc<Machine>);

struct Machine {
    policy: Policy,
    chance: Chance,
    /// Counts the changes of state: even is closed, odd is open or half open.
    cycle: AtomicU64,
    consecutive: AtomicU32,
    /// Successes and failures.
    results: Window<2>,
    opened: Mutex<Opened>,
}

#[derive(Debug)]
struct Opened {
    until: Instant,
    /// How often in a row without having closed.
    times: u32,
    probes: u32,
    successes: u32,
}

impl Trip {
    /// A machine that is closed.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with_chance(policy, Chance::new())
    }

    /// The same, with the chance from which its waits are drawn.
    #[must_use]
    pub fn with_chance(policy: Policy, chance: Chance) -> Self {
        Self(Arc::new(Machine {
            policy,
            chance,
            cycle: AtomicU64::new(0),
            consecutive: AtomicU32::new(0),
            results: Window::by_time(policy.window, BUCKETS),
            opened: Mutex::new(Opened { until: Instant::now(), times: 0, probes: 0, successes: 0 }),
        }))
    }

    /// Asks to go.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while it is open, or half open with all of its probes under way.
    #[inline]
    pub fn enter(&self, now: Instant) -> Result<Entry, CircuitOpen> {
        let cycle = self.0.cycle.load(Ordering::Acquire);
        if is_closed(cycle) { Ok(self.entry(cycle)) } else { self.probe(now) }
    }

    fn probe(&self, now: Instant) -> Result<Entry, CircuitOpen> {
        let mut opened = self.0.lock();
        // It may have closed before the lock was had.
        let cycle = self.0.cycle.load(Ordering::Acquire);
        if !is_closed(cycle) {
            let left = opened.until.saturating_duration_since(now);
            if !left.is_zero() {
                return Err(CircuitOpen { retry_after: left });
            }
            if opened.probes >= self.0.policy.probes.get() {
                return Err(CircuitOpen { retry_after: Duration::from_secs(1) });
            }
            opened.probes += 1;
        }
        Ok(self.entry(cycle))
    }

    fn entry(&self, cycle: u64) -> Entry {
        Entry { machine: self.0.clone(), cycle, told: false }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match is_closed(self.0.cycle.load(Ordering::Acquire)) {
            true => State::Closed,
            false if now < self.0.lock().until => State::Open,
            false => State::HalfOpen,
        }
    }
}

fn is_closed(cycle: u64) -> bool {
    cycle.is_multiple_of(2)
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nothing has changed since `cycle`. Changes are made under it only.
    fn still(&self, cycle: u64) -> Option<MutexGuard<'_, Opened>> {
        let opened = self.lock();
        (self.cycle.load(Ordering::Acquire) == cycle).then_some(opened)
    }

    fn record(&self, cycle: u64, now: Instant, failed: bool) {
        if self.cycle.load(Ordering::Acquire) != cycle {
            return;
        }
        self.results.record(now, [!failed, failed]);
        if !failed {
            // Read first: as long as all goes well nobody writes here.
            if self.consecutive.load(Ordering::Relaxed) != 0 {
                self.consecutive.store(0, Ordering::Relaxed);
            }
            return;
        }
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.policy.opens(consecutive, self.results.totals(now))
            && let Some(mut opened) = self.still(cycle)
        {
            opened.times = 0;
            self.open(&mut opened, now, cycle + 1);
        }
    }

    fn probed(&self, cycle: u64, now: Instant, failed: bool) {
        let Some(mut opened) = self.still(cycle) else { return };
        if failed {
            // Another number, so that the other probes of this round have no say in the next.
            return self.open(&mut opened, now, cycle + 2);
        }
        opened.probes -= 1;
        opened.successes += 1;
        if opened.successes >= self.policy.successes.get() {
            self.results.clear();
            self.consecutive.store(0, Ordering::Relaxed);
            self.cycle.store(cycle + 1, Ordering::Release);
        }
    }

    fn open(&self, opened: &mut Opened, now: Instant, cycle: u64) {
        let times = opened.times.saturating_add(1);
        let until = now + self.policy.wait.delay(times, &self.chance);
        *opened = Opened { until, times, probes: 0, successes: 0 };
        self.cycle.store(cycle, Ordering::Release);
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trip")
            .field("policy", &self.0.policy)
            .field("opened", &self.0.opened)
            .finish_non_exhaustive()
    }
}

/// One that goes, and is to say how it went. Dropped without a word, it counts for nothing.
#[must_use = "say with it how it went"]
pub struct Entry {
    machine: Arc<Machine>,
    cycle: u64,
    told: bool,
}

impl Entry {
    /// It went well.
    pub fn success(self, now: Instant) {
        self.tell(now, false);
    }

    /// It failed.
    pub fn failure(self, now: Instant) {
        self.tell(now, true);
    }

    fn tell(mut self, now: Instant, failed: bool) {
        self.told = true;
        if is_closed(self.cycle) {
            self.machine.record(self.cycle, now, failed);
        } else {
            self.machine.probed(self.cycle, now, failed);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.told
            && !is_closed(self.cycle)
            && let Some(mut opened) = self.machine.still(self.cycle)
        {
            opened.probes -= 1;
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("probe", &!is_closed(self.cycle)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn fixed(policy: Policy) -> Trip {
        Trip::new(
            policy
                .wait(Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(3)).jitter(Jitter::None)),
        )
    }

    fn fail(trip: &Trip, now: Instant) {
        trip.enter(now).unwrap().failure(now);
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let (trip, now) = (fixed(Policy::new().consecutive(n(3))), Instant::now());
        for _ in 0..5 {
            fail(&trip, now);
            fail(&trip, now);
            trip.enter(now).unwrap().success(now);
        }
        assert_eq!(trip.state(now), State::Closed);
        for _ in 0..3 {
            fail(&trip, now);
        }
        assert_eq!(trip.state(now), State::Open);
        assert_eq!(trip.enter(now + 400 * MS).unwrap_err().retry_after(), 600 * MS);
    }

    #[test]
    fn a_share_opens_it_from_enough_results_on() {
        let trip = fixed(Policy::new().consecutive(None).ratio(Ratio::percent(50), n(4)));
        let now = Instant::now();
        for _ in 0..3 {
            fail(&trip, now);
        }
        assert_eq!(trip.state(now), State::Closed, "three results are too few");
        let later = now + Duration::from_secs(20);
        for _ in 0..3 {
            trip.enter(later).unwrap().success(later);
        }
        fail(&trip, later);
        assert_eq!(trip.state(later), State::Closed, "a quarter: the old failures have left");
        fail(&trip, later);
        fail(&trip, later);
        assert_eq!(trip.state(later), State::Open);
    }

    #[test]
    fn it_waits_longer_each_time_until_it_has_closed() {
        let (trip, mut now) = (fixed(Policy::new().consecutive(n(1))), Instant::now());
        for wait in [1, 3, 3] {
            fail(&trip, now);
            let open = trip.enter(now).unwrap_err();
            assert_eq!(open.retry_after(), Duration::from_secs(wait));
            now += open.retry_after();
            assert_eq!(trip.state(now), State::HalfOpen);
        }
        trip.enter(now).unwrap().success(now);
        assert_eq!(trip.state(now), State::Closed);
        fail(&trip, now);
        assert_eq!(trip.enter(now).unwrap_err().retry_after(), Duration::from_secs(1));
    }

    #[test]
    fn probes_are_bounded_and_come_back_when_dropped() {
        let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(2), n(3))), Instant::now());
        fail(&trip, now);
        let now = now + Duration::from_secs(1);
        let (first, second) = (trip.enter(now).unwrap(), trip.enter(now).unwrap());
        assert!(trip.enter(now).is_err());
        drop(first);
        trip.enter(now).unwrap().success(now);
        second.success(now);
        assert_eq!(trip.state(now), State::HalfOpen, "two of three");
        trip.enter(now).unwrap().success(now);
        assert_eq!(trip.state(now), State::Closed);
    }

    #[test]
    fn what_began_before_a_change_has_no_say() {
        let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(2), n(1))), Instant::now());
        let old = trip.enter(now).unwrap();
        fail(&trip, now);
        let half = now + Duration::from_secs(1);
        let (slow, failing) = (trip.enter(half).unwrap(), trip.enter(half).unwrap());
        failing.failure(half);
        slow.success(half);
        assert_eq!(trip.state(half), State::Open, "a probe of the last round does not close it");
        let again = half + Duration::from_secs(3);
        trip.enter(again).unwrap().success(again);
        old.failure(again);
        assert_eq!(trip.state(again), State::Closed, "nor does an old failure open it");
    }

    #[test]
    fn threads_never_get_more_probes_than_there_are() {
        let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(3), n(1000))), Instant::now());
        fail(&trip, now);
        let now = now + Duration::from_secs(1);
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..2_000 {
                        let Ok(entry) = trip.enter(now) else { continue };
                        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        if turn % 2 == 0 { drop(entry) } else { drop(trip.enter(now)) }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(trip.0.lock().probes, 0);
    }

    proptest! {
        /// Whatever happens in whatever order, probes are given back and it can always be closed again.
        #[test]
        fn it_never_sticks(steps in prop::collection::vec((0u8..4, 0u64..2_000), 0..200)) {
            let trip = fixed(Policy::new().consecutive(n(2)).probes(n(2), n(2)));
            let (mut now, mut entries) = (Instant::now(), Vec::new());
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                match (step, entries.pop()) {
                    (0, entry) => {
                        entries.extend(entry);
                        entries.extend(trip.enter(now));
                    }
                    (1, Some(entry)) => Entry::success(entry, now),
                    (2, Some(entry)) => Entry::failure(entry, now),
                    _ => {}
                }
                prop_assert!(trip.0.lock().probes <= 2);
            }
            entries.clear();
            now += Duration::from_secs(3);
            for _ in 0..2 {
                trip.enter(now).unwrap().success(now);
            }
            prop_assert_eq!(trip.state(now), State::Closed);
        }
    }
}
