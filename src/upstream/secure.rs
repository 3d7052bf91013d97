//! TLS to the endpoints of an upstream.

use std::{
    io,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{
    believed::Believed,
    connect::{ConnectError, Io},
};
#[cfg(feature = "stack")]
use crate::tls::Credentials;
use crate::tls::{ClientTls, Shaken};

/// So long before a certificate expires no request is begun on a connection: it could meet the other end's closing.
const MARGIN: Duration = Duration::from_secs(5);

/// For each version of HTTP what offers that one and no other: it is known which is to be spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secure {
    http1: ClientTls,
    http2: ClientTls,
    /// For other protocols.
    bare: ClientTls,
}

impl Secure {
    pub(super) fn new(tls: &ClientTls) -> Self {
        Self { http1: tls.offering(&[b"http/1.1"]), http2: tls.offering(&[b"h2"]), bare: tls.offering(&[]) }
    }

    /// Of whom nothing is known yet that handshakes need.
    #[cfg(feature = "stack")]
    pub(super) fn awaited(&self) -> Option<&Credentials> {
        self.bare.awaited()
    }

    /// Shakes hands with an endpoint that is called `name`: a host, a colon and a port. Also until when requests may begin, and
    /// whether it is believed by then.
    pub(super) async fn shake(
        &self,
        io: Io,
        name: &str,
        http2: bool,
        patience: Duration,
    ) -> Result<(TlsStream<Io>, Option<SystemTime>, Believed), ConnectError> {
        let tls = if http2 { &self.http2 } else { &self.http1 };
        let Shaken { stream, until, standing } = shaken(tls, io, name, patience).await?;
        if http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::Tls(io::Error::other("the server does not choose HTTP/2")));
        }
        // The server lets go of it when ours is over.
        let ends = [until, tls.expires()].into_iter().flatten().min();
        Ok((stream, ends.and_then(|ends| ends.checked_sub(MARGIN)), Believed::by(standing, until)))
    }

    /// As [`shake`](Self::shake), and offers no protocol.
    pub(super) async fn shake_bare(
        &self,
        io: Io,
        name: &str,
        patience: Duration,
    ) -> Result<(TlsStream<Io>, Believed), ConnectError> {
        let Shaken { stream, until, standing } = shaken(&self.bare, io, name, patience).await?;
        Ok((stream, Believed::by(standing, until)))
    }
}

async fn shaken(tls: &ClientTls, io: Io, name: &str, patience: Duration) -> Result<Shaken<Io>, ConnectError> {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let shaken =
        timeout(patience, tls.connect_watched(host, io)).await.map_err(|_| ConnectError::TimedOut)?;
    shaken.map_err(ConnectError::Tls)
}
