//! The contract kit: checks the laws of a good layer on any layer, ours or yours.
//!
//! tower's contract is easily broken, and broken layers work until they are under load. [`Contract`] puts a layer
//! around a [`Probe`] that notices, and checks every [`Law`]. Laws about state need to know what the layer's state
//! is: how many requests pass before it refuses, how many it counts as in flight. A layer of which nothing is told is
//! checked to have none: that it refuses nobody, keeps nothing of callers, holds no place while a body goes on and does nothing by
//! time. That is what the kit sees: what is not told of a layer, and does not show in these, it does not find.
//!
//! # Example
//!
//! ```
//! use portcullis::gate::{Gate, GateLayer};
//! use portcullis::testing::Contract;
//! # use portcullis::{head::Head, reject::Answer};
//!
//! struct Open;
//! impl Gate for Open {
//!     type Pass = ();
//!     fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> { Ok(()) }
//! }
//!
//! let report = Contract::new("open", || GateLayer::new(Open)).check();
//! report.assert_kept();
//! ```
//!
//! # Example, customised
//!
//! ```
//! # #[cfg(feature = "admission")] {
//! use portcullis::{admission::rate_limit::{Limit, RateLimit}, testing::Contract};
//! use std::time::Duration;
//!
//! let contract = Contract::new("two a minute", || {
//!     RateLimit::new(Limit::builder("two", "2/min".parse().unwrap()).build().unwrap()).layer()
//! });
//! contract.limit(2).recovers_after(Duration::from_secs(30)).check().assert_kept();
//! # }
//! ```
//!
//! A layer that breaks a law does not pass, and one that is not `Send` does not compile. This one does:
//!
//! ```
//! # use portcullis::testing::Contract;
//! # use std::{sync::Arc, task::{Context, Poll}};
//! #[derive(Clone)]
//! struct Counted<S>(S, Arc<u8>);
//! impl<S: tower::Service<R>, R> tower::Service<R> for Counted<S> {
//!     type Response = S::Response;
//!     type Error = S::Error;
//!     type Future = S::Future;
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> { self.0.poll_ready(cx) }
//!     fn call(&mut self, request: R) -> S::Future { self.0.call(request) }
//! }
//! Contract::new("Send", || tower::layer::layer_fn(|inner| Counted(inner, Arc::new(0)))).check().assert_kept();
//! ```
//!
//! And the same with an `Rc` does not:
//!
//! ```compile_fail
//! # use portcullis::testing::Contract;
//! # use std::{rc::Rc, task::{Context, Poll}};
//! #[derive(Clone)]
//! struct Counted<S>(S, Rc<u8>);
//! impl<S: tower::Service<R>, R> tower::Service<R> for Counted<S> {
//!     type Response = S::Response;
//!     type Error = S::Error;
//!     type Future = S::Future;
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> { self.0.poll_ready(cx) }
//!     fn call(&mut self, request: R) -> S::Future { self.0.call(request) }
//! }
//! Contract::new("not Send", || tower::layer::layer_fn(|inner| Counted(inner, Rc::new(0)))).check();
//! ```

mod contract;
mod law;
mod laws;
mod probe;
mod report;
mod subject;

pub use contract::{Allocations, Contract};
pub use law::Law;
pub use probe::{Probe, ProbeBody, ProbeError, ProbeFuture};
pub use report::{Finding, Report};
pub use subject::Subject;
