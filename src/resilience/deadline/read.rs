use http::HeaderName;

use super::wire;
use crate::{context::Deadline, gate::Gate, head::Head, reject::Answer};

/// Reads from a request until when its caller waits: from `grpc-timeout` of gRPC calls and, if you choose one, from a
/// header of others. See the [module docs](super).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ReadDeadline {
    header: Option<HeaderName>,
}

impl ReadDeadline {
    /// From `grpc-timeout`.
    pub const fn new() -> Self {
        Self { header: None }
    }

    /// And from this header of requests that are no gRPC: milliseconds, or what gRPC writes.
    pub fn header(self, name: HeaderName) -> Self {
        Self { header: Some(name) }
    }
}

impl Gate for ReadDeadline {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let left = if head.protocol().is_grpc() {
            head.headers().get(wire::GRPC_TIMEOUT).and_then(|value| wire::grpc(value.as_bytes()))
        } else {
            let told = self.header.as_ref().and_then(|name| head.headers().get(name));
            told.and_then(|value| wire::plain(value.as_bytes()))
        };
        if let Some(left) = left {
            let told = Deadline::after(head.now(), left);
            narrow(head, told);
        }
        Ok(())
    }
}

/// Gives a request this deadline, unless it has one that is sooner.
pub(super) fn narrow(head: &mut Head<'_>, deadline: Deadline) {
    match head.extensions_mut().get_mut::<Deadline>() {
        Some(known) => *known = known.sooner(deadline),
        None => drop(head.extensions_mut().insert(deadline)),
    }
}
