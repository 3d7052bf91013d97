//! The judge of one account: the generic cell rate algorithm (ITU-T I.371), as the `governor` crate has it.
//!
//! An account's state is its *debt*: the time after which it will be whole again. Spending a unit adds an interval
//! to the debt; what would take it over `interval * burst` is refused. The judge is shown debts, not times, so its
//! own clock stands still, and the only clock read is that of the request.

use std::{
    cell::Cell,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::Rate;

/// The longest time in which an account may become whole: 100 years. It keeps every sum below within 64 bits.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000_000;

/// How much may be spent, and how fast it comes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    judge: governor::Quota,
    /// Nanoseconds in which one unit comes back.
    interval: NonZeroU64,
    burst: NonZeroU32,
}

/// What the judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be spent, and leaves this debt.
    Spend(u64),
    /// It can be spent after this many nanoseconds.
    Wait(u64),
    /// It can never be spent: it costs more than the account ever holds.
    Never,
}

impl Quota {
    /// `None` if it takes more than a hundred years to become whole.
    pub(super) fn new(rate: Rate, burst: NonZeroU32) -> Option<Self> {
        let interval = NonZeroU64::new(u64::try_from(rate.interval().as_nanos()).ok()?)?;
        let judge = governor::Quota::with_period(rate.interval())?.allow_burst(burst);
        let whole = interval.get().checked_mul(u64::from(burst.get()))?;
        (whole <= LONGEST).then_some(Self { judge, interval, burst })
    }

    /// Judges an account with this debt.
    pub(super) fn judge(&self, debt: u64, cost: u32) -> Verdict {
        let Some(cost) = NonZeroU32::new(cost) else { return Verdict::Spend(debt) };
        if cost > self.burst {
            return Verdict::Never;
        }
        let judge = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(self.judge, Trial::of(debt), Still);
        match judge.check_n(cost) {
            Ok(Ok(())) => Verdict::Spend(judge.into_state_store().debt.get()),
            Ok(Err(refusal)) => Verdict::Wait(nanos(refusal.wait_time_from(Nanos::new(0)))),
            Err(_) => Verdict::Never,
        }
    }

    /// The time that a spent account takes to become whole: no debt is larger.
    pub(super) fn whole(&self) -> u64 {
        self.interval.get() * u64::from(self.burst.get())
    }

    /// The units that an account with this debt can spend.
    pub(super) fn remaining(&self, debt: u64) -> u32 {
        let units = self.whole().saturating_sub(debt) / self.interval;
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// The nanoseconds after which an account with this debt can spend a unit more than now.
    pub(super) fn next_unit(&self, debt: u64) -> u64 {
        if debt == 0 { 0 } else { (debt - 1) % self.interval + 1 }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota(count: u32, period: Duration, burst: u32) -> Option<Quota> {
        Quota::new(Rate::new(count, period).ok()?, NonZeroU32::new(burst)?)
    }

    /// Rates from one a month to ten million a second, and bursts, as far as they are accepted.
    fn quotas() -> impl Strategy<Value = Quota> {
        let period = prop_oneof![
            Just(Duration::from_secs(1)),
            Just(Duration::from_secs(60)),
            Just(Duration::from_secs(30 * 86_400)),
            (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
        ];
        (prop_oneof![1_u32..20, 1_u32..10_000_000], period, prop_oneof![1_u32..20, 1_u32..1_000_000])
            .prop_filter_map("refused", |(count, period, burst)| quota(count, period, burst))
    }

    /// The slow obvious model: a bucket of tokens, each of them made of `interval` drops; a drop falls each nanosecond.
    struct Bucket {
        drops: u128,
        size: u128,
        interval: u128,
    }

    impl Bucket {
        fn wait(&mut self, time: u64) {
            self.drops = (self.drops + u128::from(time)).min(self.size);
        }

        fn spend(&mut self, cost: u32) -> Verdict {
            let cost = u128::from(cost) * self.interval;
            if cost > self.size {
                return Verdict::Never;
            }
            if cost > self.drops {
                return Verdict::Wait((cost - self.drops) as u64);
            }
            self.drops -= cost;
            Verdict::Spend((self.size - self.drops) as u64)
        }
    }

    proptest! {
        #[test]
        fn it_decides_as_a_bucket_of_drops(
            quota in quotas(),
            steps in prop::collection::vec((0.0..1.5_f64, 0_u32..5, any::<bool>()), 1..80),
        ) {
            let mut bucket = Bucket {
                drops: u128::from(quota.whole()),
                size: u128::from(quota.whole()),
                interval: u128::from(quota.interval.get()),
            };
            let mut debt = 0;
            for (wait, cost, big) in steps {
                let wait = (quota.interval.get() as f64 * wait) as u64;
                let cost = if big { cost * (quota.burst.get() / 3) } else { cost };
                bucket.wait(wait);
                debt = u64::saturating_sub(debt, wait);
                let verdict = quota.judge(debt, cost);
                prop_assert_eq!(verdict, bucket.spend(cost));
                if let Verdict::Spend(after) = verdict {
                    debt = after;
                }
                prop_assert_eq!(u128::from(quota.remaining(debt)), bucket.drops / bucket.interval);
            }
        }

        #[test]
        fn what_waits_as_told_is_admitted_and_not_before(quota in quotas(), debt: u64, cost in 1_u32..1000) {
            let debt = debt % (quota.whole() + 1);
            if let Verdict::Wait(time) = quota.judge(debt, cost) {
                prop_assert!(time > 0 && time <= debt);
                prop_assert!(matches!(quota.judge(debt - time, cost), Verdict::Spend(_)));
                prop_assert!(matches!(quota.judge(debt - time + 1, cost), Verdict::Wait(1)));
            }
        }

        #[test]
        fn a_unit_comes_when_it_is_told(quota in quotas(), debt: u64) {
            let debt = debt % (quota.whole() + 1);
            let wait = quota.next_unit(debt);
            prop_assert_eq!(debt == 0, wait == 0);
            if wait > 0 {
                prop_assert_eq!(quota.remaining(debt - wait), quota.remaining(debt) + 1);
                prop_assert_eq!(quota.remaining(debt - wait + 1), quota.remaining(debt));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let month = Duration::from_secs(30 * 86_400);
        let slow = quota(1, month, 1).unwrap();
        assert_eq!(slow.judge(0, 1), Verdict::Spend(nanos(month)));
        assert_eq!(slow.judge(nanos(month), 1), Verdict::Wait(nanos(month)));
        assert_eq!(slow.judge(1, 1), Verdict::Wait(1));

        let fast = quota(10_000_000, Duration::from_secs(1), 10_000_000).unwrap();
        assert_eq!(fast.judge(0, 10_000_000), Verdict::Spend(1_000_000_000));
        assert_eq!(fast.judge(1_000_000_000, 1), Verdict::Wait(100));
        assert_eq!(fast.judge(100, 10_000_001), Verdict::Never);

        assert!(quota(1, month, 1216).is_some());
        assert!(quota(1, month, 1217).is_none(), "more than a hundred years");
        assert!(quota(1, month, u32::MAX).is_none());
    }

    #[test]
    fn a_cost_of_nothing_is_always_paid() {
        let quota = quota(1, Duration::from_secs(1), 1).unwrap();
        assert_eq!(quota.judge(quota.whole(), 0), Verdict::Spend(quota.whole()));
        assert_eq!(quota.judge(0, u32::MAX), Verdict::Never);
    }
}
