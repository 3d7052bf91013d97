//! One server, with its connection and its breaker.

use std::{
    fmt, iter,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout_at};

use super::{
    RedisBuilder, RedisError,
    dial::{Live, Place, dial},
    pace::Pace,
    patience::Until,
};
use crate::{
    backoff::{Backoff, Jitter},
    flight::Flights,
    trip::{Entry, Policy, State, Trip},
};

/// How long it is waited for a server of which it is not known that it serves, until others may try, at least.
const PROBE: Duration = Duration::from_millis(250);

/// Of those who come while it is looked whether it serves again, one in this time looks too.
const TRIES: Duration = Duration::from_millis(20);

/// A server, or the master that Sentinels know.
pub(super) struct Node {
    pub(super) place: Place,
    of: Arc<RedisBuilder>,
    trip: Trip,
    live: ArcSwapOption<Live>,
    flights: Flights<(), Result<(), RedisError>>,
    /// Whether it was said that it does not serve.
    is_lost: AtomicBool,
    /// How long the answer took that showed last that it serves, in microseconds.
    took: AtomicU64,
    tries: Pace,
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
            took: AtomicU64::new(0),
            tries: Pace::new(TRIES),
        })
    }

    /// Does `work` with the connection in time, unless the breaker is open. Connecting is part of it.
    ///
    /// Who finds out whether the server serves again keeps the others waiting, so after a while they may try too; but it
    /// goes on until its own deadline. If it comes to an answer, the server is slow, and whoever tries next has as long.
    pub(super) async fn exchange<T>(
        self: &Arc<Self>,
        until: Until,
        work: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Fault> {
        let began = Instant::now();
        let first = self.trip.enter(began).map_err(|open| Fault::Ours(open.into()))?;
        let others = (1..until.askers).map_while(|_| self.trip.enter(began).ok());
        let entries: Vec<_> = iter::once(first).chain(others).collect();
        let is_probe = self.state() != State::Closed;
        let turn = if is_probe { until.at.min(began + self.patience()) } else { until.at };
        let used = OnceLock::new();
        let mut work = pin!(async {
            let live = self.live().await.map_err(Fault::Ours)?;
            let connection = live.connection.clone();
            _ = used.set(live);
            work(connection).await.map_err(Fault::Theirs)
        });
        let done = timeout_at(turn, work.as_mut()).await;
        let late = || Fault::Ours(RedisError::Late(until.deadline));
        let is_late = done.is_err();
        let done = done.unwrap_or_else(|_| Err(late()));
        self.judge(entries, done.as_ref().err().map(Fault::told).as_ref(), used.get());
        let serves = |done: &Result<T, Fault>| !done.as_ref().is_err_and(|fault| fault.told().is_outage());
        if !is_late {
            if is_probe && serves(&done) {
                self.took.store(micros(began.elapsed()), Relaxed);
            }
            return done;
        }
        // Who has sent nothing need not wait for what becomes of it.
        let last = if used.get().is_some() { until.last } else { until.at };
        let done = timeout_at(last, work).await.unwrap_or_else(|_| Err(late()));
        if is_probe && serves(&done) && Instant::now() <= until.at {
            self.took.store(micros(began.elapsed()), Relaxed);
        }
        done
    }

    /// How long others wait for what one finds out.
    fn patience(&self) -> Duration {
        PROBE.max(Duration::from_micros(self.took.load(Relaxed)) * 2)
    }

    /// What the error, if it is one, says of the server, to each who has asked, and of the connection.
    fn judge(&self, entries: Vec<Entry>, error: Option<&RedisError>, used: Option<&Arc<Live>>) {
        let now = Instant::now();
        for entry in entries {
            match error {
                Some(error) if error.is_outage() => entry.failure(now),
                Some(error) if error.is_of_script() => drop(entry),
                _ => entry.success(now),
            }
        }
        self.tell(error);
        if let (Some(error), Some(used)) = (error, used)
            && error.is_of_connection()
        {
            // Unless another has taken its place already. Those who wait for an answer keep it until it comes.
            self.live.compare_and_swap(used, None);
        }
    }

    pub(super) fn state(&self) -> State {
        self.trip.state(Instant::now())
    }

    /// Whether whoever asks now may find out that it serves again: one of many who come at once.
    pub(super) fn is_tried(&self) -> bool {
        self.state() == State::HalfOpen && self.tries.lets()
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("place", &self.place).field("trip", &self.trip).finish_non_exhaustive()
    }
}
