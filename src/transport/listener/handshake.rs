//! What is said on a connection before there is HTTP.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::{net::TcpStream, time::timeout};

use super::{
    ListenerBuilder,
    caps::{Full, Slot},
    observer::Misuse,
};
#[cfg(feature = "tls")]
use crate::lines::Lines;
use crate::{
    identity::PeerAddr,
    transport::{Io, ProxyHeader, prefixed::Prefixed, proxy_protocol::read_header},
};

/// What the handshakes of a listener have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// PROXY protocol headers that are read now.
    pub(super) headers: Arc<()>,
    #[cfg(feature = "tls")]
    refusals: Refusals,
}

/// What is logged of handshakes of TLS that fail. Noise leaves out nobody who came with a certificate.
#[cfg(feature = "tls")]
#[derive(Default)]
struct Refusals {
    of_certificates: Lines,
    others: Lines,
}

/// A connection that was accepted, and has not said yet who it is.
pub(super) struct Handshake {
    peer: SocketAddr,
    slot: Slot,
    settings: ListenerBuilder,
    #[cfg(feature = "tls")]
    shared: Arc<Shared>,
    /// Held while a PROXY protocol header is awaited.
    header: Option<Arc<()>>,
}

/// Why there is no connection.
enum Refused {
    /// Its address has too many, which was told.
    Full,
    Misuse(Misuse),
}

impl Handshake {
    pub(super) fn new(peer: SocketAddr, slot: Slot, settings: ListenerBuilder, shared: &Arc<Shared>) -> Self {
        let mut handshake = Self {
            peer,
            slot,
            settings,
            #[cfg(feature = "tls")]
            shared: Arc::clone(shared),
            header: None,
        };
        handshake.header = handshake.is_told().then(|| Arc::clone(&shared.headers));
        handshake
    }

    /// Whether there is nothing to be waited for.
    pub(super) fn is_short(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.settings.tls.is_some() {
            return false;
        }
        !self.is_told()
    }

    /// Whether this peer tells who is behind it.
    fn is_told(&self) -> bool {
        self.settings.proxy_protocol.as_ref().is_some_and(|policy| policy.trusts(self.peer.ip()))
    }

    /// A connection of which nothing is told.
    pub(super) fn begin(self, stream: TcpStream) -> Result<Io, Full> {
        self.told(Prefixed::new(Bytes::new(), stream), None)
    }

    /// A peer that speaks for itself (a health check) is a load balancer: it is not counted by address.
    fn told(mut self, stream: Prefixed<TcpStream>, told: Option<ProxyHeader>) -> Result<Io, Full> {
        let source = told.map_or(Some(self.peer), |header| header.source);
        if let Some(source) = source {
            let ip = source.ip().to_canonical();
            if !self.settings.uncapped.iter().any(|network| network.contains(&ip)) {
                self.slot.claim(ip)?;
            }
        }
        Ok(Io::new(stream, self.peer, self.slot, told, self.settings.captures_at))
    }

    /// The connection, once all has been said that comes before HTTP; else its end has been told.
    pub(super) async fn run(self, stream: TcpStream) -> Option<Io> {
        let (peer, observer) = (PeerAddr::new(self.peer), self.settings.observer.clone());
        match self.shake(stream).await {
            Ok(io) => return Some(io),
            Err(Refused::Full) => tracing::debug!(%peer, "closed: too many connections of one address"),
            Err(Refused::Misuse(how)) => observer.tell(|observer| observer.cut(peer, how)),
        }
        None
    }

    async fn shake(mut self, mut stream: TcpStream) -> Result<Io, Refused> {
        let header = self.header.take();
        #[cfg(feature = "tls")]
        let (tls, shared) = (self.settings.tls.clone(), Arc::clone(&self.shared));
        let io = match self.settings.proxy_protocol.as_ref().filter(|_| self.is_told()) {
            Some(policy) => {
                let read = timeout(policy.limit(), read_header(&mut stream)).await;
                let read = read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let (header, rest) = read.map_err(|error| {
                    tracing::debug!(peer = %self.peer, %error, "closed: no PROXY protocol header");
                    Refused::Misuse(Misuse::ProxyProtocol)
                })?;
                self.told(Prefixed::new(rest, stream), Some(header))
            }
            None => self.begin(stream),
        };
        let io = io.map_err(|_| Refused::Full)?;
        drop(header);
        #[cfg(feature = "tls")]
        if let Some(tls) = tls {
            let shaken = secure(io, &tls).await;
            return shaken.map_err(|(peer, error)| {
                shared.refusals.tell(peer, &error);
                Refused::Misuse(Misuse::Handshake)
            });
        }
        Ok(io)
    }
}

/// Shakes hands, unless plain text may come and does.
#[cfg(feature = "tls")]
async fn secure(io: Io, tls: &crate::tls::ServerTls) -> Result<Io, (PeerAddr, io::Error)> {
    let peer = io.peer();
    let shaken = match tls.silence().filter(|_| tls.is_permissive()) {
        // Who waits for the other side to speak may do so for longer than a handshake takes.
        Some(silence) => match io.sniffed(Some(silence)).await {
            Ok((io, true)) => in_time(tls, io.within(tls)).await,
            Ok((io, false)) => Ok(io),
            Err(error) => Err(error),
        },
        None if tls.is_permissive() => {
            let told_apart = async {
                match io.sniffed(None).await? {
                    (io, true) => io.within(tls).await,
                    (io, false) => Ok(io),
                }
            };
            in_time(tls, told_apart).await
        }
        None => in_time(tls, io.within(tls)).await,
    };
    shaken.map_err(|error| (peer, error))
}

/// As long as a handshake may take.
#[cfg(feature = "tls")]
async fn in_time(
    tls: &crate::tls::ServerTls,
    shaking: impl Future<Output = io::Result<Io>>,
) -> io::Result<Io> {
    timeout(tls.timeout(), shaking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(feature = "tls")]
impl Refusals {
    fn tell(&self, peer: PeerAddr, error: &io::Error) {
        let is_of_certificate = error.kind() == io::ErrorKind::PermissionDenied;
        let lines = if is_of_certificate { &self.of_certificates } else { &self.others };
        match lines.next() {
            None => {}
            Some(0) => tracing::info!(%peer, %error, "closed: the handshake failed"),
            Some(left_out) => {
                tracing::info!(%peer, %error, left_out, "closed: the handshake failed, as others did");
            }
        }
    }
}
