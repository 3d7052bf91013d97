use std::time::Duration;

use tokio::time::Instant;

/// When a request's caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// At this time.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// So long after `now`. A time too far to be told is as good as a century.
    #[must_use]
    pub fn after(now: Instant, time: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        Self(now + time.min(CENTURY))
    }

    /// The time.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// What is left of it; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_the_far_future_does_not_overflow() {
        let now = Instant::now();
        assert!(Deadline::after(now, Duration::MAX).left(now) > Duration::from_secs(1 << 30));
        assert_eq!(Deadline::after(now, Duration::ZERO).left(now), Duration::ZERO);
    }
}
