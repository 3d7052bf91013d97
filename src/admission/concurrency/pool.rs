use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    adaptive::Adaptive,
    keyed::{Keyed, Wanted},
    partition::{Divided, Share},
    permit::{Held, Permit, Place, Refused, Wait},
    queue::{Queue, Ticket},
    slots::Slots,
};
use crate::{
    admission::{Priorities, Skip},
    context::Deadline,
    head::Head,
    reject::Rejection,
    time::after,
};

/// A limit under its terms, which all clones share. Other terms of the same limit have the same [`Live`].
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) live: Arc<Live>,
    /// Which of its terms these are, counted from 0.
    pub(super) turn: u32,
    /// Where the limit begins.
    pub(super) most: u32,
    pub(super) max_keys: u32,
    pub(super) queue: Option<Queue>,
    pub(super) priorities: Priorities,
    pub(super) partitions: Option<Divided>,
    pub(super) adaptive: Option<Adaptive>,
    /// Whether the terms before adapted as well: then these go on from what was found.
    pub(super) resumes: bool,
    pub(super) skips: Vec<Skip>,
    pub(super) in_shadow: bool,
    pub(super) refusal: Rejection,
}

/// What a limit is whatever its terms are: who is in flight, and who waits.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) name: Arc<str>,
    pub(super) spots: Spots,
    pub(super) counts: Counts,
    /// The terms that hold.
    in_force: AtomicU32,
    /// How many terms were made. It is locked whenever the limit changes.
    made: Mutex<u32>,
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
    pub(super) spared: AtomicU64,
}

/// Who wants a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller<'a> {
    Of(Option<&'a Share>),
    Key(u64),
}

impl Live {
    pub(super) fn new(name: Arc<str>, spots: Spots) -> Self {
        let (counts, in_force, made) = Default::default();
        Self { name, spots, counts, in_force, made }
    }

    fn terms(&self) -> MutexGuard<'_, u32> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of new terms.
    pub(super) fn next_turn(&self) -> u32 {
        let mut made = self.terms();
        *made += 1;
        *made
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

impl Pool {
    /// Takes these terms into force, unless later ones are.
    #[cold]
    pub(super) fn begin(self: &Arc<Self>) {
        let live = &*self.live;
        {
            let _terms = live.terms();
            if live.in_force.load(Ordering::Relaxed) >= self.turn {
                return;
            }
            live.in_force.store(self.turn, Ordering::Relaxed);
            let limit = match &self.adaptive {
                Some(adaptive) if self.resumes => adaptive.sampler.resume(live.limit()),
                _ => self.most,
            };
            match &live.spots {
                Spots::Shared(slots) => slots.set_limit(limit),
                Spots::Keyed(keyed) => keyed.set_limit(limit, self.max_keys),
            }
        }
        match &live.spots {
            Spots::Shared(slots) => slots.serve(self),
            Spots::Keyed(keyed) => keyed.serve(self),
        }
    }

    /// Takes another limit into force, if there is one and these terms are.
    pub(super) fn adapt(self: &Arc<Self>, limit: Option<u32>) {
        let live = &*self.live;
        let (Some(limit), Spots::Shared(slots)) = (limit, &live.spots) else { return };
        {
            let _terms = live.terms();
            if live.in_force.load(Ordering::Relaxed) != self.turn {
                return;
            }
            slots.set_limit(limit);
        }
        slots.serve(self);
    }

    /// Whether the limit does not count this request.
    #[inline]
    pub(super) fn skips(&self, head: &Head<'_>) -> bool {
        !self.skips.is_empty() && self.skips.iter().any(|skip| skip.means(head))
    }

    #[inline]
    pub(super) fn caller(&self, head: &Head<'_>) -> Caller<'_> {
        match &self.live.spots {
            Spots::Shared(_) => Caller::Of(self.partitions.as_ref().and_then(|divided| divided.of(head))),
            Spots::Keyed(keyed) => Caller::Key(keyed.fingerprint(head)),
        }
    }

    /// A place that is free; in shadow, one more if none is.
    #[inline]
    pub(super) fn enter(self: &Arc<Self>, head: &mut Head<'_>, caller: Caller<'_>) -> Option<Held> {
        if self.live.in_force.load(Ordering::Relaxed) < self.turn {
            self.begin();
        }
        let place = match (&self.live.spots, caller) {
            (Spots::Shared(slots), Caller::Of(share)) if slots.enter(share) => Place::of(share),
            (Spots::Keyed(keyed), Caller::Key(key)) if !self.in_shadow => Place::OfKey(keyed.enter(key)?),
            _ if self.in_shadow => self.spare(caller)?,
            _ => return None,
        };
        Some(self.held(head, place))
    }

    fn held(self: &Arc<Self>, head: &mut Head<'_>, place: Place) -> Held {
        let began = self.adaptive.as_ref().map(|_| head.now());
        let until = began.and_then(|_| head.extensions().get().copied());
        Held::new(Permit::new(Arc::clone(self), place), began, until)
    }

    /// A place for one who would have none if it were not for the shadow.
    fn spare(&self, caller: Caller<'_>) -> Option<Place> {
        let (place, was_free) = match (&self.live.spots, caller) {
            (Spots::Shared(slots), Caller::Of(share)) => {
                slots.add(share);
                (Place::of(share), false)
            }
            (Spots::Keyed(keyed), Caller::Key(key)) => {
                let (account, was_free) = keyed.add(key);
                (Place::OfKey(account), was_free)
            }
            _ => return None,
        };
        if !was_free {
            self.live.counts.spared.fetch_add(1, Ordering::Relaxed);
            tracing::info!(target: "portcullis::shadow", limit = &*self.live.name, "would have refused");
        }
        Some(place)
    }

    /// A place in the queue, or one that has become free. `None`: there is no room.
    pub(super) fn join(
        self: &Arc<Self>,
        head: &mut Head<'_>,
        caller: Caller<'_>,
    ) -> Option<Result<Held, Wait>> {
        let queue = self.queue.as_ref()?;
        let now = head.now();
        let deadline = head.extensions().get::<Deadline>().copied();
        let patience = after(now, queue.timeout);
        let patience = deadline.map_or(patience, |deadline| patience.min(deadline.instant()));
        let priority = self.priorities.of(head);
        let (place, seat) = match (&self.live.spots, caller) {
            (Spots::Shared(slots), Caller::Of(share)) => {
                let seat = slots.join(queue, now, priority, share.cloned())?;
                // A place may have become free before we were seen.
                slots.serve(self);
                (Place::of(share), seat)
            }
            (Spots::Keyed(keyed), Caller::Key(key)) => match keyed.join(queue, key, now, priority) {
                Wanted::Full => return None,
                Wanted::Entered(account) => return Some(Ok(self.held(head, Place::OfKey(account)))),
                Wanted::Waits(account, ticket, granted) => (Place::OfKey(account), (ticket, granted)),
            },
            _ => return None,
        };
        self.live.counts.queued.fetch_add(1, Ordering::Relaxed);
        Some(Err(Wait::new(Arc::clone(self), place, seat, patience, deadline)))
    }

    pub(super) fn abandon(&self, place: &Place, ticket: Ticket) {
        match (&self.live.spots, place) {
            (Spots::Shared(slots), _) => slots.abandon(ticket),
            (Spots::Keyed(keyed), Place::OfKey(account)) => keyed.abandon(*account, ticket),
            (Spots::Keyed(_), Place::Shared(_)) => {}
        }
    }

    pub(super) fn leave(self: &Arc<Self>, place: &Place) {
        match (&self.live.spots, place) {
            (Spots::Shared(slots), Place::Shared(partition)) if slots.leave(partition.as_deref()) => {
                slots.serve(self);
            }
            (Spots::Keyed(keyed), Place::OfKey(account)) => keyed.leave(self, *account),
            _ => {}
        }
    }

    pub(super) fn refuse(&self, why: Option<Refused>) -> Rejection {
        let counts = &self.live.counts;
        let count = match why {
            None => &counts.full,
            Some(Refused::Dropped) => &counts.dropped,
            Some(Refused::TimedOut) => &counts.timed_out,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.refusal.clone()
    }
}
