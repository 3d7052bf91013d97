//! Who is calling?
//!
//! `jwt` verifies signed tokens, with keys that `jwks` fetches, `introspection` asks about tokens that only their provider
//! can read, [`api_key`] verifies keys, and [`certificate`] takes that of the connection. Each is a gate of its own;
//! [`Providers`] makes one gate of several, and of [authenticators](Authenticator) of your own. `outbound` puts tokens on the calls that we make ourselves.
//!
//! # Example
//!
//! ```
//! use portcullis::authn::Providers;
//! use portcullis::authn::api_key::{self, ApiKey, KeyTable};
//!
//! let minted = api_key::mint("shop", "acme")?;
//! let table = KeyTable::new("partners", [minted.entry().clone()])?;
//! let layer = Providers::new().with(ApiKey::new(table)).layer();
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::{HeaderName, Request, Response};
//! use portcullis::authn::api_key::{self, ApiKey, KeyTable};
//! use portcullis::authn::{Location, Providers};
//! use portcullis::{body::Body, identity::Principal};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let (partner, device) = (api_key::mint("partner", "acme")?, api_key::mint("device", "till 7")?);
//! let partners = ApiKey::new(KeyTable::new("partners", [partner.entry().clone()])?);
//! let devices = ApiKey::new(KeyTable::new("devices", [device.entry().clone()])?)
//!     .locations([Location::header(HeaderName::from_static("x-device-key"))]);
//!
//! // Who shows nothing is anonymous; who shows something must show something valid.
//! let layer = Providers::new().with(partners).with(devices).optional().layer();
//!
//! # tokio_test::block_on(async {
//! let service = layer.layer(service_fn(|request: Request<Body>| async move {
//!     assert_eq!(request.extensions().get(), Some(&Principal::new("devices", "", "till 7")));
//!     assert!(request.headers().is_empty()); // the key does not go on
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! }));
//! let request = Request::get("/").header("x-device-key", device.reveal()).body(Body::empty())?;
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which one wins
//!
//! The first in the list that finds its credential valid. Others need not be valid, and are not looked at. One that has to
//! [ask](Inquiry) somebody else is waited for before the next is looked at, and only then.
//!
//! If none is valid, a request that presented any credential is refused, also where credentials are
//! [optional](Providers::optional): it would be served as somebody else than it says it is. If a provider cannot tell
//! now, because its keys are not known yet, the answer is 503 and not 401.
//!
//! Credentials that are needed [together](Together), a token *and* a certificate for example, are one provider of the
//! list. Who shows some of them and not all is refused.
//!
//! Who shows nothing where credentials are optional is the anonymous principal, or a [guest](Providers::optional_as) with
//! a name.
//!
//! Whatever the outcome, credentials of all the providers are taken out of the request before it goes on, also those
//! that were not looked at, unless the [winner forwards](Authenticator::forwards) its own; and so is what came in under
//! the names of the headers that any provider sets.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no credential | `MissingCredentials` | 401, one `WWW-Authenticate` for each provider | UNAUTHENTICATED |
//! | credentials, none valid | `InvalidCredentials` | 401, the same with error codes | UNAUTHENTICATED |
//! | credentials, none valid, from an address that has failed too often with [API keys](api_key::FailureLimit) | `RateLimited` | 429 + `Retry-After` | RESOURCE_EXHAUSTED |
//! | a provider's keys are not known yet | `KeysUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//!
//! Why a credential is not valid is in the rejection's detail and source, for logs.
//!
//! # Position
//!
//! Inside of limits that need no identity, so that guessing is limited; inside of CORS, because preflights carry no
//! credentials. Outside of authorization and of everything that asks for a [`Principal`](crate::identity::Principal).
//!
//! # Shared state
//!
//! The keys, through handles (`jwt::Keys`, [`api_key::ApiKeys`]) by which they are replaced.
//!
//! # Compared with tower
//!
//! tower-http's `AsyncRequireAuthorization` leaves the work to a function of yours.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason with all others.

pub mod api_key;
mod authenticator;
pub mod certificate;
mod challenge;
mod credential;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod introspection;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod jwks;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod jwt;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod oauth;
#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub mod outbound;
mod providers;
mod together;

pub use authenticator::{Authenticator, Credential, Inquiry};
pub use credential::Location;
#[cfg(feature = "stack")]
pub(crate) use providers::kept_back;
pub use providers::{Providers, ProvidersTold, ProvidersWait};
pub use together::Together;

#[cfg(test)]
mod tests;
