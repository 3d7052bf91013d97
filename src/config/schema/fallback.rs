use schemars::JsonSchema;
use serde::Deserialize;

use super::{HeaderLine, MirrorRef, RetryCondition};

/// Gives something else in the place of a failure: exactly one of `response` and `backendRef`. What blames the caller is no
/// failure, nor what a policy outside of it has refused: who may not ask is given nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FallbackRules {
    /// In which cases beside the `codes`; what the rule's breaker or limits in flight refuse is one by its status. Default:
    /// `5xx`, `connect-failure`, `refused-stream`, `reset`, and of gRPC `deadline-exceeded`, `internal` and `unavailable`.
    pub(crate) on: Option<Vec<RetryCondition>>,
    /// The statuses of responses that are failures, too: 400 to 599.
    #[schemars(inner(range(min = 400, max = 599)))]
    #[serde(default)]
    pub(crate) codes: Vec<u16>,
    /// An answer that is always there. A gRPC caller gets `UNAVAILABLE`, unless its content type is that of gRPC.
    pub(crate) response: Option<FallbackResponse>,
    /// Another upstream, behind the rule's filters and its own limits. Its time begins anew, within the caller's deadline. It is
    /// asked only if the request may be done twice, or nobody has looked at it, and if its body is not longer than 64 KiB.
    pub(crate) backend_ref: Option<MirrorRef>,
}

/// An answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FallbackResponse {
    /// Its status: 200 to 599. Default: 200.
    #[schemars(range(min = 200, max = 599))]
    pub(crate) status: Option<u16>,
    /// Its headers.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) headers: Vec<HeaderLine>,
    /// Its body. Default: empty.
    #[serde(default)]
    pub(crate) body: String,
}
