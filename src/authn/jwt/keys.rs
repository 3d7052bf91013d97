use std::{fmt, sync::Arc};

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::Notify;

use super::KeySet;

/// A provider's keys, which can be replaced while requests are served.
///
/// Clones are handles to the same keys. Reading takes no lock: a request sees the set before a replacement or the
/// one after it, whole.
///
/// Whoever fetches keys starts with [`unknown`](Self::unknown), calls [`replace`](Self::replace) when it has them,
/// and waits on [`wanted`](Self::wanted) to learn that a token named a key that is not here. Until the first
/// `replace`, requests with a token are answered 503: nobody knows that their token is bad.
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
    wanted: Notify,
}

impl Keys {
    /// Keys that are not known yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self(Arc::new(Shared { current: ArcSwapOption::empty(), wanted: Notify::new() }))
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

    pub(super) fn want(&self) {
        self.0.wanted.notify_one();
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
