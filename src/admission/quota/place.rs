use std::sync::Arc;

#[cfg(feature = "redis")]
use super::remote::Remote;
use super::{QuotaOutage, QuotaStore, definition::Counters, file::Kept, store::Kind};
use crate::time::Span;

/// Where counters are, ready to be asked.
pub(super) enum Place {
    Memory(Arc<Kept>),
    #[cfg(feature = "redis")]
    Redis(Remote),
}

impl Place {
    pub(super) fn new(name: &Arc<str>, store: &QuotaStore) -> Self {
        match &store.kind {
            Kind::Memory { most, file } => Self::Memory(Arc::new(Kept::new(name, most.get(), file.as_ref()))),
            #[cfg(feature = "redis")]
            Kind::Redis { redis, deadline } => Self::Redis(Remote::new((**redis).clone(), *deadline)),
        }
    }
}

impl Counters {
    /// Makes ready whatever takes time the first time.
    pub(super) async fn open(&self) -> Result<(), QuotaOutage> {
        match &self.place {
            Place::Memory(kept) => kept.open().await.map_err(QuotaOutage::File),
            #[cfg(feature = "redis")]
            Place::Redis(_) => Ok(()),
        }
    }

    /// What this account has spent in this period.
    pub(super) async fn used(&self, account: u128, span: Span) -> Result<u64, QuotaOutage> {
        match &self.place {
            Place::Memory(kept) => {
                self.open().await?;
                Ok(kept.memory.used(account, span))
            }
            #[cfg(feature = "redis")]
            Place::Redis(remote) => remote.used(self, account, span).await,
        }
    }

    /// Forgets what this account has spent in this period.
    pub(super) async fn reset(&self, account: u128, span: Span) -> Result<(), QuotaOutage> {
        match &self.place {
            Place::Memory(kept) => {
                self.open().await?;
                kept.memory.reset(account);
                let _ = span; // there is none but the latest
                Ok(())
            }
            #[cfg(feature = "redis")]
            Place::Redis(remote) => remote.reset(self, account, span).await,
        }
    }

    /// Charges, or gives back, whatever is allowed. Nobody waits for it.
    pub(super) fn adjust(self: &Arc<Self>, account: u128, span: Span, by: i64) {
        match &self.place {
            _ if by == 0 => {}
            Place::Memory(kept) => kept.memory.adjust(account, span, by),
            #[cfg(feature = "redis")]
            Place::Redis(remote) => remote.adjust(self, account, span, by),
        }
    }

    /// Writes what stands in memory only, if it is to be in a file.
    pub(super) async fn flush(&self) -> std::io::Result<()> {
        match &self.place {
            Place::Memory(kept) => {
                let kept = Arc::clone(kept);
                tokio::task::spawn_blocking(move || kept.write())
                    .await
                    .unwrap_or_else(|lost| Err(lost.into()))
            }
            #[cfg(feature = "redis")]
            Place::Redis(remote) => {
                remote.settled().await;
                Ok(())
            }
        }
    }
}
