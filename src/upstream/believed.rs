//! Whether the server of a connection is still believed: what its certificate says, and who signed it.

#[cfg(feature = "tls")]
use std::time::{Duration, SystemTime};
use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{race::race, tunnel::TunnelCut};
#[cfg(feature = "tls")]
use crate::{
    time::after,
    tls::{OnTrustShrink, Standing},
};

/// What is in flight when a certificate expires may take so long, as that of clients may.
#[cfg(feature = "tls")]
const GRACE: Duration = Duration::from_secs(30);

/// Whether a connection may take another request, as far as that depends on who its server is.
#[derive(Clone, Default)]
pub(super) struct Believed {
    /// `None`: for as long as it lasts.
    #[cfg(feature = "tls")]
    standing: Option<Standing>,
    lost: Option<Arc<AtomicBool>>,
    /// When nothing may be left of the connection, since the server's certificate has expired.
    over: Option<Instant>,
}

impl Believed {
    /// By who signed the server's certificate, and until when that is valid.
    #[cfg(feature = "tls")]
    pub(super) fn by(standing: Option<Standing>, until: Option<SystemTime>) -> Self {
        let lost = standing.is_some().then(Arc::default);
        let left = |until: SystemTime| until.duration_since(SystemTime::now()).unwrap_or_default();
        let over = until.map(|until| after(after(Instant::now(), left(until)), GRACE));
        Self { standing, lost, over }
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

    /// Resolves when the connection is to be cut since its server is not believed any more; `None`: never.
    pub(super) fn cut(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(self.clone().lost(false)?))
    }

    /// Tells when the connection is to be cut since its server's certificate has expired; `None`: never.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        self.over.map(Expiry::at)
    }

    /// Resolves when nothing may be left of the connection.
    pub(super) async fn over(self) {
        let over = self.over;
        let expired = async {
            match over {
                Some(over) => sleep_until(over).await,
                None => pending().await,
            }
        };
        match self.lost(false) {
            Some(lost) => race(expired, lost).await,
            None => expired.await,
        }
    }

    /// When a tunnel on this connection is to be cut, which is to be when `cut` says so, too.
    pub(super) fn tunnel(self, cut: Option<TunnelCut>) -> Option<TunnelCut> {
        if self.over.is_none() && self.cut().is_none() {
            return cut;
        }
        let told = async {
            match cut {
                Some(cut) => cut.wait().await,
                None => pending().await,
            }
        };
        Some(TunnelCut::when(race(told, self.over())))
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

/// The end of a connection by its server's certificate.
///
/// Whoever drives the connection asks often, and almost always in vain: the timer is looked at, and not polled, for as long as the
/// same task asks.
pub(super) struct Expiry {
    timer: Pin<Box<Sleep>>,
    /// Who is woken by it.
    task: Option<Waker>,
}

impl Expiry {
    fn at(over: Instant) -> Self {
        Self { timer: Box::pin(sleep_until(over)), task: None }
    }

    pub(super) fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) && !self.timer.is_elapsed() {
            // One that may not be polled now is polled the next time.
            let is_polled = tokio::task::coop::has_budget_remaining();
            self.task = (self.timer.as_mut().poll(cx).is_pending() && is_polled).then(|| cx.waker().clone());
        }
        self.timer.is_elapsed()
    }
}
