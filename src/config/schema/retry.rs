use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Header;
use crate::config::scalar::Text;

/// When a request is tried again: the Gateway API's `HTTPRouteRetry`. How is for `policies.retry` to say, and how often at
/// most for the upstream's `retryConstraint`. An attempt that got no response is tried again, too, and what has an
/// idempotent method only, or an `Idempotency-Key`, or was never sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retry {
    /// The statuses of responses after which it is tried again: 400 to 599. Default: 502, 503 and 504.
    #[schemars(inner(range(min = 400, max = 599)))]
    #[serde(default)]
    pub(crate) codes: Vec<u16>,
    /// How many attempts there may be beside the first. Default: 2.
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: Option<u32>,
    /// The least time between attempts, less than `timeouts.request`. As much comes on top by chance, growing with each attempt.
    /// Default: from nothing to 25 ms before the second attempt, growing to 250 ms.
    pub(crate) backoff: Option<Text<Duration>>,
}

/// How requests are tried again, beyond what the rule's `retry` says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryRules {
    /// In which cases beside the `codes`. Default: `connect-failure`, `refused-stream`, `reset` and `unavailable`.
    pub(crate) on: Option<Vec<RetryCondition>>,
    /// Headers of a response after which it is tried again, whatever its status.
    #[serde(default)]
    pub(crate) headers: Vec<Header>,
    /// The longest time between attempts, the least apart; not shorter than `backoff`. Default: ten times the least, or 250 ms.
    pub(crate) max_backoff: Option<Text<Duration>>,
    /// The longest time for which an upstream can ask, in `Retry-After`, say; at most 1 h. If it asks for more the response is given as it
    /// is: what waits holds its client's connection, and its place in the rule's `concurrency`. Default: 1 s.
    pub(crate) max_retry_after: Option<Text<Duration>>,
    /// The longest body that is kept to be sent again, in bytes, at most 16 MiB. A longer one is sent once. Default: 65536.
    #[schemars(range(max = 16_777_216))]
    pub(crate) max_body: Option<u32>,
    /// How much of the request's time must be left for an attempt to be begun; less than `timeouts.request`. Default: 10 ms.
    pub(crate) min_time_left: Option<Text<Duration>>,
    /// A header in which the upstream is told which attempt it is: 1 for the first; those of a `hedge` are counted along. It is
    /// removed from what clients send. Default: none.
    pub(crate) attempt_header: Option<Header>,
    /// Whether requests of any method are tried again, without an idempotency key. An upstream may do twice what it was asked
    /// once. For calls that can be repeated, such as gRPC calls that only read. Default: `false`.
    #[serde(default)]
    pub(crate) danger_any_method: bool,
}

/// A case in which an attempt may be mended by another; the names are Envoy's.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RetryCondition {
    /// gRPC status 1.
    Cancelled,
    /// No connection could be made.
    ConnectFailure,
    /// gRPC status 4.
    DeadlineExceeded,
    /// 502, 503 or 504, or no response.
    GatewayError,
    /// gRPC status 13.
    Internal,
    /// The upstream has said that it did not look at the request.
    RefusedStream,
    /// No response.
    Reset,
    /// gRPC status 8.
    ResourceExhausted,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// 500 and above, or no response.
    #[serde(rename = "5xx")]
    ServerError,
    /// gRPC status 14.
    Unavailable,
}

/// A bound on second attempts, in the fields of the Gateway API's `BackendTrafficPolicy` (GEP-3388).
#[derive(Debug, Default, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryConstraint {
    /// As a share of the requests.
    #[serde(default)]
    pub(crate) budget: RetryBudget,
    /// So many in any case.
    #[serde(default)]
    pub(crate) min_retry_rate: RetryRate,
}

/// A share of the requests.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryBudget {
    /// How many of a hundred may be tried again. Default: 20.
    #[schemars(range(max = 100))]
    pub(crate) percent: Option<u8>,
    /// The time in which both are counted, 1 s to 1 h. Default: 10 s.
    pub(crate) interval: Option<Text<Duration>>,
}

/// A number for each interval.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryRate {
    /// How many. Default: 10.
    pub(crate) count: Option<u32>,
    /// In which time: 1 ms at least, at most the budget's. Default: 1 s.
    pub(crate) interval: Option<Text<Duration>>,
}
