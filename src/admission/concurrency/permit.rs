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
    adaptive::{Latency, is_drop, is_sample},
    keyed::Account,
    pool::Pool,
    queue::Ticket,
};
use crate::{gate::Pass, outcome::Outcome};

/// A place of a limit. It is given back when this is dropped.
pub(super) struct Permit {
    pool: Arc<Pool>,
    place: Place,
}

/// Whose place it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Shared { partition: u16 },
    OfKey(Account),
}

impl Permit {
    pub(super) const fn new(pool: Arc<Pool>, place: Place) -> Self {
        Self { pool, place }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        Pool::leave(&self.pool, self.place);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("limit", &self.pool.name).field("place", &self.place).finish()
    }
}

/// What a request holds while it is in flight: its place, until the response's body has ended or its tunnel has closed.
#[derive(Debug)]
pub struct Held {
    permit: Permit,
    /// When it began, if the limit adapts.
    began: Option<Instant>,
}

impl Held {
    pub(super) const fn new(permit: Permit, began: Option<Instant>) -> Self {
        Self { permit, began }
    }

    fn sample(&self, latency: Latency) {
        let pool = &self.permit.pool;
        if let (Some(began), Some(adaptive)) = (self.began, &pool.adaptive)
            && adaptive.latency == latency
        {
            let now = Instant::now();
            let rtt = now.saturating_duration_since(began);
            Pool::adapt(pool, adaptive.sampler.sample(now, rtt, pool.in_flight()));
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
        let pool = &self.permit.pool;
        if let Some(adaptive) = &pool.adaptive
            && is_drop(outcome)
        {
            Pool::adapt(pool, adaptive.sampler.dropped(Instant::now(), pool.in_flight()));
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
            self.pool.abandon(self.place, ticket);
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
    }
}

impl Wait {
    pub(super) fn new(
        pool: Arc<Pool>,
        place: Place,
        (ticket, granted): (Ticket, oneshot::Receiver<Permit>),
        until: Instant,
    ) -> Self {
        let seat = Seat { pool, place, ticket: Some(ticket) };
        Self { sleep: tokio::time::sleep_until(until), granted, seat }
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
        if permit.is_ok() {
            this.seat.ticket = None;
        }
        let pool = &this.seat.pool;
        Poll::Ready(Told(
            permit.map(|permit| Held::new(permit, pool.adaptive.as_ref().map(|_| Instant::now()))),
        ))
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("limit", &self.seat.pool.name).finish_non_exhaustive()
    }
}
