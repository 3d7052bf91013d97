//! When the keys are fetched next, and how long the present ones may be used. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
    time::after,
};

/// What is chosen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// How long a set is fresh whose provider does not say.
    pub(super) lifetime: Duration,
    /// What lifetimes are never taken to be shorter than, whatever a provider says.
    pub(super) least: Duration,
    /// What lifetimes are never taken to be longer than.
    pub(super) most: Duration,
    /// How far apart fetches are that requests cause.
    pub(super) cooldown: Duration,
    /// How long a set may be used after its lifetime, if no other can be had.
    pub(super) stale: Duration,
    /// How long to wait after fetches that failed.
    pub(super) backoff: Backoff,
}

impl Default for Times {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            lifetime: 10 * MINUTE,
            least: MINUTE,
            most: 60 * MINUTE,
            cooldown: Duration::from_secs(10),
            stale: 24 * 60 * MINUTE,
            backoff: Backoff::new(Duration::from_secs(1)).max(MINUTE).jitter(Jitter::Equal),
        }
    }
}

/// One source's fetches.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    due: Instant,
    /// When the last one began.
    begun: Option<Instant>,
    /// How many have failed since the last that did not.
    failures: u32,
    /// When the set is no longer fresh, and when it may not be used any more.
    stale: Option<Instant>,
    over: Option<Instant>,
    /// Whether requests have asked for an earlier one.
    hurried: bool,
}

impl Schedule {
    /// The first fetch is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now, begun: None, failures: 0, stale: None, over: None, hurried: false }
    }

    /// When there is something to do: to fetch, or to forget the set.
    pub(super) fn next(&self) -> Instant {
        self.over.map_or(self.due, |over| over.min(self.due))
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// When the next fetch is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the set is no longer fresh.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.stale.is_some_and(|stale| stale <= now)
    }

    /// Whether the next fetch is as early as requests can make it.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A request needs a key that is not here.
    pub(super) fn hurry(&mut self, times: &Times) {
        self.hurried = true;
        if let Some(begun) = self.begun {
            self.due = self.due.min(soon(begun, times.cooldown));
        }
    }

    /// Whether the set may not be used any more. Tells it once.
    pub(super) fn ends(&mut self, now: Instant) -> bool {
        self.over.take_if(|over| *over <= now).is_some()
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.hurried = false;
    }

    /// A set has come that says that it is fresh for this long. The next is fetched in the last fifth of that time, not
    /// in its last tenth, and by everybody at another moment.
    pub(super) fn succeed(&mut self, now: Instant, told: Option<Duration>, times: &Times, chance: &Chance) {
        let lifetime = told.unwrap_or(times.lifetime).min(times.most).max(times.least);
        let tenth = u64::try_from(lifetime.as_nanos() / 10).unwrap_or(u64::MAX);
        let ahead = Duration::from_nanos(tenth.saturating_add(chance.below(tenth.saturating_add(1))));
        let stale = after(now, lifetime);
        self.due = soon(now, lifetime.saturating_sub(ahead));
        self.stale = Some(stale);
        self.over = Some(after(stale, times.stale));
        self.failures = 0;
        self.hurried = false;
    }

    /// No set has come.
    pub(super) fn fail(&mut self, now: Instant, times: &Times, chance: &Chance) {
        self.failures = self.failures.saturating_add(1);
        self.due = soon(now, times.backoff.delay(self.failures, chance));
    }

    /// Until when the last set that has come tells which keys there are not; `None`: nothing tells.
    pub(super) fn settled(&self, times: &Times) -> Option<Instant> {
        let begun = self.begun.filter(|_| self.failures == 0)?;
        Some(after(begun, times.cooldown))
    }

    /// Goes on under other settings.
    pub(super) fn under(mut self, now: Instant, times: &Times) -> Self {
        self.due = self.due.min(after(now, times.most));
        self.over = self.over.map(|over| over.min(after(self.stale.unwrap_or(now), times.stale)));
        self
    }
}

/// So long after `now`, and not at once, whatever was chosen: that would be without a pause.
fn soon(now: Instant, wait: Duration) -> Instant {
    after(now, wait.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (Schedule, Instant, Times, Chance) {
        let now = Instant::now();
        (Schedule::new(now), now, Times::default(), Chance::seeded(1))
    }

    #[test]
    fn the_first_is_due_at_once_and_the_next_ahead_of_the_end() {
        let (mut schedule, now, times, chance) = start();
        assert!(schedule.is_due(now));
        let mut moments = std::collections::HashSet::new();
        for _ in 0..100 {
            schedule.begin(now);
            schedule.succeed(now, Some(1000 * SECOND), &times, &chance);
            let wait = schedule.due() - now;
            assert!((800 * SECOND..=900 * SECOND).contains(&wait), "{wait:?}");
            moments.insert(wait);
        }
        assert!(moments.len() > 90, "not everybody at once");
    }

    #[test]
    fn what_a_provider_says_is_kept_within_bounds() {
        let (mut schedule, now, times, chance) = start();
        for (told, fresh) in [
            (None, 600),
            (Some(Duration::ZERO), 60),
            (Some(59 * SECOND), 60),
            (Some(700 * SECOND), 700),
            (Some(Duration::MAX), 3600),
        ] {
            schedule.succeed(now, told, &times, &chance);
            assert!(!schedule.is_stale(now + (fresh - 1) * SECOND), "{told:?}");
            assert!(schedule.is_stale(now + fresh * SECOND), "{told:?}");
            assert!(!schedule.ends(now + (fresh + 86_399) * SECOND), "{told:?}");
            assert!(schedule.ends(now + (fresh + 86_400) * SECOND), "{told:?}");
            assert!(!schedule.ends(now + (fresh + 86_400) * SECOND), "told once");
        }
    }

    #[test]
    fn requests_hurry_a_fetch_once_in_a_cooldown() {
        let (mut schedule, now, times, chance) = start();
        schedule.begin(now);
        schedule.succeed(now + SECOND, None, &times, &chance);
        let planned = schedule.due();
        schedule.hurry(&times);
        assert_eq!(schedule.due(), now + 10 * SECOND);
        schedule.hurry(&times);
        assert_eq!(schedule.due(), now + 10 * SECOND);
        assert!(planned > schedule.due());
        schedule.begin(now + 10 * SECOND);
        assert!(!schedule.is_hurried());
        // It fails: whoever asks again does not make it come sooner than the back-off, but no later than the cool-down.
        schedule.fail(now + 10 * SECOND, &times, &chance);
        let backoff = schedule.due();
        schedule.hurry(&times);
        assert_eq!(schedule.due(), backoff.min(now + 20 * SECOND));
        for _ in 0..20 {
            schedule.fail(now + 10 * SECOND, &times, &chance);
        }
        schedule.hurry(&times);
        assert_eq!(schedule.due(), now + 20 * SECOND);
    }

    #[test]
    fn only_a_set_that_has_come_just_now_tells_what_keys_there_are_not() {
        let (mut schedule, now, times, chance) = start();
        assert_eq!(schedule.settled(&times), None);
        schedule.begin(now);
        schedule.succeed(now + SECOND, None, &times, &chance);
        assert_eq!(schedule.settled(&times), Some(now + 10 * SECOND));
        schedule.fail(now + 2 * SECOND, &times, &chance);
        assert_eq!(schedule.settled(&times), None);
    }

    #[test]
    fn there_is_a_pause_whatever_is_chosen() {
        let (mut schedule, now, _, chance) = start();
        let zero = Duration::ZERO;
        let backoff = Backoff::new(zero);
        let times = Times { lifetime: zero, least: zero, most: zero, cooldown: zero, stale: zero, backoff };
        schedule.begin(now);
        schedule.succeed(now, None, &times, &chance);
        assert!(schedule.due() > now);
        schedule.hurry(&times);
        assert!(schedule.due() > now);
        schedule.fail(now, &times, &chance);
        assert!(schedule.due() > now);
    }

    #[test]
    fn other_settings_are_in_force_at_once() {
        let (mut schedule, now, times, chance) = start();
        schedule.succeed(now, None, &times, &chance);
        let strict = Times { most: SECOND, stale: 5 * SECOND, ..times };
        let mut schedule = schedule.under(now, &strict);
        assert_eq!(schedule.due(), now + SECOND);
        assert!(schedule.ends(now + 605 * SECOND));
    }

    fn duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0..100_000_000u64).prop_map(Duration::from_millis)
        ]
    }

    proptest! {
        /// Whatever providers say and however they fail: never more often than settings allow, never later than they
        /// demand, and the set is used no longer than it may.
        #[test]
        fn keeps_its_bounds(
            told in proptest::option::of(duration()),
            least in duration(), most in duration(), stale in duration(), cooldown in duration(),
            fails in 0..40u32, wanted: bool, seed: u64,
        ) {
            let times = Times { least, most, stale, cooldown, ..Times::default() };
            let (now, chance) = (Instant::now(), Chance::seeded(seed));
            let century = Duration::from_secs(100 * 365 * 86_400);
            let mut schedule = Schedule::new(now);
            schedule.begin(now);
            schedule.succeed(now, told, &times, &chance);
            let fresh = told.unwrap_or(times.lifetime).min(most).max(least);
            let wait = schedule.due() - now;
            let pause = Duration::from_millis(1);
            prop_assert!(wait <= fresh.max(pause) && wait >= (fresh / 10 * 8).min(century));
            prop_assert!(schedule.next() <= schedule.due());
            prop_assert!(!schedule.ends(now + fresh.min(century)) || stale.is_zero());
            let last = now + fresh.min(century) + SECOND;
            for n in 1..=fails {
                schedule.begin(last);
                schedule.fail(last, &times, &chance);
                prop_assert_eq!(schedule.failures(), n);
                let wait = schedule.due() - last;
                prop_assert!(wait >= SECOND / 2 && wait <= 60 * SECOND);
                if wanted {
                    schedule.hurry(&times);
                    prop_assert!(schedule.due() - last <= cooldown.max(wait).max(pause));
                    prop_assert!(schedule.due() - last >= cooldown.min(wait).max(pause));
                }
            }
            prop_assert!(schedule.ends(now + 2 * century + SECOND) || schedule.over.is_none());
        }
    }
}
