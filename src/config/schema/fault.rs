use std::{num::NonZeroU64, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Match;
use crate::{config::scalar::Text, ratio::Ratio};

/// Makes requests fail on purpose: a delay, and then the first of the others whose share is hit. Logs and metrics mark each.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultRules {
    /// Of the rule's requests those that one of these matches. Default: all.
    #[schemars(length(max = 64))]
    #[serde(default)]
    pub(crate) matches: Vec<Match>,
    /// Holds requests back.
    pub(crate) delay: Option<FaultDelay>,
    /// Answers requests in the upstream's place.
    pub(crate) abort: Option<FaultAbort>,
    /// Breaks requests off: clients see a head at most, and then the end of the connection, or of the stream in HTTP/2.
    pub(crate) reset: Option<FaultReset>,
    /// Gives the bodies of responses slowly.
    pub(crate) throttle: Option<FaultThrottle>,
    /// Whether the listeners' `trustedProxies` can ask for faults of their own requests in `x-portcullis-fault-*` headers; those of
    /// clients they speak for are not heard. Of strangers they are taken out, on every rule. Default: `false`.
    #[serde(default)]
    pub(crate) by_header: bool,
}

/// Requests that are held back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultDelay {
    /// For how long: more than 0, at most 1 h.
    pub(crate) fixed_delay: Text<Duration>,
    /// How many of them, such as `5%`.
    pub(crate) share: Text<Ratio>,
}

/// Requests that are answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultAbort {
    /// With which status: 200 to 599. Default: 503.
    #[schemars(range(min = 200, max = 599))]
    pub(crate) http_status: Option<u16>,
    /// And with which status in gRPC: 1 to 16. Default: what clients make of `httpStatus`.
    #[schemars(range(min = 1, max = 16))]
    pub(crate) grpc_status: Option<u8>,
    /// How many of them, such as `5%`.
    pub(crate) share: Text<Ratio>,
}

/// Requests that are broken off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultReset {
    /// How many of them, such as `5%`.
    pub(crate) share: Text<Ratio>,
}

/// Responses that come slowly.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FaultThrottle {
    /// How many bytes a second of the body.
    pub(crate) bytes_per_second: NonZeroU64,
    /// How many of them, such as `5%`.
    pub(crate) share: Text<Ratio>,
}
