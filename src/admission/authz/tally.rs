use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::policy::Action;

/// How often each rule has decided. Clones share the numbers.
///
/// A rule that is compiled again goes on where it was, so that a reload looks like none.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Counters>>);

#[derive(Default)]
struct Counters {
    by_rule: BTreeMap<Key, Arc<AtomicU64>>,
    /// How many there may be before those of no compiled rule are forgotten.
    room: usize,
}

type Key = (Arc<str>, Arc<str>, &'static str, bool);

/// The number of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// The policy; `_none` where no rule matched.
    pub policy: Arc<str>,
    /// The rule; empty where none matched.
    pub rule: Arc<str>,
    /// What was decided: `allow` or `deny`. By a custom rule, `custom` counts beside it that an authorizer was asked.
    pub action: &'static str,
    /// Whether it was only looked at what would be decided.
    pub shadow: bool,
    /// How often.
    pub decisions: u64,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers of all rules, by policy and rule.
    #[must_use]
    pub fn read(&self) -> Vec<Count> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |((policy, rule, action, shadow), count): (&Key, &Arc<AtomicU64>)| Count {
            policy: policy.clone(),
            rule: rule.clone(),
            action,
            shadow: *shadow,
            decisions: count.load(Ordering::Relaxed),
        };
        counters.by_rule.iter().map(count).collect()
    }

    /// Whether both are the same numbers.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn counter(
        &self,
        policy: &Arc<str>,
        rule: &Arc<str>,
        action: Action,
        shadow: bool,
    ) -> Arc<AtomicU64> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.by_rule.len() > counters.room {
            counters.by_rule.retain(|_, count| Arc::strong_count(count) > 1);
            counters.room = LEAST_ROOM.max(counters.by_rule.len() * 2);
        }
        counters.by_rule.entry((policy.clone(), rule.clone(), action.label(), shadow)).or_default().clone()
    }
}

/// Rules that come and go with reloads are remembered up to this number.
const LEAST_ROOM: usize = 10_000;

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.read()).finish()
    }
}
