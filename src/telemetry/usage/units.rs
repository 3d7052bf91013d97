use std::{fmt, sync::Arc};

use http::response;

use crate::head::Head;

type OfRequest = Arc<dyn Fn(&Head<'_>) -> u64 + Send + Sync>;
type OfResponse = Arc<dyn Fn(&response::Parts) -> Option<u64> + Send + Sync>;

/// What a request counts for.
#[derive(Clone, Default)]
pub(super) struct Units {
    pub(super) of_request: Option<OfRequest>,
    pub(super) of_response: Option<OfResponse>,
}

impl Units {
    pub(super) fn of(&self, head: &Head<'_>) -> u64 {
        self.of_request.as_ref().map_or(1, |units| units(head))
    }

    pub(super) fn settled(&self, head: &response::Parts) -> Option<u64> {
        self.of_response.as_ref().and_then(|units| units(head))
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Units")
            .field("of_request", &self.of_request.is_some())
            .field("of_response", &self.of_response.is_some())
            .finish()
    }
}
