use std::{mem, pin::Pin, sync::Arc};

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::{
    Fallback,
    ask::{Answer as Heard, Ask, IN_SHADOW, PENALTY, Said, ask},
    held::{Known, Place},
    shared::Shared,
};
use crate::{
    admission::rate_limit::{
        Charge, Fields, Notice, Quota, RateLimit,
        charge::{self, Bill, Patience},
        judge::Verdict,
        policy::{self, Line, Told},
    },
    gate::{AsyncGate, AsyncGateLayer, Check},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

/// A gate that lets a request pass if all its limits do, some of which are kept on Redis. See the [module docs](crate::admission::rate_limit).
#[derive(Debug, Clone)]
#[must_use]
pub struct DistributedRateLimit {
    local: Arc<RateLimit>,
    shared: Arc<[(Charge, Arc<Shared>)]>,
    policies: HeaderValue,
    /// Whether a cost on Redis was to be settled, which nobody does.
    settles: bool,
}

/// How a request stands with one limit on Redis.
#[derive(Debug)]
struct Stand {
    bill: Bill,
    /// That of the account's plan, if it has one.
    plan: Option<Quota>,
    by: By,
}

#[derive(Debug)]
enum By {
    /// Nobody need be asked: it was paid from a lease, or it costs nothing.
    Lease,
    /// It is known to be refused.
    Denied(u64),
    /// It is to be asked, or it was.
    Redis(Ask, Option<Heard>),
    /// It is not asked, since another refuses.
    Unasked(Ask),
}

/// What became of the request so far. Whoever drops it gives back what was paid.
#[derive(Debug)]
pub struct Case {
    stands: Vec<Stand>,
    /// What was paid on the limits of this process.
    paid: Vec<Bill>,
    notice: Notice,
    /// Who gives it back, until it is concluded.
    open: Option<DistributedRateLimit>,
}

impl Drop for Case {
    fn drop(&mut self) {
        if let Some(limits) = self.open.take() {
            limits.undo(&self.stands, &self.paid);
        }
    }
}

impl RateLimit {
    /// A gate that asks Redis where limits are [kept there](super::super::LimitBuilder::distributed). Without such limits it
    /// never waits. A charge there cannot be [settled](Charge::settle): the gate then refuses everything, with 500.
    pub fn distributed(self) -> DistributedRateLimit {
        let policies =
            policy::policies(self.charges.iter().filter(|c| !c.in_shadow).map(|c| &c.limit.0.policy));
        let is_shared = |charge: &Charge| Some((charge.clone(), charge.limit.0.shared.clone()?));
        let shared = self.charges.iter().filter_map(is_shared).collect();
        let settles = self.charges.iter().any(|c| c.settle.is_some() && c.limit.0.shared.is_some());
        let (fields, legacy) = (self.fields, self.legacy);
        let local = self.charges.into_iter().filter(|charge| charge.limit.0.shared.is_none());
        let local = Arc::new(local.collect::<Self>().fields(fields).legacy_fields(legacy));
        DistributedRateLimit { local, shared, policies, settles }
    }

    /// Whether a limit is kept on Redis.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.is_distributed
    }
}

impl DistributedRateLimit {
    /// The layer. Its clones, and all services that they make, share the limits.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
    }

    /// What is known here of each limit on Redis. It stops at the first that refuses.
    fn stands(&self, head: &mut Head<'_>) -> Vec<Stand> {
        let mut stands = Vec::with_capacity(self.shared.len());
        for (charge, shared) in &*self.shared {
            let bill = charge.bill(head);
            let plan = bill.judge.and_then(|_| charge.limit.0.plan(head));
            let by = stand(charge, shared, (&bill, plan), head);
            let ends = matches!(by, By::Denied(_)) && !charge.in_shadow;
            stands.push(Stand { bill, plan, by });
            if ends {
                break;
            }
        }
        stands
    }

    fn each<'a>(
        &'a self,
        stands: &'a [Stand],
    ) -> impl Iterator<Item = (&'a Charge, &'a Arc<Shared>, &'a Stand)> {
        self.shared.iter().zip(stands).map(|((charge, shared), stand)| (charge, shared, stand))
    }

    /// Gives back what was paid, on Redis, of leases and here, but for what is spent on denial.
    fn undo(&self, stands: &[Stand], paid: &[Bill]) {
        let mut asks = Vec::new();
        for (charge, shared, stand) in self.each(stands) {
            let spends = charge.spends_on_denial;
            match &stand.by {
                By::Lease if !spends => shared.unpay(stand.bill.key, stand.bill.cost),
                By::Redis(asked, Some(Ok(Said { passes: true, verdict: Verdict::Spend(_), window, .. })))
                    if !spends =>
                {
                    asks.push(Ask { cost: -asked.cost, ahead: *window, ..asked.clone() });
                }
                By::Redis(asked, None) | By::Unasked(asked) => {
                    shared.gave_up(stand.bill.key);
                    if spends && !asked.is_in_vain() {
                        asks.push(Ask { ahead: 0, ..asked.clone() });
                    }
                }
                By::Lease | By::Redis(..) | By::Denied(_) => {}
            }
        }
        // Each for itself: a penalty is nothing to the others.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for one in asks {
                runtime.spawn(async move { ask(&[one]).await });
            }
        }
        for (charge, bill) in self.local.charges.iter().zip(paid) {
            if matches!(bill.verdict, Verdict::Spend(_)) && !charge.spends_on_denial {
                charge.correct(bill, Some(0));
            }
        }
    }

    /// Decides when all is known that will be.
    fn conclude(&self, mut case: Case) -> Result<Notice, Answer> {
        case.open = None;
        let (mut stands, paid) = (mem::take(&mut case.stands), mem::take(&mut case.paid));
        let mut judged: Vec<Verdict> = Vec::with_capacity(stands.len());
        let mut alone = Vec::new();
        let mut is_denied = false;
        for (at, (charge, shared, stand)) in self.each(&stands).enumerate() {
            judged.push(match &stand.by {
                By::Lease | By::Unasked(_) => Verdict::Spend(0),
                By::Denied(nanos) => Verdict::Wait(*nanos),
                By::Redis(_, Some(Ok(said))) => said.verdict,
                By::Redis(..) => {
                    shared.gave_up(stand.bill.key);
                    shared.counts.fallback.add_one();
                    match shared.fallback() {
                        Fallback::Deny => is_denied |= !charge.in_shadow,
                        Fallback::LocalShare => alone.push(at),
                        Fallback::Allow => {}
                    }
                    Verdict::Spend(0)
                }
            });
        }
        let is_refused = |(at, verdict): (usize, &Verdict)| {
            !matches!(verdict, Verdict::Spend(_)) && !self.shared[at].0.in_shadow
        };
        let passes = !is_denied && !judged.iter().enumerate().any(is_refused);
        let passes = passes && self.pay_alone(&alone, &mut stands, &mut judged);
        for ((charge, _, stand), verdict) in self.each(&stands).zip(&judged) {
            charge.count(&Bill { verdict: *verdict, ..stand.bill }, passes);
        }
        if passes {
            return Ok(mem::take(&mut case.notice).also(self.told(&stands, &judged, &paid)));
        }
        self.undo(&stands, &paid);
        if is_denied {
            return Err(unasked().into());
        }
        Err(self.refuse(&stands, &judged).into())
    }

    /// Pays the share of this instance, of all these limits or of none.
    fn pay_alone(&self, alone: &[usize], stands: &mut [Stand], judged: &mut [Verdict]) -> bool {
        if alone.is_empty() {
            return true;
        }
        let charges: Vec<_> = alone.iter().map(|&at| self.shared[at].0.clone()).collect();
        let share = |&at: &usize| {
            let (charge, shared) = &self.shared[at];
            let limit = &*charge.limit.0;
            let quota = shared.share(stands[at].plan.unwrap_or(limit.terms.quota));
            let judge = limit.judge.with(quota, limit.terms.max_debt).or(stands[at].bill.judge);
            Bill { judge, ..stands[at].bill }
        };
        let mut bills: Vec<_> = alone.iter().map(share).collect();
        let paid = charge::pay(&charges, &mut bills, Patience::None);
        for (&at, bill) in alone.iter().zip(bills) {
            judged[at] = bill.verdict;
            stands[at].bill = bill;
        }
        paid
    }

    /// Where the accounts on Redis stand, as far as that is known.
    fn lines<'a>(&'a self, stands: &'a [Stand], judged: &'a [Verdict]) -> Vec<Told<'a>> {
        let told = self.each(stands).zip(judged).filter(|((charge, ..), _)| !charge.in_shadow);
        told.filter_map(|((charge, _, stand), &verdict)| {
            let policy = &charge.limit.0.policy;
            let line = match &stand.by {
                By::Lease | By::Unasked(_) => return None,
                By::Denied(nanos) => Line { policy, remaining: 0, more: *nanos, whole: *nanos },
                By::Redis(_, Some(Ok(said))) => {
                    Line { policy, remaining: said.remaining.into(), more: said.more, whole: said.whole }
                }
                By::Redis(..) => charge.line(&stand.bill),
            };
            Some(Told { name: charge.limit.name(), verdict, line })
        })
        .collect()
    }

    /// What the response tells of all limits of which something is known, if it is to tell.
    fn told(&self, stands: &[Stand], judged: &[Verdict], paid: &[Bill]) -> Option<HeaderMap> {
        if self.local.fields != Fields::Always {
            return None;
        }
        let there = self.lines(stands, judged);
        let here = self.local.charges.iter().zip(paid).filter(|(charge, _)| !charge.in_shadow);
        let here = here.map(|(charge, bill)| charge.line(bill));
        let lines: Vec<_> = there.iter().map(|told| told.line).chain(here).collect();
        if lines.is_empty() {
            return None;
        }
        let mut headers = HeaderMap::new();
        policy::tell(&mut headers, &self.policies, lines.iter().copied(), self.local.legacy);
        Some(headers)
    }

    #[cold]
    fn refuse(&self, stands: &[Stand], judged: &[Verdict]) -> Rejection {
        let lines = self.lines(stands, judged);
        policy::refusal(&lines, &self.policies, self.local.fields, self.local.legacy)
    }
}

/// After which time it may be tried again where nobody can say.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

#[cold]
fn unsettled() -> Rejection {
    tracing::error!("a cost on Redis cannot be settled: everything is refused");
    Rejection::new(Reason::Internal).detail("a cost on Redis cannot be settled")
}

fn unasked() -> Rejection {
    Rejection::new(Reason::LimitUnavailable).detail("limits cannot be asked").retry_after(RETRY)
}

/// What is known here, or what is to be asked.
fn stand(
    charge: &Charge,
    shared: &Arc<Shared>,
    (bill, plan): (&Bill, Option<Quota>),
    head: &mut Head<'_>,
) -> By {
    if bill.cost == 0 {
        return By::Lease;
    }
    let flags =
        if charge.in_shadow { IN_SHADOW } else { 0 } | if charge.spends_on_denial { PENALTY } else { 0 };
    match shared.pay((bill.key, bill.cost), plan, head.now()) {
        Known::Paid { soon } => {
            if let Some(ahead) = soon {
                shared.take_more(bill.key, shared.place(head, plan), ahead);
            }
            shared.counts.lease.add_one();
            By::Lease
        }
        Known::Denied(time) if flags == 0 => {
            shared.counts.denied.add_one();
            By::Denied(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1))
        }
        Known::Denied(_) => redis(shared, shared.place(head, plan), bill, flags, 0),
        Known::Unknown { ahead } => redis(shared, shared.place(head, plan), bill, flags, ahead),
    }
}

fn redis(shared: &Arc<Shared>, place: Arc<Place>, bill: &Bill, flags: u8, ahead: u32) -> By {
    let ask = Ask { shared: Arc::clone(shared), place, cost: bill.cost.into(), ahead: ahead.into(), flags };
    By::Redis(ask, None)
}

/// Asks what is to be asked, and keeps what is heard.
async fn hear(mut case: Case) -> Case {
    let at = Instant::now();
    let asks: Vec<_> = case.stands.iter().filter_map(Stand::asks).cloned().collect();
    let mut heard = ask(&asks).await.into_iter();
    let waited = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
    for stand in &mut case.stands {
        let Stand { bill, by: By::Redis(asked, answer), .. } = stand else { continue };
        let Some(next) = heard.next() else { break };
        asked.shared.counts.asked(waited, next.is_ok());
        asked.shared.hear(bill.key, bill.cost, asked, &next, at);
        *answer = Some(next);
    }
    case
}

impl Stand {
    fn asks(&self) -> Option<&Ask> {
        match &self.by {
            By::Redis(ask, _) => Some(ask),
            By::Lease | By::Denied(_) | By::Unasked(_) => None,
        }
    }
}

impl AsyncGate for DistributedRateLimit {
    type Pass = Notice;
    type Wait = Pin<Box<dyn Future<Output = Option<Case>> + Send>>;
    /// `None` if the task that asked was lost.
    type Told = Option<Case>;

    fn check(&self, head: &mut Head<'_>) -> Check<Notice, Self::Wait> {
        if self.settles {
            return Err(unsettled().into()).into();
        }
        let mut stands = self.stands(head);
        let is_denied = self
            .each(&stands)
            .any(|(charge, _, stand)| matches!(stand.by, By::Denied(_)) && !charge.in_shadow);
        if is_denied {
            for stand in &mut stands {
                if let By::Redis(ask, _) = &stand.by {
                    stand.by = By::Unasked(ask.clone());
                }
            }
            let case = Case { stands, paid: Vec::new(), notice: Notice::default(), open: None };
            return self.conclude(case).into();
        }
        // Those of this process first: whom they refuse nobody is asked about.
        let (notice, paid) =
            match self.local.decide(head, Patience::None, |l, bills| (l.notice(bills), bills.to_vec())) {
                Ok(passed) => passed,
                Err(answer) => {
                    self.undo(&stands, &[]);
                    return Err(answer).into();
                }
            };
        let mut case = Case { stands, paid, notice, open: None };
        let mut asks = case.stands.iter().filter_map(Stand::asks).peekable();
        if asks.peek().is_none() {
            return self.conclude(case).into();
        }
        if asks.all(Ask::is_in_vain) {
            // Nobody waits for a server that does not answer. That it does again, is found out beside.
            let asks = case.stands.iter().filter_map(Stand::asks);
            let asks: Vec<_> = asks.map(|ask| Ask { ahead: 0, ..ask.clone() }).collect();
            if asks.iter().any(|ask| ask.shared.redis().is_tried()) {
                tokio::spawn(async move { ask(&asks).await });
            }
            return self.conclude(case).into();
        }
        case.open = Some(self.clone());
        // A question that was asked is concluded, also if the caller goes away: nothing is spent on those.
        let heard = tokio::spawn(hear(case));
        Check::Wait(Box::pin(async { heard.await.ok() }))
    }

    fn resume(&self, _: &mut Head<'_>, told: Option<Case>) -> Check<Notice, Self::Wait> {
        told.map_or_else(|| Err(unasked().into()), |case| self.conclude(case)).into()
    }
}
