use std::{num::NonZeroU32, time::Duration};

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::Text;

/// How the endpoints of an upstream are asked whether they are well. Exactly one of `http`, `grpc` and `tcp`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// Asks over HTTP.
    pub(crate) http: Option<HttpHealthCheck>,
    /// Asks the health service of gRPC.
    pub(crate) grpc: Option<GrpcHealthCheck>,
    /// Only connects.
    pub(crate) tcp: Option<TcpHealthCheck>,
    /// How long after an answer it is asked again, 10 ms to 1 h. Default: 5 s.
    pub(crate) interval: Option<Text<Duration>>,
    /// How much of chance comes on top, at most 1 h. Default: 500 ms.
    pub(crate) interval_jitter: Option<Text<Duration>>,
    /// The interval as long as there was never a request to this upstream, 10 ms to 1 h. Default: 60 s.
    pub(crate) no_traffic_interval: Option<Text<Duration>>,
    /// How long an answer may take, with its connection; 1 ms to 1 h. Default: 1 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// How many bad answers in a row make an endpoint unhealthy. Default: 3.
    pub(crate) unhealthy_threshold: Option<NonZeroU32>,
    /// How many good answers in a row make it healthy again. Default: 2.
    pub(crate) healthy_threshold: Option<NonZeroU32>,
    /// Whether an endpoint gets no request before it has answered well once. Default: `false`.
    #[serde(default)]
    pub(crate) wait_for_first: bool,
}

/// A question over HTTP, in the version that is spoken to the upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpHealthCheck {
    /// The path that is asked for, with `GET`.
    pub(crate) path: String,
    /// The host that is asked for. Default: the endpoint's address.
    pub(crate) host: Option<Text<HeaderValue>>,
    /// The statuses of good answers. Default: 200.
    #[schemars(inner(range(min = 200, max = 599)))]
    #[serde(default)]
    pub(crate) expected_statuses: Vec<u16>,
}

/// A question to `grpc.health.v1.Health`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GrpcHealthCheck {
    /// The service that is asked about. Default: the server as a whole.
    #[serde(default)]
    pub(crate) service_name: String,
    /// The host that is asked for. Default: the endpoint's address.
    pub(crate) authority: Option<Text<HeaderValue>>,
}

/// A connection, and nothing else.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpHealthCheck {}

/// When an endpoint is left out because of what becomes of the requests to it. The names are Envoy's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutlierDetection {
    /// After how many failures in a row: statuses of 500 and above, their like in gRPC, and no answer. 0: off. Default: 5.
    pub(crate) consecutive_5xx: Option<u32>,
    /// After how many 502, 503, 504, `UNAVAILABLE`, `DEADLINE_EXCEEDED` and lost answers in a row. 0: off. Default: 0.
    pub(crate) consecutive_gateway_failure: Option<u32>,
    /// After how many times in a row without an answer, which count here alone then. 0: they count above. Default: 0.
    pub(crate) consecutive_local_origin_failure: Option<u32>,
    /// How many thousandths of a standard deviation the share of successes may lie below the mean. 0: off. Default: 1900.
    pub(crate) success_rate_stdev_factor: Option<u32>,
    /// How many endpoints must have enough requests for that. Default: 5.
    pub(crate) success_rate_minimum_hosts: Option<NonZeroU32>,
    /// How many requests in an interval are enough for that. Default: 100.
    pub(crate) success_rate_request_volume: Option<NonZeroU32>,
    /// Which share of failures, in percent, is too much. 0: off. Default: 85.
    #[schemars(range(max = 100))]
    pub(crate) failure_percentage_threshold: Option<u8>,
    /// How many endpoints must have enough requests for that. Default: 5.
    pub(crate) failure_percentage_minimum_hosts: Option<NonZeroU32>,
    /// How many requests in an interval are enough for that. Default: 50.
    pub(crate) failure_percentage_request_volume: Option<NonZeroU32>,
    /// How often shares are looked at, and who was left out comes back; 10 ms to 1 h. Default: 10 s.
    pub(crate) interval: Option<Text<Duration>>,
    /// For how long an endpoint is left out the first time, 10 ms to 1 h; twice that the second. Default: 30 s.
    pub(crate) base_ejection_time: Option<Text<Duration>>,
    /// The longest time: not shorter than `baseEjectionTime`, at most 1 h. Default: 300 s.
    pub(crate) max_ejection_time: Option<Text<Duration>>,
    /// How much of chance comes on top, at most 1 h. Default: none.
    pub(crate) max_ejection_time_jitter: Option<Text<Duration>>,
    /// How many of a hundred endpoints are left out at most; one in any case, but never the last. Default: 10.
    #[schemars(range(max = 100))]
    pub(crate) max_ejection_percent: Option<u8>,
    /// Whether it only counts and logs whom it would leave out. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
}

/// Pings on HTTP/2 connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KeepAlive {
    /// After how long a silence the peer is asked: 1 s to 1 h.
    pub(crate) interval: Text<Duration>,
    /// How long it has for its answer, 10 ms to 1 h. Default: 20 s.
    pub(crate) timeout: Option<Text<Duration>>,
}
