//! What happens to a machine: decisions only.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Cause, Change, CircuitOpen, Mode, Policy, State, Watcher, change::Counts, doubts::Doubts};
use crate::{chance::Chance, window::Window};

/// When to come again where nobody knows better: half open, or opened by hand.
const SOON: Duration = Duration::from_secs(1);
/// A probe that takes longer lets another go beside it: one that never ends keeps nobody out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Until somebody says otherwise.
const FOR_EVER: u64 = u64::MAX;

pub(super) struct Machine {
    pub(super) policy: Policy,
    pub(super) parts: Parts,
    born: Instant,
    /// Counts the changes of state: even is closed, odd is open or half open. Changes are made with the lock only.
    cycle: AtomicU64,
    /// Nanoseconds after `born` until which nothing goes, unless it is closed.
    until: AtomicU64,
    mode: AtomicU8,
    consecutive: AtomicU32,
    /// Successes, failures, and slow ones of both.
    results: Box<[Window<3>]>,
    control: Mutex<Control>,
    doubts: Mutex<Doubts>,
}

/// What a machine is made of beside its policy.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    /// From which its waits are drawn.
    pub(crate) chance: Chance,
    pub(crate) watcher: Option<Watcher>,
    /// Several machines may be counted together.
    pub(crate) counts: Arc<Counts>,
    pub(crate) mode: Mode,
}

/// What is known of it while it is not closed.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// How often it opened in a row without having closed.
    times: u32,
    pub(super) probes: u32,
    successes: u32,
    /// When the last probe began.
    probed: Option<Instant>,
}

/// How it went.
#[derive(Clone, Copy)]
pub(super) struct Fate {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

pub(super) const fn is_closed(cycle: u64) -> bool {
    cycle.is_multiple_of(2)
}

impl Machine {
    pub(super) fn new(policy: Policy, parts: Parts, threads: usize) -> Self {
        let is_open = parts.mode == Mode::ForcedOpen;
        Self {
            policy,
            born: Instant::now(),
            cycle: AtomicU64::new(is_open.into()),
            until: AtomicU64::new(if is_open { FOR_EVER } else { 0 }),
            mode: AtomicU8::new(parts.mode as u8),
            consecutive: AtomicU32::new(0),
            results: policy.windows(threads),
            control: Mutex::default(),
            doubts: Mutex::default(),
            parts,
        }
    }

    #[inline]
    pub(super) fn cycle(&self) -> u64 {
        self.cycle.load(Acquire)
    }

    pub(super) fn mode(&self) -> Mode {
        Mode::of(self.mode.load(Relaxed))
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match is_closed(self.cycle()) {
            true => State::Closed,
            false if !self.left(now).is_zero() => State::Open,
            false => State::HalfOpen,
        }
    }

    /// Whether forgetting it forgets nothing but successes.
    #[cfg(feature = "resilience")]
    pub(super) fn is_healthy(&self, now: Instant) -> bool {
        let [_, failures, slow] = self.totals(now);
        let is_calm = self.consecutive.load(Relaxed) == 0 && failures == 0 && slow == 0;
        is_calm && is_closed(self.cycle())
    }

    pub(super) fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, if nothing has changed since `cycle`.
    pub(super) fn still(&self, cycle: u64) -> Option<MutexGuard<'_, Control>> {
        let control = self.lock();
        (self.cycle() == cycle).then_some(control)
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.born))
    }

    fn left(&self, now: Instant) -> Duration {
        match self.until.load(Relaxed) {
            FOR_EVER => SOON,
            until => Duration::from_nanos(until.saturating_sub(self.nanos(now))),
        }
    }

    pub(super) fn totals(&self, now: Instant) -> [u64; 3] {
        self.results.iter().fold([0; 3], |mut sums, window| {
            sums.iter_mut().zip(window.totals(now)).for_each(|(sum, total)| *sum += total);
            sums
        })
    }

    /// Lets a probe go if its time has come: in which cycle. Who is too early is told so without a lock.
    pub(super) fn probe(&self, now: Instant) -> Result<u64, CircuitOpen> {
        let open = |retry_after| Err(CircuitOpen { retry_after });
        let left = self.left(now);
        if !left.is_zero() {
            return open(left);
        }
        let mut control = self.lock();
        // It may have closed, or opened again, before the lock was had.
        let (cycle, left) = (self.cycle(), self.left(now));
        if is_closed(cycle) {
            return Ok(cycle);
        }
        if !left.is_zero() {
            return open(left);
        }
        let lately = |at: Instant| now.saturating_duration_since(at) < PATIENCE;
        if control.probes >= self.policy.probes.get() && control.probed.is_some_and(lately) {
            return open(SOON);
        }
        if control.probed.replace(now).is_none() {
            self.tell(State::HalfOpen, Cause::Waited, None);
        }
        control.probes += 1;
        Ok(cycle)
    }

    /// A probe ends without a word.
    pub(super) fn give_back(&self, cycle: u64) {
        if let Some(mut control) = self.still(cycle) {
            control.probes -= 1;
        }
    }

    /// A result from while it was closed.
    pub(super) fn record(&self, cycle: u64, thread: usize, fate: Fate, now: impl FnOnce() -> Instant) {
        if self.cycle() != cycle {
            return;
        }
        let Fate { failed, slow } = fate;
        // One, or as many as threads: a power of two.
        let window = &self.results[thread & (self.results.len() - 1)];
        if !failed && self.consecutive.load(Relaxed) != 0 {
            // Read first: as long as all goes well nobody writes here.
            self.consecutive.store(0, Relaxed);
        }
        if !(failed || slow) {
            if self.policy.has_shares() {
                window.record_at(now, [true, false, false]);
            }
            return;
        }
        let now = now();
        window.record(now, [!failed, failed, slow]);
        let consecutive = match failed {
            true => self.consecutive.fetch_add(1, Relaxed).saturating_add(1),
            false => 0,
        };
        if let Some(cause) = self.policy.opens(consecutive, self.totals(now))
            && self.mode() != Mode::ForcedClosed
            && let Some(mut control) = self.still(cycle)
        {
            control.times = 0;
            self.open(&mut control, now, cycle + 1, cause);
        }
    }

    /// The result of a probe.
    pub(super) fn probed(&self, cycle: u64, fate: Fate, now: impl FnOnce() -> Instant) {
        let Some(mut control) = self.still(cycle) else { return };
        if fate.failed || fate.slow {
            // Another number, so that the other probes of this round have no say in the next.
            return self.open(&mut control, now(), cycle + 2, Cause::Probe);
        }
        control.probes -= 1;
        control.successes += 1;
        if control.successes >= self.policy.successes.get() {
            self.begin(&mut control, cycle + 1, 0);
            self.tell(State::Closed, Cause::Recovered, None);
        }
    }

    fn open(&self, control: &mut Control, now: Instant, cycle: u64, cause: Cause) {
        let times = control.times.saturating_add(1);
        let wait = self.policy.wait.delay(times, &self.parts.chance);
        *control = Control { times, ..Control::default() };
        self.doubts().0.clear();
        // For ever is for somebody to say.
        self.until.store(self.nanos(now).saturating_add(nanos(wait)).min(FOR_EVER - 1), Relaxed);
        self.cycle.store(cycle, Release);
        self.parts.counts.open();
        self.tell(State::Open, cause, Some(wait));
    }

    /// Everything that was is forgotten.
    fn begin(&self, control: &mut Control, cycle: u64, until: u64) {
        *control = Control::default();
        self.results.iter().for_each(Window::clear);
        self.consecutive.store(0, Relaxed);
        self.until.store(until, Relaxed);
        self.cycle.store(cycle, Release);
    }

    /// Begins anew in this mode, or in the one it is in.
    pub(super) fn set(&self, mode: Option<Mode>) {
        let mut control = self.lock();
        let mode = mode.unwrap_or_else(|| self.mode());
        self.mode.store(mode as u8, Relaxed);
        self.doubts().0.clear();
        let (cycle, is_open) = (self.cycle(), mode == Mode::ForcedOpen);
        let next = if is_closed(cycle) == is_open { cycle + 1 } else { cycle + 2 };
        self.begin(&mut control, next, if is_open { FOR_EVER } else { 0 });
        self.tell(if is_open { State::Open } else { State::Closed }, Cause::Told, None);
    }

    fn tell(&self, state: State, cause: Cause, wait: Option<Duration>) {
        if let Some(watcher) = &self.parts.watcher {
            watcher(&Change { state, cause, wait });
        }
    }
}

/// A `u64` holds 584 years of them.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
