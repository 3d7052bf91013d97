use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{InvalidKey, KeyTable};
use crate::identity::Principal;

/// A provider's keys, which can be replaced while requests are served. Clones are handles to the same keys; reading
/// takes no lock.
#[derive(Clone)]
pub struct ApiKeys(Arc<Shared>);

/// The keys, as long as somebody uses them.
pub(super) struct WeakKeys(Weak<Shared>);

struct Shared {
    table: ArcSwapOption<KeyTable>,
    born: Instant,
    /// Milliseconds after `born`.
    confirmed: AtomicU64,
    failures: AtomicU64,
}

/// How fresh a provider's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysHealth {
    /// How many keys there are, also those that are not valid; `None` if no keys were ever had.
    pub keys: Option<usize>,
    /// How long ago the store was last heard of. What nobody follows is as old as it is.
    pub age: Duration,
    /// How often the store did not answer, or what it has could not be used.
    pub failures: u64,
}

impl ApiKeys {
    /// No keys yet: nothing can be said of any, and requests that show one are answered 503.
    #[must_use]
    pub fn pending() -> Self {
        Self::with(None)
    }

    fn with(table: Option<Arc<KeyTable>>) -> Self {
        let (confirmed, failures) = Default::default();
        Self(Arc::new(Shared { table: ArcSwapOption::new(table), born: Instant::now(), confirmed, failures }))
    }

    /// Puts these keys in the place of the present ones, for the next request on.
    pub fn replace(&self, table: KeyTable) {
        self.put(Arc::new(table));
    }

    pub(super) fn put(&self, table: Arc<KeyTable>) {
        if let Some(before) = &*self.0.table.load() {
            table.succeed(before);
        }
        self.0.table.store(Some(table));
        self.confirm();
    }

    /// The present keys, if there were any yet.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeyTable>> {
        self.0.table.load_full()
    }

    /// How fresh they are.
    #[must_use]
    pub fn health(&self) -> KeysHealth {
        let confirmed = self.0.born + Duration::from_millis(self.0.confirmed.load(Relaxed));
        KeysHealth {
            keys: self.0.table.load().as_ref().map(|table| table.len()),
            age: confirmed.elapsed(),
            failures: self.0.failures.load(Relaxed),
        }
    }

    /// `None`: there are no keys yet.
    pub(super) fn verify(&self, key: &str, now: SystemTime) -> Option<Result<Principal, InvalidKey>> {
        self.0.table.load().as_ref().map(|table| table.verify(key, now))
    }

    /// They are what the store has.
    pub(super) fn confirm(&self) {
        let age = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.confirmed.store(age, Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn downgrade(&self) -> WeakKeys {
        WeakKeys(Arc::downgrade(&self.0))
    }
}

impl WeakKeys {
    pub(super) fn upgrade(&self) -> Option<ApiKeys> {
        self.0.upgrade().map(ApiKeys)
    }
}

impl From<KeyTable> for ApiKeys {
    fn from(table: KeyTable) -> Self {
        Self::with(Some(Arc::new(table)))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiKeys").field(&self.0.table.load().as_deref()).finish()
    }
}
