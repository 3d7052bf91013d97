use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    SinkCounts, UsageBatch, UsageCounts, UsageSink, ledger::Ledger, queue::Queue, spool::Spooled,
    units::Units,
};
use crate::{chance::Chance, gate::GateLayer, head::Head, task::Task, time::WallClock};

/// How long a meter that nobody has any more goes on to deliver.
const HOME: Duration = Duration::from_secs(60);
/// How soon a spool that could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Counts who has used how much, and delivers it. See the [module docs](super). Clones are one meter.
#[derive(Clone)]
pub struct UsageMeter(pub(super) Arc<Shared>);

pub(super) struct Shared {
    instance: Box<str>,
    /// Another for each meter of each process.
    tag: Box<str>,
    interval: Duration,
    spool: Option<PathBuf>,
    pub(super) units: Units,
    pub(super) ledger: Ledger,
    queues: Vec<Arc<Queue>>,
    clock: WallClock,
    sealed: Mutex<Seal>,
    task: Task,
    /// Whether what lay in the spool is in the queues.
    recovered: watch::Sender<bool>,
    pub(super) recorded: AtomicU64,
    pub(super) unattributed: AtomicU64,
    unspooled: AtomicU64,
}

/// The last batch that was sealed.
struct Seal {
    number: u64,
    at: SystemTime,
}

/// Gathers what a [`UsageMeter`] needs.
#[derive(Debug)]
#[must_use]
pub struct UsageMeterBuilder {
    instance: Box<str>,
    interval: Duration,
    max_entries: usize,
    max_waiting: usize,
    spool: Option<PathBuf>,
    units: Units,
    sinks: Vec<Arc<dyn UsageSink>>,
    clock: WallClock,
}

impl UsageMeterBuilder {
    /// What the events call this instance. Default: `gateway`. Ids are unique whatever it is.
    pub fn instance(mut self, name: impl Into<Box<str>>) -> Self {
        self.instance = name.into();
        self
    }

    /// How long events are aggregated before they are sealed: what is lost if the process is killed. Default: 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The entries of a batch at most: one for each principal, plan, route and outcome. What finds no room is counted
    /// for the provider and route `_other`. Default: 10,000.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// The bytes that wait for a sink at most. The oldest batches are given up beyond, in the spool too, and counted.
    /// Default: 64 MiB.
    pub fn max_waiting(mut self, bytes: usize) -> Self {
        self.max_waiting = bytes;
        self
    }

    /// A directory in which sealed batches lie until all sinks have them, so that a process that is killed delivers them
    /// when it comes back. It belongs to one meter. Default: none.
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool = Some(directory.into());
        self
    }

    /// Delivers here, too.
    pub fn sink(mut self, sink: impl UsageSink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// What a request counts for is told by its head; one unless told.
    pub fn units_by(mut self, units: impl Fn(&Head<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.units.of_request = Some(Arc::new(units));
        self
    }

    /// What a request has counted for is told by the response's head; `None` leaves what its own head has told.
    pub fn units_by_response(
        mut self,
        units: impl Fn(&http::response::Parts) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.units.of_response = Some(Arc::new(units));
        self
    }

    /// What time it is; the system's clock unless told.
    pub fn clock(mut self, clock: impl Into<WallClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The meter. It begins with the first request, or with [`start`](UsageMeter::start).
    #[must_use]
    pub fn build(self) -> UsageMeter {
        let queue = |sink| Arc::new(Queue::new(sink, self.max_waiting));
        UsageMeter(Arc::new(Shared {
            instance: self.instance,
            tag: Chance::new().tag().into(),
            interval: self.interval,
            spool: self.spool,
            units: self.units,
            ledger: Ledger::new(self.max_entries),
            queues: self.sinks.into_iter().map(queue).collect(),
            sealed: Mutex::new(Seal { number: 0, at: self.clock.now() }),
            clock: self.clock,
            task: Task::default(),
            recovered: watch::Sender::new(false),
            recorded: AtomicU64::new(0),
            unattributed: AtomicU64::new(0),
            unspooled: AtomicU64::new(0),
        }))
    }
}

impl UsageMeter {
    /// Begins a meter that delivers nowhere.
    pub fn builder() -> UsageMeterBuilder {
        UsageMeterBuilder {
            instance: "gateway".into(),
            interval: Duration::from_secs(10),
            max_entries: 10_000,
            max_waiting: 64 << 20,
            spool: None,
            units: Units::default(),
            sinks: Vec::new(),
            clock: WallClock::system(),
        }
    }

    /// Begins to seal and to deliver now, and not with the first request, and waits until what a process before has left in
    /// the spool was read: who does not wait for it to the end delivers all the same. It does nothing if it has begun: if the
    /// runtime in which it has ends, the next request begins anew. When the last clone of the meter is dropped the rest is
    /// sealed, and delivered for a minute at most: if the process ends, call [`flush`](Self::flush) before.
    ///
    /// # Errors
    ///
    /// The spool cannot be read. It is tried again each second, and what is counted meanwhile is delivered.
    pub async fn start(&self) -> io::Result<()> {
        match self.begin() {
            Some(recovers) => recovers.await?,
            None => Ok(()),
        }
    }

    /// Begins, unless it has, or there is no runtime. What reads the spool then.
    pub(super) fn begin(&self) -> Option<JoinHandle<io::Result<()>>> {
        let meter = &self.0;
        let begins = meter.task.begin(|| run(Arc::downgrade(meter), meter.interval, meter.queues.clone()));
        (begins && !*meter.recovered.borrow()).then(|| tokio::spawn(recover(Arc::clone(meter))))
    }

    /// Whether it has begun.
    #[inline]
    pub(super) fn has_begun(&self) -> bool {
        self.0.task.runs()
    }

    /// Seals what was counted so far, and waits until all sinks have all of it, as long as `patience`. Whether they have:
    /// else the rest is in the spool, if there is one, or goes with the process.
    pub async fn flush(&self, patience: Duration) -> bool {
        let all = async {
            seal(&self.0).await;
            let _hurry: Vec<_> = self.0.queues.iter().map(|queue| queue.hurry()).collect();
            // The sender is there as long as the meter is.
            let _ = self.0.recovered.subscribe().wait_for(|is_done| *is_done).await;
            emptied(&self.0.queues).await;
        };
        // What the spool holds is tried again, and waited for.
        drop(self.begin());
        timeout(patience, all).await.is_ok()
    }

    /// What was counted and delivered.
    #[must_use]
    pub fn counts(&self) -> UsageCounts {
        let of_sink = |queue: &Arc<Queue>| {
            let ((waiting, waiting_bytes), counts) = (queue.len(), &queue.counts);
            SinkCounts {
                sink: queue.sink.name().to_owned(),
                delivered: counts.delivered.load(Relaxed),
                failures: counts.failures.load(Relaxed),
                waiting,
                waiting_bytes,
                lost_batches: counts.lost_batches.load(Relaxed),
                lost_requests: counts.lost_requests.load(Relaxed),
            }
        };
        UsageCounts {
            recorded: self.0.recorded.load(Relaxed),
            unattributed: self.0.unattributed.load(Relaxed),
            unspooled: self.0.unspooled.load(Relaxed),
            sinks: self.0.queues.iter().map(of_sink).collect(),
        }
    }

    /// Whether nobody else has it, and there is nothing to deliver.
    #[cfg_attr(not(feature = "stack"), expect(dead_code, reason = "a gateway asks"))]
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
            && self.0.ledger.is_empty()
            && self.0.queues.iter().all(|queue| queue.len().0 == 0)
    }

    /// Whether both are one meter.
    #[cfg_attr(not(feature = "stack"), expect(dead_code, reason = "a gateway asks"))]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The layer. Its clones, and all services that they make, share the meter.
    #[must_use]
    pub fn layer(&self) -> GateLayer<Self> {
        GateLayer::new(self.clone())
    }
}

impl Shared {
    /// Takes over what lies in the spool: one batch after the other, so that no more of it is held than may wait.
    fn take_over(&self) -> io::Result<()> {
        if let Some(spool) = &self.spool {
            let left = Spooled::left(spool, &self.tag)?;
            let batches = left.into_iter().filter_map(|path| Spooled::read(path, self.queues.len()));
            batches.for_each(|batch| self.push(batch));
        }
        self.recovered.send_replace(true);
        Ok(())
    }

    /// Seals what was counted since the last time. It blocks if there is a spool.
    fn seal(&self) {
        let mut sealed = self.sealed();
        let lines = self.ledger.take();
        let (from, to) = (sealed.at, self.clock.now());
        sealed.at = to;
        if lines.is_empty() {
            return;
        }
        sealed.number += 1;
        let id = format!("{}-{}", self.tag, sealed.number);
        let batch = UsageBatch::seal(id, &self.instance, from, to, &lines);
        let batch = Spooled::keep(batch, self.queues.len(), self.spool.as_deref());
        self.unspooled.fetch_add(u64::from(self.spool.is_some() && !batch.is_on_disk()), Relaxed);
        self.push(batch);
    }

    fn push(&self, batch: Spooled) {
        let batch = Arc::new(batch);
        self.queues.iter().for_each(|queue| queue.push(Arc::clone(&batch)));
    }

    fn sealed(&self) -> MutexGuard<'_, Seal> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    /// Whoever delivers outlives the meter for a while.
    fn drop(&mut self) {
        self.seal();
    }
}

/// Seals in each interval, and delivers, until the meter is gone.
async fn run(meter: Weak<Shared>, interval: Duration, queues: Vec<Arc<Queue>>) {
    let mut deliveries = JoinSet::new();
    for queue in &queues {
        deliveries.spawn(Arc::clone(queue).deliver());
    }
    loop {
        sleep(interval).await;
        match meter.upgrade() {
            Some(meter) => seal(&meter).await,
            None => break,
        }
    }
    // What the last batch of a meter that another has replaced tells is not lost.
    let _hurry: Vec<_> = queues.iter().map(|queue| queue.hurry()).collect();
    if timeout(HOME, emptied(&queues)).await.is_err() {
        tracing::error!("usage of a meter that is gone was not delivered; what is in the spool comes later");
    }
}

async fn emptied(queues: &[Arc<Queue>]) {
    for queue in queues {
        queue.emptied().await;
    }
}

/// Takes over what lies in the spool; if it cannot be read, again and again as long as the meter is there.
async fn recover(meter: Arc<Shared>) -> io::Result<()> {
    let begun = take_over(&meter).await;
    if let Err(error) = &begun {
        tracing::error!(%error, "the spool of usage cannot be read; it is tried again");
        let meter = Arc::downgrade(&meter);
        tokio::spawn(async move {
            loop {
                sleep(AGAIN).await;
                let Some(meter) = meter.upgrade() else { return };
                if take_over(&meter).await.is_ok() {
                    return;
                }
            }
        });
    }
    begun
}

async fn take_over(meter: &Arc<Shared>) -> io::Result<()> {
    let meter = Arc::clone(meter);
    match meter.spool {
        Some(_) => spawn_blocking(move || meter.take_over()).await?,
        None => meter.take_over(),
    }
}

async fn seal(meter: &Arc<Shared>) {
    let meter = Arc::clone(meter);
    let sealed = match meter.spool {
        Some(_) => spawn_blocking(move || meter.seal()).await,
        None => return meter.seal(),
    };
    if let Err(error) = sealed {
        tracing::error!(%error, "usage was not sealed; the next interval comes");
    }
}

impl fmt::Debug for UsageMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageMeter")
            .field("instance", &self.0.instance)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
