use std::time::Duration;

use crate::time::Calendar;

/// How a limit counts. See [choosing one](super#algorithms).
///
/// Each is a function of what an account has done, the time and a cost: it is spent, can be after some time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// An account holds up to `burst` units, and one comes back each [`interval`](super::Rate::interval): the generic
    /// cell rate algorithm (ITU-T I.371). In any time `t` no more than `burst + t / interval` are spent.
    #[default]
    TokenBucket,
    /// No more than the rate's count in the window that ends now, as far as two counts can tell: that of the running
    /// window, and that of the one before, of which counts the part that the window ending now still covers. See
    /// [the formula](super#algorithms).
    SlidingWindow,
    /// No more than the rate's count in each window of the calendar: a second, a minute, an hour or a day as clocks show
    /// them, a week from Monday, a month and a year as long as they are, and any other period counted from the beginning
    /// of 1970. What was spent is whole again at once when the next window begins.
    FixedWindow {
        /// By whose clocks days begin.
        zone: Calendar,
    },
    /// One unit passes each [`interval`](super::Rate::interval), and who comes too early waits for its turn: requests
    /// are put in shape instead of refused. Who would have to wait longer is refused.
    ///
    /// In a list of which another limit is on Redis it refuses whom it would have to keep waiting.
    LeakyBucket {
        /// The longest wait.
        max_wait: Duration,
    },
}

impl Algorithm {
    /// A [fixed window](Self::FixedWindow) of the calendar in UTC.
    pub const CALENDAR: Self = Self::FixedWindow { zone: Calendar::UTC };

    /// Whether it counts by the wall clock. All others measure time, whatever the wall clock does.
    #[must_use]
    pub const fn is_by_calendar(self) -> bool {
        matches!(self, Self::FixedWindow { .. })
    }

    /// Whether it has requests wait.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::LeakyBucket { max_wait } if !max_wait.is_zero())
    }
}
