use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Addresses, CircuitBreaker, Csrf, FallbackRules, FaultRules, Header, HedgeRules, LimitFields, MirrorRules,
    PathRules, PriorityClass, RetryRules, Silences, Split, Unbuilt,
};
use crate::config::scalar::Text;

/// One part of a key, or several that count together.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum KeyList {
    One(KeyPart),
    All(Vec<KeyPart>),
}

/// What of a request tells one account from another.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum KeyPart {
    Named(KeyName),
    Of(KeyOf),
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum KeyName {
    /// The client's address, IPv6 by /64.
    ClientIp,
    /// Who was authenticated, by provider, issuer and subject. A token without `sub` names nobody, and counts by the client's
    /// address; where that is not to be, ask for it with `requiredClaims: [sub]`.
    Principal,
    /// The rule that matched.
    Route,
}

/// A part of a key that needs a name; exactly one field.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeyOf {
    /// A claim of the verified token.
    pub(crate) claim: Option<String>,
    /// A header; `host` is the host that is asked for, without its port, in every version of HTTP.
    pub(crate) header: Option<Header>,
    /// A cookie.
    pub(crate) cookie: Option<String>,
}

/// What a rule asks of a request before it is served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Policies {
    /// `none` if the rule is public, or the providers that may tell who is calling.
    pub(crate) authenticate: Option<Authenticate>,
    /// What the caller must be allowed to do.
    pub(crate) authorize: Option<Authorize>,
    /// Refuses what another site's page would change in a visitor's name. Default: no guard. It is for rules whose
    /// callers browsers know by a cookie.
    pub(crate) csrf: Option<Csrf>,
    /// Limits, decided as one: a denial of one spends nothing of the others. Names of `rateLimits`.
    #[serde(default)]
    pub(crate) rate_limit: Vec<String>,
    /// What responses tell of these limits. Default: as at the top.
    pub(crate) rate_limit_fields: Option<LimitFields>,
    /// From where requests may come, beside what the listener says. Default: from everywhere.
    pub(crate) addresses: Option<Addresses>,
    /// Quotas, decided as one, inside of limits and authorization. Names of `quotas`; `rateLimitFields` is for them, too.
    #[serde(default)]
    pub(crate) quota: Vec<String>,
    /// Limits on requests in flight, asked inside of everything that decides who may ask. Names of `concurrency`.
    #[serde(default)]
    pub(crate) concurrency: Vec<String>,
    /// How important the requests are, unless their header or plan says it, as `overload` has it. Default: `normal`.
    pub(crate) priority: Option<PriorityClass>,
    /// How requests are divided among several `backendRefs`. Default: at random, by weight.
    pub(crate) split: Option<Split>,
    /// Which unusual paths are taken. Default: none, they are answered with 400.
    #[serde(default)]
    pub(crate) path: PathRules,
    /// Gates of your own, registered by name in Rust; asked after authorization, in this order.
    #[serde(default)]
    pub(crate) gates: Vec<CustomGate>,
    /// A header in which callers say how many milliseconds they wait, and upstreams are told how many are left; a caller can
    /// only shorten what `timeouts` says. gRPC calls have `grpc-timeout`. Default: none.
    pub(crate) deadline_header: Option<Header>,
    /// How much less than is left upstreams are told, so that their own word about it comes in time. Default: nothing.
    pub(crate) deadline_margin: Option<Text<Duration>>,
    /// How long responses may keep silent and streams may last, beyond what the rule's `timeouts` says.
    #[serde(default)]
    pub(crate) timeouts: Silences,
    /// How the rule's `RequestMirror` filters mirror.
    pub(crate) mirror: Option<MirrorRules>,
    /// How the rule's `retry` tries again.
    pub(crate) retry: Option<RetryRules>,
    /// What is made to fail on purpose. Default: nothing.
    pub(crate) fault: Option<FaultRules>,
    /// What is sent a second time because the first is late. Default: nothing.
    pub(crate) hedge: Option<HedgeRules>,
    /// What is given in the place of failures. Default: they stand.
    pub(crate) fallback: Option<FallbackRules>,
    /// Refuses requests while what the rule answers keeps failing, after all of its attempts. An upstream has its own.
    /// Default: off.
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    /// The cache comes with a later version.
    pub(crate) cache: Option<Unbuilt>,
}

/// `none`, a list of providers, or a list with more to say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Authenticate {
    None(Public),
    By(Vec<OneOrAll>),
    Told(AuthenticateBy),
}

/// A provider, or several that must all find their credential valid.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrAll {
    One(String),
    All(AllOf),
}

/// Providers that are needed together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AllOf {
    /// Each of these must find its credential valid; the first tells who is calling. Names of `authentication`.
    #[schemars(length(min = 2))]
    pub(crate) all: Vec<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Public {
    None,
}

/// Providers, and whether a request without a credential is let pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthenticateBy {
    /// The first of them that finds its credential valid tells who is calling. Names of `authentication`.
    #[schemars(length(min = 1))]
    pub(crate) providers: Vec<OneOrAll>,
    /// Whether a request without any credential passes, as nobody. A bad credential never does. Default: `false`.
    #[serde(default)]
    pub(crate) optional: bool,
    /// The name that a request without any credential has, as a subject of the provider `anonymous`. It passes, as with
    /// `optional`. Default: none.
    pub(crate) anonymous: Option<String>,
}

/// What the caller must be allowed to do. All that is said must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authorize {
    /// Scopes of the credential.
    pub(crate) scopes: Option<Demand>,
    /// Roles of the principal.
    pub(crate) roles: Option<Demand>,
    /// Policies that are asked: those that deny first, then those that allow. Names of `authorization`.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// Servers that are asked about each request, before the policies. Names of `authorizers`.
    #[serde(default)]
    pub(crate) authorizers: Vec<String>,
    /// A header of the response that tells every caller which policy and rule decided, or which authorizer. Default: none.
    pub(crate) decision_header: Option<Header>,
}

/// Words that are demanded.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Demand {
    /// Each of these.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub(crate) all: Option<Vec<String>>,
    /// At least one of these.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub(crate) any: Option<Vec<String>>,
}

/// A registered gate by its name alone, or with settings of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CustomGate {
    Named(String),
    Told(CustomGateWith),
}

/// A registered gate with settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CustomGateWith {
    /// The name under which it was registered.
    pub(crate) name: String,
    /// What it is told; whatever it was made to understand.
    #[serde(default)]
    pub(crate) with: serde_json::Value,
}
