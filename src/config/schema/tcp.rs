use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::BackendRef;
use crate::{
    config::scalar::{Name, Text},
    stack::gateway::DestinationMatch,
};

/// What is spoken on the connections of a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ListenerProtocol {
    /// HTTP.
    #[default]
    Http,
    /// Anything: `tcpRoutes` take the connections to upstreams.
    Tcp,
    /// HTTP, for `routes`, or anything else, for `tcpRoutes`: told apart by the first bytes, or by what was agreed in TLS (ALPN).
    /// It is the client who chooses: whoever may take a route of `tcpRoutes` may say anything to its upstream, HTTP among it, in a
    /// way that is not told as HTTP here, so that no rule of `routes` is asked. An upstream of the one should be none of the other.
    Detect,
}

/// Takes connections that carry something else than HTTP to an upstream. Of several routes for a listener the one with the
/// narrowest destination takes a connection: the longest prefix, and of the same one with a port before one without. Routes without
/// `destinations` come last, and of equals the first one in the file; what `unknownHosts: passThrough` passes on, no other takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpRoute {
    /// Its name, for logs, metrics and the status.
    pub(crate) name: Text<Name>,
    /// Names of `listeners` whose `protocol` is `tcp` or `detect`. Default: all of these.
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    /// Where connections were meant to go that were redirected to a `transparent` listener: networks or addresses, with a port or
    /// without, such as `10.0.0.0/8:5432` or `[fd00::/8]:5432`. Default: anywhere, redirected or not.
    #[serde(default)]
    pub(crate) destinations: Vec<Text<DestinationMatch>>,
    /// The upstreams that get the connections, by weight: for each connection one is chosen at random.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) backend_refs: Vec<BackendRef>,
    /// What is asked of a connection before it is made, and how long it lasts.
    #[serde(default)]
    pub(crate) policies: TcpPolicies,
}

/// What is asked of connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpPolicies {
    /// Who may connect. Names of `authorization`, which know the peer's certificate and address; a policy that denies what only
    /// requests have denies every connection, and one that allows it allows none. Default: everybody.
    #[serde(default)]
    pub(crate) authorization: Vec<String>,
    /// How long a connection may be silent both ways, 10 ms at least. Default: 1 h.
    pub(crate) idle_timeout: Option<Text<Duration>>,
    /// How long a connection may last, 10 ms at least. Default: no bound.
    pub(crate) max_age: Option<Text<Duration>>,
}
