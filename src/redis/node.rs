//! One server, with its connection and its breaker.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout_at};

use super::{
    RedisBuilder, RedisError,
    dial::{Live, Place, dial},
};
use crate::{
    backoff::{Backoff, Jitter},
    flight::Flights,
    trip::{Policy, State, Trip},
};

/// Who finds out whether a server serves again, waits no longer: others wait for what it finds.
const PROBE: Duration = Duration::from_millis(250);

/// Until when a command is to be done, and how long that was to take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) deadline: Duration,
    pub(super) at: Instant,
}

impl Until {
    pub(super) fn within(deadline: Duration) -> Self {
        Self { deadline, at: crate::time::after(Instant::now(), deadline) }
    }

    fn at_most(self, deadline: Duration) -> Self {
        let sooner = Self::within(deadline);
        if sooner.at < self.at { sooner } else { self }
    }
}

/// A server, or the master that Sentinels know.
pub(super) struct Node {
    pub(super) place: Place,
    of: Arc<RedisBuilder>,
    trip: Trip,
    live: ArcSwapOption<Live>,
    flights: Flights<(), Result<(), RedisError>>,
    /// Whether it was said that it does not serve.
    is_lost: AtomicBool,
}

/// Why a command has no answer: what it says to those who asked, and what it says to those who know the way.
pub(super) enum Fault {
    Ours(RedisError),
    Theirs(redis::RedisError),
}

impl Fault {
    pub(super) fn told(&self) -> RedisError {
        match self {
            Self::Ours(error) => error.clone(),
            Self::Theirs(error) => RedisError::of(error),
        }
    }
}

impl Fault {
    /// Whether a transaction was refused, of which then nothing was done.
    pub(super) fn is_of_transaction(&self) -> bool {
        matches!(self, Self::Theirs(error) if error.kind() == ServerErrorKind::ExecAbort.into())
    }
}

impl Node {
    pub(super) fn new(place: Place, of: Arc<RedisBuilder>) -> Arc<Self> {
        let half = Duration::from_millis(500);
        let wait = Backoff::new(Duration::from_millis(100)).max(half).jitter(Jitter::Equal);
        Arc::new(Self {
            place,
            of,
            trip: Trip::new(Policy::new().wait(wait)),
            live: ArcSwapOption::empty(),
            flights: Flights::new(1),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Does `work` with the connection in time, unless the breaker is open. Connecting is part of it.
    pub(super) async fn exchange<T>(
        self: &Arc<Self>,
        until: Until,
        work: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Fault> {
        let entry = self.trip.enter(Instant::now()).map_err(|open| Fault::Ours(open.into()))?;
        let until = if self.state() == State::Closed { until } else { until.at_most(PROBE) };
        let mut used = None;
        let done = timeout_at(until.at, async {
            let live = self.live().await.map_err(Fault::Ours)?;
            let connection = live.connection.clone();
            used = Some(live);
            work(connection).await.map_err(Fault::Theirs)
        });
        let done = done.await.unwrap_or(Err(Fault::Ours(RedisError::Late(until.deadline))));
        let error = done.as_ref().err().map(Fault::told);
        if error.as_ref().is_some_and(RedisError::is_outage) {
            entry.failure(Instant::now());
        } else {
            entry.success(Instant::now());
        }
        self.tell(error.as_ref());
        if let (Some(error), Some(used)) = (&error, &used)
            && error.is_of_connection()
        {
            // Unless another has taken its place already. Those who wait for an answer keep it until it comes.
            self.live.compare_and_swap(used, None);
        }
        done
    }

    pub(super) fn state(&self) -> State {
        self.trip.state(Instant::now())
    }

    /// Says once that it does not serve any more, and that it serves again.
    fn tell(&self, error: Option<&RedisError>) {
        let (was_lost, is_closed) = (self.is_lost.load(Relaxed), || self.state() == State::Closed);
        if let Some(error) = error.filter(|error| error.is_outage()) {
            if !was_lost && !is_closed() && !self.is_lost.swap(true, Relaxed) {
                tracing::warn!(server = ?self.place, %error, "Redis does not serve, and is asked now and then only");
            }
        } else if was_lost && is_closed() && self.is_lost.swap(false, Relaxed) {
            tracing::info!(server = ?self.place, "Redis serves again");
        }
    }

    async fn live(self: &Arc<Self>) -> Result<Arc<Live>, RedisError> {
        let lost = |_| RedisError::Lost;
        loop {
            if let Some(live) = self.live.load_full() {
                return Ok(live);
            }
            let node = Arc::clone(self);
            let joined = self.flights.join((), move || async move { node.connect().await });
            joined.map_err(|_| RedisError::Lost)?.await.map_err(lost)??;
        }
    }

    async fn connect(&self) -> Result<(), RedisError> {
        match dial(&self.place, &self.of).await {
            Ok(live) => self.live.store(Some(Arc::new(live))),
            Err(error) => {
                tracing::debug!(server = ?self.place, %error, "no connection to Redis");
                return Err(RedisError::Connect(error.to_string().into()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("place", &self.place).field("trip", &self.trip).finish_non_exhaustive()
    }
}
