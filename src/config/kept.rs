//! What outlives a reload.
use std::collections::BTreeMap;

use crate::{admission::rate_limit::RateLimits, upstream::Upstream};

/// State by name: a limit that is defined again is the same limit, and an upstream takes over the connections of the
/// one that is in force.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) limits: RateLimits,
    pub(super) upstreams: BTreeMap<String, Upstream>,
}
