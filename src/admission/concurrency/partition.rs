use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::HeaderName;

use crate::{head::Head, identity::Principal, key::RouteName, ratio::Ratio};

/// Shares of a limit that are kept for some requests, by what they say of themselves.
///
/// As long as the limit is not reached, everybody takes what is free, the shares of others too. When it is reached, a
/// request still passes if its partition has less in flight than its share. So an idle share is not wasted, and a busy
/// one is not taken away; until those who borrowed have left, there may be more in flight than the limit: at most by the
/// shares of partitions that were idle.
///
/// ```
/// use portcullis::{admission::concurrency::Partitions, ratio::Ratio};
///
/// let shares = Partitions::by_plan()
///     .share("gold", Ratio::percent(60))
///     .share("free", Ratio::percent(10)); // 30% are nobody's
/// # let _ = shares;
/// ```
#[derive(Clone)]
#[must_use]
pub struct Partitions {
    by: By,
    shares: BTreeMap<Arc<str>, Ratio>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Header(HeaderName),
    Plan,
    Claim(Arc<str>),
    Route,
}

impl Partitions {
    /// By the value of a header.
    pub const fn by_header(name: HeaderName) -> Self {
        Self::by(By::Header(name))
    }

    /// By the plan of the principal.
    pub const fn by_plan() -> Self {
        Self::by(By::Plan)
    }

    /// By a claim of the principal's token.
    pub fn by_claim(name: impl Into<Arc<str>>) -> Self {
        Self::by(By::Claim(name.into()))
    }

    /// By the name of the rule that matched.
    pub const fn by_route() -> Self {
        Self::by(By::Route)
    }

    const fn by(by: By) -> Self {
        Self { by, shares: BTreeMap::new() }
    }

    /// Keeps this share of the limit, and at least one place, for requests with that value.
    pub fn share(mut self, value: impl Into<Arc<str>>, share: Ratio) -> Self {
        self.shares.insert(value.into(), share);
        self
    }

    /// Whether the shares are more than there is.
    pub(super) fn exceed(&self) -> bool {
        let sum: f64 = self.shares.values().map(|share| fraction(*share)).sum();
        sum > 1.0 + 1e-9
    }

    pub(super) fn needs_identity(&self) -> bool {
        matches!(self.by, By::Plan | By::Claim(_))
    }

    pub(super) fn needs_route(&self) -> bool {
        self.by == By::Route
    }

    /// The shares. What is in flight of a partition that was there before counts on.
    pub(super) fn divide(self, before: Option<&Divided>) -> Divided {
        let before = before.filter(|before| before.by.by == self.by);
        let share = |(name, share): (&Arc<str>, &Ratio)| {
            let mut known = before.into_iter().flat_map(|before| before.shares.iter());
            let partition = known.find(|share| share.partition.name == *name);
            let partition = partition.map_or_else(
                || Arc::new(Partition { name: Arc::clone(name), in_flight: AtomicU32::new(0) }),
                |share| Arc::clone(&share.partition),
            );
            Share { partition, share: fraction(*share) }
        };
        let shares = self.shares.iter().map(share).collect();
        Divided { by: self, shares }
    }

    /// Which of the shares is a request's, if one is.
    fn of(&self, head: &Head<'_>) -> Option<usize> {
        let principal = || head.extensions().get::<Principal>();
        match &self.by {
            By::Header(name) => head.headers().get(name).and_then(|value| self.find(value.to_str().ok()?)),
            By::Plan => principal().and_then(|principal| self.find(principal.plan()?)),
            By::Claim(name) => principal().and_then(|principal| self.find(&principal.claim(name)?)),
            By::Route => head.extensions().get().and_then(|RouteName(name)| self.find(name)),
        }
    }

    fn find(&self, value: &str) -> Option<usize> {
        self.shares.keys().position(|name| **name == *value)
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("by", &self.by).field("shares", &self.shares).finish()
    }
}

fn fraction(share: Ratio) -> f64 {
    f64::from(share.numerator()) / f64::from(share.denominator())
}

/// A limit that is divided.
#[derive(Debug)]
pub(super) struct Divided {
    pub(super) by: Partitions,
    pub(super) shares: Box<[Share]>,
}

impl Divided {
    pub(super) fn of(&self, head: &Head<'_>) -> Option<&Share> {
        self.shares.get(self.by.of(head)?)
    }
}

/// What is in flight of one partition, whatever its share is.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: Arc<str>,
    in_flight: AtomicU32,
}

impl Partition {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A partition's share of a limit.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) partition: Arc<Partition>,
    share: f64,
}

impl Share {
    /// The places that are its own, of so many.
    pub(super) fn places(&self, limit: u32) -> u32 {
        ((f64::from(limit) * self.share).ceil() as u32).max(1)
    }

    pub(super) fn has_room(&self, limit: u32) -> bool {
        self.partition.in_flight() < self.places(limit)
    }

    /// Takes one of its own places, if one is free.
    pub(super) fn enter(&self, limit: u32) -> bool {
        let most = self.places(limit);
        let more = |count| (count < most).then_some(count + 1);
        self.partition.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one more.
    pub(super) fn add(&self) {
        self.partition.in_flight.fetch_add(1, Ordering::AcqRel);
    }
}
