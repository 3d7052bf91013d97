use std::sync::Arc;

use super::PeerIdentity;

/// What was said in the handshake of the connection within which a request came; whoever accepted it puts it into the
/// request's extensions. A request without one came in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct TlsSession {
    server_name: Option<Arc<str>>,
    ours: Option<PeerIdentity>,
}

impl TlsSession {
    /// The name that the client asked for (SNI), if it did, and what the certificate says that it was shown.
    pub fn new(server_name: Option<Arc<str>>, ours: impl Into<Option<PeerIdentity>>) -> Self {
        Self { server_name, ours: ours.into() }
    }

    /// The name that the client asked for.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// What the certificate says that the client was shown.
    #[must_use]
    pub fn ours(&self) -> Option<&PeerIdentity> {
        self.ours.as_ref()
    }

    /// Whether this host may be asked on this connection: the certificate is for it (RFC 9110 section 7.4). One without DNS
    /// names is a workload's, which is found by other names.
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        self.ours.as_ref().is_none_or(|ours| ours.dns_names().next().is_none() || ours.is_for_host(host))
    }
}
