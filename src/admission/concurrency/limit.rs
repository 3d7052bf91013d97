use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    adaptive::{Adaptive, Latency, LimitAlgorithm, Sampler},
    handle::ConcurrencyHandle,
    keyed::Keyed,
    partition::Partitions,
    pool::{Live, Pool, Spots},
    queue::Queue,
    slots::Slots,
};
use crate::{
    admission::{Priorities, Skip},
    key::Key,
    reject::{Reason, Rejection},
};

const MAX_KEYS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A limit on how many requests are in flight. Clones are the same limit. See the [module docs](super).
#[derive(Clone)]
pub struct Concurrency(pub(super) Arc<Pool>);

/// Builds a [`Concurrency`].
#[must_use]
pub struct ConcurrencyBuilder {
    name: Arc<str>,
    most: Most,
    key: Option<Key>,
    max_keys: NonZeroU32,
    queue: Option<Queue>,
    partitions: Option<Partitions>,
    priorities: Priorities,
    retry_after: Duration,
    latency: Latency,
    window: Duration,
    skips: Vec<Skip>,
    in_shadow: bool,
}

enum Most {
    Fixed(NonZeroU32),
    Adaptive(Box<dyn LimitAlgorithm>),
}

/// Why a limit cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConcurrencyError {
    /// A limit by key adapts to nothing: one key alone has too few requests.
    #[error("a limit that adapts has no key; partitions divide it")]
    AdaptiveByKey,
    /// What each key has for itself is not divided.
    #[error("a limit by key has no partitions")]
    PartitionsByKey,
    /// Nobody could wait.
    #[error("a queue needs a timeout, and its target a time that is shorter than its interval")]
    Queue,
    /// The partitions' shares are more than the whole.
    #[error("the shares of the partitions are more than the whole")]
    Shares,
}

impl Concurrency {
    /// Begins a limit of `most` requests in flight.
    pub fn fixed(name: impl Into<Arc<str>>, most: NonZeroU32) -> ConcurrencyBuilder {
        ConcurrencyBuilder::new(name.into(), Most::Fixed(most))
    }

    /// Begins a limit that finds out by itself how many requests in flight are good.
    pub fn adaptive(name: impl Into<Arc<str>>, by: impl LimitAlgorithm) -> ConcurrencyBuilder {
        ConcurrencyBuilder::new(name.into(), Most::Adaptive(Box::new(by)))
    }

    /// The same limit under other terms, say another number, queue or algorithm: who is in flight or waits counts on. The
    /// terms hold from the first request that comes under them, or from [`start`](Self::start); those of requests that came
    /// before remain, but for the number. A limit that adapts, as the one before it did, goes on from what was found.
    ///
    /// With another [key](ConcurrencyBuilder::by), or another name, it is another limit.
    ///
    /// ```
    /// use portcullis::admission::concurrency::Concurrency;
    /// use std::num::NonZeroU32;
    ///
    /// let some = |n| NonZeroU32::new(n).unwrap();
    /// let reports = Concurrency::fixed("reports", some(2)).build()?;
    /// let more = reports.redefine(Concurrency::fixed("reports", some(5)))?;
    /// more.start();
    /// assert_eq!(reports.handle().limit(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConcurrencyError`], if the terms contradict each other; then nothing has changed.
    pub fn redefine(&self, terms: ConcurrencyBuilder) -> Result<Self, ConcurrencyError> {
        terms.define(Some(&self.0))
    }

    /// Takes the terms of this into force now, and not with the first request: those who wait and find a place are let in.
    /// Terms that others have taken the place of stay without force.
    pub fn start(&self) {
        self.0.begin();
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.live.name
    }

    /// Whether it looks at what is only known once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        let by_key = matches!(&self.0.live.spots, Spots::Keyed(keyed) if keyed.key().needs_identity());
        by_key
            || self.0.partitions.as_ref().is_some_and(|divided| divided.by.needs_identity())
            || self.0.priorities.need_identity()
            || self.0.skips.iter().any(Skip::needs_identity)
    }

    /// Whether it looks at what is only known once the route is.
    #[must_use]
    pub fn needs_route(&self) -> bool {
        let by_key = matches!(&self.0.live.spots, Spots::Keyed(keyed) if keyed.key().needs_route());
        by_key || self.0.partitions.as_ref().is_some_and(|divided| divided.by.needs_route())
    }

    /// Whether requests wait for a place: it has a queue, and is not in shadow.
    #[must_use]
    pub fn has_queue(&self) -> bool {
        self.0.queue.is_some() && !self.0.in_shadow
    }

    /// Whether its queue asks how important a request is.
    #[must_use]
    pub fn asks_priority(&self) -> bool {
        self.0.queue.as_ref().is_some_and(|queue| queue.order == super::Order::Priority)
    }

    /// The limits of one request in the order in which all requests take them, whatever order they were named in: else
    /// two could each hold what the other waits for. Those by key come first: who waits for its own takes no place of all.
    #[must_use]
    pub fn in_one_order(mut limits: Vec<Self>) -> Vec<Self> {
        limits.sort_by(|a, b| a.rank().cmp(&b.rank()));
        limits
    }

    fn rank(&self) -> (bool, &str, *const Live) {
        let live = &self.0.live;
        (matches!(live.spots, Spots::Shared(_)), &live.name, Arc::as_ptr(live))
    }

    /// Whether both are the same limit, whatever their terms are.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.live, &other.0.live)
    }

    /// The shortest wait of those who left the queue since this was asked last; nothing of a limit by key, whose queues are
    /// not everybody's.
    pub(in crate::admission) fn take_queue_delay(&self) -> Duration {
        match &self.0.live.spots {
            Spots::Shared(slots) => slots.take_delay(tokio::time::Instant::now()),
            Spots::Keyed(_) => Duration::ZERO,
        }
    }

    /// A view of it.
    #[must_use]
    pub fn handle(&self) -> ConcurrencyHandle {
        ConcurrencyHandle::new(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concurrency")
            .field("name", &self.name())
            .field("limit", &self.0.live.limit())
            .field("in_flight", &self.0.live.in_flight())
            .finish_non_exhaustive()
    }
}

impl ConcurrencyBuilder {
    fn new(name: Arc<str>, most: Most) -> Self {
        Self {
            name,
            most,
            key: None,
            max_keys: MAX_KEYS,
            queue: None,
            partitions: None,
            priorities: Priorities::default(),
            retry_after: RETRY_AFTER,
            latency: Latency::Head,
            window: Sampler::WINDOW,
            skips: Vec::new(),
            in_shadow: false,
        }
    }

    /// So many for each `key`, instead of for all together.
    pub fn by(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// The keys with requests in flight that are told apart at most; 10,000 unless told. Those for whom there is no room
    /// share the places of one.
    pub fn max_keys(mut self, keys: NonZeroU32) -> Self {
        self.max_keys = keys;
        self
    }

    /// Lets requests wait for a place. None waits unless told.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Keeps shares of the limit for some.
    pub fn partitions(mut self, partitions: Partitions) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How important a request is, for the [order](super::Order::Priority) of the queue.
    pub fn priorities(mut self, priorities: Priorities) -> Self {
        self.priorities = priorities;
        self
    }

    /// When those who are refused may try again: their `Retry-After`. 1 second unless told.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// What a limit that adapts takes for the latency: until the response's head unless told.
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// How long a limit that adapts looks before each step: 100 ms and at least 10 requests unless told.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Does not count these requests, nor those named before: they need no place, and take none.
    pub fn skip(mut self, skip: Skip) -> Self {
        self.skips.push(skip);
        self
    }

    /// Whether the limit only looks on: it counts who is in flight, counts and logs (target `portcullis::shadow`) who would
    /// have waited or been refused, and lets everybody pass at once. `false` unless told.
    pub fn in_shadow(mut self, in_shadow: bool) -> Self {
        self.in_shadow = in_shadow;
        self
    }

    /// The limit.
    ///
    /// # Errors
    ///
    /// [`ConcurrencyError`], if its parts contradict each other.
    pub fn build(self) -> Result<Concurrency, ConcurrencyError> {
        self.define(None)
    }

    fn check(&self) -> Result<(), ConcurrencyError> {
        if let Some(Queue { timeout, codel, .. }) = &self.queue {
            let codel_fits =
                |(target, interval): &(Duration, Duration)| !target.is_zero() && target < interval;
            if timeout.is_zero() || !codel.iter().all(codel_fits) {
                return Err(ConcurrencyError::Queue);
            }
        }
        if self.partitions.as_ref().is_some_and(Partitions::exceed) {
            return Err(ConcurrencyError::Shares);
        }
        match (&self.most, &self.key) {
            (Most::Adaptive(_), Some(_)) => Err(ConcurrencyError::AdaptiveByKey),
            (Most::Fixed(_), Some(_)) if self.partitions.is_some() => Err(ConcurrencyError::PartitionsByKey),
            _ => Ok(()),
        }
    }

    /// What these terms are of: what `before` is of, if both count the same.
    fn live(&self, before: Option<&Pool>, most: u32) -> Arc<Live> {
        let counts_on = |pool: &&Pool| {
            let same_key = match (&pool.live.spots, &self.key) {
                (Spots::Shared(_), None) => true,
                (Spots::Keyed(keyed), Some(key)) => keyed.key() == key,
                _ => false,
            };
            same_key && pool.live.name == self.name
        };
        if let Some(pool) = before.filter(counts_on) {
            return Arc::clone(&pool.live);
        }
        let spots = match &self.key {
            None => Spots::Shared(Slots::new(most)),
            Some(key) => Spots::Keyed(Keyed::new(key.clone(), most, self.max_keys.get())),
        };
        Arc::new(Live::new(Arc::clone(&self.name), spots))
    }

    fn define(self, before: Option<&Arc<Pool>>) -> Result<Concurrency, ConcurrencyError> {
        self.check()?;
        let most = match &self.most {
            Most::Fixed(most) => most.get(),
            Most::Adaptive(algorithm) => algorithm.limit(),
        };
        let live = self.live(before.map(|before| &**before), most);
        let before = before.filter(|before| Arc::ptr_eq(&before.live, &live));
        let adaptive = match self.most {
            Most::Fixed(_) => None,
            Most::Adaptive(algorithm) => {
                Some(Adaptive { sampler: Sampler::new(algorithm, self.window), latency: self.latency })
            }
        };
        let of_before = before.and_then(|before| before.partitions.as_ref());
        let refusal = Rejection::new(Reason::Overloaded)
            .detail(format!("too many requests in flight: {}", self.name))
            .retry_after(self.retry_after);
        Ok(Concurrency(Arc::new(Pool {
            turn: if before.is_some() { live.next_turn() } else { 0 },
            live,
            most,
            max_keys: self.max_keys.get(),
            queue: self.queue,
            priorities: self.priorities,
            partitions: self.partitions.map(|partitions| partitions.divide(of_before)),
            adaptive,
            resumes: before.is_some_and(|before| before.adaptive.is_some()),
            skips: self.skips,
            in_shadow: self.in_shadow,
            refusal,
        })))
    }
}

impl fmt::Debug for ConcurrencyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyBuilder")
            .field("name", &self.name)
            .field("key", &self.key)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
