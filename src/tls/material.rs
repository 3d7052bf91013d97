use std::{
    any::Any,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwapOption, Guard};
#[cfg(any(feature = "transport", feature = "upstream"))]
use tokio::sync::Semaphore;
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

    /// Whether what serves is not given up for what cannot: files come one by one, and old ones come back.
    pub(super) fn is_no_loss(&self, after: &Self) -> Result<(), &'static str> {
        if after.trust.is_empty() && !self.trust.is_empty() {
            return Err("the roots are gone");
        }
        match (&self.identity, &after.identity) {
            (Some(before), Some(after)) if before.is_valid() && !after.is_valid() => {
                Err("the new certificate is not valid now, and the one before is")
            }
            _ => Ok(()),
        }
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
    /// It may be asked again without having told anything, and is asked again after an error or a panic, at growing intervals.
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
    /// Whether nobody has it any more but its source.
    forgotten: AtomicBool,
    /// Who finds out whether a peer of before is still believed.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    turn: Semaphore,
}

#[derive(Clone, Default)]
struct Failing {
    times: u32,
    why: Option<Arc<str>>,
}

/// Ends with the last who has what it tells.
struct Follower(AbortHandle, Arc<Shared>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.1.forgotten.store(true, Ordering::Relaxed);
        self.0.abort();
    }
}

/// Dropped with the task that asks the source, however that ends.
struct Asking(Arc<Shared>);

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.0.forgotten.load(Ordering::Relaxed) {
            // It may be that all ends: the status tells it to who goes on.
            let why = "nobody asks any more: the runtime has ended in which that was done";
            self.0.note(why);
            tracing::info!(why, "credentials are not renewed any more");
        }
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
    /// When the first issuer of certificates has no revocation list left that is not over, if there are such lists: from then
    /// on nobody is let in whom it has signed.
    pub revocation_expires: Option<SystemTime>,
    /// Why the revocation lists cannot be read, if they cannot: nobody is let in until they can.
    pub revocation_failure: Option<Arc<str>>,
}

impl Credentials {
    /// These, until [others are set](Self::set).
    #[must_use]
    pub fn new(material: Material) -> Self {
        let credentials = Self { shared: Arc::new(Shared::new()), _follower: None };
        credentials.set(material);
        credentials
    }

    /// Nothing, for good: nobody asks.
    #[cfg(feature = "config")]
    pub(crate) fn unknown() -> Self {
        Self { shared: Arc::new(Shared::new()), _follower: None }
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
        let task = tokio::spawn(follow(source, Asking(Arc::clone(&shared))));
        let follower = Follower(task.abort_handle(), Arc::clone(&shared));
        Self { shared, _follower: Some(Arc::new(follower)) }
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

    /// Whether it is known who we are.
    #[cfg(feature = "stack")]
    pub(super) fn has_identity(&self) -> bool {
        self.load().as_ref().is_some_and(|material| material.identity.is_some())
    }

    /// How they fare.
    #[must_use]
    pub fn status(&self) -> CredentialsStatus {
        let Failing { times, why } = self.shared.failing().clone();
        let material = self.current();
        let identity = material.as_ref().and_then(|material| material.identity.as_ref());
        CredentialsStatus {
            expires: identity.map(Identity::expires),
            rotations: *self.shared.told.borrow(),
            failures: times,
            failure: why,
            revocation_expires: material.as_ref().and_then(|material| material.trust.revocation_expires()),
            revocation_failure: material
                .as_ref()
                .and_then(|material| material.trust.unreadable_lists().cloned()),
        }
    }

    /// What is told from now on.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    pub(super) fn told(&self) -> watch::Receiver<u64> {
        self.shared.told.subscribe()
    }

    /// Whom to believe now; nobody, as long as nothing was told.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    pub(super) fn trust(&self) -> Trust {
        self.load().as_ref().map(|material| material.trust.clone()).unwrap_or_default()
    }

    /// Looks at a peer again. Thousands do so at once when roots change: one at a time, and others have their turn between.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    pub(super) async fn in_turn<T>(&self, look: impl FnOnce() -> T) -> T {
        // Nobody closes it.
        let turn = self.shared.turn.acquire().await;
        let seen = look();
        tokio::task::yield_now().await;
        drop(turn);
        seen
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
        Self {
            now: ArcSwapOption::empty(),
            told: watch::Sender::new(0),
            failing: Mutex::default(),
            forgotten: AtomicBool::new(false),
            #[cfg(any(feature = "transport", feature = "upstream"))]
            turn: Semaphore::new(1),
        }
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
        let times = self.note(&error.to_string());
        tracing::warn!(%error, times, ?left, "credentials cannot be renewed");
        times
    }

    /// How often in a row it has failed with this.
    fn note(&self, why: &str) -> u32 {
        let mut failing = self.failing();
        failing.times = failing.times.saturating_add(1);
        failing.why = Some(why.into());
        failing.times
    }
}

async fn follow(mut source: impl IdentitySource, asking: Asking) {
    let (chance, shared) = (Chance::new(), &asking.0);
    loop {
        let before = shared.now.load_full();
        match ask(&mut source, before.as_deref()).await {
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

/// What the source tells. That it panics is a failure like others.
async fn ask(source: &mut impl IdentitySource, before: Option<&Material>) -> Result<Material, BoxError> {
    let mut told = pin!(async { source.next(before).await });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| told.as_mut().poll(cx))) {
        Ok(told) => told,
        Err(panic) => Poll::Ready(Err(format!("the source panicked: {}", message(&*panic)).into())),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("current", &self.current()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{runtime, time::timeout};

    use super::*;

    fn made(name: &str) -> Material {
        let root = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        Material::new(None, Trust::roots(root.as_bytes()).unwrap())
    }

    /// Tells one after the other, panics where there is none, and then has nothing more to tell.
    struct Script(Vec<Option<Material>>);

    impl IdentitySource for Script {
        async fn next(&mut self, _: Option<&Material>) -> Result<Material, BoxError> {
            match self.0.pop() {
                Some(Some(material)) => Ok(material),
                Some(None) => panic!("on purpose {}", self.0.len()),
                None => pending().await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_is_asked_again_and_what_it_told_before_serves() {
        let [first, second] = [made("first"), made("second")];
        let script = vec![Some(second.clone()), None, None, Some(first.clone())];
        let credentials = Credentials::follow(Script(script));
        credentials.ready().await;
        while credentials.status().failures < 2 {
            sleep(PAUSE).await;
        }
        let status = credentials.status();
        assert_eq!((status.rotations, status.failures), (1, 2));
        assert_eq!(status.failure.as_deref(), Some("the source panicked: on purpose 1"));
        assert_eq!(*credentials.current().unwrap(), first);
        timeout(Duration::from_secs(60), async {
            while *credentials.current().unwrap() != second {
                sleep(PAUSE).await;
            }
        })
        .await
        .unwrap();
        assert_eq!((credentials.status().rotations, credentials.status().failures), (2, 0));
    }

    #[test]
    fn the_end_of_the_runtime_is_a_failure() {
        let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let [told, other] = [made("told"), made("other")];
        let credentials = runtime.block_on(async {
            let credentials = Credentials::follow_from(told.clone(), Script(Vec::new()));
            tokio::task::yield_now().await;
            // Of one that nobody has any more nobody hears.
            let forgotten = Credentials::follow_from(other, Script(Vec::new()));
            let shared = Arc::clone(&forgotten.shared);
            tokio::task::yield_now().await;
            drop(forgotten);
            tokio::task::yield_now().await;
            assert_eq!(shared.failing().times, 0);
            credentials
        });
        assert_eq!(credentials.status().failures, 0);
        drop(runtime);
        let status = credentials.status();
        assert_eq!(status.failures, 1);
        assert!(status.failure.unwrap().starts_with("nobody asks any more"));
        assert_eq!(*credentials.current().unwrap(), told);
    }

    /// Those who are looked at again have their turns, and whatever else is to be done has its turn between any two.
    #[cfg(any(feature = "transport", feature = "upstream"))]
    #[tokio::test]
    async fn thousands_who_are_looked_at_again_stop_nobody() {
        use std::sync::atomic::AtomicUsize;

        const PEERS: usize = 2_000;
        let (credentials, looked) = (Credentials::new(made("root")), Arc::new(AtomicUsize::new(0)));
        for _ in 0..PEERS {
            let (credentials, looked, mut told) =
                (credentials.clone(), Arc::clone(&looked), credentials.told());
            tokio::spawn(async move {
                told.changed().await.unwrap();
                credentials.in_turn(|| looked.fetch_add(1, Ordering::Relaxed)).await;
            });
        }
        tokio::task::yield_now().await;
        credentials.set(made("another"));
        let (mut before, mut most) = (0, 0);
        while before < PEERS {
            tokio::task::yield_now().await;
            let now = looked.load(Ordering::Relaxed);
            most = most.max(now - before);
            before = now;
        }
        assert!(most <= 4, "{most} at once");
    }
}
