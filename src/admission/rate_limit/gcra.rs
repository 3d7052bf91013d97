//! Token bucket, judged by the `governor` crate, and leaky bucket: the generic cell rate algorithm (ITU-T I.371).
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

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::{
    judge::{Shift, Verdict},
    rate::nanos,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gcra {
    /// Who judges a token bucket. A leaky bucket has no burst, and judges itself.
    governor: Option<governor::Quota>,
    /// Nanoseconds in which one unit comes back. Not zero.
    interval: u64,
    /// The debt of a spent account.
    whole: u64,
    /// The largest debt, where what a request costs is only known after it.
    deepest: u64,
}

/// The longest time in which an account may become whole: 100 years. It keeps every sum below within 64 bits.
pub(super) const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000_000;

impl Gcra {
    /// A bucket of `burst` tokens. `None` if it takes more than a hundred years to become whole.
    pub(super) fn of_tokens(interval: u64, burst: NonZeroU32, debt: u32) -> Option<Self> {
        let governor = governor::Quota::with_period(Duration::from_nanos(interval))?.allow_burst(burst);
        let whole = interval.checked_mul(u64::from(burst.get()))?;
        Self::new(interval, whole, debt).map(|bucket| Self { governor: Some(governor), ..bucket })
    }

    /// A bucket that leaks, in front of which nobody waits longer. `None` as for a bucket of tokens.
    pub(super) fn leaky(interval: u64, max_wait: u64, debt: u32) -> Option<Self> {
        Self::new(interval, interval.checked_add(max_wait)?, debt).filter(|_| interval > 0)
    }

    fn new(interval: u64, whole: u64, debt: u32) -> Option<Self> {
        let deepest = whole.checked_add(interval.checked_mul(u64::from(debt))?)?;
        (deepest <= LONGEST).then_some(Self { governor: None, interval, whole, deepest })
    }

    /// The nanoseconds in which one unit comes back.
    pub(super) const fn interval(&self) -> u64 {
        self.interval
    }

    /// The largest debt.
    pub(super) const fn deepest(&self) -> u64 {
        self.deepest
    }

    /// The debt with which a unit can still be had.
    pub(super) const fn max_wait(&self) -> u64 {
        self.whole - self.interval
    }

    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        let debt = self.owed(state, now);
        let price = self.price(cost);
        if price > self.whole {
            return Verdict::Never; // first: governor multiplies as if it could not overflow
        }
        if let (Some(quota), Some(cost)) = (self.governor, NonZeroU32::new(cost)) {
            return governed(quota, debt, now, cost);
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

/// The verdict of `governor` on an account with this debt. It is shown debts, not times, so its own clock stands still.
fn governed(quota: governor::Quota, debt: u64, now: u64, cost: NonZeroU32) -> Verdict {
    let judge = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota, Trial::of(debt), Still);
    match judge.check_n(cost) {
        Ok(Ok(())) => Verdict::Spend(now + judge.into_state_store().debt.get()),
        Ok(Err(refusal)) => Verdict::Wait(nanos(refusal.wait_time_from(Nanos::new(0)))),
        Err(_) => Verdict::Never,
    }
}

/// One account, shown to the judge.
struct Trial {
    debt: Cell<u64>,
}

impl Trial {
    fn of(debt: u64) -> Self {
        Self { debt: Cell::new(debt) }
    }
}

impl StateStore for Trial {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (told, debt) = decide(Some(Nanos::new(self.debt.get())))?;
        self.debt.set(debt.as_u64());
        Ok(told)
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(0)
    }
}
