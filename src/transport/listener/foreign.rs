//! The listener in axum and tonic.

#[cfg(feature = "axum")]
mod axum {
    use std::io;

    use axum::{
        extract::connect_info::Connected,
        serve::{self, IncomingStream},
    };

    use crate::{
        identity::PeerAddr,
        transport::{Io, Listener, Peer},
    };

    impl serve::Listener for Listener {
        type Io = Io;
        type Addr = Peer;

        async fn accept(&mut self) -> (Io, Peer) {
            let io = Self::accept(self).await;
            let peer = io.who().clone();
            (io, peer)
        }

        fn local_addr(&self) -> io::Result<Peer> {
            Self::local_addr(self).map(|address| PeerAddr::new(address).into())
        }
    }

    /// For `into_make_service_with_connect_info::<Peer>()`.
    impl Connected<IncomingStream<'_, Listener>> for Peer {
        fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
            stream.remote_addr().clone()
        }
    }

    /// For `into_make_service_with_connect_info::<PeerAddr>()`.
    impl Connected<IncomingStream<'_, Listener>> for PeerAddr {
        fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
            stream.remote_addr().address()
        }
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
