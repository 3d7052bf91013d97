//! How long a connection may last, by who its peer is.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Peer,
    server::{Lost, Verdict},
};
#[cfg(feature = "tls")]
use crate::tls::{OnTrustShrink, Standing};
use crate::{race::race, time::after};

/// What is in flight when a certificate expires may take so long.
const GRACE: Duration = Duration::from_secs(30);

/// How long a connection may last: as long as its peer's certificate is valid, and its peer is believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Tenure {
    /// When the certificate expires.
    pub(super) ends: Option<Instant>,
    #[cfg(feature = "tls")]
    pub(super) standing: Option<Standing>,
}

impl Tenure {
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            ends: peer.ends(Instant::now()),
            #[cfg(feature = "tls")]
            standing: None,
        }
    }

    /// When nothing may be left of it.
    pub(super) fn over(&self) -> Option<Instant> {
        Some(after(self.ends?, GRACE))
    }

    /// Tells what is to be done once the peer is not believed any more.
    pub(super) fn lost(&self) -> Option<Lost> {
        #[cfg(feature = "tls")]
        if let Some(standing) = self.standing.clone() {
            return Some(Box::pin(async {
                match standing.lost().await {
                    OnTrustShrink::Close => Verdict::Cut,
                    _ => Verdict::Close,
                }
            }));
        }
        None
    }

    /// Resolves when a connection must be cut of which others know what is in flight: they have the time for it, unless it is to be
    /// cut at once.
    #[cfg(feature = "tls")]
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.over_or_lost(|| tokio::time::sleep(GRACE))
    }

    /// Resolves when a tunnel must be cut, which nobody else looks after.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.over_or_lost(pending)
    }

    /// Resolves when the certificate has expired, or its peer is not believed any more: at once if it is to be cut then, or else
    /// `later`.
    fn over_or_lost<L, F>(&self, later: L) -> impl Future<Output = ()> + Send + 'static + use<L, F>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (over, lost) = (self.over(), self.lost());
        async move {
            let over = async {
                match over {
                    Some(over) => sleep_until(over).await,
                    None => pending().await,
                }
            };
            let lost = async {
                let verdict = match lost {
                    Some(lost) => lost.await,
                    None => pending().await,
                };
                if verdict != Verdict::Cut {
                    later().await;
                }
            };
            race(over, lost).await;
        }
    }
}
