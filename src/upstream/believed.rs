//! Whether the server of a connection is still believed.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

#[cfg(feature = "tls")]
use crate::tls::{OnTrustShrink, Standing};
use crate::tunnel::TunnelCut;

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

    /// Drives a connection until it has ended, or is to be cut.
    pub(super) async fn drive(self, connection: impl Future) {
        if self.lost.is_none() {
            _ = connection.await;
            return;
        }
        let connection = async {
            _ = connection.await;
        };
        either(connection, self.cut()).await;
    }

    /// When a tunnel on this connection is to be cut, which is to be when `cut` says so, too.
    pub(super) fn tunnel(self, cut: Option<TunnelCut>) -> Option<TunnelCut> {
        if self.lost.is_none() {
            return cut;
        }
        let told = async {
            match cut {
                Some(cut) => cut.wait().await,
                None => pending().await,
            }
        };
        Some(TunnelCut::when(either(told, self.cut())))
    }

    /// Resolves when the connection is to be cut, and gives it no more requests before.
    async fn cut(self) {
        #[cfg(feature = "tls")]
        if let Some(standing) = self.standing {
            let then = standing.lost().await;
            if let Some(lost) = &self.lost {
                lost.store(true, Ordering::Relaxed);
            }
            if then == OnTrustShrink::Close {
                return;
            }
        }
        pending().await
    }
}

/// Resolves with the first of both.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await;
}
