//! Token bucket and leaky bucket: the generic cell rate algorithm (ITU-T I.371).
//!
//! The state is the time at which the account will be whole. What lies between now and then is its *debt*: a unit adds
//! an interval, and what would take the debt above `whole` is refused.
//!
//! ```text
//! debt    = max(state - now, 0)
//! spend   : debt + cost * interval <= whole, and leaves state = now + debt + cost * interval
//! wait    : debt + cost * interval - whole
//! whole   = interval * burst            for a token bucket
//!         = interval + max_wait         for a leaky bucket, whose requests are held for their debt
//! ```

use super::judge::{Shift, Verdict};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gcra {
    /// Nanoseconds in which one unit comes back. Not zero.
    interval: u64,
    /// The debt of a spent account.
    whole: u64,
    /// The largest debt, where what a request costs is only known after it.
    deepest: u64,
}

/// The longest time in which an account may become whole: 100 years. It keeps every sum below within 64 bits.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000_000;

impl Gcra {
    /// `None` if it takes more than a hundred years to become whole.
    pub(super) fn new(interval: u64, whole: Option<u64>, debt: u32) -> Option<Self> {
        let whole = whole.filter(|_| interval > 0)?;
        let deepest = whole.checked_add(interval.checked_mul(u64::from(debt))?)?;
        (deepest <= LONGEST).then_some(Self { interval, whole, deepest })
    }

    /// The debt with which a unit can still be had.
    pub(super) const fn max_wait(&self) -> u64 {
        self.whole - self.interval
    }

    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        let (debt, price) = (self.owed(state, now), self.price(cost));
        if price > self.whole {
            return Verdict::Never;
        }
        match (debt + price).checked_sub(self.whole) {
            None | Some(0) => Verdict::Spend(now + debt + price),
            Some(wait) => Verdict::Wait(wait),
        }
    }

    /// The debt. It is never larger than it can become, unless the clock has gone back.
    pub(super) fn owed(&self, state: u64, now: u64) -> u64 {
        state.saturating_sub(now).min(self.deepest)
    }

    pub(super) fn remaining(&self, state: u64, now: u64) -> u64 {
        self.whole.saturating_sub(self.owed(state, now)) / self.interval
    }

    pub(super) fn shift(&self, state: u64, now: u64, shift: Shift) -> u64 {
        let debt = self.owed(state, now);
        let most = self.whole.saturating_add(self.price(shift.beyond)).min(self.deepest);
        let debt = match shift.units {
            units if units < 0 => debt.saturating_sub(self.price(shift.size())),
            _ => debt.saturating_add(self.price(shift.size())).min(most).max(debt),
        };
        if debt == 0 { 0 } else { now + debt }
    }

    pub(super) fn price(&self, cost: u32) -> u64 {
        self.interval.saturating_mul(u64::from(cost))
    }
}
