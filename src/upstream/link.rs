//! A connection, plain or within TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Io;

/// What HTTP is spoken over.
pub(super) enum Link {
    Plain(Io),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Io>>),
}

/// Asks the connection that it is.
macro_rules! on {
    ($link:expr, $io:ident => $ask:expr) => {
        match $link {
            Self::Plain($io) => $ask,
            #[cfg(feature = "tls")]
            Self::Tls($io) => $ask,
        }
    };
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, io => io.is_write_vectored())
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            #[cfg(feature = "tls")]
            Self::Tls(io) if chose_http2(io) => Connected::new().negotiated_h2(),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Connected::new(),
        }
    }
}

/// Whether HTTP/2 was agreed on.
#[cfg(feature = "tls")]
fn chose_http2<S>(stream: &tokio_rustls::client::TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}
