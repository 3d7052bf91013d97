//! Which requests: by host, method, path, headers and query, as the Gateway API's `HTTPRoute` says it.
//!
//! A request is looked at as a [`Target`]; a [`RequestMatch`] says of a target whether it is meant. So that
//! all who ask see the same thing, [`Normalize`] refuses a request without a single valid [`Host`] and puts
//! its path into the one normal form of [`PathPolicy`], before anything is matched.
//!
//! # Example
//!
//! ```
//! use http::{HeaderMap, Method, Uri};
//! use portcullis::matching::{RequestMatch, Target};
//!
//! let orders = RequestMatch::prefix("/api/orders")?.method(Method::POST);
//!
//! let (uri, headers) = (Uri::from_static("/api/orders/7?dry=1"), HeaderMap::new());
//! assert!(orders.matches(&Target::new(&Method::POST, "shop.example", &uri, &headers)));
//! assert!(!orders.matches(&Target::new(&Method::GET, "shop.example", &uri, &headers)));
//! # Ok::<(), portcullis::matching::InvalidMatch>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
//! use portcullis::matching::{RequestMatch, Target, Text};
//!
//! let version = HeaderName::from_static("x-version");
//! let beta = RequestMatch::exact("/search")?
//!     .header(version.clone(), Text::exact("beta"))
//!     .query("lang", Text::exact("pt BR"));
//!
//! let uri = Uri::from_static("/search?lang=pt+BR&lang=en");
//! let headers = HeaderMap::from_iter([(version, HeaderValue::from_static("beta"))]);
//! assert!(beta.matches(&Target::new(&Method::GET, "", &uri, &headers)));
//! # Ok::<(), portcullis::matching::InvalidMatch>(())
//! ```
//!
//! # Answers
//!
//! Of [`Normalize`]; the matchers answer nothing.
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | the host is missing, repeated, conflicting or malformed ([`BadHost`]) | bad request | 400 | INTERNAL |
//! | the path is malformed or ambiguous ([`BadPath`]) | bad request | 400 | INTERNAL |
//!
//! # Position
//!
//! [`Normalize`] is outside of everything that looks at the host or the path: routing, authorization, keys,
//! limits, caches, and inside of what answers or logs for the listener as a whole.
//!
//! # Shared state
//!
//! None: all of it is immutable.
//!
//! # Compared with tower
//!
//! tower-http's `NormalizePath` trims slashes, and `matchit`, which axum uses, matches paths only; neither
//! decodes, resolves dot segments, or refuses what servers read in different ways.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason.

mod host;
mod normalize;
mod path;
mod query;
mod request;
mod target;
mod template;
mod text;

pub use host::{BadHost, Host, HostPattern, InvalidHost, ReceivedHost};
pub use normalize::Normalize;
#[cfg(feature = "routing")]
pub(crate) use normalize::with_path;
pub use path::{BadPath, PathPolicy, PathQuirk};
#[cfg(feature = "authn")]
pub(crate) use query::decoded as form_decoded;
#[cfg(feature = "admission")]
pub(crate) use query::values as query_values;
#[cfg(feature = "routing")]
pub(crate) use request::PathKind;
pub use request::{InvalidMatch, PathMatch, RequestMatch};
pub use target::{Target, preflight_method};
pub use template::{InvalidTemplate, PathTemplate};
pub use text::Text;
