use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    heads::Heads,
    pulse::{Pulse, Verdict},
};
use crate::transport::drain::{Alarm, Phase};

/// hyper's connections, as far as they are alike.
pub(super) trait Conn: Future<Output = hyper::Result<()>> + Unpin {
    fn close(&mut self);
}

/// Tells what is to be done about a connection whose peer is not believed any more.
pub(in crate::transport) type Lost = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Itself(hyper::Result<()>),
    /// It is to be dropped.
    Cut,
    /// It is to be dropped, as its peer does not read.
    Stalled,
    /// It is to be told that its head took too long.
    HeadLate,
}

/// A connection under its time limits, and told when the server drains.
pub(super) struct Drive<'a, C> {
    conn: &'a mut C,
    heads: &'a mut Heads,
    pulse: Pulse,
    alarm: Alarm,
    lost: Option<Lost>,
    waker: Option<Waker>,
}

impl<'a, C: Conn> Drive<'a, C> {
    pub(super) const fn new(
        conn: &'a mut C,
        heads: &'a mut Heads,
        pulse: Pulse,
        alarm: Alarm,
        lost: Option<Lost>,
    ) -> Self {
        Self { conn, heads, pulse, alarm, lost, waker: None }
    }

    fn close(&mut self) {
        self.conn.close();
        self.pulse.close();
    }
}

impl<C: Conn> Future for Drive<'_, C> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        let same_task = this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !same_task {
            this.waker = Some(cx.waker().clone());
        }
        loop {
            if let Poll::Ready(result) = Pin::new(&mut *this.conn).poll(cx) {
                return Poll::Ready(Ended::Itself(result));
            }
            this.heads.look(this.pulse.is_closing());
            match this.alarm.poll(cx) {
                Phase::Draining if this.pulse.drain() => {
                    this.close();
                    continue;
                }
                Phase::Draining | Phase::Serving => {}
                Phase::Cut => return Poll::Ready(Ended::Cut),
            }
            let lost = this.lost.as_mut().map_or(Poll::Pending, |lost| lost.as_mut().poll(cx));
            if lost.is_ready() {
                this.lost = None;
            }
            let is_gentle = lost == Poll::Ready(Verdict::Close) && !this.pulse.leave();
            let judged = if lost.is_pending() || is_gentle { this.pulse.poll(cx, same_task) } else { lost };
            match judged {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Verdict::Close) => this.close(),
                // It ends by itself, and tells of what.
                Poll::Ready(Verdict::Lingered) => {}
                Poll::Ready(Verdict::Cut) => return Poll::Ready(Ended::Cut),
                Poll::Ready(Verdict::Stalled) => return Poll::Ready(Ended::Stalled),
                Poll::Ready(Verdict::HeadLate) => return Poll::Ready(Ended::HeadLate),
            }
        }
    }
}
