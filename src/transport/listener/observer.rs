use std::{fmt, sync::Arc};

use crate::{identity::PeerAddr, reject::Reason};

/// Hears of a listener's connections, for metrics. It is called while connections are accepted: it must be quick.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// One was accepted.
    fn opened(&self);
    /// One that was accepted has closed.
    fn closed(&self);
    /// One was turned away: a cap is reached.
    fn refused(&self);
    /// A head of this peer's became no request, and the server answered it itself: malformed
    /// ([`Reason::BadRequest`]), too large ([`Reason::HeadTooLarge`]) or too slow ([`Reason::RequestTimeout`]).
    fn head_refused(&self, peer: PeerAddr, reason: Reason) {
        let _ = (peer, reason);
    }
}

/// Somebody who hears, or nobody.
#[derive(Clone, Default)]
pub(in crate::transport) struct Observer(pub(super) Option<Arc<dyn ConnectionObserver>>);

impl Observer {
    pub(in crate::transport) fn tell(&self, event: impl FnOnce(&dyn ConnectionObserver)) {
        if let Some(observer) = &self.0 {
            event(&**observer);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
