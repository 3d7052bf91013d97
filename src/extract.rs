//! What axum's handlers can ask for: the things that layers tell in a request's extensions.

use http::Extensions;

use crate::reject::Rejection;

/// Something that a layer tells about a request.
pub(crate) trait Told: Clone + Send + Sync + 'static {
    /// The answer to a handler's caller when nobody told it.
    fn missing() -> Rejection;

    /// It, if somebody told it.
    fn find(extensions: &Extensions) -> Option<Self> {
        extensions.get().cloned()
    }
}

/// Makes each type an extractor: failing as it says, and in `Option` never.
macro_rules! extract {
    ($($(#[$doc:meta])* $type:ty;)*) => {$(
        $(#[$doc])*
        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> axum::extract::FromRequestParts<S> for $type {
            type Rejection = crate::reject::Rejection;

            async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
                crate::extract::Told::find(&parts.extensions).ok_or_else(<Self as crate::extract::Told>::missing)
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> axum::extract::OptionalFromRequestParts<S> for $type {
            type Rejection = std::convert::Infallible;

            async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Option<Self>, std::convert::Infallible> {
                Ok(crate::extract::Told::find(&parts.extensions))
            }
        }
    )*};
}

pub(crate) use extract;
