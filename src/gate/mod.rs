//! "Look at the head, let it pass or answer": the shape of most policies, and the one service behind all of them.
//!
//! API keys, tokens with cached keys, authorization, rate limits, CORS, request ids: they all look at a request's
//! head and let it pass or answer it. Each is a [`Gate`]. What it holds or wants to know while the request is
//! served is its [`Pass`]. The difficult code - readiness, cancellation, the end of the response body - stands
//! once in [`Gated`], and once more in [`AsyncGated`] for gates that must wait.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::gate::{Gate, GateLayer};
//! use portcullis::head::Head;
//! use portcullis::reject::{Answer, Reason, Rejection};
//! use tower::{Layer, Service, ServiceExt};
//!
//! struct Weekdays;
//!
//! impl Gate for Weekdays {
//!     type Pass = ();
//!     fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
//!         if head.headers().contains_key("x-weekend") {
//!             return Err(Rejection::new(Reason::Unavailable).detail("we rest at weekends").into());
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # tokio_test::block_on(async {
//! let handler = tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! });
//! let service = GateLayer::new(Weekdays).layer(handler);
//! let request = Request::get("/").header("x-weekend", "1").body(String::new()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 503);
//! # });
//! ```
//!
//! # Example, customised
//!
//! A gate that counts what is in flight: its pass is dropped when the response's body has ended.
//!
//! ```
//! use portcullis::{gate::{Enforce, Gate, Pass}, head::Head, ratio::Ratio, reject::{Answer, Reason}};
//! use std::sync::Arc;
//!
//! struct AtMost(usize, Arc<()>);
//! struct Place(Arc<()>);
//!
//! impl Pass for Place {
//!     fn watches(&self) -> bool { false } // it is only held and dropped
//! }
//! impl Gate for AtMost {
//!     type Pass = Place;
//!     fn check(&self, _: &mut Head<'_>) -> Result<Place, Answer> {
//!         let place = Place(Arc::clone(&self.1));
//!         if Arc::strong_count(&self.1) > self.0 + 1 { Err(Reason::Overloaded.into()) } else { Ok(place) }
//!     }
//! }
//!
//! // Tried on a tenth of the requests first; for the others it only counts and logs.
//! let gate = Enforce::share("at-most", Ratio::percent(10), AtMost(100, Arc::new(())));
//! let spared = gate.handle();
//! let layer = gate.layer();
//! assert_eq!(spared.spared(), 0);
//! # let _ = layer;
//! ```
//!
//! # Combining gates
//!
//! `Option<G>`, `Arc<G>`, tuples of gates and [`Gates`] (a slice of different gates) are gates. If one of several
//! refuses, the passes that those before it have given see that answer. [`AsyncGates`] is a slice in which some of them
//! may wait.
//!
//! # Share and shadow
//!
//! [`Enforce`] lets a gate decide for all requests and refuse only a [share](Enforce::share) of those it would
//! refuse, or none of them: in [shadow](Enforce::shadow) it decides, counts and logs, and lets pass. A gate in
//! shadow sees a copy of the head, so it leaves no trace on the request: a shadowed credential yields no principal.
//!
//! # Answers
//!
//! Those of the gate, as HTTP or gRPC: see [`reject`](crate::reject).
//!
//! # Position
//!
//! Each gate's own docs say where it belongs; `docs/order.md` has the order of ours.
//!
//! # Shared state
//!
//! The layer owns the gate: every service made from it or from a clone of it shares one gate.
//!
//! # Compared with tower
//!
//! `tower::filter` changes the error type and sees only the request; `tower_http::validate_request` sees no end
//! of the response.
//!
//! # Metrics
//!
//! Refusals are counted by reason; what a gate in shadow spares, by its [`EnforceHandle`].

mod any;
mod any_async;
mod asynchronous;
mod combine;
mod enforce;
mod layer;
mod word;

pub use any::{BoxPass, DynGate, Gates};
pub use any_async::{AsyncGates, AsyncGatesWait, BoxTold, BoxWait, DynAsyncGate};
pub use asynchronous::{AsyncGateLayer, AsyncGated, AsyncGatedFuture};
pub use combine::Both;
pub use enforce::{Enforce, EnforceHandle, Enforced, EnforcedWait};
pub use layer::{GateLayer, Gated, GatedFuture};
pub use word::{AsyncGate, Check, Gate, Pass, Stopped};

#[cfg(test)]
mod tests;
