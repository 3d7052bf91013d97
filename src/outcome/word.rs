#[cfg(any(feature = "resilience", feature = "upstream"))]
use http::header::CONTENT_TYPE;
#[cfg(any(feature = "resilience", feature = "upstream"))]
use http::response;
use http::{HeaderMap, StatusCode};

use super::Failure;
use crate::reject::{GrpcCode, Reason};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The HTTP status, if a head came.
    pub status: Option<StatusCode>,
    /// The gRPC status, from the head or the trailers. An answer in gRPC that ended without one is `UNKNOWN`.
    pub grpc: Option<GrpcCode>,
    /// Why one of our layers refused or failed it, if one did.
    pub reason: Option<Reason>,
    /// How it ended.
    pub end: End,
    /// How many bytes of body have come.
    pub bytes: u64,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The response was given to its end.
    Complete,
    /// Nobody waited for the end: the call or its body was dropped.
    Cancelled,
    /// There was an error instead of a response, or instead of the rest of its body.
    Failed(Failure),
}

/// Who is to blame for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It went well.
    Success,
    /// The caller erred: a 4xx status, a gRPC code that blames the caller, a deadline that the caller shortened.
    CallerFault,
    /// The server failed: a 5xx status, a gRPC code that blames the server, a transport error.
    ServerFault,
    /// The caller went away; nobody is to blame.
    Cancelled,
}

impl Verdict {
    /// The word for it in logs and metrics: snake case, stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::CallerFault => "caller_fault",
            Self::ServerFault => "server_fault",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Outcome {
    /// The outcome of a call of which nothing has been heard.
    pub(super) const UNHEARD: Self =
        Self { status: None, grpc: None, reason: None, end: End::Cancelled, bytes: 0 };

    /// The outcome of a call that panicked before anything was heard of it.
    pub(crate) const PANICKED: Self =
        Self { reason: Some(Reason::Internal), end: End::Failed(Failure::Other), ..Self::UNHEARD };

    /// Who is to blame.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.end == End::Cancelled {
            return Verdict::Cancelled;
        }
        if self.reason.is_some_and(Reason::blames_caller) {
            return Verdict::CallerFault;
        }
        match self.end {
            End::Failed(failure) if failure.reason().blames_caller() => return Verdict::CallerFault,
            End::Failed(_) => return Verdict::ServerFault,
            End::Complete | End::Cancelled => {}
        }
        match (self.status, self.grpc) {
            (Some(status), _) if is_server_fault(status) => Verdict::ServerFault,
            (Some(status), _) if status.is_client_error() => Verdict::CallerFault,
            (_, None | Some(GrpcCode::OK)) => Verdict::Success,
            (_, Some(code)) if code.is_server_fault() => Verdict::ServerFault,
            _ => Verdict::CallerFault,
        }
    }

    /// Whether it went well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.verdict() == Verdict::Success
    }

    /// Whether head or trailers have already decided that the call failed.
    pub(super) fn has_failed(&self) -> bool {
        self.status.is_some_and(|status| status.is_client_error() || is_server_fault(status))
            || self.grpc.is_some_and(|code| code != GrpcCode::OK)
    }

    pub(super) fn see_grpc(&mut self, headers: &HeaderMap) {
        if let Some(code) = GrpcCode::of(headers) {
            self.grpc = Some(code);
        }
    }
}

/// What is no status of HTTP counts as one of 500 (RFC 9110 section 15).
fn is_server_fault(status: StatusCode) -> bool {
    status.as_u16() >= 500
}

/// Whether a response with this head goes on for as long as it likes: a stream of events, a tunnel.
#[cfg(any(feature = "resilience", feature = "upstream"))]
pub(crate) fn lasts(head: &response::Parts) -> bool {
    let is_event_stream = || head.headers.get(CONTENT_TYPE).is_some_and(|value| is_events(value.as_bytes()));
    head.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream()
}

/// `text/event-stream`, of the HTML standard's server-sent events.
#[cfg(any(feature = "resilience", feature = "upstream"))]
pub(crate) fn is_events(media_type: &[u8]) -> bool {
    let essence = media_type.split(|&b| b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let http = |status: u16| Outcome {
            status: StatusCode::from_u16(status).ok(),
            end: End::Complete,
            ..Outcome::UNHEARD
        };
        let refused = |outcome: Outcome, reason| Outcome { reason: Some(reason), ..outcome };
        let grpc = |code| Outcome { grpc: Some(code), ..http(200) };
        for (outcome, verdict) in [
            (http(200), Verdict::Success),
            (http(302), Verdict::Success),
            (http(404), Verdict::CallerFault),
            (http(429), Verdict::CallerFault),
            (http(503), Verdict::ServerFault),
            (http(600), Verdict::ServerFault),
            (grpc(GrpcCode::OK), Verdict::Success),
            (grpc(GrpcCode::NOT_FOUND), Verdict::CallerFault),
            (grpc(GrpcCode::UNAVAILABLE), Verdict::ServerFault),
            (Outcome::UNHEARD, Verdict::Cancelled),
            (Outcome { end: End::Failed(Failure::Reset), ..http(200) }, Verdict::ServerFault),
            (Outcome { end: End::Failed(Failure::CallerDeadline), ..Outcome::UNHEARD }, Verdict::CallerFault),
            (refused(grpc(GrpcCode::DEADLINE_EXCEEDED), Reason::RequestTimeout), Verdict::CallerFault),
            (refused(grpc(GrpcCode::UNIMPLEMENTED), Reason::NoRoute), Verdict::CallerFault),
            (refused(grpc(GrpcCode::DEADLINE_EXCEEDED), Reason::DeadlineExceeded), Verdict::ServerFault),
            (
                refused(Outcome { end: End::Failed(Failure::Other), ..http(200) }, Reason::RequestTimeout),
                Verdict::CallerFault,
            ),
            (refused(Outcome::UNHEARD, Reason::RateLimited), Verdict::Cancelled),
        ] {
            assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
        }
    }
}
