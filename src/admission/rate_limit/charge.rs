use std::sync::Arc;

use http::response;

use super::{
    Limit,
    judge::{Judge, Shift, Verdict},
    policy::Line,
    queue::Queues,
    store::Fingerprint,
};
use crate::{
    admission::{Cost, Settle, Skip, cost::Settlement},
    head::Head,
    outcome::Outcome,
};

/// A limit, what a request costs there, and which requests it counts.
#[derive(Debug, Clone)]
#[must_use]
pub struct Charge {
    pub(super) limit: Limit,
    cost: Cost,
    skips: Arc<[Skip]>,
    pub(super) settle: Option<Settle>,
    pub(super) in_shadow: bool,
    pub(super) spends_on_denial: bool,
}

/// A charge on one account, and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bill {
    pub(super) key: Fingerprint,
    pub(super) now: u64,
    /// What the account was, or what it is once the bill is paid.
    pub(super) state: u64,
    pub(super) cost: u32,
    pub(super) verdict: Verdict,
    /// Who judges, if the account has a quota of its own.
    pub(super) judge: Option<Judge>,
    /// Its number in the line of its account, if it has to wait there.
    pub(super) place: Option<u64>,
    pub(super) is_newcomers: bool,
}

impl From<Limit> for Charge {
    fn from(limit: Limit) -> Self {
        Self {
            limit,
            cost: Cost::ONE,
            skips: Arc::default(),
            settle: None,
            in_shadow: false,
            spends_on_denial: false,
        }
    }
}

impl Charge {
    /// What a request costs; one unless told.
    pub fn costing(self, cost: impl Into<Cost>) -> Self {
        Self { cost: cost.into(), ..self }
    }

    /// Does not count these requests, nor those named before.
    pub fn skip(mut self, skip: Skip) -> Self {
        self.skips = self.skips.iter().cloned().chain([skip]).collect();
        self
    }

    /// Charges in the end what a request cost then, in place of the [cost](Self::costing) that was charged when it came.
    /// Where the limit is kept on Redis it is told the difference, while nobody waits.
    pub fn settle(self, settle: Settle) -> Self {
        Self { settle: Some(settle), ..self }
    }

    /// Whether the limit only looks on: it counts and logs (target `portcullis::shadow`) what it would refuse, and lets
    /// pass. `false` unless told.
    pub fn in_shadow(self, in_shadow: bool) -> Self {
        Self { in_shadow, ..self }
    }

    /// Whether a request that is refused, by this limit or by another of the list, is charged all the same, as far as
    /// the account holds: who goes on too fast is not let in until it has slowed down. `false` unless told. Who gives up while it
    /// waits, for its turn or for Redis, is not refused, and pays nothing.
    pub fn spend_on_denial(self, spends: bool) -> Self {
        Self { spends_on_denial: spends, ..self }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Whether it can only be asked once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.limit.needs_identity() || self.skips.iter().any(Skip::needs_identity)
    }

    /// What this request is to pay, on which account.
    #[cfg(feature = "redis")]
    pub(super) fn bill(&self, head: &mut Head<'_>) -> Bill {
        let mut bill = Bill::NONE;
        self.make_out(&mut bill, head, &mut None);
        bill
    }

    /// The same, in an empty bill; with the address of the client, once it is known. No lock is held while the cost is asked for.
    #[inline]
    pub(super) fn make_out(&self, bill: &mut Bill, head: &mut Head<'_>, address: &mut Option<u64>) {
        let limit = &*self.limit.0;
        bill.now = limit.ledger.now(head);
        bill.key = limit.terms.key.fingerprint_with(head, &limit.ledger.seed, address);
        let skipped = !self.skips.is_empty() && self.skips.iter().any(|skip| skip.means(head));
        bill.cost = if skipped { 0 } else { self.cost.of(head) };
        bill.judge = limit.judge_of(head);
    }

    /// Where the account stands, as clients are told.
    pub(super) fn line(&self, bill: &Bill) -> Line<'_> {
        let limit = &*self.limit.0;
        let judge = bill.judge.as_ref().unwrap_or(&limit.judge);
        Line {
            policy: &limit.policy,
            remaining: judge.remaining(bill.state, bill.now).into(),
            more: judge.next_unit(bill.state, bill.now),
            whole: judge.whole_in(bill.state, bill.now),
        }
    }

    /// Counts what became of a bill of its.
    #[inline]
    pub(super) fn count(&self, bill: &Bill, paid: bool) {
        let tally = &self.limit.0.ledger.tally;
        match bill.verdict {
            Verdict::Spend(_) if paid && bill.cost > 0 => tally.admitted.add_one(),
            Verdict::Spend(_) => {}
            Verdict::Wait(_) | Verdict::Never if !self.in_shadow => tally.refused.add_one(),
            Verdict::Wait(_) | Verdict::Never => {
                tally.spared.add_one();
                tracing::info!(target: "portcullis::shadow", limit = self.limit.name(), "would have refused");
            }
        }
    }

    /// Whether there is something to settle: what was not counted stays so.
    pub(super) fn settles(&self, bill: &Bill) -> bool {
        self.settle.is_some() && bill.cost > 0 && matches!(bill.verdict, Verdict::Spend(_))
    }

    pub(super) fn see_head(&self, bill: &Bill, head: &response::Parts) {
        if let Some(Settle(Settlement::Head(cost))) = &self.settle {
            self.correct(bill, cost(head));
        }
    }

    pub(super) fn see_end(&self, bill: &Bill, outcome: &Outcome) {
        if let Some(Settle(Settlement::End(cost))) = &self.settle {
            self.correct(bill, cost(outcome));
        }
    }

    /// Charges `cost` in place of what the bill was for.
    pub(super) fn correct(&self, bill: &Bill, cost: Option<u32>) {
        let limit = &*self.limit.0;
        let units = cost.map_or(0, |cost| i64::from(cost) - i64::from(bill.cost));
        if units == 0 {
            return;
        }
        let now = limit.ledger.now_anyway();
        let judge = bill.judge.as_ref().unwrap_or(&limit.judge);
        let shift = Shift { units, beyond: limit.terms.max_debt };
        let at = limit.at(now, bill.judge.as_ref());
        let mut account = limit.ledger.store().open(bill.key);
        let state = judge.shift(account.state(at), bill.now, now, shift);
        let came = account.set(state, at);
        drop(account);
        if came {
            limit.ledger.store().tend(at);
        }
    }
}

impl Bill {
    pub(super) const NONE: Self = Self {
        key: 0,
        now: 0,
        state: 0,
        cost: 0,
        verdict: Verdict::Never,
        judge: None,
        place: None,
        is_newcomers: false,
    };
}

/// Whether who pays can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    Some,
}

/// Pays all bills, if all can be paid but those in shadow; else none. Each is given its verdict, and the state in which
/// its account is then.
#[inline]
pub(super) fn pay(charges: &[Charge], bills: &mut [Bill], patience: Patience) -> bool {
    let paid = pay_if(true, charges, bills, patience);
    for (charge, bill) in charges.iter().zip(bills).filter(|(_, bill)| bill.is_newcomers) {
        let limit = &*charge.limit.0;
        limit.ledger.store().tend(limit.at(bill.now, None));
    }
    paid
}

/// The accounts stay locked from the first look to the last word. Limits are locked in the order of their ids, so two
/// requests never wait for each other; and each but once, since no limit is twice in a list.
fn pay_if(payable: bool, charges: &[Charge], bills: &mut [Bill], patience: Patience) -> bool {
    let (Some((charge, charges)), Some((bill, bills))) = (charges.split_first(), bills.split_first_mut())
    else {
        return payable;
    };
    let limit = &*charge.limit.0;
    let at = limit.at(bill.now, bill.judge.as_ref());
    let judge = bill.judge.as_ref().unwrap_or(&limit.judge);
    let mut account = limit.ledger.store().open(bill.key);
    bill.state = account.state(at);
    let (verdict, place) = charge.judge(judge, bill, patience);
    bill.verdict = verdict;
    let spent = match bill.verdict {
        Verdict::Spend(state) => Some(state),
        Verdict::Wait(_) | Verdict::Never => None,
    };
    let payable = payable && (spent.is_some() || charge.in_shadow);
    let paid = if charges.is_empty() { payable } else { pay_if(payable, charges, bills, patience) };
    if let Some(place) = place {
        bill.place = place.take(paid, bill.key);
    }
    let penalty =
        || judge.shift(bill.state, bill.now, bill.now, Shift { units: bill.cost.into(), beyond: 0 });
    let state = match spent {
        Some(state) if paid => state,
        _ if charge.spends_on_denial => penalty(),
        _ => bill.state,
    };
    if state != bill.state {
        bill.is_newcomers = account.set(state, at);
        bill.state = state;
    }
    paid
}

/// A place that is kept in a line until it is known whether all can be paid.
struct Reserved<'a> {
    queues: &'a Queues,
    turn: u64,
    price: u64,
}

impl Charge {
    /// The verdict. Whom a leaky bucket holds has a place in the line, or is refused.
    #[inline]
    fn judge(&self, judge: &Judge, bill: &Bill, patience: Patience) -> (Verdict, Option<Reserved<'_>>) {
        let verdict = judge.judge(bill.state, bill.now, bill.cost);
        let Some((wait, price)) = judge.hold(bill.state, bill.now, bill.cost) else { return (verdict, None) };
        let queues = &self.limit.0.ledger.queues;
        let goes = !matches!(verdict, Verdict::Spend(_))
            || bill.cost == 0
            || self.in_shadow
            || (wait == 0 && !queues.is_waited_for(bill.key));
        if goes {
            return (verdict, None);
        }
        if patience == Patience::Some && queues.reserve(self.limit.0.terms.max_waiting as usize) {
            return (verdict, Some(Reserved { queues, turn: bill.now + wait, price }));
        }
        (Verdict::Wait(wait.max(1)), None)
    }
}

impl Reserved<'_> {
    fn take(self, paid: bool, key: Fingerprint) -> Option<u64> {
        if paid {
            return Some(self.queues.join(key, self.turn, self.price));
        }
        self.queues.release();
        None
    }
}
