//! Finds the rule that a request is for, with the precedence of the Gateway API's `HTTPRoute`.
//!
//! # Example
//!
//! ```
//! use http::Method;
//! use portcullis::matching::{HostPattern, RequestMatch, Target};
//! use portcullis::routing::router::{Router, Rule};
//!
//! let router = Router::builder()
//!     .rule(
//!         Rule::new("orders", "orders:9001")
//!             .host(HostPattern::parse("shop.example")?)
//!             .when(RequestMatch::prefix("/api/orders")?),
//!     )
//!     .rule(Rule::new("site", "site:9002"))
//!     .build()?;
//!
//! let (uri, headers) = ("/api/orders/7".parse()?, http::HeaderMap::new());
//! let matched = router.find_target(&Target::new(&Method::GET, "shop.example", &uri, &headers)).unwrap();
//! assert_eq!((matched.name(), *matched.value()), ("orders", "orders:9001"));
//!
//! let matched = router.find_target(&Target::new(&Method::GET, "other.example", &uri, &headers)).unwrap();
//! assert_eq!(matched.name(), "site");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! A router of services is a service, [`RouterService`]; a router of layers is a layer, [`RouterLayer`], that
//! wraps what is behind it differently for each rule.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use portcullis::matching::RequestMatch;
//! use portcullis::routing::router::{Router, Rule};
//! use tower::{ServiceExt, service_fn};
//!
//! let service = |text: &'static str| {
//!     service_fn(move |_: Request<()>| async move {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
//!     })
//! };
//! let router = Router::builder()
//!     .rule(Rule::new("hello", service("hello")).when(RequestMatch::exact("/hello")?))
//!     .rule(Rule::new("bye", service("bye")).when(RequestMatch::exact("/bye")?))
//!     .build()?
//!     .into_service();
//!
//! let request = |path: &str| Request::get(path).header("host", "a.example").body(());
//! assert_eq!(router.clone().oneshot(request("/bye")?).await?.status(), StatusCode::OK);
//! assert_eq!(router.oneshot(request("/ciao")?).await?.status(), StatusCode::NOT_FOUND);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Precedence
//!
//! The host is looked at first: an exact name, then wildcards from the longest to the shortest, then rules
//! for any host. Where no rule of a host matches, the next less specific host is tried. Among the rules of a
//! host the first that matches is taken, in this order:
//!
//! 1. exact paths;
//! 2. regular expressions, whose place the Gateway API leaves open: they stand before the prefixes, because
//!    a rule for the prefix `/` would hide all of them otherwise;
//! 3. the longest path prefix;
//! 4. among equals: those with a method, then those with more header conditions, then with more query
//!    conditions, then the first in the order in which the rules were given.
//!
//! A CORS preflight is matched as the request that it announces, and only if no rule is for that, as the
//! `OPTIONS` that it is.
//!
//! A match that can never be reached, because an earlier rule has the same, is an error of
//! [`build`](RouterBuilder::build).
//!
//! # Cost
//!
//! One look-up for the host and each configured wildcard depth, one for the exact path, one for each segment
//! that a prefix begins with; what is left to compare one by one are rules with the same path, and regular
//! expressions. Nothing is allocated.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no rule matches | no route | 404 | UNIMPLEMENTED |
//!
//! # Position
//!
//! Inside of [`Normalize`](crate::matching::Normalize), which gives the path the form that rules are written
//! in; outside of every policy that a rule has. The rule is found once, and its name rides along as
//! [`RouteName`](crate::key::RouteName).
//!
//! # Shared state
//!
//! None: the table is immutable, and shared by clones of the service and the layer.
//!
//! # Compared with tower
//!
//! `tower::steer` needs every service to be ready, and looks at each; here only the chosen one is polled,
//! inside the call.
//!
//! # Metrics
//!
//! None of its own: the name of the rule is the label `route` of the metrics outside.

mod rule;
mod service;
mod table;
#[cfg(test)]
mod tests;

pub use rule::{Matched, Router, RouterBuilder, Rule, Unreachable, UnreachableMatches};
pub use service::{RouterFuture, RouterLayer, RouterService};
