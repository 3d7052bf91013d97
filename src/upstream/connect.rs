//! One TCP connection to an endpoint.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::options::Options;
use crate::reject::{Reason, Rejection};

/// When a request that found all connections taken may come again.
pub(super) const BACK_SOON: Duration = Duration::from_secs(1);

/// What may come before the head of an answer is known, that head and what is read ahead of its body among it: of the smallest
/// interim answers some 20,000, where an honest server sends one or two.
const MAX_BEFORE_HEAD: u64 = 512 * 1024;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("all connections that are allowed are in use")]
    Full,
    #[error("this address must not be an upstream")]
    Refused,
    #[error("connecting took longer than allowed")]
    TimedOut,
    #[error("connecting failed")]
    Io(#[source] io::Error),
    #[error("the first words of HTTP failed")]
    Handshake(#[source] hyper::Error),
    #[error("the host's addresses are not known")]
    Lookup(#[source] io::Error),
    #[error("the host has no address")]
    NoAddress,
    #[error("there is no TLS here")]
    NoTls,
    #[cfg(feature = "tls")]
    #[error("the handshake of TLS failed")]
    Tls(#[source] io::Error),
    /// The outcome of somebody else's try, for which this request waited.
    #[error("connecting failed for another request")]
    Shared(Reason),
}

impl ConnectError {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Full => Reason::Overloaded,
            Self::Refused | Self::Lookup(_) | Self::NoAddress => Reason::NoEndpoint,
            Self::TimedOut => Reason::UpstreamTimeout,
            Self::Io(_) | Self::Handshake(_) | Self::NoTls => Reason::ConnectFailed,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Reason::ConnectFailed,
            Self::Shared(reason) => *reason,
        }
    }

    /// Whether this says that the endpoint cannot be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::TimedOut | Self::Io(_) | Self::Handshake(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }
}

impl From<ConnectError> for Rejection {
    fn from(error: ConnectError) -> Self {
        let reason = error.reason();
        let rejection = Self::new(reason).source(error).unsent();
        if reason == Reason::Overloaded { rejection.retry_after(BACK_SOON) } else { rejection }
    }
}

/// Counts what is open at one endpoint, and keeps it below a limit.
#[derive(Debug, Default, Clone)]
pub(super) struct Connections(Arc<AtomicUsize>);

impl Connections {
    pub(super) fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// `None`: there are `max` already.
    fn slot(&self, max: usize) -> Option<Slot> {
        let more = |open| (open < max).then_some(open + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Slot(self.clone()))
    }
}

/// One connection's place in the count.
struct Slot(Connections);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that keeps its place in the count until it is closed,
/// whoever owns it by then.
///
/// A peer may answer before it has read all, and close. Then writing fails while the answer is still to be read, and
/// hyper, told so, would not read it. So the failure is told when all has been read, unless its user [wants it
/// sooner](Self::impatient).
pub(super) struct Io {
    stream: TcpStream,
    read_out: bool,
    writer: Option<Waker>,
    _slot: Slot,
}

/// How much came back.
#[derive(Clone)]
pub(super) struct Heard(Arc<Count>);

struct Count {
    bytes: AtomicU64,
    most: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(Count { bytes: AtomicU64::new(0), most: AtomicU64::new(u64::MAX) }))
    }
}

impl Heard {
    /// Bytes, as of now, to compare with later.
    pub(super) fn so_far(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A head is awaited: not for ever, whatever comes before it.
    pub(super) fn await_head(&self) {
        self.0.most.store(self.so_far() + MAX_BEFORE_HEAD, Ordering::Relaxed);
    }

    /// It has come.
    pub(super) fn has_head(&self) {
        self.0.most.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) fn more(&self, bytes: usize) -> io::Result<()> {
        let so_far = self.so_far() + bytes as u64;
        self.0.bytes.store(so_far, Ordering::Relaxed);
        if so_far > self.0.most.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "interim answers without end"));
        }
        Ok(())
    }
}

pub(super) async fn connect(
    address: SocketAddr,
    connections: &Connections,
    options: &Options,
) -> Result<Io, ConnectError> {
    let slot = connections.slot(options.max_connections).ok_or(ConnectError::Full)?;
    let connected = timeout(options.connect_timeout, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Io)?;
    if options.not_endpoints().next().is_some() {
        let (local, peer) = (stream.local_addr(), stream.peer_addr());
        let refused = local.and_then(|local| peer.map(|peer| options.refuses_connection(local, peer)));
        if refused.map_err(ConnectError::Io)? {
            return Err(ConnectError::Refused);
        }
    }
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    Ok(Io { stream, read_out: false, writer: None, _slot: slot })
}

impl Io {
    pub(super) const fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// For who reads on after writing has failed: failures are told at once.
    pub(super) fn impatient(self) -> Self {
        Self { read_out: true, ..self }
    }

    fn wrote(&mut self, wrote: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if matches!(wrote, Poll::Ready(Err(_))) && !self.read_out {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wrote
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        let came = buf.filled().len() - before;
        if read.is_err() || came == 0 && buf.remaining() > 0 {
            this.read_out = true;
            if let Some(writer) = this.writer.take() {
                writer.wake();
            }
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(wrote, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
