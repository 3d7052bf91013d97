//! The listener in axum and tonic.

#[cfg(feature = "axum")]
impl axum::serve::Listener for super::Listener {
    type Io = crate::transport::Io;
    /// The peer, as the PROXY protocol told it, so that `ConnectInfo<SocketAddr>` works as with a `TcpListener`.
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let io = Self::accept(self).await;
        let peer = io.peer().socket_addr();
        (io, peer)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Self::local_addr(self)
    }
}

#[cfg(feature = "tonic")]
pub use stream::Incoming;

#[cfg(feature = "tonic")]
mod stream {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use crate::transport::{Io, Listener};

    /// The connections of a [`Listener`], as tonic's `serve_with_incoming` takes them.
    #[derive(Debug)]
    pub struct Incoming(Listener);

    impl Listener {
        /// Its connections as a stream, for tonic's `serve_with_incoming` and `serve_with_incoming_shutdown`.
        #[must_use]
        pub fn into_incoming(self) -> Incoming {
            Incoming(self)
        }
    }

    impl futures_core::Stream for Incoming {
        type Item = io::Result<Io>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_next(cx).map(|next| next.map(Ok))
        }
    }
}
