use std::{num::NonZeroU32, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CustomGate, Header, Material, Method};
use crate::config::scalar::{Name, Text};

/// Rules, and what is done with the requests that they mean. As in Istio's AuthorizationPolicy, custom policies come
/// before those that deny, and these before those that allow; where one allows, what none allows is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationPolicy {
    /// What is done with them.
    pub(crate) action: PolicyAction,
    /// Who is asked, by a custom policy. A name of `authorizers`.
    pub(crate) authorizer: Option<String>,
    /// Whether it only looks on: what it would change is counted and logged. An authorizer is asked, and waited for, all the
    /// same. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// The rules: one of them has to match. Default: none, so that it means no request.
    #[serde(default)]
    pub(crate) rules: Vec<PolicyRule>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PolicyAction {
    /// They pass, unless another policy denies them.
    Allow,
    /// They are refused with 403.
    Deny,
    /// An authorizer is asked.
    Custom,
}

/// When a policy means a request: one of `from`, one of `to`, and every predicate. What is not said is not asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyRule {
    /// Its name, for logs, metrics and answers. Default: its place, as in `0`.
    pub(crate) name: Option<Text<Name>>,
    /// Who asks: one of these. Default: anybody.
    #[serde(default)]
    pub(crate) from: Vec<PolicySource>,
    /// What is asked for: one of these. Default: anything.
    #[serde(default)]
    pub(crate) to: Vec<PolicyOperation>,
    /// Predicates of your own, registered by name in Rust, which all must say so.
    #[serde(default)]
    pub(crate) when: Vec<CustomGate>,
    /// Predicates of your own of which none may say so.
    #[serde(default)]
    pub(crate) unless: Vec<CustomGate>,
}

type Texts = Option<Vec<String>>;
type Networks = Option<Vec<Text<IpNet>>>;

/// Who asks: all that is said must hold, and of each list one value. `*` stands alone for any value, or at one end of a
/// text. A request that does not have something has none of its values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicySource {
    /// Who was authenticated, as `provider/subject`: `customers/alice`, `partners/*`, or `*` for anybody but guests.
    #[schemars(length(min = 1))]
    pub(crate) principals: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_principals: Texts,
    /// Who vouches for the caller: a token's `iss`.
    #[schemars(length(min = 1))]
    pub(crate) issuers: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_issuers: Texts,
    /// One of these scopes.
    #[schemars(length(min = 1))]
    pub(crate) scopes: Texts,
    /// Each of these scopes.
    #[schemars(length(min = 1))]
    pub(crate) all_scopes: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_scopes: Texts,
    /// One of these roles.
    #[schemars(length(min = 1))]
    pub(crate) roles: Texts,
    /// Each of these roles.
    #[schemars(length(min = 1))]
    pub(crate) all_roles: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_roles: Texts,
    /// Claims of the verified token.
    #[serde(default)]
    pub(crate) claims: Vec<ClaimValues>,
    /// The plan of the API key.
    #[schemars(length(min = 1))]
    pub(crate) plans: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_plans: Texts,
    /// The peer's SPIFFE id, `spiffe://shop.example/ns/shop/sa/*`, or a DNS name of a certificate without one.
    #[schemars(length(min = 1))]
    pub(crate) peers: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_peers: Texts,
    /// The trust domain of the peer's SPIFFE id.
    #[schemars(length(min = 1))]
    pub(crate) trust_domains: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_trust_domains: Texts,
    /// The path of the peer's SPIFFE id, as a template: `/ns/{*}/sa/orders`.
    #[schemars(length(min = 1))]
    pub(crate) peer_paths: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_peer_paths: Texts,
    /// The namespace in a SPIFFE id of Istio's form, `/ns/shop/sa/orders`.
    #[schemars(length(min = 1))]
    pub(crate) namespaces: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_namespaces: Texts,
    /// The namespace and the service account in such an id, as `namespace/account`: `shop/orders`, `shop/*`.
    #[schemars(length(min = 1))]
    pub(crate) service_accounts: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_service_accounts: Texts,
    /// The client's network, as trusted proxies tell it.
    #[schemars(length(min = 1))]
    pub(crate) networks: Networks,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_networks: Networks,
    /// The network of whoever has the connection to us: the client, or the last proxy.
    #[schemars(length(min = 1))]
    pub(crate) peer_networks: Networks,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_peer_networks: Networks,
}

/// A claim and its values; of a list, one element has to match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimValues {
    /// Its name, or a JSON pointer to it, as in `/realm_access/roles`.
    pub(crate) claim: String,
    /// One of these.
    #[schemars(length(min = 1))]
    pub(crate) values: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_values: Texts,
}

/// What is asked for: all that is said must hold, and of each list one value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyOperation {
    /// The host's name, without its port: `shop.example`, `*.shop.example`.
    #[schemars(length(min = 1))]
    pub(crate) hosts: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_hosts: Texts,
    /// The method. gRPC calls are `POST`.
    #[schemars(length(min = 1))]
    pub(crate) methods: Option<Vec<Method>>,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_methods: Option<Vec<Method>>,
    /// The path: as it is, as a template in which `{name}` is one segment and `{**}` any number of them, or with a `*` at
    /// one end.
    #[schemars(length(min = 1))]
    pub(crate) paths: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_paths: Texts,
    /// Headers.
    #[serde(default)]
    pub(crate) headers: Vec<HeaderValues>,
    /// Parameters of the query.
    #[serde(default)]
    pub(crate) query_params: Vec<QueryValues>,
}

/// A header and its values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderValues {
    /// Its name.
    pub(crate) name: Header,
    /// One of these.
    #[schemars(length(min = 1))]
    pub(crate) values: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_values: Texts,
}

/// A parameter of the query and its values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueryValues {
    /// Its name.
    pub(crate) name: String,
    /// One of these.
    #[schemars(length(min = 1))]
    pub(crate) values: Texts,
    /// None of these.
    #[schemars(length(min = 1))]
    pub(crate) not_values: Texts,
}

/// A server that is asked whether requests may pass (forward authentication). A 2xx lets pass; a 3xx or 4xx goes to the
/// caller as it is; anything else is a failure.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authorizer {
    /// Where it is asked: `http://iam.internal:4000/check`. The request is told in `X-Forwarded-Method`, `-Proto`, `-Host`,
    /// `-Uri` and `-For`.
    pub(crate) url: String,
    /// A file with the only roots, in PEM, by which its certificate is verified. Default: those of this machine.
    pub(crate) roots: Option<Material>,
    /// Which headers of the request it gets. Default: `authorization` and `cookie`. A credential that the rule's providers
    /// look at is not among them, unless its provider says `forward: true`.
    pub(crate) request_headers: Option<Vec<Header>>,
    /// Which headers of its answer the upstream gets, where a request passes. No client can supply or remove such a
    /// header, on any route.
    #[serde(default)]
    pub(crate) upstream_headers: Vec<Header>,
    /// Which headers of its answer are added to the response, where a request passes.
    #[serde(default)]
    pub(crate) client_headers: Vec<Header>,
    /// Which headers of its answer a caller gets who is refused. Default: `cache-control`, `content-encoding`,
    /// `content-language`, `content-type`, `location`, `retry-after`, `set-cookie` and `www-authenticate`.
    pub(crate) refusal_headers: Option<Vec<Header>>,
    /// How long it may take to answer. Default: 1 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// What of the request's body it gets. Default: nothing.
    pub(crate) body: Option<AuthorizerBody>,
    /// For how long its answers count for the same question. Default: for one request.
    pub(crate) cache: Option<AuthorizerCache>,
    /// What a caller is told while it fails. Default: `unavailable`.
    #[serde(default)]
    pub(crate) on_failure: OnFailure,
    /// Whether requests pass while it fails: who can overload it is let in everywhere. Default: `false`.
    #[serde(default)]
    pub(crate) danger_fail_open: bool,
}

/// What of a request's body is sent; exactly one field.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizerBody {
    /// All of it, at most 1 MiB; a request with more bytes than this is answered with 413.
    #[schemars(range(max = 1_048_576))]
    pub(crate) whole: Option<NonZeroU32>,
    /// Up to so many bytes, the first, at most 1 MiB.
    #[schemars(range(max = 1_048_576))]
    pub(crate) beginning: Option<NonZeroU32>,
}

/// Answers that are remembered. The key is everything that was sent.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizerCache {
    /// For how long at most; less if the answer says so.
    pub(crate) ttl: Text<Duration>,
    /// The most answers. Default: 10000.
    pub(crate) max_entries: Option<NonZeroU32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnFailure {
    /// 503 and `Retry-After`.
    #[default]
    Unavailable,
    /// 403.
    Forbidden,
}

/// Protects pages' visitors from requests that other sites make in their name (CSRF).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Csrf {
    /// Other origins that may change things, exactly as a browser sends them: `https://admin.shop.example`.
    #[serde(default)]
    pub(crate) trusted_origins: Vec<String>,
}

/// What of who was authenticated is told.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CallerFact {
    /// The provider that verified the credential.
    Provider,
    /// Who vouches for the subject: a token's `iss`.
    Issuer,
    /// Whom the credential was given to: a token's `sub`, a key's owner.
    Subject,
    /// The plan of the API key.
    Plan,
    /// The scopes, divided by spaces.
    Scopes,
}
