//! Who asks a machine, and says how it went.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::time::Instant;

use super::{
    Mode, Policy, State,
    machine::{Fate, Machine, Parts, is_closed},
};
use crate::chance::Chance;

/// As many threads as do not get into each other's way: a power of two.
#[cfg(feature = "resilience")]
const THREADS: usize = 8;

/// Nothing goes for now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the circuit is open")]
pub struct CircuitOpen {
    pub(super) retry_after: Duration,
}

impl CircuitOpen {
    /// After how long asking again makes sense. Not zero.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

/// A machine. See the [module](super).
///
/// There is a seat for each thread, or one for all: an entry holds its thread's, so that threads that ask at once do not
/// count references in the same memory.
#[derive(Clone)]
pub struct Trip(Arc<[Arc<Seat>]>);

#[repr(align(128))] // a pair of cache lines, which processors fetch together
struct Seat {
    machine: Arc<Machine>,
    number: usize,
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
        Self::of(policy, Parts { chance, ..Parts::default() })
    }

    /// A machine of these parts.
    pub(crate) fn of(policy: Policy, parts: Parts) -> Self {
        Self::seated(policy, parts, 1)
    }

    /// The same, for many threads that ask at once: it takes eight times the memory.
    #[cfg(feature = "resilience")]
    pub(crate) fn busy(policy: Policy, parts: Parts) -> Self {
        Self::seated(policy, parts, THREADS)
    }

    fn seated(policy: Policy, parts: Parts, seats: usize) -> Self {
        let machine = Arc::new(Machine::new(policy, parts, seats));
        Self((0..seats).map(|number| Arc::new(Seat { machine: Arc::clone(&machine), number })).collect())
    }

    fn seat(&self) -> &Arc<Seat> {
        match &*self.0 {
            [only] => only,
            // A power of two.
            seats => &seats[this_thread() & (seats.len() - 1)],
        }
    }

    #[inline]
    pub(super) fn machine(&self) -> &Machine {
        &self.0[0].machine
    }

    /// Asks to go.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while it is open, or half open with all of its probes under way; never if it is
    /// [observed](Mode::Observed).
    #[inline]
    pub fn enter(&self, now: Instant) -> Result<Entry, CircuitOpen> {
        self.ask(|| now)
    }

    /// The same; the clock is read only if that matters.
    #[inline]
    pub(crate) fn ask(&self, now: impl FnOnce() -> Instant) -> Result<Entry, CircuitOpen> {
        let seat = self.seat();
        let cycle = seat.machine.cycle();
        if is_closed(cycle) {
            let began = seat.machine.policy.slow.map(|_| now());
            return Ok(Entry { seat: Some(Arc::clone(seat)), cycle, caller: None, began, answered: None });
        }
        self.probe(now())
    }

    fn probe(&self, now: Instant) -> Result<Entry, CircuitOpen> {
        let machine = self.machine();
        match machine.probe(now) {
            Ok(cycle) => {
                let seat = Some(Arc::clone(self.seat()));
                Ok(Entry { seat, cycle, caller: None, began: Some(now), answered: None })
            }
            Err(_) if machine.mode() == Mode::Observed => {
                machine.parts.counts.spare();
                Ok(Entry { seat: None, cycle: 0, caller: None, began: None, answered: None })
            }
            Err(open) => {
                machine.parts.counts.refuse();
                Err(open)
            }
        }
    }

    /// Asks to go for `caller`, whose words the other side is shown: the fingerprint of its address, say.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter); and if it is half open and has been failing for this very caller.
    pub fn enter_for(&self, caller: u64, now: Instant) -> Result<Entry, CircuitOpen> {
        let machine = self.machine();
        if !is_closed(machine.cycle())
            && let Some(left) = machine.doubts().left(caller, now, machine.policy.memory())
        {
            return Err(CircuitOpen { retry_after: left.min(Duration::from_secs(1)) });
        }
        let mut entry = self.enter(now)?;
        entry.caller = Some(caller);
        Ok(entry)
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        self.machine().state(now)
    }

    /// Who says where it stands.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.machine().mode()
    }

    /// Sets who says where it stands from now on. It begins anew: closed, or open if that is forced, with everything
    /// forgotten.
    pub fn set_mode(&self, mode: Mode) {
        self.machine().set(Some(mode));
    }

    /// Forgets everything, and is closed unless it is forced open.
    pub fn reset(&self) {
        self.machine().set(None);
    }

    /// Whether it is closed and nothing has failed lately.
    #[cfg(feature = "resilience")]
    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
        self.machine().is_healthy(now)
    }
}

/// A number of this thread, from 0 on.
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    OWN.with(|own| *own)
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trip")
            .field("policy", &self.machine().policy)
            .field("mode", &self.mode())
            .field("control", &*self.machine().lock())
            .finish_non_exhaustive()
    }
}

/// One that goes, and is to say how it went. Dropped without a word, it counts for nothing.
#[must_use = "say with it how it went"]
pub struct Entry {
    /// `None`: nobody listens any more.
    seat: Option<Arc<Seat>>,
    cycle: u64,
    caller: Option<u64>,
    /// If it matters how long it takes.
    began: Option<Instant>,
    /// When that was known, if it goes on for longer.
    answered: Option<Instant>,
}

impl Entry {
    /// It went well.
    pub fn success(mut self, now: Instant) {
        self.tell(false, || now);
    }

    /// It failed.
    pub fn failure(mut self, now: Instant) {
        self.tell(true, || now);
    }

    /// It failed, perhaps because of the [caller](Trip::enter_for) for whom it went. Without one it just failed.
    pub fn doubt(self, now: Instant) {
        let (Some(caller), Some(seat)) = (self.caller, &self.seat) else { return self.failure(now) };
        let machine = &seat.machine;
        if machine.cycle() != self.cycle {
            return;
        }
        let others = machine.doubts().hear(caller, now, machine.policy.memory());
        match others {
            // Half open, perhaps it is the only one for whom it fails.
            Some(0) if self.is_probe() => {}
            Some(_) => self.failure(now),
            None => {}
        }
    }

    /// Whether it decides if the machine closes again.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.seat.is_some() && !is_closed(self.cycle)
    }

    /// Whether it goes only because the machine is [observed](Mode::Observed).
    #[must_use]
    pub fn is_spared(&self) -> bool {
        self.seat.is_none()
    }

    /// Whether it has taken as long as what is slow.
    #[cfg(feature = "resilience")]
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.seat.as_ref().is_some_and(|seat| self.has_been_slow(&seat.machine.policy, now))
    }

    /// There is an answer, and what follows lasts as long as it likes: how long is not counted.
    #[cfg(any(feature = "resilience", feature = "upstream"))]
    pub(crate) fn answered(&mut self, now: impl FnOnce() -> Instant) {
        self.answered = self.began.map(|_| now());
    }

    fn has_been_slow(&self, policy: &Policy, now: Instant) -> bool {
        let until = self.answered.unwrap_or(now);
        policy
            .slow
            .zip(self.began)
            .is_some_and(|((from, _), began)| until.saturating_duration_since(began) >= from)
    }

    /// How it went; the clock is read only if that matters.
    pub(crate) fn tell(&mut self, failed: bool, now: impl Fn() -> Instant) {
        let Some(seat) = self.seat.take() else { return };
        let (machine, read) = (&seat.machine, self.began.map(|_| now()));
        let slow = read.is_some_and(|now| self.has_been_slow(&machine.policy, now));
        let (fate, now) = (Fate { failed, slow }, || read.unwrap_or_else(now));
        if is_closed(self.cycle) {
            machine.record(self.cycle, seat.number, fate, now);
        } else {
            machine.probed(self.cycle, fate, now);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat
            && !is_closed(self.cycle)
        {
            seat.machine.give_back(self.cycle);
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("probe", &self.is_probe()).finish_non_exhaustive()
    }
}
