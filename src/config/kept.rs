//! What outlives a reload.
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

#[cfg(feature = "jwt")]
use super::compile::{KeySets, Remembered};
#[cfg(feature = "tls")]
use super::schema::Identity;
use super::{
    scalar::Text,
    schema::{
        Authorizer, Canary, CanarySteer, CircuitBreaker, ConcurrencyLimit, Overload as OverloadRules,
        RedisServer, RetryConstraint, SuccessRateRules, Usage,
    },
};
#[cfg(feature = "tls")]
use crate::tls::Credentials;
use crate::{
    admission::{
        authz::Tally,
        concurrency::Concurrency,
        ext_authz::ExternalAuth,
        quota::QuotaRegistry,
        rate_limit::{Rate, RateLimitRegistry},
        shed::{Overload, SuccessRate},
    },
    authn::api_key::{ApiKeys, FailureLimit, KeyFollower},
    resilience::{
        breaker::BreakerLayer,
        budget::Budget,
        fallback::{FallbackHandle, Stale},
        fault::FaultHandle,
        hedge::HedgeHandle,
        retry::RetryHandle,
    },
    routing,
    telemetry::usage::UsageMeter,
    upstream::Upstream,
};
#[cfg(feature = "redis")]
use crate::{
    admission::{quota::QuotaStore, rate_limit::Distribution},
    redis::Redis,
};

/// Things of one kind by name, each with what was said of it: where the same is said again, it is the same thing.
#[derive(Debug, Clone)]
pub(super) struct Made<S, T>(BTreeMap<String, (S, T)>);

impl<S: PartialEq, T> Made<S, T> {
    /// The thing of this name, if the same was said of it.
    pub(super) fn again(&self, name: &str, said: &S) -> Option<&T> {
        self.0.get(name).filter(|(before, _)| before == said).map(|(_, made)| made)
    }

    /// The thing of this name, whatever was said of it.
    pub(super) fn before(&self, name: &str) -> Option<&T> {
        self.0.get(name).map(|(_, made)| made)
    }

    /// The thing of this name that was there `before`, if the same was said of it, or else the one that is made now.
    pub(super) fn keep(
        &mut self,
        before: &Self,
        name: &str,
        said: S,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<T>
    where
        T: Clone,
    {
        let made = before.again(name, &said).cloned().or_else(make)?;
        self.insert(name, said, made.clone());
        Some(made)
    }

    pub(super) fn insert(&mut self, name: &str, said: S, made: T) {
        self.0.insert(name.to_owned(), (said, made));
    }

    /// All of them.
    pub(super) fn each(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|(_, made)| made)
    }

    /// All of them, each with what was said of it.
    pub(super) const fn all(&self) -> &BTreeMap<String, (S, T)> {
        &self.0
    }
}

impl<S, T> Default for Made<S, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'a, S, T> FromIterator<(&'a str, S, T)> for Made<S, T> {
    fn from_iter<I: IntoIterator<Item = (&'a str, S, T)>>(things: I) -> Self {
        Self(things.into_iter().map(|(name, said, made)| (name.to_owned(), (said, made))).collect())
    }
}

/// What the file says, and what is in the files that it names. These may be secrets, and are not shown.
#[derive(Clone, PartialEq)]
pub(super) struct Said<S>(pub(super) S, pub(super) Vec<Vec<u8>>);

impl<S: fmt::Debug> fmt::Debug for Said<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A meter with what was said of it: also of the server to which it delivers, and where the file is in which that was said.
pub(super) type KeptUsage = ((Usage, Option<Said<RedisServer>>, PathBuf), UsageMeter);

/// What watches, with what was said of it and the limits that it watches.
pub(super) type KeptOverload = ((OverloadRules, Vec<Concurrency>), Overload);

/// What is said of a canary, but for how it is steered, and the upstreams between which it is.
pub(super) type SaidOfCanary = (Canary, Vec<String>);

/// What is said of old answers, of the upstreams whose they are, and of how these are asked, in so many words.
pub(super) type SaidOfStale = String;

/// A canary, and what it was told.
#[derive(Debug, Clone)]
pub(super) struct KeptCanary {
    pub(super) canary: routing::canary::Canary,
    pub(super) steer: CanarySteer,
}

/// Where keys are kept. The number stands for their peppers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeysAt {
    File(PathBuf, u64),
    #[cfg(feature = "redis")]
    Redis(Box<Said<RedisServer>>, String, u64),
}

/// State by name: a limit that is defined again is the same limit, an upstream takes over the connections of the
/// one that is in force, and keys that are kept where they were are not read again. Rules of policies count on, and an
/// authorizer that has not changed keeps what it knows.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) limits: RateLimitRegistry,
    pub(super) quotas: QuotaRegistry,
    pub(super) usage: Option<KeptUsage>,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) stores: Stores,
    pub(super) tally: Tally,
    pub(super) concurrency: Made<ConcurrencyLimit, Concurrency>,
    /// By the names of the upstreams.
    pub(super) rates: Made<SuccessRateRules, SuccessRate>,
    /// How many second attempts upstreams have had, by their names.
    pub(super) budgets: Made<RetryConstraint, Budget>,
    pub(super) counted: Counted,
    /// By the names of the rules.
    pub(super) canaries: Made<SaidOfCanary, KeptCanary>,
    /// By the names of the rules.
    pub(super) stales: Made<SaidOfStale, Stale>,
    /// Of rules and upstreams, by `rule/` or `upstream/` and their names.
    pub(super) breakers: Made<CircuitBreaker, BreakerLayer>,
    pub(super) overload: Option<KeptOverload>,
    #[cfg(feature = "tls")]
    pub(super) identities: Made<Identity, Credentials>,
    /// By their paths.
    #[cfg(feature = "tls")]
    pub(super) roots: Made<(), Credentials>,
    pub(super) authorizers: Made<Said<Authorizer>, ExternalAuth>,
    #[cfg(feature = "jwt")]
    pub(super) key_sets: KeySets,
    #[cfg(feature = "jwt")]
    pub(super) remembered: Remembered,
}

/// What was counted of rules, by their names.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) retries: BTreeMap<String, RetryHandle>,
    pub(super) hedges: BTreeMap<String, HedgeHandle>,
    pub(super) faults: BTreeMap<String, FaultHandle>,
    pub(super) fallbacks: BTreeMap<String, FallbackHandle>,
}

/// What lives outside of this process, and is followed.
#[derive(Debug, Default, Clone)]
pub(super) struct Stores {
    pub(super) keys: Made<KeysAt, ApiKeys>,
    pub(super) failures: Made<Option<Text<Rate>>, Arc<FailureLimit>>,
    #[cfg(feature = "redis")]
    pub(super) redis: Made<Said<RedisServer>, Redis>,
    /// By the names of the servers.
    #[cfg(feature = "redis")]
    pub(super) quotas: Made<Said<RedisServer>, QuotaStore>,
    #[cfg(feature = "redis")]
    pub(super) distributions: Made<Said<RedisServer>, Distribution>,
}

/// What is to be followed once it is in force.
pub(super) type Followers = Vec<KeyFollower>;
