use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, Labels, Policies, RequestMirror, Retry, SessionPersistence, Unbuilt};
use crate::config::scalar::{Name, Text};

/// Rules for some hosts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Route {
    /// Its name, for logs, metrics and the status.
    pub(crate) name: Text<Name>,
    /// The hosts it is for: names, or `*.` and a name, which is one label or more. Default: any host.
    #[serde(default)]
    pub(crate) hostnames: Vec<String>,
    /// The rules, in Gateway API `HTTPRouteRule` fields.
    #[schemars(length(min = 1))]
    pub(crate) rules: Vec<Rule>,
}

/// What is done with the requests that match: the Gateway API's `HTTPRouteRule`, and `policies`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    /// Its name. Default: its place, as in `catalogue/0`.
    pub(crate) name: Option<Text<Name>>,
    /// Which requests: one of these must match. Default: each request.
    #[schemars(length(max = 64))]
    #[serde(default)]
    pub(crate) matches: Vec<Match>,
    /// What is changed of the request and the response.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) filters: Vec<Filter>,
    /// What is asked of a request before it is served.
    #[serde(default)]
    pub(crate) policies: Policies,
    /// The upstreams that serve it, by weight.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) backend_refs: Vec<BackendRef>,
    /// How long it may take. Default: 15 s for the whole request.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// Tries requests again that failed. Default: it does not.
    pub(crate) retry: Option<Retry>,
    /// Keeps each client at one endpoint. Default: it does not.
    pub(crate) session_persistence: Option<SessionPersistence>,
}

/// One kind of request: all that is said must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Match {
    /// The path. Default: any.
    pub(crate) path: Option<PathMatch>,
    /// The method. Default: any.
    pub(crate) method: Option<Method>,
    /// Headers it must carry.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) headers: Vec<HeaderMatch>,
    /// Query parameters it must carry.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) query_params: Vec<QueryParamMatch>,
}

/// A path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathMatch {
    /// How `value` is compared. Default: `PathPrefix`.
    #[serde(default, rename = "type")]
    pub(crate) kind: PathMatchType,
    /// The path. Default: `/`.
    #[serde(default = "root")]
    pub(crate) value: String,
}

fn root() -> String {
    "/".to_owned()
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub(crate) enum PathMatchType {
    /// The whole path.
    Exact,
    /// Its first segments: `/api` is `/api` and `/api/x`, and not `/apix`.
    #[default]
    PathPrefix,
    /// The whole path, by a regular expression.
    RegularExpression,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub(crate) enum ValueMatchType {
    /// The whole value.
    #[default]
    Exact,
    /// The whole value, by a regular expression.
    RegularExpression,
}

/// A header and its value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderMatch {
    /// How `value` is compared. Default: `Exact`.
    #[serde(default, rename = "type")]
    pub(crate) kind: ValueMatchType,
    /// Its name.
    pub(crate) name: Header,
    /// Its value.
    pub(crate) value: String,
}

/// A query parameter and its value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueryParamMatch {
    /// How `value` is compared. Default: `Exact`.
    #[serde(default, rename = "type")]
    pub(crate) kind: ValueMatchType,
    /// Its name.
    #[schemars(length(min = 1))]
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

/// One change; `type` says which field holds it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Filter {
    /// Which change.
    #[serde(rename = "type")]
    pub(crate) kind: FilterType,
    /// For `RequestHeaderModifier`.
    pub(crate) request_header_modifier: Option<HeaderModifier>,
    /// For `ResponseHeaderModifier`.
    pub(crate) response_header_modifier: Option<HeaderModifier>,
    /// For `RequestRedirect`.
    pub(crate) request_redirect: Option<Redirect>,
    /// For `URLRewrite`.
    pub(crate) url_rewrite: Option<UrlRewrite>,
    /// For `CORS`.
    pub(crate) cors: Option<Cors>,
    /// For `RequestMirror`.
    pub(crate) request_mirror: Option<RequestMirror>,
    /// External authorization (`ExternalAuth`) comes with a later version.
    pub(crate) external_auth: Option<Unbuilt>,
    /// Extensions (`ExtensionRef`) are Kubernetes objects; a gate of your own stands under `policies.gates`.
    pub(crate) extension_ref: Option<Unbuilt>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
pub(crate) enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
    /// There may be several of these.
    RequestMirror,
    /// Not supported yet.
    ExternalAuth,
    /// Not supported yet.
    ExtensionRef,
}

/// Headers to set, add and remove, in this order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderModifier {
    /// Put in the place of what is there.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) set: Vec<HeaderLine>,
    /// Added to what is there.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) add: Vec<HeaderLine>,
    /// Taken away.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) remove: Vec<Header>,
}

/// A header.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderLine {
    /// Its name.
    pub(crate) name: Header,
    /// Its value.
    pub(crate) value: Text<HeaderValue>,
}

/// Where a client is sent instead. What is not said stays as it was.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Redirect {
    /// The scheme. Default: that of the connection, or what a trusted proxy tells of its client's.
    pub(crate) scheme: Option<Scheme>,
    /// The host.
    pub(crate) hostname: Option<String>,
    /// The path.
    pub(crate) path: Option<PathModifier>,
    /// The port. Say it where clients see another one than the listener's, as in front of a container. Default: the scheme's own if
    /// `scheme` is said, else the listener's; behind a trusted proxy that of the host which was asked for.
    pub(crate) port: Option<NonZeroU16>,
    /// The status: 301, 302, 303, 307 or 308. Default: 302.
    pub(crate) status_code: Option<u16>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// What the upstream is asked instead. What is not said stays as it was.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UrlRewrite {
    /// The host.
    pub(crate) hostname: Option<String>,
    /// The path.
    pub(crate) path: Option<PathModifier>,
}

/// A new path; `type` says which field holds it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathModifier {
    /// Whether the whole path is new, or the prefix that matched.
    #[serde(rename = "type")]
    pub(crate) kind: PathModifierType,
    /// For `ReplaceFullPath`.
    pub(crate) replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`.
    pub(crate) replace_prefix_match: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
pub(crate) enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

/// What browsers may let pages of other origins do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Cors {
    /// Origins such as `https://shop.example` or `https://*.shop.example`, or `*`.
    #[serde(default)]
    pub(crate) allow_origins: Vec<String>,
    /// Whether cookies and credentials go along: with `*` every site can act as its visitor. Default: `false`.
    #[serde(default)]
    pub(crate) allow_credentials: bool,
    /// Methods, or `*`.
    #[serde(default)]
    pub(crate) allow_methods: Vec<String>,
    /// Headers of the request, or `*`.
    #[serde(default)]
    pub(crate) allow_headers: Vec<String>,
    /// Headers of the response that a page may read, or `*`.
    #[serde(default)]
    pub(crate) expose_headers: Vec<String>,
    /// How many seconds a browser may keep the answer. Default: 5.
    pub(crate) max_age: Option<NonZeroU32>,
}

/// An upstream and its share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendRef {
    /// The API group of the upstream: empty.
    pub(crate) group: Option<String>,
    /// The kind of the upstream: `Upstream`, which is also what is meant without it.
    pub(crate) kind: Option<String>,
    /// The name of an upstream.
    pub(crate) name: String,
    /// A namespace has no meaning in a file.
    pub(crate) namespace: Option<Unbuilt>,
    /// If said, each endpoint of the upstream must have it.
    pub(crate) port: Option<u16>,
    /// Its share, of the sum of all. Default: 1.
    #[schemars(range(max = 1_000_000))]
    pub(crate) weight: Option<u32>,
    /// Labels that its endpoints must have, as in `version: v2`. Default: all endpoints.
    pub(crate) subset: Option<Labels>,
    /// Filters of one backend come with a later version.
    pub(crate) filters: Option<Unbuilt>,
}

/// How long a request may take; `0s` is without end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// The whole request, to the last byte of its response; gRPC calls too, which without it may stream once their head
    /// has come. Event streams and upgrades must begin in time, and are then bounded by silence and age. Default: 15 s.
    pub(crate) request: Option<Text<Duration>>,
    /// Each attempt at an upstream, of which there may be several with `retry`; at most `request`. Default: none of its own.
    pub(crate) backend_request: Option<Text<Duration>>,
}

/// How long things may keep silent, and last: each more than 0.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Silences {
    /// How long the body of an ordinary response may keep silent. Default: as long as the request may take.
    pub(crate) body_idle: Option<Text<Duration>>,
    /// How long an event stream, a gRPC stream or an upgraded connection may keep silent. Default: 5 min.
    pub(crate) stream_idle: Option<Text<Duration>>,
    /// How long those may last. Default: 2 h.
    pub(crate) stream_max_age: Option<Text<Duration>>,
}
