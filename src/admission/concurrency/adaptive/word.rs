use std::{fmt, time::Duration};

use crate::ratio::Ratio;

/// Finds a limit, step by step.
pub trait Algorithm: fmt::Debug + Send + 'static {
    /// The limit now.
    fn limit(&self) -> u32;

    /// Goes on from a limit that one before it has found, after a reload. Unless told it begins where it always does.
    fn resume(&mut self, limit: u32) {
        let _ = limit;
    }

    /// The next limit, by what was seen since the last step.
    fn step(&mut self, seen: &Seen) -> u32;
}

/// What was seen in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The mean latency of what went well, if anything did.
    pub rtt: Option<Duration>,
    /// How many requests were in flight at most.
    pub in_flight: u32,
    /// How many went well.
    pub samples: u32,
    /// How many were dropped: timeouts, resets, 503.
    pub drops: u32,
}

impl Seen {
    /// A window in which `samples` requests took `rtt` on average, and at most `in_flight` were in flight.
    #[must_use]
    pub const fn new(rtt: Duration, in_flight: u32, samples: u32) -> Self {
        Self { rtt: Some(rtt), in_flight, samples, drops: 0 }
    }

    /// The same, with so many drops.
    #[must_use]
    pub const fn drops(mut self, drops: u32) -> Self {
        self.drops = drops;
        self
    }

    /// Whether more than this share was dropped.
    #[must_use]
    pub fn drops_more_than(&self, share: Ratio) -> bool {
        let all = u64::from(self.samples) + u64::from(self.drops);
        u64::from(self.drops) * u64::from(share.denominator()) > all * u64::from(share.numerator())
    }
}

/// What is taken for the latency of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Latency {
    /// Until the response's head: long bodies, and clients that read slowly, do not count.
    #[default]
    Head,
    /// Until the end of the response's body.
    End,
}

/// A share as a number.
pub(super) fn fraction(share: Ratio) -> f64 {
    f64::from(share.numerator()) / f64::from(share.denominator())
}
