use std::time::Duration;

use super::Overload;
use crate::{
    admission::Priorities,
    chance::Chance,
    gate::{Gate, GateLayer},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

/// A gate that refuses by pressure and priority. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct Shed {
    overload: Overload,
    priorities: Priorities,
    chance: Chance,
    refusal: Rejection,
}

impl Shed {
    /// By the pressure of `overload`, all requests alike.
    pub fn new(overload: &Overload) -> Self {
        Self {
            overload: overload.clone(),
            priorities: Priorities::default(),
            chance: Chance::new(),
            refusal: Rejection::new(Reason::Overloaded).detail("shed").retry_after(Duration::from_secs(1)),
        }
    }

    /// What tells how important a request is.
    pub fn priorities(mut self, priorities: Priorities) -> Self {
        self.priorities = priorities;
        self
    }

    /// When those who are refused may try again: their `Retry-After`. 1 second unless told.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.refusal = self.refusal.retry_after(after);
        self
    }

    /// Where the chance comes from that says whom a share strikes.
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    /// Whether it looks at what is only known once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.priorities.need_identity()
    }

    /// The layer. Its clones, and all services that they make, share the pressure.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    #[cold]
    fn decide(&self, head: &Head<'_>) -> Result<(), Answer> {
        self.overload.start();
        let priority = self.priorities.of(head);
        if !strikes(&self.chance, priority.share(self.overload.pressure())) {
            return Ok(());
        }
        self.overload.count(priority);
        Err(self.refusal.clone().into())
    }
}

/// `true` in this share of the cases.
pub(super) fn strikes(chance: &Chance, share: f64) -> bool {
    share > 0.0 && (share >= 1.0 || (chance.next() as f64) < share * u64::MAX as f64)
}

impl Gate for Shed {
    type Pass = ();

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if self.overload.is_calm() { Ok(()) } else { self.decide(head) }
    }
}
