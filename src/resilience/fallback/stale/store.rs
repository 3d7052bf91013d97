use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::time::Instant;

use super::{
    ask::Read,
    moments::{Moments, Place},
    recorder::Answer,
    recordings::Recordings,
};
use crate::{
    cache::{Cache, Domain, Item},
    key::Key,
    time::WallClock,
};

const CACHE_STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");

/// What every answer may depend on: who asks, by which rule, and how it is wanted.
fn always() -> Arc<[Key]> {
    let fields = [header::ACCEPT, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ORIGIN];
    [Key::Principal, Key::Route].into_iter().chain(fields.map(Key::Header)).collect()
}

/// Good answers, to be given in the place of failures. See the [module docs](super::super#old-answers). Clones share them: they
/// are for one server.
#[derive(Clone)]
#[must_use]
pub struct Stale {
    pub(super) by: Option<Key>,
    pub(super) varies: Arc<[Key]>,
    pub(super) max_age: Duration,
    pub(super) max_body: usize,
    pub(super) clock: WallClock,
    pub(super) store: Arc<Store>,
}

/// What is kept.
pub(super) struct Store {
    cache: Cache<Kept, Arc<[u8]>>,
    domain: Domain,
    max_entries: usize,
    max_bytes: usize,
    pub(super) recordings: Arc<Recordings<Answer>>,
    /// By their paths, whatever their queries are.
    changed: Moments,
    /// What was taken down, by its key: what was asked for before is not kept after.
    gone: Moments,
    kept: AtomicU64,
    not_kept: AtomicU64,
}

/// An answer.
pub(super) struct Kept {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How old it was when it was asked for, and when that was.
    pub(super) age: Duration,
    pub(super) asked: Instant,
}

impl Default for Stale {
    fn default() -> Self {
        Self::new()
    }
}

impl Stale {
    /// Answers of up to an hour and 1 MiB, 4,096 of them and 16 MiB in all, of those that are for everybody.
    pub fn new() -> Self {
        Self {
            by: None,
            varies: always(),
            max_age: Duration::from_secs(3600),
            max_body: 1 << 20,
            clock: WallClock::default(),
            store: Arc::new(Store::new(4096, 16 << 20)),
        }
    }

    /// Whose an answer is: a cookie or header that tells the server who is asking, or the
    /// [principal](Key::Principal), if that is the end user. With a key that tells one caller from another, what is `private`,
    /// or does not say that it is for everybody, is kept, too. What lacks a part of it is neither kept nor given.
    pub fn key(self, key: Key) -> Self {
        Self { by: Some(key), ..self }
    }

    /// What else an answer depends on, though no `Vary` says so: a header that chooses the server, say, or that tells it who
    /// asks. What lacks one of these is apart from what has it. A gateway adds what it knows of.
    pub fn varies_by(self, keys: impl IntoIterator<Item = Key>) -> Self {
        Self { varies: self.varies.iter().cloned().chain(keys).collect(), ..self }
    }

    /// How old an answer may be when it is given. Its server may want it younger. 1 h unless told.
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// The longest body that is kept, in bytes; at most a quarter of [`max_bytes`](Self::max_bytes). 1 MiB unless told.
    pub fn max_body(self, bytes: usize) -> Self {
        Self { max_body: bytes, ..self }
    }

    /// What is kept, and what is being recorded, takes no more than this, in bytes: a quarter of it is for recording. 16 MiB
    /// unless told. It begins empty.
    pub fn max_bytes(self, bytes: usize) -> Self {
        Self { store: Arc::new(Store::new(self.store.max_entries, bytes)), ..self }
    }

    /// The most answers that are kept, at 16 bytes each beside [`max_bytes`](Self::max_bytes). 4,096 unless told. It begins
    /// empty.
    pub fn max_entries(self, entries: usize) -> Self {
        Self { store: Arc::new(Store::new(entries, self.store.max_bytes)), ..self }
    }

    /// Tells the time for `Expires`, if the answer has no `Date`. The system's unless told.
    pub fn clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// The bytes that it takes now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.store.cache.bytes() + self.store.recordings.taken()
    }

    /// How many answers there are, those whose time is over too.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.store.cache.len()
    }

    /// Answers that were kept, and that were not, though they might have been: too long, too slow, no room, broken off, or with
    /// trailers.
    #[must_use]
    pub fn kept(&self) -> (u64, u64) {
        (self.store.kept.load(Relaxed), self.store.not_kept.load(Relaxed))
    }

    /// The answer to this, if there is one.
    pub(in crate::resilience::fallback) fn find(&self, read: &Read) -> Option<Response<Bytes>> {
        if !read.gives {
            return None;
        }
        let (store, now) = (&*self.store, Instant::now());
        let is_there = |kept: &Kept| !store.changed.changed_since(read.place, kept.asked);
        let answer = |kept: &Kept| is_there(kept).then(|| kept.answer(now));
        store.cache.read(store.domain, &read.key, now, answer)?
    }
}

impl Store {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            cache: Cache::new(max_entries, max_bytes - max_bytes / 4),
            domain: Domain::unique(),
            max_entries,
            max_bytes,
            recordings: Arc::new(Recordings::new(max_bytes / 4)),
            changed: Moments::new(),
            gone: Moments::new(),
            kept: AtomicU64::new(0),
            not_kept: AtomicU64::new(0),
        }
    }

    /// Counts what has come of an answer that might be kept.
    pub(super) fn count(&self, kept: bool) {
        if kept { &self.kept } else { &self.not_kept }.fetch_add(1, Relaxed);
    }

    /// Keeps an answer until then, unless it was changed or taken down meanwhile, or a later one is there.
    pub(super) fn keep(&self, read: &Read, kept: Kept, until: Instant) -> bool {
        let Read { key, place, asked, .. } = read;
        let (domain, now, own) = (self.domain, Instant::now(), self.gone.place(key));
        let is_gone = || self.gone.changed_since(own, *asked);
        let is_later = |there: &Kept| there.asked > *asked;
        if self.changed.changed_since(*place, *asked)
            || is_gone()
            || self.cache.read(domain, key, now, is_later) == Some(true)
        {
            return false;
        }
        let weight = weight(&kept.headers) + kept.body.len();
        self.cache.insert(Item { domain, key: Arc::clone(key), value: kept, weight, expires: until }, now);
        // Whoever has taken it down meanwhile may not have found it.
        let is_gone = is_gone();
        if is_gone {
            self.cache.remove(domain, key);
        }
        !is_gone
    }

    /// It is there no more, nor is what is being recorded of it.
    pub(super) fn forget(&self, key: &[u8]) {
        self.gone.change(self.gone.place(key));
        self.cache.remove(self.domain, key);
    }

    /// Where it is remembered when what is at this path was changed.
    pub(super) fn place(&self, path: &str) -> Place {
        self.changed.place(path.as_bytes())
    }

    /// What is there is no longer what was asked for before.
    pub(super) fn change(&self, place: Place) {
        self.changed.change(place);
    }
}

/// What headers take.
pub(super) fn weight(headers: &HeaderMap) -> usize {
    /// What a field of a header map takes beside its bytes: its place, the index, and the allocation of its value.
    const FIELD: usize = 160;
    headers.iter().map(|(name, value)| FIELD + name.as_str().len() + value.len()).sum()
}

impl Kept {
    fn answer(&self, now: Instant) -> Response<Bytes> {
        let age = self.age + now.saturating_duration_since(self.asked);
        let mut response = Response::new(self.body.clone());
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert(header::AGE, HeaderValue::from(age.as_secs()));
        let status = HeaderValue::from_static("portcullis; fwd=stale; detail=stale-if-error");
        response.headers_mut().append(CACHE_STATUS, status);
        response
    }
}

impl fmt::Debug for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stale")
            .field("by", &self.by)
            .field("max_age", &self.max_age)
            .field("max_body", &self.max_body)
            .field("max_bytes", &self.store.max_bytes)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
