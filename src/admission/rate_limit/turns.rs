//! The turns of a request whose list of limits has it wait before several, or before some of them only.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Charge, charge::Bill, judge::Verdict, queue::Turn};

/// The turns for which a request waits, and what it has paid of the other limits. Whoever drops them before they are
/// [served](Self::serve) gives back all of it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Box<[Turn]>,
    paid: Box<[(Charge, Bill)]>,
}

impl Turns {
    /// Of what was paid, where somebody has to wait; else there are none, and nothing is given back.
    pub(super) fn of(charges: &[Charge], bills: &[Bill]) -> Self {
        let mut turns = Self::alone(charges, bills);
        if !turns.turns.is_empty() {
            let others = charges.iter().zip(bills).filter(|(_, bill)| is_paid(bill) && bill.place.is_none());
            turns.paid = others.map(|(charge, bill)| (charge.clone(), *bill)).collect();
        }
        turns
    }

    /// The turns, where another knows what else was paid.
    pub(super) fn alone(charges: &[Charge], bills: &[Bill]) -> Self {
        let turn = |(charge, bill): (&Charge, &Bill)| Some(Turn::new(charge.clone(), *bill, bill.place?));
        Self { turns: charges.iter().zip(bills).filter_map(turn).collect(), paid: Box::default() }
    }

    /// Whether nobody waits.
    pub(super) fn have_come(&self) -> bool {
        self.turns.iter().all(Turn::has_come)
    }

    /// Waits for all of them.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.turns.iter_mut().filter(|turn| !turn.has_come());
        // Each is to be woken, so each is asked.
        match waiting.filter_map(|turn| Pin::new(turn).poll(cx).is_pending().then_some(())).count() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// The request goes on: what was paid stays paid.
    pub(super) fn serve(&mut self) {
        self.paid = Box::default();
        mem::take(&mut self.turns).into_iter().for_each(Turn::serve);
    }

    /// The request is refused elsewhere: only what is [spent on denial](Charge::spend_on_denial) stays paid.
    #[cfg(feature = "redis")]
    pub(super) fn refuse(&mut self) {
        mem::take(&mut self.turns).into_iter().for_each(Turn::refuse);
    }
}

/// Whether something was charged.
pub(super) fn is_paid(bill: &Bill) -> bool {
    bill.cost > 0 && matches!(bill.verdict, Verdict::Spend(_))
}

impl Drop for Turns {
    fn drop(&mut self) {
        for (charge, bill) in mem::take(&mut self.paid) {
            charge.give_back(&bill, None);
        }
    }
}
