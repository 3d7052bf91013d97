//! What the accounts of a limit have spent. It outlives a change of what they may spend.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    judge::Judge,
    prices::{Prices, Unit},
    queue::Queues,
    rate::nanos,
    store::{At, Store},
    tally::Tally,
};
use crate::{head::Head, key::KeySeed, time::WallClock};

pub(super) struct Ledger {
    /// Tables of several limits are locked in the order of these.
    pub(super) id: u64,
    pub(super) seed: KeySeed,
    pub(super) most: NonZeroU32,
    pub(super) prices: Arc<Prices>,
    store: OnceLock<Store>,
    /// Whose accounts are taken over by the first request, and who reads them.
    elder: Mutex<Option<(Arc<Self>, Judge)>>,
    pub(super) tally: Tally,
    pub(super) queues: Queues,
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
            most,
            prices: Arc::default(),
            store: OnceLock::new(),
            elder: Mutex::default(),
            tally: Tally::default(),
            queues: Queues::default(),
            begin: Instant::now(),
            calendar,
        }
    }

    /// Another with room for so many, which goes on with what is known of the accounts when it is first used.
    pub(super) fn with_most(self: &Arc<Self>, most: NonZeroU32, judge: Judge) -> Self {
        let (seed, begin, calendar) = (self.seed, self.begin, self.calendar.clone());
        let elder = Mutex::new(Some((Arc::clone(self), judge)));
        Self { seed, begin, prices: Arc::clone(&self.prices), elder, ..Self::new(most, calendar) }
    }

    /// The accounts.
    #[inline]
    pub(super) fn store(&self) -> &Store {
        self.store.get_or_init(|| {
            let store = Store::with_most(self.most, Arc::clone(&self.prices));
            let elder = self.elder.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((elder, judge)) = elder {
                let at = At { judge: &judge, now: self.now_anyway(), unit: Unit::NONE, most: 0 };
                elder.store().tell(&store, at);
            }
            store
        })
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
