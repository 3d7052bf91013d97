#[cfg(feature = "tls")]
use std::time::Duration;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "tls")]
use tokio::{io::AsyncReadExt, time::timeout};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    listener::Slot, peer::Peer, prefixed::Prefixed, proxy_protocol::ProxyHeader, tenure::Tenure,
    transparent::original_destination,
};
use crate::{identity::PeerAddr, io::Link};

/// A socket, and what was read of it ahead.
pub(super) type Plain = Prefixed<TcpStream>;
#[cfg(feature = "tls")]
use super::term::Term;
#[cfg(feature = "tls")]
type Secured = tokio_rustls::server::TlsStream<Plain>;
#[cfg(not(feature = "tls"))]
type Secured = Plain;

/// The halves of a connection: tasks of their own may have them.
const READS: usize = 0;
const WRITES: usize = 1;

/// A connection that a [`Listener`](super::Listener) accepted.
///
/// It counts against the listener's caps until it is dropped. Reads and writes fail once the certificate of its peer has
/// [expired](super#certificates-that-expire), or its peer is not believed any more.
#[derive(Debug)]
pub struct Io {
    stream: Link<Plain, Secured>,
    socket_peer: SocketAddr,
    told: Option<ProxyHeader>,
    peer: Peer,
    #[cfg(feature = "tls")]
    standing: Option<crate::tls::Standing>,
    #[cfg(feature = "tls")]
    term: Term,
    silent: bool,
    _slot: Slot,
}

impl Io {
    pub(super) fn new(
        stream: Plain,
        socket_peer: SocketAddr,
        slot: Slot,
        told: Option<ProxyHeader>,
        captured_at: Option<SocketAddr>,
    ) -> Self {
        let address = told.and_then(|header| header.source).unwrap_or(socket_peer);
        let destination = captured_at.and_then(|own| original_destination(stream.inner(), own));
        let peer = Peer { destination, ..Peer::from(PeerAddr::new(address)) };
        Self {
            stream: Link::Plain(stream),
            socket_peer,
            told,
            peer,
            #[cfg(feature = "tls")]
            standing: None,
            #[cfg(feature = "tls")]
            term: Term::default(),
            silent: false,
            _slot: slot,
        }
    }

    /// The same, within TLS: after the handshake.
    #[cfg(feature = "tls")]
    pub(super) async fn within(self, tls: &crate::tls::ServerTls) -> io::Result<Self> {
        let Link::Plain(stream) = self.stream else { return Err(io::ErrorKind::AlreadyExists.into()) };
        let (stream, identity, session, standing) = tls.accept(stream).await?;
        let term = if identity.is_some() { Term::Bounded } else { Term::Open };
        let peer = Peer { identity, tls: Some(session), ..self.peer };
        Ok(Self { stream: Link::Tls(Box::new(stream)), peer, standing, term, ..self })
    }

    /// Whether HTTP was agreed upon in the handshake of TLS (ALPN).
    pub(super) fn has_agreed_on_http(&self) -> bool {
        match &self.stream {
            #[cfg(feature = "tls")]
            Link::Tls(stream) => stream.get_ref().1.alpn_protocol().is_some(),
            _ => false,
        }
    }

    /// Its peer is to see that it has broken off, when it is dropped.
    pub(super) fn breaks_off(&self) {
        // It fails if it has broken off already.
        let _ = self.socket().set_zero_linger();
    }

    /// How long the connection may last, for who sees to its end from now on.
    pub(super) fn tenure(&mut self) -> Tenure {
        #[cfg(feature = "tls")]
        {
            self.term = Term::Open;
        }
        Tenure {
            #[cfg(feature = "tls")]
            standing: self.standing.take(),
            ..Tenure::of(&self.peer)
        }
    }

    /// Fails once the connection is over, unless somebody else sees to its end.
    #[cfg(feature = "tls")]
    fn go_on(&mut self, cx: &mut Context<'_>, half: usize) -> io::Result<()> {
        if let Term::Open = self.term {
            return Ok(());
        }
        let tenure = || Tenure { standing: self.standing.take(), ..Tenure::of(&self.peer) };
        if self.term.ends(cx, half, tenure) {
            tracing::debug!(peer = %self.peer(), "connection cut: its certificate has expired, or is not believed any more");
            // The peer is told, whatever becomes of this. It fails if the connection has broken off.
            let _ = socket2::SockRef::from(self.socket()).shutdown(std::net::Shutdown::Both);
        }
        self.term.check()
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "nothing ends without TLS")]
    fn go_on(&mut self, _: &mut Context<'_>, _: usize) -> io::Result<()> {
        Ok(())
    }

    /// Waits for the first byte, and tells whether it begins a handshake of TLS (RFC 8446 section 5.1). Who says nothing for so long
    /// begins none, if that is so.
    #[cfg(feature = "tls")]
    pub(super) async fn sniffed(mut self, silence: Option<Duration>) -> io::Result<(Self, bool)> {
        let Link::Plain(stream) = &mut self.stream else { return Err(io::ErrorKind::AlreadyExists.into()) };
        let mut first = [0];
        let read = stream.read(&mut first);
        let read = match silence {
            None => read.await?,
            // It has read nothing, if it is late.
            Some(silence) => match timeout(silence, read).await {
                Ok(read) => read?,
                Err(_) => return Ok((Self { silent: true, ..self }, false)),
            },
        };
        match read {
            // Who has nothing to say may be told something.
            0 if silence.is_some() => return Ok((self, false)),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => stream.put_back(first[0]),
        }
        Ok((self, first == [0x16]))
    }

    /// Whether its peer has said nothing for as long as those have who wait for the other side to speak.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// Who opened the connection: what the PROXY protocol told, else the other end of the socket.
    #[must_use]
    pub const fn peer(&self) -> PeerAddr {
        self.peer.address()
    }

    /// The same, and what TLS has told of it.
    #[must_use]
    pub const fn who(&self) -> &Peer {
        &self.peer
    }

    /// The other end of the socket, whatever the PROXY protocol told.
    #[must_use]
    pub const fn socket_peer(&self) -> SocketAddr {
        self.socket_peer
    }

    /// The address that was connected to: what the PROXY protocol told, else our end of the socket.
    ///
    /// # Errors
    /// Those of the system, for a socket that is no longer connected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.told.and_then(|header| header.destination) {
            Some(destination) => Ok(destination),
            None => self.socket().local_addr(),
        }
    }

    /// Whether something has come that was not looked at yet, behind a PROXY protocol header.
    #[cfg(feature = "tls")]
    pub(super) fn has_begun(&self) -> bool {
        matches!(&self.stream, Link::Plain(stream) if stream.has_prefix())
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match &self.stream {
            Link::Plain(stream) => stream.inner(),
            #[cfg(feature = "tls")]
            Link::Tls(stream) => stream.get_ref().0.inner(),
            #[cfg(not(feature = "tls"))]
            Link::Tls(stream) => stream.inner(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.go_on(cx, READS)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.go_on(cx, WRITES)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It may be all that is asked for, while who answers a request does not read what comes.
        self.go_on(cx, WRITES)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.go_on(cx, WRITES)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(feature = "tonic")]
impl tonic::transport::server::Connected for Io {
    /// Found in the request's extensions, where `ConnectionLayer` looks for it.
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use crate::transport::Listener;

    #[tokio::test]
    async fn options_are_inherited() {
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let io = listener.accept().await;
        let socket = io.socket();
        assert!(socket.nodelay().unwrap());
        assert!(socket2::SockRef::from(socket).keepalive().unwrap());
    }
}
