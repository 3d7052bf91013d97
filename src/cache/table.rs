use std::{
    array, fmt,
    hash::{BuildHasher, Hasher, RandomState},
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::time::Instant;

/// The places of a set: their prints are one line of the processor's cache.
const WAYS: usize = 8;
/// How often a new entry is tried to be put in, while others put theirs into the same set.
const TRIES: usize = 4;

/// A bounded map from bytes to `V`, whose entries end.
///
/// See the [module docs](super). `K` is what holds the bytes of a key. It is shared by reference.
pub struct Cache<V, K = Box<[u8]>> {
    /// Made with the first entry.
    sets: OnceLock<Box<[Set<V, K>]>>,
    max_sets: usize,
    max_bytes: usize,
    bytes: AtomicUsize,
    /// The set from which the next entry is dropped if there are too many bytes.
    hand: AtomicUsize,
    hasher: RandomState,
    born: Instant,
}

/// Divides keys: an entry is found under the domain that it was put in for. One configuration of a thing is one
/// domain, so that what was found out under another does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain(u64);

impl Domain {
    /// A domain that nobody else in this process has.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is put into a [`Cache`].
#[derive(Debug, Clone)]
pub struct Item<V, K = Box<[u8]>> {
    /// Whose it is.
    pub domain: Domain,
    /// The key, of any length.
    pub key: K,
    /// The value.
    pub value: V,
    /// What the value keeps elsewhere in memory, in bytes. Its own size and the key's bytes are counted anyway.
    pub weight: usize,
    /// From when on it is no longer handed out.
    pub expires: Instant,
}

#[repr(align(64))]
struct Set<V, K> {
    prints: [AtomicU64; WAYS],
    ways: [ArcSwapOption<Entry<V, K>>; WAYS],
}

struct Entry<V, K> {
    print: u64,
    item: Item<V, K>,
    /// When it was last read, in milliseconds since the cache was made.
    used: AtomicU64,
    bytes: usize,
}

type Kept<V, K> = Option<Arc<Entry<V, K>>>;

impl<V, K: AsRef<[u8]>> Cache<V, K> {
    /// What an entry costs beside the bytes of its key and its [weight](Item::weight), in bytes.
    pub const OVERHEAD: usize = size_of::<Entry<V, K>>() + 2 * size_of::<usize>();

    /// A cache of at most so many entries, rounded up to a multiple of eight, and so many bytes.
    ///
    /// Empty, it costs nothing; from the first entry on, 16 bytes for each that it may have.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            sets: OnceLock::new(),
            max_sets: max_entries.div_ceil(WAYS).max(1),
            max_bytes,
            bytes: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            hasher: RandomState::new(),
            born: Instant::now(),
        }
    }

    /// What `read` makes of the value under this key, if there is one that has not expired.
    pub fn read<T>(&self, domain: Domain, key: &[u8], now: Instant, read: impl FnOnce(&V) -> T) -> Option<T> {
        let print = self.print(domain, key);
        let set = self.set(self.sets.get()?, print);
        for (_, way) in
            set.prints.iter().zip(&set.ways).filter(|(own, _)| own.load(Ordering::Relaxed) == print)
        {
            let entry = way.load();
            if let Some(entry) = entry.as_ref().filter(|entry| entry.is_of(domain, key)) {
                return entry.lives(now).then(|| {
                    entry.touch(self.moment(now));
                    read(&entry.item.value)
                });
            }
        }
        None
    }

    /// Puts `item` in, in the place of what was there under its key.
    ///
    /// It is not kept if it has expired, is larger than the whole cache, or if other threads fill its set at this very
    /// moment; what was there under its key is then still there.
    pub fn insert(&self, item: Item<V, K>, now: Instant) {
        let bytes = Self::OVERHEAD + item.key.as_ref().len() + item.weight;
        if item.expires <= now || bytes > self.max_bytes {
            return;
        }
        let print = self.print(item.domain, item.key.as_ref());
        let fresh = Arc::new(Entry { print, item, used: AtomicU64::new(self.moment(now)), bytes });
        let sets = self.sets.get_or_init(|| (0..self.max_sets).map(|_| Set::new()).collect());
        let set = self.set(sets, print);
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let kept = self.make_room(sets, total, now)
            && (0..TRIES).any(|_| {
                let place =
                    set.cheapest(|entry| Some(entry.map_or(EMPTY, |entry| entry.rank(Some(&fresh), now))));
                place.is_some_and(|(at, old)| self.put(set, at, &old, Some(fresh.clone())))
            });
        if !kept {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Drops what is there under this key.
    pub fn remove(&self, domain: Domain, key: &[u8]) {
        let Some(sets) = self.sets.get() else { return };
        let set = self.set(sets, self.print(domain, key));
        for (at, way) in set.ways.iter().enumerate() {
            let old = way.load();
            if old.as_ref().is_some_and(|entry| entry.is_of(domain, key)) {
                self.put(set, at, &old, None);
            }
        }
    }

    /// How many entries there are, expired ones too. It looks at every place.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.get().map_or(0, |sets| sets.iter().map(Set::len).sum())
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all entries, expired ones too; at most the cap, but for those being put in at this moment.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Drops entries until `total` bytes are within the cap; `false` if that could not be done in one round.
    fn make_room(&self, sets: &[Set<V, K>], mut total: usize, now: Instant) -> bool {
        for _ in 0..=sets.len() * WAYS {
            if total <= self.max_bytes {
                return true;
            }
            let set = &sets[self.hand.fetch_add(1, Ordering::Relaxed) % sets.len()];
            if let Some((at, old)) = set.cheapest(|entry| Some(entry?.rank(None, now))) {
                self.put(set, at, &old, None);
            }
            total = self.bytes.load(Ordering::Relaxed);
        }
        false
    }

    /// Puts `new` where `old` is, if that is there still.
    fn put(&self, set: &Set<V, K>, at: usize, old: &Guard<Kept<V, K>>, new: Kept<V, K>) -> bool {
        let before = set.ways[at].compare_and_swap(old, new);
        let done = ptr::eq(address(&before), address(old));
        if done {
            set.settle(at);
            let freed = before.as_ref().map_or(0, |entry| entry.bytes);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
        done
    }

    fn print(&self, domain: Domain, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(domain.0);
        hasher.write(key);
        hasher.finish()
    }

    fn set<'s>(&self, sets: &'s [Set<V, K>], print: u64) -> &'s Set<V, K> {
        // The high half of a product: each set is as likely as the other, without a division.
        let at = (u128::from(print) * sets.len() as u128) >> 64;
        &sets[at as usize]
    }

    /// Milliseconds since the cache was made.
    fn moment(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What it costs to do without what is in a place: the less, the rather it goes.
const SAME_KEY: u64 = 0;
const EMPTY: u64 = 1;
const EXPIRED: u64 = 2;
const ALIVE: u64 = 1 << 63;

impl<V, K: AsRef<[u8]>> Entry<V, K> {
    fn is_of(&self, domain: Domain, key: &[u8]) -> bool {
        self.item.domain == domain && self.item.key.as_ref() == key
    }

    fn lives(&self, now: Instant) -> bool {
        now < self.item.expires
    }

    fn touch(&self, moment: u64) {
        // What others read is written to seldom.
        if self.used.load(Ordering::Relaxed) != moment {
            self.used.store(moment, Ordering::Relaxed);
        }
    }

    fn rank(&self, fresh: Option<&Self>, now: Instant) -> u64 {
        if fresh.is_some_and(|fresh| self.is_of(fresh.item.domain, fresh.item.key.as_ref())) {
            return SAME_KEY;
        }
        let used = self.used.load(Ordering::Relaxed).min(ALIVE - EXPIRED - 1);
        used + if self.lives(now) { ALIVE } else { EXPIRED }
    }
}

impl<V, K> Set<V, K> {
    fn new() -> Self {
        Self {
            prints: array::from_fn(|_| AtomicU64::new(0)),
            ways: array::from_fn(|_| ArcSwapOption::empty()),
        }
    }

    /// The place with the lowest rank, of those that have one.
    fn cheapest(
        &self,
        rank: impl Fn(Option<&Entry<V, K>>) -> Option<u64>,
    ) -> Option<(usize, Guard<Kept<V, K>>)> {
        let ranked = self.ways.iter().enumerate().filter_map(|(at, way)| {
            let entry = way.load();
            Some((rank(entry.as_deref())?, at, entry))
        });
        ranked.min_by_key(|(rank, ..)| *rank).map(|(_, at, entry)| (at, entry))
    }

    /// Writes the print of what is in a place. Who writes it looks again, so that of two who changed the place at once the
    /// later one's print stays. A wrong print would hide an entry, no more.
    fn settle(&self, at: usize) {
        let print = || self.ways[at].load().as_ref().map_or(0, |entry| entry.print);
        let mut found = print();
        loop {
            self.prints[at].store(found, Ordering::SeqCst);
            let now = print();
            if now == found {
                return;
            }
            found = now;
        }
    }

    fn len(&self) -> usize {
        self.ways.iter().filter(|way| way.load().is_some()).count()
    }
}

fn address<V, K>(place: &Guard<Kept<V, K>>) -> *const Entry<V, K> {
    place.as_ref().map_or(ptr::null(), Arc::as_ptr)
}

impl<V, K> fmt::Debug for Cache<V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("max_entries", &(self.max_sets * WAYS))
            .field("max_bytes", &self.max_bytes)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
