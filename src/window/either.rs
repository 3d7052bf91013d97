use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::Instant;

use super::counted::Counted;
use super::timed::Timed;

/// `N` counters over a sliding window. See the [module](super).
///
/// It is shared by reference; its owner puts it into an `Arc` with what else belongs to it.
pub struct Window<const N: usize>(Kind<N>);

enum Kind<const N: usize> {
    Counted(Counted<N>),
    Timed(Timed<N>),
}

impl<const N: usize> Window<N> {
    /// The results of the last `span`, which leave in so many buckets.
    ///
    /// It takes 8 bytes for each counter and bucket. A bucket lasts at least a nanosecond.
    #[must_use]
    pub fn by_time(span: Duration, buckets: NonZeroU16) -> Self {
        Self(Kind::Timed(Timed::new(Instant::now(), span, buckets)))
    }

    /// The last `results` results, of up to 32 counters; more do not compile.
    ///
    /// It takes 4 bytes for each result.
    #[must_use]
    pub fn by_count(results: NonZeroU16) -> Self {
        Self(Kind::Counted(Counted::new(results)))
    }

    /// Tells of one result, and for which of the counters it counts.
    pub fn record(&self, now: Instant, counts_for: [bool; N]) {
        self.record_at(|| now, counts_for);
    }

    /// The same; by number, the clock is not read.
    pub(crate) fn record_at(&self, now: impl FnOnce() -> Instant, counts_for: [bool; N]) {
        match &self.0 {
            Kind::Counted(counted) => counted.record(counts_for),
            Kind::Timed(timed) => timed.record(now(), counts_for),
        }
    }

    /// The counters over the results that are in the window.
    ///
    /// By time this adds up the buckets; by number it only reads.
    #[must_use]
    pub fn totals(&self, now: Instant) -> [u64; N] {
        match &self.0 {
            Kind::Counted(counted) => counted.totals(),
            Kind::Timed(timed) => timed.totals(now),
        }
    }

    /// Forgets all results. Those recorded at the same time may stay.
    pub fn clear(&self) {
        match &self.0 {
            Kind::Counted(counted) => counted.clear(),
            Kind::Timed(timed) => timed.clear(),
        }
    }
}

impl<const N: usize> fmt::Debug for Window<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Window");
        match &self.0 {
            Kind::Counted(counted) => shown.field("results", &counted.len()),
            Kind::Timed(timed) => shown.field("bucket", &timed.bucket()).field("buckets", &timed.len()),
        };
        shown.finish_non_exhaustive()
    }
}
