use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::{sync::Notify, time::Instant};

use super::KeySet;

/// A provider's keys, which can be replaced while requests are served.
///
/// Clones are handles to the same keys. Reading takes no lock: a request sees the set before a replacement or the
/// one after it, whole.
///
/// [`RemoteKeys`](crate::authn::jwks::RemoteKeys) fetches them over the network. Whoever fetches them in another way
/// starts with [`unknown`](Self::unknown), calls [`replace`](Self::replace) when it has them, and waits on
/// [`wanted`](Self::wanted) to learn that a token named a key that is not here. Until the first `replace`, requests with a
/// token are answered 503: nobody knows that their token is bad.
///
/// ```
/// use portcullis::authn::jwt::{Jwt, Key, KeySet, Keys};
///
/// let keys = Keys::from(KeySet::new([Key::secret(&[7; 32])?])?);
/// let jwt = Jwt::new(keys.clone());
/// keys.replace(KeySet::new([Key::secret(&[8; 32])?])?); // in force for the next request
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    current: ArcSwapOption<KeySet>,
    wanted: Arc<Notify>,
    /// Who keeps them up to date, for as long as there is anybody who uses them.
    keeper: Option<Arc<dyn Keeper>>,
    born: Instant,
    /// Until when the present set says which keys there are not, in milliseconds after `born`.
    settled: AtomicU64,
}

/// Keeps keys up to date.
pub(in crate::authn) trait Keeper: Send + Sync + 'static {
    /// They are used: it begins, unless it has begun.
    fn start(self: Arc<Self>, keys: &WeakKeys);
    /// Nobody uses them any more.
    fn stop(&self);
}

/// The same keys, as whoever keeps them knows them.
#[derive(Clone)]
pub(in crate::authn) struct WeakKeys {
    shared: Weak<Shared>,
    wanted: Arc<Notify>,
}

impl WeakKeys {
    /// The keys, if anybody uses them.
    pub(in crate::authn) fn upgrade(&self) -> Option<Keys> {
        self.shared.upgrade().map(Keys)
    }

    /// As [`Keys::wanted`].
    pub(in crate::authn) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
    }
}

impl Keys {
    /// Keys that are not known yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self::of(None, u64::MAX)
    }

    /// Keys that are kept up to date.
    pub(in crate::authn) fn kept(keeper: Arc<dyn Keeper>) -> Self {
        Self::of(Some(keeper), 0)
    }

    fn of(keeper: Option<Arc<dyn Keeper>>, settled: u64) -> Self {
        Self(Arc::new(Shared {
            current: ArcSwapOption::empty(),
            wanted: Arc::new(Notify::new()),
            keeper,
            born: Instant::now(),
            settled: AtomicU64::new(settled),
        }))
    }

    /// Puts these keys in the place of the present ones. What left the set verifies nothing from then on; a key that
    /// stays is the same one.
    pub fn replace(&self, keys: KeySet) {
        let keys = match &*self.load() {
            Some(before) => keys.after(before),
            None => keys,
        };
        self.0.current.store(Some(Arc::new(keys)));
    }

    /// Takes over a set as it is.
    pub(in crate::authn) fn adopt(&self, keys: Arc<KeySet>) {
        self.0.current.store(Some(keys));
    }

    /// Forgets the present keys: nobody knows any more whether they are good.
    pub(in crate::authn) fn forget(&self) {
        self.0.current.store(None);
    }

    /// Until this moment the present set says which keys there are not; `None`: a key that is not in it may be one of
    /// the provider's.
    pub(in crate::authn) fn settle(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| self.millis(until));
        self.0.settled.store(until, Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.born).as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Has whoever keeps them begin.
    pub(in crate::authn) fn start(&self) {
        if let Some(keeper) = &self.0.keeper {
            Arc::clone(keeper)
                .start(&WeakKeys { shared: Arc::downgrade(&self.0), wanted: Arc::clone(&self.0.wanted) });
        }
    }

    /// The present keys, if they are known.
    #[must_use]
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.0.current.load_full()
    }

    /// Waits until a token names a key that is not here, or keys are asked for before they are known. What happened
    /// before the call counts too, once.
    ///
    /// Strangers can make up names of keys, so whoever fetches because of this must have a cool-down.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    pub(super) fn load(&self) -> Guard<Option<Arc<KeySet>>> {
        self.0.current.load()
    }

    /// Tells that a key is needed that is not here. `false`: nobody can say now that there is no such key.
    pub(super) fn want(&self) -> bool {
        self.start();
        self.0.wanted.notify_one();
        let settled = self.0.settled.load(Ordering::Relaxed);
        settled == u64::MAX || self.millis(Instant::now()) < settled
    }
}

impl From<KeySet> for Keys {
    fn from(keys: KeySet) -> Self {
        let this = Self::unknown();
        this.replace(keys);
        this
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&*self.0.current.load()).finish()
    }
}
