use std::{fmt, sync::Arc};

/// Hears of a listener's connections, for metrics. It is called while connections are accepted: it must be quick.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// One was accepted.
    fn opened(&self);
    /// One that was accepted has closed.
    fn closed(&self);
    /// One was turned away: a cap is reached.
    fn refused(&self);
}

/// Somebody who hears, or nobody.
#[derive(Clone, Default)]
pub(super) struct Observer(pub(super) Option<Arc<dyn ConnectionObserver>>);

impl Observer {
    pub(super) fn tell(&self, event: fn(&dyn ConnectionObserver)) {
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
