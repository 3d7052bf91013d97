//! What the process as a whole tells of itself.

use crate::reject::Reason;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Numbers about the process, set by whoever loads the configuration and accepts connections. All methods are
/// one atomic operation.
#[derive(Debug, Default)]
pub struct ProcessMetrics {
    generation: AtomicU64,
    reloads: AtomicU64,
    reload_failures: AtomicU64,
    connections: AtomicI64,
    connections_accepted: AtomicU64,
    connections_refused: AtomicU64,
    heads_refused: [AtomicU64; Reason::OF_HEADS.len()],
    connections_cut: AtomicU64,
}

impl ProcessMetrics {
    /// A configuration is in force; `generation` counts them from 1.
    pub fn config_loaded(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
        self.reloads.fetch_add(1, Relaxed);
    }

    /// A configuration was found faulty and changed nothing.
    pub fn config_refused(&self) {
        self.reload_failures.fetch_add(1, Relaxed);
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.connections_accepted.fetch_add(1, Relaxed);
    }

    /// A connection has closed.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A connection was turned away: a cap is reached.
    pub fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    /// A head became no request, for this reason. What is none of those that a server has is counted as a bad request.
    pub fn head_refused(&self, reason: Reason) {
        self.heads_refused[reason.of_head()].fetch_add(1, Relaxed);
    }

    /// A connection was cut, as its peer misused it.
    pub fn connection_cut(&self) {
        self.connections_cut.fetch_add(1, Relaxed);
    }

    /// The number of the configuration in force; 0 if there is none.
    pub fn config_generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// How many configurations were found faulty.
    pub fn config_failures(&self) -> u64 {
        self.reload_failures.load(Relaxed)
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> i64 {
        self.connections.load(Relaxed)
    }

    pub(super) fn gauges(&self) -> [(&'static str, &'static str, i64); 2] {
        let generation = i64::try_from(self.config_generation()).unwrap_or(i64::MAX);
        [
            ("config_generation", "Number of the configuration in force", generation),
            ("connections_open", "Connections open", self.connections_open()),
        ]
    }

    /// Heads that became no request, by the label of their reason.
    pub(super) fn heads_refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.heads_refused.iter().map(|count| count.load(Relaxed));
        Reason::OF_HEADS.iter().map(|reason| reason.label()).zip(counts)
    }

    pub(super) fn counters(&self) -> [(&'static str, &'static str, u64); 5] {
        [
            ("config_loads", "Configurations taken into force", self.reloads.load(Relaxed)),
            ("config_load_failures", "Faulty configurations that changed nothing", self.config_failures()),
            ("connections_accepted", "Connections accepted", self.connections_accepted.load(Relaxed)),
            ("connections_refused", "Connections turned away", self.connections_refused.load(Relaxed)),
            (
                "connections_cut",
                "Connections cut, as their peers misused them",
                self.connections_cut.load(Relaxed),
            ),
        ]
    }
}
