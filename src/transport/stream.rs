//! Connections that carry something else than HTTP.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Drain, Io, Peer, Watch, prefixed::Prefixed, tenure::Tenure};
use crate::{io::write_through, race::race, tunnel::TunnelCut};

/// A connection that carries something else than HTTP, from its first byte on.
///
/// It is in flight, and in the caps of its [`Listener`](super::Listener), until it is dropped.
pub struct Stream {
    io: Prefixed<Io>,
    tenure: Tenure,
    drain: Drain,
    _watches: (Watch, Option<Watch>),
}

impl Stream {
    pub(super) fn new(ahead: Bytes, io: Io, tenure: Tenure, watches: (Watch, Option<Watch>)) -> Self {
        let drain = watches.0.drain().clone();
        Self { io: Prefixed::new(ahead, io), tenure, drain, _watches: watches }
    }

    /// Who is at its other end.
    #[must_use]
    pub const fn who(&self) -> &Peer {
        self.io.inner().who()
    }

    /// The address that was connected to, as [`Io::local_addr`].
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.inner().local_addr()
    }

    /// Tells when it must end: what drains is cut, its peer's certificate has expired, or is believed no longer.
    #[must_use]
    pub fn cut(&self) -> TunnelCut {
        TunnelCut::when(race(self.drain.cut_off(), self.tenure.cut()))
    }

    /// Lets go of it so that its peer sees that it has broken off, and does not take a part for the whole.
    pub fn reset(self) {
        self.io.inner().breaks_off();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

write_through!(Stream, io);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("who", self.who()).finish_non_exhaustive()
    }
}

/// What becomes of connections that carry something else than HTTP, and which those are. For
/// [`Server::serve_with`](super::Server::serve_with).
///
/// ```
/// use portcullis::transport::{Stream, Streams};
/// use tokio::io::{copy, split};
///
/// let echo = |stream: Stream| async move {
///     let (mut reader, mut writer) = split(stream);
///     let _ = copy(&mut reader, &mut writer).await;
/// };
/// let streams = Streams::detected(echo);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Streams<F> {
    pub(super) which: Which,
    pub(super) drain: Option<Drain>,
    pub(super) forward: F,
}

/// Which connections do not carry HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    None,
    All,
    /// It is told by their first bytes, which come in this time.
    Detected(Duration),
}

impl<F> Streams<F> {
    /// How long a peer may take to say what tells HTTP from the rest, unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// None: all connections carry HTTP.
    pub const fn none(forward: F) -> Self {
        Self { which: Which::None, drain: None, forward }
    }

    /// All connections.
    pub const fn all(forward: F) -> Self {
        Self { which: Which::All, drain: None, forward }
    }

    /// Those whose first bytes are not HTTP's, and those on which too little is said for [`PATIENCE`](Self::PATIENCE): whose
    /// server speaks first. HTTP/1 is told by a method of RFC 9110 (or PATCH), a space and a target that begins with `/`, `*` or
    /// `http`, else by a whole request line of 1,024 bytes at most; HTTP/2 by its preface; and both by what was agreed in TLS
    /// (ALPN).
    pub const fn detected(forward: F) -> Self {
        Self { which: Which::Detected(Self::PATIENCE), drain: None, forward }
    }

    /// How long they may take to say what tells them apart.
    pub const fn patience(mut self, patience: Duration) -> Self {
        if let Which::Detected(_) = self.which {
            self.which = Which::Detected(patience);
        }
        self
    }

    /// They are in flight here, and cut by this one, in place of the server's own: for connections that go on when their
    /// listener is replaced.
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.drain = Some(drain.clone());
        self
    }
}

impl<F> fmt::Debug for Streams<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("which", &self.which).finish_non_exhaustive()
    }
}
