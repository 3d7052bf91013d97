use std::{fmt, mem};

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
pub struct Completion<P: Pass>(Option<Open<P>>);

/// What is known of a call that has not ended, and who is to be told.
struct Open<P> {
    pass: P,
    outcome: Outcome,
    /// Bytes of body still to come, if known.
    left: Option<u64>,
    owes_grpc_status: bool,
    is_told: bool,
}

impl<P: Pass> Completion<P> {
    /// To be told to `pass`, which is dropped at once if it [holds](Pass::holds) nothing.
    #[must_use]
    pub fn new(pass: P) -> Self {
        let outcome = Outcome::UNHEARD;
        let open = |pass| Open { pass, outcome, left: None, owes_grpc_status: false, is_told: false };
        Self(pass.holds().then(|| open(pass)))
    }

    /// One that has nobody to tell.
    #[must_use]
    pub const fn spent() -> Self {
        Self(None)
    }

    /// Whether somebody wants to see the response.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.pass.watches())
    }

    /// Whether somebody is still to be told, or something is still held.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Who is to be told, until it was.
    #[cfg(feature = "routing")]
    pub(crate) fn pass_mut(&mut self) -> Option<&mut P> {
        self.0.as_mut().map(|open| &mut open.pass)
    }

    /// Leaves a spent one in its place.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Does something inside of the pass's [span](Pass::span). A panic in it is how the call ended.
    pub fn in_scope<T>(&mut self, inside: impl FnOnce() -> T) -> T {
        let fuse = Fuse(self);
        match &fuse.0.0 {
            Some(open) => open.pass.in_scope(inside),
            None => inside(),
        }
    }

    /// The head has come. `bodiless`: no body follows it, whatever its fields say.
    pub fn head(&mut self, head: &mut response::Parts, bodiless: bool) {
        let Some(open) = &mut self.0 else { return };
        open.outcome.see_head(head);
        open.owes_grpc_status = owes_grpc_status(head);
        let bodiless = bodiless
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        open.left = if bodiless { Some(0) } else { content_length(&head.headers) };
        open.pass.on_head(head);
    }

    /// So many bytes of body have come.
    pub fn data(&mut self, bytes: usize) {
        let Some(open) = &mut self.0 else { return };
        open.outcome.bytes += bytes as u64;
        if let Some(left) = &mut open.left {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// The trailers have come; they are the end.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        let Some(open) = &mut self.0 else { return };
        open.outcome.see_grpc(trailers);
        self.complete();
    }

    /// The body has said that it ended.
    pub fn complete(&mut self) {
        let short = self.0.as_ref().and_then(|open| open.left).is_some_and(|left| left > 0);
        self.end(if short { End::Failed(Failure::Protocol) } else { End::Complete });
    }

    /// An error has come instead of a response, or instead of the rest of its body.
    pub fn fail<E: 'static>(&mut self, error: &E) {
        let Some(open) = &mut self.0 else { return };
        let rejection = rejection_in(error);
        open.outcome.reason = rejection.map(Rejection::reason).or(open.outcome.reason);
        self.end(End::Failed(Failure::of(error)));
    }

    fn end(&mut self, end: End) {
        let Some(open) = &mut self.0 else { return };
        // Also if it panics over what it is told.
        if !mem::replace(&mut open.is_told, true) {
            open.outcome.end = end;
            if end == End::Complete && open.owes_grpc_status && open.outcome.grpc.is_none() {
                open.outcome.grpc = Some(GrpcCode::UNKNOWN);
            }
            open.pass.on_end(&open.outcome);
        }
        self.0 = None;
    }
}

/// Tells of a panic on its way out. Whoever catches it drops the call later, which would look like a cancellation.
struct Fuse<'c, P: Pass>(&'c mut Completion<P>);

impl<P: Pass> Drop for Fuse<'_, P> {
    fn drop(&mut self) {
        let Some(open) = &mut self.0.0 else { return };
        if std::thread::panicking() {
            open.outcome.reason = Outcome::PANICKED.reason;
            self.0.end(Outcome::PANICKED.end);
        }
    }
}

impl<P: Pass> Drop for Completion<P> {
    fn drop(&mut self) {
        let Some(open) = &self.0 else { return };
        let ended = open.left == Some(0) || open.outcome.has_failed();
        self.end(if ended { End::Complete } else { End::Cancelled });
    }
}

impl<P: Pass> fmt::Debug for Completion<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0.as_ref().map(|open| &open.outcome);
        f.debug_struct("Completion").field("outcome", &outcome).finish_non_exhaustive()
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let digits = headers.get(header::CONTENT_LENGTH)?.as_bytes();
    let add = |length: u64, digit: &u8| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { length.checked_mul(10)?.checked_add(digit.into()) }
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
