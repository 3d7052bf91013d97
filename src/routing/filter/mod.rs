//! What a rule changes of a request and its response: the filters of the Gateway API's `HTTPRoute`, each a gate.
//!
//! | filter of the standard | here |
//! |---|---|
//! | `RequestHeaderModifier` | [`RequestHeaders`] |
//! | `ResponseHeaderModifier` | [`ResponseHeaders`] |
//! | `RequestRedirect` | [`Redirect`] |
//! | `URLRewrite` | [`Rewrite`] |
//! | `CORS` | [`Cors`] |
//! | `RequestMirror` | [`mirror`](super::mirror) |
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use portcullis::gate::GateLayer;
//! use portcullis::routing::filter::{PathChange, Rewrite};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let upstream = service_fn(|request: Request<()>| async move {
//!     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(request.uri().to_string()))))
//! });
//! let rewrite = Rewrite::new().path(PathChange::prefix("/catalogue", "/")?);
//! let service = GateLayer::new(rewrite).layer(upstream);
//!
//! let response = service.oneshot(Request::get("/catalogue/books?page=2").body(())?).await?;
//! # use http_body_util::BodyExt;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "/books?page=2");
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::time::Duration;
//! use http::{HeaderName, HeaderValue, Method};
//! use portcullis::routing::filter::{Cors, HeaderChanges, Redirect, Scheme};
//!
//! let cors = Cors::new()
//!     .allow_origin("https://*.shop.example")?
//!     .allow_method(Method::PUT)
//!     .allow_header(HeaderName::from_static("x-trace"))
//!     .allow_credentials()
//!     .max_age(Duration::from_secs(600));
//!
//! let to_https = Redirect::new().scheme(Scheme::Https).status(308)?;
//!
//! let hide = HeaderChanges::new()
//!     .set(HeaderName::from_static("x-served-by"), HeaderValue::from_static("portcullis"))?
//!     .remove(HeaderName::from_static("x-powered-by"))?
//!     .for_responses();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | [`Redirect`] | (no refusal) | 301, 302, 303, 307, 308 |  |
//! | [`Cors`], to a preflight | (no refusal) | 204 |  |
//! | [`Csrf`]: another site's page asks for a change | `Forbidden` | 403 | PERMISSION_DENIED |
//! | the request has no valid host to redirect to, or its path is too long once rewritten | bad request | 400 | INTERNAL |
//!
//! # Position
//!
//! [`Cors`] and, inside of it, [`Csrf`] are outside of authentication, because a preflight has no credentials, and so
//! that a refusal can be read by the page that gets it; [`Rewrite`] and [`RequestHeaders`] are inside of all that looks at the path or
//! decides, nearest to the upstream; [`ResponseHeaders`] are outside of all that may answer.
//!
//! # Shared state
//!
//! None: filters are immutable.
//!
//! # Compared with tower
//!
//! tower-http's `CorsLayer` is one table for a whole service and lets the upstream's own CORS headers stand beside
//! its own; its `SetHeader` layers do one header each. It has no rewrite and no conditional redirect.
//!
//! # Metrics
//!
//! None of their own.

mod cors;
mod csrf;
mod headers;
mod origin;
mod path;
mod redirect;
mod rewrite;

pub use cors::{Cors, CorsPass, InvalidCors};
pub use csrf::{Csrf, InvalidOrigin};
pub use headers::{HeaderChanges, InvalidChange, RequestHeaders, ResponseHeaders, ResponseHeadersPass};
pub use path::{InvalidPath, PathChange};
pub use redirect::{InvalidStatus, Redirect, Scheme};
pub use rewrite::Rewrite;
