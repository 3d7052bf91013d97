#[cfg(any(feature = "prometheus", feature = "redis"))]
use super::{edge::Listen, rule::Rule};
#[cfg(any(feature = "prometheus", feature = "redis"))]
use crate::admission::rate_limit::Limit;
use crate::{
    admission::{
        Fields,
        rate_limit::{Charge, RateLimit},
    },
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

    /// Their gate, if there are any.
    pub(super) fn gate(self) -> Option<RateLimit> {
        if self.charges.is_empty() {
            return None;
        }
        Some(RateLimit::from_iter(self.charges).fields(self.fields).legacy_fields(self.legacy))
    }

    /// Puts their gate inside of these, if there are any.
    pub(super) fn inside_of(self, gates: AsyncGates) -> AsyncGates {
        let Some(limits) = self.gate() else { return gates };
        match limits.clone().sync() {
            Ok(limits) => gates.with(limits),
            Err(_) => gates.with_async(limits),
        }
    }
}

/// The limits of a gateway; of those of one name, the first.
#[cfg(any(feature = "prometheus", feature = "redis"))]
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

/// Gives back what was taken ahead on Redis, where nobody will spend it any more.
#[cfg(feature = "redis")]
pub(super) async fn give_back(limits: &[Limit]) {
    for handle in limits.iter().filter_map(Limit::distribution) {
        handle.give_back().await;
    }
}
