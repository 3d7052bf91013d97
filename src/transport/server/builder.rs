use std::{fmt, sync::Arc, time::Duration};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;

use super::rate::{MinimumRate, Rates};
use crate::transport::Drain;

/// Serves HTTP/1.1 and HTTP/2 (with prior knowledge) on connections, within limits.
///
/// Cheap to clone. See the [module docs](crate::transport).
#[derive(Clone)]
#[must_use]
pub struct Server {
    pub(super) limits: Arc<Limits>,
    pub(super) drain: Drain,
}

#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) head_bytes: u32,
    pub(super) head_fields: usize,
    pub(super) head_timeout: Duration,
    pub(super) body_idle: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) drain_idle: Duration,
    pub(super) max_age: Option<Duration>,
    pub(super) streams: u32,
    pub(super) rates: Rates,
}

impl Default for Server {
    fn default() -> Self {
        let limits = Limits {
            head_bytes: 64 << 10,
            head_fields: 100,
            head_timeout: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(1),
            drain_idle: Duration::from_millis(500),
            max_age: None,
            streams: 100,
            rates: Rates::default(),
        };
        Self { limits: Arc::new(limits), drain: Drain::new() }
    }
}

impl Server {
    /// A server with the defaults, and a drain handle that nobody starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends when this handle says so.
    pub fn drain(self, drain: &Drain) -> Self {
        Self { drain: drain.clone(), ..self }
    }

    /// The size of a request's head, in bytes: start line and fields. 64 KiB unless told. Above: 431.
    ///
    /// For HTTP/2 it is the size of RFC 9113 section 6.5.2, which adds 32 bytes to each field. Clients are told twice as much, so
    /// that who sends a little too much is answered as the [table](crate::reject::Reason) says. Who sends more than that gets a
    /// bare 431. The connection is closed if its compressed head is beyond 8 times as much, or comes with more frames than a head
    /// of twice the limit needs. Heads that come after we have said `GOAWAY` are neither counted nor told.
    pub fn max_head_bytes(self, bytes: u32) -> Self {
        self.with(|limits| limits.head_bytes = bytes)
    }

    /// The number of fields of a request's head. 100 unless told. Above: 431.
    pub fn max_head_fields(self, fields: usize) -> Self {
        self.with(|limits| limits.head_fields = fields)
    }

    /// How long a head may take, from its first byte, or from the start of the connection. 10 s unless told. Then:
    /// 408 to an HTTP/1 client that has sent a part of a head, and close. One that comes slower than
    /// [`min_head_rate`](Self::min_head_rate) does not get as much.
    pub fn head_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.head_timeout = timeout)
    }

    /// How long we wait for the next piece of a request's body. 60 s unless told. Then the body fails with
    /// [`Reason::RequestTimeout`](crate::reject::Reason::RequestTimeout).
    pub fn body_idle_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.body_idle = timeout)
    }

    /// How long a connection may be without a request. 120 s unless told. Pings do not count.
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.idle_timeout = timeout)
    }

    /// How long a peer may leave all that we have for it unread. 60 s unless told. It is looked at as often as the grace of
    /// the [minimum rate](Self::min_response_rate), or once in that time, so that it may take longer by as much. Then the
    /// connection is dropped.
    pub fn write_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.write_timeout = timeout)
    }

    /// How long we wait for the peer to close after we have. 1 s unless told; over HTTP/2 5 s at least, since a request may be on its way
    /// from who has not heard of it yet.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.close_timeout = timeout)
    }

    /// How long an HTTP/1 connection that is between requests is kept when draining begins, for a request that may be
    /// on its way. 500 ms unless told. That request's answer says `Connection: close`.
    pub fn drain_idle_timeout(self, timeout: Duration) -> Self {
        self.with(|limits| limits.drain_idle = timeout)
    }

    /// The age at which a connection is closed as gracefully as when draining. Unlimited unless told. Behind a load
    /// balancer that picks a server for each connection, an age spreads long-lived clients over new servers.
    pub fn max_connection_age(self, age: Option<Duration>) -> Self {
        self.with(|limits| limits.max_age = age)
    }

    /// How fast a head must come at least, from its first byte on, beside [`head_timeout`](Self::head_timeout).
    /// [`MinimumRate::default`] unless told; `None`: as slowly as it likes. Else: as when the timeout is over.
    pub fn min_head_rate(self, rate: impl Into<Option<MinimumRate>>) -> Self {
        let rate = rate.into();
        self.with(|limits| limits.rates.head = rate)
    }

    /// How fast a request's body must come at least while somebody asks for more of it, beside
    /// [`body_idle_timeout`](Self::body_idle_timeout). [`MinimumRate::default`] unless told; `None`: as slowly as it likes.
    /// The streams of gRPC over HTTP/2 may be silent. Else the body fails with
    /// [`Reason::RequestTimeout`](crate::reject::Reason::RequestTimeout).
    pub fn min_body_rate(self, rate: impl Into<Option<MinimumRate>>) -> Self {
        let rate = rate.into();
        self.with(|limits| limits.rates.body = rate)
    }

    /// How fast a peer must read what we have for it at least, beside [`write_timeout`](Self::write_timeout). What the
    /// system holds for it counts as read. [`MinimumRate::default`] unless told; `None`: as slowly as it likes. Else the
    /// connection is dropped.
    pub fn min_response_rate(self, rate: impl Into<Option<MinimumRate>>) -> Self {
        let rate = rate.into();
        self.with(|limits| limits.rates.response = rate)
    }

    #[cfg(feature = "stack")]
    pub(crate) fn rates(self, rates: Rates) -> Self {
        self.with(|limits| limits.rates = rates)
    }

    /// How many streams an HTTP/2 connection may have open. 100 unless told.
    pub fn max_streams(self, streams: u32) -> Self {
        self.with(|limits| limits.streams = streams)
    }

    fn with(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(Arc::make_mut(&mut self.limits));
        self
    }
}

impl Limits {
    pub(super) fn http1(&self) -> http1::Builder {
        let head = self.head_bytes as usize;
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(None) // `Pulse` does it, and tells an idle connection from a slow head
            .max_header_size(head)
            .max_buf_size(head.max(BUFFER));
        if self.head_fields != HYPER_FIELDS {
            http1.max_headers(self.head_fields); // costs an allocation
        }
        http1
    }

    pub(super) fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .max_concurrent_streams(self.streams)
            // Up to here it is we who refuse, with an answer of ours; beyond it is h2.
            .max_header_list_size(self.head_bytes.saturating_mul(2))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER);
        http2
    }
}

/// What hyper allows without being told.
const HYPER_FIELDS: usize = 100;
/// Read or written ahead, for a connection (HTTP/1) or a stream (HTTP/2).
const BUFFER: usize = 64 << 10;
/// What a peer may send ahead of the handler.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).field("drain", &self.drain).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the docs promise, and tests of other limits do not see.
    #[test]
    fn the_defaults_are_those_of_the_docs() {
        let seconds = Duration::from_secs;
        let limits = &*Server::new().limits;
        assert_eq!((limits.head_bytes, limits.head_fields, limits.streams), (65_536, 100, 100));
        assert_eq!((limits.head_timeout, limits.body_idle), (seconds(10), seconds(60)));
        assert_eq!((limits.idle_timeout, limits.write_timeout), (seconds(120), seconds(60)));
        assert_eq!((limits.close_timeout, limits.drain_idle), (seconds(1), Duration::from_millis(500)));
        assert_eq!((limits.max_age, limits.rates), (None, Rates::default()));
    }
}
