use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{
    backend::RuleService,
    breakers::Breakers,
    builder::SnapshotBuilder,
    canaries::Canaries,
    direction::Direction,
    edge::{EdgeParts, Listen},
    fallbacks::Fallbacks,
    mirrors::Mirrors,
    overload::Load,
    retries::Retries,
    service::WayIn,
    tcp::{StreamsIn, Table},
};
#[cfg(feature = "jwt")]
use crate::authn::{introspection::IntrospectionHandle, jwks::RemoteKeys, outbound::TokenSourceHandle};
#[cfg(feature = "tls")]
use crate::stack::Identities;
use crate::{
    admission::{authz::Tally, ext_authz::ExternalAuthHandle, quota::QuotaHandle},
    authn::api_key::ApiKeys,
    identity::AssertedHeaders,
    matching::PathPolicy,
    routing::router::RouterService,
    stack::admin::Admin,
    telemetry::usage::UsageMeter,
    upstream::Upstream,
};

/// All that a gateway does, at one moment: its listeners, rules and upstreams. Immutable.
///
/// It is built from Rust here, and from a file by `config`; a [`Gateway`](super::Gateway) takes one into force as a
/// whole. Limits, key tables and connections live in the parts that it is built of: who builds the next snapshot of
/// the same [`Limit`](crate::admission::rate_limit::Limit)s and of upstreams that
/// [inherit](crate::upstream::UpstreamBuilder::inherit) keeps them.
pub struct Snapshot {
    pub(super) listeners: Vec<Listen>,
    pub(super) admin: Option<Admin>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) api_keys: Vec<(Arc<str>, ApiKeys)>,
    #[cfg(feature = "tls")]
    pub(super) told_credentials: Identities,
    #[cfg(feature = "jwt")]
    pub(super) key_sets: Vec<(Arc<str>, RemoteKeys)>,
    #[cfg(feature = "jwt")]
    pub(super) introspections: Vec<(Arc<str>, IntrospectionHandle)>,
    /// By the names of the upstreams.
    #[cfg(feature = "jwt")]
    pub(super) token_sources: Vec<(Arc<str>, TokenSourceHandle)>,
    pub(super) shutdown_delay: Duration,
    pub(super) shutdown_grace: Duration,
    pub(super) load: Load,
    pub(super) retries: Retries,
    pub(super) fallbacks: Fallbacks,
    pub(super) mirrors: Mirrors,
    pub(super) canaries: Canaries,
    pub(super) breakers: Breakers,
    pub(super) rules: Vec<RuleFacts>,
    pub(super) ways: Vec<Way>,
    pub(super) tcp: Table,
    pub(super) paths: PathPolicy,
    /// What policies and authorizers of the rules count.
    #[cfg_attr(not(feature = "prometheus"), expect(dead_code, reason = "shown in metrics"))]
    pub(super) tallies: Vec<Tally>,
    /// Each limit that counts something. Of those of one name, the first.
    #[cfg(any(feature = "prometheus", feature = "redis"))]
    pub(super) limits: Vec<crate::admission::rate_limit::Limit>,
    #[cfg_attr(not(feature = "prometheus"), expect(dead_code, reason = "shown in metrics"))]
    pub(super) authorizers: BTreeMap<Arc<str>, ExternalAuthHandle>,
    /// Where each stands: position and name.
    #[cfg(feature = "prometheus")]
    pub(super) addresses: Vec<(&'static str, Arc<str>, crate::admission::address::AddressList)>,
    /// Of the rules.
    pub(super) quotas: Vec<QuotaHandle>,
    pub(super) usage: Option<UsageMeter>,
}

/// What goes one way: its rules, and what only they may say to upstreams.
pub(super) struct Way {
    pub(super) direction: Direction,
    pub(super) asserted: AssertedHeaders,
    /// Whether rules have filters, which may send clients to where they have come in.
    pub(super) filters: bool,
    pub(super) routes: RouterService<RuleService>,
}

/// What is told of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Whether strangers get there: it asks nobody who they are, and there is a listener that asks for no certificate.
    pub public: bool,
}

impl Snapshot {
    /// Whether it has identities or roots that somebody renews.
    #[cfg(all(feature = "config", feature = "tls"))]
    pub(crate) fn has_credentials(&self) -> bool {
        !self.told_credentials.is_empty()
    }

    /// Gathers the parts of a snapshot.
    pub fn builder() -> SnapshotBuilder {
        SnapshotBuilder::new()
    }

    /// The rules, in the order in which they were given.
    #[must_use]
    pub fn rules(&self) -> &[RuleFacts] {
        &self.rules
    }

    /// The TCP routes by which strangers get somewhere: they ask nobody, and there is a listener, of those that connections come in
    /// by, that asks for no certificate.
    #[cfg(feature = "config")]
    pub(crate) fn public_streams(&self) -> impl Iterator<Item = &str> {
        self.tcp.open_to_strangers(&self.listeners)
    }

    /// The upstreams that rules use.
    #[must_use]
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// What is done at each listener.
    pub(super) fn ways_in(
        &self,
        #[cfg(feature = "prometheus")] metrics: &crate::telemetry::metrics::Metrics,
    ) -> Vec<WayIn> {
        let parts = EdgeParts {
            paths: self.paths,
            usage: self.usage.clone(),
            overload: self.load.overload.clone(),
            #[cfg(feature = "prometheus")]
            metrics: metrics.clone(),
        };
        let way = |listen: &Listen| {
            let way = self.ways.iter().find(|way| way.direction == listen.direction)?;
            Some(WayIn {
                door: listen.door(),
                edge: listen.service(&parts, way),
                streams: StreamsIn { addresses: listen.addresses.clone(), routes: self.tcp.clone() },
            })
        };
        self.listeners.iter().filter_map(way).collect()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("listeners", &self.listeners)
            .field("admin", &self.admin)
            .field("rules", &self.rules)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}
