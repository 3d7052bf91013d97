use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    partition::{Partition, Share},
    permit::{Permit, Place},
    pool::Pool,
    queue::{Joined, Queue, Ticket, Waiter, Waiters},
};
use crate::admission::Priority;

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
    waiters: Mutex<Waiters>,
}

fn in_flight(state: u64) -> u32 {
    state as u32
}

impl Slots {
    pub(super) fn new(limit: u32) -> Self {
        Self { state: AtomicU64::new(0), limit: AtomicU32::new(limit), waiters: Mutex::default() }
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
        self.waiters().age(now)
    }

    pub(super) fn take_delay(&self, now: Instant) -> std::time::Duration {
        self.waiters().take_delay(now)
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, without waiting.
    #[inline]
    pub(super) fn enter(&self, share: Option<&Share>) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state < WAITING && in_flight(state) < self.limit() {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    share.inspect(|share| share.add());
                    return true;
                }
                Err(now) => state = now,
            }
        }
        share.is_some_and(|share| self.enter_own(share))
    }

    /// Takes a place that is the partition's own, though the limit is reached.
    fn enter_own(&self, share: &Share) -> bool {
        let own = share.enter(self.limit());
        if own {
            self.state.fetch_add(1, Ordering::AcqRel);
        }
        own
    }

    /// Takes a place, whether one is free or not.
    pub(super) fn add(&self, share: Option<&Share>) {
        share.inspect(|share| share.add());
        self.state.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes a place for one who waits.
    fn take(&self) -> bool {
        let free = |state| (in_flight(state) < self.limit.load(Ordering::SeqCst)).then_some(state + 1);
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free).is_ok()
    }

    /// Gives a place back, and tells whether somebody waits for one.
    pub(super) fn leave(&self, partition: Option<&Partition>) -> bool {
        partition.inspect(|partition| partition.leave());
        self.state.fetch_sub(1, Ordering::SeqCst) >= WAITING
    }

    /// Another limit from now on. Who waits is to be [served](Self::serve).
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Begins to wait. `None`: the queue is full.
    pub(super) fn join(
        &self,
        queue: &Queue,
        now: Instant,
        priority: Priority,
        share: Option<Share>,
    ) -> Option<(Ticket, oneshot::Receiver<Permit>)> {
        let (grant, granted) = oneshot::channel();
        let mut waiters = self.waiters();
        let ticket = match waiters.join(queue, priority, Waiter { since: now, share, grant }) {
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
        let mut waiters = self.waiters();
        if waiters.leave(ticket) {
            self.state.fetch_sub(WAITING, Ordering::SeqCst);
        }
    }

    /// Takes places for those who wait, if any do, and hands them over one by one, outside of the lock.
    pub(super) fn serve(&self, pool: &Arc<Pool>) {
        while self.state.load(Ordering::SeqCst) >= WAITING
            && let Some(Waiter { share, grant, .. }) = self.next()
        {
            let permit = Permit::new(Arc::clone(pool), Place::of(share.as_ref()));
            // Who is gone drops the permit, and the next one is looked for.
            drop(grant.send(permit));
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut waiters = self.waiters();
        if waiters.is_empty() {
            return None;
        }
        let before = waiters.len();
        let next = if self.take() {
            let next = waiters.next(Instant::now());
            match &next {
                Some(waiter) => {
                    waiter.share.as_ref().inspect(|share| share.add());
                }
                None => drop(self.state.fetch_sub(1, Ordering::SeqCst)),
            }
            next
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
        let next = waiters.next_of(|share| share.has_room(limit))?;
        next.share.as_ref().inspect(|share| share.add());
        self.state.fetch_add(1, Ordering::SeqCst);
        Some(next)
    }
}
