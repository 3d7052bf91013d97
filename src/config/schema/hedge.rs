use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{config::scalar::Text, ratio::Ratio};

/// Sends a second attempt beside one that is late, at another endpoint, and gives what comes first: of requests that `retry`
/// may repeat, and within the upstream's `retryConstraint`. Either `delay` or `percentile`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HedgeRules {
    /// How late an attempt must be; less than the request and each attempt may take.
    pub(crate) delay: Option<Text<Duration>>,
    /// Later than this share of the answers of the last seconds were, such as `95%`: more than 0%, less than 100%. Until 100
    /// answers have come nothing is sent twice.
    pub(crate) percentile: Option<Text<Ratio>>,
    /// The shortest time that a percentile may come to. Default: 1 ms.
    pub(crate) min_delay: Option<Text<Duration>>,
    /// How many attempts there may be with the first, each as much later than the one before. Default: 2.
    #[schemars(range(min = 2, max = 5))]
    pub(crate) max_attempts: Option<u32>,
    /// The longest body that is kept to be sent again, in bytes, at most 16 MiB. A longer one is sent once. Default: 65536.
    #[schemars(range(max = 16_777_216))]
    pub(crate) max_body: Option<u32>,
    /// Whether requests of any method are sent twice, without an idempotency key. Upstreams then do twice what they were asked
    /// once, whenever they are slow. For calls that can be repeated, such as gRPC calls that only read. Default: `false`, of
    /// which a mesh client warns unless it is written: it does not know whether its calls are gRPC.
    #[serde(default)]
    pub(crate) danger_any_method: bool,
}
