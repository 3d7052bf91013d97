use http::{HeaderMap, StatusCode, response};

use super::{End, Failure, Outcome, rejection_in};
use crate::reject::{GrpcCode, Protocol, Rejection};

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
        let said = Said::in_head(&head.headers);
        self.outcome.status = Some(head.status);
        self.outcome.reason = head.extensions.get::<Rejection>().map(Rejection::reason);
        self.outcome.grpc = said.grpc_status.map(GrpcCode::of_text).or(self.outcome.grpc);
        // gRPC-Web carries its trailers inside the body, where they are not looked for.
        let is_grpc = said.content_type.is_some_and(|kind| Protocol::of_type(kind) == Protocol::Grpc);
        self.owes_grpc_status = is_grpc && head.status.is_success();
        let bodiless = bodiless
            || head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.left = if bodiless { Some(0) } else { said.content_length.and_then(number) };
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

/// What a head says of how its body ends. One look over the names there are costs less than a search for each.
#[derive(Default)]
struct Said<'h> {
    content_type: Option<&'h [u8]>,
    content_length: Option<&'h [u8]>,
    grpc_status: Option<&'h [u8]>,
}

impl<'h> Said<'h> {
    fn in_head(headers: &'h HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                "content-type" => &mut said.content_type,
                "content-length" => &mut said.content_length,
                "grpc-status" => &mut said.grpc_status,
                _ => continue,
            };
            place.get_or_insert(value.as_bytes());
        }
        said
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let add = |length: u64, digit: &u8| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { length.checked_mul(10)?.checked_add(digit.into()) }
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
