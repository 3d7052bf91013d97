use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinError, JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    debounce::{Debounce, LOOK},
    fault::{Faults, Severity},
    files::Files,
    kept::{Followers, Kept},
    load::{Config, Reading},
};
use crate::stack::gateway::{BindError, Gateway};

/// How long the stores are waited for that a configuration begins to follow.
const FIRST_LOOK: Duration = Duration::from_secs(2);

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

impl Config {
    /// Starts a gateway with this configuration, and follows its changes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, or an address that cannot be bound.
    pub async fn start(self) -> Result<Configured, StartError> {
        let Reading { compiled, faults, files } = self.read(&Kept::default());
        let Some(compiled) = compiled else { return Err(faults.into()) };
        warn(&faults);
        begin(compiled.followers).await;
        let gateway = Gateway::start(compiled.snapshot).await?;
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

impl Drop for Configured {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

async fn follow(config: Config, gateway: Gateway, kept: Kept, files: Files, reload: Arc<Notify>) {
    let (config, mut kept) = (Arc::new(config), Arc::new(kept));
    let mut debounce = Debounce::new(files.clone());
    let mut files = Arc::new(files);
    loop {
        let told = timeout(LOOK, reload.notified()).await.is_ok();
        if gateway.is_draining() {
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
        let read = spawn_blocking(move || reader.read(&state)).await;
        let Some(reading) = unless_lost(read, &gateway) else { continue };
        debounce.take(reading.files.clone());
        files = Arc::new(reading.files.clone());
        let took = gateway.clone();
        let taken = apart(async move { take(&took, reading).await }).await;
        if let Some(taken) = taken.and_then(|taken| unless_lost(taken, &gateway)).flatten() {
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
fn unless_lost<T>(done: Result<T, JoinError>, gateway: &Gateway) -> Option<T> {
    let lost = match done {
        Ok(done) => return Some(done),
        Err(lost) => format!("it was not taken to its end: {lost}"),
    };
    tracing::error!("configuration refused: {lost}");
    gateway.refused([lost]);
    None
}

/// Takes what was read into force, or tells why not.
async fn take(gateway: &Gateway, reading: Reading) -> Option<Kept> {
    let Reading { compiled, faults, .. } = reading;
    let Some(compiled) = compiled else {
        for fault in &faults {
            tracing::error!("configuration refused: {fault}");
        }
        gateway.refused(faults.iter().map(ToString::to_string));
        return None;
    };
    warn(&faults);
    begin(compiled.followers).await;
    match gateway.apply(compiled.snapshot).await {
        Ok(()) => Some(compiled.kept),
        Err(error) => {
            tracing::error!("configuration refused: {error}");
            gateway.refused([error.to_string()]);
            None
        }
    }
}

/// Looks at what is kept elsewhere, before requests ask for it.
async fn begin(followers: Followers) {
    let looks: Vec<_> = followers.into_iter().map(|follower| tokio::spawn(follower.start())).collect();
    let all = async {
        for look in looks {
            // One that was lost has told why.
            let _ = look.await;
        }
    };
    if timeout(FIRST_LOOK, all).await.is_err() {
        tracing::warn!("a store of API keys does not answer; what needs it is answered 503 until it does");
    }
}

fn warn(faults: &Faults) {
    for fault in faults.iter().filter(|fault| fault.severity == Severity::Warning) {
        tracing::warn!("configuration: {fault}");
    }
}
