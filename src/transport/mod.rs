//! Over what: listeners and the PROXY protocol, a server for HTTP/1.1 and HTTP/2 within limits, and its end.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{
//!     body::Body,
//!     reject::RescueLayer,
//!     transport::{Connection, Drain, Listener, Server},
//! };
//! use std::{convert::Infallible, time::Duration};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let service = ServiceBuilder::new()
//!     .layer(RescueLayer::new())
//!     .layer(Connection::new().layer())
//!     .service(service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from("hello"))) }));
//!
//! let drain = Drain::new();
//! let listener = Listener::bind(([127, 0, 0, 1], 0).into())?;
//! let server = tokio::spawn(Server::new().drain(&drain).serve(listener, service));
//! # drain.start();
//! // In a program: `drain.on_signal(Duration::from_secs(30)).await`
//! assert_eq!(drain.wait(Duration::from_secs(30)).await, 0, "nothing was cut");
//! # server.await?; Ok(()) }
//! ```
//!
//! # Example, customised
//!
//! Behind a load balancer that speaks the PROXY protocol, with other limits:
//!
//! ```
//! use portcullis::transport::{Listener, ProxyProtocol, Server};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::builder()
//!     .max_connections(50_000)
//!     .max_connections_per_address(200)
//!     .proxy_protocol(ProxyProtocol::from_trusted(["10.0.0.0/8".parse()?]))
//!     .bind(([127, 0, 0, 1], 0).into())?;
//! let server = Server::new()
//!     .max_head_bytes(32 << 10)
//!     .body_idle_timeout(Duration::from_secs(20))
//!     .max_connection_age(Some(Duration::from_secs(3_600)));
//! # let _ = (listener, server); Ok(()) }
//! ```
//!
//! # Answers
//!
//! | When | HTTP/1.1 | HTTP/2 |
//! |---|---|---|
//! | a head of more than 64 KiB or 100 fields | 431, close | 431; of more than 128 KiB without a body, of more than 512 KiB compressed, or with more frames than one of 128 KiB needs, close |
//! | a head that takes more than 10 s | 408, close; close if nothing came | close |
//! | a malformed head or ambiguous length, or one that breaks off | 400, close | reset, or close with an error |
//! | a whole URI for a target, and no `Host` | 400 | – |
//! | a field's value that begins or ends with a blank (RFC 9113 section 8.2.1) | that is taken off | the same |
//! | a body whose stream is reset before its end, with whatever code | – | the body fails |
//! | a body of which nothing comes for 60 s | the body fails with [`Reason::RequestTimeout`]: 408 by [`RescueLayer`] | the same |
//! | more than 100 streams | – | reset with `REFUSED_STREAM` |
//! | a flood of resets, PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, empty DATA | – | close |
//! | a peer that reads nothing for 60 to 120 s | close | close |
//! | 120 s without a request | close | `GOAWAY`, close |
//! | an error of the service, a panic | close | reset |
//! | too many connections, of all or of one address | close | close |
//! | no PROXY protocol header from who must send one | close | close |
//! | a PROXY protocol header from anybody else | 400, close | 400, close |
//!
//! These answers are those of the [table of reasons](crate::reject::Reason), as `application/problem+json`, or over HTTP/2 as gRPC to
//! who speaks it. What a head of HTTP/1 says of its sender is not believed before all of it is understood: even to gRPC-Web its
//! answer is plain HTTP, which its clients translate.
//!
//! Both versions are told apart by the first bytes: HTTP/2 is taken with prior knowledge (h2c). With
//! [`Server::serve_with`] so is everything else, which is given to [`Streams`]. A missing or repeated
//! `Host` reaches the service as it came; the stack refuses it. Of a request with `Transfer-Encoding` and
//! `Content-Length` hyper removes the length.
//!
//! # Draining
//!
//! [`Drain::start`] makes [`Server::serve`] take the connections that wait in the system's queue, let go of the address,
//! and finish: HTTP/2 connections get a `GOAWAY` for streams to come and close after those that came; HTTP/1
//! connections close after the answer to the request in flight, which says `Connection: close`. An HTTP/1 connection
//! between requests is kept for another 500 ms, so that a client that is just sending gets its answer, and that answer
//! says `Connection: close`; a head that has begun to come is waited for and served. What is left is inherent to
//! HTTP/1 (RFC 9112 section 9.6): a request that arrives after an idle connection was closed was never accepted, and the
//! client may send it again. Who has to say something before HTTP (TLS, the PROXY protocol) and has said nothing is let go of after
//! 2 s, or the silence that a permissive listener allows, and waited for if it has begun. Tunnels are waited for.
//! [`Drain::wait`] tells when all is done, and cuts what takes too long.
//!
//! | Server | Stops accepting by | Counts what is in flight by |
//! |---|---|---|
//! | [`Server`] | [`Server::drain`] | its connections and tunnels |
//! | axum | `with_graceful_shutdown(drain.signalled())` | [`Drain::layer`] |
//! | tonic | `serve_with_incoming_shutdown(listener.into_incoming(), drain.signalled())` | [`Drain::layer`] |
//! | hyper alone | whoever accepts, who tells each connection by its `graceful_shutdown` | [`Drain::watch`], of each connection |
//!
//! # Certificates that expire
//!
//! A connection within TLS ends with the certificate that its peer has shown, and by
//! [`on_trust_shrink`](crate::tls::ServerTls::on_trust_shrink), whoever serves it:
//!
//! | Server | The certificate has expired, or its holder is to be drained | Its holder is to be cut |
//! |---|---|---|
//! | [`Server`] | the connection takes no more requests, what is in flight has 30 s | at once |
//! | axum, tonic, or hyper itself on our [`Listener`] | the connection is cut after 30 s | at once |
//!
//! Of what others serve nobody but they know what is in flight: they are not told, and what is asked within these 30 s is answered.
//!
//! # Position
//!
//! The server is the outermost thing there is. [`Drain::layer`], where it is needed, goes outermost of all layers, so
//! that it counts every answer; [`Connection`] goes before everything that asks who is calling: request id, access log,
//! address rules, limits.
//!
//! # Shared state
//!
//! A [`Drain`] is shared by all its clones. The caps belong to a [`Listener`]; one that was made by
//! [`Listener::reopen`] counts anew.
//!
//! # Compared with tower
//!
//! tower has no transport. `axum::serve` and hyper-util's `auto::Builder` have no caps, one time limit (for a head, which
//! an idle connection uses up as well), and no bound on floods beyond those on memory. The cost of ours over hyper's
//! own: no task and no lock for a request, two reads of the clock, and an extension for the peer's address.
//!
//! # Metrics
//!
//! None of its own: a [`ConnectionObserver`] hears of connections opened, closed and refused, and of heads that the server
//! answered itself, or that HTTP/2 has reset. It logs at `warn` what an operator must act on
//! (accepting fails, a cap is reached) at most once a second, and at `debug` why a connection was closed.
//!
//! [`Reason::BadRequest`]: crate::reject::Reason::BadRequest
//! [`Reason::RequestTimeout`]: crate::reject::Reason::RequestTimeout
//! [`RescueLayer`]: crate::reject::RescueLayer

mod connection;
mod drain;
mod hosts;
mod io;
mod listener;
mod peer;
mod prefixed;
mod proxy_protocol;
mod server;
mod signal;
mod stream;
mod tenure;
#[cfg(feature = "tls")]
mod term;
mod transparent;

pub use connection::{Connection, ConnectionLayer};
pub use drain::{Drain, DrainLayer, Watch};
pub use hosts::{CertificateHosts, CertificateHostsLayer};
pub use io::Io;
#[cfg(feature = "tonic")]
pub use listener::Incoming;
pub use listener::{ConnectionObserver, Listener, ListenerBuilder, Misuse};
pub use peer::Peer;
pub use proxy_protocol::{MalformedProxyHeader, ProxyHeader, ProxyProtocol};
#[cfg(feature = "stack")]
pub(crate) use server::Rates;
pub use server::{MinimumRate, ServedBody, Server, is_http};
pub use signal::shutdown_signal;
pub use stream::{Stream, Streams};
