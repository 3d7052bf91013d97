use std::sync::Arc;

use crate::{
    admission::{Cost, Plans, Settle, Skip, quota::QuotaFallback},
    head::Head,
};

/// What an account may spend in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allowance {
    /// So many units. With none, every request that costs something is refused, and is not told to come back.
    Units(u64),
    /// As much as it likes; it is counted all the same.
    Unlimited,
}

impl Allowance {
    /// The units, if they are limited.
    #[must_use]
    pub const fn units(self) -> Option<u64> {
        match self {
            Self::Units(units) => Some(units),
            Self::Unlimited => None,
        }
    }
}

impl From<u64> for Allowance {
    fn from(units: u64) -> Self {
        Self::Units(units)
    }
}

/// What a quota allows to whom, and what a request costs there. It can change while counters go on.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) otherwise: Allowance,
    pub(super) plans: Plans<Allowance>,
    pub(super) cost: Cost,
    pub(super) settle: Option<Settle>,
    pub(super) skips: Arc<[Skip]>,
    pub(super) in_shadow: bool,
    pub(super) fallback: QuotaFallback,
}

impl Terms {
    pub(super) fn allowance(&self, head: &Head<'_>) -> Allowance {
        self.plans.of(head).copied().unwrap_or(self.otherwise)
    }

    /// Whether it can only be told once the caller is authenticated.
    pub(super) fn need_identity(&self) -> bool {
        !self.plans.is_empty() || self.skips.iter().any(Skip::needs_identity)
    }
}
