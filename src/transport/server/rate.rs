use std::{num::NonZeroU32, time::Duration};

/// How fast a peer must send, or read, at least: so many bytes a second on average, once a grace is over.
///
/// Only time in which we wait for the peer counts. What it was fast in stays to its credit.
///
/// ```
/// use std::num::NonZeroU32;
/// use portcullis::transport::MinimumRate;
///
/// // As Kestrel: 240 bytes a second after 5 seconds.
/// assert_eq!(MinimumRate::default(), MinimumRate::per_second(NonZeroU32::new(240).unwrap()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct MinimumRate {
    bytes: NonZeroU32,
    grace: Duration,
}

impl MinimumRate {
    /// So many bytes a second, with a grace of 5 s.
    pub const fn per_second(bytes: NonZeroU32) -> Self {
        Self { bytes, grace: Duration::from_secs(5) }
    }

    /// How long the peer may take whatever it sends; 5 s unless told.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long so many bytes may take.
    pub(super) fn time_for(self, bytes: u64) -> Duration {
        let second = Duration::from_secs(1).as_nanos();
        let nanos = u128::from(bytes) * second / u128::from(self.bytes.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(self.grace)
    }

    pub(super) const fn grace_time(self) -> Duration {
        self.grace
    }
}

impl Default for MinimumRate {
    /// 240 bytes a second, with a grace of 5 s.
    fn default() -> Self {
        const RATE: NonZeroU32 = NonZeroU32::new(240).unwrap();
        Self::per_second(RATE)
    }
}

/// The least of each kind; `None`: as slow as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) head: Option<MinimumRate>,
    pub(crate) body: Option<MinimumRate>,
    pub(crate) response: Option<MinimumRate>,
}

impl Default for Rates {
    fn default() -> Self {
        let rate = Some(MinimumRate::default());
        Self { head: rate, body: rate, response: rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_as_long_as_the_rate_says_and_never_less_than_the_grace() {
        let rate = MinimumRate::per_second(NonZeroU32::new(100).unwrap()).grace(Duration::from_secs(2));
        for (bytes, millis) in [(0, 2_000), (200, 2_000), (201, 2_010), (1_000, 10_000)] {
            assert_eq!(rate.time_for(bytes), Duration::from_millis(millis), "{bytes}");
        }
        assert!(rate.time_for(u64::MAX) > Duration::from_secs(1 << 33));
    }
}
