use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Facts, InvalidPolicies, Policy, Tally, facts::Needs, policy::Action, set::Set};
use crate::{head::Head, matching::PathPolicy, reject::Rejection};

/// Custom policies, compiled: they say about which requests an authorizer is asked.
///
/// ```
/// use portcullis::admission::authz::{Guard, Operation, Policy, Rule, Tally};
/// use portcullis::{head::Head, matching::PathPolicy};
///
/// let transfers = Rule::new().name("all").to(Operation::new().paths(["/transfers/{**}"])?);
/// let guard = Guard::new([Policy::custom("risk").rule(transfers)], &Tally::new())?;
///
/// let mut request = http::Request::get("/transfers/7").body(())?;
/// let matched = guard.matching(&Head::of(&mut request), PathPolicy::strict()).unwrap().unwrap();
/// assert_eq!(&**matched.rule(), "risk/all");
/// matched.decided(false); // once the authorizer has said so
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guard {
    tally: Tally,
    set: Set,
    needs: Needs,
}

/// A custom rule that means a request.
#[derive(Clone, Debug)]
pub struct Matched {
    rule: Arc<str>,
    verdicts: Option<Arc<Verdicts>>,
}

/// What came of the questions by one rule.
#[derive(Debug)]
pub(super) struct Verdicts {
    pub(super) allowed: Arc<AtomicU64>,
    pub(super) denied: Arc<AtomicU64>,
}

impl Matched {
    /// What is asked about everything, and is counted nowhere.
    pub(in crate::admission) fn always(name: Arc<str>) -> Self {
        Self { rule: name, verdicts: None }
    }

    /// The rule, as `policy/rule`.
    #[must_use]
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Counts what was decided by it, beside that it was asked.
    pub fn decided(&self, passes: bool) {
        if let Some(verdicts) = &self.verdicts {
            let count = if passes { &verdicts.allowed } else { &verdicts.denied };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Guard {
    /// Compiles these policies, and counts what their rules mean.
    ///
    /// # Errors
    ///
    /// If one of them is not [custom](Policy::custom), names are not unique, or there are too many rules.
    pub fn new(policies: impl IntoIterator<Item = Policy>, tally: &Tally) -> Result<Self, InvalidPolicies> {
        let policies: Vec<Policy> = policies.into_iter().collect();
        let mut names = HashSet::new();
        for policy in &policies {
            if policy.action != Action::Custom {
                return Err(InvalidPolicies::Misplaced(policy.name.clone()));
            }
            if !names.insert(&policy.name) {
                return Err(InvalidPolicies::Duplicate(policy.name.clone()));
            }
        }
        let in_shadow = policies.iter().any(|policy| policy.shadow);
        let set = Set::new(policies.iter(), tally, in_shadow)?;
        let needs = Needs::of(&set);
        Ok(Self { tally: tally.clone(), set, needs })
    }

    /// How often each rule has meant a request.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The rule that means this request, and one more in its number.
    ///
    /// # Errors
    ///
    /// [`BadRequest`](crate::reject::Reason::BadRequest) if rules ask for the host or the path, and there is no single
    /// valid one.
    pub fn matching(&self, head: &Head<'_>, paths: PathPolicy) -> Result<Option<Matched>, Rejection> {
        let facts = Facts::read(head, Needs { paths, ..self.needs })?;
        let rule = self.set.first(&facts);
        Ok(rule.map(|rule| {
            rule.count();
            Matched { rule: rule.label.clone(), verdicts: rule.verdicts.clone() }
        }))
    }
}
