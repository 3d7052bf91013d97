use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What time it is, by the calendar.
///
/// It is the system's clock, or one that a test holds in its hands ([`ManualClock`]). Like every wall clock it
/// may step in both directions; who measures a duration with it is mistaken.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    manual: Option<ManualClock>,
}

impl WallClock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.manual.as_ref().map_or_else(SystemTime::now, ManualClock::now)
    }

    /// The time now in whole seconds since 1970-01-01 UTC, as tokens and certificates count; 0 before that.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The hands of a clock that stands still until it is set. For tests.
///
/// Clones are the same clock.
#[derive(Clone)]
pub struct ManualClock {
    now: Arc<Mutex<SystemTime>>,
}

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn new(now: SystemTime) -> Self {
        Self { now: Arc::new(Mutex::new(now)) }
    }

    /// The clock's face, to be given to what is tested.
    #[must_use]
    pub fn clock(&self) -> WallClock {
        WallClock { manual: Some(self.clone()) }
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows this time from now on.
    pub fn set(&self, now: SystemTime) {
        self.update(|shown| *shown = now);
    }

    /// Goes forward; a time that cannot be expressed leaves it as it is.
    pub fn advance(&self, by: Duration) {
        self.update(|shown| *shown = shown.checked_add(by).unwrap_or(*shown));
    }

    /// Goes backward, as a clock that is corrected does; a time that cannot be expressed leaves it as it is.
    pub fn step_back(&self, by: Duration) {
        self.update(|shown| *shown = shown.checked_sub(by).unwrap_or(*shown));
    }

    fn update(&self, change: impl FnOnce(&mut SystemTime)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

impl From<ManualClock> for WallClock {
    fn from(hands: ManualClock) -> Self {
        hands.clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_systems_clock_is_the_systems() {
        let before = SystemTime::now();
        let now = WallClock::system().now();
        // The system's clock may step, but hardly by a day while this runs.
        let day = 86_400 * SECOND;
        assert!(now + day > before && now < before + day);
    }

    #[test]
    fn hands_move_every_clone_both_ways() {
        let hands = ManualClock::new(SystemTime::UNIX_EPOCH + 100 * SECOND);
        let (clock, clone) = (hands.clock(), WallClock::from(hands.clone()).clone());
        hands.advance(5 * SECOND);
        assert_eq!((clock.unix_seconds(), clone.unix_seconds()), (105, 105));
        hands.step_back(55 * SECOND);
        assert_eq!(clock.unix_seconds(), 50);
        hands.set(SystemTime::UNIX_EPOCH - SECOND);
        assert_eq!(clock.unix_seconds(), 0);
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH - SECOND);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let hands = ManualClock::new(SystemTime::UNIX_EPOCH);
        hands.advance(Duration::MAX);
        assert_eq!(hands.now(), SystemTime::UNIX_EPOCH);
        hands.step_back(Duration::MAX);
        assert_eq!(hands.now(), SystemTime::UNIX_EPOCH);
    }
}
