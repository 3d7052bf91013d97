use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    adaptive::Adaptive,
    keyed::{Keyed, Wanted},
    partition::Partitions,
    permit::{Held, Permit, Place, Refused, Wait},
    queue::{Queue, Ticket},
    slots::Slots,
};
use crate::{admission::shed::Priorities, context::Deadline, head::Head, reject::Rejection, time::after};

/// What all clones of a limit share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: Arc<str>,
    pub(super) spots: Spots,
    pub(super) queue: Option<Queue>,
    pub(super) priorities: Priorities,
    pub(super) partitions: Option<Partitions>,
    pub(super) adaptive: Option<Adaptive>,
    pub(super) refusal: Rejection,
    pub(super) counts: Counts,
}

#[derive(Debug)]
pub(super) enum Spots {
    Shared(Slots),
    Keyed(Keyed),
}

/// What became of those who found no place.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) queued: AtomicU64,
    pub(super) full: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) timed_out: AtomicU64,
}

/// Who wants a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    Of { partition: u16 },
    Key(u64),
}

impl Pool {
    #[inline]
    pub(super) fn caller(&self, head: &Head<'_>) -> Caller {
        match &self.spots {
            Spots::Shared(_) => {
                let partition = self.partitions.as_ref().map_or(u16::MAX, |partitions| partitions.of(head));
                Caller::Of { partition }
            }
            Spots::Keyed(keyed) => Caller::Key(keyed.fingerprint(head)),
        }
    }

    /// A place that is free.
    #[inline]
    pub(super) fn enter(self: &Arc<Self>, head: &mut Head<'_>, caller: Caller) -> Option<Held> {
        let place = match (&self.spots, caller) {
            (Spots::Shared(slots), Caller::Of { partition }) if slots.enter(partition) => {
                Place::Shared { partition }
            }
            (Spots::Keyed(keyed), Caller::Key(key)) => Place::OfKey(keyed.enter(key)?),
            _ => return None,
        };
        let began = self.adaptive.as_ref().map(|_| head.now());
        Some(Held::new(Permit::new(Arc::clone(self), place), began))
    }

    /// A place in the queue, or one that has become free. `None`: there is no room.
    pub(super) fn join(self: &Arc<Self>, head: &mut Head<'_>, caller: Caller) -> Option<Result<Held, Wait>> {
        let queue = self.queue.as_ref()?;
        let now = head.now();
        let until = after(now, queue.timeout);
        let until =
            head.extensions().get::<Deadline>().map_or(until, |deadline| until.min(deadline.instant()));
        let priority = self.priorities.of(head);
        let (place, seat) = match (&self.spots, caller) {
            (Spots::Shared(slots), Caller::Of { partition }) => {
                let seat = slots.join(now, priority, partition)?;
                // A place may have become free before we were seen.
                slots.serve(self);
                (Place::Shared { partition }, seat)
            }
            (Spots::Keyed(keyed), Caller::Key(key)) => match keyed.join(key, now, priority) {
                Wanted::Full => return None,
                Wanted::Entered(account) => {
                    return Some(Ok(Held::new(Permit::new(Arc::clone(self), Place::OfKey(account)), None)));
                }
                Wanted::Waits(account, ticket, granted) => (Place::OfKey(account), (ticket, granted)),
            },
            _ => return None,
        };
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        Some(Err(Wait::new(Arc::clone(self), place, seat, until)))
    }

    pub(super) fn abandon(&self, place: Place, ticket: Ticket) {
        match (&self.spots, place) {
            (Spots::Shared(slots), _) => slots.abandon(ticket),
            (Spots::Keyed(keyed), Place::OfKey(account)) => keyed.abandon(account, ticket),
            (Spots::Keyed(_), Place::Shared { .. }) => {}
        }
    }

    pub(super) fn leave(pool: &Arc<Self>, place: Place) {
        match (&pool.spots, place) {
            (Spots::Shared(slots), Place::Shared { partition }) if slots.leave(partition) => {
                slots.serve(pool);
            }
            (Spots::Keyed(keyed), Place::OfKey(account)) => keyed.leave(pool, account),
            _ => {}
        }
    }

    /// Takes another limit into force, if there is one.
    pub(super) fn adapt(pool: &Arc<Self>, limit: Option<u32>) {
        if let (Some(limit), Spots::Shared(slots)) = (limit, &pool.spots)
            && slots.set_limit(limit)
        {
            slots.serve(pool);
        }
    }

    pub(super) fn refuse(&self, why: Option<Refused>) -> Rejection {
        let count = match why {
            None => &self.counts.full,
            Some(Refused::Dropped) => &self.counts.dropped,
            Some(Refused::TimedOut) => &self.counts.timed_out,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.refusal.clone()
    }

    pub(super) fn limit(&self) -> u32 {
        match &self.spots {
            Spots::Shared(slots) => slots.limit(),
            Spots::Keyed(keyed) => keyed.limit(),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        match &self.spots {
            Spots::Shared(slots) => slots.in_flight(),
            Spots::Keyed(keyed) => keyed.in_flight(),
        }
    }

    pub(super) fn waiting(&self) -> u32 {
        match &self.spots {
            Spots::Shared(slots) => slots.waiting(),
            Spots::Keyed(keyed) => keyed.waiting(),
        }
    }

    pub(super) fn queue_delay(&self) -> Duration {
        let now = Instant::now();
        match &self.spots {
            Spots::Shared(slots) => slots.age(now),
            Spots::Keyed(keyed) => keyed.age(now),
        }
    }
}
