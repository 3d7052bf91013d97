//! What is known of one limit before Redis is asked, and what is to be asked.

use std::sync::Arc;

use super::{
    ask::{Answer, Ask, IN_SHADOW, PENALTY},
    held::{Known, Place, Rest},
    shared::Shared,
};
use crate::{
    admission::rate_limit::{Charge, Quota, charge::Bill},
    head::Head,
};

/// How a request stands with one limit on Redis.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) bill: Bill,
    /// That of the account's plan, if it has one.
    pub(super) plan: Option<Quota>,
    pub(super) by: By,
}

#[derive(Debug)]
pub(super) enum By {
    /// It costs nothing.
    Nobody,
    /// It was paid from a lease: from there it is given back.
    Lease(Rest),
    /// It is known to be refused.
    Denied(u64),
    /// It is to be asked, or it was.
    Redis(Ask, Option<Answer>),
    /// It is not asked, since another refuses.
    Unasked(Ask),
}

impl Stand {
    pub(super) fn asks(&self) -> Option<&Ask> {
        match &self.by {
            By::Redis(ask, _) => Some(ask),
            By::Nobody | By::Lease(_) | By::Denied(_) | By::Unasked(_) => None,
        }
    }
}

/// What is known here, or what is to be asked; with this flag for what is to be told.
pub(super) fn stand(
    charge: &Charge,
    shared: &Arc<Shared>,
    (bill, plan, told): (&Bill, Option<Quota>, u8),
    head: &mut Head<'_>,
) -> By {
    if bill.cost == 0 {
        return By::Nobody;
    }
    let flags =
        if charge.in_shadow { IN_SHADOW } else { 0 } | if charge.spends_on_denial { PENALTY } else { 0 };
    match shared.pay((bill.key, bill.cost), plan, head.now()) {
        Known::Paid { place, window, soon } => {
            if let Some(ahead) = soon {
                shared.take_more(bill.key, Arc::clone(&place), ahead);
            }
            shared.counts.lease.add_one();
            By::Lease(Rest { place, units: bill.cost, window })
        }
        Known::Denied(time) if flags == 0 => {
            shared.counts.denied.add_one();
            By::Denied(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1))
        }
        Known::Denied(_) => redis(shared, shared.place(head, plan), bill, flags | told, 0),
        Known::Unknown { ahead } => redis(shared, shared.place(head, plan), bill, flags | told, ahead),
    }
}

fn redis(shared: &Arc<Shared>, place: Arc<Place>, bill: &Bill, flags: u8, ahead: u32) -> By {
    let ask = Ask { shared: Arc::clone(shared), place, key: bill.key, cost: bill.cost, ahead, flags };
    By::Redis(ask, None)
}

/// Nobody is asked, since another refuses.
pub(super) fn unasked(stands: &mut [Stand]) {
    for stand in stands {
        if let By::Redis(ask, _) = &stand.by {
            stand.by = By::Unasked(ask.clone());
        }
    }
}
