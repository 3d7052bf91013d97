use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{codel::CoDel, partition::Share, permit::Permit};
use crate::admission::Priority;

/// How requests wait for a place: how many, how long, and in which order.
///
/// ```
/// use portcullis::admission::concurrency::{Order, Queue};
/// use std::{num::NonZeroU32, time::Duration};
///
/// let queue = Queue::new(NonZeroU32::new(100).unwrap())
///     .timeout(Duration::from_millis(500))
///     .order(Order::Priority)
///     .codel(Duration::from_millis(20), Duration::from_millis(200));
/// # let _ = queue;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Queue {
    pub(super) length: NonZeroU32,
    pub(super) timeout: Duration,
    pub(super) order: Order,
    pub(super) codel: Option<(Duration, Duration)>,
}

/// Who is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Order {
    /// Who came first.
    #[default]
    Fair,
    /// Who came last: under overload somebody is served in time, instead of everybody too late.
    Newest,
    /// The most important; among equals who came first. In a full queue the least important gives way.
    Priority,
}

impl Queue {
    /// At most this many wait, each at most a second, in the order in which they came.
    pub const fn new(length: NonZeroU32) -> Self {
        Self { length, timeout: Duration::from_secs(1), order: Order::Fair, codel: None }
    }

    /// How long one may wait. 1 second unless told.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Who is next. [`Order::Fair`] unless told.
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Keeps the queue short: if for a whole `interval` nobody waited less than `target`, whoever has waited longer
    /// than twice the target is refused. Bursts that are worked off within an interval are left alone. Off unless told.
    pub const fn codel(mut self, target: Duration, interval: Duration) -> Self {
        self.codel = Some((target, interval));
        self
    }
}

/// Where somebody stands: the class, and the turn within it.
pub(super) type Ticket = (Priority, u64);

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) since: Instant,
    pub(super) share: Option<Share>,
    pub(super) grant: oneshot::Sender<Permit>,
}

/// Those who wait. How, says the queue of who came last.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: BTreeMap<Ticket, Waiter>,
    turn: u64,
    order: Order,
    codel: Option<CoDel>,
    /// Whether somebody had a share.
    divided: bool,
    /// Of those who left since this was asked last.
    shortest: Option<Duration>,
}

/// What became of one who wanted to wait.
pub(super) enum Joined {
    Waits(Ticket),
    /// In the place of one who is less important, and is refused.
    Displaced(Ticket),
    Full,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn join(&mut self, queue: &Queue, priority: Priority, waiter: Waiter) -> Joined {
        self.order = queue.order;
        if self.codel.as_ref().map(CoDel::terms) != queue.codel {
            self.codel = queue.codel.map(|(target, interval)| CoDel::new(target, interval));
        }
        let class = if self.order == Order::Priority { priority } else { Priority::Normal };
        let displaces = if self.len() < queue.length.get() as usize {
            false
        } else if self.waiting.last_key_value().is_some_and(|((last, _), _)| class < *last) {
            self.waiting.pop_last();
            true
        } else {
            return Joined::Full;
        };
        self.turn += 1;
        self.divided |= waiter.share.is_some();
        let ticket = (class, self.turn);
        self.waiting.insert(ticket, waiter);
        if displaces { Joined::Displaced(ticket) } else { Joined::Waits(ticket) }
    }

    /// Takes out one who waits no longer. Whether they were there.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let was_there = self.waiting.remove(&ticket).is_some();
        self.emptied();
        was_there
    }

    /// The next. Those who have waited too long are dropped before.
    pub(super) fn next(&mut self, now: Instant) -> Option<Waiter> {
        loop {
            let (_, waiter) = match self.order {
                Order::Newest => self.waiting.pop_last(),
                Order::Fair | Order::Priority => self.waiting.pop_first(),
            }?;
            let waited = now.saturating_duration_since(waiter.since);
            self.shortest = Some(self.shortest.map_or(waited, |shortest| shortest.min(waited)));
            let dropped = self.codel.as_mut().is_some_and(|codel| codel.drops(now, waited));
            self.emptied();
            if !dropped {
                return Some(waiter);
            }
        }
    }

    /// The first whose share is one of these.
    pub(super) fn next_of(&mut self, is: impl Fn(&Share) -> bool) -> Option<Waiter> {
        if !self.divided {
            return None;
        }
        let mut shared = self.waiting.iter().filter(|(_, waiter)| waiter.share.as_ref().is_some_and(&is));
        let ticket = shared.next().map(|(ticket, _)| *ticket)?;
        let waiter = self.waiting.remove(&ticket);
        self.emptied();
        waiter
    }

    /// How long the one who came first has waited.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let oldest = self.waiting.values().map(|waiter| waiter.since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The shortest wait of those who were served since this was asked last; if nobody was, of who is next.
    pub(super) fn take_delay(&mut self, now: Instant) -> Duration {
        let next = match self.order {
            Order::Newest => self.waiting.last_key_value(),
            Order::Fair | Order::Priority => self.waiting.first_key_value(),
        };
        let age = |(_, waiter): (_, &Waiter)| now.saturating_duration_since(waiter.since);
        self.shortest.take().or_else(|| next.map(age)).unwrap_or_default()
    }

    fn emptied(&mut self) {
        if self.waiting.is_empty() {
            self.shortest = Some(Duration::ZERO);
            if let Some(codel) = &mut self.codel {
                codel.empty();
            }
        }
    }
}
