use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwapOption, Guard};
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::{Identity, Trust};
use crate::{backoff::Backoff, body::BoxError, chance::Chance};

/// How soon a source that failed is asked again, and how late at most.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(500)).max(Duration::from_secs(5));
/// Before a source that told something is asked again: one that tells without end shall not keep a processor.
const PAUSE: Duration = Duration::from_millis(50);

/// Who we are and whom we believe: what a source of identities tells, always as one.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Material {
    /// Who we are; `None`: a client without a certificate.
    pub identity: Option<Identity>,
    /// Whom we believe.
    pub trust: Trust,
}

impl Material {
    /// This identity, if any, and this trust.
    pub fn new(identity: impl Into<Option<Identity>>, trust: Trust) -> Self {
        Self { identity: identity.into(), trust }
    }
}

/// Where identities come from: files that somebody renews, an agent of SPIFFE, a certificate authority.
///
/// ```
/// use std::time::Duration;
/// use portcullis::{body::BoxError, tls::{Credentials, Identity, IdentitySource, Material, Trust}};
///
/// /// Asks an authority of yours, at half of the life of what it told before.
/// struct Authority { roots: Trust }
///
/// # async fn sign() -> Result<(Vec<u8>, Vec<u8>), std::io::Error> { Ok(Default::default()) }
/// impl IdentitySource for Authority {
///     async fn next(&mut self, before: Option<&Material>) -> Result<Material, BoxError> {
///         if let Some(identity) = before.and_then(|before| before.identity.as_ref()) {
///             let left = identity.expires().duration_since(std::time::SystemTime::now());
///             tokio::time::sleep(left.unwrap_or_default() / 2).await;
///         }
///         let (chain, key) = sign().await?;
///         Ok(Material::new(Identity::from_pem(&chain, &key)?, self.roots.clone()))
///     }
/// }
///
/// # fn begin(roots: Trust) {
/// let credentials = Credentials::follow(Authority { roots });
/// # }
/// ```
pub trait IdentitySource: Send + 'static {
    /// What is to be used in place of `before`, as soon as there is something; `None` if there was nothing yet.
    ///
    /// It may be asked again without having told anything, and is asked again after an error, at growing intervals.
    fn next(&mut self, before: Option<&Material>) -> impl Future<Output = Result<Material, BoxError>> + Send;
}

/// Who we are and whom we believe from now on: what connections are made with. Clones share it.
///
/// Those who have it see what was told last, at once; connections that stand stay what they are. If a source fails, what it
/// told before is used on: an identity until it expires, and what it trusts for as long as nobody says otherwise.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
    _follower: Option<Arc<Follower>>,
}

struct Shared {
    /// `None`: nothing yet.
    now: ArcSwapOption<Material>,
    /// How often something was told.
    told: watch::Sender<u64>,
    failing: Mutex<Failing>,
}

#[derive(Clone, Default)]
struct Failing {
    times: u32,
    why: Option<Arc<str>>,
}

/// Ends with the last who has what it tells.
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How credentials fare: for alarms, long before an identity expires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialsStatus {
    /// Until when our identity is valid, if we have one.
    pub expires: Option<SystemTime>,
    /// How often identity or trust was told, each time another.
    pub rotations: u64,
    /// How often in a row the source has failed since.
    pub failures: u32,
    /// What it said last, if it fails.
    pub failure: Option<Arc<str>>,
}

impl Credentials {
    /// These, until [others are set](Self::set).
    #[must_use]
    pub fn new(material: Material) -> Self {
        let credentials = Self { shared: Arc::new(Shared::new()), _follower: None };
        credentials.set(material);
        credentials
    }

    /// What this source tells. Until it has told something for the first time every handshake fails: wait for
    /// [`ready`](Self::ready).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn follow(source: impl IdentitySource) -> Self {
        Self::following(Shared::new(), source)
    }

    /// These, until this source tells others.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn follow_from(material: Material, source: impl IdentitySource) -> Self {
        let shared = Shared::new();
        shared.tell(material);
        Self::following(shared, source)
    }

    fn following(shared: Shared, source: impl IdentitySource) -> Self {
        let shared = Arc::new(shared);
        let task = tokio::spawn(follow(source, Arc::clone(&shared)));
        Self { shared, _follower: Some(Arc::new(Follower(task.abort_handle()))) }
    }

    /// Takes these from now on, for every new connection.
    pub fn set(&self, material: Material) {
        self.shared.tell(material);
    }

    /// Waits until something was told.
    pub async fn ready(&self) {
        let mut told = self.shared.told.subscribe();
        // Its sender is here.
        let _ = told.wait_for(|times| *times > 0).await;
    }

    /// What was told last.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Material>> {
        self.shared.now.load_full()
    }

    /// How they fare.
    #[must_use]
    pub fn status(&self) -> CredentialsStatus {
        let Failing { times, why } = self.shared.failing().clone();
        let identity = self.current().and_then(|material| material.identity.clone());
        CredentialsStatus {
            expires: identity.map(|identity| identity.expires()),
            rotations: *self.shared.told.borrow(),
            failures: times,
            failure: why,
        }
    }

    /// What is told from now on.
    #[cfg(feature = "transport")]
    pub(super) fn told(&self) -> watch::Receiver<u64> {
        self.shared.told.subscribe()
    }

    /// Whom to believe now; nobody, as long as nothing was told.
    #[cfg(feature = "transport")]
    pub(super) fn trust(&self) -> Trust {
        self.load().as_ref().map(|material| material.trust.clone()).unwrap_or_default()
    }

    pub(super) fn load(&self) -> Guard<Option<Arc<Material>>> {
        self.shared.now.load()
    }
}

impl PartialEq for Credentials {
    /// Whether they are the same, and not only alike.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Credentials {}

impl Shared {
    fn new() -> Self {
        Self { now: ArcSwapOption::empty(), told: watch::Sender::new(0), failing: Mutex::default() }
    }

    fn failing(&self) -> MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut material: Material) {
        *self.failing() = Failing::default();
        if let Some(before) = &*self.now.load() {
            if **before == material {
                return;
            }
            // The same roots are the same thing, so that whoever asks whether they are need not look at them.
            if before.trust == material.trust {
                material.trust = before.trust.clone();
            }
        }
        let identity = material.identity.as_ref();
        tracing::info!(
            name = identity.and_then(|identity| identity.names().name()),
            left = ?identity.map(Identity::left),
            trust = ?material.trust,
            "credentials are in force"
        );
        self.now.store(Some(Arc::new(material)));
        self.told.send_modify(|times| *times += 1);
    }

    fn fail(&self, error: &BoxError) -> u32 {
        let left =
            self.now.load().as_ref().and_then(|material| material.identity.as_ref().map(Identity::left));
        let mut failing = self.failing();
        failing.times = failing.times.saturating_add(1);
        failing.why = Some(error.to_string().into());
        tracing::warn!(%error, times = failing.times, ?left, "credentials cannot be renewed");
        failing.times
    }
}

async fn follow(mut source: impl IdentitySource, shared: Arc<Shared>) {
    let chance = Chance::new();
    loop {
        let before = shared.now.load_full();
        match source.next(before.as_deref()).await {
            Ok(material) => {
                shared.tell(material);
                sleep(PAUSE).await;
            }
            Err(error) => {
                let times = shared.fail(&error);
                sleep(AGAIN.delay(times, &chance)).await;
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("current", &self.current()).finish_non_exhaustive()
    }
}
