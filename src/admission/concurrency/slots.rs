use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    partition::Partition,
    permit::{Permit, Place},
    pool::Pool,
    queue::{Joined, Queue, Ticket, Waiter, Waiters},
};
use crate::admission::shed::Priority;

/// One who waits, in the upper half of the state.
const WAITING: u64 = 1 << 32;

/// The places of a limit that all share.
///
/// What is in flight and how many wait stand in one word. Who comes while nobody waits and a place is free takes it with
/// one exchange. Who leaves, and sees in the same step that somebody waits, hands places on. Whoever begins to wait looks
/// once more for a place after they can be seen: so no place is free while somebody waits.
#[derive(Debug)]
pub(super) struct Slots {
    state: AtomicU64,
    limit: AtomicU32,
    pub(super) partitions: Box<[Partition]>,
    waiters: Option<Mutex<Waiters>>,
}

fn in_flight(state: u64) -> u32 {
    state as u32
}

impl Slots {
    pub(super) fn new(limit: u32, partitions: Box<[Partition]>, queue: Option<&Queue>) -> Self {
        let waiters = queue.map(|queue| Mutex::new(Waiters::new(queue)));
        Self { state: AtomicU64::new(0), limit: AtomicU32::new(limit), partitions, waiters }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u32 {
        in_flight(self.state.load(Ordering::Relaxed))
    }

    pub(super) fn waiting(&self) -> u32 {
        (self.state.load(Ordering::Relaxed) >> 32) as u32
    }

    pub(super) fn age(&self, now: Instant) -> std::time::Duration {
        self.waiters().map(|waiters| waiters.age(now)).unwrap_or_default()
    }

    pub(super) fn take_delay(&self, now: Instant) -> std::time::Duration {
        self.waiters().map(|mut waiters| waiters.take_delay(now)).unwrap_or_default()
    }

    fn waiters(&self) -> Option<MutexGuard<'_, Waiters>> {
        self.waiters.as_ref().map(|waiters| waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn partition(&self, at: u16) -> Option<&Partition> {
        self.partitions.get(usize::from(at))
    }

    /// Takes a place, without waiting.
    #[inline]
    pub(super) fn enter(&self, partition: u16) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state < WAITING && in_flight(state) < self.limit() {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    self.count(partition);
                    return true;
                }
                Err(now) => state = now,
            }
        }
        self.enter_own(partition)
    }

    /// Takes a place that is the partition's own, though the limit is reached.
    fn enter_own(&self, partition: u16) -> bool {
        let own = self.partition(partition).is_some_and(|partition| partition.enter(self.limit()));
        if own {
            self.state.fetch_add(1, Ordering::AcqRel);
        }
        own
    }

    fn count(&self, partition: u16) {
        if let Some(partition) = self.partition(partition) {
            partition.in_flight.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Takes a place for one who waits.
    fn take(&self) -> bool {
        let free = |state| (in_flight(state) < self.limit.load(Ordering::SeqCst)).then_some(state + 1);
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).is_ok()
    }

    /// Gives a place back, and tells whether somebody waits for one.
    pub(super) fn leave(&self, partition: u16) -> bool {
        if let Some(partition) = self.partition(partition) {
            partition.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
        self.state.fetch_sub(1, Ordering::SeqCst) >= WAITING
    }

    /// Another limit from now on. Whether somebody waits, who may have a place now.
    pub(super) fn set_limit(&self, limit: u32) -> bool {
        self.limit.store(limit, Ordering::SeqCst);
        self.state.load(Ordering::SeqCst) >= WAITING
    }

    /// Begins to wait. `None`: there is no queue, or it is full.
    pub(super) fn join(
        &self,
        now: Instant,
        priority: Priority,
        partition: u16,
    ) -> Option<(Ticket, oneshot::Receiver<Permit>)> {
        let mut waiters = self.waiters()?;
        let (grant, granted) = oneshot::channel();
        let ticket = match waiters.join(now, priority, partition, grant) {
            Joined::Full => return None,
            Joined::Displaced(ticket) => ticket,
            Joined::Waits(ticket) => {
                self.state.fetch_add(WAITING, Ordering::SeqCst);
                ticket
            }
        };
        Some((ticket, granted))
    }

    /// Waits no longer.
    pub(super) fn abandon(&self, ticket: Ticket) {
        if let Some(mut waiters) = self.waiters()
            && waiters.leave(ticket)
        {
            self.state.fetch_sub(WAITING, Ordering::SeqCst);
        }
    }

    /// Takes places for those who wait, and hands them over one by one, outside of the lock.
    pub(super) fn serve(&self, pool: &Arc<Pool>) {
        while let Some(Waiter { partition, grant, .. }) = self.next() {
            let permit = Permit::new(Arc::clone(pool), Place::Shared { partition });
            // Who is gone drops the permit, and the next one is looked for.
            drop(grant.send(permit));
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut waiters = self.waiters()?;
        if waiters.is_empty() {
            return None;
        }
        let before = waiters.len();
        let next = if self.take() {
            let next = waiters.next(Instant::now());
            match &next {
                Some(waiter) => self.count(waiter.partition),
                None => drop(self.state.fetch_sub(1, Ordering::SeqCst)),
            }
            next
        } else if self.partitions.is_empty() {
            None
        } else {
            self.next_of_own(&mut waiters)
        };
        let gone = (before - waiters.len()) as u64;
        self.state.fetch_sub(gone * WAITING, Ordering::SeqCst);
        next
    }

    /// The first who waits though their partition has a place of its own.
    fn next_of_own(&self, waiters: &mut Waiters) -> Option<Waiter> {
        let limit = self.limit();
        let has_place = |at| {
            let own =
                |partition: &Partition| partition.in_flight.load(Ordering::Relaxed) < partition.places(limit);
            self.partition(at).is_some_and(own)
        };
        let next = waiters.next_of(has_place)?;
        self.count(next.partition);
        self.state.fetch_add(1, Ordering::SeqCst);
        Some(next)
    }
}
