use std::{
    borrow::Borrow,
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderName;

#[cfg(feature = "jwt")]
use super::{jwks::KeySets, remembered::Remembered};
#[cfg(feature = "jwt")]
use crate::authn::{jwks::RemoteKeys, outbound::TokenSource};
use crate::config::{
    at::At,
    files::Files,
    gates::Registry,
    kept::{
        Counted, Followers, Kept, KeptCanary, KeptOverload, KeptUsage, Made, Said, SaidOfCanary, SaidOfStale,
        Stores,
    },
    scalar::{Name, Spelled},
    schema::{Authorizer, CircuitBreaker, Gateway, KeyFile, Schema, schema_of},
    suggest::suggestion,
};
use crate::{
    admission::{
        authz::Policy, concurrency::Concurrency, ext_authz::ExternalAuth, quota::Quota, rate_limit::Charge,
        shed::SuccessRate,
    },
    authn::Authenticator,
    resilience::{breaker::BreakerLayer, budget::Budget, fallback::Stale},
    stack::gateway::{Snapshot, SnapshotBuilder},
    upstream::{SessionKey, Upstream},
};
#[cfg(feature = "tls")]
use crate::{config::schema::Identity, tls::Credentials};

/// Of a build that cannot do it.
pub(super) const NO_TLS: &str = "this build has no TLS: it was made without the feature `tls`";

/// What the compilers of the parts share.
pub(in crate::config) struct Compiler<'a> {
    pub(super) top: At<'a>,
    pub(super) file: &'a Gateway,
    /// The file that is read, if it is one: relative paths begin in its directory.
    pub(super) source: Option<&'a Path>,
    pub(super) files: &'a RefCell<Files>,
    pub(super) gates: &'a Registry,
    pub(super) kept: &'a Kept,
    pub(super) key_schema: OnceCell<Schema>,
    pub(super) providers: BTreeMap<&'a str, Arc<dyn Authenticator>>,
    pub(super) limits: BTreeMap<&'a str, Charge>,
    pub(super) quotas: BTreeMap<&'a str, Quota>,
    pub(super) meter: RefCell<Option<KeptUsage>>,
    pub(super) authorizers: Made<Said<Authorizer>, ExternalAuth>,
    pub(super) authorization: BTreeMap<&'a str, Policy>,
    pub(super) upstreams: BTreeMap<&'a str, Upstream>,
    /// For hosts of which nothing is said.
    pub(super) elsewhere: RefCell<Option<Upstream>>,
    pub(super) concurrency: BTreeMap<&'a str, Concurrency>,
    /// By the names of the upstreams.
    pub(super) rates: BTreeMap<&'a str, SuccessRate>,
    pub(super) budgets: BTreeMap<&'a str, Budget>,
    pub(super) counted: RefCell<Counted>,
    /// By the names of the rules.
    pub(super) canaries: RefCell<Made<SaidOfCanary, KeptCanary>>,
    /// By the names of the rules.
    pub(super) stales: RefCell<Made<SaidOfStale, Stale>>,
    /// As the next compiler finds them.
    pub(super) breakers: RefCell<Made<CircuitBreaker, BreakerLayer>>,
    /// Those of the upstreams.
    pub(super) guarded: BTreeMap<&'a str, BreakerLayer>,
    /// The key of sessions, if one is said.
    pub(super) sessions_by: Option<SessionKey>,
    #[cfg(feature = "tls")]
    pub(super) identities: RefCell<Made<Identity, Credentials>>,
    /// By their paths.
    #[cfg(feature = "tls")]
    pub(super) roots: RefCell<Made<(), Credentials>>,
    pub(super) stores: RefCell<Stores>,
    pub(super) followers: RefCell<Followers>,
    /// Keys over the network: as the next compiler finds them, and as they are called here.
    #[cfg(feature = "jwt")]
    pub(super) key_sets: RefCell<KeySets>,
    #[cfg(feature = "jwt")]
    pub(super) fetched: RefCell<Vec<(Arc<str>, RemoteKeys)>>,
    #[cfg(feature = "jwt")]
    pub(super) remembered: RefCell<Remembered>,
    /// The credentials of upstreams, by their names.
    #[cfg(feature = "jwt")]
    pub(super) sources: BTreeMap<&'a str, TokenSource>,
}

/// What the file describes, a snapshot say, and what the next one may take over.
pub(in crate::config) struct Compiled<T = Snapshot> {
    pub(in crate::config) made: T,
    pub(in crate::config) kept: Kept,
    /// To be started before it is in force.
    pub(in crate::config) followers: Followers,
}

impl<'a> Compiler<'a> {
    pub(in crate::config) fn new(
        top: At<'a>,
        file: &'a Gateway,
        source: Option<&'a Path>,
        files: &'a RefCell<Files>,
        gates: &'a Registry,
        kept: &'a Kept,
    ) -> Self {
        let (providers, limits, upstreams, stores, followers) = Default::default();
        let (authorizers, authorization, concurrency, rates) = Default::default();
        let (quotas, meter) = Default::default();
        Self {
            top,
            file,
            source,
            files,
            gates,
            kept,
            key_schema: OnceCell::new(),
            providers,
            limits,
            quotas,
            meter,
            authorizers,
            authorization,
            upstreams,
            elsewhere: RefCell::default(),
            concurrency,
            rates,
            budgets: BTreeMap::new(),
            counted: RefCell::default(),
            canaries: RefCell::default(),
            stales: RefCell::default(),
            breakers: RefCell::default(),
            guarded: BTreeMap::new(),
            sessions_by: None,
            #[cfg(feature = "tls")]
            identities: RefCell::default(),
            #[cfg(feature = "tls")]
            roots: RefCell::default(),
            stores,
            followers,
            #[cfg(feature = "jwt")]
            key_sets: RefCell::new(kept.key_sets.successor()),
            #[cfg(feature = "jwt")]
            fetched: RefCell::default(),
            #[cfg(feature = "jwt")]
            remembered: RefCell::default(),
            #[cfg(feature = "jwt")]
            sources: BTreeMap::new(),
        }
    }

    /// The snapshot that the file describes. It is of use only if nothing was reported.
    pub(in crate::config) fn compile(mut self) -> Option<Compiled> {
        self.define();
        let builder = self.listeners(Snapshot::builder());
        let builder = self.tcp_routes(self.called_by_name(self.routes(builder)));
        let locations = self.providers.values().flat_map(|provider| provider.locations());
        let builder = builder.credentials(locations.cloned());
        let builder = builder.asserted(self.asserted()).caller_headers(self.caller_headers());
        let builder = self.watched(builder);
        let builder = self.usage(builder);
        let (builder, overload) = self.overload(builder);
        let made = self.build(builder)?;
        let (kept, followers) = self.keep(overload);
        Some(Compiled { made, kept, followers })
    }

    /// What the next one may take over.
    pub(super) fn keep(self, overload: Option<KeptOverload>) -> (Kept, Followers) {
        let file = self.file;
        let rates_of = |name: &str| file.upstreams.get(name)?.success_rate.as_ref();
        let kept = Kept {
            budgets: made(self.budgets, |name| Some(&file.upstreams.get(name)?.retry_constraint)),
            counted: self.counted.into_inner(),
            concurrency: made(self.concurrency, |name| file.concurrency.get(name)),
            rates: made(self.rates, rates_of),
            canaries: self.canaries.into_inner(),
            stales: self.stales.into_inner(),
            breakers: self.breakers.into_inner(),
            overload,
            #[cfg(feature = "tls")]
            identities: self.identities.into_inner(),
            #[cfg(feature = "tls")]
            roots: self.roots.into_inner(),
            stores: self.stores.into_inner(),
            limits: self.kept.limits.clone(),
            quotas: self.kept.quotas.clone(),
            usage: self.meter.into_inner(),
            upstreams: self
                .upstreams
                .into_values()
                .chain(self.elsewhere.into_inner())
                .map(|upstream| (upstream.name().to_owned(), upstream))
                .collect(),
            tally: self.kept.tally.clone(),
            authorizers: self.authorizers,
            #[cfg(feature = "jwt")]
            key_sets: self.key_sets.into_inner(),
            #[cfg(feature = "jwt")]
            remembered: self.remembered.into_inner(),
        };
        (kept, self.followers.into_inner())
    }

    /// What is told of in the status and in metrics.
    fn watched(&mut self, builder: SnapshotBuilder) -> SnapshotBuilder {
        let keys = self.stores.get_mut().keys.all().iter();
        let keys = keys.map(|(name, (_, keys))| (name.as_str(), keys.clone()));
        let builder = builder.api_keys(keys);
        #[cfg(feature = "tls")]
        let builder = builder.identities(self.told_identities());
        #[cfg(feature = "jwt")]
        let builder = self
            .fetched
            .take()
            .into_iter()
            .fold(builder, |builder, (name, keys)| builder.key_set(name, keys));
        #[cfg(feature = "jwt")]
        let builder = self
            .introspections()
            .into_iter()
            .fold(builder, |builder, (name, introspection)| builder.introspection(name, &introspection));
        builder
    }

    /// The things that have names.
    pub(super) fn define(&mut self) {
        let file = self.file;
        self.servers();
        #[cfg(feature = "tls")]
        for (at, name, identity) in self.top.field("identities").entries(&file.identities) {
            if named(at, name) {
                self.identity(at, name, identity);
            }
        }
        self.sessions_by = self.session_key();
        for (at, name, provider) in self.top.field("authentication").entries(&file.authentication) {
            if let (true, Some(provider)) = (named(at, name), self.provider(at, name, provider)) {
                self.providers.insert(name, provider);
            }
        }
        for (at, name, limit) in self.top.field("rateLimits").entries(&file.rate_limits) {
            if let (true, Some(limit)) = (named(at, name), self.limit(at, name, limit)) {
                self.limits.insert(name, limit);
            }
        }
        for (at, name, quota) in self.top.field("quotas").entries(&file.quotas) {
            if let (true, Some(quota)) = (named(at, name), self.quota(at, name, quota)) {
                self.quotas.insert(name, quota);
            }
        }
        for (at, name, limit) in self.top.field("concurrency").entries(&file.concurrency) {
            if let (true, Some(limit)) = (named(at, name), self.concurrency(at, name, limit)) {
                self.concurrency.insert(name, limit);
            }
        }
        for (at, name, authorizer) in self.top.field("authorizers").entries(&file.authorizers) {
            if let (true, Some((said, made))) = (named(at, name), self.authorizer(at, name, authorizer)) {
                self.authorizers.insert(name, said, made);
            }
        }
        for (at, name, policy) in self.top.field("authorization").entries(&file.authorization) {
            if let (true, Some(policy)) = (named(at, name), self.policy(at, name, policy)) {
                self.authorization.insert(name, policy);
            }
        }
        // What comes in from the service would go round.
        let calls = file.outbound.iter().flat_map(|side| &side.listeners).map(|listener| listener.address.0);
        let own: Vec<_> = file.admin.iter().map(|admin| admin.address()).chain(calls).collect();
        for (at, name, upstream) in self.top.field("upstreams").entries(&file.upstreams) {
            if let (true, Some(upstream)) = (named(at, name), self.upstream(at, name, upstream, &own)) {
                self.upstreams.insert(name, upstream);
            }
            let budget = self.retry_budget(at.field("retryConstraint"), name, &upstream.retry_constraint);
            self.budgets.insert(name, budget);
            if let Some(breaker) = self.upstream_breaker(at, name, upstream) {
                self.guarded.insert(name, breaker);
            }
            self.upstream_credentials(at, name, upstream);
            if let Some(rate) = self.upstream_load(at, name, upstream) {
                self.rates.insert(name, rate);
            }
        }
    }

    fn build(&self, builder: SnapshotBuilder) -> Option<Snapshot> {
        match builder.build() {
            Ok(snapshot) => Some(snapshot),
            // What is wrong has been reported at its place already, or else it is a mistake of ours.
            Err(error) if self.top.log().refuses() => {
                tracing::debug!(%error, "faulty parts make no snapshot");
                None
            }
            Err(error) => self.top.refuse(error.to_string()),
        }
    }

    /// Every header name that something in this file tells upstreams, whether a rule uses it or not.
    pub(super) fn asserted(&self) -> Vec<HeaderName> {
        let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
        let of_authorizers = self.authorizers.each().flat_map(ExternalAuth::asserted_headers);
        let of_callers = self.file.caller_headers.keys().filter_map(|name| HeaderName::try_from(name).ok());
        of_providers.chain(of_authorizers).cloned().chain(of_callers).collect()
    }

    /// The items of a list of names, each with its place; one that stands there twice is reported.
    pub(super) fn distinct<'b>(&self, at: At<'b>, names: &'b [String]) -> Vec<(At<'b>, &'b str)> {
        let mut seen = HashSet::new();
        let mut distinct = Vec::new();
        for (at, name) in at.items(names) {
            if seen.insert(name) {
                distinct.push((at, name.as_str()));
            } else {
                at.error("is in this list twice");
            }
        }
        distinct
    }

    /// What a name stands for. A thing that is there and faulty has been reported already.
    pub(super) fn find<'b, K: Borrow<str> + Ord, T>(
        &self,
        at: At<'_>,
        name: &str,
        what: &str,
        field: &'a str,
        things: &'b BTreeMap<K, T>,
    ) -> Option<&'b T> {
        let thing = things.get(name);
        if thing.is_none() && self.top.field(field).names().all(|known| known != name) {
            at.error(format!("no {what} of this name{}", suggestion(name, self.top.field(field).names())));
        }
        thing
    }

    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.source.and_then(Path::parent).unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn key_schema(&self) -> &Schema {
        self.key_schema.get_or_init(|| schema_of::<KeyFile>().into())
    }
}

/// Things with what the file says of each.
fn made<'a, S: Clone + PartialEq + 'a, T>(
    things: BTreeMap<&'a str, T>,
    said: impl Fn(&str) -> Option<&'a S>,
) -> Made<S, T> {
    things.into_iter().filter_map(|(name, thing)| Some((name, said(name)?.clone(), thing))).collect()
}

/// Whether a thing has a name that can be used in headers, logs and metrics.
pub(super) fn named(at: At<'_>, name: &str) -> bool {
    let is_name = Name::spell(name).is_some();
    if !is_name {
        at.error(format!("expected {}", Name::EXPECTED));
    }
    is_name
}
