#[cfg(feature = "prometheus")]
use super::{edge::Listen, rule::Rule};
#[cfg(feature = "prometheus")]
use crate::admission::rate_limit::Limit;
use crate::{
    admission::rate_limit::{Charge, Fields, RateLimit},
    gate::AsyncGates,
};

/// Limits that are one decision, and what clients are told of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub(super) charges: Vec<Charge>,
    pub(super) fields: Fields,
    pub(super) legacy: bool,
}

impl Limits {
    /// Whether one of them counts by what only authentication tells.
    pub(super) fn need_identity(&self) -> bool {
        self.charges.iter().any(Charge::needs_identity)
    }

    /// Whether one of them has requests wait.
    pub(super) fn wait(&self) -> bool {
        self.charges.iter().any(|charge| charge.limit().algorithm().waits())
    }

    /// Their gate, if there are any.
    pub(super) fn gate(self) -> Option<RateLimit> {
        if self.charges.is_empty() {
            return None;
        }
        Some(RateLimit::from_iter(self.charges).fields(self.fields).legacy_fields(self.legacy))
    }

    /// Puts their gate inside of these, if there are any.
    pub(super) fn inside_of(self, gates: AsyncGates) -> AsyncGates {
        let waits = self.wait();
        match self.gate() {
            #[cfg(feature = "redis")]
            Some(limits) if limits.is_distributed() => gates.with_async(limits.distributed()),
            Some(limits) if waits => gates.with_async(limits.shaping()),
            Some(limits) => gates.with(limits),
            None => gates,
        }
    }
}

/// The limits of a gateway; of those of one name, the first.
#[cfg(feature = "prometheus")]
pub(super) fn all(listeners: &[Listen], rules: &[Rule]) -> Vec<Limit> {
    let of_listeners = listeners.iter().map(|listen| &listen.limits);
    let of_rules = rules.iter().map(|rule| &rule.limits);
    let mut limits: Vec<Limit> = Vec::new();
    for charge in of_listeners.chain(of_rules).flat_map(|limits| &limits.charges) {
        if !limits.iter().any(|known| known.name() == charge.limit().name()) {
            limits.push(charge.limit().clone());
        }
    }
    limits
}
