//! What is left of a limit for one of several instances that count alone.

use std::num::NonZeroU32;

use crate::admission::rate_limit::{Algorithm, Quota, judge::Judge};

/// Who judges by the part that one of so many instances has of this quota and of the debt: at least one unit at once, and
/// one in a year. `None` if the judge knows nothing of this quota, whole or divided.
pub(super) fn share(
    judge: &Judge,
    algorithm: Algorithm,
    (quota, max_debt): (Quota, u32),
    instances: u32,
) -> Option<Judge> {
    let part = match algorithm {
        Algorithm::TokenBucket | Algorithm::LeakyBucket { .. } => {
            let burst = NonZeroU32::new(quota.burst().get() / instances.max(1));
            Quota::new(quota.rate().slowed(instances)).with_burst(burst.unwrap_or(NonZeroU32::MIN))
        }
        Algorithm::SlidingWindow | Algorithm::FixedWindow { .. } => {
            Quota::new(quota.rate().divided(instances))
        }
    };
    // At a rate that is so much slower what could be owed might take more than a hundred years to pay.
    judge.with(part, max_debt / instances.max(1)).or_else(|| judge.with(part, 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::admission::rate_limit::{Rate, judge::Verdict};

    const YEAR: u64 = 365 * 86_400;

    fn algorithms() -> impl Strategy<Value = Algorithm> {
        prop_oneof![Just(Algorithm::TokenBucket), Just(Algorithm::SlidingWindow), Just(Algorithm::CALENDAR),]
    }

    #[test]
    fn who_has_less_than_one_a_year_has_one() {
        for (text, instances) in [("1/month", 13), ("20/year", 21), ("100/month", 1_217), ("1/year", 200_000)]
        {
            let quota = Quota::new(text.parse().unwrap());
            for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR] {
                let judge = Judge::new(algorithm, quota, 50, 0).unwrap();
                let share = share(&judge, algorithm, (quota, 50), instances).unwrap();
                assert_eq!(share.remaining(0, 0), 1, "{text} of {instances}, {algorithm:?}");
            }
        }
    }

    proptest! {
        /// A share holds no more than its part, or one unit; and it refills no faster than its part, or one in a year.
        #[test]
        fn a_share_is_never_more_than_its_part(
            algorithm in algorithms(),
            count in 1_u32..2_000_000,
            period in prop_oneof![1..100_u64, 1..86_400_u64, 1..20 * YEAR],
            instances in prop_oneof![1..30_u32, 1..200_000_u32],
            debt in prop_oneof![Just(0), 0..1_000_u32],
        ) {
            let Ok(rate) = Rate::new(count, Duration::from_secs(period)) else { return Ok(()) };
            let quota = Quota::new(rate);
            let Ok(judge) = Judge::new(algorithm, quota, debt, 0) else { return Ok(()) };
            let share = share(&judge, algorithm, (quota, debt), instances).expect("a share");
            let (whole, part) = (judge.remaining(0, 0), share.remaining(0, 0));
            prop_assert!(part >= 1 && part <= (whole / instances).max(1), "{part} of {whole}");
            if let Some((slow, _)) = share.price() {
                let (year, count) = (u128::from(YEAR) * 1_000_000_000, u128::from(count));
                let exact = rate.period().as_nanos() * u128::from(instances);
                prop_assert!(u128::from(slow) * count >= exact.min(year * count), "{slow}");
            }
            // At the share's own time nobody who has used it up is let in at once.
            let Verdict::Spend(spent) = share.judge(0, 0, part) else { panic!("{part} cannot be spent") };
            prop_assert!(matches!(share.judge(spent, 0, 1), Verdict::Wait(_)));
        }
    }
}
