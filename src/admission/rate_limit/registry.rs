use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{Limit, LimitBuilder, LimitError, limit::Inner};

/// Limits by name, so that a limit defined again, by a reload say, is the same limit with the same accounts.
///
/// A definition that differs in what it grants, its rate, burst, plans, debts, bounds, or how it is kept on Redis, goes on with
/// the units that the accounts have spent. One that counts by another key, algorithm, calendar or length of a window, or whose counts have no
/// room where the others stand, begins with fresh accounts, and leaves those of the other alone while that is in use. Where
/// [`max_keys`](LimitBuilder::max_keys) is another, accounts are copied by the first request. A limit that nobody uses any more is forgotten. Cheap to
/// clone: clones are the same registry.
///
/// ```
/// use portcullis::admission::rate_limit::{Limit, RateLimitRegistry};
///
/// let limits = RateLimitRegistry::new();
/// let first = limits.define(Limit::builder("per-address", "10/s".parse()?))?;
/// let again = limits.define(Limit::builder("per-address", "10/s".parse()?))?;
/// let faster = limits.define(Limit::builder("per-address", "20/s".parse()?))?;
/// assert!(first.is_same(&again) && first.is_same(&faster));
/// let other = limits.define(Limit::builder("per-address", "20/s".parse()?).shared())?;
/// assert!(!first.is_same(&other));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct RateLimitRegistry(Arc<Mutex<ByName>>);

type ByName = HashMap<Arc<str>, Vec<Weak<Inner>>>;

impl RateLimitRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limit of this definition: the one that is in use, if it is the same, or a new one.
    ///
    /// # Errors
    ///
    /// As [`LimitBuilder::build`].
    pub fn define(&self, limit: LimitBuilder) -> Result<Limit, LimitError> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use: Vec<_> =
            limits.get(&limit.name).into_iter().flatten().filter_map(Weak::upgrade).collect();
        // Only the latest: what was spent since, elders may not know of.
        if let Some(same) = in_use.last().filter(|other| other.terms == limit.terms) {
            return Ok(Limit(Arc::clone(same)));
        }
        let limit = limit.build_after(&in_use)?;
        if limits.len() == limits.capacity() {
            limits.retain(|_, of_name| of_name.iter().any(|limit| limit.strong_count() > 0));
        }
        let of_name = limits.entry(limit.0.name.clone()).or_default();
        of_name.retain(|limit| limit.strong_count() > 0);
        of_name.push(Arc::downgrade(&limit.0));
        Ok(limit)
    }
}

impl Limit {
    /// Whether both are the same limit: what is spent of the one is spent of the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.ledger, &other.0.ledger)
    }
}

impl fmt::Debug for RateLimitRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(limits.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;

    fn builder(name: &str, rate: &str) -> LimitBuilder {
        Limit::builder(name, rate.parse().unwrap())
    }

    #[test]
    fn a_reload_that_failed_changes_nothing() {
        let limits = RateLimitRegistry::new();
        let in_use = limits.define(builder("a", "1/s")).unwrap();
        let of_bad_file = limits.define(builder("a", "2/s").shared()).unwrap();
        assert!(!in_use.is_same(&of_bad_file));
        drop(of_bad_file);
        assert!(in_use.is_same(&limits.define(builder("a", "1/s")).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_outlives_other_terms() {
        use crate::admission::{
            Plans,
            rate_limit::{Account, Algorithm, Quota},
        };
        use crate::gate::{AsyncGate, Check};
        use Algorithm::{LeakyBucket, SlidingWindow, TokenBucket};

        type Change = fn(LimitBuilder) -> LimitBuilder;
        let gold = || Plans::new().with("gold", Quota::new("500/d".parse().unwrap()));
        let leaky = |hours: u64| LeakyBucket { max_wait: Duration::from_secs(hours * 3600) };
        let few = NonZeroU32::new(7).unwrap();
        // The rate, the algorithms before and after, what is changed besides, and what is left of 100 of which 60 were spent.
        let changes: [(&str, [Algorithm; 2], Change, Option<u32>); 14] = [
            ("100/d", [TokenBucket; 2], |limit| limit.max_debt(9), Some(40)),
            ("100/d", [TokenBucket; 2], |limit| limit.max_keys(NonZeroU32::new(7).unwrap()), Some(40)),
            ("200/d", [TokenBucket; 2], |limit| limit.burst(NonZeroU32::new(100).unwrap()), Some(40)),
            ("10/d", [TokenBucket; 2], |limit| limit.burst(NonZeroU32::new(100).unwrap()), Some(40)),
            ("1000/d", [TokenBucket; 2], |limit| limit.burst(NonZeroU32::new(200).unwrap()), Some(140)),
            ("10/d", [TokenBucket; 2], |limit| limit, Some(0)),
            ("100/d", [SlidingWindow; 2], |limit| limit.max_keys(NonZeroU32::new(7).unwrap()), Some(40)),
            ("200/d", [SlidingWindow; 2], |limit| limit.max_debt(9), Some(140)),
            ("50/d", [Algorithm::CALENDAR; 2], |limit| limit, Some(0)),
            ("200/d", [Algorithm::CALENDAR; 2], |limit| limit, Some(140)),
            ("100/h", [Algorithm::CALENDAR; 2], |limit| limit, None),
            ("100/d", [TokenBucket, SlidingWindow], |limit| limit, None),
            ("100/d", [TokenBucket; 2], |limit| limit.by(crate::key::Key::Route), None),
            ("100/d", [leaky(24), leaky(12)], |limit| limit, Some(0)),
        ];
        for (rate, [before, after], change, left) in changes {
            let limits = RateLimitRegistry::new();
            let first = limits.define(builder("a", "100/d").algorithm(before)).unwrap();
            let mut account = Account::new().address([192, 0, 2, 1].into());
            let gate = crate::admission::rate_limit::RateLimit::new(first.clone().costing(60));
            assert!(matches!(AsyncGate::check(&gate, &mut account.head()), Check::Now(Ok(_))));
            let with_plans = limits.define(builder("a", "100/d").algorithm(before).plans(gold()));
            let said = (rate, before, after);
            if before == SlidingWindow || before == TokenBucket || before == Algorithm::CALENDAR {
                let plans = with_plans.unwrap();
                assert_eq!(plans.handle().peek(&mut account.head()).remaining, 40, "{said:?}");
            }
            let again = limits.define(change(builder("a", rate).algorithm(after))).unwrap();
            let remaining = again.handle().peek(&mut account.head()).remaining;
            match left {
                Some(left) => assert_eq!(remaining, left, "{said:?}"),
                None => assert_eq!(remaining, again.burst().get(), "{said:?}"),
            }
            assert_eq!(
                again.is_same(&first),
                left.is_some() && again.handle().capacity() != few.get() as usize
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_are_copied_when_they_are_used() {
        use crate::admission::rate_limit::{Account, RateLimit};
        use crate::gate::{AsyncGate, Check};

        let limits = RateLimitRegistry::new();
        let define =
            |most| limits.define(builder("a", "100/d").max_keys(NonZeroU32::new(most).unwrap())).unwrap();
        let mut account = Account::new().address([192, 0, 2, 1].into());
        let mut spend = |limit: &Limit, units: u32| {
            let gate = RateLimit::new(limit.clone().costing(units));
            assert!(matches!(AsyncGate::check(&gate, &mut account.head()), Check::Now(Ok(_))));
            limit.handle().peek(&mut account.head()).remaining
        };
        let first = define(10);
        assert_eq!(spend(&first, 10), 90);
        let more = define(20);
        assert_eq!(more.handle().capacity(), 20);
        assert_eq!(spend(&first, 20), 70, "the first is in force until the other is used");
        assert_eq!(spend(&more, 30), 40);
        let back = define(10);
        assert!(!back.is_same(&first), "which knows nothing of the other's");
        assert_eq!(spend(&back, 5), 35);
        assert!(back.is_same(&define(10)));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let limits = RateLimitRegistry::new();
        let kept = limits.define(builder("kept", "1/s")).unwrap();
        for name in 0..1000 {
            limits.define(builder(&name.to_string(), "1/s")).unwrap();
        }
        assert!(limits.0.lock().unwrap().len() < 100);
        assert!(kept.is_same(&limits.define(builder("kept", "1/s")).unwrap()));
    }

    #[test]
    fn a_bad_definition_is_told() {
        let limits = RateLimitRegistry::new();
        assert!(limits.define(builder("", "1/s")).is_err());
        assert_eq!(format!("{limits:?}"), "{}");
    }
}
