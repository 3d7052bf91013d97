use std::{fmt, io, sync::Arc};

use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Credentials, Crypto, Material, OnTrustShrink, ServerId, Trust, TrustError, http,
    verifier::{Shown, Verifier},
};
#[cfg(feature = "upstream")]
use super::{
    certificate,
    standing::{Standing, Watched},
};

/// TLS towards servers: whom they must be, and who we are.
///
/// HTTP/2 and HTTP/1.1 by ALPN. It never falls back to plain text. Clones share the sessions that are resumed.
///
/// ```
/// use portcullis::tls::{ClientTls, Credentials, ServerId};
///
/// # fn trust(private: &[u8], ours: &Credentials) -> Result<(), Box<dyn std::error::Error>> {
/// let public = ClientTls::platform()?;
/// let private = ClientTls::roots(private)?;
/// let orders = ClientTls::mutual(ours).server(ServerId::Spiffe("spiffe://shop.example/orders".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientTls {
    identity: Option<Credentials>,
    trust: Credentials,
    server: ServerId,
    crypto: Crypto,
    shrunk: OnTrustShrink,
    #[cfg(feature = "upstream")]
    verifier: Arc<Verifier>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts the roots that this machine trusts, as [`Trust::platform`].
    ///
    /// # Errors
    ///
    /// There is none that can be read.
    pub fn platform() -> Result<Self, TrustError> {
        Ok(Self::trusting(Trust::platform()?))
    }

    /// Trusts these roots in PEM, and no others.
    ///
    /// # Errors
    ///
    /// There is none among them, or one that cannot be read.
    pub fn roots(pem: &[u8]) -> Result<Self, TrustError> {
        Ok(Self::trusting(Trust::roots(pem)?))
    }

    /// Trusts these, for good.
    pub fn trusting(trust: Trust) -> Self {
        let trust = Credentials::new(Material::new(None, trust));
        Self::of(None, trust, ServerId::Host, Resumption::default(), Crypto::default())
    }

    /// Trusts what the credentials trust at the time of a handshake, and shows their identity to servers that ask for one.
    /// Sessions are not resumed: nobody would be verified again.
    pub fn mutual(credentials: &Credentials) -> Self {
        Self::of(
            Some(credentials.clone()),
            credentials.clone(),
            ServerId::Host,
            Resumption::disabled(),
            Crypto::default(),
        )
    }

    /// Trusts what these credentials trust at the time of a handshake, and shows no identity.
    pub fn trusting_in(credentials: &Credentials) -> Self {
        Self::of(None, credentials.clone(), ServerId::Host, Resumption::disabled(), Crypto::default())
    }

    /// Trusts what these credentials trust, whoever's identity is shown.
    pub fn trust(self, credentials: &Credentials) -> Self {
        let made =
            Self::of(self.identity, credentials.clone(), self.server, Resumption::disabled(), self.crypto);
        made.on_trust_shrink(self.shrunk)
    }

    /// Who the server must be. [The host](ServerId::Host) unless told.
    pub fn server(self, server: ServerId) -> Self {
        let resumption = self.config.resumption.clone();
        Self::of(self.identity, self.trust, server, resumption, self.crypto).on_trust_shrink(self.shrunk)
    }

    /// Whose cryptography it is. aws-lc's unless told.
    pub fn crypto(self, crypto: Crypto) -> Self {
        let resumption = self.config.resumption.clone();
        Self::of(self.identity, self.trust, self.server, resumption, crypto).on_trust_shrink(self.shrunk)
    }

    /// What becomes of connections to servers that would be refused by what is trusted today. [`OnTrustShrink::Drain`] unless
    /// told.
    ///
    /// It is the upstreams of this crate that see to it; others keep them.
    pub fn on_trust_shrink(self, then: OnTrustShrink) -> Self {
        Self { shrunk: then, ..self }
    }

    #[expect(clippy::expect_used, reason = "this provider has what both versions need")]
    fn of(
        identity: Option<Credentials>,
        trust: Credentials,
        server: ServerId,
        resumption: Resumption,
        crypto: Crypto,
    ) -> Self {
        let verifier =
            Arc::new(Verifier { trust: trust.clone(), server: server.clone(), is_optional: false, crypto });
        let builder = ClientConfig::builder_with_provider(Arc::clone(crypto.provider()))
            .with_safe_default_protocol_versions()
            .expect("both have the suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut config = match &identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown(identity.clone(), crypto))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = http();
        config.resumption = resumption;
        Self {
            identity,
            trust,
            server,
            crypto,
            shrunk: OnTrustShrink::default(),
            #[cfg(feature = "upstream")]
            verifier,
            config: Arc::new(config),
        }
    }

    /// Of whom nothing is known yet that every handshake needs.
    #[cfg(feature = "stack")]
    pub(crate) fn awaited(&self) -> Option<&Credentials> {
        let is_nobody = |shown: &&Credentials| !shown.has_identity();
        self.identity
            .as_ref()
            .filter(is_nobody)
            .or(Some(&self.trust).filter(|trust| trust.trust().is_empty()))
    }

    /// When the identity expires that we show now.
    #[cfg(feature = "upstream")]
    pub(crate) fn expires(&self) -> Option<std::time::SystemTime> {
        let material = self.identity.as_ref()?.load();
        Some(material.as_ref()?.identity.as_ref()?.expires())
    }

    /// The same, offering these protocols in place of HTTP (ALPN, RFC 7301).
    #[cfg_attr(
        not(any(feature = "redis", feature = "upstream")),
        expect(dead_code, reason = "both are its users")
    )]
    pub(crate) fn offering(&self, protocols: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self { config: Arc::new(config), ..self.clone() }
    }

    #[cfg_attr(
        not(any(feature = "redis", feature = "upstream")),
        expect(dead_code, reason = "both are its users")
    )]
    /// Shakes hands with a server at `host`: a name, or an IP address.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsConnector::from(Arc::clone(&self.config)).connect(self.name(host)?, stream).await
    }

    /// The same; also until when the server's certificate is valid, and what tells that it would be refused.
    #[cfg(feature = "upstream")]
    pub(crate) async fn connect_watched<S>(&self, host: &str, stream: S) -> io::Result<Shaken<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let watched = (self.shrunk != OnTrustShrink::Keep).then(|| Watched::of(&self.trust));
        let stream = self.connect(host, stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let peer = chain.and_then(|chain| certificate::read(chain).ok());
        let until = peer.as_ref().and_then(|peer| Some(*peer.validity()?.end()));
        let by = (Arc::clone(&self.verifier), self.name(host)?);
        let standing = watched.zip(peer).map(|(watched, peer)| watched.server(peer, by, self.shrunk));
        Ok(Shaken { stream, until, standing })
    }

    /// By which name a server at `host` is asked for.
    fn name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let invalid = |error: InvalidDnsNameError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let host = if let ServerId::Name(name) = &self.server { name } else { host };
        ServerName::try_from(host.to_owned()).map_err(invalid)
    }
}

/// A connection to a server that was verified.
#[cfg(feature = "upstream")]
pub(crate) struct Shaken<S> {
    pub(crate) stream: TlsStream<S>,
    /// Until when its certificate is valid.
    pub(crate) until: Option<std::time::SystemTime>,
    pub(crate) standing: Option<Standing>,
}

impl PartialEq for ClientTls {
    /// Whether both show the same identity, trust the same and ask for the same server.
    fn eq(&self, other: &Self) -> bool {
        let of = |tls: &Self| (tls.server.clone(), tls.crypto, tls.shrunk);
        of(self) == of(other) && self.identity == other.identity && self.trust == other.trust
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("identity", &self.identity)
            .field("trust", &self.trust)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Whether a server can be asked for by this name.
#[cfg(feature = "config")]
pub(crate) fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn roots_are_certificates_in_pem() {
        let two = root("a.example") + "\n# a remark\n" + &root("b.example");
        assert!(format!("{:?}", Trust::roots(two.as_bytes()).unwrap()).contains("roots: 2"));
        assert_eq!(Trust::roots(b"").unwrap_err(), TrustError::NoRoots);
        assert_eq!(Trust::roots(b"not PEM at all").unwrap_err(), TrustError::NoRoots);
        let cut = &two[..two.len() / 3];
        assert!(Trust::roots(cut.as_bytes()).is_err());
        let garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert_eq!(Trust::roots(garbage.as_bytes()).unwrap_err(), TrustError::Malformed);
        // A good one does not excuse a bad one.
        assert!(Trust::roots((two + garbage).as_bytes()).is_err());
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(Trust::roots(key.as_bytes()).unwrap_err(), TrustError::NoRoots);
    }

    #[test]
    fn nothing_is_installed_in_the_process() {
        _ = ClientTls::roots(root("a.example").as_bytes()).unwrap();
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }
}
