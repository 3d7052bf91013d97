//! What is said on a connection before there is HTTP.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    ListenerBuilder,
    caps::{Full, Slot},
    observer::Misuse,
};
#[cfg(feature = "tls")]
use crate::lines::Lines;
use crate::{
    identity::PeerAddr,
    race::race,
    time::after,
    transport::{Io, ProxyHeader, prefixed::Prefixed, proxy_protocol::read_header},
};

/// Once nothing more is accepted, who has said nothing has so long to begin: what is lost on its way is sent again after a second.
const SILENCE: Duration = Duration::from_secs(2);

/// What the handshakes of a listener have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// PROXY protocol headers that are read now.
    pub(super) headers: Arc<()>,
    /// Whether nothing more is accepted.
    pub(super) closing: watch::Sender<bool>,
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

impl Shared {
    /// Waits for the first byte. `false`: nothing more is accepted, and none has come.
    async fn hears(&self, stream: &TcpStream, until: Instant) -> bool {
        let speaks = async {
            // Who is late is told so by who reads.
            let _ = timeout_at(until, stream.peek(&mut [0])).await;
            true
        };
        let closing = async {
            let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
            sleep(SILENCE).await;
            false
        };
        race(speaks, closing).await
    }
}

/// A connection that was accepted, and has not said yet who it is.
pub(super) struct Handshake {
    peer: SocketAddr,
    slot: Slot,
    settings: ListenerBuilder,
    shared: Arc<Shared>,
    /// Held while a PROXY protocol header is awaited.
    header: Option<Arc<()>>,
}

/// Why there is no connection.
enum Refused {
    /// Its address has too many, which was told.
    Full,
    /// It has said nothing, and nothing more is accepted.
    Silent,
    Misuse(Misuse),
}

impl Handshake {
    pub(super) fn new(peer: SocketAddr, slot: Slot, settings: ListenerBuilder, shared: &Arc<Shared>) -> Self {
        let mut handshake = Self { peer, slot, settings, shared: Arc::clone(shared), header: None };
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
            Err(Refused::Silent) => {
                tracing::debug!(%peer, "closed: it has said nothing, and the listener closes");
            }
            Err(Refused::Misuse(how)) => observer.tell(|observer| observer.cut(peer, how)),
        }
        None
    }

    async fn shake(mut self, mut stream: TcpStream) -> Result<Io, Refused> {
        let header = self.header.take();
        let shared = Arc::clone(&self.shared);
        #[cfg(feature = "tls")]
        let tls = self.settings.tls.clone();
        let io = match self.settings.proxy_protocol.as_ref().filter(|_| self.is_told()) {
            Some(policy) => {
                let until = after(Instant::now(), policy.limit());
                if !shared.hears(&stream, until).await {
                    return Err(Refused::Silent);
                }
                let read = timeout_at(until, read_header(&mut stream)).await;
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
            let until = after(Instant::now(), tls.timeout());
            // Who waits for the other side to speak may do so for longer than a handshake takes, and has its own silence, closing or
            // not.
            let silence = tls.silence().filter(|_| tls.is_permissive());
            if silence.is_none() && !io.has_begun() && !shared.hears(io.socket(), until).await {
                return Err(Refused::Silent);
            }
            let shaken = secure(io, &tls, silence, until).await;
            return shaken.map_err(|(peer, error)| {
                shared.refusals.tell(peer, &error);
                Refused::Misuse(Misuse::Handshake)
            });
        }
        Ok(io)
    }
}

/// Shakes hands until then, unless plain text may come and does, or nothing for as long as who waits for the other side to speak is
/// silent.
#[cfg(feature = "tls")]
async fn secure(
    io: Io,
    tls: &crate::tls::ServerTls,
    silence: Option<Duration>,
    until: Instant,
) -> Result<Io, (PeerAddr, io::Error)> {
    let peer = io.peer();
    let shaking = async {
        if !tls.is_permissive() {
            return in_time(until, io.within(tls)).await;
        }
        let (io, is_tls) = match silence {
            Some(_) => io.sniffed(silence).await?,
            None => in_time(until, io.sniffed(None)).await?,
        };
        // The time for it begins with its first byte where nobody has waited for one.
        let until = silence.map_or(until, |_| after(Instant::now(), tls.timeout()));
        if is_tls { in_time(until, io.within(tls)).await } else { Ok(io) }
    };
    shaking.await.map_err(|error| (peer, error))
}

#[cfg(feature = "tls")]
async fn in_time<T>(until: Instant, shaking: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(until, shaking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
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
