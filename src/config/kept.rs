//! What outlives a reload.
use std::collections::BTreeMap;

#[cfg(feature = "jwt")]
use super::compile::KeySets;
use crate::{admission::rate_limit::RateLimits, upstream::Upstream};

/// State by name: a limit that is defined again is the same limit, and an upstream takes over the connections of the
/// one that is in force.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) limits: RateLimits,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    #[cfg(feature = "jwt")]
    pub(super) key_sets: KeySets,
}
