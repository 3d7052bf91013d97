use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    server::{
        ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Credentials, Crypto, Identity, OnTrustShrink, http,
    standing::{Standing, Watched},
    verifier::{Verifier, claimed},
};
use crate::identity::{PeerIdentity, TlsSession};

/// TLS from clients: the certificates that we show, and whether they show theirs.
///
/// ```
/// use portcullis::tls::{ClientCertificates, Credentials, ServerTls};
///
/// # fn serve(public: &Credentials, ours: &Credentials) {
/// let edge = ServerTls::new(public);
/// let mesh = ServerTls::mutual(ours);
/// let both = ServerTls::new(public).certificate(ours).client_certificates(ClientCertificates::Optional);
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ServerTls {
    certificates: Vec<Credentials>,
    trust: Option<Credentials>,
    clients: ClientCertificates,
    shrunk: OnTrustShrink,
    crypto: Crypto,
    handshake_timeout: Duration,
    permissive: bool,
    plain_after: Option<Duration>,
    any_protocol: bool,
    /// Made when it is first needed, of the above.
    config: Arc<std::sync::OnceLock<Arc<ServerConfig>>>,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are not asked to.
    #[default]
    None,
    /// Who shows one is verified, and refused if it is not believed.
    Optional,
    /// Who shows none is refused.
    Required,
}

impl ServerTls {
    /// Shows this identity, and asks no client for its own.
    pub fn new(credentials: &Credentials) -> Self {
        Self {
            certificates: vec![credentials.clone()],
            trust: None,
            clients: ClientCertificates::None,
            shrunk: OnTrustShrink::default(),
            crypto: Crypto::default(),
            handshake_timeout: Duration::from_secs(10),
            permissive: false,
            plain_after: None,
            any_protocol: false,
            config: Arc::default(),
        }
    }

    /// Shows this identity, and takes only clients whose certificates the same credentials trust.
    pub fn mutual(credentials: &Credentials) -> Self {
        Self::new(credentials).client_certificates(ClientCertificates::Required)
    }

    /// Shows another identity to clients that ask for one of its DNS names (SNI, RFC 6066 section 3). Who asks for no name
    /// that is known is shown the first.
    pub fn certificate(self, credentials: &Credentials) -> Self {
        self.with(|tls| tls.certificates.push(credentials.clone()))
    }

    /// Whom to believe of clients: what these credentials trust. What the first ones do, unless told.
    pub fn client_trust(self, credentials: &Credentials) -> Self {
        self.with(|tls| tls.trust = Some(credentials.clone()))
    }

    /// What becomes of connections whose clients would be refused by what is trusted today. [`OnTrustShrink::Drain`] unless told.
    ///
    /// On another server than the [`Server`](crate::transport::Server) of this crate nobody can be told to go: `Drain` means there
    /// that the connection is cut [after 30 s](crate::transport#certificates-that-expire).
    pub fn on_trust_shrink(self, then: OnTrustShrink) -> Self {
        self.with(|tls| tls.shrunk = then)
    }

    /// Whether clients show certificates. They do not unless told.
    pub fn client_certificates(self, clients: ClientCertificates) -> Self {
        self.with(|tls| tls.clients = clients)
    }

    /// Whose cryptography it is. aws-lc's unless told.
    pub fn crypto(self, crypto: Crypto) -> Self {
        self.with(|tls| tls.crypto = crypto)
    }

    /// How long a handshake may take. 10 s unless told.
    pub fn handshake_timeout(self, timeout: Duration) -> Self {
        self.with(|tls| tls.handshake_timeout = timeout)
    }

    /// Takes plain text beside TLS, told apart by the first byte: while a mesh moves from the one to the other. What comes
    /// in plain text has no [`PeerIdentity`]. Not unless told.
    pub fn permissive(self, permissive: bool) -> Self {
        self.with(|tls| tls.permissive = permissive)
    }

    /// Where plain text is [taken too](Self::permissive): after how much silence of a client it is plain text that will be spoken, by a
    /// server that speaks first. Never unless told: a client of HTTP, and of TLS, speaks first.
    pub fn plain_after(self, silence: Duration) -> Self {
        self.with(|tls| tls.plain_after = Some(silence))
    }

    /// Agrees on no protocol (ALPN), whatever clients offer: what is spoken is not for us to know. On HTTP/2 and HTTP/1.1 unless
    /// told.
    pub fn any_protocol(self) -> Self {
        self.with(|tls| tls.any_protocol = true)
    }

    /// Whom to believe of clients, if they are asked.
    fn trusted(&self) -> Option<&Credentials> {
        let asks = self.clients != ClientCertificates::None;
        self.trust.as_ref().or(self.certificates.first()).filter(|_| asks)
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.config = Arc::default();
        self
    }
}

impl ServerTls {
    /// Whether nobody gets in without a certificate that is trusted.
    #[cfg(feature = "stack")]
    pub(crate) fn requires_certificates(&self) -> bool {
        self.clients == ClientCertificates::Required && !self.permissive
    }

    /// Of whom nothing is known yet that every handshake needs.
    #[cfg(feature = "stack")]
    pub(crate) fn awaited(&self) -> Option<&Credentials> {
        let of_clients = self.trusted().filter(|_| self.clients == ClientCertificates::Required);
        let is_nobody = self.certificates.iter().all(|shown| !shown.has_identity());
        let awaited = self.certificates.first().filter(|_| is_nobody);
        awaited.or_else(|| of_clients.filter(|trust| trust.trust().is_empty()))
    }

    pub(crate) fn is_permissive(&self) -> bool {
        self.permissive
    }

    /// After how much silence it is plain text.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.plain_after
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Shakes hands with a client: what it has shown, and what was said besides.
    pub(crate) async fn accept<S>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<PeerIdentity>, TlsSession, Option<Standing>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config.get_or_init(|| Arc::new(self.config()));
        // Before it is verified, so that no change after that is missed.
        let watched = self.trusted().filter(|_| self.shrunk != OnTrustShrink::Keep).map(Watched::of);
        let (stream, peer) = claimed(TlsAcceptor::from(Arc::clone(config)).accept(stream)).await?;
        let connection = stream.get_ref().1;
        let ours = find(&self.certificates, connection.server_name());
        let ours = ours.map(|identity| identity.names().clone());
        let session = TlsSession::new(connection.server_name().map(Into::into), ours);
        let standing = watched.zip(peer.clone());
        let standing = standing.map(|(watched, peer)| watched.client(peer, self.crypto, self.shrunk));
        Ok((stream, peer, session, standing))
    }

    #[expect(clippy::expect_used, reason = "this provider has what both versions need")]
    fn config(&self) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::clone(self.crypto.provider()))
            .with_safe_default_protocol_versions()
            .expect("both have the suites of TLS 1.2 and 1.3");
        let clients: Arc<dyn ClientCertVerifier> = match self.trusted() {
            None => Arc::new(NoClientAuth),
            Some(trust) => Arc::new(Verifier {
                trust: trust.clone(),
                server: super::ServerId::Host,
                is_optional: self.clients == ClientCertificates::Optional,
                crypto: self.crypto,
            }),
        };
        let certificates = Certificates(self.certificates.clone(), self.crypto);
        let mut config =
            builder.with_client_cert_verifier(clients).with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = if self.any_protocol { Vec::new() } else { http() };
        if self.clients != ClientCertificates::None {
            // Who resumes a session is not verified again, and roots change.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            // Phones without instructions for AES, whose order should decide, show no certificates.
            config.ignore_client_order = true;
            config.send_tls13_tickets = 0;
        }
        config
    }
}

#[derive(Debug)]
struct Certificates(Vec<Credentials>, Crypto);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        find(&self.0, hello.server_name())?.key(self.1)
    }
}

/// The identity that has this name, itself rather than by a wildcard, or else the first.
fn find(certificates: &[Credentials], name: Option<&str>) -> Option<Identity> {
    let identity = |credentials: &Credentials| credentials.load().as_ref()?.identity.clone();
    let (first, others) = certificates.split_first()?;
    let Some(name) = name.filter(|_| !others.is_empty()) else { return identity(first) };
    let is_named =
        |identity: &Identity| identity.names().dns_names().any(|own| own.eq_ignore_ascii_case(name));
    let has = |identity: &Identity| identity.names().is_for_host(name);
    let all = || certificates.iter().filter_map(identity);
    all().find(is_named).or_else(|| all().find(has)).or_else(|| identity(first))
}

impl PartialEq for ServerTls {
    /// Whether both show the same identities, and ask the same of clients.
    fn eq(&self, other: &Self) -> bool {
        let of = |tls: &Self| {
            let plain = (tls.permissive, tls.plain_after);
            (tls.clients, tls.shrunk, tls.handshake_timeout, plain, tls.any_protocol)
        };
        of(self) == of(other)
            && self.crypto == other.crypto
            && self.certificates == other.certificates
            && self.trust == other.trust
    }
}

impl Eq for ServerTls {}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificates", &self.certificates)
            .field("trust", &self.trust)
            .field("clients", &self.clients)
            .field("on_trust_shrink", &self.shrunk)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("permissive", &self.permissive)
            .field("plain_after", &self.plain_after)
            .finish()
    }
}
