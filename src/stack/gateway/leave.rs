//! How a gateway goes down.
use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    direction::Direction,
    run::{Gateway, Shared},
    sockets::{Acceptor, Sockets},
};
use crate::{race::race, time::after, transport::shutdown_signal};

/// How long the admin address may take to end.
const ADMIN: Duration = Duration::from_secs(1);
/// How long connections that were cut may take to let go of their requests, so that these are counted.
const CUT: Duration = Duration::from_secs(1);

impl Gateway {
    /// Goes down without losing what was accepted: `/readyz` says 503 for `delay`, so that whoever sends here learns of
    /// it; then nothing new is accepted, and what is in flight has `grace` to end. Returns how much was cut.
    pub async fn shutdown(&self, delay: Duration, grace: Duration) -> usize {
        self.shared().draining.store(true, Ordering::Relaxed);
        tracing::info!(?delay, ?grace, "going down");
        sleep(delay).await;
        self.shared().end(grace).await
    }

    /// Goes down in one direction, as [`shutdown`](Self::shutdown) does in all, which is to follow: so that a service gets
    /// nothing more and can still ask others to answer what it has. Returns how much was cut.
    pub async fn leave(&self, direction: Direction, delay: Duration, grace: Duration) -> usize {
        self.shared().draining.store(true, Ordering::Relaxed);
        tracing::info!(%direction, ?delay, ?grace, "going down");
        sleep(delay).await;
        self.shared().drain(grace, |acceptor| acceptor.direction() == direction).await
    }

    /// For how long `/readyz` is to say 503 before nothing new is accepted, and how long what is in flight may take then, as the
    /// snapshot in force says it; no time at all while nothing is in force.
    #[must_use]
    pub fn shutdown_times(&self) -> (Duration, Duration) {
        self.shared().current.load().as_ref().map_or_else(Default::default, |current| {
            let snapshot = &current.snapshot;
            (snapshot.shutdown_delay, snapshot.shutdown_grace)
        })
    }

    /// Cuts what is in flight.
    pub async fn cut(&self) -> usize {
        self.shared().draining.store(true, Ordering::Relaxed);
        self.shared().end(Duration::ZERO).await
    }

    /// Serves until SIGTERM or SIGINT, then goes down as [`shutdown`](Self::shutdown) does, with what the snapshot in
    /// force says of it; a second signal cuts. Returns how much was cut.
    ///
    /// Signals count from this call on, so call it before you say that you are ready, and await it later.
    ///
    /// # Panics
    ///
    /// As [`shutdown_signal`].
    pub fn run(&self) -> impl Future<Output = usize> + Send + '_ {
        let told = shutdown_signal();
        async move {
            told.await;
            self.run_down().await
        }
    }

    async fn run_down(&self) -> usize {
        let (delay, grace) = self.shutdown_times();
        let again = async {
            shutdown_signal().await;
            self.cut().await
        };
        let cut = race(self.shutdown(delay, grace), again).await;
        tracing::info!(cut, "down");
        cut
    }
}

impl Shared {
    /// Accepts nothing more, and waits for what is in flight; the admin address goes last.
    async fn end(&self, grace: Duration) -> usize {
        let is_admin = |acceptor: &Acceptor| **acceptor.name() == *"admin";
        let cut = self.drain(grace, |acceptor| !is_admin(acceptor)).await;
        if let Some(current) = self.current.load_full() {
            super::usage::end(&current.snapshot, &self.replaced).await;
            #[cfg(feature = "redis")]
            super::limits::give_back(&current.snapshot.limits).await;
        }
        self.drain(ADMIN, is_admin).await;
        cut
    }

    /// Accepts nothing more there, and waits for what is in flight. Returns how much was cut.
    async fn drain(&self, grace: Duration, there: impl Fn(&Acceptor) -> bool) -> usize {
        let drains: Vec<_> = {
            let mut sockets = self.sockets();
            let Sockets { serving, leaving, .. } = &mut *sockets;
            let leave = |acceptor: &mut Acceptor| {
                acceptor.leave();
                [acceptor.drain.clone(), acceptor.streams.clone()]
            };
            serving.iter_mut().chain(leaving).filter(|acceptor| there(acceptor)).flat_map(leave).collect()
        };
        let until = after(Instant::now(), grace);
        let mut cut = 0;
        for drain in &drains {
            cut += drain.wait(until.saturating_duration_since(Instant::now())).await;
        }
        let until = after(Instant::now(), CUT);
        for drain in drains {
            drain.wait(until.saturating_duration_since(Instant::now())).await;
        }
        cut
    }
}
