use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{listener::Slot, prefixed::Prefixed, proxy_protocol::ProxyHeader};
use crate::{identity::PeerAddr, io::write_through};

/// A connection that a [`Listener`](super::Listener) accepted.
///
/// It counts against the listener's caps until it is dropped.
#[derive(Debug)]
pub struct Io {
    stream: Prefixed<TcpStream>,
    socket_peer: SocketAddr,
    told: Option<ProxyHeader>,
    _slot: Slot,
}

impl Io {
    pub(super) fn new(stream: TcpStream, socket_peer: SocketAddr, slot: Slot) -> Self {
        Self { stream: Prefixed::new(Bytes::new(), stream), socket_peer, told: None, _slot: slot }
    }

    pub(super) fn told(
        stream: TcpStream,
        socket_peer: SocketAddr,
        slot: Slot,
        (header, rest): (ProxyHeader, Bytes),
    ) -> Self {
        Self { stream: Prefixed::new(rest, stream), socket_peer, told: Some(header), _slot: slot }
    }

    /// Who opened the connection: what the PROXY protocol told, else the other end of the socket.
    #[must_use]
    pub fn peer(&self) -> PeerAddr {
        self.told.and_then(|header| header.source).unwrap_or(self.socket_peer).into()
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
            None => self.stream.inner().local_addr(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

write_through!(Io, stream);

#[cfg(feature = "tonic")]
impl tonic::transport::server::Connected for Io {
    /// Found in the request's extensions, where `ConnectionLayer` looks for it.
    type ConnectInfo = PeerAddr;

    fn connect_info(&self) -> PeerAddr {
        self.peer()
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
        let socket = io.stream.inner();
        assert!(socket.nodelay().unwrap());
        assert!(socket2::SockRef::from(socket).keepalive().unwrap());
    }
}
