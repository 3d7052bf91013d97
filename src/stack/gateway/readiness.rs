//! Whether a gateway may be sent requests.
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use thiserror::Error;
use tokio::time::sleep;
#[cfg(feature = "tls")]
use tokio::time::timeout;

use super::run::{Gateway, Shared};
#[cfg(feature = "tls")]
use super::snapshot::Snapshot;
#[cfg(feature = "tls")]
use crate::tls::Credentials;

/// How often it is looked again whether something else is in force, or it goes down.
const LOOK: Duration = Duration::from_millis(100);

/// Why a gateway is not ready, as `/readyz` says it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// It goes down.
    #[error("draining")]
    Draining,
    /// Handshakes of this listener, or with this upstream, cannot succeed: its source of identities, or of roots, has given nothing
    /// yet.
    #[error("no identity yet: {of}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NoIdentity {
        /// The listener or the upstream.
        of: Arc<str>,
        /// What its source says, if it fails.
        why: Option<Arc<str>>,
    },
    /// Nothing is in force yet.
    #[error("starting")]
    Starting,
}

impl Gateway {
    /// Whether it is ready for requests, as `/readyz` says: a configuration is in force, the identities that its listeners and
    /// upstreams need for handshakes are there, and it does not go down.
    ///
    /// Who has been ready stays so until it goes down: an identity that is not renewed, or that is new and awaited, keeps nobody from
    /// what is served without it. The status and the metrics tell of it.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn readiness(&self) -> Result<(), NotReady> {
        self.shared().readiness()
    }

    /// Waits until it is [ready](Self::readiness).
    ///
    /// # Errors
    ///
    /// It goes down.
    pub async fn ready(&self) -> Result<(), NotReady> {
        loop {
            match self.readiness() {
                Err(NotReady::NoIdentity { .. } | NotReady::Starting) => self.shared().changed().await,
                ready => return ready,
            }
        }
    }
}

impl Shared {
    /// Who is found ready has been so from then on.
    pub(super) fn readiness(&self) -> Result<(), NotReady> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(NotReady::Draining);
        }
        let Some(_current) = self.current.load_full() else { return Err(NotReady::Starting) };
        #[cfg(feature = "tls")]
        if !self.was_ready.load(Ordering::Relaxed)
            && let Some((of, credentials)) = _current.snapshot.awaited().next()
        {
            return Err(NotReady::NoIdentity { of: of.into(), why: credentials.status().failure });
        }
        self.was_ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Who is ready stays so, whatever of the next configuration is to be waited for.
    pub(super) fn stay_ready(&self) {
        drop(self.readiness());
    }

    /// Waits until it may be another thing that is waited for.
    async fn changed(&self) {
        #[cfg(feature = "tls")]
        if let Some(current) = self.current.load_full()
            && let Some((_, credentials)) = current.snapshot.awaited().next()
            && credentials.current().is_none()
        {
            let _ = timeout(LOOK, credentials.ready()).await;
            return;
        }
        sleep(LOOK).await;
    }
}

#[cfg(feature = "tls")]
impl Snapshot {
    /// The listeners and upstreams whose handshakes cannot succeed yet, and whom they wait for.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (String, &Credentials)> {
        let listeners = self
            .listeners
            .iter()
            .filter_map(|listen| Some((format!("listener {:?}", listen.name), listen.awaited()?)));
        let upstreams = self
            .upstreams
            .iter()
            .filter_map(|upstream| Some((format!("upstream {:?}", upstream.name()), upstream.awaited()?)));
        listeners.chain(upstreams)
    }
}
