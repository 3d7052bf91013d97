//! How an endpoint is connected to.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Instant;

use super::{
    availability::RESTS,
    believed::Believed,
    connect::ConnectError,
    lease::{Connection, Lease},
    link::{Line, Link, Term, bare, line},
    member::{MAX_BUFFER, MAX_HEAD, Member},
    options::KeepAlive,
    store::{Ends, Http1, Shared},
};

/// How long an endpoint that could not be reached comes last.
const REST: Duration = Duration::from_secs(1);

impl Member {
    /// A new connection; with HTTP/2 also one that somebody else has just made.
    pub(super) async fn connect(self: &Arc<Self>, http2: bool) -> Result<Lease, ConnectError> {
        let started = Instant::now();
        let connected = if http2 { self.connect_http2().await } else { self.connect_http1().await };
        let connection = self.noted(connected)?;
        Ok(Lease { connection, connect: Some(started.elapsed()) })
    }

    /// A new connection for something else than HTTP.
    pub(super) async fn connect_raw(&self) -> Result<(Link, Term), ConnectError> {
        self.noted(bare((self.address, &self.name), &self.connections, &self.options).await)
    }

    /// Who cannot be reached comes last for a while.
    fn noted<T>(&self, connected: Result<T, ConnectError>) -> Result<T, ConnectError> {
        match &connected {
            Ok(_) => {
                self.state.set(RESTS, false);
            }
            Err(error) if error.is_unreachable() => self.rest(REST),
            Err(_) => {}
        }
        connected
    }

    async fn connect_http1(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let (io, until, believed) = self.line(false).await?;
        let heard = io.heard();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD as usize)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        tokio::spawn(believed.clone().drive(connection.with_upgrades()));
        Ok(Connection::Http1(Http1 { sender, heard, before: 0, ends: self.ends(until), believed }))
    }

    /// A new connection for this version of HTTP, until when the server's certificate is valid, and whether it is believed.
    async fn line(&self, http2: bool) -> Result<(Line, Option<SystemTime>, Believed), ConnectError> {
        line((self.address, &self.name), http2, &self.connections, &self.options).await
    }

    async fn connect_http2(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let failures = self.failed().0;
        let turn = self.turn.acquire().await;
        if let Some(stream) = self.store().take_stream() {
            return Ok(Connection::Http2(stream));
        }
        let (times, last) = *self.failed();
        if times != failures {
            return Err(ConnectError::Shared(last));
        }
        let shared = self.handshake_http2().await.inspect_err(|error| {
            let mut failed = self.failed();
            *failed = (failed.0 + 1, error.reason());
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
        let (io, until, believed) = self.line(true).await?;
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
        let shared = Arc::new(Shared::new(sender, heard, limit, (self.ends(until), believed.clone())));
        let weak = Arc::downgrade(&shared);
        tokio::spawn(believed.drive(poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            if let Some(shared) = weak.upgrade() {
                shared.allow(connection.current_max_send_streams().min(most));
            }
            ended
        })));
        Ok(shared)
    }

    /// When a connection that is made now is too old.
    fn ends(&self, until: Option<SystemTime>) -> Ends {
        let young = |age: Duration| age.saturating_sub(self.common.ages.up_to(age / 10));
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        Ends::first([self.options.max_age.map(young), until.map(left)])
    }
}
