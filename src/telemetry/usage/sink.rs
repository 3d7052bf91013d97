use std::{fmt, future::Future, pin::Pin};

use super::UsageBatch;
use crate::body::BoxError;

/// Where usage is delivered. Ours are [`UsageFile`](super::UsageFile) and, with the feature `redis`, `UsageStream`.
pub trait UsageSink: fmt::Debug + Send + Sync + 'static {
    /// What it is called in logs and metrics.
    fn name(&self) -> &str;

    /// Delivers a batch: all of it, or it will be told to do it again. Batches come one after the other. The same may come
    /// twice, with the same ids.
    fn deliver<'a>(&'a self, batch: &'a UsageBatch) -> Delivering<'a>;
}

/// A delivery under way.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;
