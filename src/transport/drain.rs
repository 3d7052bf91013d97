use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::timeout,
};

use super::shutdown_signal;
use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

const SERVING: u8 = 0;
const DRAINING: u8 = 1;
const CUT: u8 = 2;

/// Ends a server without losing what it accepted: start, wait, cut.
///
/// A handle, cheap to clone, for any number of servers: ours ([`Server::drain`](super::Server::drain)), axum's,
/// tonic's, and what you serve with hyper. See the [module docs](super#draining).
#[derive(Clone, Default)]
pub struct Drain(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    /// Told of each change of phase.
    phases: Arc<Notify>,
    held: AtomicUsize,
    /// Told when nothing is held any more.
    empty: Notify,
}

impl Drain {
    /// A handle whose servers go on serving.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something in flight: [`wait`](Self::wait) waits until it is dropped.
    pub fn watch(&self) -> Watch {
        self.0.held.fetch_add(1, Ordering::SeqCst);
        Watch(self.clone())
    }

    /// How much is in flight: connections of our server, requests under [`Self::layer`].
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.held.load(Ordering::SeqCst)
    }

    /// Begins: servers accept nothing new, tell their peers, and finish what they have.
    pub fn start(&self) {
        self.advance(DRAINING);
    }

    /// Ends: what is still in flight is dropped.
    pub fn cut(&self) {
        self.advance(CUT);
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() >= DRAINING
    }

    /// Whether what was in flight has been cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.phase() >= CUT
    }

    /// Resolves when it has begun: for axum's `with_graceful_shutdown` and tonic's `serve_with_shutdown`.
    pub fn signalled(&self) -> impl Future<Output = ()> + Send + Sync + 'static + use<> {
        self.clone().reached(DRAINING)
    }

    /// Resolves when what was in flight has been cut.
    pub fn cut_off(&self) -> impl Future<Output = ()> + Send + Sync + 'static + use<> {
        self.clone().reached(CUT)
    }

    /// Waits until nothing is in flight, or cuts when `limit` is over. Returns how much was cut.
    pub async fn wait(&self, limit: Duration) -> usize {
        match timeout(limit, self.emptied()).await {
            Ok(()) => 0,
            Err(_) => self.cut_now(),
        }
    }

    /// All of it: starts at SIGTERM or SIGINT, waits for what is in flight, and cuts when `limit` is over or at a
    /// second signal. Returns how much was cut.
    ///
    /// Signals count from this call on, so call it before you say that you are ready, and await it later.
    ///
    /// # Panics
    /// As [`shutdown_signal`].
    pub fn on_signal(&self, limit: Duration) -> impl Future<Output = usize> + Send + 'static + use<> {
        let (drain, told) = (self.clone(), shutdown_signal());
        async move {
            told.await;
            let mut again = pin!(shutdown_signal());
            drain.start();
            let mut waited = pin!(drain.wait(limit));
            poll_fn(|cx| match waited.as_mut().poll(cx) {
                Poll::Pending => again.as_mut().poll(cx).map(|()| drain.cut_now()),
                ready => ready,
            })
            .await
        }
    }

    /// A layer that counts requests as in flight until their response's body has ended.
    ///
    /// For servers that are not ours. It goes outermost. Once cut, it refuses with [`Reason::Unavailable`].
    ///
    /// These do not tell when a connection that was upgraded closes. Whoever serves a WebSocket there puts a
    /// [`Tunnel`](crate::tunnel::Tunnel) into the extensions of the response with status 101, and keeps its guard as long as it
    /// serves: the request is in flight until then.
    #[must_use]
    pub fn layer(&self) -> DrainLayer {
        GateLayer::new(self.clone())
    }

    fn phase(&self) -> u8 {
        self.0.phase.load(Ordering::Relaxed)
    }

    /// Wakes at the next change of phase after this call.
    fn next_phase(&self) -> OwnedNotified {
        Arc::clone(&self.0.phases).notified_owned()
    }

    fn advance(&self, phase: u8) {
        self.0.phase.fetch_max(phase, Ordering::SeqCst);
        self.0.phases.notify_waiters();
    }

    fn cut_now(&self) -> usize {
        let left = self.in_flight();
        self.cut();
        left
    }

    async fn reached(self, phase: u8) {
        loop {
            let next = self.next_phase(); // before the look, so that no change goes unseen
            if self.phase() >= phase {
                return;
            }
            next.await;
        }
    }

    pub(super) async fn emptied(&self) {
        loop {
            let empty = self.0.empty.notified();
            if self.in_flight() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("cut", &self.is_cut())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// Something in flight: a connection, a request, a tunnel. Made by [`Drain::watch`].
#[must_use = "it counts as long as it lives"]
pub struct Watch(Drain);

impl Watch {
    /// The handle it came from.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.0
    }
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        self.0.watch()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let state = &self.0.0;
        if state.held.fetch_sub(1, Ordering::SeqCst) == 1 {
            state.empty.notify_waiters();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0).finish()
    }
}

impl Pass for Watch {
    fn watches(&self) -> bool {
        false
    }
}

/// Counts requests as in flight. See [`Drain::layer`].
pub type DrainLayer = GateLayer<Drain>;

impl Gate for Drain {
    type Pass = Watch;

    fn check(&self, _: &mut Head<'_>) -> Result<Watch, Answer> {
        if self.is_cut() {
            return Err(Rejection::new(Reason::Unavailable).detail("the server is shutting down").into());
        }
        Ok(self.watch())
    }
}

/// Tells one task of the changes of phase, at the cost of one load each time the task runs.
///
/// Looking at a [`Notify`] takes a lock, so that is done only when the phase, or the task, has changed.
pub(super) struct Alarm {
    drain: Drain,
    seen: u8,
    next: Pin<Box<OwnedNotified>>,
    waker: Option<Waker>,
}

impl Alarm {
    pub(super) fn new(drain: Drain) -> Self {
        let next = Box::pin(drain.next_phase());
        Self { drain, seen: SERVING, next, waker: None }
    }

    /// Looks, and wakes this task at the next change.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Phase {
        let same_task = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !same_task || self.drain.phase() != self.seen {
            self.waker = Some(cx.waker().clone());
            self.seen = self.drain.phase();
            while self.next.as_mut().poll(cx).is_ready() {
                self.next.set(self.drain.next_phase());
                self.seen = self.drain.phase();
            }
        }
        match self.seen {
            SERVING => Phase::Serving,
            DRAINING => Phase::Draining,
            _ => Phase::Cut,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Draining,
    Cut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_is_in_flight() {
        let drain = Drain::new();
        let (one, two) = (drain.watch(), drain.watch());
        let three = one.clone();
        assert_eq!(drain.in_flight(), 3);
        drain.start();
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.wait(Duration::from_secs(30)).await }
        });
        tokio::task::yield_now().await;
        drop((one, two));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(three);
        assert_eq!(waiting.await.unwrap(), 0);
        assert!(drain.is_draining() && !drain.is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_takes_too_long() {
        let drain = Drain::new();
        let watch = drain.watch();
        drain.start();
        let cut_off = tokio::spawn(drain.cut_off());
        assert_eq!(drain.wait(Duration::from_secs(30)).await, 1);
        cut_off.await.unwrap();
        assert!(watch.drain().is_cut());
    }

    #[tokio::test]
    async fn signals_reach_those_who_come_late() {
        let drain = Drain::new();
        let early = tokio::spawn(drain.signalled());
        tokio::task::yield_now().await;
        assert!(!early.is_finished());
        drain.start();
        drain.start();
        early.await.unwrap();
        drain.signalled().await;
        assert!(!drain.is_cut());
        drain.cut();
        drain.start();
        assert!(drain.is_cut(), "never back");
    }
}
