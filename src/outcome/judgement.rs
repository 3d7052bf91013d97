use http::StatusCode;

use super::{End, Outcome, Verdict};
use crate::reject::{GrpcCode, Reason};

/// What an outcome says of the server that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// It does well.
    Success,
    /// It fails.
    Failure,
    /// Nothing.
    Neither,
}

impl Outcome {
    /// What it says of the server. Nothing if the caller erred or went away, if one of our own layers has refused it, which
    /// asked nobody, and if nobody offers what was asked for; nor, if the time was `of_caller`, that it was over.
    #[must_use]
    pub fn judgement(&self, of_caller: bool) -> Judgement {
        match (self.verdict_on_server(of_caller), self.reason) {
            (Verdict::Success, _) => Judgement::Success,
            (Verdict::ServerFault, None) => Judgement::Failure,
            (_, Some(reason)) if of_server(reason) => Judgement::Failure,
            _ => Judgement::Neither,
        }
    }

    /// As [`verdict`](Self::verdict), where the server alone is judged: that nobody offers what was asked for is the caller's
    /// fault, and so is, if the time was `of_caller`, the server's own word that it was over.
    #[must_use]
    pub fn verdict_on_server(&self, of_caller: bool) -> Verdict {
        let is_unknown = self.grpc == Some(GrpcCode::UNIMPLEMENTED);
        match self.verdict() {
            Verdict::ServerFault if self.is_told() && is_unknown => Verdict::CallerFault,
            Verdict::ServerFault if of_caller && self.is_told_late() => Verdict::CallerFault,
            verdict => verdict,
        }
    }

    /// Whether it is the server's own word that the time was over.
    pub(crate) fn is_told_late(&self) -> bool {
        let is_late = self.status == Some(StatusCode::GATEWAY_TIMEOUT)
            || self.grpc == Some(GrpcCode::DEADLINE_EXCEEDED);
        is_late && self.is_told()
    }

    fn is_told(&self) -> bool {
        self.end == End::Complete && self.reason.is_none()
    }

    /// Whether the server has answered, and blames the caller.
    #[cfg(any(feature = "resilience", feature = "upstream"))]
    pub(crate) fn is_told_to_caller(&self) -> bool {
        let is_unknown = self.grpc == Some(GrpcCode::UNIMPLEMENTED);
        self.reason.is_none()
            && self.status.is_some()
            && !is_unknown
            && self.verdict() == Verdict::CallerFault
    }
}

/// Whether it is the server's doing when a layer of ours says so.
const fn of_server(reason: Reason) -> bool {
    use Reason::{
        ConnectFailed, DeadlineExceeded, Internal, UpstreamProtocol, UpstreamReset, UpstreamTimeout,
    };
    matches!(
        reason,
        ConnectFailed | DeadlineExceeded | Internal | UpstreamProtocol | UpstreamReset | UpstreamTimeout
    )
}
