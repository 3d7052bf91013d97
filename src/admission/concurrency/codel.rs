use std::time::Duration;

use tokio::time::Instant;

use crate::time::after;

/// Tells a standing queue from a burst: controlled delay (RFC 8289), with the drop rule for servers.
///
/// A queue stands if even the shortest wait of an `interval` was longer than `target`: a burst is worked off within the
/// interval, and somebody waits hardly at all. While it stands, whoever has waited longer than twice the target is
/// dropped. RFC 8289 drops one packet, then faster and faster, until senders slow down; callers of a server do not
/// slow down, so the queue is cut to its good length at once (Maurer, "Fail at Scale", ACM Queue 13/8, 2015).
#[derive(Debug, Clone)]
pub(super) struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the interval ends, once one has begun.
    until: Option<Instant>,
    shortest: Duration,
    stands: bool,
}

impl CoDel {
    pub(super) const fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, until: None, shortest: Duration::MAX, stands: false }
    }

    /// Target and interval.
    pub(super) const fn terms(&self) -> (Duration, Duration) {
        (self.target, self.interval)
    }

    /// Somebody leaves the queue after `waited`. Whether they are to be dropped.
    pub(super) fn drops(&mut self, now: Instant, waited: Duration) -> bool {
        match self.until {
            Some(until) if now < until => self.shortest = self.shortest.min(waited),
            Some(until) => {
                // An interval in which nobody came has no queue.
                self.stands = self.shortest > self.target && now < after(until, self.interval);
                self.begin(now, waited);
            }
            None => self.begin(now, waited),
        }
        self.stands && waited > self.target * 2
    }

    /// The queue is empty: whoever comes now waits not at all.
    pub(super) const fn empty(&mut self) {
        self.shortest = Duration::ZERO;
    }

    fn begin(&mut self, now: Instant, waited: Duration) {
        self.until = Some(after(now, self.interval));
        self.shortest = waited;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn codel() -> CoDel {
        CoDel::new(5 * MS, 100 * MS)
    }

    #[test]
    fn a_burst_is_let_pass() {
        let (mut codel, start) = (codel(), Instant::now());
        // Waits up to 80 ms that fall to nothing within the interval, again and again.
        for round in 0..10 {
            for step in 0..90 {
                let waited = (80 * MS).saturating_sub(step * MS);
                assert!(!codel.drops(start + (round * 100 + step) * MS, waited), "{round} {step}");
            }
        }
    }

    #[test]
    fn a_standing_queue_is_cut_to_twice_the_target() {
        let (mut codel, start) = (codel(), Instant::now());
        assert!((0..100).all(|at| !codel.drops(start + at * MS, 50 * MS)), "not before an interval is over");
        assert!(codel.drops(start + 100 * MS, 50 * MS));
        assert!(!codel.drops(start + 101 * MS, 10 * MS));
        assert!(codel.drops(start + 102 * MS, 11 * MS));
        // One short wait in an interval is enough to end it.
        assert!(codel.drops(start + 150 * MS, 50 * MS));
        codel.empty();
        assert!(!codel.drops(start + 201 * MS, 50 * MS));
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let (mut codel, start) = (codel(), Instant::now());
        codel.drops(start, 50 * MS);
        assert!(!codel.drops(start + 10_000 * MS, 50 * MS));
    }

    proptest! {
        /// Nobody who waited at most twice the target is ever dropped.
        #[test]
        fn short_waits_are_safe(waits in proptest::collection::vec((0_u32..50, 0_u32..200), 0..500)) {
            let (mut codel, mut now) = (codel(), Instant::now());
            for (gap, waited) in waits {
                now += gap * MS;
                let dropped = codel.drops(now, waited * MS);
                prop_assert!(!dropped || waited > 10);
            }
        }
    }
}
