use std::{sync::Arc, time::Duration};

use http::Request;
use tokio::time::Instant;

use super::{
    call::Grade,
    handle::{Counts, HedgeHandle},
    latency::Latencies,
};
use crate::{
    ratio::Ratio,
    resilience::{
        again::{LEAST_LEFT, is_repeatable},
        budget::Budget,
    },
    time::after,
};

/// When a late attempt has another sent beside it, and how many. See the [module docs](super). Clones share the budget, the
/// numbers and what is known of how long answers take.
#[derive(Debug, Clone)]
#[must_use]
pub struct Policy {
    pub(super) when: When,
    pub(super) hedges: u32,
    methods: Methods,
    pub(super) budget: Budget,
    /// Whether the calls are counted here, from which the budget grows.
    pub(super) counts_calls: bool,
    /// As it was told.
    least_left: Option<Duration>,
    pub(super) most_body: usize,
    pub(super) counts: Arc<Counts>,
}

/// Which calls are sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Methods {
    /// Those that may be done twice, since nothing else was said.
    Unsaid,
    /// Those that may be done twice, and what is sent once is meant to be.
    Idempotent,
    Any,
}

#[derive(Debug, Clone)]
pub(super) enum When {
    After(Duration),
    Percentile { latencies: Arc<Latencies>, least: Duration },
}

impl Policy {
    /// After this time without an answer: less than an attempt may take, or there is never another; a gateway refuses it
    /// otherwise. What else it is by default is told at each method.
    pub fn after(delay: Duration) -> Self {
        Self::new(When::After(delay))
    }

    /// After the time within which this share of the answers of the last seconds came: with 95%, one call in twenty has a
    /// second attempt. It is known once there were 100 answers; until then nothing is hedged.
    pub fn at_percentile(share: Ratio) -> Self {
        let latencies = Arc::new(Latencies::new(share));
        Self::new(When::Percentile { latencies, least: Duration::from_millis(1) })
    }

    fn new(when: When) -> Self {
        Self {
            when,
            hedges: 1,
            methods: Methods::Unsaid,
            budget: Budget::default(),
            counts_calls: true,
            least_left: None,
            most_body: 64 * 1024,
            counts: Arc::default(),
        }
    }

    /// The shortest time that a percentile may come to; 1 ms unless told. A fixed time is as it is.
    pub fn least_delay(mut self, shortest: Duration) -> Self {
        if let When::Percentile { least, .. } = &mut self.when {
            *least = shortest;
        }
        self
    }

    /// How many attempts there may be beside the first, each as much later than the one before; 1 unless told.
    pub fn hedges(self, hedges: u32) -> Self {
        Self { hedges, ..self }
    }

    /// What all of its second attempts together are bound by; a [`Budget`] of its own with 20% of the calls and 10 a second
    /// unless told. One that [allows nothing](Budget::is_zero) contradicts the policy, and a gateway refuses it.
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, counts_calls: true, ..self }
    }

    /// The same, of a [retry](crate::resilience::retry) that stands outside and counts the calls already.
    pub fn shared_budget(self, budget: Budget) -> Self {
        Self { budget, counts_calls: false, ..self }
    }

    /// An attempt is not begun with less than this left of the request's [deadline](crate::context::Deadline). 10 ms unless
    /// told.
    pub fn least_left(self, least: Duration) -> Self {
        Self { least_left: Some(least), ..self }
    }

    /// The longest body that is kept to be sent again, in bytes. A longer one is sent once. 64 KiB unless told.
    pub fn most_body(self, bytes: usize) -> Self {
        Self { most_body: bytes, ..self }
    }

    /// Sends a second attempt whatever the method is, and without an idempotency key. Then servers do twice what they were
    /// asked once, whenever they are slow. It is for calls of which you know that they can be repeated, as gRPC calls that
    /// only read, which are all `POST`.
    pub fn danger_any_method(self) -> Self {
        Self { methods: Methods::Any, ..self }
    }

    /// Says that what may not be done twice is meant to be sent once. It is so without this word; but a mesh client does not
    /// know whether its calls are gRPC, of which none is ever sent twice then, and warns of a hedge that says neither this nor
    /// [`danger_any_method`](Self::danger_any_method).
    pub fn idempotent_only(self) -> Self {
        Self { methods: Methods::Idempotent, ..self }
    }

    /// Goes on with the numbers of another policy, in whose place it is put, and with what it knows if both ask for the same
    /// percentile.
    pub fn counted_by(mut self, handle: &HedgeHandle) -> Self {
        self.counts = Arc::clone(&handle.policy.counts);
        if let (When::Percentile { latencies, .. }, When::Percentile { latencies: before, .. }) =
            (&mut self.when, &handle.policy.when)
            && latencies.share() == before.share()
        {
            *latencies = Arc::clone(before);
        }
        self
    }

    /// What calls under this policy have come to.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle {
        HedgeHandle { policy: self.clone() }
    }

    /// How late an attempt must be. `None`: that is not known yet.
    pub(super) fn delay(&self) -> Option<Duration> {
        match &self.when {
            When::After(delay) => Some(*delay),
            When::Percentile { latencies, least } => {
                latencies.percentile().map(|percentile| percentile.max(*least))
            }
        }
    }

    /// Whether it says which calls are sent twice.
    #[cfg(feature = "stack")]
    pub(crate) const fn says_methods(&self) -> bool {
        !matches!(self.methods, Methods::Unsaid)
    }

    /// What is to be left of a call's time for an attempt, if that was told.
    #[cfg(feature = "stack")]
    pub(crate) const fn told_least_left(&self) -> Option<Duration> {
        self.least_left
    }

    /// An attempt is not begun with less than this left.
    pub(super) fn time_needed(&self) -> Duration {
        self.least_left.unwrap_or(LEAST_LEFT)
    }

    /// When a call that began then is late: by the least that there is to go by if it is not known how long answers take.
    pub(super) fn late(&self, started: Instant) -> Instant {
        after(started, self.delay().unwrap_or(self.shortest_delay()))
    }

    /// The least that is waited for, whatever was measured.
    pub(crate) const fn shortest_delay(&self) -> Duration {
        match self.when {
            When::After(delay) => delay,
            When::Percentile { least, .. } => least,
        }
    }

    /// Whether a request that can have several attempts may be sent twice.
    pub(super) fn is_for<B>(&self, request: &Request<B>) -> bool {
        self.methods == Methods::Any || is_repeatable(request)
    }

    /// The budget grows with what reaches the server.
    pub(super) fn count(&self, first: Grade) {
        if self.counts_calls && first != Grade::Refused {
            self.budget.call();
        }
    }

    /// How long a first attempt took, or was waited for when another had come first.
    pub(super) fn learn(&self, took: Duration, now: Instant) {
        if let When::Percentile { latencies, .. } = &self.when {
            latencies.record(took, now);
        }
    }
}
