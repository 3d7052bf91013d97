use http::{HeaderMap, StatusCode, header, response};

use super::{End, Failure, Outcome, rejection_in, word::owes_grpc_status};
use crate::reject::{GrpcCode, Rejection};

/// What is known of a call that has not ended, and how it ends.
pub(crate) struct Course {
    outcome: Outcome,
    /// Bytes of body still to come, if known.
    left: Option<u64>,
    owes_grpc_status: bool,
}

impl Course {
    /// Of one of which nothing has been heard.
    pub(crate) const fn unheard() -> Self {
        Self { outcome: Outcome::UNHEARD, left: None, owes_grpc_status: false }
    }

    pub(super) const fn so_far(&self) -> &Outcome {
        &self.outcome
    }

    /// The head has come. `bodiless`: no body follows it, whatever its fields say.
    pub(crate) fn head(&mut self, head: &response::Parts, bodiless: bool) {
        self.outcome.see_head(head);
        self.owes_grpc_status = owes_grpc_status(head);
        let bodiless = bodiless
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.left = if bodiless { Some(0) } else { content_length(&head.headers) };
    }

    /// So many bytes of body have come.
    pub(crate) fn data(&mut self, bytes: usize) {
        self.outcome.bytes += bytes as u64;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// The trailers have come; they are the end.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) -> End {
        self.outcome.see_grpc(trailers);
        self.complete()
    }

    /// The body has said that it ended.
    pub(crate) fn complete(&self) -> End {
        let is_short = self.left.is_some_and(|left| left > 0);
        if is_short { End::Failed(Failure::Protocol) } else { End::Complete }
    }

    /// An error has come instead of a response, or instead of the rest of its body.
    pub(crate) fn fail<E: 'static>(&mut self, error: &E) -> End {
        let rejection = rejection_in(error);
        self.outcome.reason = rejection.map(Rejection::reason).or(self.outcome.reason);
        End::Failed(Failure::of(error))
    }

    /// A panic is on its way out.
    pub(super) fn panic(&mut self) -> End {
        self.outcome.reason = Outcome::PANICKED.reason;
        Outcome::PANICKED.end
    }

    /// Nobody waits for the rest, if there is one.
    pub(crate) fn dropped(&self) -> End {
        let has_ended = self.left == Some(0) || self.outcome.has_failed();
        if has_ended { End::Complete } else { End::Cancelled }
    }

    /// What became of it, if it ends so.
    pub(crate) fn end(&mut self, end: End) -> &Outcome {
        self.outcome.end = end;
        if end == End::Complete && self.owes_grpc_status && self.outcome.grpc.is_none() {
            self.outcome.grpc = Some(GrpcCode::UNKNOWN);
        }
        &self.outcome
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
