//! Sends requests on to the endpoints of an upstream, over pooled connections.
//!
//! An [`Upstream`] is a name and its endpoints; a [`Proxy`] is the service that sends requests there. HTTP/1.1 and
//! HTTP/2 are spoken on both sides, bodies stream both ways with their trailers, gRPC passes untouched, and WebSocket
//! and other upgrades run through. A [`Client`] asks other servers on our own account.
//!
//! # Example
//!
//! ```
//! use http::Request;
//! use http_body_util::BodyExt;
//! use portcullis::{body::Body, upstream::{Proxy, Upstream}};
//! use tower::ServiceExt;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio_test::block_on(async {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let address = listener.local_addr().unwrap().to_string();
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await.unwrap();
//! #     stream.read(&mut [0; 1000]).await.unwrap();
//! #     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
//! # });
//! let orders = Upstream::builder("orders").endpoint(address).build().unwrap();
//! let request = Request::get("/orders").header("host", "shop.example").body(Body::empty()).unwrap();
//! let response = Proxy::new(orders).oneshot(request).await.unwrap();
//! assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
//! # });
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::time::Duration;
//! use portcullis::upstream::{Balance, Endpoint, Proxy, Upstream, Wire};
//!
//! let orders = Upstream::builder("orders")
//!     .endpoints(["192.0.2.1:9000", "192.0.2.2:9000"])
//!     .endpoint(Endpoint::new("198.51.100.1:9000").priority(1)) // for what the others cannot bear
//!     .balance(Balance::PeakEwma)
//!     .wire(Wire::Follow)
//!     .connect_timeout(Duration::from_millis(500))
//!     .refuse("127.0.0.1:9901".parse()?) // the admin address
//!     .build()?;
//! let proxy = Proxy::new(orders)
//!     .host("orders.internal".parse()?)
//!     .trusted_proxies("10.0.0.0/8".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! A [`Proxy`] fails with a [`Rejection`](crate::reject::Rejection); a [`RescueLayer`](crate::reject::RescueLayer)
//! makes an answer of it.
//!
//! | what happens | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no endpoint could be reached: refused, unreachable | `ConnectFailed` | 502 | UNAVAILABLE |
//! | connecting took too long | `UpstreamTimeout` | 504 | DEADLINE_EXCEEDED |
//! | the upstream closed or reset before the head of its answer had come | `UpstreamReset` | 502 | UNAVAILABLE |
//! | its answer is not HTTP, its head is larger than 64 KiB or has more than 100 fields, its lengths differ, interim answers (1xx) have no end, it switched protocols unasked | `UpstreamProtocol` | 502 | UNAVAILABLE |
//! | no address is known, or only refused ones; nobody is in the request's [`Subset`]; the endpoint of a [strict](Session::strict) session is gone, or takes no requests | `NoEndpoint` | 503 | UNAVAILABLE |
//! | the [circuit breakers](UpstreamBuilder::circuit_breaker) of all endpoints are open | `CircuitOpen` | 503 + `Retry-After` | UNAVAILABLE |
//! | all connections that are allowed are in use | `Overloaded` | 503 + `Retry-After` | UNAVAILABLE |
//! | a request that could be read as two, a malformed host, a body that breaks off | `BadRequest` | 400 | INTERNAL |
//! | CONNECT, a transfer coding other than chunked, an upgrade where only HTTP/2 is spoken | `NotImplemented` | 501 | UNIMPLEMENTED |
//! | the request's body fails with a rejection, of a body limit, say | that one | | |
//!
//! If an answer breaks off in its body, that body ends with an error, and the server before us closes the connection
//! or resets the stream: the client never takes a part for the whole. One of HTTP/2 whose stream is reset before its end
//! has broken off, with `NO_ERROR` too. How long a head or a body is waited for is for timeout layers to say; dropping the
//! future or the body closes the upstream's connection or stream.
//!
//! # Who gets it
//!
//! [`Balance`] says how one is picked, of those that take requests: of the lowest [priority](Endpoint::priority), as far as
//! that bears it (seven of ten bear all, Envoy's overprovisioning of 1.4), and there of the own [zone](UpstreamBuilder::zone).
//! If less than half of a priority takes requests, and no other bears them, all of it is given some, but for those that
//! drain or whose breaker is open ([panic](UpstreamBuilder::panic_threshold)). All of that is worked out when the set changes or somebody's
//! [`Availability`] does, off the path of requests and, but for small sets without tables of hashes, off the threads that serve them: a pick
//! costs the same for ten endpoints and for ten thousand.
//!
//! A request can be for those with some [labels](Endpoint::label) alone: a [`Subset`] is an upstream of its own in all of
//! that. And with a [`Session`] a client stays where it was, as long as that endpoint takes requests.
//!
//! # What is sent again
//!
//! - If no connection can be made, or none has come for 250 ms, up to two other endpoints are tried, beside those that are
//!   late (RFC 8305 section 5): the first connection that comes is taken. One that comes later is kept for the next request;
//!   that it was late is no failure, but if it never comes it is, of each request that was to go there. An endpoint that could
//!   not be reached comes last for a second, and one that was late until it is reached or given up. The endpoint of a session is
//!   waited for.
//! - A request that comes back unsent, because its pooled connection was closing, is sent once on a new one.
//! - So is one that was sent on a pooled connection and of which the upstream has said that it did not look at it
//!   (`REFUSED_STREAM` or GOAWAY, RFC 9113 section 8.7), as each server does that ends its connections by age: whatever its method,
//!   and over HTTP/2 with its body, which is kept until there is an answer, unless it says that it is longer than 64 KiB, or
//!   more of it was sent.
//! - So is one without a body whose method is idempotent (RFC 9110 section 9.2.2), if after it nothing came back. That one a server
//!   may see twice.
//!
//! [`Proxy::bind_resends`] bounds how often that is, but for unsent ones and those of a connection that the upstream has left.
//!
//! Nothing else is: what may be retried beyond that is for a retry layer to decide.
//!
//! # What is changed
//!
//! - Fields of one hop are removed both ways (RFC 9110 section 7.6.1), see [`HopByHop`]. `TE: trailers` is passed on.
//! - `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` where it was there or is wanted, tell of the last hop:
//!   the request's [`PeerAddr`](crate::identity::PeerAddr), its host, and the scheme in its extensions
//!   ([`http::uri::Scheme`], put there by whoever accepts TLS; without it `http`). What trusted proxies said is
//!   continued; what others said is replaced.
//! - The host of the request's target, if it has one, goes before its `Host` (RFC 9112 section 3.2.2).
//! - The framing is made anew from the body: one length, or chunked. Fields that who reads `_` as `-` would take for it are removed.
//! - An answer of 426 keeps the `Upgrade` that says to which protocol (RFC 9110 section 15.5.22), of those that are tunnelled.
//! - `Expect: 100-continue` is passed on to HTTP/1.1 upstreams, and the body is held back until they want it, for a
//!   second at most. Towards HTTP/2 it is answered here (RFC 9110 section 10.1.1).
//! - Trailers lose fields that frame or route a message or say who sent it.
//!
//! # Position
//!
//! Innermost. Outside of it: whatever sets request headers, and outside of that [`HopByHop`]; timeouts, retries and a
//! circuit breaker, which need its errors; a [`RescueLayer`](crate::reject::RescueLayer).
//!
//! # Shared state
//!
//! Clones of an [`Upstream`] share its endpoints, their connections and their load, and so do the proxies over it.
//! [`UpstreamBuilder::inherit`] takes them along into a new configuration. A request is in flight at its endpoint until
//! its response body has ended or its tunnel has closed. Connections live in tasks of the tokio runtime of the request
//! that made them, and end when they are idle for too long or their upstream is gone.
//!
//! # Compared with tower
//!
//! `tower::balance` needs a buffer to be cloned, counts a request as done at its head, does not see that it failed, and knows
//! weights only as a factor of the load, which gives two thirds to who should get 99 of 100; hyper-util's client has no limit
//! on connections.
//!
//! # Metrics
//!
//! None of its own. Each response, and the request's [`Trail`](crate::trail::Trail), carries an
//! [`Attempt`](crate::attempt::Attempt); [`Upstream::endpoints`] tells what is open and in flight.

mod ahead;
mod availability;
mod balance;
mod believed;
mod beside;
mod body;
mod builder;
#[cfg(feature = "tls")]
mod certificate;
mod client;
mod common;
mod connect;
mod dial;
mod discover;
#[cfg(feature = "dns")]
mod dns;
mod elsewhere;
mod endpoint;
mod error;
mod exchange;
mod expect;
mod forward;
mod group;
mod guard;
pub mod health;
mod hop;
mod lease;
mod link;
mod load;
mod member;
mod opened;
mod options;
pub mod outlier;
mod owner;
mod pick;
mod race;
mod reach;
mod request;
mod resolve;
mod response;
#[cfg(feature = "tls")]
mod secure;
mod service;
mod session;
mod source;
mod store;
mod subset;
mod tries;
mod tunnel;

pub use availability::{Availability, Withheld};
pub use balance::{Balance, Maglev, RingHash, SlowStart};
pub use builder::{BuildError, UpstreamBuilder};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use certificate::ForwardedClientCert;
pub use client::{Client, ClientBuilder};
#[cfg(feature = "dns")]
pub use dns::{Dns, SrvSource};
pub use endpoint::Endpoint;
pub use group::{EndpointStatus, Upstream};
pub use hop::HopByHop;
pub use opened::Opened;
pub use options::Wire;
pub use pick::Picked;
pub use resolve::{Addresses, Resolve, Resolving, SystemResolver};
pub use service::{Proxy, ResponseFuture};
pub use session::{InvalidCookie, SameSite, Session, SessionCookie, SessionKey};
pub use source::{Discovery, EndpointSet, EndpointSource, Sets, StreamSource, Teller};
pub use subset::{Fallback, Subset, Subsets};
