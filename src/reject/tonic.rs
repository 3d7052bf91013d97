use tonic::{Code, Status};

use super::{Reason, Rejection};

/// The code of the reason, its label as the message, and the rejection as the source.
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        let code = Code::from_i32(i32::from(rejection.reason().grpc().number()));
        let mut status = Self::new(code, rejection.reason().label());
        status.metadata_mut().as_mut().extend(rejection.headers().clone());
        status.set_source(std::sync::Arc::new(rejection));
        status
    }
}

/// The rejection that the status came from, if it came from one; else the reason nearest to its code. The message
/// becomes the detail, which strangers do not see.
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
impl From<Status> for Rejection {
    fn from(status: Status) -> Self {
        if let Some(rejection) = Self::find(&status) {
            return rejection.clone();
        }
        Self::new(reason_of(status.code())).detail(status.message().to_owned()).source(status)
    }
}

fn reason_of(code: Code) -> Reason {
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted => Reason::InvalidArgument,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::PermissionDenied => Reason::Forbidden,
        Code::ResourceExhausted => Reason::RateLimited,
        Code::Unauthenticated => Reason::InvalidCredentials,
        Code::Unavailable => Reason::Unavailable,
        Code::Unimplemented => Reason::NotImplemented,
        Code::Cancelled => Reason::RequestTimeout,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for &reason in Reason::ALL {
            let status = Status::from(Rejection::new(reason));
            assert_eq!(status.code() as u8, reason.grpc().number());
            assert_eq!(Rejection::from(status).reason(), reason);
        }
        let foreign = Rejection::from(Status::permission_denied("no"));
        assert_eq!((foreign.reason(), foreign.detail_text()), (Reason::Forbidden, Some("no")));
    }
}
