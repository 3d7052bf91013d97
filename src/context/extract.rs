use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

use super::{Context, Deadline, RequestId};
use crate::reject::{Reason, Rejection};

macro_rules! extract {
    ($($type:ty: $layer:literal,)*) => {$(
        /// Fails with 500 if the layer that tells it does not stand outside; `Option` asks without failing.
        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = Rejection;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
                parts.extensions.get::<Self>().cloned().ok_or_else(|| {
                    Rejection::new(Reason::Internal).detail(concat!("no ", $layer, " stands outside this handler"))
                })
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> OptionalFromRequestParts<S> for $type {
            type Rejection = Infallible;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
                Ok(parts.extensions.get::<Self>().cloned())
            }
        }
    )*};
}

extract! {
    Context: "ContextLayer",
    Deadline: "timeout layer",
    RequestId: "request id layer",
}
