use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, time::Duration};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Addresses, AuthorizationPolicy, Authorizer, Balance, Called, CallerFact, CircuitBreaker,
    ConcurrencyLimit, Discovery, Endpoint, HealthCheck, Identity, Inbound, KeepAlive, LimitFields,
    ListenerProtocol, ListenerTls, MinimumRates, Outbound, OutlierDetection, Overload, Provider, Quota,
    RateLimit, RedisServer, RetryConstraint, Route, Rule, SessionSecret, SubsetRules, SuccessRateRules,
    TcpRoute, UpstreamCredentials, UpstreamTls, Usage,
};
use crate::config::scalar::{Name, Text};

/// A gateway as a file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Gateway {
    /// The version of this format.
    pub(crate) api_version: ApiVersion,
    /// Where requests come in. One at least, here or in `inbound` or `outbound`.
    #[serde(default)]
    pub(crate) listeners: Vec<Listener>,
    /// What comes to the service beside which this runs, and is for no other.
    pub(crate) inbound: Option<Inbound>,
    /// What that service calls.
    pub(crate) outbound: Option<Outbound>,
    /// The address that answers `/healthz`, `/readyz`, `/metrics`, `/status` and `/quotas/NAME`. Default: none.
    pub(crate) admin: Option<Admin>,
    /// Whether each rule must say `authenticate`, if only `none`. Default: `false`.
    #[serde(default)]
    pub(crate) require_authentication: bool,
    /// Whether no rule's `fault` does anything: one line that ends all of them. Default: `false`.
    #[serde(default)]
    pub(crate) disable_faults: bool,
    /// The ways to learn who is calling, by the names that rules use.
    #[serde(default)]
    pub(crate) authentication: BTreeMap<String, Provider>,
    /// What every upstream is told of who was authenticated: header to what fills it, as in `x-user: subject`. No client
    /// can supply or remove such a header, on any route.
    #[serde(default)]
    pub(crate) caller_headers: BTreeMap<String, CallerFact>,
    /// Policies of authorization, by the names that rules use.
    #[serde(default)]
    pub(crate) authorization: BTreeMap<String, AuthorizationPolicy>,
    /// Servers that are asked whether requests may pass, by the names that policies and rules use.
    #[serde(default)]
    pub(crate) authorizers: BTreeMap<String, Authorizer>,
    /// Limits by name: the same name is the same account wherever it is used, and across reloads.
    #[serde(default)]
    pub(crate) rate_limits: BTreeMap<String, RateLimit>,
    /// Quotas by name, for each day, month or billing period: the same name is the same counters wherever it is used.
    #[serde(default)]
    pub(crate) quotas: BTreeMap<String, Quota>,
    /// Where it is told who has used how much. Default: nowhere.
    pub(crate) usage: Option<Usage>,
    /// Limits on requests in flight, by name: the same name counts together wherever it is used, and across reloads.
    #[serde(default)]
    pub(crate) concurrency: BTreeMap<String, ConcurrencyLimit>,
    /// What is refused when this process has too much to do. Default: nothing is watched.
    pub(crate) overload: Option<Overload>,
    /// Who we are on connections, and whom we believe there, by the names that listeners and upstreams use.
    #[serde(default)]
    pub(crate) identities: BTreeMap<String, Identity>,
    /// Redis servers, by the names that others use.
    #[serde(default)]
    pub(crate) redis: BTreeMap<String, RedisServer>,
    /// What responses tell of limits, where a listener or a rule does not say it itself. Default: `{ standard: onRefusal }`.
    #[serde(default)]
    pub(crate) rate_limit_fields: LimitFields,
    /// The services behind the gateway, by the names that `backendRefs` use.
    #[serde(default)]
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// The secret under which `sessionPersistence` names endpoints: instances that share it know each other's sessions.
    /// Default: each process has one of its own, and knows no sessions of before.
    pub(crate) session_key: Option<SessionSecret>,
    /// What is served. Among all rules of all routes the most specific match wins, as in the Gateway API.
    #[serde(default)]
    pub(crate) routes: Vec<Route>,
    /// What becomes of connections that carry something else than HTTP.
    #[serde(default)]
    pub(crate) tcp_routes: Vec<TcpRoute>,
    /// How the gateway goes down. Default: `{ delay: 5s, grace: 30s }`.
    #[serde(default)]
    pub(crate) shutdown: Shutdown,
}

impl Gateway {
    /// The listeners of all sides.
    pub(crate) fn all_listeners(&self) -> impl Iterator<Item = &Listener> {
        let inbound = self.inbound.iter().flat_map(|side| &side.listeners);
        self.listeners.iter().chain(inbound).chain(self.outbound.iter().flat_map(|side| &side.listeners))
    }

    /// The rules of all sides.
    pub(crate) fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        let inbound = self.inbound.iter().flat_map(|side| &side.routes);
        let outbound = self.outbound.iter().flat_map(|side| &side.routes);
        let routes = self.routes.iter().chain(inbound).chain(outbound);
        let called = self.outbound.iter().flat_map(|side| side.destinations.values());
        routes.flat_map(|route| &route.rules).chain(called.map(|Called(rule)| rule))
    }
}

impl Listener {
    /// Whose word is believed there.
    pub(crate) fn trusted(&self) -> &[Text<IpNet>] {
        self.trusted_proxies.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) enum ApiVersion {
    #[default]
    #[serde(rename = "portcullis/v1alpha1")]
    V1Alpha1,
}

/// An address on which requests are taken, HTTP/1.1 and HTTP/2 alike: by prior knowledge, or within TLS as it is agreed (ALPN). Or
/// connections that carry something else.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listener {
    /// Its name, for logs, metrics and the status.
    pub(crate) name: Text<Name>,
    /// The IP address and port, such as `0.0.0.0:8080`.
    pub(crate) address: Text<SocketAddr>,
    /// What is spoken on its connections. Default: `http`.
    #[serde(default)]
    pub(crate) protocol: ListenerProtocol,
    /// How long a client may take to say what tells HTTP from the rest, with `protocol: detect`, and with that and `protocol: tcp` what
    /// tells TLS from plain text where `tls` is `permissive`; 10 ms to 1 h. Then its server begins, which is not HTTP, in plain text.
    /// Default: 5 s.
    pub(crate) detect_timeout: Option<Text<Duration>>,
    /// Whether connections are redirected to it that were meant for others, on Linux, by `REDIRECT` or `TPROXY` of iptables or
    /// nftables: `tcpRoutes` are told for whom. Default: `false`.
    #[serde(default)]
    pub(crate) transparent: bool,
    /// Peers whose `X-Forwarded-For`, `Forwarded` and `X-Request-Id` are believed. Default: none; of `outbound` the loopback
    /// addresses, from which the service speaks, or all addresses if it is `transparent` at a loopback address.
    pub(crate) trusted_proxies: Option<Vec<Text<IpNet>>>,
    /// Which header those peers write. Default: `either`.
    #[serde(default)]
    pub(crate) forwarding_header: ForwardingHeader,
    /// In which header those peers tell of the certificate that a client has shown them. It is the caller's then, for
    /// policies and providers. Default: `none`.
    #[serde(default)]
    pub(crate) client_certificate_header: ClientCertificateHeader,
    /// From where requests may come. Default: from everywhere.
    pub(crate) addresses: Option<Addresses>,
    /// How fast clients must send and read at least.
    pub(crate) minimum_rates: Option<MinimumRates>,
    /// Limits that count each request of this listener, before any rule is known. Names of `rateLimits`; a rule cannot
    /// name them again.
    #[serde(default)]
    pub(crate) rate_limit: Vec<String>,
    /// What responses tell of these limits. Default: as at the top.
    pub(crate) rate_limit_fields: Option<LimitFields>,
    /// Limits on requests in flight, before any rule is known. Names of `concurrency`; nobody waits here, and a rule cannot
    /// name them again.
    #[serde(default)]
    pub(crate) concurrency: Vec<String>,
    /// Peers that begin each connection with a PROXY protocol header (v1 or v2). Default: none.
    #[serde(default)]
    pub(crate) proxy_protocol_from: Vec<Text<IpNet>>,
    /// The most connections at a time. Default: 10000.
    pub(crate) max_connections: Option<NonZeroU32>,
    /// The most connections of one client address (one IPv6 /64) at a time; trusted proxies have no such limit. Default:
    /// 1000.
    pub(crate) max_connections_per_address: Option<NonZeroU32>,
    /// How old a connection of HTTP becomes before it ends, with the requests that are in flight: its clients connect anew, and
    /// show who they are. 10 ms at least. Default: no bound.
    pub(crate) max_connection_age: Option<Text<Duration>>,
    /// TLS from clients. Default: plain text.
    pub(crate) tls: Option<ListenerTls>,
}

/// Which header trusted proxies write. What stands in the other one they have let through, and it is taken out.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ForwardingHeader {
    /// Whichever is there; if both are, they are believed as far as they agree.
    #[default]
    Either,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    XForwarded,
}

/// Which header tells of a client's certificate. What others say in it, or in the other one, is taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ClientCertificateHeader {
    /// None: nobody is believed.
    #[default]
    None,
    /// `X-Forwarded-Client-Cert`, of which the last element counts: the nearest proxy's.
    Xfcc,
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
}

/// The admin address. It is for operators: bind it where strangers cannot reach it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Admin {
    /// The IP address and port. Default: `127.0.0.1:9901`.
    address: Option<Text<SocketAddr>>,
    /// Names under which it may be asked, beside IP addresses and `localhost`. A `Host` that is none of them is answered
    /// with 421, so that a page in a browser cannot reach it by DNS rebinding.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

impl Admin {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.as_ref().map_or(SocketAddr::from(([127, 0, 0, 1], 9901)), |address| address.0)
    }
}

/// A service behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Upstream {
    /// Where it runs: `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`, whose name is resolved; or
    /// `{ address, weight, priority, zone, labels }`. Either this or `discovery`.
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
    /// How an endpoint is picked: a policy, or `{ policy, .. }` where there is more to say. Default: `roundRobin`.
    pub(crate) balance: Option<Balance>,
    /// By what requests choose among endpoints by their `labels`, beside the `subset` of `backendRefs`. Default: by nothing.
    pub(crate) subsets: Option<SubsetRules>,
    /// What is spoken to it. Default: `http1`.
    pub(crate) protocol: Option<UpstreamProtocol>,
    /// How long a connection may take to be made. Default: 2 s.
    pub(crate) connect_timeout: Option<Text<Duration>>,
    /// Whether each endpoint is connected to before there is a request for it, and one that is new gets none before that.
    /// Default: `false`.
    #[serde(default)]
    pub(crate) preconnect: bool,
    /// The most connections to each endpoint. Default: 1024.
    pub(crate) max_connections: Option<NonZeroU32>,
    /// The most streams of an HTTP/2 connection at a time. Default: as many as its server allows.
    pub(crate) max_streams: Option<NonZeroU32>,
    /// How old a connection becomes before it takes no further request, 1 s at least; up to a tenth less by chance. Default: no
    /// bound.
    pub(crate) max_connection_age: Option<Text<Duration>>,
    /// Asks HTTP/2 connections on which requests wait and nothing is heard whether their peer is still there. Default: off.
    pub(crate) http2_keep_alive: Option<KeepAlive>,
    /// Limits on requests in flight to it, of all rules together. Names of `concurrency`.
    #[serde(default)]
    pub(crate) concurrency: Vec<String>,
    /// Asks it less the more of its answers are failures. Default: off.
    pub(crate) success_rate: Option<SuccessRateRules>,
    /// How many requests to it may be tried again, of all rules together. Default: 20% and 10 a second, over 10 s.
    #[serde(default)]
    pub(crate) retry_constraint: RetryConstraint,
    /// The `Host` it is sent. Default: the one that the client asked for.
    pub(crate) host: Option<Text<HeaderValue>>,
    /// Whether it is sent `Forwarded` (RFC 7239) beside `X-Forwarded-*`, also where a request had none. Default: `false`.
    #[serde(default)]
    pub(crate) forwarded: bool,
    /// What it is sent in `X-Forwarded-Client-Cert`, in Envoy's modes. Default: `sanitize`.
    #[serde(default)]
    pub(crate) forward_client_cert_details: ForwardClientCertDetails,
    /// What is said there of a certificate beside its hash and whom it was shown to, in the modes that say something.
    pub(crate) set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    /// The credentials that requests to it carry. Default: none of ours.
    pub(crate) credentials: Option<UpstreamCredentials>,
    /// TLS to its endpoints. Default: plain text.
    pub(crate) tls: Option<UpstreamTls>,
    /// Asks endpoints whether they are well, and sends nothing to those that are not. Default: nobody is asked.
    pub(crate) health_check: Option<HealthCheck>,
    /// Leaves endpoints out for what becomes of the requests to them. Default: off.
    pub(crate) outlier_detection: Option<OutlierDetection>,
    /// Where its endpoints are learnt from, in place of `endpoints`.
    pub(crate) discovery: Option<Discovery>,
    /// Does not ask it while it keeps failing; of all rules together. Default: off.
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum UpstreamProtocol {
    /// HTTP/1.1, and HTTP/2 for gRPC.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// What the client speaks.
    Follow,
}

/// What an upstream is told of clients' certificates. Of what was said by others only a trusted proxy's word is left, and
/// that only if its listener does not believe `clientCert`. In all modes but `alwaysForwardOnly` nothing is said where
/// the connection came without a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ForwardClientCertDetails {
    /// Nothing.
    #[default]
    Sanitize,
    /// What a trusted proxy has said.
    ForwardOnly,
    /// The same, and what the connection's certificate says.
    AppendForward,
    /// What the caller's certificate says: the connection's, or the one that a trusted proxy is believed to have seen.
    SanitizeSet,
    /// What a trusted proxy has said, whether the connection has a certificate or not.
    AlwaysForwardOnly,
}

/// What is said of a certificate.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SetCurrentClientCertDetails {
    /// Its distinguished name. Default: `false`.
    pub(crate) subject: bool,
    /// The certificate itself, in PEM: about 2 KiB. Default: `false`.
    pub(crate) cert: bool,
    /// It and those of who signed it. Default: `false`.
    pub(crate) chain: bool,
    /// Its DNS names. Default: `false`.
    pub(crate) dns: bool,
    /// Its URIs, among them its SPIFFE id. Default: `false`.
    pub(crate) uri: bool,
}

/// How the gateway goes down at SIGTERM.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Shutdown {
    /// How long `/readyz` says 503 while connections are still taken. Default: 5 s.
    pub(crate) delay: Option<Text<Duration>>,
    /// How long what is in flight may take after that. Default: 30 s.
    pub(crate) grace: Option<Text<Duration>>,
}

/// Headers by name, to what fills them.
pub(crate) type Headers = BTreeMap<String, String>;
/// The name of a header.
pub(crate) type Header = Text<HeaderName>;
