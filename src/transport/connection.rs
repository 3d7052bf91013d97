use http::Extensions;

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{ClientAddr, PeerAddr, TrustedProxies},
    reject::{Answer, Reason, Rejection},
};

/// Tells each request whose it is. See [`Connection`].
pub type ConnectionLayer = GateLayer<Connection>;

/// Puts the [`ClientAddr`] into a request's extensions, whichever server accepted its connection.
///
/// | Server | The peer is found as |
/// |---|---|
/// | our [`Server`](super::Server); tonic on our [`Listener`](super::Listener) | [`PeerAddr`] |
/// | axum on our listener, by `into_make_service_with_connect_info::<PeerAddr>()` | `ConnectInfo<PeerAddr>` |
/// | axum on a `TcpListener`, by `into_make_service_with_connect_info::<SocketAddr>()` | `ConnectInfo<SocketAddr>` |
/// | tonic on TCP | `TcpConnectInfo` |
///
/// If it is a trusted proxy, `Forwarded` and `X-Forwarded-For` are walked from the right. It allocates nothing beyond
/// the extension.
///
/// | Refuses when | Reason | HTTP | gRPC |
/// |---|---|---|---|
/// | no server has told the peer | [`Reason::Internal`] | 500 | `INTERNAL` |
///
/// That is a mistake in how the server was built, so it shows at the first request rather than as limits that
/// count all clients as one.
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
        let Some(peer) = ours.or_else(|| foreign(head.extensions())) else {
            let lost = Rejection::new(Reason::Internal).detail("no server has told who the peer is");
            return Err(lost.into());
        };
        let client = ClientAddr::resolve(peer, head.headers(), &self.trusted);
        if ours.is_none() {
            head.extensions_mut().insert(peer);
        }
        head.extensions_mut().insert(client);
        Ok(())
    }
}

/// The peer as other servers tell it.
fn foreign(extensions: &Extensions) -> Option<PeerAddr> {
    #[cfg(feature = "axum")]
    {
        use axum::extract::ConnectInfo;

        if let Some(&ConnectInfo(peer)) = extensions.get() {
            return Some(peer);
        }
        if let Some(&ConnectInfo(address)) = extensions.get() {
            return Some(PeerAddr::new(address));
        }
    }
    #[cfg(feature = "tonic")]
    if let Some(info) = extensions.get::<tonic::transport::server::TcpConnectInfo>() {
        return info.remote_addr().map(PeerAddr::new);
    }
    let _ = extensions;
    None
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
            let info =
                |remote_addr| tonic::transport::server::TcpConnectInfo { local_addr: None, remote_addr };
            assert_eq!(told(info(Some(address)), "127.0.0.0/8"), direct);
            assert_eq!(told(info(None), "127.0.0.0/8"), None);
        }
        assert_eq!(told((), "127.0.0.0/8"), None);
    }
}
