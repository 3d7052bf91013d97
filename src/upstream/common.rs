use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::chance::Chance;
#[cfg(feature = "tls")]
use crate::lines::Lines;

/// What the members of an upstream have in common.
#[derive(Default)]
pub(super) struct Common {
    /// How often one of them began to take requests, or ceased to.
    pub(super) rung: AtomicU64,
    /// Requests in flight at all of them, where they are counted.
    pub(super) in_flight: AtomicUsize,
    /// How much sooner than others a connection ends.
    pub(super) ages: Chance,
    /// Handshakes that failed.
    #[cfg(feature = "tls")]
    pub(super) refusals: Lines,
}

impl Common {
    /// How often one of them began to take requests, or ceased to.
    pub(super) fn rung(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}
