use std::{mem, sync::Arc, time::Duration};

#[cfg(feature = "redis")]
use tokio::time::Instant;

use super::{
    Quota, QuotaFallback, QuotaOutage,
    definition::{Counters, Counts},
    place::Place,
};
#[cfg(feature = "redis")]
use crate::time::after;
use crate::{head::Head, time::Span};

/// What a request is to pay of one quota, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bill {
    pub(super) account: u128,
    pub(super) span: Span,
    pub(super) most: Option<u64>,
    pub(super) cost: u64,
    pub(super) used: u64,
    pub(super) state: State,
    /// It is paid if it can be, and stands in nobody's way.
    pub(super) in_shadow: bool,
    /// What it has cost, as told by the response's head.
    pub(super) told: Option<u32>,
}

/// What is paid of quotas. Whoever drops it before it is taken, gives back what was.
#[derive(Debug)]
pub(super) struct Payment {
    pub(super) quotas: Arc<[Quota]>,
    pub(super) bills: Vec<Bill>,
}

impl Payment {
    /// The bills. What was paid stays paid.
    pub(super) fn take(mut self) -> Vec<Bill> {
        mem::take(&mut self.bills)
    }
}

impl Drop for Payment {
    fn drop(&mut self) {
        give_back(&self.quotas, &mut self.bills);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not asked, or given back.
    Open,
    Paid,
    /// The allowance is used up until the end of the period.
    Short,
    /// It costs more than the allowance.
    Never,
    /// The counter could not be asked.
    Lost,
    /// It is not counted.
    Skipped,
}

impl Bill {
    pub(super) fn of(quota: &Quota, head: &Head<'_>) -> Self {
        let counters = &*quota.counters;
        let most = quota.terms.allowance(head).units();
        let cost = u64::from(quota.terms.cost.of(head));
        let state = match most {
            _ if quota.terms.skips.iter().any(|skip| skip.means(head)) => State::Skipped,
            _ if cost == 0 => State::Paid,
            Some(most) if cost > most => State::Never,
            _ => State::Open,
        };
        Self {
            account: counters.key.digest(head),
            span: counters.span(),
            most,
            cost,
            used: 0,
            state,
            in_shadow: quota.terms.in_shadow,
            told: None,
        }
    }

    /// What is left, if there is a bound and the counter was asked.
    pub(super) fn remaining(&self) -> Option<u64> {
        let is_known = matches!(self.state, State::Paid | State::Short) && self.cost > 0;
        self.most.filter(|_| is_known).map(|most| most.saturating_sub(self.used))
    }

    /// Whether the allowance is not enough.
    pub(super) const fn is_short(&self) -> bool {
        matches!(self.state, State::Short | State::Never)
    }

    /// Whether the request is refused for it.
    pub(super) const fn refuses(&self) -> bool {
        self.is_short() && !self.in_shadow
    }

    fn give_back(&mut self, counters: &Arc<Counters>) {
        if self.state == State::Paid && self.cost > 0 {
            counters.adjust(self.account, self.span, -self.cost.cast_signed());
            self.state = State::Open;
        }
    }
}

/// Whether the bills can be paid without waiting.
pub(super) fn is_local(quotas: &[Quota]) -> bool {
    quotas.iter().all(|quota| match &quota.counters.place {
        Place::Memory(kept) => kept.is_open(),
        #[cfg(feature = "redis")]
        Place::Redis(_) => false,
    })
}

/// Pays what is kept in memory, of the quotas whose counters are open; `false` if one is short, and then none is paid.
pub(super) fn pay_here(quotas: &[Quota], bills: &mut [Bill]) -> bool {
    for (quota, bill) in quotas.iter().zip(&mut *bills) {
        if let (Place::Memory(kept), State::Open) = (&quota.counters.place, bill.state) {
            match kept.memory.spend(bill.account, bill.span, bill.most, bill.cost) {
                Ok(used) => (bill.used, bill.state) = (used, State::Paid),
                Err(used) => (bill.used, bill.state) = (used, State::Short),
            }
            if bill.refuses() {
                give_back(quotas, bills);
                return false;
            }
        }
    }
    true
}

/// Pays all bills, or none, for a request that has waited so long already.
///
/// # Errors
/// Counters cannot be asked, and their quota lets nothing pass then.
#[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "nobody is waited for but Redis"))]
pub(super) async fn pay(mut payment: Payment, waited: Duration) -> Result<Payment, QuotaOutage> {
    let Payment { quotas, bills } = &mut payment;
    for (quota, bill) in quotas.iter().zip(&mut *bills) {
        if bill.state == State::Open
            && let Err(outage) = quota.counters.open().await
        {
            lost(quota, bill, outage)?;
        }
    }
    if !pay_here(quotas, bills) {
        return Ok(payment);
    }
    #[cfg(feature = "redis")]
    let until = until(quotas, waited);
    #[cfg(feature = "redis")]
    while let Some(first) = bills.iter().position(|bill| bill.state == State::Open) {
        if !pay_there(quotas, bills, first, until).await? {
            give_back(quotas, bills);
            break;
        }
    }
    Ok(payment)
}

/// The longest of the deadlines, less what was waited before: accounts and servers are asked one after the other, and no
/// request waits for their sum.
#[cfg(feature = "redis")]
fn until(quotas: &[Quota], waited: Duration) -> Instant {
    let deadlines = quotas.iter().map(|quota| match &quota.counters.place {
        Place::Memory(_) => Duration::ZERO,
        Place::Redis(remote) => remote.deadline,
    });
    after(Instant::now(), deadlines.max().unwrap_or_default().saturating_sub(waited))
}

/// Pays, in one round trip, what stands on one account of one server, that of the quota at `first`.
#[cfg(feature = "redis")]
async fn pay_there(
    quotas: &[Quota],
    bills: &mut [Bill],
    first: usize,
    until: Instant,
) -> Result<bool, QuotaOutage> {
    let (Place::Redis(remote), account) = (&quotas[first].counters.place, bills[first].account) else {
        // Nothing in memory is open any more.
        bills[first].state = State::Lost;
        return Ok(true);
    };
    let of_first = |at: &usize| {
        let is_open = bills[*at].state == State::Open && bills[*at].account == account;
        is_open && quotas[*at].counters.store.is_same(&quotas[first].counters.store)
    };
    let group: Vec<_> = (first..bills.len()).filter(of_first).collect();
    let asked = Payment {
        quotas: group.iter().map(|&at| quotas[at].clone()).collect(),
        bills: group.iter().map(|&at| bills[at]).collect(),
    };
    match remote.spend(asked, until).await {
        Ok((paid, told)) => {
            group.iter().zip(told).for_each(|(&at, bill)| bills[at] = bill);
            Ok(paid)
        }
        Err(outage) => {
            for at in group {
                lost(&quotas[at], &mut bills[at], outage.clone())?;
            }
            Ok(true)
        }
    }
}

/// Counters cannot be asked: lets pass, or not.
fn lost(quota: &Quota, bill: &mut Bill, outage: QuotaOutage) -> Result<(), QuotaOutage> {
    bill.state = State::Lost;
    match quota.terms.fallback {
        QuotaFallback::Deny if !bill.in_shadow => Err(outage),
        QuotaFallback::Allow | QuotaFallback::Deny => {
            Counts::add(&quota.counters.counts.uncounted, 1);
            Ok(())
        }
    }
}

fn give_back(quotas: &[Quota], bills: &mut [Bill]) {
    for (quota, bill) in quotas.iter().zip(bills) {
        bill.give_back(&quota.counters);
    }
}
