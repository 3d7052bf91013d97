//! What the accounts of a limit have spent. It outlives a change of what they may spend.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    queue::Lines,
    rate::nanos,
    store::{At, Store},
    tally::Tally,
};
use crate::{head::Head, key::KeySeed, time::WallClock};

pub(super) struct Ledger {
    /// Tables of several limits are locked in the order of these.
    pub(super) id: u64,
    pub(super) seed: KeySeed,
    pub(super) store: Store,
    pub(super) tally: Tally,
    pub(super) lines: Lines,
    /// Since then time is counted, where it is not the calendar's.
    begin: Instant,
    calendar: Option<WallClock>,
}

impl Ledger {
    /// Of at most `most` accounts, that count time by this clock or, without one, as it goes by.
    pub(super) fn new(most: NonZeroU32, calendar: Option<WallClock>) -> Self {
        Self {
            id: next(),
            seed: KeySeed::new(),
            store: Store::with_most(most),
            tally: Tally::default(),
            lines: Lines::default(),
            begin: Instant::now(),
            calendar,
        }
    }

    /// Another with room for so many, and with what is known of the accounts by now.
    pub(super) fn with_most(&self, most: NonZeroU32, at: At<'_>) -> Self {
        let (seed, begin, calendar) = (self.seed, self.begin, self.calendar.clone());
        let other = Self { seed, begin, ..Self::new(most, calendar) };
        self.store.tell(&other.store, at);
        other
    }

    /// The time by the clock that accounts are counted by, in nanoseconds.
    #[inline]
    pub(super) fn now(&self, head: &mut Head<'_>) -> u64 {
        self.date().unwrap_or_else(|| self.time(head.now()))
    }

    /// As [`now`](Self::now), where there is no head.
    pub(super) fn now_anyway(&self) -> u64 {
        self.date().unwrap_or_else(|| self.time(Instant::now()))
    }

    /// The moment of a time by a clock that is not the calendar's.
    pub(super) fn instant(&self, time: u64) -> Instant {
        crate::time::after(self.begin, Duration::from_nanos(time))
    }

    fn time(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.begin))
    }

    #[inline]
    fn date(&self) -> Option<u64> {
        let now = self.calendar.as_ref()?.now();
        Some(now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos))
    }
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
