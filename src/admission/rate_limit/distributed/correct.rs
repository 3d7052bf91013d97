//! What is charged or given back after it was decided.

use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use http::response;
use redis::Script;

use super::{
    ask::groups,
    held::{Place, Rest},
    shared::Shared,
};
use crate::{
    admission::{beside::patiently, rate_limit::Charge},
    outcome::Outcome,
    redis::RedisError,
};

static CORRECT: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("limits.lua"), include_str!("correct.lua"))));

/// How many accounts are corrected in one call.
const TOGETHER: usize = 100;

/// Units that are charged, or given back if they are negative, and the window in which they were.
#[derive(Debug)]
pub(super) struct Correction {
    pub(super) place: Arc<Place>,
    pub(super) units: i64,
    pub(super) window: u64,
}

impl From<Rest> for Correction {
    fn from(Rest { place, units, window }: Rest) -> Self {
        Self { place, units: -i64::from(units), window }
    }
}

impl Shared {
    /// Corrects all of them. What one call does not, is counted.
    pub(super) async fn correct(&self, all: Vec<Correction>) {
        let near = |one: &Correction, other: &Correction| {
            self.redis().are_together(&one.place.key, &other.place.key)
        };
        for group in groups(&all, near) {
            for some in group.chunks(TOGETHER) {
                let some: Vec<_> = some.iter().map(|&at| &all[at]).collect();
                if self.correct_some(&some).await.is_err() {
                    self.counts.unsettled(some.len());
                }
            }
        }
    }

    /// One call.
    async fn correct_some(&self, some: &[&Correction]) -> Result<(), RedisError> {
        let keys: Vec<_> = some.iter().map(|one| &*one.place.key).collect();
        let keys = &keys;
        let correct = || async move {
            let now = SystemTime::now();
            let told = |one: &&Correction| {
                let debt = i64::from(self.max_debt());
                let done =
                    [one.units, one.window.cast_signed(), debt].map(|number| (number as f64).to_le_bytes());
                [&one.place.params.tell(one.place.name, now)[..], &done.concat()].concat()
            };
            let args: Vec<_> = some.iter().map(told).collect();
            self.redis().run::<u64>(self.deadline(), &CORRECT, keys, args).await
        };
        patiently(correct).await?;
        if some.iter().any(|one| one.units < 0) {
            self.returned();
        }
        Ok(())
    }
}

/// What is to be charged on Redis when it is known what the request cost.
#[derive(Debug)]
pub(in crate::admission::rate_limit) struct Open {
    pub(super) charge: Charge,
    pub(super) shared: Arc<Shared>,
    pub(super) paid: Rest,
}

impl Open {
    pub(in crate::admission::rate_limit) fn see_head(&self, head: &response::Parts) {
        self.settle(self.charge.settle.as_ref().and_then(|settle| settle.of_head(head)));
    }

    pub(in crate::admission::rate_limit) fn see_end(&self, outcome: &Outcome) {
        self.settle(self.charge.settle.as_ref().and_then(|settle| settle.of_outcome(outcome)));
    }

    /// Charges `cost` in place of what was paid.
    fn settle(&self, cost: Option<u32>) {
        let Rest { place, units, window } = &self.paid;
        let units = cost.map_or(0, |cost| i64::from(cost) - i64::from(*units));
        if units != 0 {
            let correction = Correction { place: Arc::clone(place), units, window: *window };
            self.shared.correct_beside(vec![correction]);
        }
    }
}
