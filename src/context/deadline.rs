use std::time::Duration;

use tokio::time::Instant;

use crate::time::after;

/// By how much sooner a server may say that the time is over: what its own clock, its margin and the way back take.
const DUE: Duration = Duration::from_millis(100);

/// When a request's caller stops waiting.
///
/// The caller set it, or a timeout of this gateway [imposed](Self::imposed) it. Only the first is the caller's own
/// fault when it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    at: Instant,
    imposed: bool,
}

impl Deadline {
    /// At this time.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self { at: instant, imposed: false }
    }

    /// So long after `now`. A time too far to be told is as good as a century.
    #[must_use]
    pub fn after(now: Instant, time: Duration) -> Self {
        Self::at(after(now, time))
    }

    /// The same time, set by this gateway and not by the caller.
    #[must_use]
    pub const fn imposed(self) -> Self {
        Self { imposed: true, ..self }
    }

    /// Whether this gateway set it, and not the caller.
    #[must_use]
    pub const fn is_imposed(self) -> bool {
        self.imposed
    }

    /// Whether it is the caller's, and over in 100 ms or less: a server that says now that it is over has kept to it, and
    /// [is not to blame](crate::outcome::Outcome::judgement).
    #[must_use]
    pub fn is_callers_and_due(self, now: Instant) -> bool {
        !self.imposed && self.left(now) <= DUE
    }

    /// This deadline or, if that is sooner, one imposed at `instant`.
    #[must_use]
    pub fn or_sooner(self, instant: Instant) -> Self {
        if instant < self.at { Self::at(instant).imposed() } else { self }
    }

    /// So much sooner: who must be done by then leaves time for what comes after.
    #[must_use]
    pub fn less(self, margin: Duration) -> Self {
        Self { at: self.at.checked_sub(margin).unwrap_or(self.at), ..self }
    }

    /// The sooner of both.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// The time.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// What is left of it; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
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
