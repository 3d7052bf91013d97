use crate::admission::rate_limit::{Charge, Fields, RateLimit};

/// Limits that are one decision, and what clients are told of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub(super) charges: Vec<Charge>,
    pub(super) fields: Fields,
    pub(super) legacy: bool,
}

impl Limits {
    /// Whether one of them counts by what only authentication tells.
    pub(super) fn need_identity(&self) -> bool {
        self.charges.iter().any(|charge| charge.limit().key().needs_identity())
    }

    /// Their gate, if there are any.
    pub(super) fn gate(self) -> Option<RateLimit> {
        if self.charges.is_empty() {
            return None;
        }
        Some(RateLimit::from_iter(self.charges).fields(self.fields).legacy_fields(self.legacy))
    }
}
