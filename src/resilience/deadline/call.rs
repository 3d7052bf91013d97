use std::time::Duration;

use http::HeaderName;

use super::{read::narrow, wire};
use crate::{
    context::{Context, Deadline},
    gate::Gate,
    head::Head,
    reject::Answer,
};

/// Gives a call the deadline of the request that it is made for, less a margin. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct InheritDeadline {
    margin: Duration,
}

impl InheritDeadline {
    /// With a margin of 5 ms.
    pub const fn new() -> Self {
        Self { margin: Duration::from_millis(5) }
    }

    /// How much sooner a call must be done than the request, so that there is time to answer.
    pub const fn margin(self, margin: Duration) -> Self {
        Self { margin }
    }
}

impl Default for InheritDeadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate for InheritDeadline {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let own = head.extensions().get::<Context>().and_then(Context::deadline);
        if let Some(deadline) = own.or_else(|| Context::current()?.deadline()) {
            narrow(head, deadline.less(self.margin));
        }
        Ok(())
    }
}

/// Tells the server that is called how much time is left: gRPC calls in `grpc-timeout`, others in a header that you choose.
/// A shorter time that stands there already is left, and a call without a deadline stays as it is. See the
/// [module docs](super).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TellDeadline {
    header: Option<HeaderName>,
    margin: Duration,
}

impl TellDeadline {
    /// In `grpc-timeout`.
    pub const fn new() -> Self {
        Self { header: None, margin: Duration::ZERO }
    }

    /// And in this header of calls that are no gRPC, in milliseconds.
    pub fn header(self, name: HeaderName) -> Self {
        Self { header: Some(name), ..self }
    }

    /// How much less than is left the server is told, so that its own word about it comes in time. Nothing unless told.
    pub fn margin(self, margin: Duration) -> Self {
        Self { margin, ..self }
    }
}

impl Gate for TellDeadline {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let Some(deadline) = head.extensions().get::<Deadline>().copied() else { return Ok(()) };
        let is_grpc = head.protocol().is_grpc();
        if !is_grpc && self.header.is_none() {
            return Ok(());
        }
        let left = deadline.left(head.now()).saturating_sub(self.margin);
        let shorter = |known: Option<Duration>| known.is_some_and(|known| known <= left);
        if is_grpc {
            let known = head.headers().get(wire::GRPC_TIMEOUT).and_then(|value| wire::grpc(value.as_bytes()));
            if let (false, Some(left)) = (shorter(known), wire::to_grpc(left)) {
                head.headers_mut().insert(wire::GRPC_TIMEOUT, left);
            }
        } else if let Some(name) = &self.header {
            let known = head.headers().get(name).and_then(|value| wire::plain(value.as_bytes()));
            if !shorter(known) {
                head.headers_mut().insert(name.clone(), wire::to_plain(left));
            }
        }
        Ok(())
    }
}
