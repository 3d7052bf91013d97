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
/// The peer is looked for as our [`PeerAddr`] (our [`Server`](super::Server), our [`Listener`](super::Listener) under
/// tonic), axum's `ConnectInfo<SocketAddr>` (`into_make_service_with_connect_info`), and tonic's `TcpConnectInfo`;
/// if it is a trusted proxy, `Forwarded` and `X-Forwarded-For` are walked from the right. It allocates nothing
/// beyond the extension.
///
/// | Refuses when | Reason | HTTP | gRPC |
/// |---|---|---|---|
/// | no server has told the peer | [`Reason::Internal`] | 500 | `INTERNAL` |
///
/// That is a mistake in how the server was built, so it shows at the first request rather than as limits that
/// count all clients as one.
///
/// ```
/// use portcullis::transport::Connection;
/// use std::net::SocketAddr;
///
/// let app = axum::Router::<()>::new()
///     .layer(Connection::new().trusted_proxies("10.0.0.0/8".parse()?).layer());
/// let app = app.into_make_service_with_connect_info::<SocketAddr>();
/// # Ok::<(), Box<dyn std::error::Error>>(())
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
        let Some((peer, found_as)) = peer(head) else {
            let lost = Rejection::new(Reason::Internal).detail("no server has told who the peer is");
            return Err(lost.into());
        };
        let client = ClientAddr::resolve(peer, head.headers(), &self.trusted);
        if found_as == FoundAs::Foreign {
            head.extensions_mut().insert(peer);
        }
        head.extensions_mut().insert(client);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundAs {
    Ours,
    #[cfg_attr(
        not(any(feature = "axum", feature = "tonic")),
        expect(dead_code, reason = "there is no other server")
    )]
    Foreign,
}

fn peer(head: &Head<'_>) -> Option<(PeerAddr, FoundAs)> {
    let extensions = head.extensions();
    if let Some(&peer) = extensions.get::<PeerAddr>() {
        return Some((peer, FoundAs::Ours));
    }
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(address)) = extensions.get() {
        let address: &std::net::SocketAddr = address;
        return Some(((*address).into(), FoundAs::Foreign));
    }
    #[cfg(feature = "tonic")]
    if let Some(info) = extensions.get::<tonic::transport::server::TcpConnectInfo>() {
        return info.remote_addr().map(|address| (address.into(), FoundAs::Foreign));
    }
    None
}
