use std::{net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Endpoint;
use crate::config::scalar::Text;

/// Where an upstream's endpoints are learnt from. Exactly one of `file`, `dns` and `redis`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Discovery {
    /// A file with a list `endpoints`, in the form of an upstream's; relative to this file. It is watched.
    pub(crate) file: Option<PathBuf>,
    /// A name in DNS.
    pub(crate) dns: Option<DnsDiscovery>,
    /// A key of a Redis server.
    pub(crate) redis: Option<RedisDiscovery>,
}

/// A name in DNS. Exactly one of `address` and `srv`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DnsDiscovery {
    /// A host name and a port, `orders.internal:8080`: all its addresses, A and AAAA, are endpoints.
    pub(crate) address: Option<String>,
    /// A name with SRV records, `_http._tcp.orders.internal`: they tell hosts, ports, priorities and weights.
    pub(crate) srv: Option<String>,
    /// Who is asked. Default: `dns` for `srv`, which the system does not know, and `system` for `address`.
    pub(crate) resolver: Option<DnsResolver>,
    /// The name servers, `10.0.0.10:53`, with `dns`. Default: those of `/etc/resolv.conf`.
    #[serde(default)]
    pub(crate) servers: Vec<Text<SocketAddr>>,
    /// How long an answer is taken to be good at least, with `dns`; 1 s to 1 h. Default: 5 s.
    pub(crate) min_ttl: Option<Text<Duration>>,
    /// How long an answer is taken to be good at most, with `dns`; not shorter than `minTtl`. Default: 5 minutes.
    pub(crate) max_ttl: Option<Text<Duration>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DnsResolver {
    /// The operating system, which does not tell how long an answer is good: every 30 s.
    System,
    /// Name servers, as often as their answers say.
    Dns,
}

/// A key whose value is a document as a file of endpoints is: YAML or JSON with a list `endpoints`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RedisDiscovery {
    /// The server, by its name in `redis`.
    pub(crate) server: String,
    /// The key, as it stands there: no namespace is put before it.
    #[schemars(length(min = 1))]
    pub(crate) key: String,
    /// How often it is read, 100 ms to 1 h. Default: 2 s.
    pub(crate) interval: Option<Text<Duration>>,
}

/// A file of endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EndpointFile {
    /// Where an upstream runs. An empty list is one without endpoints.
    pub(crate) endpoints: Vec<Endpoint>,
}
