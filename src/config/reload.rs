use std::{future::Future, sync::Arc, time::Duration};

#[cfg(feature = "tls")]
use arc_swap::ArcSwap;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinError, JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    compile::Calls,
    debounce::{Debounce, LOOK},
    fault::{Faults, Severity},
    files::Files,
    kept::{Followers, Kept},
    load::{Config, Reading},
};
#[cfg(feature = "tls")]
use crate::stack::Identities;
use crate::stack::{
    gateway::{BindError, Gateway, Snapshot},
    mesh::{Client, InvalidClient},
};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;

/// How long the stores are waited for that a configuration begins to follow, at the start.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// The same when a change brings them: it is to be in force within two seconds.
const NEXT_LOOK: Duration = Duration::from_millis(500);

/// Why a configured gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A gateway that follows its configuration: a change of the file, or of a file that it names, is in force within two
/// seconds, and a faulty one changes nothing. It stops following when this is dropped.
#[derive(Debug)]
pub struct Configured {
    gateway: Gateway,
    reload: Arc<Notify>,
    follows: AbortHandle,
}

/// A mesh client that follows its configuration, as a [`Configured`] gateway does. It stops following when this is dropped,
/// and its clients go on as they are.
#[derive(Debug)]
pub struct ConfiguredClient {
    followed: Followed,
    reload: Arc<Notify>,
    follows: AbortHandle,
    #[cfg(feature = "prometheus")]
    metrics: Metrics,
}

/// What a configuration is in force in.
trait Force: Clone + Send + Sync + 'static {
    /// What is read from a file.
    type Made: Send + 'static;

    fn read(config: &Config, kept: &Kept) -> Reading<Self::Made>;

    /// Whether it is over, and follows nothing any more.
    fn is_over(&self) -> bool;

    /// Takes it into force, or says why not.
    fn take(&self, made: Self::Made) -> impl Future<Output = Result<(), String>> + Send;

    /// It was refused.
    fn refused(&self, faults: Vec<String>);
}

impl Force for Gateway {
    type Made = Snapshot;

    fn read(config: &Config, kept: &Kept) -> Reading {
        config.read(kept)
    }

    fn is_over(&self) -> bool {
        self.is_draining()
    }

    async fn take(&self, made: Snapshot) -> Result<(), String> {
        self.apply(made).await.map_err(|error| error.to_string())
    }

    fn refused(&self, faults: Vec<String>) {
        Self::refused(self, faults);
    }
}

/// A client, and who it is by what is in force.
#[derive(Debug, Clone)]
struct Followed {
    client: Client,
    #[cfg(feature = "tls")]
    identities: Arc<ArcSwap<Identities>>,
}

impl Followed {
    fn new(made: Calls) -> Result<Self, InvalidClient> {
        Ok(Self {
            client: Client::of(made.destinations)?,
            #[cfg(feature = "tls")]
            identities: Arc::new(ArcSwap::from_pointee(made.identities)),
        })
    }

    #[cfg(feature = "prometheus")]
    fn tell(&self, metrics: &Metrics) {
        self.client.tell(metrics);
        #[cfg(feature = "tls")]
        {
            let identities = Arc::downgrade(&self.identities);
            metrics.also(move |samples| {
                if let Some(identities) = identities.upgrade() {
                    identities.load().numbers(samples);
                }
            });
        }
    }
}

impl Force for Followed {
    type Made = Calls;

    fn read(config: &Config, kept: &Kept) -> Reading<Self::Made> {
        config.read_client(kept)
    }

    fn is_over(&self) -> bool {
        false
    }

    async fn take(&self, made: Calls) -> Result<(), String> {
        self.client.replace(made.destinations).map_err(|error| error.to_string())?;
        #[cfg(feature = "tls")]
        self.identities.store(Arc::new(made.identities));
        Ok(())
    }

    /// It has been logged.
    fn refused(&self, _: Vec<String>) {}
}

impl Config {
    /// The mesh client that it describes, which follows its changes: `upstreams`, and `destinations` with what a rule of a
    /// gateway says of calls.
    ///
    /// ```
    /// use portcullis::config::Config;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::text("calls.yaml", "
    /// apiVersion: portcullis/v1alpha1
    /// upstreams:
    ///   stock: { endpoints: [127.0.0.1:9001], balance: leastRequest }
    ///   catalogue-v1: { endpoints: [127.0.0.1:9002] }
    ///   catalogue-v2: { endpoints: [127.0.0.1:9003] }
    /// destinations:
    ///   catalogue:
    ///     backendRefs: [{ name: catalogue-v1, weight: 95 }, { name: catalogue-v2, weight: 5 }]
    ///     timeouts: { request: 2s, backendRequest: 500ms }
    ///     retry: { attempts: 3 }
    /// ");
    /// let configured = config.client().await?;
    /// let client = configured.client(); // http://stock/..., http://catalogue/...
    /// assert!(client.upstream("stock").is_some() && client.upstream("catalogue").is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub async fn client(
        #[cfg_attr(not(feature = "prometheus"), expect(unused_mut, reason = "only metrics are added"))]
        mut self,
    ) -> Result<ConfiguredClient, Faults> {
        #[cfg(feature = "prometheus")]
        let metrics = self.metrics.get_or_insert_default().clone();
        let Reading { compiled, faults, files } = self.read_client(&Kept::default());
        let Some(compiled) = compiled else { return Err(faults) };
        warn(&faults);
        begin(compiled.followers, FIRST_LOOK).await;
        let Ok(followed) = Followed::new(compiled.made) else { return Err(faults) };
        #[cfg(feature = "prometheus")]
        followed.tell(&metrics);
        let reload = Arc::new(Notify::new());
        let follow = follow(self, followed.clone(), compiled.kept, files, Arc::clone(&reload));
        Ok(ConfiguredClient {
            followed,
            reload,
            follows: tokio::spawn(follow).abort_handle(),
            #[cfg(feature = "prometheus")]
            metrics,
        })
    }

    /// Starts a gateway with this configuration, and follows its changes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, or an address that cannot be bound.
    pub async fn start(self) -> Result<Configured, StartError> {
        let Reading { compiled, faults, files } = self.read(&Kept::default());
        let Some(compiled) = compiled else { return Err(faults.into()) };
        warn(&faults);
        begin(compiled.followers, FIRST_LOOK).await;
        #[cfg(feature = "prometheus")]
        let gateway =
            Gateway::start_counted(compiled.made, &self.metrics.clone().unwrap_or_default()).await?;
        #[cfg(not(feature = "prometheus"))]
        let gateway = Gateway::start(compiled.made).await?;
        let reload = Arc::new(Notify::new());
        let follow = follow(self, gateway.clone(), compiled.kept, files, Arc::clone(&reload));
        Ok(Configured { gateway, reload, follows: tokio::spawn(follow).abort_handle() })
    }
}

impl Configured {
    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Looks at the configuration now, changed or not: what SIGHUP asks for.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

impl ConfiguredClient {
    /// The client. Its clones call what the configuration says by then. It has the handles of what it calls: of
    /// [circuit breakers](Client::circuit_breaker), [canaries](Client::canary), [faults](Client::fault) and
    /// [upstreams](Client::upstreams).
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.followed.client
    }

    /// The numbers: its calls, by destination, what it [tells](Client::tell) of them, and, until this is dropped, how its
    /// `identities` fare.
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Looks at the configuration now, changed or not.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

impl Drop for ConfiguredClient {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

async fn follow<F: Force>(config: Config, force: F, kept: Kept, files: Files, reload: Arc<Notify>) {
    let (config, mut kept) = (Arc::new(config), Arc::new(kept));
    let mut debounce = Debounce::new(files.clone());
    let mut files = Arc::new(files);
    loop {
        let told = timeout(LOOK, reload.notified()).await.is_ok();
        if force.is_over() {
            return;
        }
        let known = Arc::clone(&files);
        let seen = spawn_blocking(move || known.again()).await.inspect_err(|lost| {
            tracing::error!(error = %lost, "the configuration was not looked at; the next look comes");
        });
        let Ok(seen) = seen else { continue };
        if !debounce.look(seen, Instant::now()) && !told {
            continue;
        }
        let (reader, state) = (Arc::clone(&config), Arc::clone(&kept));
        let read = spawn_blocking(move || F::read(&reader, &state)).await;
        let Some(reading) = unless_lost(read, &force) else { continue };
        debounce.take(reading.files.clone());
        files = Arc::new(reading.files.clone());
        let took = force.clone();
        let taken = apart(async move { take(&took, reading).await }).await;
        if let Some(taken) = taken.and_then(|taken| unless_lost(taken, &force)).flatten() {
            kept = Arc::new(taken);
        }
    }
}

/// Does it in a task of its own, which ends with this one.
async fn apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<Result<T, JoinError>> {
    let mut task = JoinSet::new();
    task.spawn(work);
    task.join_next().await
}

/// What came of a change. One that something panicked over is refused; what is in force goes on, and the next look comes.
fn unless_lost<T>(done: Result<T, JoinError>, force: &impl Force) -> Option<T> {
    let lost = match done {
        Ok(done) => return Some(done),
        Err(lost) => format!("it was not taken to its end: {lost}"),
    };
    tracing::error!("configuration refused: {lost}");
    force.refused(vec![lost]);
    None
}

/// Takes what was read into force, or tells why not.
async fn take<F: Force>(force: &F, reading: Reading<F::Made>) -> Option<Kept> {
    let Reading { compiled, faults, .. } = reading;
    let Some(compiled) = compiled else {
        for fault in &faults {
            tracing::error!("configuration refused: {fault}");
        }
        force.refused(faults.iter().map(ToString::to_string).collect());
        return None;
    };
    warn(&faults);
    begin(compiled.followers, NEXT_LOOK).await;
    match force.take(compiled.made).await {
        Ok(()) => Some(compiled.kept),
        Err(error) => {
            tracing::error!("configuration refused: {error}");
            force.refused(vec![error]);
            None
        }
    }
}

/// Looks at what is kept elsewhere, before requests ask for it.
async fn begin(followers: Followers, patience: Duration) {
    let looks: Vec<_> = followers.into_iter().map(|follower| tokio::spawn(follower.start())).collect();
    let all = async {
        for look in looks {
            // One that was lost has told why.
            let _ = look.await;
        }
    };
    if timeout(patience, all).await.is_err() {
        tracing::warn!("a store of API keys does not answer; what needs it is answered 503 until it does");
    }
}

fn warn(faults: &Faults) {
    for fault in faults.iter().filter(|fault| fault.severity == Severity::Warning) {
        tracing::warn!("configuration: {fault}");
    }
}
