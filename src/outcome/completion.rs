use std::fmt;

use http::{HeaderMap, StatusCode, header, response};

use super::{End, Failure, Outcome, rejection_in, word::owes_grpc_status};
use crate::{
    gate::Pass,
    reject::{GrpcCode, Rejection},
};

/// Owned by a call's future, then by its response's body: tells a [`Pass`] exactly once how the call ended.
///
/// Dropping it is an end as well. What that end is depends on what was seen before; see the
/// [module docs](crate::outcome).
pub struct Completion<P: Pass> {
    pass: Option<P>,
    outcome: Outcome,
    /// Bytes of body still to come, if known.
    left: Option<u64>,
    owes_grpc_status: bool,
}

impl<P: Pass> Completion<P> {
    /// To be told to `pass`, which is dropped at once if it [holds](Pass::holds) nothing.
    #[must_use]
    pub fn new(pass: P) -> Self {
        Self { pass: pass.holds().then_some(pass), ..Self::spent() }
    }

    /// One that has nobody to tell.
    #[must_use]
    pub fn spent() -> Self {
        Self { pass: None, outcome: Outcome::UNHEARD, left: None, owes_grpc_status: false }
    }

    /// Whether somebody wants to see the response.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.pass.as_ref().is_some_and(P::watches)
    }

    /// Whether somebody is still to be told, or something is still held.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.pass.is_some()
    }

    /// Leaves a spent one in its place.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::spent())
    }

    /// The head has come. `bodiless`: no body follows it, whatever its fields say.
    pub fn head(&mut self, head: &mut response::Parts, bodiless: bool) {
        self.outcome.see_head(head);
        self.owes_grpc_status = owes_grpc_status(head);
        let bodiless = bodiless
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.left = if bodiless { Some(0) } else { content_length(&head.headers) };
        if let Some(pass) = &mut self.pass {
            pass.on_head(head);
        }
    }

    /// So many bytes of body have come.
    pub fn data(&mut self, bytes: usize) {
        self.outcome.bytes += bytes as u64;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// The trailers have come; they are the end.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.outcome.see_grpc(trailers);
        self.end(End::Complete);
    }

    /// The body has said that it ended.
    pub fn complete(&mut self) {
        let short = self.left.is_some_and(|left| left > 0);
        self.end(if short { End::Failed(Failure::Protocol) } else { End::Complete });
    }

    /// An error has come instead of a response, or instead of the rest of its body.
    pub fn fail<E: 'static>(&mut self, error: &E) {
        if self.pass.is_none() {
            return;
        }
        let rejection = rejection_in(error);
        self.outcome.reason = rejection.map(Rejection::reason).or(self.outcome.reason);
        self.end(End::Failed(Failure::of(error)));
    }

    fn end(&mut self, end: End) {
        let Some(mut pass) = self.pass.take() else { return };
        self.outcome.end = end;
        if end == End::Complete && self.owes_grpc_status && self.outcome.grpc.is_none() {
            self.outcome.grpc = Some(GrpcCode::UNKNOWN);
        }
        pass.on_end(&self.outcome);
    }
}

impl<P: Pass> Drop for Completion<P> {
    fn drop(&mut self) {
        let ended = self.left == Some(0) || self.outcome.has_failed();
        self.end(if ended { End::Complete } else { End::Cancelled });
    }
}

impl<P: Pass> fmt::Debug for Completion<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion")
            .field("open", &self.pass.is_some())
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
