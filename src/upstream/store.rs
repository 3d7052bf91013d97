//! The connections of one endpoint that wait for requests, or share themselves among several.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::{believed::Believed, connect::Heard};
use crate::{body::Body, time::after};

/// What an endpoint has open and can give to the next request.
#[derive(Default)]
pub(super) struct Store {
    /// HTTP/1, the longest unused first. What was used last is used next, so that a quiet pool shrinks.
    idle: VecDeque<Parked>,
    /// HTTP/2.
    shared: Vec<Arc<Shared>>,
    /// Whether a task is there that closes what is idle for too long.
    pub(super) swept: bool,
}

/// An HTTP/1 connection and its owner's right to send on it.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<Body>,
    pub(super) heard: Heard,
    /// What was heard when the last request was sent.
    pub(super) before: u64,
    pub(super) ends: Ends,
    pub(super) believed: Believed,
}

impl Http1 {
    /// Whether it is not for a further request.
    fn is_over(&self) -> bool {
        self.ends.has_come() || self.believed.is_lost()
    }
}

/// When a connection is too old for a further request; `None`: never.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends(pub(super) Option<Instant>);

impl Ends {
    /// After the shortest of these lives.
    pub(super) fn first(lives: [Option<Duration>; 2]) -> Self {
        Self(lives.into_iter().flatten().min().map(|life| after(Instant::now(), life)))
    }

    /// The clock is read only where there is an end.
    fn has_come(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }
}

struct Parked {
    connection: Http1,
    until: Instant,
}

impl Store {
    /// The idle HTTP/1 connection that was used last. Those that have closed go; those that are still sending the
    /// body of a request whose answer came early stay.
    pub(super) fn take_idle(&mut self) -> Option<Http1> {
        for at in (0..self.idle.len()).rev() {
            let connection = &self.idle[at].connection;
            let is_over = connection.is_over();
            if connection.sender.is_ready() && !is_over {
                return self.idle.remove(at).map(|parked| parked.connection);
            }
            if connection.sender.is_closed() || is_over {
                self.idle.remove(at);
            }
        }
        None
    }

    /// Keeps an HTTP/1 connection for the next request; the longest unused goes if there are more than `max`.
    pub(super) fn park(&mut self, connection: Http1, until: Instant, max: usize) {
        if max == 0 || connection.sender.is_closed() || connection.is_over() {
            return;
        }
        if self.idle.len() >= max {
            self.idle.pop_front();
        }
        self.idle.push_back(Parked { connection, until });
    }

    /// A stream on the first HTTP/2 connection that has one left.
    pub(super) fn take_stream(&mut self) -> Option<Stream> {
        self.shared.retain(|shared| !shared.is_over());
        self.shared.iter().find_map(Shared::stream)
    }

    pub(super) fn share(&mut self, shared: Arc<Shared>) {
        self.shared.push(shared);
    }

    /// Closes what is idle for too long and tells when to look again; `None` if nothing is left.
    pub(super) fn sweep(&mut self, now: Instant, idle_http2: Duration) -> Option<Instant> {
        self.idle.retain(|parked| {
            let connection = &parked.connection;
            parked.until > now && !connection.sender.is_closed() && !connection.believed.is_lost()
        });
        self.shared
            .retain(|shared| !shared.is_over() && shared.idle_until(idle_http2).is_none_or(|at| at > now));
        let idle = self.idle.iter().map(|parked| parked.until);
        let shared = self
            .shared
            .iter()
            .map(|shared| shared.idle_until(idle_http2).unwrap_or_else(|| after(now, idle_http2)));
        let next = idle.chain(shared).min();
        self.swept = next.is_some();
        next
    }

    /// How many connections wait for a request.
    pub(super) fn idle(&self) -> usize {
        self.idle.iter().filter(|parked| !parked.connection.sender.is_closed()).count()
    }
}

/// An HTTP/2 connection, shared by its streams.
pub(super) struct Shared {
    sender: http2::SendRequest<Body>,
    heard: Heard,
    streams: AtomicUsize,
    limit: AtomicUsize,
    ends: Ends,
    believed: Believed,
    retired: AtomicBool,
    used: Mutex<Instant>,
}

impl Shared {
    pub(super) fn new(
        sender: http2::SendRequest<Body>,
        heard: Heard,
        limit: usize,
        (ends, believed): (Ends, Believed),
    ) -> Self {
        Self {
            sender,
            heard,
            streams: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            ends,
            believed,
            retired: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
        }
    }

    /// What the peer and we allow by now (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub(super) fn allow(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// No new streams: the peer has said goodbye.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
            || self.sender.is_closed()
            || self.ends.has_come()
            || self.believed.is_lost()
    }

    pub(super) fn stream(self: &Arc<Self>) -> Option<Stream> {
        let limit = self.limit.load(Ordering::Relaxed).max(1);
        let more = |streams| (streams < limit).then_some(streams + 1);
        self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Stream(Arc::clone(self)))
    }

    /// When it has been idle for `keep`; `None` while it has streams.
    fn idle_until(&self, keep: Duration) -> Option<Instant> {
        let idle = self.streams.load(Ordering::Relaxed) == 0;
        idle.then(|| after(*self.used.lock().unwrap_or_else(PoisonError::into_inner), keep))
    }
}

/// One request's place on an HTTP/2 connection.
pub(super) struct Stream(Arc<Shared>);

impl Stream {
    pub(super) fn sender(&self) -> http2::SendRequest<Body> {
        self.0.sender.clone()
    }

    pub(super) fn retire(&self) {
        self.0.retire();
    }

    /// Watches the connection while a request waits for its answer, and retires it if the request is given up after
    /// `patience` and nothing at all has come by then: its peer may be gone without a word.
    pub(super) fn watch(&self, patience: Duration) -> Waiting {
        Waiting {
            shared: Arc::clone(&self.0),
            before: self.0.heard.so_far(),
            since: Instant::now(),
            patience,
        }
    }
}

/// A request that waits for its answer on a shared connection.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    before: u64,
    since: Instant,
    patience: Duration,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.shared.heard.so_far() == self.before && self.since.elapsed() >= self.patience {
            self.shared.retire();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}
