use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A handle to an upgraded connection. A request or response extension, cheap to clone.
#[derive(Clone)]
pub struct Tunnel(Arc<Held>);

/// The tunnel is open while this lives.
pub struct TunnelGuard(Arc<Held>);

/// How long the tunnel may last that a request asks for. A request extension, set by a timeout layer and kept by
/// whoever runs the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelLimits {
    /// How long both directions may keep silent.
    pub idle: Duration,
    /// When it must have closed.
    pub until: Instant,
}

/// Tells whoever runs a tunnel to close it at once. A request extension, set by whoever serves the connection: it cannot
/// take back what it gave away, and a tunnel that reads nothing from its connection would not notice its end.
#[derive(Clone)]
pub struct TunnelCut(Arc<Mutex<Option<End>>>);

/// Resolves when a tunnel must close.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `None`: closed.
type Held = Mutex<Option<Vec<Box<dyn Send>>>>;

impl Tunnel {
    /// An open tunnel.
    #[must_use]
    pub fn new() -> (Self, TunnelGuard) {
        let held = Arc::new(Mutex::new(Some(Vec::new())));
        (Self(Arc::clone(&held)), TunnelGuard(held))
    }

    /// Keeps `thing` until the tunnel closes; drops it at once if it has.
    pub fn hold(&self, thing: impl Send + 'static) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(things) => things.push(Box::new(thing)),
            None => {
                drop(held); // `thing` may do anything when it is dropped: not under our lock
                drop(thing);
            }
        }
    }
}

impl TunnelCut {
    /// To be closed when `cut` resolves.
    #[must_use]
    pub fn when(cut: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(cut)))))
    }

    /// Resolves when the tunnel must close. Only one can wait: whoever comes later waits for ever.
    pub async fn wait(self) {
        let cut = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match cut {
            Some(cut) => cut.await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(things);
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl fmt::Debug for TunnelCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelCut").finish_non_exhaustive()
    }
}

impl fmt::Debug for TunnelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_close_is_dropped() {
        let (tunnel, guard) = Tunnel::new();
        drop(guard);
        let thing = Arc::new(());
        tunnel.hold(Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 1);
    }

    #[test]
    fn a_held_thing_may_use_the_tunnel_when_it_is_dropped() {
        struct Again(Tunnel, Arc<()>);
        impl Drop for Again {
            fn drop(&mut self) {
                self.0.hold(Arc::clone(&self.1));
            }
        }
        let (tunnel, guard) = Tunnel::new();
        let thing = Arc::new(());
        tunnel.hold(Again(tunnel.clone(), Arc::clone(&thing)));
        drop(guard);
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
