use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::{TlsSession, TrustedProxies},
    matching::Host,
    reject::{Answer, Reason, Rejection},
};

/// Refuses what is not for this connection. See [`CertificateHosts`].
pub type CertificateHostsLayer = GateLayer<CertificateHosts>;

/// Refuses requests for hosts that the certificate is not for which the client was shown (RFC 9110 section 7.4): browsers send
/// requests for one host on the connection to another, if both have one certificate and one address, and so do strangers who try
/// which hosts are here. Who is answered so asks again on a connection of its own.
///
/// A gateway has it at its listeners.
///
/// What came in plain text passes, what was shown a certificate without DNS names, which is a workload's, and what comes within a
/// handshake of tonic's own, of which the certificate is not known; and what trusted proxies send, who ask for what they were asked
/// for.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use portcullis::transport::{CertificateHosts, Connection, Peer};
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(CertificateHosts::new().layer())
///     .layer(Connection::new().layer());
/// let app = app.into_make_service_with_connect_info::<Peer>(); // for a Listener with TLS
/// # }
/// ```
///
/// # Answers
///
/// | when | reason | HTTP | gRPC |
/// |---|---|---|---|
/// | the certificate is not for the host | [`Reason::Misdirected`] | 421 | `UNAVAILABLE` |
///
/// # Position
///
/// Inside of [`Connection`](super::Connection), which tells of the handshake and the peer where the server is none of ours; outside
/// of whatever looks at the host.
///
/// # Shared state
///
/// None but the list of trusted proxies.
///
/// # Compared with tower
///
/// tower and axum know no connections.
///
/// # Metrics
///
/// None of its own: refusals are counted by reason with all others.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CertificateHosts {
    trusted: TrustedProxies,
}

impl CertificateHosts {
    /// Trusts no proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets these ask for any host.
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        Self { trusted }
    }

    /// The layer.
    #[must_use]
    pub fn layer(self) -> CertificateHostsLayer {
        GateLayer::new(self)
    }
}

impl Gate for CertificateHosts {
    type Pass = ();

    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let Some(tls) = head.extensions().get::<TlsSession>() else { return Ok(()) };
        // What is no host is refused as such.
        let is_for = Host::of(head.uri(), head.headers()).map_or(true, |host| tls.is_for_host(host.name()));
        if is_for || self.trusted.trusts(head.extensions()) {
            return Ok(());
        }
        let refused = Rejection::new(Reason::Misdirected);
        Err(refused.detail("this connection's certificate is not for this host").into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::Request;

    use super::*;
    use crate::{
        identity::{PeerAddr, PeerIdentity},
        reject::Protocol,
    };

    fn call(session: Option<TlsSession>, host: &str, from: &str) -> Result<(), Rejection> {
        let mut request = Request::get("/").header("host", host).body(()).unwrap();
        request.extensions_mut().insert(PeerAddr::new(SocketAddr::new(from.parse().unwrap(), 1)));
        if let Some(session) = session {
            request.extensions_mut().insert(session);
        }
        let gate = CertificateHosts::new().trusted_proxies("10.0.0.0/8".parse().unwrap());
        match gate.check(&mut Head::of(&mut request)) {
            Ok(()) => Ok(()),
            Err(Answer::Refuse(why)) => Err(why),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn shown(names: &[&str]) -> Option<TlsSession> {
        let ours = PeerIdentity::new([7; 32]).with_dns_names(names.iter().copied());
        Some(TlsSession::new(Some("shop.example".into()), ours))
    }

    #[test]
    fn each_row_of_answers_as_http_and_as_grpc() {
        let refused = call(shown(&["shop.example"]), "other.example", "192.0.2.7").unwrap_err();
        assert_eq!(refused.reason(), Reason::Misdirected);
        assert_eq!(refused.clone().into_response(Protocol::Http).status(), 421);
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "14");
    }

    #[test]
    fn a_host_is_of_the_certificate_unless_nobody_can_know() {
        for (session, host, from, passes) in [
            (shown(&["shop.example"]), "shop.example", "192.0.2.7", true),
            (shown(&["shop.example"]), "Shop.Example:8443", "192.0.2.7", true),
            (shown(&["*.shop.example"]), "a.shop.example", "192.0.2.7", true),
            (shown(&["*.shop.example"]), "a.b.shop.example", "192.0.2.7", false),
            (shown(&["shop.example"]), "192.0.2.1", "192.0.2.7", false),
            (shown(&["shop.example"]), "other.example", "192.0.2.7", false),
            (shown(&["shop.example"]), "other.example", "10.0.0.7", true),
            (shown(&["shop.example"]), "no host", "192.0.2.7", true),
            (shown(&[]), "other.example", "192.0.2.7", true),
            (Some(TlsSession::default()), "other.example", "192.0.2.7", true),
            (None, "other.example", "192.0.2.7", true),
        ] {
            assert_eq!(call(session, host, from).is_ok(), passes, "{host} {from}");
        }
    }
}
