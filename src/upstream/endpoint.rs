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
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use super::{
    connect::{ConnectError, Connections, connect},
    options::Options,
    store::{Http1, Shared, Store, Stream, Waiting},
};
use crate::{body::Body, reject::Reason, time::after};

/// How long an endpoint that could not be reached comes last.
const REST: Duration = Duration::from_secs(1);
/// The largest head of a response, and the buffer it must fit in.
pub(super) const MAX_HEAD: u32 = 64 * 1024;
pub(super) const MAX_BUFFER: usize = 128 * 1024;

/// One address, and what is shared by all who send to it.
pub(super) struct Endpoint {
    address: SocketAddr,
    options: Arc<Options>,
    load: AtomicUsize,
    connections: Connections,
    store: Mutex<Store>,
    /// Who holds it makes the next HTTP/2 connection; the others wait for that one.
    turn: Semaphore,
    failed: Mutex<Failed>,
    born: Instant,
    /// Milliseconds after `born`; 0: it does not rest.
    rests_until: AtomicU64,
}

/// The tries at an HTTP/2 connection that failed.
struct Failed {
    times: u64,
    last: Reason,
}

/// A connection, or a part of one, for one request.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// How long it took to connect; `None`: it was there already.
    pub(super) connect: Option<Duration>,
}

pub(super) enum Connection {
    Http1(Http1),
    Http2(Stream),
}

/// One request in flight at an endpoint.
pub(super) struct Load(Arc<Endpoint>);

impl Endpoint {
    pub(super) fn new(address: SocketAddr, options: Arc<Options>) -> Self {
        Self {
            address,
            options,
            load: AtomicUsize::new(0),
            connections: Connections::default(),
            store: Mutex::default(),
            turn: Semaphore::new(1),
            failed: Mutex::new(Failed { times: 0, last: Reason::ConnectFailed }),
            born: Instant::now(),
            rests_until: AtomicU64::new(0),
        }
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

    pub(super) fn begin(self: &Arc<Self>) -> Load {
        self.load.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(self))
    }

    /// Whether it could not be reached a moment ago.
    pub(super) fn rests(&self) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        let rests = self.age() < until;
        if !rests {
            self.rests_until.store(0, Ordering::Relaxed); // so that the clock is not read again
        }
        rests
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
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
            Ok(_) => self.rests_until.store(0, Ordering::Relaxed),
            Err(error) if error.is_unreachable() => {
                let until = self.age().saturating_add(REST.as_millis() as u64);
                self.rests_until.store(until, Ordering::Relaxed);
            }
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
        Ok(Connection::Http1(Http1 { sender, heard, before: 0 }))
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
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let shared = Arc::new(Shared::new(sender, heard, connection.current_max_send_streams()));
        let weak = Arc::downgrade(&shared);
        tokio::spawn(poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            if let Some(shared) = weak.upgrade() {
                shared.allow(connection.current_max_send_streams());
            }
            ended
        }));
        Ok(shared)
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

/// Closes idle connections until none is left, or the endpoint is gone.
async fn sweep(endpoint: Weak<Endpoint>, first: Instant) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        let idle_http2 = endpoint.options.idle_timeout_http2;
        next = endpoint.store().sweep(Instant::now(), idle_http2);
    }
}

impl Connection {
    /// Sends, at once; a request that was not sent comes back in the error. If it is given up after `patience` on a
    /// connection on which nothing was heard, no other request is sent on that.
    pub(super) fn send(
        &mut self,
        request: http::Request<Body>,
        patience: Duration,
    ) -> impl Future<Output = Sent> + Send + use<> {
        match self {
            Self::Http1(connection) => {
                connection.before = connection.heard.so_far();
                Sending::Http1 { answer: connection.sender.try_send_request(request) }
            }
            Self::Http2(stream) => {
                let waiting = stream.watch(patience);
                Sending::Http2 { answer: stream.sender().try_send_request(request), _waiting: waiting }
            }
        }
    }
}

pub(super) type Sent = Result<http::Response<hyper::body::Incoming>, TrySendError<http::Request<Body>>>;

pin_project! {
    #[project = SendingProjection]
    enum Sending<A, B> {
        Http1 { #[pin] answer: A },
        Http2 { #[pin] answer: B, _waiting: Waiting },
    }
}

impl<A: Future<Output = Sent>, B: Future<Output = Sent>> Future for Sending<A, B> {
    type Output = Sent;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        match self.project() {
            SendingProjection::Http1 { answer } => answer.poll(cx),
            SendingProjection::Http2 { answer, .. } => answer.poll(cx),
        }
    }
}

impl Connection {
    /// It has said goodbye, or is gone: nobody else is to use it.
    pub(super) fn retire(&self) {
        if let Self::Http2(stream) = self {
            stream.retire();
        }
    }
}

impl Load {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("load", &self.load())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
