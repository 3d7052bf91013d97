//! Where the numbers stand: append-only lists of atomics. A request takes no lock and allocates nothing, except
//! the first one with new labels.

use super::labels::{Labels, OTHER};
use crate::trail::Fault;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Counters by labels. They are found by looking through lanes of cells; a service that answers in a dozen ways
/// is served by the first.
#[derive(Debug, Default)]
struct Lane {
    cells: [Cell; Self::CELLS],
    next: OnceLock<Box<Self>>,
}

#[derive(Debug, Default)]
struct Cell {
    /// 0: free.
    labels: AtomicU64,
    count: AtomicU64,
}

impl Lane {
    const CELLS: usize = 16;
    /// Bounds what an upstream that answers with ever new statuses can add to one route: 256 series.
    const LANES: usize = 16;

    /// Counts one; `false` if there is no room for these labels.
    fn add(&self, labels: u64) -> bool {
        let mut lane = self;
        for _ in 1..Self::LANES {
            if lane.add_here(labels) {
                return true;
            }
            lane = lane.next.get_or_init(Box::default);
        }
        lane.add_here(labels)
    }

    fn add_here(&self, labels: u64) -> bool {
        for cell in &self.cells {
            let mut there = cell.labels.load(Relaxed);
            if there == 0 {
                there = cell
                    .labels
                    .compare_exchange(0, labels, Relaxed, Relaxed)
                    .map_or_else(|won| won, |_| labels);
            }
            if there == labels {
                cell.count.fetch_add(1, Relaxed);
                return true;
            }
        }
        false
    }

    fn read(&self) -> impl Iterator<Item = (Labels, u64)> {
        let lanes = std::iter::successors(Some(self), |lane| lane.next.get().map(Box::as_ref));
        lanes.flat_map(|lane| &lane.cells).filter_map(|cell| {
            let labels = Labels::from_bits(cell.labels.load(Relaxed))?;
            Some((labels, cell.count.load(Relaxed)))
        })
    }
}

/// Durations in buckets by upper bound.
#[derive(Debug)]
pub(super) struct Durations {
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds: 584 years.
    sum: AtomicU64,
}

impl Durations {
    pub(super) fn new(bounds: &[Duration]) -> Self {
        Self { buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, bounds: &[Duration], took: Duration) {
        let bucket = bounds.iter().position(|bound| took <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The count in each bucket (the last is without bound), and the sum in seconds.
    pub(super) fn read(&self) -> (Vec<u64>, f64) {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        (buckets, Duration::from_nanos(self.sum.load(Relaxed)).as_secs_f64())
    }
}

/// The numbers of one route, or of one variant of it.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) route: Box<str>,
    pub(super) variant: Option<Box<str>>,
    requests: Lane,
    beyond: AtomicU64,
    durations: Durations,
    /// By [`Fault::KINDS`].
    faults: [AtomicU64; Fault::KINDS.len()],
    next: OnceLock<Box<Self>>,
}

impl Series {
    fn new(route: &str, variant: Option<&str>, bounds: &[Duration]) -> Self {
        Self {
            route: route.into(),
            variant: variant.map(Into::into),
            requests: Lane::default(),
            beyond: AtomicU64::new(0),
            durations: Durations::new(bounds),
            faults: Default::default(),
            next: OnceLock::new(),
        }
    }

    /// Counts a request that ended so, after so long.
    pub(super) fn record(&self, labels: Labels, bounds: &[Duration], took: Duration) {
        if !self.requests.add(labels.bits()) {
            self.beyond.fetch_add(1, Relaxed);
        }
        self.durations.observe(bounds, took);
    }

    /// Counts what was done to a request on purpose.
    pub(super) fn fault(&self, fault: Fault) {
        for (count, is_done) in self.faults.iter().zip(fault.kinds()) {
            count.fetch_add(u64::from(is_done), Relaxed);
        }
    }

    /// How often each kind was done on purpose, if any was.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Fault::KINDS.iter().zip(&self.faults).map(|(kind, count)| (*kind, count.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    /// Each combination of labels and its count.
    pub(super) fn requests(&self) -> impl Iterator<Item = (Labels, u64)> {
        self.requests.read()
    }

    /// How many requests had labels for which there was no room.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond.load(Relaxed)
    }

    /// The count in each bucket (the last is without bound), and the sum in seconds.
    pub(super) fn durations(&self) -> (Vec<u64>, f64) {
        self.durations.read()
    }
}

/// The series of all routes, found by name. Names stay: a counter that vanished with a reload and came back
/// would look like a restart.
#[derive(Debug)]
pub(super) struct Table {
    chains: Box<[OnceLock<Box<Series>>]>,
    len: AtomicUsize,
    cap: usize,
    bounds: Box<[Duration]>,
    other: Series,
}

impl Table {
    pub(super) fn new(cap: usize, bounds: Box<[Duration]>) -> Self {
        let chains = cap.clamp(1, 256).next_power_of_two();
        Self {
            chains: (0..chains).map(|_| OnceLock::new()).collect(),
            len: AtomicUsize::new(0),
            cap,
            other: Series::new(OTHER, None, &bounds),
            bounds,
        }
    }

    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    pub(super) fn bounds(&self) -> &[Duration] {
        &self.bounds
    }

    /// The series of a route and variant; once there are as many as the cap allows, the one of all others.
    pub(super) fn series(&self, route: &str, variant: Option<&str>) -> &Series {
        let mut slot = &self.chains[place(route, variant) & (self.chains.len() - 1)];
        loop {
            match slot.get() {
                Some(series) if *series.route == *route && series.variant.as_deref() == variant => {
                    return series;
                }
                Some(series) => slot = &series.next,
                None if !self.reserve() => return &self.other,
                None => {
                    let series = Box::new(Series::new(route, variant, &self.bounds));
                    if slot.set(series).is_err() {
                        // Another thread was first, perhaps with the same name.
                        self.len.fetch_sub(1, Relaxed);
                    }
                }
            }
        }
    }

    fn reserve(&self) -> bool {
        self.len.fetch_update(Relaxed, Relaxed, |len| (len < self.cap).then_some(len + 1)).is_ok()
    }

    /// Every series, that of all others last and only if it was used.
    pub(super) fn all(&self) -> impl Iterator<Item = &Series> {
        let named = self.chains.iter().flat_map(|chain| {
            std::iter::successors(chain.get().map(Box::as_ref), |series| series.next.get().map(Box::as_ref))
        });
        let used = self.other.durations.buckets.iter().any(|bucket| bucket.load(Relaxed) > 0);
        named.chain(used.then_some(&self.other))
    }
}

/// FNV-1a. Names come from the configuration, so nobody chooses them to collide.
fn place(route: &str, variant: Option<&str>) -> usize {
    let bytes = route.bytes().chain([0]).chain(variant.unwrap_or_default().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as usize
}
