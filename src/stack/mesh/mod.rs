//! A mesh without a second process: a client for a service's calls, and the layers around them and around its handlers.
//!
//! # Example
//!
//! A [`Client`] is the service that one gives to clients that tonic has generated, `OrdersClient::new(client)`, and what
//! one sends requests with as with hyper's:
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use portcullis::{body::Body, stack::mesh::Client};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio_test::block_on(async {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let endpoint = listener.local_addr().unwrap().to_string();
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await.unwrap();
//! #     stream.read(&mut [0; 1000]).await.unwrap();
//! #     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
//! # });
//! let orders = Client::to("orders", [endpoint])?; // "10.0.0.1:9000", "10.0.0.2:9000", ...
//! let response = orders.send(Request::get("/2026/17").body(Body::empty())?).await;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # }).unwrap();
//! ```
//!
//! [`ClientLayer`] is the same around any other client, and [`ServerLayer`] what a service has around its handlers:
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
//! One client for several services: requests say by their host which they are for, `http://stock/items/17`, or a handle
//! does. Several versions of one share a name.
//!
//! ```
//! use portcullis::{
//!     resilience::retry::Policy,
//!     stack::mesh::{Client, ClientLayer, Destination},
//!     upstream::{Balance, Upstream},
//! };
//! use std::time::Duration;
//!
//! let stock = Upstream::builder("stock").endpoints(["10.0.0.1:9000", "10.0.0.2:9000"]).balance(Balance::LeastRequest);
//! let [v1, v2] = ["catalogue-v1", "catalogue-v2"].map(|name| Upstream::builder(name).endpoint(format!("{name}.svc:9000")));
//! let reads = ClientLayer::new() // gRPC is always POST: who calls knows that these calls only read
//!     .timeout(Duration::from_secs(2))
//!     .attempt_timeout(Duration::from_millis(500))
//!     .retry(Policy::new(2).danger_any_method());
//! let client = Client::of([
//!     Destination::new(stock.build()?).policies(reads),
//!     Destination::split("catalogue").backend(v1.build()?, 95).backend(v2.build()?, 5),
//! ])?;
//! let catalogue = client.upstream("catalogue").unwrap();
//! # let _ = catalogue;
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
//! timeout, and the rescue for what fails. Around another client a [`ClientLayer`] leaves errors as they are.
//!
//! A [`Client`] never fails: what goes wrong is an answer in the caller's protocol, so that a caller of tonic's reads the
//! status of [`Reason`](crate::reject::Reason), and its error is none ([`Infallible`](std::convert::Infallible)). The
//! [`Rejection`](crate::reject::Rejection) is in the extensions of such a response, and [`RaiseLayer`](crate::reject::RaiseLayer)
//! makes an error of it where that is wanted. A body that breaks off in its middle is an error, or in gRPC a status.
//!
//! | what happens in a `Client` | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | the host of the URI is no name of a destination, and there are several | `Misdirected` | 421 | UNAVAILABLE |
//! | the URI says `https`, and an upstream or a mirror of the destination is called without TLS | `NotImplemented` | 501 | UNIMPLEMENTED |
//! | what [`upstream`](crate::upstream) says | | | |
//!
//! # What is sent
//!
//! A request in origin form, `/2026/17`, is sent with the name of its destination as the host, unless it has a `Host`; one
//! with an authority in its URI with that, and one to a [`Proxy`](crate::upstream::Proxy) that has a host with this one.
//! Calls are our own: nothing is told of a client behind us in `X-Forwarded-*`.
//!
//! A call that is dropped takes its attempt with it: over HTTP/2 the stream is reset, over HTTP/1.1 the connection closed.
//! So whoever goes away while a handler waits for a call cancels that, too. No task is spawned for a call, and nothing is
//! buffered but what a retry may need.
//!
//! # Position
//!
//! [`order`](super::order) has both orders with their reasons. TLS is the upstream's own, mutual if it is given a
//! certificate, and whether a URI says `http` or `https` changes nothing in that. The service inside of a `ClientLayer` takes [`Body`](crate::body::Body), and is cloned for each attempt;
//! [`ConvertLayer`](crate::body::ConvertLayer) stands in front of one that takes another body.
//!
//! # Shared state
//!
//! A layer owns its limits and numbers: its clones, and the services made from them, share them. The clones of a client
//! share its upstreams with their connections, too.
//!
//! # Compared with tower
//!
//! A `ServiceBuilder` has the order in which its methods are called; these have the one that works. tonic's `Channel` is a
//! buffer before a task, picks endpoints at random, and tries nothing again.
//!
//! # Metrics
//!
//! Those of `telemetry::metrics`, if the layers are given some (feature `prometheus`); the route of a call is the name of its
//! destination.
mod client;
mod destination;
mod layer;
mod parts;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, InvalidClient, ResponseFuture};
pub use destination::Destination;
pub use layer::ClientLayer;
pub use server::ServerLayer;
