//! A mesh without a second process: the layers around a service's calls, and around its own handlers.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, identity::PeerAddr, stack::mesh::{ClientLayer, ServerLayer}};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stock = service_fn(|_: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
//! let stock = ClientLayer::new().timeout(Duration::from_millis(500)).layer(stock);
//!
//! // A handler that calls another service: the call carries the id of the request it is made for.
//! let handler = service_fn(move |_: Request<Body>| stock.clone().oneshot(Request::new(Body::empty())));
//! let service = ServerLayer::new().timeout(Duration::from_secs(2)).layer(handler);
//!
//! let mut request = Request::get("/").body(Body::empty())?;
//! request.extensions_mut().insert(PeerAddr::new("127.0.0.1:4000".parse()?)); // the server does this
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! Who may call is asked, and how often; the numbers of both sides are one set.
//!
//! ```
//! use portcullis::{
//!     admission::{authz::Authorize, rate_limit::Limit},
//!     authn::{Providers, api_key::{ApiKey, KeyTable, mint}},
//!     key::Key,
//!     resilience::retry::Policy,
//!     stack::mesh::{ClientLayer, ServerLayer},
//! };
//! use std::time::Duration;
//!
//! let key = mint("shop", "orders")?.with(|entry| entry.scopes(["stock.read"])); // given to the service that calls
//! let keys = ApiKey::new(KeyTable::new("services", [key.entry().clone()])?);
//! let server = ServerLayer::new()
//!     .trusted_peers("10.0.0.0/8".parse()?)
//!     .authenticate(Providers::new().with(keys))
//!     .authorize(Authorize::new().all_scopes(["stock.read"]))
//!     .limit(Limit::builder("per-service", "100/s".parse()?).by(Key::Principal).build()?);
//! let client = ClientLayer::new().retry(Policy::new(2)).attempt_timeout(Duration::from_secs(2));
//! # #[cfg(feature = "prometheus")] {
//! let metrics = portcullis::telemetry::metrics::Metrics::new();
//! let (server, client) = (server.metrics(&metrics), client.metrics(&metrics));
//! # let _ = (server, client); }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both sides can be kept from having too much to do: what is least important is shed, no more than so many are in flight,
//! and a service that fails is asked less.
//!
//! ```
//! use portcullis::{
//!     admission::{Priorities, concurrency::{Concurrency, Gradient}, shed::{Overload, SuccessRate}},
//!     stack::mesh::{ClientLayer, ServerLayer},
//! };
//! use std::{num::NonZeroU32, time::Duration};
//!
//! let overload = Overload::builder().event_loop(Duration::from_millis(50)..Duration::from_millis(500)).build()?;
//! let reports = Concurrency::fixed("reports", NonZeroU32::new(20).unwrap()).build()?;
//! let server = ServerLayer::new().overload(&overload, Priorities::default()).concurrency(reports);
//! let stock = Concurrency::adaptive("stock", Gradient::new()).build()?;
//! let client = ClientLayer::new().concurrency(stock).success_rate(SuccessRate::builder().build());
//! # let _ = (server, client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! Those of the layers in them: overload, authentication, authorization, rate limit, requests in flight, success rate,
//! timeout, and the rescue for what fails. A client's errors stay errors.
//!
//! # Position
//!
//! [`order`](super::order) has both orders with their reasons. Breakers and mutual TLS take their places in them as their
//! rooms are built. A client's inner service takes [`Body`](crate::body::Body), and is cloned for each attempt;
//! [`ConvertLayer`](crate::body::ConvertLayer) stands in front of one that takes another body.
//!
//! # Shared state
//!
//! A layer owns its limits and numbers: its clones, and the services made from them, share them.
//!
//! # Compared with tower
//!
//! A `ServiceBuilder` has the order in which its methods are called; these have the one that works.
//!
//! # Metrics
//!
//! Those of `telemetry::metrics`, if the layers are given some (feature `prometheus`).
mod client;
mod parts;
mod server;
#[cfg(test)]
mod tests;

pub use client::ClientLayer;
pub use server::ServerLayer;
