//! The client's side: carry the id along.

use super::set::set;
use crate::{
    context::{Context, RequestId},
    gate::{Gate, GateLayer},
    head::Head,
    reject::Answer,
};
use http::HeaderName;

/// The gate of a client that carries the id of the request being handled to the calls made for it; see the
/// [module docs](super).
#[derive(Clone, Debug)]
pub struct PropagateRequestId {
    header: HeaderName,
    replace: bool,
}

impl Default for PropagateRequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl PropagateRequestId {
    /// Sets `x-request-id` on calls that have none.
    #[must_use]
    pub const fn new() -> Self {
        Self { header: super::X_REQUEST_ID, replace: false }
    }

    /// Uses another header. Default: `x-request-id`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Whether the id replaces one that the caller set itself. Default: it does not.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for PropagateRequestId {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if !self.replace && head.headers().contains_key(&self.header) {
            return Ok(());
        }
        if let Some(id) = known(head) {
            set(head.headers_mut(), &self.header, &id);
        }
        Ok(())
    }
}

/// The call's own word, else that of the request being handled.
fn known(head: &Head<'_>) -> Option<RequestId> {
    let extensions = head.extensions();
    let own = extensions.get::<RequestId>();
    let own = own.or_else(|| extensions.get::<Context>().and_then(Context::request_id));
    match own {
        Some(id) => Some(id.clone()),
        None => Context::current()?.request_id().cloned(),
    }
}
