use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const ROOM: usize = 1 << 20;

fn item(domain: Domain, key: &[u8], value: u64, expires: Instant) -> Item<u64> {
    Item { domain, key: key.into(), value, weight: 0, expires }
}

fn get<V: Copy>(cache: &Cache<V>, domain: Domain, key: &[u8], now: Instant) -> Option<V> {
    cache.read(domain, key, now, |value| *value)
}

#[derive(Debug, Clone)]
enum Do {
    Insert { domain: usize, key: u8, value: u64, lives: u64, weight: usize },
    Read { domain: usize, key: u8 },
    Remove { domain: usize, key: u8 },
}

fn what() -> impl Strategy<Value = Do> {
    let (domain, key) = (0..2_usize, 0..8_u8);
    prop_oneof![
        3 => (domain.clone(), key.clone(), any::<u64>(), 0..60_u64, 0..300_usize)
            .prop_map(|(domain, key, value, lives, weight)| Do::Insert { domain, key, value, lives, weight }),
        3 => (domain.clone(), key.clone()).prop_map(|(domain, key)| Do::Read { domain, key }),
        1 => (domain, key).prop_map(|(domain, key)| Do::Remove { domain, key }),
    ]
}

/// One set, written down slowly.
#[derive(Default)]
struct Model {
    entries: Vec<Remembered>,
    max_bytes: usize,
}

struct Remembered {
    key: (usize, u8),
    value: u64,
    expires: Instant,
    used: Instant,
    bytes: usize,
}

impl Model {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    fn drop_cheapest(&mut self, now: Instant) {
        let cheapest = (0..self.entries.len())
            .min_by_key(|at| (self.entries[*at].expires > now, self.entries[*at].used));
        self.entries.remove(cheapest.unwrap());
    }

    fn insert(&mut self, fresh: Remembered, now: Instant) {
        if fresh.expires <= now || fresh.bytes > self.max_bytes {
            return;
        }
        while self.bytes() + fresh.bytes > self.max_bytes {
            self.drop_cheapest(now);
        }
        self.remove(fresh.key);
        if self.entries.len() == 8 {
            self.drop_cheapest(now);
        }
        self.entries.push(fresh);
    }

    fn read(&mut self, key: (usize, u8), now: Instant) -> Option<u64> {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key && entry.expires > now)?;
        entry.used = now;
        Some(entry.value)
    }

    fn remove(&mut self, key: (usize, u8)) {
        self.entries.retain(|entry| entry.key != key);
    }
}

proptest! {
    #[test]
    fn one_set_is_what_is_written_down_slowly(steps in prop::collection::vec(what(), 0..120), max_bytes in 0..3_000_usize) {
        let domains = [Domain::unique(), Domain::unique()];
        let cache: Cache<u64> = Cache::new(8, max_bytes);
        let mut model = Model { max_bytes, ..Model::default() };
        let mut now = Instant::now();
        for step in steps {
            // No two at one moment: which of two idle entries goes is not told.
            now += Duration::from_millis(1);
            match step {
                Do::Insert { domain, key, value, lives, weight } => {
                    let expires = now + Duration::from_millis(lives);
                    let item = Item { weight, ..item(domains[domain], &[key], value, expires) };
                    cache.insert(item, now);
                    let bytes = Cache::<u64>::OVERHEAD + 1 + weight;
                    model.insert(Remembered { key: (domain, key), value, expires, used: now, bytes }, now);
                }
                Do::Read { domain, key } => {
                    prop_assert_eq!(get(&cache, domains[domain], &[key], now), model.read((domain, key), now));
                }
                Do::Remove { domain, key } => {
                    cache.remove(domains[domain], &[key]);
                    model.remove((domain, key));
                }
            }
            prop_assert_eq!(cache.len(), model.entries.len());
            prop_assert_eq!(cache.bytes(), model.bytes());
            prop_assert!(cache.bytes() <= max_bytes);
        }
    }

    /// Whatever is forgotten, nothing is told that was not put in under this very key.
    #[test]
    fn many_sets_never_tell_what_another_key_said(
        inserts in prop::collection::vec((prop::collection::vec(0..3_u8, 0..6), any::<u64>()), 0..400),
        max_entries in 0..60_usize,
        max_bytes in 0..6_000_usize,
    ) {
        let cache: Cache<u64> = Cache::new(max_entries, max_bytes);
        let (domain, now) = (Domain::unique(), Instant::now());
        let mut last = HashMap::new();
        for (key, value) in inserts {
            cache.insert(item(domain, &key, value, now + Duration::from_secs(1)), now);
            last.insert(key, value);
            prop_assert!(cache.bytes() <= max_bytes && cache.len() <= max_entries.next_multiple_of(8).max(8));
        }
        for (key, value) in last {
            prop_assert!(get(&cache, domain, &key, now).is_none_or(|found| found == value));
        }
    }
}

#[test]
fn an_entry_ends_and_is_of_its_domain_and_whole_key() {
    let cache: Cache<u64> = Cache::new(100, ROOM);
    let (ours, theirs, now) = (Domain::unique(), Domain::unique(), Instant::now());
    let expires = now + Duration::from_secs(9);
    cache.insert(item(ours, b"key", 7, expires), now);
    assert_eq!(get(&cache, ours, b"key", now), Some(7));
    assert_eq!(get(&cache, ours, b"key", expires - Duration::from_nanos(1)), Some(7));
    assert_eq!(get(&cache, ours, b"key", expires), None);
    for (domain, key) in [(theirs, &b"key"[..]), (ours, b"ke"), (ours, b"keyy"), (ours, b""), (ours, b"Key")]
    {
        assert_eq!(get(&cache, domain, key, now), None);
    }
    cache.insert(item(ours, b"ended", 7, now), now);
    assert_eq!(cache.len(), 1);
}

#[test]
fn the_caps_hold_under_a_flood() {
    let now = Instant::now();
    let domain = Domain::unique();
    for (max_entries, max_bytes) in [(64, ROOM), (4_096, 20_000), (64, 4_000)] {
        let cache: Cache<u64> = Cache::new(max_entries, max_bytes);
        for key in 0..20_000_u32 {
            let now = now + Duration::from_millis(key.into());
            cache.insert(item(domain, &key.to_be_bytes(), 1, now + Duration::from_secs(3_600)), now);
            assert!(cache.bytes() <= max_bytes);
            assert_eq!(get(&cache, domain, &key.to_be_bytes(), now), Some(1));
        }
        assert!(cache.len() <= max_entries);
        // What there is room for is used.
        let most = max_entries.min(max_bytes / (Cache::<u64>::OVERHEAD + 4));
        assert!(cache.len() * 10 >= most * 9, "{} of {most}", cache.len());
    }
}

#[test]
fn what_is_larger_than_the_cache_drops_nothing() {
    let cache: Cache<u64> = Cache::new(8, 1_000);
    let (domain, now) = (Domain::unique(), Instant::now());
    let later = now + Duration::from_secs(1);
    cache.insert(item(domain, b"small", 1, later), now);
    cache.insert(Item { weight: 1_000, ..item(domain, b"large", 1, later) }, now);
    assert_eq!((cache.len(), get(&cache, domain, b"small", now)), (1, Some(1)));
}

/// Values that tell when they are dropped.
struct Counted(Arc<AtomicU64>, u32);

impl Counted {
    fn new(alive: &Arc<AtomicU64>, key: u32) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive.clone(), key)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn threads_find_their_own_and_the_sums_stay_right() {
    let alive = Arc::new(AtomicU64::new(0));
    let cache: Cache<Counted> = Cache::new(32, 5_000);
    let (domain, now) = (Domain::unique(), Instant::now());
    std::thread::scope(|scope| {
        for seed in 1..5_u32 {
            let (cache, alive) = (&cache, &alive);
            scope.spawn(move || {
                let mut x = seed;
                for step in 0..20_000_u32 {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (key, at) = (x >> 26, now + Duration::from_millis((step / 64).into()));
                    let bytes = key.to_be_bytes();
                    match x >> 8 & 3 {
                        0 => {
                            let value = Counted::new(alive, key);
                            let expires = at + Duration::from_millis((x >> 10 & 7).into());
                            let weight = (x >> 13 & 63) as usize;
                            cache.insert(Item { domain, key: bytes.into(), value, weight, expires }, at);
                        }
                        1 if x >> 10 & 3 == 0 => cache.remove(domain, &bytes),
                        _ => {
                            let found = cache.read(domain, &bytes, at, |value| value.1);
                            assert!(found.is_none_or(|found| found == key));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(alive.load(Ordering::Relaxed), cache.len() as u64);
    assert!(cache.bytes() <= 5_000);
    // All that is counted can be found and be removed again.
    for key in 0..64_u32 {
        cache.remove(domain, &key.to_be_bytes());
    }
    assert_eq!((cache.len(), cache.bytes(), alive.load(Ordering::Relaxed)), (0, 0, 0));
}

#[test]
fn a_read_allocates_nothing() {
    let cache: Cache<u64> = Cache::new(100, ROOM);
    let (domain, now) = (Domain::unique(), Instant::now());
    let count =
        allocation_counter::measure(|| assert_eq!(get(&cache, domain, b"key", now), None)).count_total;
    assert_eq!(count, 0);
    cache.insert(item(domain, b"key", 7, now + Duration::from_secs(9)), now);
    // The first one in a thread prepares the thread.
    assert_eq!(get(&cache, domain, b"key", now), Some(7));
    let count =
        allocation_counter::measure(|| assert_eq!(get(&cache, domain, b"key", now), Some(7))).count_total;
    assert_eq!(count, 0);
}

#[test]
fn nothing_of_an_entry_shows_in_debug() {
    let cache: Cache<u64> = Cache::new(1, ROOM);
    let (domain, now) = (Domain::unique(), Instant::now());
    cache.insert(item(domain, b"hush", 77, now + Duration::from_secs(9)), now);
    let shown = format!("{cache:?}");
    assert!(!shown.contains("77") && !shown.contains("hush") && shown.contains("max_entries: 8"), "{shown}");
}
