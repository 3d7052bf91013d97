//! Gives something else in the place of a failure: an answer that is always there, an old one, or another server's.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::fallback::{FallbackLayer, Policy}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let down = service_fn(|_: Request<Body>| async {
//!     Ok::<_, std::convert::Infallible>(Response::builder().status(503).body(Body::empty()).unwrap())
//! });
//! let nothing = Response::builder().header("content-type", "application/json").body(Bytes::from_static(b"[]")).unwrap();
//! let proposals = FallbackLayer::new(Policy::answer(nothing)).layer(down);
//! assert_eq!(proposals.oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use portcullis::{
//!     body::Body,
//!     key::Key,
//!     resilience::{breaker::BreakerLayer, fallback::{FallbackLayer, Policy, Stale}, retry::RetryOn},
//! };
//! use std::{collections::HashMap, convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # async fn other(_: Request<Body>) -> Result<Response<Body>, Infallible> { Ok(Response::new(Body::empty())) }
//! // What was good in the last ten minutes, for each session its own:
//! let old = Stale::new().key(Key::Cookie("session".into())).max_age(Duration::from_secs(600));
//! // Or what a function of yours makes of the request:
//! let prices: HashMap<String, Bytes> = HashMap::new();
//! let made = Policy::answer_with(move |request: &Request<()>| {
//!     Some(Response::new(prices.get(request.uri().path())?.clone()))
//! });
//! // Another server, also while the breaker of the first one is open:
//! let elsewhere = Policy::ask(service_fn(other))
//!     .on([RetryOn::ConnectFailure, RetryOn::GatewayError])
//!     .codes([StatusCode::TOO_MANY_REQUESTS])
//!     .most_body(16 * 1024);
//! let client = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(made.stale(old)))
//!     .layer(FallbackLayer::new(elsewhere))
//!     .layer(BreakerLayer::default())
//!     .service(service_fn(other));
//! # let _ = client;
//! ```
//!
//! # When
//!
//! The cases are those of [retries](super::retry::RetryOn), seen in the head of a response or in an error in its place. A
//! refusal of a layer further inside is one by its status: an open breaker, a full limit, no endpoint. What blames the caller
//! is none, unless its status is among the [codes](Policy::codes) and a server has said it. A response that has begun is
//! given: a gRPC status in trailers after it comes too late.
//!
//! Another server is asked only if what was asked may be done twice, and if its body was kept; it is recorded while the
//! first server reads it, as [`Replay`](crate::body::Replay) has it. If that server has no answer, or a layer in front of it
//! refuses, the first failure stands. An answer of it that is a failure is given.
//!
//! # Old answers
//!
//! With [`Policy::stale`] the answers to `GET` that were good are kept, and given in the place of failures, to `HEAD` too: what
//! RFC 5861 (section 4) calls `stale-if-error`, by the rules of RFC 9111 for caches that serve others. Nothing is answered from
//! it while the server answers: each of its answers takes the place of the one before.
//!
//! | the answer | is given |
//! |---|---|
//! | not 200; `no-store`, `no-cache`, `Set-Cookie`; trailers; `Vary` by what is not in the key; longer than [`max_body`](Stale::max_body) | never |
//! | `private`, or neither `public` nor `s-maxage` | to the one caller that a [key](Stale::key) tells; without a key never |
//! | `must-revalidate`, `proxy-revalidate`, `s-maxage` | while it is fresh |
//! | `stale-if-error=N` | for N seconds longer than it is fresh |
//! | anything else | up to [`max_age`](Stale::max_age), which bounds these too |
//!
//! Without a key nothing is taken for everybody's that does not say so, whether a credential was shown or not: which header is one
//! is not known here, and a principal may be an application with many users. What two requests ask for is the same if scheme, host,
//! path, query, `Accept`, `Accept-Encoding`, `Accept-Language` and `Origin` are, and so are the route, the principal, the
//! certificate, the key and what else it [varies by](Stale::varies_by): in a gateway the headers that choose the rule, the version
//! and the endpoint, those that its policies read, and those that tell upstreams who asks. By what else an answer varies its server
//! has to say in `Vary`: what is `public` and made by an `X-Forwarded-Host` of the caller's is kept as he has made it.
//!
//! What a request with another method has changed, with 2xx or 3xx, is no longer given, whatever its query: through this layer;
//! other instances do not hear of it. Nor is what the server answers with 401, 403, 404 or 410 by then, though somebody is still
//! reading what it was. A request with `no-store`, a body, or `If-Match` is left alone, one with `no-cache` is given nothing.
//!
//! An old answer has an `Age`, and is marked by `Cache-Status: portcullis; fwd=stale` (RFC 9211).
//!
//! # Answers
//!
//! Those it is given, with [`FellBack`](crate::trail::FellBack) in their extensions; those to `HEAD` without their body. A gRPC
//! caller to whom an answer means nothing gets the failure.
//!
//! # Position
//!
//! Inside of whatever decides who may ask: when nobody can be authenticated, nobody reaches the other server by that.
//! Outside of retries, breakers and limits on what is in flight, whose refusals are failures too; inside of metrics and logs.
//! A timeout outside of it bounds the other server too, and cuts it off as well; with one inside of it the other server has
//! to have its own, as it does in a gateway.
//!
//! # Shared state
//!
//! The numbers, and old answers: of one [`Stale`], wherever it is used. It takes [`max_bytes`](Stale::max_bytes) at most, what is
//! being recorded included, and 16 bytes for each of [`max_entries`](Stale::max_entries); who floods it makes it forget. A recording
//! that takes longer than 2 seconds gives way to others that want its memory.
//!
//! # Compared with tower
//!
//! tower has none. `tower-resilience` clones the request for each call, and its breaker has a second copy of its service for
//! it.
//!
//! # Metrics
//!
//! A [`FallbackHandle`] counts the failures in whose place something was given, and those that stood. The
//! [`Trail`](crate::trail::Trail) says what failed, and what was given.

mod body;
mod failure;
mod layer;
mod policy;
mod stale;
#[cfg(test)]
mod tests;

pub use body::FallbackBody;
pub use layer::{Fallback, FallbackLayer, ResponseFuture};
pub use policy::{FallbackHandle, Policy};
pub use stale::Stale;
