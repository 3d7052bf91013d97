//! What is told of calls that no gateway makes, and by which handles they are steered.
use super::{breakers::Breakers, canaries::Canaries, overload::Load, retries::Retries, rule::Rule};
#[cfg(feature = "prometheus")]
use super::{endpoints, mirrors::Mirrors};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;
use crate::{
    resilience::{breaker::BreakerHandle, fault::FaultHandle},
    routing::canary::CanaryHandle,
    upstream::Upstream,
};

/// The numbers and handles of rules that stand in no gateway, and of their upstreams.
#[derive(Debug, Default)]
pub(in crate::stack) struct Told {
    upstreams: Vec<Upstream>,
    load: Load,
    retries: Retries,
    #[cfg(feature = "prometheus")]
    mirrors: Mirrors,
    canaries: Canaries,
    breakers: Breakers,
    #[cfg(all(feature = "jwt", feature = "prometheus"))]
    token_sources: Vec<(std::sync::Arc<str>, crate::authn::outbound::TokenSourceHandle)>,
}

impl Told {
    pub(in crate::stack) fn of(rules: &[Rule]) -> Self {
        Self {
            upstreams: super::backend::upstreams(rules),
            load: Load::of(None, &[], rules),
            retries: Retries::of(rules),
            #[cfg(feature = "prometheus")]
            mirrors: Mirrors::of(rules),
            canaries: Canaries::of(rules),
            breakers: Breakers::of(rules),
            #[cfg(all(feature = "jwt", feature = "prometheus"))]
            token_sources: super::parts::token_sources(rules),
        }
    }

    /// They are in force now.
    pub(in crate::stack) fn start(&self) {
        self.load.start();
        self.canaries.start();
    }

    /// Each once.
    pub(in crate::stack) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    pub(in crate::stack) fn canary(&self, rule: &str) -> Option<&CanaryHandle> {
        self.canaries.find(rule)
    }

    pub(in crate::stack) fn fault(&self, rule: &str) -> Option<&FaultHandle> {
        self.retries.fault(rule)
    }

    pub(in crate::stack) fn breaker(&self, upstream: &str) -> Option<&BreakerHandle> {
        self.breakers.of_upstream(upstream)
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(in crate::stack) fn numbers(&self, samples: &mut Samples) {
        endpoints::numbers(&self.upstreams, samples);
        self.load.numbers(samples);
        self.retries.numbers(samples);
        self.mirrors.numbers(samples);
        self.canaries.numbers(samples);
        self.breakers.numbers(samples);
        #[cfg(feature = "jwt")]
        super::tokens::numbers_of_sources(&self.token_sources, samples);
    }
}
