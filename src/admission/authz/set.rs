use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

#[cfg(feature = "stack")]
use http::HeaderName;
use http::HeaderValue;

use super::{
    Facts, Policy, Rule, Tally, attribute::Attribute, condition::Condition, guard::Verdicts, index::Index,
    policy::Action,
};

/// What has to hold together for a rule to match: one of its sources with one of its operations.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) conditions: Box<[Condition]>,
    doubt: bool,
    /// Which rule it is of.
    rule: u32,
}

/// Rules, compiled: what they mean is found without asking those that cannot match.
#[derive(Debug)]
pub(super) struct Set {
    clauses: Box<[Clause]>,
    index: Index,
    rules: Box<[Named]>,
}

/// A rule, as it is told of.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) policy: Arc<str>,
    pub(super) rule: Arc<str>,
    /// Both, as `policy/rule`.
    pub(super) label: Arc<str>,
    /// What a caller is told: `deny policy/rule`.
    pub(super) told: Option<HeaderValue>,
    pub(super) action: Action,
    count: Arc<AtomicU64>,
    /// Of a custom one.
    pub(super) verdicts: Option<Arc<Verdicts>>,
}

/// Why policies cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicies {
    /// Two have the same name: nobody could tell whose decision it was.
    #[error("two policies are called {0:?}")]
    Duplicate(Arc<str>),
    /// Two rules of a policy have the same name.
    #[error("two rules of the policy {0:?} are called {1:?}")]
    DuplicateRule(Arc<str>, Arc<str>),
    /// It has another action than those that are asked here.
    #[error("the policy {0:?} is not of this place: custom ones are an authorizer's, the others are not")]
    Misplaced(Arc<str>),
    /// The sources and operations of all rules make more pairs than this.
    #[error("the rules have more than {0} pairs of a source and an operation")]
    TooMany(usize),
}

/// How many pairs of a source and an operation there may be in all.
const MOST: usize = 100_000;

impl Set {
    /// Compiles rules. Of those that match the first is named, in the order: custom, deny, allow; then as given.
    pub(super) fn new<'p>(
        policies: impl Iterator<Item = &'p Policy>,
        tally: &Tally,
        in_shadow: bool,
    ) -> Result<Self, InvalidPolicies> {
        let mut policies: Vec<&Policy> = policies.collect();
        policies.sort_by_key(|policy| policy.action as u8);
        let rules = || {
            policies
                .iter()
                .flat_map(|policy| policy.rules.iter().enumerate().map(move |rule| (*policy, rule)))
        };
        let size = rules().fold(0_usize, |size, (_, (_, rule))| size.saturating_add(rule.size()));
        if size > MOST {
            return Err(InvalidPolicies::TooMany(MOST));
        }
        let mut named = Vec::<Named>::new();
        let mut clauses = Vec::with_capacity(size);
        for (at, (policy, (place, rule))) in (0..).zip(rules()) {
            let name = rule.name.clone().unwrap_or_else(|| place.to_string().into());
            let counter = |action| tally.counter(&policy.name, &name, action, in_shadow);
            let count = counter(policy.action);
            let verdicts = (policy.action == Action::Custom).then(|| {
                Arc::new(Verdicts { allowed: counter(Action::Allow), denied: counter(Action::Deny) })
            });
            if named.iter().rev().take_while(|own| own.policy == policy.name).any(|own| own.rule == name) {
                return Err(InvalidPolicies::DuplicateRule(policy.name.clone(), name));
            }
            let label: Arc<str> = format!("{}/{name}", policy.name).into();
            let told = HeaderValue::try_from(format!("{} {label}", policy.action.label())).ok();
            named.push(Named {
                policy: policy.name.clone(),
                rule: name,
                label,
                told,
                action: policy.action,
                count,
                verdicts,
            });
            clauses.extend(Self::clauses(rule, policy.action, at));
        }
        let index = Index::new(&clauses);
        Ok(Self { clauses: clauses.into(), index, rules: named.into() })
    }

    fn clauses(rule: &Rule, action: Action, at: u32) -> impl Iterator<Item = Clause> {
        rule.conjunctions().map(move |conditions| Clause {
            conditions: conditions.into(),
            doubt: action.doubt(),
            rule: at,
        })
    }

    /// The first rule that matches.
    pub(super) fn first(&self, facts: &Facts<'_>) -> Option<&Named> {
        let mut first = self.clauses.len();
        let ask = |at: u32| {
            let at = at as usize;
            if at < first && self.clauses[at].holds(facts) {
                first = at;
            }
        };
        if facts.request().is_some() {
            self.index.candidates(facts, ask);
        } else {
            // What it lacks may match: every clause is asked, once a connection.
            (0..self.clauses.len() as u32).for_each(ask);
        }
        let clause = self.clauses.get(first)?;
        self.rules.get(clause.rule as usize)
    }

    /// The header fields that they read.
    #[cfg(feature = "stack")]
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        let conditions = self.clauses.iter().flat_map(|clause| &clause.conditions);
        conditions.filter_map(|condition| match &condition.attribute {
            Attribute::Header(name) => Some(name),
            _ => None,
        })
    }

    #[cfg(test)]
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Whether a rule asks for such an attribute.
    pub(super) fn asks(&self, is_such: impl Fn(&Attribute) -> bool) -> bool {
        self.clauses
            .iter()
            .flat_map(|clause| &clause.conditions)
            .any(|condition| is_such(&condition.attribute))
    }
}

impl Clause {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(facts, self.doubt))
    }
}

impl Named {
    pub(super) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}
