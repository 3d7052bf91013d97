use std::{
    fmt,
    num::NonZeroU16,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::time::Instant;

use super::{Policy, doubts::Doubts};
use crate::{chance::Chance, window::Window};

const BUCKETS: NonZeroU16 = NonZeroU16::new(10).unwrap();

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

/// A machine. See the [module](super).
#[derive(Clone)]
pub struct Trip(pub(super) Arc<Machine>);

pub(super) struct Machine {
    policy: Policy,
    chance: Chance,
    /// Counts the changes of state: even is closed, odd is open or half open.
    cycle: AtomicU64,
    consecutive: AtomicU32,
    /// Successes and failures.
    pub(super) results: Window<2>,
    opened: Mutex<Opened>,
    doubts: Mutex<Doubts>,
}

#[derive(Debug)]
pub(super) struct Opened {
    until: Instant,
    /// How often in a row without having closed.
    times: u32,
    pub(super) probes: u32,
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
            doubts: Mutex::default(),
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

    /// Asks to go for `caller`, whose words the other side is shown: the fingerprint of its address, say.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter); and if it is half open and has been failing for this very caller.
    pub fn enter_for(&self, caller: u64, now: Instant) -> Result<Entry, CircuitOpen> {
        if !is_closed(self.0.cycle.load(Ordering::Acquire))
            && let Some(left) = self.0.doubts().left(caller, now, self.0.policy.window)
        {
            return Err(CircuitOpen { retry_after: left.min(Duration::from_secs(1)) });
        }
        let mut entry = self.enter(now)?;
        entry.caller = Some(caller);
        Ok(entry)
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
        Entry { machine: self.0.clone(), cycle, caller: None, told: false }
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
    pub(super) fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Opened> {
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
        self.doubts().0.clear();
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
    caller: Option<u64>,
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

    /// It failed, perhaps because of the [caller](Trip::enter_for) for whom it went. Without one it just failed.
    pub fn doubt(self, now: Instant) {
        let Some(caller) = self.caller else { return self.failure(now) };
        let machine = &self.machine;
        if machine.cycle.load(Ordering::Acquire) != self.cycle {
            return;
        }
        let others = machine.doubts().hear(caller, now, machine.policy.window);
        match others {
            // Half open, perhaps it is the only one for whom it fails.
            Some(0) if !is_closed(self.cycle) => {}
            Some(_) => self.failure(now),
            None => {}
        }
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
