use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{flood::Allowance, vitals::Vitals};
use crate::transport::{
    drain::{Alarm, Phase, Watch},
    prefixed::Prefixed,
    tenure::Tenure,
};

/// Reads thrown away after our end is closed: bytes, and how many at a time.
const LINGER_BYTES: usize = 1 << 20;
const LINGER_CHUNK: usize = 2_048;

/// The IO of a served connection: it counts what passes, follows HTTP/2 frames, and closes without losing the last
/// answer. It outlives the connection in a tunnel, and so does what it holds.
pub(super) struct Guard<I> {
    io: Prefixed<I>,
    vitals: Arc<Vitals>,
    allowance: Option<Allowance>,
    tenure: Tenure,
    tunnel: Option<Tunnel>,
    ended: bool,
    /// How reading has ended, which is told when all that came before has been looked at.
    end: Option<io::Result<()>>,
    lingered: usize,
    _watches: [Watch; 2],
}

/// What ends a tunnel: the server, and what is known of its peer.
struct Tunnel {
    alarm: Alarm,
    /// `None`: it has come.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<I> Guard<I> {
    pub(super) fn new(io: Prefixed<I>, vitals: Arc<Vitals>, tenure: Tenure, watches: [Watch; 2]) -> Self {
        let allowance = vitals.is_h2.then(|| Allowance::new(Instant::now()));
        let (tunnel, ended, end, lingered) = (None, false, None, 0);
        Self { io, vitals, allowance, tenure, tunnel, ended, end, lingered, _watches: watches }
    }

    /// In a tunnel the connection's task is over, and whoever reads now is to be cut off by us.
    fn watch_tunnel(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.vitals.upgraded.load(Relaxed) {
            return Ok(());
        }
        let tunnel = self.tunnel.get_or_insert_with(|| Tunnel {
            alarm: Alarm::new(self.vitals.drain.clone()),
            cut: Some(Box::pin(self.tenure.cut())),
        });
        if tunnel.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            tunnel.cut = None;
        }
        match tunnel.alarm.poll(cx) {
            Phase::Serving | Phase::Draining if tunnel.cut.is_some() => Ok(()),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// hyper answers a head that becomes no request by itself, and closes: by the time it tells of the error, a bare status is
    /// written. It is kept from it, so that the answer is that of the [`Reason`](crate::reject::Reason).
    fn holds_back(&self) -> bool {
        let is_quiet = self.vitals.is_quiet();
        if is_quiet {
            self.vitals.held_back.store(true, Relaxed);
        }
        is_quiet
    }

    /// Whether an end comes with what was not looked at yet: h2, told of both at once, would not say which of the heads before
    /// it has refused, and would not give the requests among them to anybody.
    fn is_rash(&self, is_end: bool) -> bool {
        is_end && self.allowance.is_some() && !self.vitals.read_all.swap(true, Relaxed)
    }

    fn wrote(&mut self, result: &Poll<io::Result<usize>>) {
        match *result {
            Poll::Ready(Ok(bytes)) => {
                let bytes = self.allowance.as_mut().map_or(bytes, |allowance| allowance.sent(bytes));
                self.vitals.wrote.store(self.vitals.wrote.load(Relaxed).wrapping_add(bytes), Relaxed);
                self.vitals.blocked.store(false, Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.vitals.blocked.store(true, Relaxed),
        }
    }
}

/// Whether it begins a request for a head alone.
pub(super) fn is_head(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"HEAD ")
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_some() && !this.vitals.heard_out.load(Relaxed) {
            return Poll::Pending;
        }
        if let Some(end) = this.end.take() {
            this.ended = true;
            return Poll::Ready(end);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(end) if this.is_rash(end.is_err() || buf.filled().len() == before) => {
                this.end = Some(end);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(result) => result?,
            Poll::Pending => {
                this.watch_tunnel(cx)?;
                this.vitals.read_all.store(true, Relaxed);
                return Poll::Pending;
            }
        }
        let bytes = &buf.filled()[before..];
        this.ended |= bytes.is_empty();
        // What comes while a request is in flight may be its body.
        let begins = !this.vitals.has_partial_head() && this.vitals.in_flight.load(Relaxed) == 0;
        if this.allowance.is_none() && begins {
            this.vitals.asks_head.store(is_head(bytes), Relaxed);
        }
        this.vitals.read.store(this.vitals.read.load(Relaxed).wrapping_add(bytes.len()), Relaxed);
        if let Some(allowance) = &mut this.allowance {
            if this.vitals.read_all.load(Relaxed) {
                this.vitals.read_all.store(false, Relaxed);
                this.vitals.heard_out.store(false, Relaxed);
                allowance.forget_heads();
            }
            allowance.received(bytes, Instant::now).map_err(|flood| {
                this.vitals.flooded.store(true, Relaxed); // h2 hands the error on as a text
                io::Error::other(flood)
            })?;
            this.vitals.block_open.store(allowance.has_partial_head(), Relaxed);
            let (opened, largest) = allowance.heads();
            this.vitals.opened.store(opened, Relaxed);
            this.vitals.largest_head.store(largest, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.holds_back() {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.vitals.held_back.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.vitals.flushed();
        Poll::Ready(Ok(()))
    }

    /// Closes our end, then reads to the end of the peer's.
    ///
    /// A socket that is closed while bytes wait to be read resets the connection, and the peer may lose our last
    /// answer, such as the 431 to a head that we did not read to its end.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.vitals.held_back.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if !this.vitals.lingering.load(Relaxed) {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.vitals.lingering.store(true, Relaxed);
        }
        let mut scrap = [0; LINGER_CHUNK];
        while !this.ended && this.lingered < LINGER_BYTES && !this.vitals.lingered.load(Relaxed) {
            let mut buf = ReadBuf::new(&mut scrap);
            this.ended =
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)).is_err() || buf.filled().is_empty();
            this.lingered += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.holds_back() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<I> Drop for Guard<I> {
    fn drop(&mut self) {
        self.vitals.close_tunnel();
    }
}
