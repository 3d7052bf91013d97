use std::time::SystemTime;

use http::uri::Scheme;
use tokio::time::Instant;

use crate::{
    identity::{OriginalDestination, PeerAddr, PeerIdentity, TlsSession},
    time::after,
};

/// Who is at the other end of a connection, and how it was secured. A clone is a copy of pointers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub(super) address: PeerAddr,
    pub(super) identity: Option<PeerIdentity>,
    pub(super) tls: Option<TlsSession>,
    pub(super) destination: Option<OriginalDestination>,
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

    /// Where it meant to connect to, if the connection was [redirected](super::ListenerBuilder::transparent) to us.
    #[must_use]
    pub const fn original_destination(&self) -> Option<OriginalDestination> {
        self.destination
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
        if let Some(destination) = self.destination {
            extensions.insert(destination);
        }
    }
}

impl From<PeerAddr> for Peer {
    /// Of a connection in plain text.
    fn from(address: PeerAddr) -> Self {
        Self { address, identity: None, tls: None, destination: None }
    }
}
