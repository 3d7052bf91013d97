use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{builder::Limits, vitals::Vitals};
use crate::time::after;

/// The time limits of one connection, on one timer that is moved as rarely as possible.
pub(super) struct Pulse {
    limits: Arc<Limits>,
    vitals: Arc<Vitals>,
    timer: Pin<Box<Sleep>>,
    state: State,
    since: Instant,
    /// Bytes written when a busy connection was last looked at.
    wrote: usize,
    age_limit: Option<Instant>,
    draining: bool,
    closing: bool,
}

/// What the connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been read yet.
    Fresh,
    /// A part of a head has come.
    Head,
    /// Requests are in flight, or what was answered is still being written.
    Busy,
    /// Between requests; after so many of them.
    Idle(usize),
    /// It was told to close, and nothing is in flight.
    Closing,
    /// Our end is closed.
    Lingering,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Close it when what is in flight has ended.
    Close,
    /// Drop it.
    Cut,
    /// The head did not come in time.
    HeadLate,
}

impl Pulse {
    pub(super) fn new(limits: Arc<Limits>, vitals: Arc<Vitals>, born: Instant) -> Self {
        let timer = Box::pin(sleep_until(after(born, limits.head_timeout)));
        let age_limit = limits.max_age.map(|age| after(born, age));
        // An HTTP/2 connection has shown its preface, and may wait for its first request.
        let state = if vitals.is_h2 { State::Idle(0) } else { State::Fresh };
        Self {
            limits,
            vitals,
            timer,
            state,
            since: born,
            wrote: 0,
            age_limit,
            draining: false,
            closing: false,
        }
    }

    /// The server is draining: whether the connection should close as soon as it can.
    ///
    /// HTTP/2 can say so without losing anything. An HTTP/1 connection that is between requests waits a little, for a
    /// request that may be on its way; that one's answer says so.
    pub(super) fn drain(&mut self) -> bool {
        self.draining = true;
        !self.closing && (self.vitals.is_h2 || self.vitals.in_flight.load(Relaxed) > 0)
    }

    /// The connection was told to close.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Looks at the connection after it has done what it can, and wakes its task when a limit may be over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, same_task: bool) -> Poll<Verdict> {
        let state = self.look();
        if state != self.state {
            self.state = state;
            self.since = Instant::now();
            self.wrote = self.vitals.wrote.load(Relaxed);
        }
        let mut deadline = self.deadline();
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        } else if same_task && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= deadline {
                if let Some(verdict) = self.judge(now) {
                    return Poll::Ready(verdict);
                }
                deadline = self.deadline();
            }
            self.timer.as_mut().reset(deadline.max(now + Duration::from_millis(1)));
        }
        Poll::Pending
    }

    fn look(&self) -> State {
        let vitals = &*self.vitals;
        if vitals.lingering.load(Relaxed) {
            State::Lingering
        } else if vitals.is_h2 && vitals.has_partial_head() {
            State::Head
        } else if vitals.in_flight.load(Relaxed) > 0 || vitals.blocked.load(Relaxed) {
            State::Busy
        } else if self.closing {
            State::Closing
        } else if vitals.has_partial_head() {
            State::Head
        } else if !vitals.is_h2 && vitals.read.load(Relaxed) == 0 {
            State::Fresh
        } else {
            State::Idle(vitals.begun.load(Relaxed))
        }
    }

    fn deadline(&self) -> Instant {
        let limits = &*self.limits;
        let limit = match self.state {
            State::Fresh | State::Idle(_) if self.draining => limits.drain_idle,
            State::Fresh | State::Head => limits.head_timeout,
            State::Busy => limits.write_timeout,
            State::Idle(_) => limits.idle_timeout,
            State::Closing | State::Lingering => limits.close_timeout,
        };
        let deadline = after(self.since, limit);
        match self.age_limit {
            Some(age_limit) if self.may_age() => deadline.min(age_limit),
            _ => deadline,
        }
    }

    /// A head that has begun to come is waited for, whatever the age.
    fn may_age(&self) -> bool {
        !self.closing && self.state != State::Head
    }

    /// The deadline is over.
    fn judge(&mut self, now: Instant) -> Option<Verdict> {
        if self.may_age() && self.age_limit.is_some_and(|limit| now >= limit) {
            return Some(Verdict::Close);
        }
        match self.state {
            State::Fresh | State::Idle(_) => Some(Verdict::Close),
            State::Head => Some(Verdict::HeadLate),
            State::Closing | State::Lingering => Some(Verdict::Cut),
            State::Busy => {
                let wrote = self.vitals.wrote.load(Relaxed);
                let wants_to_write =
                    self.vitals.blocked.load(Relaxed) || self.vitals.waiting.load(Relaxed) > 0;
                if wants_to_write && wrote == self.wrote {
                    return Some(Verdict::Cut);
                }
                (self.wrote, self.since) = (wrote, now);
                None
            }
        }
    }
}
