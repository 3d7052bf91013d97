//! Whether the server of a connection is still believed.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(feature = "tls")]
use crate::tls::{OnTrustShrink, Standing};
use crate::{race::race, tunnel::TunnelCut};

/// Whether a connection may take another request, as far as that depends on who its server is.
#[derive(Clone, Default)]
pub(super) struct Believed {
    /// `None`: for as long as it lasts.
    #[cfg(feature = "tls")]
    standing: Option<Standing>,
    lost: Option<Arc<AtomicBool>>,
}

impl Believed {
    #[cfg(feature = "tls")]
    pub(super) fn by(standing: Option<Standing>) -> Self {
        let lost = standing.is_some().then(Arc::default);
        Self { standing, lost }
    }

    /// Whether it is no longer.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.load(Ordering::Relaxed))
    }

    /// Drives a connection until it has ended, and gives it no more requests once its server is not believed.
    pub(super) async fn drive(self, connection: impl Future) {
        let connection = async {
            _ = connection.await;
        };
        match self.lost(true) {
            None => connection.await,
            Some(lost) => {
                let lost = async {
                    lost.await;
                    pending::<()>().await;
                };
                race(connection, lost).await;
            }
        }
    }

    /// Resolves when the connection is to be cut; `None`: never.
    pub(super) fn cut(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(self.clone().lost(false)?))
    }

    /// When a tunnel on this connection is to be cut, which is to be when `cut` says so, too.
    pub(super) fn tunnel(self, cut: Option<TunnelCut>) -> Option<TunnelCut> {
        let Some(lost) = self.lost(false) else { return cut };
        let told = async {
            match cut {
                Some(cut) => cut.wait().await,
                None => pending().await,
            }
        };
        Some(TunnelCut::when(race(told, lost)))
    }

    /// Resolves when its server is not believed any more, of one which is to be drained, or else cut, then.
    #[cfg(feature = "tls")]
    fn lost(self, drained: bool) -> Option<impl Future<Output = ()> + Send + 'static> {
        let standing = self.standing?;
        let is_cut = standing.then() == OnTrustShrink::Close;
        let lost = async move {
            standing.lost().await;
            if let Some(lost) = &self.lost {
                lost.store(true, Ordering::Relaxed);
            }
        };
        (is_cut != drained).then_some(lost)
    }

    #[cfg(not(feature = "tls"))]
    fn lost(self, _: bool) -> Option<std::future::Pending<()>> {
        None
    }
}
