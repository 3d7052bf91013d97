use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{Memory, ramp::Ramp, settle::Settle};
use crate::{
    admission::{Priority, concurrency::Concurrency},
    ratio::Ratio,
    task::Task,
    time::after,
};

/// How often the sources are read.
const TICK: Duration = Duration::from_millis(50);
/// Memory is read once in so many ticks: it takes some system calls.
const MEMORY_TICKS: u32 = 5;
/// The highest pressure of memory. An allocator keeps what it has taken, though nothing is served any more: at 1 nobody would
/// be let in to change it, those who ask after our health neither.
const MEMORY_FULL: f64 = 0.95;
/// What is left, one tick later, of a delay of the event loop.
const FADES: f64 = 0.7;
/// The pressure 1: in decimals, so that what was reckoned is what is told.
const FULL: f64 = 1_000_000.0;

/// The pressure while nothing is watched.
const UNKNOWN: u32 = u32::MAX;

/// Watches how much this process has to do. Clones are the same. See the [module docs](super).
#[derive(Clone)]
pub struct Overload(Arc<Shared>);

struct Shared {
    /// The highest pressure, in millionths: all that a request looks at.
    pressure: AtomicU32,
    sources: Mutex<Vec<Source>>,
    tick: Duration,
    task: Task,
    shed: [AtomicU64; Priority::ALL.len()],
}

struct Source {
    read: Read,
    ramp: Ramp,
    /// Of memory.
    settle: Option<Settle>,
    reading: Reading,
}

type Read = Box<dyn FnMut(&Tick) -> Option<f64> + Send>;

/// A source that is to be.
struct Watched {
    name: Arc<str>,
    range: Range<f64>,
    settle: Option<Settle>,
    read: Read,
}

/// What a source is told when it is read.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Tick {
    /// The time.
    pub now: Instant,
    /// How much later it is than it was to be: the delay of the event loop.
    pub late: Duration,
}

/// What a source said last.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// The source.
    pub source: Arc<str>,
    /// What it has read: seconds, a share, whatever it is of. `None` if it could not.
    pub value: Option<f64>,
    /// From 0 to 1.
    pub pressure: f64,
}

/// Gathers what an [`Overload`] watches.
#[must_use]
pub struct OverloadBuilder {
    sources: Vec<Watched>,
    tick: Duration,
}

/// Why something cannot be watched.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OverloadError {
    /// A pressure must rise over a range that is not empty.
    #[error("the range of {source_name:?} is empty")]
    Range {
        /// The source.
        source_name: Arc<str>,
    },
}

impl Overload {
    /// Watches nothing yet.
    pub fn builder() -> OverloadBuilder {
        OverloadBuilder { sources: Vec::new(), tick: TICK }
    }

    /// Begins to watch now, and not with the first request that a [`Shed`](super::Shed) sees: in a task of this runtime that
    /// ends with the last clone. If the runtime ends before, nothing presses until the next request begins anew. It does nothing
    /// while it watches, or outside of a tokio runtime.
    pub fn start(&self) {
        self.0.task.begin(|| {
            self.0.pressure.store(0, Ordering::Relaxed);
            watch(Watching(Arc::downgrade(&self.0)), self.0.tick)
        });
    }

    /// How high the pressure is, from 0 to 1.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        match self.0.pressure.load(Ordering::Relaxed) {
            UNKNOWN => 0.0,
            pressure => f64::from(pressure) / FULL,
        }
    }

    /// Whether there is nothing to look at: it watches, and nothing presses.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.0.pressure.load(Ordering::Relaxed) == 0
    }

    /// What each source said last.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        self.0.sources().iter().map(|source| source.reading.clone()).collect()
    }

    /// How many requests of that priority were refused by all gates made of this.
    #[must_use]
    pub fn shed(&self, priority: Priority) -> u64 {
        self.0.shed[priority as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, priority: Priority) {
        self.0.shed[priority as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether both are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What was read last is true as long as somebody reads.
struct Watching(Weak<Shared>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.forget();
        }
    }
}

async fn watch(shared: Watching, tick: Duration) {
    loop {
        let due = after(Instant::now(), tick);
        sleep_until(due).await;
        let Some(shared) = shared.0.upgrade() else { return };
        let now = Instant::now();
        shared.read(&Tick { now, late: now.saturating_duration_since(due) });
    }
}

impl Shared {
    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        for source in &mut *self.sources() {
            source.reading.value = None;
            source.reading.pressure = 0.0;
        }
        self.pressure.store(UNKNOWN, Ordering::Relaxed);
    }

    fn read(&self, tick: &Tick) {
        let mut highest = 0.0_f64;
        for source in &mut *self.sources() {
            let value = (source.read)(tick).filter(|value| !value.is_nan());
            // What cannot be read presses nobody.
            let pressure = value.map_or(0.0, |value| source.pressure(tick.now, value));
            if pressure > 0.0 && source.reading.pressure == 0.0 {
                tracing::warn!(source = &*source.reading.source, value, pressure, "overload begins");
            } else if pressure == 0.0 && source.reading.pressure > 0.0 {
                tracing::info!(source = &*source.reading.source, value, "overload ends");
            }
            source.reading.value = value;
            source.reading.pressure = pressure;
            highest = highest.max(pressure);
        }
        self.pressure.store((highest * FULL).round() as u32, Ordering::Relaxed);
    }
}

impl Source {
    fn pressure(&mut self, now: Instant, value: f64) -> f64 {
        let pressure = self.ramp.pressure(value);
        match &mut self.settle {
            Some(settle) => settle.settled(now, value, pressure.min(MEMORY_FULL)),
            None => pressure,
        }
    }
}

impl OverloadBuilder {
    /// The delay of the event loop: how much later than it should this process does what it has to do. After a long one the
    /// reading falls by a third each tick.
    pub fn event_loop(self, range: Range<Duration>) -> Self {
        let mut delay = 0.0_f64;
        self.source("event_loop", seconds(&range), move |tick| {
            delay = tick.late.as_secs_f64().max(delay * FADES);
            Some(delay)
        })
    }

    /// The share of memory that is taken. It may stay taken when nothing is served any more: an allocator keeps it for those
    /// who come. So it presses up to 0.95 only, at which [`Priority::Critical`] passes; and while it does not grow, its pressure
    /// goes: half a minute after the last growth it is gone. What grows again as others are let in waits twice as long each
    /// time, up to ten minutes. An allocator that tells what it has given out is a better [source](Self::source).
    pub fn memory(mut self, memory: Memory, range: Range<Ratio>) -> Self {
        let share = |ratio: Ratio| f64::from(ratio.numerator()) / f64::from(ratio.denominator());
        let (mut turn, mut last) = (0, None);
        let range = share(range.start)..share(range.end);
        let read = move |_: &Tick| {
            if turn % MEMORY_TICKS == 0 {
                // Files of the kernel: nothing waits for a disk.
                last = memory.share();
            }
            turn += 1;
            last
        };
        let (name, settle) = ("memory".into(), Some(Settle::new()));
        self.sources.push(Watched { name, range, settle, read: Box::new(read) });
        self
    }

    /// How long the queue of a limit lets wait: the shortest wait since the last tick, so that a burst, and those who let
    /// more important ones pass, do not count. The queues of a limit by key are not everybody's, and do not count either.
    pub fn queue_delay(self, limit: &Concurrency, range: Range<Duration>) -> Self {
        let (name, limit) = (format!("queue:{}", limit.name()), limit.clone());
        self.source(name, seconds(&range), move |_| Some(limit.take_queue_delay().as_secs_f64()))
    }

    /// A number of your own. `read` is called each tick, and must not block.
    pub fn source(
        mut self,
        name: impl Into<Arc<str>>,
        range: Range<f64>,
        read: impl FnMut(&Tick) -> Option<f64> + Send + 'static,
    ) -> Self {
        self.sources.push(Watched { name: name.into(), range, settle: None, read: Box::new(read) });
        self
    }

    /// How often the sources are read; 50 ms unless told, and at least a millisecond.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick.max(Duration::from_millis(1));
        self
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// A range is empty.
    pub fn build(self) -> Result<Overload, OverloadError> {
        let watched = |Watched { name, range, settle, read }| {
            let reading = Reading { source: Arc::clone(&name), value: None, pressure: 0.0 };
            let ramp = Ramp::new(&range).ok_or(OverloadError::Range { source_name: name })?;
            Ok(Source { read, ramp, settle, reading })
        };
        let sources = self.sources.into_iter().map(watched).collect::<Result<_, _>>()?;
        Ok(Overload(Arc::new(Shared {
            pressure: AtomicU32::new(UNKNOWN),
            sources: Mutex::new(sources),
            tick: self.tick,
            task: Task::default(),
            shed: Default::default(),
        })))
    }
}

fn seconds(range: &Range<Duration>) -> Range<f64> {
    range.start.as_secs_f64()..range.end.as_secs_f64()
}

impl fmt::Debug for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overload").field("pressure", &self.pressure()).finish_non_exhaustive()
    }
}

impl fmt::Debug for OverloadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| &source.name).collect();
        f.debug_struct("OverloadBuilder").field("sources", &names).finish_non_exhaustive()
    }
}
