use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::response;
use pin_project_lite::pin_project;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use super::{
    adaptive::{Adaptive, Latency, is_drop, is_sample},
    keyed::Account,
    partition::{Partition, Share},
    pool::Pool,
    queue::Ticket,
};
use crate::{context::Deadline, gate::Pass, outcome::Outcome};

/// A place of a limit. It is given back when this is dropped.
pub(super) struct Permit {
    pool: Arc<Pool>,
    place: Place,
}

/// Whose place it is.
#[derive(Debug)]
pub(super) enum Place {
    Shared(Option<Arc<Partition>>),
    OfKey(Account),
}

impl Place {
    pub(super) fn of(share: Option<&Share>) -> Self {
        Self::Shared(share.map(|share| Arc::clone(&share.partition)))
    }
}

impl Permit {
    pub(super) const fn new(pool: Arc<Pool>, place: Place) -> Self {
        Self { pool, place }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.leave(&self.place);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("limit", &self.pool.live.name).field("place", &self.place).finish()
    }
}

/// What a request holds while it is in flight: its place, until the response's body has ended or its tunnel has closed.
#[derive(Debug)]
pub struct Held {
    /// Nothing, if the limit does not count it.
    permit: Option<Permit>,
    /// When it began, if the limit adapts.
    began: Option<Instant>,
    until: Option<Deadline>,
}

impl Held {
    pub(super) const SKIPPED: Self = Self { permit: None, began: None, until: None };

    pub(super) const fn new(permit: Permit, began: Option<Instant>, until: Option<Deadline>) -> Self {
        Self { permit: Some(permit), began, until }
    }

    /// If the limit adapts: it, by what, and when this began.
    fn adapts(&self) -> Option<(&Arc<Pool>, &Adaptive, Instant)> {
        let pool = &self.permit.as_ref()?.pool;
        Some((pool, pool.adaptive.as_ref()?, self.began?))
    }

    fn sample(&self, latency: Latency) {
        if let Some((pool, adaptive, began)) = self.adapts()
            && adaptive.latency == latency
        {
            let now = Instant::now();
            let rtt = now.saturating_duration_since(began);
            pool.adapt(adaptive.sampler.sample(now, rtt, pool.live.in_flight()));
        }
    }
}

impl Pass for Held {
    fn watches(&self) -> bool {
        self.began.is_some()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        if is_sample(head) {
            self.sample(Latency::Head);
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        if outcome.is_success() {
            self.sample(Latency::End);
        }
        if let Some((pool, adaptive, _)) = self.adapts()
            && is_drop(outcome, || self.until.is_some_and(|until| until.is_callers_and_due(Instant::now())))
        {
            pool.adapt(adaptive.sampler.dropped(Instant::now(), pool.live.in_flight()));
        }
    }
}

/// Why somebody who waited was given no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue was too slow, or somebody more important came.
    Dropped,
    TimedOut,
}

/// What a [`Wait`] tells: whether there is a place.
#[derive(Debug)]
pub struct Told(pub(super) Result<Held, Refused>);

/// Somebody's place in a queue. It is given up when this is dropped.
struct Seat {
    pool: Arc<Pool>,
    place: Place,
    ticket: Option<Ticket>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.abandon(&self.place, ticket);
        }
    }
}

pin_project! {
    /// The wait for a place. Whoever drops it leaves the queue.
    pub struct Wait {
        #[pin]
        sleep: Sleep,
        granted: oneshot::Receiver<Permit>,
        seat: Seat,
        until: Option<Deadline>,
    }
}

impl Wait {
    pub(super) fn new(
        pool: Arc<Pool>,
        place: Place,
        (ticket, granted): (Ticket, oneshot::Receiver<Permit>),
        patience: Instant,
        until: Option<Deadline>,
    ) -> Self {
        let seat = Seat { pool, place, ticket: Some(ticket) };
        Self { sleep: tokio::time::sleep_until(patience), granted, seat, until }
    }
}

impl Future for Wait {
    type Output = Told;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Told> {
        let this = self.project();
        let permit = match Pin::new(&mut *this.granted).poll(cx) {
            Poll::Ready(Ok(permit)) => Ok(permit),
            Poll::Ready(Err(_)) => Err(Refused::Dropped),
            Poll::Pending if this.sleep.poll(cx).is_pending() => return Poll::Pending,
            Poll::Pending => {
                this.granted.close();
                // It may have come just now.
                this.granted.try_recv().map_err(|_| Refused::TimedOut)
            }
        };
        let pool = &this.seat.pool;
        let held = permit.map(|mut permit| {
            this.seat.ticket = None;
            // Whoever left it may have come under other terms.
            permit.pool = Arc::clone(pool);
            Held::new(permit, pool.adaptive.as_ref().map(|_| Instant::now()), *this.until)
        });
        Poll::Ready(Told(held))
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("limit", &self.seat.pool.live.name).finish_non_exhaustive()
    }
}
