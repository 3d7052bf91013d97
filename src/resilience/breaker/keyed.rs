use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    head::Head,
    key::{Key, KeySeed},
    sharded::{ByHash, Sharded},
    trip::{Mode, Parts, Policy, State, Trip},
};

const SHARDS: usize = 16;
/// How often room is looked for where there is none, so that a flood of keys costs no more than that.
const PAUSE: Duration = Duration::from_secs(1);

/// A machine for each key.
pub(super) struct Keyed {
    key: Key,
    seed: KeySeed,
    shards: Sharded<Shard>,
    /// The keys of one shard.
    most: usize,
    policy: Policy,
    parts: Parts,
    unguarded: AtomicU64,
}

#[derive(Default)]
struct Shard {
    trips: ByHash<Trip>,
    /// When room was looked for.
    swept: Option<Instant>,
    /// The mode of machines to come, if it was set.
    mode: Option<Mode>,
}

impl Keyed {
    pub(super) fn new(key: Key, max_keys: NonZeroU32, policy: Policy, parts: Parts) -> Self {
        let most = (max_keys.get() as usize).div_ceil(SHARDS);
        let shards = Sharded::new(SHARDS);
        Self { key, seed: KeySeed::new(), shards, most, policy, parts, unguarded: AtomicU64::new(0) }
    }

    /// The machine of this request's key, if there is one or room for one.
    pub(super) fn of(&self, head: &mut Head<'_>) -> Option<Trip> {
        let key = self.key.fingerprint(head, &self.seed);
        let mut shard = self.shards.of(key);
        if let Some(trip) = shard.trips.get(&key) {
            return Some(trip.clone());
        }
        if shard.trips.len() >= self.most && !shard.sweep(head.now()) {
            self.unguarded.fetch_add(1, Relaxed);
            return None;
        }
        let mode = shard.mode.unwrap_or(self.parts.mode);
        let trip = Trip::of(self.policy, Parts { mode, ..self.parts.clone() });
        shard.trips.insert(key, trip.clone());
        Some(trip)
    }

    /// Requests that found no room.
    pub(super) fn unguarded(&self) -> u64 {
        self.unguarded.load(Relaxed)
    }

    /// How many keys have a machine.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.trips.len()).sum()
    }

    /// How many machines stand there.
    pub(super) fn count(&self, state: State, now: Instant) -> usize {
        let standing = |trip: &&Trip| trip.state(now) == state;
        self.shards.iter().map(|shard| shard.trips.values().filter(standing).count()).sum()
    }

    pub(super) fn mode(&self) -> Mode {
        let set = self.shards.iter().next().and_then(|shard| shard.mode);
        set.unwrap_or(self.parts.mode)
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        for mut shard in self.shards.iter() {
            shard.mode = Some(mode);
            shard.trips.values().for_each(|trip| trip.set_mode(mode));
        }
    }

    pub(super) fn reset(&self) {
        self.shards.iter().for_each(|shard| shard.trips.values().for_each(Trip::reset));
    }
}

impl Shard {
    /// Forgets machines that have nothing to say. Whether there were any.
    fn sweep(&mut self, now: Instant) -> bool {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return false;
        }
        self.swept = Some(now);
        let before = self.trips.len();
        self.trips.retain(|_, trip| !trip.is_healthy(now));
        self.trips.len() < before
    }
}
