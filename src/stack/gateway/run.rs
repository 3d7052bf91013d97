use std::{
    fmt,
    future::ready,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    observer::Connections,
    service::{InForce, ListenerService},
    snapshot::Snapshot,
    sockets::{Acceptor, BindError, Bound, Sockets, of_admin},
    tcp::{Forwarder, Numbers},
};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{routing::canary::CanaryHandle, stack::admin::AdminService};

/// How long the addresses of new upstreams, and keys, are waited for before a snapshot is taken into force.
const WARM: Duration = Duration::from_millis(500);
/// The same where nothing is served meanwhile.
const WARM_FIRST: Duration = Duration::from_secs(2);

/// A gateway that runs. Clones are handles to the same one; when the last is dropped it accepts nothing more.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

pub(super) struct Shared {
    pub(super) current: Arc<ArcSwapOption<InForce>>,
    pub(super) sockets: Mutex<Sockets>,
    /// One snapshot at a time.
    turn: tokio::sync::Mutex<()>,
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Metrics,
    pub(super) draining: AtomicBool,
    /// Whether it has been ready once.
    pub(super) was_ready: AtomicBool,
    pub(super) last_load: Mutex<Option<Load>>,
    pub(super) replaced: super::usage::Replaced,
    /// Of connections that carry something else than HTTP.
    pub(super) tcp: Arc<Numbers>,
}

/// What became of the last configuration that was looked at.
pub(super) struct Load {
    pub(super) at: Instant,
    /// Empty: it was taken into force.
    pub(super) faults: Vec<String>,
}

impl Gateway {
    /// Binds the snapshot's addresses and serves.
    ///
    /// # Errors
    ///
    /// An address cannot be bound.
    pub async fn start(snapshot: Snapshot) -> Result<Self, BindError> {
        #[cfg(feature = "prometheus")]
        return Self::start_counted(snapshot, &Metrics::new()).await;
        #[cfg(not(feature = "prometheus"))]
        return Self::new().begun(snapshot).await;
    }

    /// As [`start`](Self::start), with the numbers of this gateway in these metrics, beside others of the process.
    ///
    /// # Errors
    ///
    /// An address cannot be bound.
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    pub async fn start_counted(snapshot: Snapshot, metrics: &Metrics) -> Result<Self, BindError> {
        let gateway = Self::new(metrics);
        gateway.tell_numbers();
        gateway.begun(snapshot).await
    }

    fn new(#[cfg(feature = "prometheus")] metrics: &Metrics) -> Self {
        Self(Arc::new(Shared {
            current: Arc::default(),
            sockets: Mutex::new(Sockets::counted(Connections {
                #[cfg(feature = "prometheus")]
                metrics: metrics.clone(),
            })),
            turn: tokio::sync::Mutex::default(),
            #[cfg(feature = "prometheus")]
            metrics: metrics.clone(),
            draining: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            last_load: Mutex::default(),
            replaced: super::usage::Replaced::default(),
            tcp: Arc::default(),
        }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    async fn begun(self, snapshot: Snapshot) -> Result<Self, BindError> {
        self.apply(snapshot).await?;
        Ok(self)
    }

    /// Has the metrics tell the numbers of what is in force, whatever that is then.
    #[cfg(feature = "prometheus")]
    fn tell_numbers(&self) {
        let gateway = Arc::downgrade(&self.0);
        self.0.metrics.also(move |samples| {
            let Some(gateway) = gateway.upgrade() else { return };
            if let Some(current) = gateway.current.load_full() {
                super::numbers::of(&current.snapshot, samples);
            }
            gateway.tcp.tell(samples);
        });
    }

    /// Takes another snapshot into force: binds what is new, swaps once, and lets what is gone drain. Requests that
    /// have begun end as they began. A gateway that goes down changes no more.
    ///
    /// # Errors
    ///
    /// An address cannot be bound; then nothing has changed.
    pub async fn apply(&self, snapshot: Snapshot) -> Result<(), BindError> {
        let shared = &*self.0;
        let _turn = shared.turn.lock().await;
        let admin = snapshot.admin.as_ref().map(of_admin);
        let snapshot = Arc::new(snapshot);
        let listens: Vec<_> = snapshot.listeners.iter().chain(&admin).collect();
        let bound = shared.sockets().bind(listens.iter().copied())?;
        let operators = admin.as_ref().and_then(|admin| {
            let new = bound.iter().find(|bound| *bound.name() == admin.name).map(Bound::local);
            new.or_else(|| self.address(&admin.name))
        });
        // The address that is about to go serves until then.
        let both: Vec<_> = operators.into_iter().chain(self.address("admin")).collect();
        snapshot.upstreams.iter().for_each(|upstream| upstream.keep_off(&both));
        let patience = if shared.current.load().is_some() { WARM } else { WARM_FIRST };
        warm(&snapshot, patience).await;
        super::usage::begin(&snapshot).await;
        let mut sockets = shared.sockets();
        if self.is_draining() {
            return Ok(());
        }
        snapshot.canaries.start();
        shared.stay_ready();
        let generation = shared.swap(&snapshot, &sockets);
        snapshot.load.start();
        let serve =
            bound.into_iter().map(|bound| match admin.as_ref().is_some_and(|a| a.name == *bound.name()) {
                true => bound.serve(AdminService::new(Arc::downgrade(&self.0)), |_| ready(())),
                false => {
                    let (current, door) = (Arc::clone(&shared.current), bound.door());
                    let numbers = Arc::clone(&shared.tcp);
                    let forwarder = Forwarder { current: Arc::clone(&current), door: door.clone(), numbers };
                    bound.serve(ListenerService::new(current, door), |stream| forwarder.forward(stream))
                }
            });
        let serve: Vec<_> = serve.collect();
        sockets.replace(&listens, serve);
        drop(sockets);
        snapshot.upstreams.iter().for_each(|upstream| upstream.keep_off(operators.as_slice()));
        shared.loaded(Vec::new());
        tracing::info!(generation, "configuration in force");
        Ok(())
    }

    /// Tells that a configuration was looked at and refused: it shows in the status and in a metric.
    pub fn refused(&self, faults: impl IntoIterator<Item = String>) {
        #[cfg(feature = "prometheus")]
        self.0.metrics.process().config_refused();
        self.0.loaded(faults.into_iter().collect());
    }

    /// The number of what is in force, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.current.load().as_ref().map_or(0, |current| current.generation)
    }

    /// Where a listener is bound, or `admin`.
    #[must_use]
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        let sockets = self.0.sockets();
        sockets.serving.iter().find(|acceptor| **acceptor.name() == *listener).map(|acceptor| acceptor.local)
    }

    /// Where everything is bound: the listeners by their names, and `admin`.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let sockets = self.0.sockets();
        sockets.serving.iter().map(|acceptor| (Arc::clone(acceptor.name()), acceptor.local)).collect()
    }

    /// The canary of the rule of this name, if it has one: to be looked at, and moved.
    #[must_use]
    pub fn canary(&self, rule: &str) -> Option<CanaryHandle> {
        self.0.current.load().as_ref().and_then(|current| current.snapshot.canaries.find(rule).cloned())
    }

    /// The numbers.
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Whether it goes down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(super) fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the snapshot into force, and returns its number. Listeners that it does not have, or has at the other side, keep what
    /// they had for what is in flight.
    fn swap(&self, snapshot: &Arc<Snapshot>, sockets: &Sockets) -> u64 {
        let before = self.current.load_full();
        let mut ways = snapshot.ways_in(
            #[cfg(feature = "prometheus")]
            &self.metrics,
        );
        if let Some(before) = &before {
            self.replaced.add(&before.snapshot, snapshot);
            for door in sockets.serving.iter().chain(&sockets.leaving).map(Acceptor::door) {
                if ways.iter().all(|way| way.door != door) {
                    ways.extend(before.way(&door).cloned());
                }
            }
        }
        let generation = before.map_or(0, |before| before.generation) + 1;
        self.tcp.keep(&snapshot.tcp, |name| snapshot.listeners.iter().any(|listen| *listen.name == *name));
        self.current.store(Some(Arc::new(InForce { snapshot: Arc::clone(snapshot), generation, ways })));
        #[cfg(feature = "prometheus")]
        self.metrics.process().config_loaded(generation);
        generation
    }

    fn loaded(&self, faults: Vec<String>) {
        *self.last_load.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Load { at: Instant::now(), faults });
    }
}

/// Asks for the addresses of upstreams, for keys and for identities, so that the first requests need not wait. What is not known
/// in time goes on being asked for.
async fn warm(snapshot: &Snapshot, patience: Duration) {
    let mut asked = JoinSet::new();
    #[cfg(feature = "jwt")]
    for (_, keys) in &snapshot.key_sets {
        let keys = keys.clone();
        // Why they are not there is logged by who fetches them.
        asked.spawn(async move { drop(keys.ready().await) });
    }
    for upstream in &snapshot.upstreams {
        let upstream = upstream.clone();
        asked.spawn(async move {
            if let Err(error) = upstream.warm().await {
                tracing::warn!(upstream = upstream.name(), %error, "no address is known yet");
            }
        });
    }
    let all = async {
        while asked.join_next().await.is_some() {}
        #[cfg(feature = "tls")]
        for (_, credentials) in snapshot.awaited() {
            credentials.ready().await;
        }
    };
    let _ = timeout(patience, all).await;
    asked.detach_all();
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("generation", &self.generation())
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}
