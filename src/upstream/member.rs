//! One address of an upstream, with its connections and its load.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
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
    connect::{ConnectError, Connections, connect},
    guard::Guard,
    health,
    lease::{Connection, Lease},
    options::{KeepAlive, Options},
    outlier::Record,
    owner::Owner,
    store::{Ends, Http1, Shared, Store},
};
use crate::{outcome::Outcome, reject::Reason, time::after};

/// How long an endpoint that could not be reached, or not soon, comes last.
const REST: Duration = Duration::from_secs(1);
/// The largest head of a response, and the buffer it must fit in.
pub(super) const MAX_HEAD: u32 = 64 * 1024;
pub(super) const MAX_BUFFER: usize = 128 * 1024;

/// One address, and what is shared by all who send to it.
pub(super) struct Member {
    // What a pick looks at stands together.
    state: State,
    load: AtomicUsize,
    ewma: Ewma,
    born: Instant,
    /// Milliseconds after `born`.
    rests_until: AtomicU64,
    /// Milliseconds after `born`.
    warms_since: AtomicU64,
    address: SocketAddr,
    options: Arc<Options>,
    common: Arc<Common>,
    guard: Guard,
    connections: Connections,
    store: Mutex<Store>,
    /// Who holds it makes the next HTTP/2 connection; the others wait for that one.
    turn: Semaphore,
    failed: Mutex<Failed>,
    record: Record,
    health: health::State,
    ahead: Tried,
    owner: Owner,
}

/// The tries at an HTTP/2 connection that failed.
struct Failed {
    times: u64,
    last: Reason,
}

impl Member {
    pub(super) fn new(address: SocketAddr, options: Arc<Options>, common: Arc<Common>) -> Self {
        Self {
            state: State::default(),
            load: AtomicUsize::new(0),
            ewma: Ewma::default(),
            born: Instant::now(),
            rests_until: AtomicU64::new(0),
            warms_since: AtomicU64::new(0),
            address,
            options,
            common,
            guard: Guard::new(),
            connections: Connections::default(),
            store: Mutex::default(),
            turn: Semaphore::new(1),
            failed: Mutex::new(Failed { times: 0, last: Reason::ConnectFailed }),
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

    /// It comes last for a while.
    pub(super) fn rest(&self) {
        let until = self.age(Instant::now()) + REST.as_millis() as u64;
        self.rests_until.store(until, Ordering::Relaxed);
        self.state.set(RESTS, true);
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

    /// A new connection; with HTTP/2 also one that somebody else has just made.
    pub(super) async fn connect(self: &Arc<Self>, http2: bool) -> Result<Lease, ConnectError> {
        let started = Instant::now();
        let connected = if http2 { self.connect_http2().await } else { self.connect_http1().await };
        match &connected {
            Ok(_) => {
                self.state.set(RESTS, false);
            }
            Err(error) if error.is_unreachable() => self.rest(),
            Err(_) => {}
        }
        connected.map(|connection| Lease { connection, connect: Some(started.elapsed()) })
    }

    async fn connect_http1(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let io = connect(self.address, &self.connections, &self.options).await?;
        let heard = io.heard();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD as usize)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Connection::Http1(Http1 { sender, heard, before: 0, ends: self.ends() }))
    }

    async fn connect_http2(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let failures = self.failed().times;
        let turn = self.turn.acquire().await;
        if let Some(stream) = self.store().take_stream() {
            return Ok(Connection::Http2(stream));
        }
        {
            let failed = self.failed();
            if failed.times != failures {
                return Err(ConnectError::Shared(failed.last));
            }
        }
        let shared = self.handshake_http2().await.inspect_err(|error| {
            let mut failed = self.failed();
            failed.times += 1;
            failed.last = error.reason();
        })?;
        let stream = shared.stream();
        {
            let mut store = self.store();
            store.share(shared);
            self.keep_swept(&mut store);
        }
        drop(turn);
        stream.map(Connection::Http2).ok_or(ConnectError::Full)
    }

    async fn handshake_http2(&self) -> Result<Arc<Shared>, ConnectError> {
        let io = connect(self.address, &self.connections, &self.options).await?;
        let heard = io.heard();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(MAX_HEAD);
        if let Some(KeepAlive { interval, timeout }) = self.options.keep_alive {
            builder.timer(TokioTimer::new()).keep_alive_interval(interval).keep_alive_timeout(timeout);
        }
        let (sender, mut connection) =
            builder.handshake(TokioIo::new(io)).await.map_err(ConnectError::Handshake)?;
        let most = self.options.max_streams;
        let limit = connection.current_max_send_streams().min(most);
        let shared = Arc::new(Shared::new(sender, heard, limit, self.ends()));
        let weak = Arc::downgrade(&shared);
        tokio::spawn(poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            if let Some(shared) = weak.upgrade() {
                shared.allow(connection.current_max_send_streams().min(most));
            }
            ended
        }));
        Ok(shared)
    }

    /// When a connection that is made now is too old.
    fn ends(&self) -> Ends {
        let young = |age: Duration| age.saturating_sub(self.common.ages.up_to(age / 10));
        Ends(self.options.max_age.map(|age| after(Instant::now(), young(age))))
    }

    /// Keeps a connection whose exchange has ended well for the next request.
    pub(super) fn park(self: &Arc<Self>, connection: Http1, keep: Duration) {
        let until = after(Instant::now(), keep);
        let mut store = self.store();
        store.park(connection, until, self.options.max_idle);
        self.keep_swept(&mut store);
    }

    fn keep_swept(self: &Arc<Self>, store: &mut Store) {
        if store.swept {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            store.swept = true;
            runtime.spawn(sweep(Arc::downgrade(self), after(Instant::now(), self.options.idle_timeout)));
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
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
