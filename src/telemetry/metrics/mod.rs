//! Counts requests by how they ended, and shows the numbers to Prometheus.
//!
//! [`Metrics`] is the numbers, the gate that counts them and the handle that shows them. Nothing is registered in
//! the process: two of them are two sets of numbers.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::telemetry::metrics::Metrics;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let metrics = Metrics::new();
//! let service = metrics.layer().layer(service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
//! }));
//! drop(service.oneshot(Request::new(String::new())).await.unwrap());
//! let text = metrics.render();
//! assert!(text.contains(
//!     r#"portcullis_requests_total{route="_unmatched",method="GET",status="200",verdict="success"} 1"#
//! ));
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::telemetry::metrics::Metrics;
//! use std::time::Duration;
//!
//! let metrics = Metrics::builder()
//!     .namespace("shop_edge")
//!     .buckets([1, 10, 100, 1000].map(Duration::from_millis))
//!     .max_routes(200)
//!     .build();
//! metrics.process().config_loaded(1);
//! assert!(metrics.render().contains("shop_edge_config_generation 1"));
//! ```
//!
//! # Answers
//!
//! None: it never refuses.
//!
//! # Position
//!
//! Outside of everything that can answer, so that refusals are counted too; inside of request id and span. In an
//! axum `Router`, as a layer of the router, where the matched path is known.
//!
//! # Shared state
//!
//! Clones share the numbers, and so do all services of a layer. Routes and variants come from the configuration
//! ([`RouteName`](crate::key::RouteName), axum's `MatchedPath`, [`Variant`](crate::attempt::Variant)), never from
//! the request's path; those beyond the builder's cap (1,000) are counted as `_other`, requests that no route
//! matched as `_unmatched`, methods that are not in the list as `_other`. One route holds at most 256
//! combinations of the other labels.
//!
//! # Compared with tower
//!
//! `tower_http::metrics` counts what is in flight. Peers built on the `metrics` crate allocate label strings for
//! each request and take unmatched paths as label values, which a scanner can multiply without end.
//!
//! # Metrics
//!
//! | name | type | labels |
//! |---|---|---|
//! | `requests_total` | counter | `route`, `variant`, `method`, `status`, `grpc_status`, `reason`, `verdict` |
//! | `request_duration_seconds` | histogram | `route`, `variant` |
//! | `faults_injected_total` | counter | `route`, `variant`, `kind` |
//! | `requests_in_flight` | gauge | |
//! | `upstream_attempts_total` | counter | `upstream`, `verdict` |
//! | `upstream_attempt_duration_seconds` | histogram | `upstream` |
//! | `config_generation` | gauge | |
//! | `config_loads_total`, `config_load_failures_total` | counter | |
//! | `connections_open` | gauge | |
//! | `connections_accepted_total`, `connections_refused_total`, `connections_cut_total` | counter | |
//! | `heads_refused_total` | counter | `reason` |
//!
//! [Attempts](Metrics::attempts) are those of a mesh client at its upstreams: a request that a retry has mended is one
//! success of `requests_total`, and a failed and a good attempt.
//!
//! And what [others](Metrics::also) keep: `docs/metrics.md` has all that a gateway tells.
//!
//! `status` is the HTTP status, 0 if none was sent. `grpc_status` is the number of the gRPC status, from the
//! trailers too. `reason` is the label of the [`Reason`](crate::reject::Reason) of a refusal. `verdict` is
//! `success`, `caller_fault`, `server_fault` or `cancelled`. A label that does not apply is left out.

mod attempts;
mod gate;
mod labels;
mod process;
mod render;
mod samples;
mod series;
#[cfg(test)]
mod tests;

pub use attempts::{Attempt, Attempts};
pub use gate::{Counting, Metrics, MetricsBuilder};
pub use process::ProcessMetrics;
pub use samples::{Number, Samples};
