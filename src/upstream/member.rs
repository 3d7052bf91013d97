//! One address of an upstream, with its connections and its load.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{
    ahead::Tried,
    availability::{Availability, RESTS, State, WARMS, Withheld},
    balance::Ewma,
    common::Common,
    connect::{ConnectError, Connections},
    guard::Guard,
    health,
    lease::{Connection, Lease},
    options::Options,
    outlier::Record,
    owner::Owner,
    store::{Http1, Store},
};
use crate::{outcome::Outcome, reject::Reason, time::after};

/// The largest head of a response, and the buffer it must fit in.
pub(super) const MAX_HEAD: u32 = 64 * 1024;
pub(super) const MAX_BUFFER: usize = 128 * 1024;

/// One address, and what is shared by all who send to it.
pub(super) struct Member {
    // What a pick looks at stands together.
    pub(super) state: State,
    load: AtomicUsize,
    ewma: Ewma,
    born: Instant,
    /// Milliseconds after `born`.
    rests_until: AtomicU64,
    /// Milliseconds after `born`.
    warms_since: AtomicU64,
    missed: AtomicU32,
    pub(super) address: SocketAddr,
    /// What its endpoint is called.
    pub(super) name: Arc<str>,
    pub(super) options: Arc<Options>,
    pub(super) common: Arc<Common>,
    guard: Guard,
    pub(super) connections: Connections,
    store: Mutex<Store>,
    /// Who holds it makes the next HTTP/2 connection; the others wait for that one.
    pub(super) turn: Semaphore,
    /// How many tries at an HTTP/2 connection have failed, and why the last did.
    pub(super) failed: Mutex<(u64, Reason)>,
    record: Record,
    health: health::State,
    ahead: Tried,
    owner: Owner,
}

impl Member {
    pub(super) fn new(
        address: SocketAddr,
        name: Arc<str>,
        options: Arc<Options>,
        common: Arc<Common>,
    ) -> Self {
        Self {
            state: State::default(),
            load: AtomicUsize::new(0),
            ewma: Ewma::default(),
            born: Instant::now(),
            rests_until: AtomicU64::new(0),
            warms_since: AtomicU64::new(0),
            missed: AtomicU32::new(0),
            address,
            name,
            options,
            common,
            guard: Guard::new(),
            connections: Connections::default(),
            store: Mutex::default(),
            turn: Semaphore::new(1),
            failed: Mutex::new((0, Reason::ConnectFailed)),
            record: Record::default(),
            health: health::State::default(),
            ahead: Tried::default(),
            owner: Owner::default(),
        }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its endpoint is called: a host, a colon and a port.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Requests in flight.
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Connections open.
    pub(super) fn open(&self) -> usize {
        self.connections.open()
    }

    /// Connections that wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.store().idle()
    }

    /// A request is in flight. If it `counts`, it is so at the upstream, too.
    pub(super) fn enter(&self, counts: bool) {
        self.load.fetch_add(1, Ordering::Relaxed);
        if counts {
            self.common.in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is no longer in flight.
    pub(super) fn leave(&self, counted: bool) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        if counted {
            self.common.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What became of one request, told exactly once, when its response's body has ended; one that nobody waited for is told
    /// as cancelled. `latency` is the time to the head of the response, or if none came to the end. It is told where
    /// somebody [listens](super::load::Interest).
    pub(super) fn ended(&self, outcome: &Outcome, latency: Duration, now: Instant) {
        self.ewma.ended(outcome, latency, self.age(now));
        self.record.count(outcome);
    }

    /// Its circuit breaker, if it has one.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// How long its answers take.
    pub(super) fn ewma(&self) -> &Ewma {
        &self.ewma
    }

    /// What became of its requests.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// What it says when it is asked.
    pub(super) fn health(&self) -> &health::State {
        &self.health
    }

    /// Whether it was connected to ahead of requests.
    pub(super) fn ahead(&self) -> &Tried {
        &self.ahead
    }

    /// Whether it takes requests.
    pub(super) fn availability(&self) -> Availability {
        self.state.availability()
    }

    /// All that may speak against it; mostly nothing.
    pub(super) fn state(&self) -> u8 {
        self.state.bits()
    }

    /// Gives a reason not to send requests to it, or takes it away. Who picks learns of it.
    pub(super) fn withhold(&self, why: Withheld, on: bool) {
        if self.state.set(why.bit(), on) {
            self.common.rung.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether it could not be reached a moment ago.
    pub(super) fn rests(&self) -> bool {
        if self.state.bits() & RESTS == 0 {
            return false;
        }
        let rests = self.age(Instant::now()) < self.rests_until.load(Ordering::Relaxed);
        if !rests {
            self.state.set(RESTS, false);
        }
        rests
    }

    /// It comes last for this time, unless it is reached before.
    pub(super) fn rest(&self, time: Duration) {
        let until = self.age(after(Instant::now(), time));
        self.rests_until.store(until, Ordering::Relaxed);
        self.state.set(RESTS, true);
    }

    /// How many requests have gone elsewhere since a connection to it did not come soon.
    pub(super) fn missed(&self) -> &AtomicU32 {
        &self.missed
    }

    /// From now on it is given more and more.
    pub(super) fn warm_up(&self) {
        self.warms_since.store(self.age(Instant::now()), Ordering::Relaxed);
        self.state.set(WARMS, true);
    }

    /// For how long it has been given more and more; that ends after `window`.
    pub(super) fn warms(&self, window: Duration) -> Option<Duration> {
        if self.state.bits() & WARMS == 0 {
            return None;
        }
        let since = self.warms_since.load(Ordering::Relaxed);
        let elapsed = Duration::from_millis(self.age(Instant::now()).saturating_sub(since));
        if elapsed >= window {
            self.state.set(WARMS, false);
            return None;
        }
        Some(elapsed)
    }

    /// Milliseconds for which it was there by `now`.
    pub(super) fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64
    }

    /// A connection that is there.
    pub(super) fn pooled(&self, http2: bool) -> Option<Lease> {
        let mut store = self.store();
        let connection = match http2 {
            true => Connection::Http2(store.take_stream()?),
            false => Connection::Http1(store.take_idle()?),
        };
        Some(Lease { connection, connect: None })
    }

    /// A connection that is there, or else a new one.
    pub(super) async fn lease(self: &Arc<Self>, http2: bool) -> Result<Lease, ConnectError> {
        match self.pooled(http2) {
            Some(lease) => Ok(lease),
            None => Box::pin(self.connect(http2)).await,
        }
    }

    /// A connection after one from the pool has failed: a new one, or with HTTP/2 another that is there.
    pub(super) async fn reconnect(self: &Arc<Self>, http2: bool) -> Result<Lease, ConnectError> {
        if http2 { self.lease(true).await } else { self.connect(false).await }
    }

    /// Keeps a connection whose exchange has ended well for the next request.
    pub(super) fn park(self: &Arc<Self>, connection: Http1, keep: Duration) {
        let until = after(Instant::now(), keep);
        let mut store = self.store();
        store.park(connection, until, self.options.max_idle);
        self.keep_swept(&mut store);
    }

    pub(super) fn keep_swept(self: &Arc<Self>, store: &mut Store) {
        if store.swept {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            store.swept = true;
            runtime.spawn(sweep(Arc::downgrade(self), after(Instant::now(), self.options.idle_timeout)));
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self) -> MutexGuard<'_, (u64, Reason)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections until none is left, or the member is gone.
async fn sweep(member: Weak<Member>, first: Instant) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(member) = member.upgrade() else { return };
        let idle_http2 = member.options.idle_timeout_http2;
        next = member.store().sweep(Instant::now(), idle_http2);
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("address", &self.address)
            .field("availability", &self.availability())
            .field("load", &self.load())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
