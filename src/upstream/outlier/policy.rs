use std::{num::NonZeroU32, time::Duration};

use crate::{chance::Chance, ratio::Ratio};

const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// When an endpoint is left out, and for how long. See the [module docs](super).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Policy {
    pub(super) consecutive: Option<NonZeroU32>,
    pub(super) gateway: Option<NonZeroU32>,
    pub(super) local: Option<NonZeroU32>,
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_percentage: Option<FailurePercentage>,
    pub(super) interval: Duration,
    base: Duration,
    longest: Duration,
    jitter: Duration,
    most: Ratio,
    pub(super) shadow: bool,
}

impl Policy {
    /// How many endpoints are enough to be compared, unless told.
    pub const ENDPOINTS: NonZeroU32 = FIVE;
    /// For how long an endpoint is left out the first time, unless told.
    pub const EJECTION: Duration = Duration::from_secs(30);
    /// For how long it is left out at most, unless told.
    pub const LONGEST_EJECTION: Duration = Duration::from_secs(300);

    /// Leaves out who fails 5 times in a row, whose success rate stands out, or who fails 85 of 100 requests: for 30
    /// seconds, growing to 300, a tenth of the endpoints at most.
    pub const fn new() -> Self {
        Self {
            consecutive: Some(FIVE),
            gateway: None,
            local: None,
            success_rate: Some(SuccessRate::new()),
            failure_percentage: Some(FailurePercentage::new()),
            interval: Duration::from_secs(10),
            base: Self::EJECTION,
            longest: Self::LONGEST_EJECTION,
            jitter: Duration::ZERO,
            most: Ratio::percent(10),
            shadow: false,
        }
    }

    /// How many failures in a row: statuses of 500 and above, gRPC codes that blame the server, and no answer. 5 unless
    /// told; `None`: no number is too many.
    pub fn consecutive_5xx(mut self, failures: impl Into<Option<NonZeroU32>>) -> Self {
        self.consecutive = failures.into();
        self
    }

    /// How many in a row of 502, 503 and 504, of gRPC's `UNAVAILABLE` and `DEADLINE_EXCEEDED`, and of no answer. None unless
    /// told.
    pub fn consecutive_gateway_failures(mut self, failures: impl Into<Option<NonZeroU32>>) -> Self {
        self.gateway = failures.into();
        self
    }

    /// How many times in a row no answer came: no connection, one that broke, none in time. These count here alone then,
    /// and not as failures of the other kinds. Unless told they count there.
    pub fn consecutive_local_origin_failures(mut self, failures: impl Into<Option<NonZeroU32>>) -> Self {
        self.local = failures.into();
        self
    }

    /// How far the share of successes may lie below that of the others. `None`: anywhere.
    pub fn success_rate(mut self, rate: impl Into<Option<SuccessRate>>) -> Self {
        self.success_rate = rate.into();
        self
    }

    /// Which share of failures is too much, whatever that of the others. `None`: none is.
    pub fn failure_percentage(mut self, share: impl Into<Option<FailurePercentage>>) -> Self {
        self.failure_percentage = share.into();
        self
    }

    /// How often shares are looked at, and ejections end. 10 seconds unless told.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// For how long an endpoint is left out: `base` the first time, twice that the second, and no longer than `longest`;
    /// each interval without an ejection takes one back. 30 and 300 seconds unless told.
    pub fn ejection_time(mut self, base: Duration, longest: Duration) -> Self {
        (self.base, self.longest) = (base, longest);
        self
    }

    /// How much of chance comes on top of each ejection, so that those who were left out together do not come back
    /// together. Nothing unless told.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many may be left out at a time; one may in any case, but never the last that takes requests. A tenth unless told.
    pub fn max_ejected(mut self, share: Ratio) -> Self {
        self.most = share;
        self
    }

    /// Judges, counts and logs, and leaves nobody out. `false` unless told.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// Whether there is nothing by which anybody could be left out.
    #[must_use]
    pub const fn judges_nothing(&self) -> bool {
        self.consecutive.is_none()
            && self.gateway.is_none()
            && self.local.is_none()
            && self.success_rate.is_none()
            && self.failure_percentage.is_none()
    }

    /// How many of `endpoints` may be left out.
    pub(super) fn most(&self, endpoints: usize) -> usize {
        let (n, d) = (u64::from(self.most.numerator()), u64::from(self.most.denominator()));
        usize::try_from(endpoints as u64 * n / d).unwrap_or(usize::MAX).max(1)
    }

    /// For how long, the nth time in a row.
    pub(super) fn time(&self, times: u32, chance: &Chance) -> Duration {
        let grown = self.base.saturating_mul(times).min(self.longest.max(self.base));
        grown.saturating_add(chance.up_to(self.jitter))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// An endpoint stands out if the share of its successes is more than so many standard deviations below the mean of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct SuccessRate {
    pub(super) thousandths: u32,
    pub(super) endpoints: NonZeroU32,
    pub(super) requests: NonZeroU32,
}

impl SuccessRate {
    /// How many requests of each are enough, unless told.
    pub const REQUESTS: NonZeroU32 = NonZeroU32::new(100).unwrap();

    /// 1.9 standard deviations, from 5 endpoints on that have had 100 requests each in an interval.
    pub const fn new() -> Self {
        Self { thousandths: 1900, endpoints: FIVE, requests: Self::REQUESTS }
    }

    /// How many standard deviations, in thousandths of one.
    pub const fn stdev_factor(mut self, thousandths: u32) -> Self {
        self.thousandths = thousandths;
        self
    }

    /// From how many endpoints on, of which each had so many requests in an interval. Others are not compared.
    pub const fn from(mut self, endpoints: NonZeroU32, requests: NonZeroU32) -> Self {
        (self.endpoints, self.requests) = (endpoints, requests);
        self
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self::new()
    }
}

/// An endpoint that fails this share of its requests is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct FailurePercentage {
    pub(super) threshold: Ratio,
    pub(super) endpoints: NonZeroU32,
    pub(super) requests: NonZeroU32,
}

impl FailurePercentage {
    /// How many requests of each are enough, unless told.
    pub const REQUESTS: NonZeroU32 = NonZeroU32::new(50).unwrap();

    /// 85%, from 5 endpoints on that have had 50 requests each in an interval.
    pub const fn new() -> Self {
        Self { threshold: Ratio::percent(85), endpoints: FIVE, requests: Self::REQUESTS }
    }

    /// Which share is too much.
    pub const fn threshold(mut self, share: Ratio) -> Self {
        self.threshold = share;
        self
    }

    /// From how many endpoints on, of which each had so many requests in an interval. Others are not looked at.
    pub const fn from(mut self, endpoints: NonZeroU32, requests: NonZeroU32) -> Self {
        (self.endpoints, self.requests) = (endpoints, requests);
        self
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self::new()
    }
}
