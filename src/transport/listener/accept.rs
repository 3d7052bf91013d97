use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, Sleep, sleep},
};

use super::{
    ListenerBuilder,
    caps::{Caps, Full},
    handshake::{Handshake, Shared},
    observer::Observer,
    pauses::Pauses,
};
use crate::transport::Io;

/// How many PROXY protocol headers are read at a time. While there are as many, nothing is accepted: it is our own proxies that
/// hold back. Handshakes of TLS are strangers', who must not keep others out: the caps of connections bound them.
const MAX_HEADERS: usize = 512;

/// How often a full listener says so.
const REPORT: Duration = Duration::from_secs(1);

/// Accepts TCP connections: bounded in number, by total and by address, with the PROXY protocol where it is trusted.
///
/// See the [module docs](crate::transport).
pub struct Listener {
    socket: Option<TcpListener>,
    address: io::Result<SocketAddr>,
    settings: ListenerBuilder,
    caps: Arc<Caps>,
    handshakes: JoinSet<Option<Io>>,
    shared: Arc<Shared>,
    pauses: Pauses,
    pause: Option<Pin<Box<Sleep>>>,
    closing: bool,
    reported: Option<Instant>,
}

impl Listener {
    /// Binds to `address` with the defaults, in the runtime that this is called in.
    ///
    /// # Errors
    /// As [`ListenerBuilder::bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::builder().bind(address)
    }

    /// To bind with other settings.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder::default()
    }

    pub(in crate::transport) fn observer(&self) -> Observer {
        self.settings.observer.clone()
    }

    pub(super) fn new(socket: TcpListener, caps: Arc<Caps>, settings: ListenerBuilder) -> Self {
        Self {
            address: socket.local_addr(),
            socket: Some(socket),
            settings,
            caps,
            handshakes: JoinSet::new(),
            shared: Arc::default(),
            pauses: Pauses::default(),
            pause: None,
            closing: false,
            reported: None,
        }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| error.kind().into())
    }

    /// A second listener for the same socket, with other settings: for a reload that changes settings and keeps the
    /// address. Connections wait in one queue, from which both take, so none is refused while one replaces the other.
    ///
    /// # Errors
    /// Those of the system, and if this listener was [closed](Self::close).
    pub fn reopen(&self, settings: ListenerBuilder) -> io::Result<Self> {
        #[cfg(unix)]
        use std::os::fd::AsFd as Socket;
        #[cfg(windows)]
        use std::os::windows::io::AsSocket as Socket;

        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        #[cfg(unix)]
        let socket = Socket::as_fd(socket).try_clone_to_owned()?;
        #[cfg(windows)]
        let socket = Socket::as_socket(socket).try_clone_to_owned()?;
        settings.from_std(socket.into())
    }

    /// The next connection. Never fails: errors are logged, and waited out where they last.
    ///
    /// It can be dropped and called again; nothing is lost. After [`close`](Self::close) and the last connection it
    /// never resolves.
    pub async fn accept(&mut self) -> Io {
        match self.next().await {
            Some(io) => io,
            None => pending().await,
        }
    }

    /// The next connection, `None` after [`close`](Self::close) and the last one.
    pub async fn next(&mut self) -> Option<Io> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Takes what waits in the system's queue, then lets go of the address.
    pub fn close(&mut self) {
        self.closing = true;
        self.pause = None;
    }

    /// As [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Io>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(io)))) => return Poll::Ready(Some(io)),
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) if self.socket.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => {}
            }
            // One is ours.
            if Arc::strong_count(&self.shared.headers) > MAX_HEADERS {
                return Poll::Pending;
            }
            if let Some(io) = ready!(self.poll_socket(cx)) {
                return Poll::Ready(Some(io));
            }
        }
    }

    /// Takes one step: `Ready(None)` asks for another.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Option<Io>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let Some(socket) = &self.socket else { return Poll::Pending };
        let accepted = match socket.poll_accept(cx) {
            Poll::Pending if self.closing => {
                self.socket = None;
                return Poll::Ready(None);
            }
            accepted => ready!(accepted),
        };
        match accepted {
            Ok((stream, peer)) => {
                self.pauses.accepted();
                let admitted = self.admit(stream, peer);
                return Poll::Ready(admitted.unwrap_or_else(|full| self.report(full, peer)));
            }
            Err(error) if self.closing => {
                tracing::warn!(%error, "accept failed while closing");
                self.socket = None;
            }
            Err(error) => match self.pauses.failed(&error) {
                Some(pause) => {
                    tracing::warn!(%error, ?pause, "accept failed");
                    self.pause = Some(Box::pin(sleep(pause)));
                }
                None => tracing::debug!(%error, "a connection was lost before it was accepted"),
            },
        }
        Poll::Ready(None)
    }

    /// `Ok(None)`: something has to be said before HTTP.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Result<Option<Io>, Full> {
        #[cfg(not(target_os = "linux"))]
        let _ = stream.set_nodelay(true);
        let slot = self.caps.enter()?;
        let handshake = Handshake::new(peer, slot, self.settings.clone(), &self.shared);
        if handshake.is_short() {
            return handshake.begin(stream).map(Some);
        }
        self.handshakes.spawn(handshake.run(stream));
        Ok(None)
    }

    /// The connection is closed already.
    fn report(&mut self, full: Full, peer: SocketAddr) -> Option<Io> {
        if self.reported.is_none_or(|last| last.elapsed() >= REPORT) {
            self.reported = Some(Instant::now());
            tracing::warn!(%peer, cap = full.label(), "connection refused: the cap is reached");
        }
        None
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
