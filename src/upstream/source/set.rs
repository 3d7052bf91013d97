use std::sync::Arc;

use crate::upstream::Endpoint;

/// All endpoints that an upstream has at a time, as a source knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct EndpointSet {
    pub(in crate::upstream) endpoints: Arc<[Endpoint]>,
    pub(in crate::upstream) stale: Option<Arc<str>>,
    /// That there are none is certain.
    pub(in crate::upstream) none: bool,
}

impl EndpointSet {
    /// These, and no others.
    ///
    /// A set without any is taken for a fault of its source: what was there before stays, as stale. Who is sure that there
    /// are none says so with [`none`](Self::none).
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<Endpoint>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), stale: None, none: false }
    }

    /// There are no endpoints, and that is certain: requests are refused from now on.
    pub fn none() -> Self {
        Self { endpoints: Arc::new([]), stale: None, none: true }
    }

    /// The set is what was known last, and may be so no longer, for this reason. It is used, and told as stale.
    pub fn stale(self, why: impl Into<Arc<str>>) -> Self {
        Self { stale: Some(why.into()), ..self }
    }

    /// The endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Why it may be so no longer, if it may.
    #[must_use]
    pub fn why_stale(&self) -> Option<&str> {
        self.stale.as_deref()
    }
}
