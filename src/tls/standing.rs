//! Whether who was let in before would be let in today.

use std::future::pending;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
#[cfg(feature = "upstream")]
use rustls::{CertificateError, client::danger::ServerCertVerifier, pki_types::ServerName};
use tokio::sync::watch;

#[cfg(feature = "upstream")]
use super::verifier::Verifier;
use super::{Credentials, OnTrustShrink, Trust, trust::Anchors};
#[cfg(feature = "transport")]
use super::{Crypto, trust::Usage};
use crate::identity::PeerIdentity;

/// Whom to believe before a handshake, so that no change after that is missed.
pub(super) struct Watched {
    credentials: Credentials,
    told: watch::Receiver<u64>,
    known: Arc<Anchors>,
}

/// Whether the peer of a connection would be let in today.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    credentials: Credentials,
    told: watch::Receiver<u64>,
    /// Whom to believe when it was last looked at.
    known: Arc<Anchors>,
    peer: PeerIdentity,
    role: Role,
    then: OnTrustShrink,
}

/// What the peer is to us.
#[derive(Debug, Clone)]
enum Role {
    #[cfg(feature = "transport")]
    Client(Crypto),
    /// By which name it was asked for.
    #[cfg(feature = "upstream")]
    Server(Arc<Verifier>, ServerName<'static>),
}

impl Watched {
    pub(super) fn of(credentials: &Credentials) -> Self {
        let told = credentials.told();
        Self { credentials: credentials.clone(), told, known: Arc::clone(credentials.trust().anchors()) }
    }

    #[cfg(feature = "transport")]
    pub(super) fn client(self, peer: PeerIdentity, by: Crypto, then: OnTrustShrink) -> Standing {
        self.standing(peer, Role::Client(by), then)
    }

    #[cfg(feature = "upstream")]
    pub(super) fn server(
        self,
        peer: PeerIdentity,
        by: (Arc<Verifier>, ServerName<'static>),
        then: OnTrustShrink,
    ) -> Standing {
        self.standing(peer, Role::Server(by.0, by.1), then)
    }

    fn standing(self, peer: PeerIdentity, role: Role, then: OnTrustShrink) -> Standing {
        let Self { credentials, told, known } = self;
        Standing { credentials, told, known, peer, role, then }
    }
}

impl Standing {
    /// What is to become of the connection then.
    #[cfg(feature = "upstream")]
    pub(crate) fn then(&self) -> OnTrustShrink {
        self.then
    }

    /// What is to become of the connection, once its peer would not be let in.
    pub(crate) async fn lost(mut self) -> OnTrustShrink {
        while self.told.changed().await.is_ok() {
            let now = self.credentials.trust();
            // Who cannot be judged has not been found wanting: a broken file ends no connection.
            if self.known == *now.anchors() || now.unreadable_lists().is_some() {
                continue;
            }
            self.known = Arc::clone(now.anchors());
            let again = self.credentials.in_turn(|| self.again(&now)).await;
            if let Err(why) = again {
                tracing::info!(peer = self.peer.name(), %why, "a peer of before is not believed any more");
                return self.then;
            }
        }
        pending().await
    }

    #[cfg_attr(
        not(feature = "transport"),
        expect(unused_variables, reason = "there are no clients without servers")
    )]
    fn again(&self, trust: &Trust) -> Result<(), rustls::Error> {
        let chain: Vec<_> = self.peer.chain().map(CertificateDer::from).collect();
        match &self.role {
            #[cfg(feature = "transport")]
            Role::Client(by) => trust.verify(&chain, UnixTime::now(), Usage::Client, *by).map(drop),
            #[cfg(feature = "upstream")]
            Role::Server(verifier, name) => {
                let (leaf, others) = chain.split_first().ok_or(CertificateError::BadEncoding)?;
                verifier.verify_server_cert(leaf, others, name, &[], UnixTime::now()).map(drop)
            }
        }
    }
}
