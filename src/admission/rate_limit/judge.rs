//! The algorithms behind one interface: functions of an account's state, the time and a cost.
//!
//! A state is 64 bits, zero for an account that was never seen. The time is nanoseconds by the algorithm's clock: since
//! the limit was made, or since 1970 where windows are those of the calendar.

use super::{
    Algorithm, LimitError, Quota,
    fixed::FixedWindow,
    gcra::{Gcra, LONGEST},
    rate::nanos,
    sliding::SlidingWindow,
};

/// How much may be spent of an account, and how fast it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    TokenBucket(Gcra),
    LeakyBucket(Gcra),
    SlidingWindow(SlidingWindow),
    FixedWindow(FixedWindow),
}

/// What the judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admission) enum Verdict {
    /// It can be spent, and leaves this state.
    Spend(u64),
    /// It can be spent after this many nanoseconds.
    Wait(u64),
    /// It can never be spent: it costs more than the account ever holds.
    Never,
}

/// A change that is not asked for but made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    /// What is charged, or given back if it is negative.
    pub(super) units: i64,
    /// How many units the account may then owe beyond what it holds.
    pub(super) beyond: u32,
}

impl Shift {
    pub(super) fn size(self) -> u32 {
        u32::try_from(self.units.unsigned_abs()).unwrap_or(u32::MAX)
    }
}

impl Judge {
    /// A judge of accounts that may owe `debt` beyond what they hold, and of which some have a quota of up to `most`
    /// units in a window.
    pub(super) fn new(algorithm: Algorithm, quota: Quota, debt: u32, most: u32) -> Result<Self, LimitError> {
        let (rate, interval) = (quota.rate(), quota.interval());
        let (count, period) = (rate.count().get(), nanos(rate.period()));
        let most = u64::from(count.max(most)) + u64::from(debt);
        if quota.burst_told().is_some() && algorithm != Algorithm::TokenBucket {
            return Err(LimitError::NoBurst);
        }
        match algorithm {
            Algorithm::TokenBucket => {
                let too_long = LimitError::Burst { burst: quota.burst(), rate };
                Gcra::of_tokens(interval, quota.burst(), debt).map(Self::TokenBucket).ok_or(too_long)
            }
            Algorithm::LeakyBucket { max_wait } => {
                let bucket = Gcra::leaky(interval, nanos(max_wait), debt);
                bucket.map(Self::LeakyBucket).ok_or(LimitError::Wait(max_wait))
            }
            Algorithm::SlidingWindow => SlidingWindow::new(count, period, most)
                .map(Self::SlidingWindow)
                .ok_or(LimitError::Window { rate }),
            Algorithm::FixedWindow { zone } => FixedWindow::new((count, debt), period, zone, most)
                .filter(|_| u128::from(debt) * u128::from(interval) <= LONGEST.into())
                .map(Self::FixedWindow)
                .ok_or(LimitError::Window { rate }),
        }
    }

    /// The judge of an account with another quota, which reads and writes the same states. `None` if none can: the windows
    /// are not of the same length, or there is no such judge.
    pub(super) fn with(&self, quota: Quota, debt: u32) -> Option<Self> {
        let (rate, interval) = (quota.rate(), quota.interval());
        match self {
            Self::TokenBucket(_) => Gcra::of_tokens(interval, quota.burst(), debt).map(Self::TokenBucket),
            Self::LeakyBucket(bucket) => {
                Gcra::leaky(interval, bucket.max_wait(), debt).map(Self::LeakyBucket)
            }
            Self::SlidingWindow(window) => window.counting(rate).map(Self::SlidingWindow),
            Self::FixedWindow(window) => window.counting(rate).map(Self::FixedWindow),
        }
        .filter(|_| quota.burst_told().is_none() || matches!(self, Self::TokenBucket(_)))
    }

    /// The nanoseconds that a unit adds to a state, and the most that are owed, where states are times.
    pub(super) const fn price(&self) -> Option<(u64, u64)> {
        match self {
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => {
                Some((bucket.interval(), bucket.deepest()))
            }
            Self::SlidingWindow(_) | Self::FixedWindow(_) => None,
        }
    }

    /// Whether it can go on with the states of another: what was spent stays so, under whatever rate and burst.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        match (self, other) {
            // What a unit costs is known of each account.
            (Self::TokenBucket(_), Self::TokenBucket(_)) | (Self::LeakyBucket(_), Self::LeakyBucket(_)) => {
                true
            }
            (Self::SlidingWindow(window), Self::SlidingWindow(other)) => window.reads_as(other),
            (Self::FixedWindow(window), Self::FixedWindow(other)) => window.reads_as(other),
            _ => false,
        }
    }

    /// Judges an account in this state. Nothing is always paid.
    #[inline]
    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        match self {
            _ if cost == 0 => Verdict::Spend(state),
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => bucket.judge(state, now, cost),
            Self::SlidingWindow(window) => window.judge(state, now, cost),
            Self::FixedWindow(window) => window.judge(state, now, cost),
        }
    }

    /// How much the account owes, on a scale of the algorithm's own. Nothing: it is like one that was never seen.
    pub(super) fn owed(&self, state: u64, now: u64) -> u64 {
        match self {
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => bucket.owed(state, now),
            Self::SlidingWindow(window) => window.owed(state, now),
            Self::FixedWindow(window) => window.owed(state, now),
        }
    }

    /// A state that owes at least what either does, from now on: whatever it lets be spent, both do.
    pub(super) fn join(&self, one: u64, other: u64, now: u64) -> u64 {
        match self {
            Self::TokenBucket(_) | Self::LeakyBucket(_) => one.max(other),
            Self::SlidingWindow(window) => window.join(one, other, now),
            Self::FixedWindow(window) => window.join(one, other, now),
        }
    }

    /// Charges or gives back what was decided `then`. What is charged stops where the account owes `beyond` what it
    /// holds; of what is given back, windows that have gone by have no use.
    pub(super) fn shift(&self, state: u64, then: u64, now: u64, shift: Shift) -> u64 {
        match self {
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => bucket.shift(state, now, shift),
            Self::SlidingWindow(window) => window.shift(state, then, now, shift),
            Self::FixedWindow(window) => window.shift(state, then, now, shift),
        }
    }

    /// The units that can be spent.
    pub(super) fn remaining(&self, state: u64, now: u64) -> u32 {
        let units = match self {
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => bucket.remaining(state, now),
            Self::SlidingWindow(window) => window.remaining(state, now),
            Self::FixedWindow(window) => window.remaining(state, now),
        };
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// The nanoseconds after which a unit more can be spent than now. Zero: no more ever can.
    pub(super) fn next_unit(&self, state: u64, now: u64) -> u64 {
        match self.judge(state, now, self.remaining(state, now).saturating_add(1)) {
            Verdict::Wait(time) => time,
            Verdict::Spend(_) | Verdict::Never => 0,
        }
    }

    /// The nanoseconds after which the account is like one that was never seen.
    pub(super) fn whole_in(&self, state: u64, now: u64) -> u64 {
        match self {
            Self::TokenBucket(bucket) | Self::LeakyBucket(bucket) => bucket.owed(state, now),
            Self::SlidingWindow(window) => window.whole_in(state, now),
            Self::FixedWindow(window) => window.whole_in(state, now),
        }
    }

    /// How long a request is held that found an account in this state, and how long the next one is held after it; in
    /// nanoseconds. `None` if this is no judge that has requests wait.
    #[inline]
    pub(super) fn hold(&self, state: u64, now: u64, cost: u32) -> Option<(u64, u64)> {
        match self {
            Self::LeakyBucket(bucket) => Some((bucket.owed(state, now), bucket.price(cost))),
            _ => None,
        }
    }
}
