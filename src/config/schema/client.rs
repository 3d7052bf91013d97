use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ApiVersion, BackendRef, ConcurrencyLimit, FaultRules, Filter, Gateway, Header, HedgeRules, Identity,
    MirrorRules, Policies, RedisServer, Retry, RetryRules, Rule, SessionPersistence, SessionSecret, Silences,
    Split, Timeouts, Upstream,
};
use crate::config::scalar::Text;

/// A mesh client as a file: what a service calls, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Client {
    /// The version of this format.
    pub(crate) api_version: ApiVersion,
    /// Whether no `fault` does anything: one line that ends all of them. Default: `false`.
    #[serde(default)]
    pub(crate) disable_faults: bool,
    /// Limits on calls in flight, by the names that upstreams use.
    #[serde(default)]
    pub(crate) concurrency: BTreeMap<String, ConcurrencyLimit>,
    /// Who we are on connections, and whom we believe there, by the names that upstreams use.
    #[serde(default)]
    pub(crate) identities: BTreeMap<String, Identity>,
    /// Redis servers, by the names that `discovery` uses.
    #[serde(default)]
    pub(crate) redis: BTreeMap<String, RedisServer>,
    /// The services, by their names. Each is called by its name, unless a destination has it.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// The secret under which `sessionPersistence` names endpoints: instances that share it know each other's sessions.
    /// Default: each process has one of its own, and knows no sessions of before.
    pub(crate) session_key: Option<SessionSecret>,
    /// What is called otherwise than by default, by the names that requests have as their host.
    #[serde(default)]
    pub(crate) destinations: BTreeMap<String, DestinationRules>,
}

/// What is called under a name, and how: fields of the Gateway API's `HTTPRouteRule`, and `policies`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DestinationRules {
    /// The upstreams that serve it, by weight. Default: the one of its name.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) backend_refs: Vec<BackendRef>,
    /// Filters, of which a client has `RequestMirror`.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) filters: Vec<Filter>,
    /// How long it may take. Default: 15 s for the whole request.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// Tries calls again that failed. Default: two attempts beside the first, unless the `retryConstraint` of an upstream
    /// allows none.
    pub(crate) retry: Option<Retry>,
    /// Keeps calls of one session at one endpoint, by what a header of an answer tells to be sent with the next call.
    /// `type: Header` is all there is: a service keeps no cookies. Default: it does not.
    pub(crate) session_persistence: Option<SessionPersistence>,
    /// What else is done.
    #[serde(default)]
    pub(crate) policies: CallPolicies,
}

impl DestinationRules {
    pub(crate) fn into_rule(self) -> Rule {
        let Self { backend_refs, filters, timeouts, retry, session_persistence, policies } = self;
        let (policies, rule) = (policies.of_rule(), Rule::default());
        Rule { backend_refs, filters, timeouts, retry, session_persistence, policies, ..rule }
    }
}

/// How calls are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallPolicies {
    /// How `RequestMirror` sends copies.
    pub(crate) mirror: Option<MirrorRules>,
    /// How calls are divided among several `backendRefs`. Default: at random, by weight.
    pub(crate) split: Option<Split>,
    /// A header in which servers are told how many milliseconds are left, and calls can say it themselves. gRPC calls have
    /// `grpc-timeout`. Default: none.
    pub(crate) deadline_header: Option<Header>,
    /// How much less than is left servers are told, so that their own word about it comes in time. Default: nothing.
    pub(crate) deadline_margin: Option<Text<Duration>>,
    /// How long responses may keep silent and streams may last, beyond what `timeouts` says.
    #[serde(default)]
    pub(crate) timeouts: Silences,
    /// How `retry` tries again.
    pub(crate) retry: Option<RetryRules>,
    /// What is sent a second time because the first is late. Default: nothing.
    pub(crate) hedge: Option<HedgeRules>,
    /// What is made to fail on purpose, to see what callers do. Nobody is heard who would ask by header. Default: nothing.
    pub(crate) fault: Option<FaultRules>,
}

impl CallPolicies {
    fn of_rule(self) -> Policies {
        let Self { mirror, split, deadline_header, deadline_margin, timeouts, retry, hedge, fault } = self;
        Policies {
            mirror,
            split,
            deadline_header,
            deadline_margin,
            timeouts,
            retry,
            hedge,
            fault,
            ..Policies::default()
        }
    }
}

impl Client {
    /// What a gateway has of it, and a rule for each destination.
    pub(crate) fn parts(self) -> (Gateway, BTreeMap<String, Rule>) {
        let Self {
            api_version,
            disable_faults,
            concurrency,
            identities,
            redis,
            upstreams,
            session_key,
            destinations,
        } = self;
        let gateway = Gateway {
            api_version,
            disable_faults,
            concurrency,
            identities,
            redis,
            upstreams,
            session_key,
            ..Gateway::default()
        };
        let rule = |(name, destination): (_, DestinationRules)| (name, destination.into_rule());
        (gateway, destinations.into_iter().map(rule).collect())
    }
}
