use super::{Context, Deadline, RequestId};
use crate::{
    extract::{Told, extract},
    reject::{Reason, Rejection},
};

impl Told for Context {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal).detail("no context: no context layer stands outside this handler")
    }
}

impl Told for Deadline {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal).detail("no deadline: no timeout layer stands outside this handler")
    }
}

impl Told for RequestId {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal)
            .detail("no request id: no request id layer stands outside this handler")
    }
}

extract! {
    /// Fails with 500 if no context layer stands outside; `Option` asks without failing.
    Context;
    /// Fails with 500 if no timeout layer stands outside; `Option` asks without failing.
    Deadline;
    /// Fails with 500 if no request id layer stands outside; `Option` asks without failing.
    RequestId;
}
