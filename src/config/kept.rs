//! What outlives a reload.
use std::collections::BTreeMap;

#[cfg(feature = "jwt")]
use super::compile::{Asked, KeySets};
use std::sync::Arc;

use super::schema::Authorizer;
use crate::{
    admission::{
        authz::Tally,
        concurrency::Concurrency,
        ext_authz::ExternalAuth,
        quota::QuotaRegistry,
        rate_limit::RateLimits,
        shed::{Overload, SuccessRate},
    },
    authn::api_key::{ApiKeys, FailureLimit, KeyFollower},
    resilience::budget::Budget,
    telemetry::usage::UsageMeter,
    upstream::Upstream,
};
#[cfg(feature = "redis")]
use crate::{
    admission::{quota::QuotaStore, rate_limit::Distribution},
    redis::Redis,
};

/// State by name: a limit that is defined again is the same limit, an upstream takes over the connections of the
/// one that is in force, and keys that are kept where they were are not read again. Rules of policies count on, and an
/// authorizer that has not changed keeps what it knows.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) limits: RateLimits,
    pub(super) quotas: QuotaRegistry,
    /// With what the file said of it.
    pub(super) usage: Option<(String, UsageMeter)>,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) stores: Stores,
    pub(super) tally: Tally,
    /// Each with what the file said of it, as below.
    pub(super) concurrency: BTreeMap<String, (String, Concurrency)>,
    pub(super) rates: BTreeMap<String, (String, SuccessRate)>,
    /// How many second attempts upstreams have had.
    pub(super) budgets: BTreeMap<String, Budget>,
    pub(super) overload: Option<(String, Overload)>,
    /// Each with what the file said of it: if it says the same again, it is the same.
    pub(super) authorizers: BTreeMap<String, (Authorizer, ExternalAuth)>,
    #[cfg(feature = "jwt")]
    pub(super) key_sets: KeySets,
    #[cfg(feature = "jwt")]
    pub(super) asked: Asked,
}

/// What lives outside of this process, and is followed. Each with what the file said of it: if that is another, it is
/// another thing.
#[derive(Debug, Default, Clone)]
pub(super) struct Stores {
    pub(super) keys: BTreeMap<String, (String, ApiKeys)>,
    pub(super) failures: BTreeMap<String, (String, Arc<FailureLimit>)>,
    #[cfg(feature = "redis")]
    pub(super) redis: BTreeMap<String, (String, Redis)>,
    /// By the names of the servers.
    #[cfg(feature = "redis")]
    pub(super) quotas: BTreeMap<String, (String, QuotaStore)>,
    #[cfg(feature = "redis")]
    pub(super) distributions: BTreeMap<String, Distribution>,
}

/// What is to be followed once it is in force.
pub(super) type Followers = Vec<KeyFollower>;
