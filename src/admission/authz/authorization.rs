use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use http::{HeaderName, HeaderValue, response};

use super::{
    Facts, InvalidPolicies, Policy, Tally,
    facts::Needs,
    policy::Action,
    set::{Named, Set},
};
use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    identity::{PeerAddr, PeerIdentity},
    matching::PathPolicy,
    reject::{Answer, Reason, Rejection},
    trail::Trail,
};

/// Policies that deny and allow, compiled, as a gate. Clones share them.
///
/// See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct Authorization {
    enforced: Arc<Ruling>,
    /// The same with those in shadow, if there are any.
    trial: Option<Arc<Ruling>>,
    tally: Tally,
    paths: PathPolicy,
    told_in: Option<HeaderName>,
}

/// Policies that are asked together, and what becomes of requests that no rule means.
struct Ruling {
    set: Set,
    else_allowed: bool,
    unmatched: Arc<AtomicU64>,
    /// What they are told by: `_none`.
    nobody: Arc<str>,
    told: Option<HeaderValue>,
    needs: Needs,
}

/// What was decided, and by whom.
#[derive(Clone, Copy)]
pub struct Decision<'a> {
    ruling: &'a Ruling,
    by: Option<&'a Named>,
}

impl Authorization {
    /// Compiles these policies.
    ///
    /// # Errors
    ///
    /// If names are not unique, a policy is [custom](Action::Custom), or there are too many rules.
    pub fn new(policies: impl IntoIterator<Item = Policy>) -> Result<Self, InvalidPolicies> {
        Self::counted(policies, Tally::new())
    }

    /// As [`new`](Self::new), with numbers that are there already.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn counted(
        policies: impl IntoIterator<Item = Policy>,
        tally: Tally,
    ) -> Result<Self, InvalidPolicies> {
        let policies: Vec<Policy> = policies.into_iter().collect();
        let mut names = HashSet::new();
        for policy in &policies {
            if policy.action == Action::Custom {
                return Err(InvalidPolicies::Misplaced(policy.name.clone()));
            }
            if !names.insert(&policy.name) {
                return Err(InvalidPolicies::Duplicate(policy.name.clone()));
            }
        }
        let enforced = Arc::new(Ruling::new(policies.iter().filter(|policy| !policy.shadow), &tally, false)?);
        let trial = match policies.iter().any(|policy| policy.shadow) {
            true => Some(Arc::new(Ruling::new(policies.iter(), &tally, true)?)),
            false => None,
        };
        Ok(Self { enforced, trial, tally, paths: PathPolicy::strict(), told_in: None })
    }

    /// In which form paths are compared. [`strict`](PathPolicy::strict) unless told: what several servers would read in
    /// several ways is answered with 400.
    pub fn paths(self, paths: PathPolicy) -> Self {
        Self { paths, ..self }
    }

    /// Tells every caller who decided, in this header of the answer: `deny no-outsiders/admin`. Nobody unless told.
    pub fn told_in(self, header: HeaderName) -> Self {
        Self { told_in: Some(header), ..self }
    }

    /// How often each rule has decided.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The header fields that they read.
    #[cfg(feature = "stack")]
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.enforced.set.headers()
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// What the policies in force decide. It is counted nowhere.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Decision<'_> {
        self.enforced.decide(facts)
    }

    /// What would be decided if the policies in shadow were in force, too; `None` if there are none.
    #[must_use]
    pub fn try_out(&self, facts: &Facts<'_>) -> Option<Decision<'_>> {
        self.trial.as_ref().map(|trial| trial.decide(facts))
    }

    /// Decides over a connection that carries something else than HTTP, and counts it: what a proxy of TCP asks before it
    /// connects to anybody. What rules ask of requests counts [against the caller](Facts::of_connection).
    ///
    /// ```
    /// use portcullis::admission::authz::{Authorization, Policy, Rule, Source};
    /// use portcullis::identity::{PeerAddr, PeerIdentity};
    ///
    /// let shop = Source::new().service_accounts(["shop/*"])?;
    /// let policies = Authorization::new([Policy::allow("shop").rule(Rule::new().from(shop))])?;
    ///
    /// let address = PeerAddr::new("10.1.2.3:41000".parse()?);
    /// let orders = PeerIdentity::new([7; 32]).with_spiffe_id("spiffe://shop.example/ns/shop/sa/orders");
    /// assert!(policies.check_connection(address, Some(&orders)).is_ok());
    /// assert!(policies.check_connection(address, None).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Forbidden`](Reason::Forbidden), with who decided in its detail, if it is not let in.
    pub fn check_connection(&self, address: PeerAddr, peer: Option<&PeerIdentity>) -> Result<(), Rejection> {
        let decision = self.ruled(&Facts::of_connection(Some(address), peer));
        if decision.is_allowed() { Ok(()) } else { Err(decision.refusal()) }
    }

    /// What is decided, counted; and told of if policies in shadow would decide otherwise.
    fn ruled(&self, facts: &Facts<'_>) -> Decision<'_> {
        let decision = self.decide(facts);
        decision.count();
        if let Some(trial) = self.try_out(facts) {
            trial.count();
            if trial.is_allowed() != decision.is_allowed() {
                tracing::info!(target: "portcullis::shadow", gate = "authorization", decision = %trial, "would have decided otherwise");
            }
        }
        decision
    }

    fn facts<'h>(&self, head: &'h Head<'_>) -> Result<Facts<'h>, Rejection> {
        // What is in force is in the trial, too.
        let of = self.trial.as_ref().unwrap_or(&self.enforced);
        Facts::read(head, Needs { paths: self.paths, ..of.needs })
    }

    fn told(&self, decision: Decision<'_>) -> Option<Told> {
        let name = self.told_in.clone()?;
        let value = decision.by.map_or(&decision.ruling.told, |by| &by.told);
        Some(Told { name, value: value.clone()? })
    }
}

impl Ruling {
    fn new<'p>(
        policies: impl Iterator<Item = &'p Policy> + Clone,
        tally: &Tally,
        in_shadow: bool,
    ) -> Result<Self, InvalidPolicies> {
        let else_allowed = policies.clone().all(|policy| policy.action != Action::Allow);
        let set = Set::new(policies, tally, in_shadow)?;
        let action = if else_allowed { Action::Allow } else { Action::Deny };
        let nobody: Arc<str> = "_none".into();
        let unmatched = tally.counter(&nobody, &"".into(), action, in_shadow);
        let needs = Needs::of(&set);
        let told = HeaderValue::try_from(format!("{} {nobody}", action.label())).ok();
        Ok(Self { set, else_allowed, unmatched, nobody, told, needs })
    }

    fn decide(&self, facts: &Facts<'_>) -> Decision<'_> {
        Decision { ruling: self, by: self.set.first(facts) }
    }
}

impl Decision<'_> {
    /// Whether the request passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.by.map_or(self.ruling.else_allowed, |by| by.action == Action::Allow)
    }

    /// The policy that decided; `None` if no rule means the request. It passes then if no policy allows anything.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.by.map(|by| &*by.policy)
    }

    /// The rule of the policy.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.by.map(|by| &*by.rule)
    }

    fn label(&self) -> &Arc<str> {
        self.by.map_or(&self.ruling.nobody, |by| &by.label)
    }

    fn count(&self) {
        match self.by {
            Some(by) => by.count(),
            None => _ = self.ruling.unmatched.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Why a caller is refused.
    fn refusal(&self) -> Rejection {
        Rejection::new(Reason::Forbidden).detail(match self.by {
            Some(by) => format!("denied by the rule `{}` of the policy `{}`", by.rule, by.policy),
            None => "no policy allows it".to_owned(),
        })
    }
}

/// `deny no-outsiders/admin`, `allow _none`.
impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = if self.is_allowed() { Action::Allow } else { Action::Deny };
        write!(f, "{} {}", action.label(), self.label())
    }
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decision({self})")
    }
}

impl Gate for Authorization {
    type Pass = Option<Told>;
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<Option<Told>, Answer> {
        let facts = self.facts(head)?;
        let decision = self.ruled(&facts);
        if let Some(trail) = head.extensions().get::<Trail>() {
            trail.set_decision(Arc::clone(decision.label()));
        }
        let told = self.told(decision);
        if decision.is_allowed() {
            return Ok(told);
        }
        let refusal = told
            .into_iter()
            .fold(decision.refusal(), |refusal, Told { name, value }| refusal.header(name, value));
        Err(refusal.into())
    }
}

/// Waits for the response that is to say who decided.
#[derive(Debug)]
pub struct Told {
    name: HeaderName,
    value: HeaderValue,
}

impl Pass for Told {
    fn on_head(&mut self, head: &mut response::Parts) {
        head.headers.insert(self.name.clone(), self.value.clone());
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("enforced", &self.enforced.set)
            .field("in_shadow", &self.trial.is_some())
            .field("told_in", &self.told_in)
            .finish_non_exhaustive()
    }
}
