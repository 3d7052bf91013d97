use std::{fmt, sync::Arc};

use super::{Limit, gcra::Verdict, policy::Line, store::Fingerprint};
use crate::head::Head;

/// A limit, and what a request costs there.
#[derive(Debug, Clone)]
pub struct Charge {
    pub(super) limit: Limit,
    cost: Cost,
}

/// What a request costs, in units of a limit. Nothing is always paid; what is above the burst never.
#[derive(Clone)]
pub struct Cost(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(u32),
    Told(Arc<dyn Fn(&Head<'_>) -> u32 + Send + Sync>),
}

/// A charge on one account, and what became of it.
#[derive(Clone, Copy)]
pub(super) struct Bill {
    key: Fingerprint,
    now: u64,
    debt: u64,
    cost: u32,
    pub(super) verdict: Verdict,
    is_newcomers: bool,
}

impl Cost {
    /// One for each request.
    pub const ONE: Self = Self(Kind::Fixed(1));

    /// A cost that depends on the request.
    #[must_use]
    pub fn told_by(cost: impl Fn(&Head<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self(Kind::Told(Arc::new(cost)))
    }

    fn of(&self, head: &Head<'_>) -> u32 {
        match &self.0 {
            Kind::Fixed(cost) => *cost,
            Kind::Told(cost) => cost(head),
        }
    }
}

impl From<u32> for Cost {
    fn from(cost: u32) -> Self {
        Self(Kind::Fixed(cost))
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(cost) => write!(f, "Cost({cost})"),
            Kind::Told(_) => f.write_str("Cost(..)"),
        }
    }
}

impl From<Limit> for Charge {
    fn from(limit: Limit) -> Self {
        Self::new(limit, Cost::ONE)
    }
}

impl Charge {
    pub(super) const fn new(limit: Limit, cost: Cost) -> Self {
        Self { limit, cost }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// What this request is to pay, on which account. No lock is held while the cost is asked for.
    pub(super) fn bill(&self, head: &mut Head<'_>) -> Bill {
        let limit = &*self.limit.0;
        let now = limit.store.clock(head.now());
        let key = limit.terms.key.fingerprint(head, &limit.seed);
        Bill { key, now, cost: self.cost.of(head), ..Bill::NONE }
    }

    /// Where the account stood when the bill was judged.
    pub(super) fn line(&self, bill: &Bill) -> Line<'_> {
        let limit = &*self.limit.0;
        Line {
            policy: &limit.policy,
            remaining: limit.quota.remaining(bill.debt),
            more: limit.quota.next_unit(bill.debt),
            whole: bill.debt,
        }
    }
}

impl Bill {
    pub(super) const NONE: Self =
        Self { key: 0, now: 0, debt: 0, cost: 0, verdict: Verdict::Never, is_newcomers: false };
}

/// Pays all bills, if all can be paid; else none. Each is given its verdict and what its account then owes.
pub(super) fn pay(charges: &[Charge], bills: &mut [Bill]) -> bool {
    let paid = pay_if(true, charges, bills);
    for (charge, bill) in charges.iter().zip(bills).filter(|(_, bill)| bill.is_newcomers) {
        charge.limit.0.store.tend(bill.now);
    }
    paid
}

/// The accounts stay locked from the first look to the last word. Limits are locked in the order of their ids, so two
/// requests never wait for each other; and each but once, since no limit is twice in a list.
fn pay_if(payable: bool, charges: &[Charge], bills: &mut [Bill]) -> bool {
    let (Some((charge, charges)), Some((bill, bills))) = (charges.split_first(), bills.split_first_mut())
    else {
        return payable;
    };
    let limit = &*charge.limit.0;
    let mut account = limit.store.open(bill.key);
    // An account never owes more than all it can hold, unless the clock has gone back.
    bill.debt = account.due().saturating_sub(bill.now).min(limit.quota.whole());
    bill.verdict = limit.quota.judge(bill.debt, bill.cost);
    let Verdict::Spend(debt) = bill.verdict else {
        account.count_refusal();
        return pay_if(false, charges, bills);
    };
    let paid = if charges.is_empty() { payable } else { pay_if(payable, charges, bills) };
    if paid && bill.cost > 0 {
        bill.is_newcomers = account.set(bill.now + debt, bill.now);
        bill.debt = debt;
    }
    paid
}
