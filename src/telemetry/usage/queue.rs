use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{UsageBatch, UsageSink, spool::Spooled};
use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
};

/// Between tries of a delivery that failed.
const WAIT: Backoff =
    Backoff::new(Duration::from_millis(100)).max(Duration::from_secs(10)).jitter(Jitter::Equal);

/// The same while somebody waits for all to be delivered.
const HURRIED: Duration = Duration::from_millis(50);

/// The batches that wait for one sink, in their order.
pub(super) struct Queue {
    pub(super) sink: Arc<dyn UsageSink>,
    waiting: Mutex<Waiting>,
    /// Bytes, at most.
    most: usize,
    added: Notify,
    emptied: Notify,
    /// How many want it empty now, whatever the wait between tries.
    hurried: AtomicUsize,
    /// Told when one more does.
    hurry: Notify,
    pub(super) counts: Counts,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Arc<Spooled>>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) delivered: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) lost_batches: AtomicU64,
    pub(super) lost_requests: AtomicU64,
}

impl Queue {
    pub(super) fn new(sink: Arc<dyn UsageSink>, most: usize) -> Self {
        Self {
            sink,
            waiting: Mutex::default(),
            most,
            added: Notify::new(),
            emptied: Notify::new(),
            hurried: AtomicUsize::new(0),
            hurry: Notify::new(),
            counts: Counts::default(),
        }
    }

    /// Adds a batch. What there is no room for is lost, the oldest first, in the spool too, and counted.
    pub(super) fn push(&self, batch: Arc<Spooled>) {
        let (mut waiting, mut lost) = (self.waiting(), Vec::new());
        waiting.bytes += batch.batch.text().len();
        waiting.batches.push_back(batch);
        while waiting.bytes > self.most && waiting.batches.len() > 1 {
            let Some(oldest) = waiting.batches.pop_front() else { break };
            waiting.bytes -= oldest.batch.text().len();
            lost.push(oldest);
        }
        drop(waiting);
        self.added.notify_one();
        for lost in lost {
            self.counts.lost_batches.fetch_add(1, Relaxed);
            self.counts.lost_requests.fetch_add(lost.batch.requests(), Relaxed);
            let (sink, batch) = (self.sink.name(), lost.batch.id());
            tracing::error!(sink, batch, "usage is lost: too much waits to be delivered");
            lost.is_done_with();
        }
    }

    /// Batches and bytes that wait.
    pub(super) fn len(&self) -> (usize, usize) {
        let waiting = self.waiting();
        (waiting.batches.len(), waiting.bytes)
    }

    /// Delivers the oldest batch until it is delivered, then the next, for ever.
    pub(super) async fn deliver(self: Arc<Self>) {
        let (chance, mut tries) = (Chance::new(), 0);
        loop {
            let Some(oldest) = self.oldest() else {
                self.added.notified().await;
                continue;
            };
            let delivered = self.sink.deliver(&oldest.batch).await;
            let Err(error) = delivered else {
                self.counts.delivered.fetch_add(1, Relaxed);
                self.remove(&oldest.batch);
                tries = 0;
                continue;
            };
            self.counts.failures.fetch_add(1, Relaxed);
            tracing::warn!(sink = self.sink.name(), batch = oldest.batch.id(), %error, "usage was not delivered");
            tries += 1;
            let hurry = self.hurry.notified(); // before the look, so that none goes unseen
            let wait = if self.hurried.load(Relaxed) > 0 { HURRIED } else { WAIT.delay(tries, &chance) };
            let _ = timeout(wait, hurry).await;
        }
    }

    /// Delivers now, and whatever fails again soon, as long as what is returned lives.
    pub(super) fn hurry(&self) -> Hurry<'_> {
        self.hurried.fetch_add(1, Relaxed);
        self.hurry.notify_waiters();
        Hurry(self)
    }

    /// Waits until nothing waits any more.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len().0 == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn oldest(&self) -> Option<Arc<Spooled>> {
        let oldest = self.waiting().batches.front().cloned();
        if oldest.is_none() {
            self.emptied.notify_waiters();
        }
        oldest
    }

    /// The batch may have been dropped meanwhile.
    fn remove(&self, delivered: &UsageBatch) {
        let mut waiting = self.waiting();
        let is_first = waiting.batches.front().is_some_and(|first| first.batch.id() == delivered.id());
        if !is_first {
            return;
        }
        if let Some(first) = waiting.batches.pop_front() {
            waiting.bytes -= first.batch.text().len();
            first.is_done_with();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for all to be delivered.
pub(super) struct Hurry<'a>(&'a Queue);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurried.fetch_sub(1, Relaxed);
    }
}
