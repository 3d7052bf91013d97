use std::time::SystemTime;

use http::uri::Scheme;
use tokio::time::Instant;

use crate::{
    identity::{PeerAddr, PeerIdentity, TlsSession},
    time::after,
};

/// Who is at the other end of a connection, and how it was secured. A clone is a copy of pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub(super) address: PeerAddr,
    pub(super) identity: Option<PeerIdentity>,
    pub(super) tls: Option<TlsSession>,
}

impl Peer {
    /// Where it is: what the PROXY protocol told, else the other end of the socket.
    #[must_use]
    pub const fn address(&self) -> PeerAddr {
        self.address
    }

    /// What its certificate says, if it has shown one and that was verified.
    #[must_use]
    pub const fn identity(&self) -> Option<&PeerIdentity> {
        self.identity.as_ref()
    }

    /// The handshake; `None` of a connection in plain text.
    #[must_use]
    pub const fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_ref()
    }

    /// When its certificate is no longer valid, which was verified at `now`.
    pub(super) fn ends(&self, now: Instant) -> Option<Instant> {
        let validity = self.identity.as_ref()?.validity()?;
        Some(after(now, validity.end().duration_since(SystemTime::now()).unwrap_or_default()))
    }

    /// Tells a request whose it is.
    pub(super) fn tell(&self, extensions: &mut http::Extensions) {
        extensions.insert(self.address);
        if let Some(identity) = &self.identity {
            extensions.insert(identity.clone());
        }
        if let Some(tls) = &self.tls {
            extensions.insert(tls.clone());
            extensions.insert(Scheme::HTTPS);
        }
    }
}

impl From<PeerAddr> for Peer {
    /// Of a connection in plain text.
    fn from(address: PeerAddr) -> Self {
        Self { address, identity: None, tls: None }
    }
}
