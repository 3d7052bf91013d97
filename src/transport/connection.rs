use http::Extensions;
#[cfg(feature = "tonic")]
use tonic::transport::server::TcpConnectInfo;
#[cfg(all(feature = "tonic", feature = "tls"))]
use tonic::transport::server::TlsConnectInfo;

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{ClientAddr, PeerAddr, TrustedProxies},
    reject::{Answer, Reason, Rejection},
    transport::Peer,
};

/// Tells each request whose it is. See [`Connection`].
pub type ConnectionLayer = GateLayer<Connection>;

/// Puts the [`ClientAddr`] into a request's extensions, whichever server accepted its connection.
///
/// | Server | The peer is found as |
/// |---|---|
/// | our [`Server`](super::Server) | [`PeerAddr`] |
/// | hyper alone | [`PeerAddr`]; whoever serves the connection puts it in |
/// | tonic on our [`Listener`](super::Listener) | [`Peer`] |
/// | axum on our listener, by `into_make_service_with_connect_info::<Peer>()` | `ConnectInfo<Peer>` |
/// | the same, with `::<PeerAddr>()`: without what TLS has told | `ConnectInfo<PeerAddr>` |
/// | axum on a `TcpListener`, by `into_make_service_with_connect_info::<SocketAddr>()` | `ConnectInfo<SocketAddr>` |
/// | tonic on TCP | `TcpConnectInfo` |
/// | tonic with TLS of its own, with the feature `tls` | `TlsConnectInfo<TcpConnectInfo>`; its certificate is read anew for each request |
///
/// If it is a trusted proxy, `Forwarded` and `X-Forwarded-For` are walked from the right. It allocates nothing beyond
/// the extension. What requests say of certificates is taken out, but for what a trusted proxy is
/// [believed](crate::identity#whose-certificate-is-believed); that becomes the
/// [`PeerIdentity`](crate::identity::PeerIdentity).
///
/// # Example
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use portcullis::transport::Connection;
/// use std::net::SocketAddr;
///
/// let app = axum::Router::<()>::new()
///     .layer(Connection::new().trusted_proxies("10.0.0.0/8".parse().unwrap()).layer());
/// let app = app.into_make_service_with_connect_info::<SocketAddr>();
/// # }
/// ```
///
/// # Answers
///
/// | when | reason | HTTP | gRPC |
/// |---|---|---|---|
/// | no server has told the peer | [`Reason::Internal`] | 500 | `INTERNAL` |
/// | a trusted proxy tells of a certificate, and it cannot be read | [`Reason::BadRequest`] | 400 | `INTERNAL` |
/// | tonic has verified a certificate which is no proper one of a workload | [`Reason::InvalidCredentials`] | 401 | `UNAUTHENTICATED` |
///
/// The first is a mistake in how the server was built, so it shows at the first request rather than as limits that
/// count all clients as one.
///
/// # Position
///
/// Outside of everything that asks who the client is: access logs, limits by address, address lists, a mesh's policies.
///
/// # Shared state
///
/// None but the list of trusted proxies.
///
/// # Compared with tower
///
/// tower knows no connections. axum's `ConnectInfo` and tonic's `TcpConnectInfo` each tell the peer their own way, and a
/// trusted proxy's client not at all.
///
/// # Metrics
///
/// None.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Connection {
    trusted: TrustedProxies,
}

impl Connection {
    /// Trusts no proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Believes what these proxies tell.
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        Self { trusted }
    }

    /// The layer.
    #[must_use]
    pub fn layer(self) -> ConnectionLayer {
        GateLayer::new(self)
    }
}

impl Gate for Connection {
    type Pass = ();

    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let ours = head.extensions().get::<PeerAddr>().copied();
        if ours.is_none()
            && let Some(peer) = foreign(head.extensions())?
        {
            peer.tell(head.extensions_mut());
        }
        let Some(peer) = head.extensions().get::<PeerAddr>().copied() else {
            let lost = Rejection::new(Reason::Internal).detail("no server has told who the peer is");
            return Err(lost.into());
        };
        let client = ClientAddr::resolve(peer, head.headers(), &self.trusted);
        head.extensions_mut().insert(client);
        self.trusted.hear_of_certificate(peer, head)?;
        Ok(())
    }
}

/// The peer as other servers tell it.
fn foreign(extensions: &Extensions) -> Result<Option<Peer>, Rejection> {
    #[cfg(feature = "axum")]
    {
        use axum::extract::ConnectInfo;

        if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<Peer>>() {
            return Ok(Some(peer.clone()));
        }
        if let Some(&ConnectInfo(peer)) = extensions.get::<ConnectInfo<PeerAddr>>() {
            return Ok(Some(peer.into()));
        }
        if let Some(&ConnectInfo(address)) = extensions.get() {
            return Ok(Some(PeerAddr::new(address).into()));
        }
    }
    #[cfg(feature = "tonic")]
    if let Some(peer) = extensions.get::<Peer>() {
        return Ok(Some(peer.clone()));
    }
    // Before the next: tonic tells both.
    #[cfg(all(feature = "tonic", feature = "tls"))]
    if let Some(info) = extensions.get() {
        return secured(info);
    }
    #[cfg(feature = "tonic")]
    if let Some(info) = extensions.get::<TcpConnectInfo>() {
        return Ok(info.remote_addr().map(|address| PeerAddr::new(address).into()));
    }
    let _ = extensions;
    Ok(None)
}

/// The peer of a connection on which tonic speaks TLS.
#[cfg(all(feature = "tonic", feature = "tls"))]
fn secured(info: &TlsConnectInfo<TcpConnectInfo>) -> Result<Option<Peer>, Rejection> {
    let Some(address) = info.get_ref().remote_addr() else { return Ok(None) };
    let identity = info.peer_certs().map(|chain| crate::tls::read_certificates(&chain)).transpose();
    let identity = identity.map_err(|why| Rejection::new(Reason::InvalidCredentials).detail(why))?;
    Ok(Some(Peer {
        identity,
        tls: Some(crate::identity::TlsSession::default()),
        ..PeerAddr::new(address).into()
    }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Request;

    use super::*;

    fn told(extension: impl Clone + Send + Sync + 'static, trusted: &str) -> Option<(PeerAddr, ClientAddr)> {
        let mut request = Request::get("/").header("x-forwarded-for", "192.0.2.7").body(()).unwrap();
        request.extensions_mut().insert(extension);
        let gate = Connection::new().trusted_proxies(trusted.parse().unwrap());
        gate.check(&mut Head::of(&mut request)).ok()?;
        let extensions = request.extensions();
        Some((*extensions.get::<PeerAddr>()?, *extensions.get::<ClientAddr>()?))
    }

    #[test]
    fn all_servers_are_understood() {
        let address: SocketAddr = "10.0.0.1:99".parse().unwrap();
        let peer = PeerAddr::new(address);
        let direct = Some((peer, ClientAddr::from(peer)));
        assert_eq!(told(peer, "127.0.0.0/8"), direct);
        assert_eq!(told(peer, "10.0.0.0/8").unwrap().1.to_string(), "192.0.2.7");
        #[cfg(feature = "axum")]
        {
            assert_eq!(told(axum::extract::ConnectInfo(address), "127.0.0.0/8"), direct);
            assert_eq!(told(axum::extract::ConnectInfo(peer), "127.0.0.0/8"), direct);
        }
        #[cfg(feature = "tonic")]
        {
            let info = |remote_addr| TcpConnectInfo { local_addr: None, remote_addr };
            assert_eq!(told(info(Some(address)), "127.0.0.0/8"), direct);
            assert_eq!(told(info(None), "127.0.0.0/8"), None);
        }
        assert_eq!(told((), "127.0.0.0/8"), None);
    }
}
