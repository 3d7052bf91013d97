use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use http::{Extensions, HeaderValue};

use super::{ClientAddr, PeerAddr, PeerIdentity, Principal};
use crate::reject::{Reason, Rejection};

trait Told: Clone + Send + Sync + 'static {
    fn missing() -> Rejection;

    fn find(extensions: &Extensions) -> Option<Self> {
        extensions.get().cloned()
    }
}

impl Told for ClientAddr {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal)
            .detail("no client address: no connection layer stands outside this handler")
    }
}

impl Told for PeerAddr {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal)
            .detail("no peer address: no connection layer stands outside this handler")
    }
}

impl Told for PeerIdentity {
    fn missing() -> Rejection {
        Rejection::new(Reason::MissingCredentials).detail("the peer presented no certificate")
    }
}

impl Told for Principal {
    fn missing() -> Rejection {
        Rejection::new(Reason::MissingCredentials)
            .detail("nobody was authenticated")
            .challenge(HeaderValue::from_static("Bearer"))
    }

    fn find(extensions: &Extensions) -> Option<Self> {
        // A handler that asks for a principal asks for somebody.
        extensions.get().filter(|principal: &&Self| !principal.is_anonymous()).cloned()
    }
}

macro_rules! extract {
    ($($(#[$doc:meta])* $type:ty;)*) => {$(
        $(#[$doc])*
        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> FromRequestParts<S> for $type {
            type Rejection = Rejection;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
                Self::find(&parts.extensions).ok_or_else(Self::missing)
            }
        }

        #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
        impl<S: Send + Sync> OptionalFromRequestParts<S> for $type {
            type Rejection = Infallible;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
                Ok(Self::find(&parts.extensions))
            }
        }
    )*};
}

extract! {
    /// Fails with 500 if no connection layer stands outside; `Option` asks without failing.
    ClientAddr;
    /// Fails with 500 if no connection layer stands outside; `Option` asks without failing.
    PeerAddr;
    /// Fails with 401 if the peer presented no certificate; `Option` asks without failing.
    PeerIdentity;
    /// Fails with 401 and a `Bearer` challenge if nobody was authenticated; `Option` asks without failing.
    Principal;
}
