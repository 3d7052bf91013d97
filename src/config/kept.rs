//! What outlives a reload.
use std::collections::BTreeMap;

#[cfg(feature = "jwt")]
use super::compile::KeySets;
use crate::{
    admission::{authz::Tally, ext_authz::ExternalAuth, rate_limit::RateLimits},
    upstream::Upstream,
};

/// State by name: a limit that is defined again is the same limit, and an upstream takes over the connections of the
/// one that is in force. Rules of policies count on, and an authorizer that has not changed keeps what it knows.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) limits: RateLimits,
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) tally: Tally,
    /// Each with what the file said of it: if it says the same again, it is the same.
    pub(super) authorizers: BTreeMap<String, (String, ExternalAuth)>,
    #[cfg(feature = "jwt")]
    pub(super) key_sets: KeySets,
}
