use std::{
    fmt,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::gate::strikes;
use crate::{
    chance::Chance,
    context::Deadline,
    gate::{Gate, GateLayer, Pass},
    head::Head,
    outcome::{Outcome, Verdict},
    ratio::Ratio,
    reject::{Answer, Reason, Rejection},
    window::Window,
};

const BUCKETS: NonZeroU16 = NonZeroU16::new(30).unwrap();
/// How long a share that was worked out is good.
const FRESH: Duration = Duration::from_millis(50);
/// The share 1: in decimals, so that what was reckoned is what is told.
const FULL: f64 = 1_000_000.0;

/// A gate that refuses a share of the requests to a server that fails, as Envoy's admission control:
///
/// ```text
/// refused share = min(max, ((n - ok / threshold) / (n + 1)) ^ (1 / aggression)),   never less than 0
/// ```
///
/// of the `n` requests of the last 30 s that got through, and the `ok` of them that did not fail. With a threshold of 50%
/// and an aggression of 1 it is the client-side throttling of the SRE book (chapter 21, K = 2), reckoned by what was let
/// through. What blames the caller has not failed; who goes away says nothing.
///
/// A breaker is shut or open; this asks as much as the server can take. Clones are the same.
#[derive(Clone)]
pub struct SuccessRate(Arc<Shared>);

struct Shared {
    policy: Policy,
    /// All, and those that went well.
    window: Window<2>,
    chance: Chance,
    refusal: Rejection,
    begin: Instant,
    /// The share that is refused, in 65,536ths, and until when it is good.
    share: AtomicU32,
    until: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Policy {
    threshold: f64,
    aggression: f64,
    max: f64,
    fewest: u64,
    window: Duration,
}

impl Policy {
    fn share(&self, all: u64, well: u64) -> f64 {
        if all < self.fewest {
            return 0.0;
        }
        let (all, well) = (all as f64, well as f64);
        let failing = ((all - well / self.threshold) / (all + 1.0)).max(0.0);
        failing.powf(1.0 / self.aggression).min(self.max)
    }
}

/// Builds a [`SuccessRate`].
#[derive(Debug, Clone)]
#[must_use]
pub struct SuccessRateBuilder {
    policy: Policy,
    chance: Chance,
    retry_after: Duration,
}

impl SuccessRate {
    /// Envoy's numbers: 95% must succeed of at least 100 requests in 30 s, at most 80% are refused, with an aggression of 1.
    pub fn builder() -> SuccessRateBuilder {
        SuccessRateBuilder {
            policy: Policy {
                threshold: 0.95,
                aggression: 1.0,
                max: 0.8,
                fewest: 100,
                window: Duration::from_secs(30),
            },
            chance: Chance::new(),
            retry_after: Duration::from_secs(1),
        }
    }

    /// The layer. Its clones, and all services that they make, share one window.
    #[must_use]
    pub fn layer(&self) -> GateLayer<Self> {
        GateLayer::new(self.clone())
    }

    /// The share that is refused now, from 0 to 1.
    #[must_use]
    pub fn refusing(&self) -> f64 {
        self.0.share(Instant::now())
    }

    /// How many requests were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn share(&self, now: Instant) -> f64 {
        let now_nanos = nanos(now.saturating_duration_since(self.begin));
        if now_nanos >= self.until.load(Ordering::Relaxed) {
            self.until.store(now_nanos.saturating_add(nanos(FRESH)), Ordering::Relaxed);
            let [all, well] = self.window.totals(now);
            self.share.store((self.policy.share(all, well) * FULL).round() as u32, Ordering::Relaxed);
        }
        f64::from(self.share.load(Ordering::Relaxed)) / FULL
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl SuccessRateBuilder {
    /// The share that must succeed for nothing to be refused; 95% unless told, and at least 1 in a million.
    pub fn threshold(mut self, share: Ratio) -> Self {
        let share = f64::from(share.numerator()) / f64::from(share.denominator());
        self.policy.threshold = share.max(1e-6);
        self
    }

    /// How soon it refuses much: 1 unless told, as much as fails; more is sooner. At least 0.1.
    pub const fn aggression(mut self, aggression: f64) -> Self {
        self.policy.aggression = aggression.max(0.1);
        self
    }

    /// The share that is refused at most, so that a server which has come back is found; 80% unless told.
    pub fn max(mut self, share: Ratio) -> Self {
        self.policy.max = f64::from(share.numerator()) / f64::from(share.denominator());
        self
    }

    /// The requests in a window below which nothing is refused; 100 unless told.
    pub const fn fewest(mut self, requests: u64) -> Self {
        self.policy.fewest = requests;
        self
    }

    /// How far back it looks; 30 s unless told, and at least a second.
    pub fn window(mut self, window: Duration) -> Self {
        self.policy.window = window.max(Duration::from_secs(1));
        self
    }

    /// When those who are refused may try again: their `Retry-After`. 1 second unless told.
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = after;
        self
    }

    /// Where the chance comes from that says whom a share strikes.
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    /// The gate.
    #[must_use]
    pub fn build(self) -> SuccessRate {
        let refusal = Rejection::new(Reason::Overloaded)
            .detail("too many requests before this one failed")
            .retry_after(self.retry_after);
        SuccessRate(Arc::new(Shared {
            policy: self.policy,
            window: Window::by_time(self.policy.window, BUCKETS),
            chance: self.chance,
            refusal,
            begin: Instant::now(),
            share: AtomicU32::new(0),
            until: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }))
    }
}

impl Gate for SuccessRate {
    type Pass = Judged;

    fn check(&self, head: &mut Head<'_>) -> Result<Judged, Answer> {
        if strikes(&self.0.chance, self.0.share(head.now())) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(self.0.refusal.clone().into());
        }
        let until = head.extensions().get().copied();
        Ok(Judged { shared: Arc::clone(&self.0), until })
    }
}

/// Tells how a request ended.
pub struct Judged {
    shared: Arc<Shared>,
    until: Option<Deadline>,
}

impl Pass for Judged {
    fn on_end(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        let of_caller = self.until.is_some_and(|until| until.is_callers_and_due(now));
        let went_well = match outcome.verdict_on_server(of_caller) {
            Verdict::Success | Verdict::CallerFault => true,
            Verdict::ServerFault => false,
            Verdict::Cancelled => return,
        };
        self.shared.window.record(now, [true, went_well]);
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged").finish_non_exhaustive()
    }
}

impl fmt::Debug for SuccessRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuccessRate").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod formula {
    use super::*;
    use proptest::prelude::*;

    fn policy(threshold: f64, aggression: f64) -> Policy {
        Policy { threshold, aggression, max: 1.0, fewest: 0, window: Duration::ZERO }
    }

    #[test]
    fn it_is_envoys() {
        // The curve of Envoy's documentation for a threshold of 95%: at a success rate of 50%.
        let share = |aggression| policy(0.95, aggression).share(1_000_000, 500_000);
        assert!((share(1.0) - 0.4737).abs() < 1e-3 && (share(2.0) - 0.6882).abs() < 1e-3);
        assert_eq!(policy(0.95, 1.0).share(100, 95), 0.0);
        // The SRE book: half of it well is just good enough for K = 2.
        assert_eq!(policy(0.5, 1.0).share(100, 50), 0.0);
        assert!((policy(0.5, 1.0).share(999, 0) - 0.999).abs() < 1e-9);
        assert_eq!(Policy { max: 0.8, ..policy(0.95, 1.0) }.share(999, 0), 0.8);
        assert_eq!(Policy { fewest: 100, ..policy(0.95, 1.0) }.share(99, 0), 0.0);
    }

    proptest! {
        /// A share, and no smaller where more fails.
        #[test]
        fn it_is_a_share(all in 1_u64..1_000_000, well in 0.0..1.0_f64, threshold in 0.01..1.0_f64, power in 0.1..10.0_f64) {
            let (policy, well) = (policy(threshold, power), (all as f64 * well) as u64);
            let share = policy.share(all, well);
            prop_assert!((0.0..=1.0).contains(&share));
            prop_assert!(policy.share(all, well / 2) >= share);
        }
    }
}
