use std::{mem, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};

use super::{
    Fallback, Open,
    ask::{Ask, STANDING, ask, inquire},
    case::{Case, hear, turn},
    shared::Shared,
    stand::{By, Stand, stand, unasked},
};
use crate::{
    admission::{
        Fields,
        rate_limit::{
            Charge, Notice, RateLimit,
            charge::{self, Bill, Patience},
            gate::FEW,
            judge::Verdict,
            policy::{self, Line, Told},
            rate::nanos,
            turns::{Turns, is_paid},
        },
        waited::{wait, waited},
    },
    gate::{AsyncGate, Check},
    head::Head,
    reject::{Reason, Rejection},
};

/// A gate that lets a request pass if all its limits do, some of which are kept on Redis. See the [module
/// docs](crate::admission::rate_limit).
#[derive(Debug, Clone)]
pub(in crate::admission::rate_limit) struct DistributedRateLimit {
    local: Arc<RateLimit>,
    shared: Arc<[(Charge, Arc<Shared>)]>,
    policies: HeaderValue,
    /// Whether nothing is left to be done for who passes by what was taken ahead.
    is_quiet: bool,
}

/// Why a request that has paid does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// What is spent on denial stays so.
    Denied,
    /// That is no denial: all is given back.
    GivenUp,
}

impl RateLimit {
    /// A gate that asks Redis where limits are [kept there](super::super::LimitBuilder::distributed). Without such limits it
    /// never waits.
    pub(in crate::admission::rate_limit) fn distributed(self) -> DistributedRateLimit {
        let policies =
            policy::policies(self.charges.iter().filter(|c| !c.in_shadow).map(|c| &c.limit.0.policy));
        let is_shared = |charge: &Charge| Some((charge.clone(), charge.limit.0.shared.clone()?));
        let shared: Arc<[_]> = self.charges.iter().filter_map(is_shared).collect();
        let (fields, legacy) = (self.fields, self.legacy);
        let local = self.charges.into_iter().filter(|charge| charge.limit.0.shared.is_none());
        let local = Arc::new(local.collect::<Self>().fields(fields).legacy_fields(legacy));
        let settles = shared.iter().any(|(charge, _)| charge.settle.is_some());
        let is_quiet = local.charges.is_empty() && fields != Fields::Always && !settles;
        DistributedRateLimit { local, shared, policies, is_quiet }
    }

    /// Whether a limit is kept on Redis.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.is_distributed
    }
}

impl DistributedRateLimit {
    /// What is known here of each limit on Redis. It stops at the first that refuses. Whether all is paid by what was taken
    /// ahead.
    fn look(&self, head: &mut Head<'_>, stands: &mut [Option<Stand>]) -> bool {
        let told = if self.local.fields == Fields::Always { STANDING } else { 0 };
        let mut is_paid = true;
        for ((charge, shared), place) in self.shared.iter().zip(stands) {
            let bill = charge.bill(head);
            let plan = bill.judge.and_then(|_| charge.limit.0.plan(head));
            let by = stand(charge, shared, (&bill, plan, told), head);
            let ends = matches!(by, By::Denied(_)) && !charge.in_shadow;
            is_paid &= matches!(by, By::Lease(_) | By::Nobody);
            *place = Some(Stand { bill, plan, by });
            if ends {
                break;
            }
        }
        is_paid
    }

    /// All that is left to do where it [is quiet](Self::is_quiet).
    fn pass(&self, stands: &[Option<Stand>]) -> Notice {
        for ((charge, _), stand) in self.shared.iter().zip(stands.iter().flatten()) {
            charge.count(&Bill { verdict: Verdict::Spend(0), ..stand.bill }, true);
        }
        Notice::default()
    }

    fn each<'a>(
        &'a self,
        stands: &'a [Stand],
    ) -> impl Iterator<Item = (&'a Charge, &'a Arc<Shared>, &'a Stand)> {
        self.shared.iter().zip(stands).map(|((charge, shared), stand)| (charge, shared, stand))
    }

    /// Gives back what was paid, on Redis, of leases and here, but for what is waited for.
    pub(super) fn undo(&self, stands: &[Stand], (paid, alone): (&[Bill], &[usize]), why: Undone) {
        let is_spent = |charge: &Charge| why == Undone::Denied && charge.spends_on_denial;
        for (charge, shared, stand) in self.each(stands) {
            let spends = is_spent(charge);
            match &stand.by {
                By::Lease(rest) if !spends => shared.unpay(stand.bill.key, rest.clone()),
                By::Redis(asked, Some(answer)) => {
                    let rest = asked.charged(answer).filter(|_| !spends);
                    rest.into_iter().for_each(|rest| shared.give_back(vec![rest]));
                }
                // What is on its way gives itself back.
                By::Redis(_, None) => shared.gave_up(stand.bill.key),
                By::Unasked(asked) => {
                    shared.gave_up(stand.bill.key);
                    if spends && !asked.is_in_vain() {
                        // Each for itself: a penalty is nothing to the others.
                        let penalty = Ask { ahead: 0, ..asked.clone() };
                        shared.beside(async move { drop(ask(&penalty).await) });
                    }
                }
                By::Nobody | By::Lease(_) | By::Denied(_) => {}
            }
        }
        let here = self.local.charges.iter().zip(paid).filter(|(_, bill)| bill.place.is_none());
        let alone = alone.iter().map(|&at| (&self.shared[at].0, &stands[at].bill));
        for (charge, bill) in here.chain(alone) {
            if is_paid(bill) && !is_spent(charge) {
                charge.give_back(bill, None);
            }
        }
    }

    /// Decides when all is known that will be. Who passes waits for its turn then, if it has to.
    fn conclude(&self, mut case: Case) -> Check<Notice, <Self as AsyncGate>::Wait> {
        case.open = None;
        let (mut stands, paid) = (mem::take(&mut case.stands), mem::take(&mut case.paid));
        let mut judged: Vec<Verdict> = Vec::with_capacity(stands.len());
        let mut alone = Vec::new();
        let mut is_denied = false;
        for (at, (charge, shared, stand)) in self.each(&stands).enumerate() {
            judged.push(match &stand.by {
                By::Nobody | By::Lease(_) | By::Unasked(_) => Verdict::Spend(0),
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
            let told = self.told(&stands, &judged, &paid);
            let notice = mem::take(&mut case.notice).also(told, self.settled_later(&stands));
            if case.turns.have_come() {
                case.turns.serve();
                return Ok(notice).into();
            }
            (case.stands, case.paid, case.notice) = (stands, paid, notice);
            (case.alone, case.open) = (Some(alone.into()), Some(self.clone()));
            return Check::Wait(Box::pin(turn(case)));
        }
        case.turns.refuse();
        self.undo(&stands, (&paid, &[]), Undone::Denied);
        let refusal = if is_denied { undecided() } else { self.refuse(&stands, &judged) };
        Err(refusal.into()).into()
    }

    /// What is to be settled of what was paid: here, where Redis did not decide and this instance was alone, and there.
    fn settled_later(&self, stands: &[Stand]) -> (Vec<(Charge, Bill)>, Vec<Open>) {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for (charge, shared, stand) in self.each(stands).filter(|(charge, ..)| charge.settle.is_some()) {
            let paid = match &stand.by {
                By::Lease(paid) => paid.clone(),
                By::Redis(asked, Some(Ok(said))) if matches!(said.verdict, Verdict::Spend(_)) => {
                    asked.rest(said.window)
                }
                By::Redis(..) if charge.settles(&stand.bill) => {
                    here.push((charge.clone(), stand.bill));
                    continue;
                }
                _ => continue,
            };
            there.push(Open { charge: charge.clone(), shared: Arc::clone(shared), paid });
        }
        (here, there)
    }

    /// Pays the share of this instance, of all these limits or of none.
    fn pay_alone(&self, alone: &[usize], stands: &mut [Stand], judged: &mut [Verdict]) -> bool {
        if alone.is_empty() {
            return true;
        }
        let charges: Vec<_> = alone.iter().map(|&at| self.shared[at].0.clone()).collect();
        let share = |&at: &usize| {
            let (charge, shared) = &self.shared[at];
            let judge = shared.alone(&charge.limit.0.judge, stands[at].plan);
            Bill { judge: judge.or(stands[at].bill.judge), ..stands[at].bill }
        };
        let mut bills: Vec<_> = alone.iter().map(share).collect();
        let paid = charge::pay(&charges, &mut bills, Patience::None);
        for (&at, bill) in alone.iter().zip(bills) {
            let whole = stands[at].bill.judge.as_ref().unwrap_or(&self.shared[at].0.limit.0.judge);
            judged[at] = match bill.verdict {
                // What is too much for the share only, passes when Redis is back.
                Verdict::Never if whole.judge(0, bill.now, bill.cost) != Verdict::Never => {
                    Verdict::Wait(nanos(RETRY))
                }
                verdict => verdict,
            };
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
                By::Nobody | By::Lease(_) | By::Unasked(_) => return None,
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
const RETRY: Duration = Duration::from_secs(1);

fn undecided() -> Rejection {
    Rejection::new(Reason::LimitUnavailable).detail("limits cannot be asked").retry_after(RETRY)
}

impl AsyncGate for DistributedRateLimit {
    type Pass = Notice;
    type Wait = Pin<Box<dyn Future<Output = Case> + Send>>;
    type Told = Case;

    fn check(&self, head: &mut Head<'_>) -> Check<Notice, Self::Wait> {
        let (mut few, mut many) = ([const { None }; FEW], Vec::new());
        let stands = match self.shared.len() {
            count @ 0..=FEW => &mut few[..count],
            count => {
                many.resize_with(count, || None);
                &mut many[..]
            }
        };
        if self.look(head, stands) && self.is_quiet {
            return Ok(self.pass(stands)).into();
        }
        let stands = stands.iter_mut().map_while(Option::take).collect();
        self.judge(head, stands)
    }

    fn resume(&self, head: &mut Head<'_>, case: Case) -> Check<Notice, Self::Wait> {
        if case.alone.is_some() {
            return Ok(case.serve()).into();
        }
        wait(head, case.waited);
        self.conclude(case)
    }
}

impl DistributedRateLimit {
    /// Asks about what is not known, unless somebody refuses here.
    fn judge(&self, head: &mut Head<'_>, mut stands: Vec<Stand>) -> Check<Notice, <Self as AsyncGate>::Wait> {
        let is_denied = self
            .each(&stands)
            .any(|(charge, _, stand)| matches!(stand.by, By::Denied(_)) && !charge.in_shadow);
        if is_denied {
            unasked(&mut stands);
            let case = Case::new(stands, Vec::new(), Turns::default(), Notice::default());
            return self.conclude(case);
        }
        // Those of this process first: whom they refuse nobody is asked about.
        let local = |local: &RateLimit, bills: &[Bill]| {
            (local.notice(bills), bills.to_vec(), Turns::alone(&local.charges, bills))
        };
        let (notice, paid, turns) = match self.local.decide(head, Patience::Some, local) {
            Ok(passed) => passed,
            Err(answer) => {
                unasked(&mut stands);
                self.undo(&stands, (&[], &[]), Undone::Denied);
                return Err(answer).into();
            }
        };
        let mut case = Case::new(stands, paid, turns, notice);
        let asks: Vec<_> = case.stands.iter().filter_map(Stand::asks).cloned().collect();
        let inquiries = inquire(&asks, waited(head));
        if inquiries.is_empty() {
            return self.conclude(case);
        }
        case.open = Some(self.clone());
        Check::Wait(Box::pin(hear(case, inquiries)))
    }
}
