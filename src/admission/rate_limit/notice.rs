use http::{HeaderMap, response};

#[cfg(feature = "redis")]
use super::distributed::Open;
use super::{Charge, charge::Bill};
use crate::{admission::fields, gate::Pass, outcome::Outcome};

/// What is to be done with the response of a request that the limits let pass.
#[derive(Debug, Default)]
pub struct Notice(Option<Box<After>>);

#[derive(Debug, Default)]
struct After {
    /// What the response will tell.
    told: Option<HeaderMap>,
    /// What is charged when the cost is known.
    open: Vec<(Charge, Bill)>,
    /// And on Redis.
    #[cfg(feature = "redis")]
    there: Vec<Open>,
}

impl Notice {
    pub(super) fn of(told: Option<HeaderMap>, open: Vec<(Charge, Bill)>) -> Self {
        let after = After {
            told,
            open,
            #[cfg(feature = "redis")]
            there: Vec::new(),
        };
        Self(Some(Box::new(after)))
    }

    /// Tells this too, if it is anything, and settles these too.
    #[cfg(feature = "redis")]
    pub(super) fn also(
        mut self,
        told: Option<HeaderMap>,
        (here, there): (Vec<(Charge, Bill)>, Vec<Open>),
    ) -> Self {
        if told.is_none() && here.is_empty() && there.is_empty() {
            return self;
        }
        let after = self.0.get_or_insert_default();
        after.told = match (after.told.take(), told) {
            (Some(mut before), Some(told)) => {
                before.extend(told);
                Some(before)
            }
            (before, told) => before.or(told),
        };
        after.open.extend(here);
        after.there = there;
        self
    }
}

impl Pass for Notice {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.watches()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        let Some(after) = &mut self.0 else { return };
        for (charge, bill) in &after.open {
            charge.see_head(bill, head);
        }
        #[cfg(feature = "redis")]
        after.there.iter().for_each(|open| open.see_head(head));
        if let Some(told) = after.told.take() {
            fields::put(told, &mut head.headers);
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let Some(after) = &self.0 else { return };
        for (charge, bill) in &after.open {
            charge.see_end(bill, outcome);
        }
        #[cfg(feature = "redis")]
        after.there.iter().for_each(|open| open.see_end(outcome));
    }
}
