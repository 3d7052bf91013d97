use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, Uri};
use tokio::time::Instant;

use super::{
    ExternalAuthHandle,
    answer::{Keeps, Verdict, memorable},
};
use crate::{
    cache::{Cache, Domain, Item},
    fetch::{Fetch, FetchError},
    flight::Flights,
    head::Head,
    key::{Key, KeySeed},
    time::WallClock,
    trip::{self, Trip},
};

/// Who asks: the client, and what is known from before.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) url: Uri,
    fetch: Fetch,
    pub(super) keeps: Keeps,
    pub(super) memory: Option<Memory>,
    pub(super) trip: Option<Trip>,
    /// Callers are known by it.
    seed: KeySeed,
    clock: WallClock,
    pub(super) counts: ExternalAuthHandle,
}

/// What was decided lately, and who is being asked.
#[derive(Clone)]
pub(super) struct Memory {
    ttl: Duration,
    cache: Arc<Cache<Verdict>>,
    domain: Domain,
    flights: Flights<Box<[u8]>, Landed>,
}

/// How many bytes a remembered answer may take on average.
const BYTES_EACH: usize = 4 * 1024;
/// How many different questions are under way at once that others may join.
const FLIGHTS: usize = 10_000;

/// Why there is no verdict.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) why: Arc<str>,
    pub(super) retry_after: Duration,
    /// Whether it may be so because of what this one caller sent.
    is_doubtful: bool,
}

/// When somebody should ask again whom a failure struck that may be over at once.
const SOON: Duration = Duration::from_secs(1);

/// What came of a flight.
#[derive(Clone)]
struct Landed {
    told: Result<Verdict, Failure>,
    /// It is for one of those who waited, and for whoever takes it first.
    for_one: Option<Arc<AtomicBool>>,
}

impl Asker {
    pub(super) fn new(url: Uri, fetch: Fetch, refusal: &[HeaderName]) -> Self {
        Self {
            url,
            fetch,
            keeps: Keeps { upstream: Arc::new([]), client: Arc::new([]), refusal: refusal.into() },
            memory: None,
            trip: Some(Trip::new(trip::Policy::new())),
            seed: KeySeed::new(),
            clock: WallClock::default(),
            counts: ExternalAuthHandle::default(),
        }
    }

    /// Who sends this, in a word.
    pub(super) fn caller(&self, head: &Head<'_>) -> u64 {
        Key::ClientAddr.fingerprint(head, &self.seed)
    }

    /// What was decided about this question a short time ago.
    pub(super) fn remembered(&self, key: &[u8], now: Instant) -> Option<Verdict> {
        let memory = self.memory.as_ref()?;
        let verdict = memory.cache.read(memory.domain, key, now, Verdict::clone)?;
        self.counts.count_remembered();
        Some(verdict)
    }

    /// Asks for `caller`, or joins somebody who asks the same, if answers are remembered.
    pub(super) async fn decide(
        self: Arc<Self>,
        question: Request<Bytes>,
        caller: u64,
        key: Option<Box<[u8]>>,
    ) -> Result<Verdict, Failure> {
        if let (Some(memory), Some(key)) = (&self.memory, key) {
            let (asker, asked) = (Arc::clone(&self), question.clone());
            let into = key.clone();
            if let Ok(joined) = memory.flights.join(key, || asker.land(asked, caller, into))
                && let Ok(landed) = joined.await
                && landed.is_ours()
            {
                return landed.told;
            }
        }
        self.ask(question, caller).await.map(|(verdict, _)| verdict)
    }

    /// Asks, and remembers the answer if it is not for one caller only.
    async fn land(self: Arc<Self>, question: Request<Bytes>, caller: u64, key: Box<[u8]>) -> Landed {
        let (told, ttl) = match self.ask(question, caller).await {
            Ok((verdict, ttl)) => (Ok(verdict), ttl),
            Err(failure) => return Landed { told: Err(failure), for_one: None },
        };
        if let (Some(memory), Some(ttl), Ok(verdict)) = (&self.memory, ttl, &told) {
            let now = Instant::now();
            let (domain, value, weight, expires) =
                (memory.domain, verdict.clone(), verdict.weight(), now + ttl);
            memory.cache.insert(Item { domain, key, value, weight, expires }, now);
        }
        Landed { told, for_one: ttl.is_none().then(Arc::default) }
    }

    /// The verdict, and for how long it may be remembered.
    async fn ask(
        &self,
        question: Request<Bytes>,
        caller: u64,
    ) -> Result<(Verdict, Option<Duration>), Failure> {
        let enter = |trip: &Trip| trip.enter_for(caller, Instant::now());
        let entry = match self.trip.as_ref().map(enter).transpose() {
            Ok(entry) => entry,
            Err(open) => {
                return Err(Failure {
                    why: "it keeps failing, and is spared".into(),
                    retry_after: open.retry_after(),
                    is_doubtful: false,
                });
            }
        };
        let told = self.exchange(question).await;
        match (&told, entry) {
            (_, None) => {}
            (Ok(_), Some(entry)) => entry.success(Instant::now()),
            // Else whoever knows what it fails at would keep everybody from being asked about.
            (Err(failure), Some(entry)) if failure.is_doubtful => entry.doubt(Instant::now()),
            (Err(_), Some(entry)) => entry.failure(Instant::now()),
        }
        told
    }

    async fn exchange(&self, question: Request<Bytes>) -> Result<(Verdict, Option<Duration>), Failure> {
        let failed = |why: String, is_doubtful| Failure { why: why.into(), retry_after: SOON, is_doubtful };
        let answer = self.fetch.send(question).await.map_err(|error| {
            let is_doubtful = !matches!(error, FetchError::Transport(_));
            failed(error.to_string(), is_doubtful)
        })?;
        let (status, ttl) = (
            answer.status(),
            self.memory.as_ref().and_then(|memory| memorable(&answer, memory.ttl, self.clock.now())),
        );
        let verdict = Verdict::of(answer, &self.keeps);
        let verdict =
            verdict.ok_or_else(|| failed(format!("its answer, {}, is none", status.as_u16()), true))?;
        Ok((verdict, ttl))
    }
}

impl Landed {
    /// Whether who waited may have it.
    fn is_ours(&self) -> bool {
        self.for_one.as_ref().is_none_or(|taken| !taken.swap(true, Ordering::Relaxed))
    }
}

impl Memory {
    pub(super) fn new(ttl: Duration, max_entries: usize) -> Self {
        let cache = Arc::new(Cache::new(max_entries, max_entries.saturating_mul(BYTES_EACH)));
        Self { ttl, cache, domain: Domain::unique(), flights: Flights::new(FLIGHTS) }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
