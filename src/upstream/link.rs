//! A connection to an endpoint, plain or within TLS, and what is heard on it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    believed::{Believed, Expiry},
    connect::{ConnectError, Connections, Heard, Io, connect},
    options::Options,
};
use crate::io::write_through;

/// What HTTP is spoken over.
#[cfg(feature = "tls")]
pub(super) type Link = crate::io::Link<Io, tokio_rustls::client::TlsStream<Io>>;
#[cfg(not(feature = "tls"))]
pub(super) type Link = crate::io::Link<Io, Io>;

impl Link {
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(io) => io.socket(),
            #[cfg(feature = "tls")]
            Self::Tls(io) => io.get_ref().0.socket(),
            #[cfg(not(feature = "tls"))]
            Self::Tls(io) => io.socket(),
        }
    }
}

impl Link {
    /// Ends the socket's way there, beneath TLS.
    pub(super) fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = match self {
            Self::Plain(io) => io,
            #[cfg(feature = "tls")]
            Self::Tls(io) => io.get_mut().0,
            #[cfg(not(feature = "tls"))]
            Self::Tls(io) => io,
        };
        Pin::new(io).poll_shutdown(cx)
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(io) if io.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

/// A connection that tells what was heard of HTTP on it: of TLS a goodbye is not.
pub(super) struct Line {
    link: Link,
    heard: Heard,
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    expiry: Option<Expiry>,
    is_cut: bool,
}

impl Line {
    fn new(link: Link, believed: &Believed) -> Self {
        Self { link, heard: Heard::default(), cut: believed.cut(), expiry: believed.expiry(), is_cut: false }
    }

    /// Whoever drives the connection reads, whatever else it does.
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        let is_lost = self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready());
        if is_lost || self.expiry.as_mut().is_some_and(|expiry| expiry.has_come(cx)) {
            (self.cut, self.expiry) = (None, None);
            self.is_cut = true;
        }
        self.is_cut
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.link).poll_read(cx, buf))?;
        Poll::Ready(this.heard.more(buf.filled().len() - before))
    }
}

write_through!(Line, link);

/// Connects to an endpoint that is called `name`, to speak this version of HTTP. Where there is TLS, also until when the server's
/// certificate is valid, and whether it is believed by then.
pub(super) async fn line(
    (address, name): (SocketAddr, &str),
    http2: bool,
    connections: &Connections,
    options: &Options,
) -> Result<(Line, Option<SystemTime>, Believed), ConnectError> {
    let io = connect(address, connections, options).await?;
    #[cfg(feature = "tls")]
    if let Some(secure) = &options.secure {
        let (stream, ends, believed) = secure.shake(io, name, http2, options.connect_timeout).await?;
        return Ok((Line::new(Link::Tls(Box::new(stream)), &believed), ends, believed));
    }
    #[cfg(not(feature = "tls"))]
    let _ = (name, http2);
    let believed = Believed::default();
    Ok((Line::new(Link::Plain(io), &believed), None, believed))
}

/// As [`line`], to speak something else.
pub(super) async fn bare(
    (address, name): (SocketAddr, &str),
    connections: &Connections,
    options: &Options,
) -> Result<(Link, Term), ConnectError> {
    let io = connect(address, connections, options).await?.impatient();
    #[cfg(feature = "tls")]
    if let Some(secure) = &options.secure {
        let (stream, believed) = secure.shake_bare(io, name, options.connect_timeout).await?;
        return Ok((Link::Tls(Box::new(stream)), Term(believed)));
    }
    #[cfg(not(feature = "tls"))]
    let _ = name;
    Ok((Link::Plain(io), Term::default()))
}

/// How long a connection may last that carries something else than HTTP, by who its server is.
#[derive(Clone, Default)]
pub(super) struct Term(Believed);

impl Term {
    /// Resolves when it is over.
    pub(super) fn over(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.over()
    }
}
