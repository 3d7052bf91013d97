use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HeaderLine, KeyList, MirrorRef, RetryCondition};
use crate::config::scalar::Text;

/// Gives something else in the place of a failure: `stale`, or else one of `response` and `backendRef`. What blames the caller is
/// no failure, nor what a policy outside of it has refused: who may not ask is given nothing.
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
    /// An old answer, where there is one that may be given.
    pub(crate) stale: Option<StaleRules>,
    /// An answer that is always there. A gRPC caller gets `UNAVAILABLE`, unless its content type is that of gRPC.
    pub(crate) response: Option<FallbackResponse>,
    /// Another upstream, behind the rule's filters and its own limits. Its time begins anew, within the caller's deadline. It is
    /// asked only if the request may be done twice, or nobody has looked at it, and if its body is not longer than 64 KiB.
    pub(crate) backend_ref: Option<MirrorRef>,
}

/// Good answers to `GET`, kept for bad times (RFC 5861): of status 200, and those alone that say that they are for everybody, by
/// `public` or `s-maxage`, unless a `key` says whose they are. What is kept of one principal is given to no other, nor of what
/// another value of a header has had that chooses the rule, the upstream's version or endpoint, or that tells upstreams who asks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StaleRules {
    /// Whose an answer is: the `principal`, if that is the end user, or the cookie or header by which the upstream knows its
    /// users. With one, answers are kept that are `private`, or do not say whom they are for; without the parts of it, none.
    /// Default: only what is for everybody is kept.
    pub(crate) key: Option<KeyList>,
    /// How old an answer may be when it is given; its server may want it younger. Default: 1 h.
    pub(crate) max_age: Option<Text<Duration>>,
    /// The longest body that is kept, in bytes, at most a quarter of `maxBytes`. Default: 1048576.
    pub(crate) max_body: Option<NonZeroU32>,
    /// The most memory that they take, in bytes, with those that are being recorded. Default: 16777216.
    pub(crate) max_bytes: Option<NonZeroU64>,
    /// The most answers that are kept. Default: 4096.
    #[schemars(range(max = 16_777_216))]
    pub(crate) max_entries: Option<NonZeroU32>,
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
