use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use super::{ApiKeys, KeyList, KeyStore, KeyStoreError, KeyTable, KeyVersion, Peppers, keys::WeakKeys};

/// How often the store is asked whether something has changed.
const EVERY: Duration = Duration::from_secs(1);
/// How often the store is told which keys were used.
const TELL: Duration = Duration::from_secs(60);
/// How long a store is waited for that does not itself tell that it cannot answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps a provider's [`ApiKeys`] as a [`KeyStore`] has them, in the background: a change is in force within two
/// seconds. When the store cannot be asked, or what it has cannot be used, the last keys go on; this is told by a log
/// line at its beginning and end, and by [`ApiKeys::health`].
///
/// It also tells the store once a minute which keys were used. It ends with the last handle to its keys.
///
/// ```
/// use std::sync::Arc;
/// use portcullis::authn::api_key::{ApiKey, KeyAdmin, KeyFollower, KeyStore, MemoryKeyStore, mint};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store: Arc<dyn KeyStore> = Arc::new(MemoryKeyStore::default());
/// let minted = KeyAdmin::shared(Arc::clone(&store)).create(mint("shop", "acme")?).await?;
///
/// let keys = KeyFollower::new("partners", store).start().await;
/// assert_eq!(keys.health().keys, Some(1));
/// let layer = ApiKey::new(keys).layer();
/// # let _ = (layer, minted);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct KeyFollower {
    provider: Arc<str>,
    store: Arc<dyn KeyStore>,
    peppers: Peppers,
    keys: ApiKeys,
}

impl KeyFollower {
    /// Follows this store. `provider` is the first part of the principals.
    pub fn new(provider: impl Into<Arc<str>>, store: Arc<dyn KeyStore>) -> Self {
        let (provider, peppers) = (provider.into(), Peppers::default());
        Self { provider, store, peppers, keys: ApiKeys::pending() }
    }

    /// Hashes may be under these peppers.
    pub fn peppers(mut self, peppers: Peppers) -> Self {
        self.peppers = peppers;
        self
    }

    /// Begins with what these keys are, instead of with none.
    pub fn beginning_with(mut self, keys: ApiKeys) -> Self {
        self.keys = keys;
        self
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &ApiKeys {
        &self.keys
    }

    /// Looks once, then goes on looking in the background. If the store does not answer now, the keys are what they
    /// were, or none yet.
    pub async fn start(self) -> ApiKeys {
        let Self { provider, store, peppers, keys } = self;
        let mut task = Task {
            provider,
            store,
            peppers,
            table: keys.current(),
            weak: keys.downgrade(),
            known: None,
            fails: false,
        };
        task.look(&keys).await;
        tokio::spawn(task.run());
        keys
    }
}

struct Task {
    provider: Arc<str>,
    store: Arc<dyn KeyStore>,
    peppers: Peppers,
    weak: WeakKeys,
    /// The last keys that were put into force, which may know of uses that the store does not.
    table: Option<Arc<KeyTable>>,
    known: Option<KeyVersion>,
    fails: bool,
}

impl Task {
    async fn run(mut self) {
        let mut told = Instant::now();
        loop {
            sleep(EVERY).await;
            let keys = self.weak.upgrade();
            if let Some(keys) = &keys {
                self.look(keys).await;
            }
            if keys.is_none() || told.elapsed() >= TELL {
                self.tell().await;
                told = Instant::now();
            }
            if keys.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self, keys: &ApiKeys) {
        match self.ask(keys).await {
            Ok(()) => {
                keys.confirm();
                if std::mem::take(&mut self.fails) {
                    tracing::info!(provider = &*self.provider, "the API keys are up to date again");
                }
            }
            Err(error) => {
                keys.count_failure();
                if !std::mem::replace(&mut self.fails, true) {
                    let had = self.table.as_ref().map(|table| table.len());
                    tracing::error!(
                        provider = &*self.provider, %error, keys = had,
                        "the store of API keys is of no use now; the last keys go on"
                    );
                }
            }
        }
    }

    async fn ask(&mut self, keys: &ApiKeys) -> Result<(), KeyStoreError> {
        let (store, known) = (Arc::clone(&self.store), self.known);
        let list = apart(async move { store.read(known).await }).await?;
        let Some(list) = list else { return Ok(()) };
        let (version, unreadable) = (list.version, list.unreadable);
        let (provider, peppers) = (Arc::clone(&self.provider), self.peppers.clone());
        // A hundred thousand keys take a while.
        let built = spawn_blocking(move || build(&provider, peppers, &list)).await;
        let (table, skipped) = built.map_err(|lost| KeyStoreError::Unavailable(lost.into()))?;
        if unreadable + skipped > 0 {
            tracing::warn!(
                provider = &*self.provider,
                keys = unreadable + skipped,
                "API keys cannot be used"
            );
        }
        if table.is_empty() && unreadable + skipped > 0 {
            return Err(KeyStoreError::Malformed("no entry is in order".to_owned()));
        }
        let table = Arc::new(table);
        keys.put(Arc::clone(&table));
        tracing::info!(provider = &*self.provider, keys = table.len(), "API keys in force");
        (self.table, self.known) = (Some(table), Some(version));
        Ok(())
    }

    async fn tell(&self) {
        let Some(table) = &self.table else { return };
        let uses = table.uses();
        if uses.is_empty() {
            return;
        }
        let (store, told) = (Arc::clone(&self.store), uses.clone());
        match apart(async move { store.used(told).await }).await {
            Ok(()) => table.stored(&uses),
            Err(error) => tracing::debug!(provider = &*self.provider, %error, "last uses are not kept"),
        }
    }
}

/// Asks in a task of its own, since a store may be somebody else's code: one that panics is one that does not answer.
async fn apart<T: Send + 'static>(
    asking: impl Future<Output = Result<T, KeyStoreError>> + Send + 'static,
) -> Result<T, KeyStoreError> {
    let mut task = JoinSet::new();
    task.spawn(timeout(PATIENCE, asking));
    match task.join_next().await {
        Some(Ok(Ok(answer))) => answer,
        Some(Ok(Err(late))) => Err(KeyStoreError::Unavailable(late.into())),
        Some(Err(lost)) => Err(KeyStoreError::Unavailable(lost.into())),
        None => Err(KeyStoreError::Unavailable("it was not asked".into())),
    }
}

/// A table of what can be used, and how many entries cannot: one bad entry takes no other with it.
fn build(provider: &str, peppers: Peppers, list: &KeyList) -> (KeyTable, usize) {
    let mut table = KeyTable::empty(provider, peppers);
    let mut skipped = 0;
    for entry in &list.entries {
        if let Err(error) = table.add(entry) {
            tracing::debug!(provider, %error, "an API key cannot be used");
            skipped += 1;
        }
    }
    (table, skipped)
}
