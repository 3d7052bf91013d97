use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// For how long a recording keeps its memory from others.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is being recorded, in bounded memory. Where there is no more, the oldest gives way if it has had its time: whoever reads
/// slowly keeps nobody else's answer from being recorded for longer.
pub(super) struct Recordings<T> {
    most: usize,
    table: Mutex<Table<T>>,
}

struct Table<T> {
    taken: usize,
    /// By their numbers: the oldest first.
    open: BTreeMap<u64, Open<T>>,
    next: u64,
}

struct Open<T> {
    begun: Instant,
    bytes: usize,
    draft: Arc<Draft<T>>,
}

/// What is recorded so far, until it gives way.
pub(super) struct Draft<T>(Mutex<Option<T>>);

/// One of them. Dropped, it gives its memory back.
pub(super) struct Recording<T> {
    all: Arc<Recordings<T>>,
    number: u64,
    pub(super) draft: Arc<Draft<T>>,
}

impl<T> Recordings<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, table: Mutex::new(Table { taken: 0, open: BTreeMap::new(), next: 0 }) }
    }

    /// The bytes that there are for all.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// The bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        lock(&self.table).taken
    }

    /// Begins with something of this size; `None`: there is no room.
    pub(super) fn begin(self: &Arc<Self>, draft: T, bytes: usize, now: Instant) -> Option<Recording<T>> {
        let mut table = lock(&self.table);
        let number = table.next;
        if !table.make_room(number, bytes, self.most, now) {
            return None;
        }
        let draft = Arc::new(Draft(Mutex::new(Some(draft))));
        table.next += 1;
        table.taken += bytes;
        table.open.insert(number, Open { begun: now, bytes, draft: Arc::clone(&draft) });
        drop(table);
        Some(Recording { all: Arc::clone(self), number, draft })
    }
}

impl<T> Table<T> {
    /// Whether so many bytes are there for this one, which asks no younger one to give way.
    fn make_room(&mut self, number: u64, bytes: usize, most: usize, now: Instant) -> bool {
        while self.taken.saturating_add(bytes) > most {
            let oldest = self.open.first_entry().filter(|oldest| *oldest.key() < number);
            let Some(oldest) = oldest.filter(|oldest| now >= oldest.get().begun + PATIENCE) else {
                return false;
            };
            let gone = oldest.remove();
            self.taken -= gone.bytes;
            gone.draft.take();
        }
        true
    }
}

impl<T> Recording<T> {
    /// Takes so many bytes more, if they are there.
    pub(super) fn grow(&self, bytes: usize, now: Instant) -> bool {
        let mut table = lock(&self.all.table);
        if !table.make_room(self.number, bytes, self.all.most, now) {
            return false;
        }
        let Some(own) = table.open.get_mut(&self.number) else { return false };
        own.bytes += bytes;
        table.taken += bytes;
        true
    }
}

impl<T> Drop for Recording<T> {
    fn drop(&mut self) {
        let mut table = lock(&self.all.table);
        if let Some(own) = table.open.remove(&self.number) {
            table.taken -= own.bytes;
        }
    }
}

impl<T> Draft<T> {
    /// What `change` makes of it; `None`: it had to give way.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        lock(&self.0).as_mut().map(change)
    }

    pub(super) fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
