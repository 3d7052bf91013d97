use http::StatusCode;

use super::{Outcome, Verdict};
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
        let is_late = self.status == Some(StatusCode::GATEWAY_TIMEOUT)
            || self.grpc == Some(GrpcCode::DEADLINE_EXCEEDED);
        let is_unknown = self.grpc == Some(GrpcCode::UNIMPLEMENTED);
        match (self.verdict(), self.reason) {
            (Verdict::Success, _) => Judgement::Success,
            (Verdict::ServerFault, None) if is_unknown || is_late && of_caller => Judgement::Neither,
            (Verdict::ServerFault, None) => Judgement::Failure,
            (_, Some(reason)) if of_server(reason) => Judgement::Failure,
            _ => Judgement::Neither,
        }
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
