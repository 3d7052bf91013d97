use std::{
    fmt,
    future::{pending, poll_fn},
    io, mem,
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
    socket: Socket,
    address: io::Result<SocketAddr>,
    settings: ListenerBuilder,
    caps: Arc<Caps>,
    handshakes: JoinSet<Option<Io>>,
    shared: Arc<Shared>,
    pauses: Pauses,
    pause: Option<Pin<Box<Sleep>>>,
    reported: Option<Instant>,
}

enum Socket {
    Open(TcpListener),
    /// Asked without the runtime: it may not know yet of those that wait, and lets a task take no more than so many at a time. So
    /// many can wait: who comes faster than we take them does not keep it open.
    Closing(std::net::TcpListener, i32),
    Closed,
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
            socket: Socket::Open(socket),
            settings,
            caps,
            handshakes: JoinSet::new(),
            shared: Arc::default(),
            pauses: Pauses::default(),
            pause: None,
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
        use std::os::fd::AsFd;
        #[cfg(windows)]
        use std::os::windows::io::AsSocket;

        let Socket::Open(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        #[cfg(unix)]
        let socket = socket.as_fd().try_clone_to_owned()?;
        #[cfg(windows)]
        let socket = socket.as_socket().try_clone_to_owned()?;
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

    /// Takes what waits in the system's queue, then lets go of the address. Who has begun a handshake of TLS, or a PROXY protocol
    /// header, is waited for; who has said nothing yet has 2 s to, or the silence that a permissive listener
    /// allows.
    pub fn close(&mut self) {
        self.shared.closing.send_replace(true);
        self.socket = match mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Open(socket) => {
                self.pause = None;
                let most = self.settings.backlog;
                socket.into_std().map_or(Socket::Closed, |socket| Socket::Closing(socket, most))
            }
            closing => closing,
        };
    }

    /// As [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Io>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(io)))) => return Poll::Ready(Some(io)),
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) if matches!(self.socket, Socket::Closed) => return Poll::Ready(None),
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
        let accepted = match &mut self.socket {
            Socket::Open(socket) => ready!(socket.poll_accept(cx)),
            Socket::Closing(_, 0) => Err(io::ErrorKind::WouldBlock.into()),
            Socket::Closing(socket, most) => {
                *most -= 1;
                from_queue(socket)
            }
            Socket::Closed => return Poll::Pending,
        };
        match accepted {
            Ok((stream, peer)) => {
                self.pauses.accepted();
                let admitted = self.admit(stream, peer);
                return Poll::Ready(admitted.unwrap_or_else(|full| self.report(full, peer)));
            }
            // Of a socket that is open, the runtime waits for.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket = Socket::Closed,
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

/// The next that waits.
fn from_queue(socket: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = socket.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than a task may take before it lets others run, and none of which the runtime was told.
    #[tokio::test]
    async fn who_waits_when_it_closes_is_taken() {
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(futures_util::poll!(Box::pin(listener.next())).is_pending());
        let waiting: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        listener.close();
        let mut taken = 0;
        while listener.next().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, waiting.len());
        std::net::TcpStream::connect(address).unwrap_err();
    }
}
