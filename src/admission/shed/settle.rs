use std::time::Duration;

use tokio::time::Instant;

/// How long memory must not grow until its pressure is gone.
const FIRST: Duration = Duration::from_secs(30);
/// The longest that becomes.
const LONGEST: Duration = Duration::from_secs(600);
/// What grows by more than this share of all, grows.
const GROWTH: f64 = 0.005;
/// What falls by more than this share of all may not grow to where it was.
const FALL: f64 = 0.02;

/// How the pressure of memory goes although what is taken stays taken.
///
/// An allocator keeps pages for those who come, and nobody outside can tell them from pages in use. So refusing may free
/// memory and never show it. But who is let in then takes those pages, and what is taken does not grow; where it does grow,
/// they were in use. So pressure stays for half of a patience after the last growth, goes evenly in the other half, and is
/// whole again with the next growth. Growth after some have been let in doubles the patience: what needs all its memory is not
/// tried again and again. It begins anew when there is no pressure.
#[derive(Debug, Clone)]
pub(super) struct Settle {
    /// What may be taken without growing, and since when it was not more. Nothing while there is no pressure.
    level: Option<(f64, Instant)>,
    patience: Duration,
}

impl Settle {
    pub(super) const fn new() -> Self {
        Self { level: None, patience: FIRST }
    }

    /// What is left at `now` of the pressure of this reading.
    pub(super) fn settled(&mut self, now: Instant, reading: f64, pressure: f64) -> f64 {
        if pressure <= 0.0 {
            *self = Self::new();
            return 0.0;
        }
        let left = self.level.map_or(1.0, |(_, since)| self.left(now, since));
        match &mut self.level {
            Some((level, _)) if reading <= *level => {
                *level = level.min(reading + FALL);
                pressure * left
            }
            grown => {
                *grown = Some((reading + GROWTH, now));
                if left < 1.0 {
                    self.patience = (self.patience * 2).min(LONGEST);
                }
                pressure
            }
        }
    }

    fn left(&self, now: Instant, since: Instant) -> f64 {
        let gone = now.saturating_duration_since(since).as_secs_f64() / self.patience.as_secs_f64();
        (2.0 - 2.0 * gone).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is left in percent, second by second.
    fn run(settle: &mut Settle, from: Instant, readings: impl IntoIterator<Item = f64>) -> Vec<u32> {
        let at = |(second, reading)| settle.settled(from + second * SECOND, reading, 1.0);
        (0_u32..).zip(readings).map(at).map(|left| (left * 100.0).round() as u32).collect()
    }

    #[test]
    fn what_stays_taken_presses_for_a_while() {
        let seen = run(&mut Settle::new(), Instant::now(), [0.95; 40]);
        assert!(seen[..=15].iter().all(|left| *left == 100), "{seen:?}");
        assert_eq!((seen[18], seen[21], seen[24], seen[27]), (80, 60, 40, 20));
        assert!(seen[30..].iter().all(|left| *left == 0));
        // As an allocator breathes.
        let breathes = (0..40).map(|second| if second % 3 == 0 { 0.95 } else { 0.935 });
        assert_eq!(run(&mut Settle::new(), Instant::now(), breathes), seen);
    }

    #[test]
    fn what_grows_presses_on() {
        let grows = (0..100).map(|second| 0.85 + 0.001 * f64::from(second));
        assert!(run(&mut Settle::new(), Instant::now(), grows).iter().all(|left| *left == 100));
    }

    /// A process that needs all it has takes more whenever some are let in, and is left alone longer and longer.
    #[test]
    fn growth_when_some_are_let_in_is_remembered() {
        let (mut settle, begin) = (Settle::new(), Instant::now());
        let (mut reading, mut grown) = (0.9, Vec::new());
        for second in 0..3600_u32 {
            let left = settle.settled(begin + second * SECOND, reading, 1.0);
            if left < 0.5 {
                reading += 0.01;
                grown.push(second);
            }
        }
        let gaps: Vec<u32> = grown.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [47, 92, 182, 362, 452, 452, 452, 452, 452, 452]);
        // It is forgotten once there was no pressure.
        let later = begin + 3600 * SECOND;
        assert_eq!(settle.settled(later, 0.5, 0.0), 0.0);
        let seen = run(&mut settle, later + SECOND, [0.9; 31]);
        assert_eq!((seen[0], seen[30]), (100, 0));
    }

    #[test]
    fn what_was_given_back_may_not_be_taken_again() {
        let (mut settle, begin) = (Settle::new(), Instant::now());
        run(&mut settle, begin, [0.95; 31]);
        assert_eq!(run(&mut settle, begin + 31 * SECOND, [0.88, 0.89, 0.91, 0.95]), [0, 0, 100, 100]);
    }

    proptest! {
        /// It never presses more than the reading does, and does when it has grown.
        #[test]
        fn it_is_a_share(readings in proptest::collection::vec((0_u32..100, 0.0..1.0_f64), 1..100)) {
            let (mut settle, mut now, mut most) = (Settle::new(), Instant::now(), 0.0_f64);
            for (gap, reading) in readings {
                now += gap * SECOND;
                let left = settle.settled(now, reading, reading);
                prop_assert!((0.0..=reading).contains(&left));
                if reading > most + GROWTH {
                    prop_assert_eq!(left, reading);
                }
                most = most.max(reading);
            }
        }
    }
}
