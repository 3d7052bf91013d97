//! Logs each request once, when it has ended.
//!
//! One `tracing` event a request, at level `INFO` under the target `portcullis::access`, at the end of the
//! response body: a gRPC call that failed in its trailers is logged as failed, a stream with its whole duration,
//! a call whose caller went away as cancelled. Format and destination are your subscriber's.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::telemetry::access_log::AccessLog;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = AccessLog::new().layer().layer(service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
//! }));
//! service.oneshot(Request::new(String::new())).await.unwrap();
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::telemetry::access_log::AccessLog;
//!
//! let layer = AccessLog::new().query(true).redact("booking_reference").max_path(512).layer();
//! # let _ = layer;
//! ```
//!
//! # Fields
//!
//! | field | what |
//! |---|---|
//! | `request_id` | the request's id |
//! | `method`, `host`, `path`, `query`, `protocol` | what was asked; no query unless told, no credentials in the host |
//! | `status` | the HTTP status; 0 if none was sent |
//! | `grpc_status` | the number of the gRPC status, from the trailers too |
//! | `verdict` | `success`, `caller_fault`, `server_fault` or `cancelled` |
//! | `reason`, `flag` | why it was refused or failed; flag `DC`: the caller went away; `URX`: the upstream's answer is a failure, and all attempts were made |
//! | `error` | what else is known of a refusal: what was told of it, and what has caused it |
//! | `route`, `variant` | the configured names |
//! | `upstream`, `endpoint`, `attempts`, `connect_us` | where it was sent, the last time, and how often |
//! | `fallback`, `failed` | what was given in the place of a failure: `answer`, `server` or `stale`; and of which: a `reason`, `http_503`, `grpc_14` |
//! | `retry_stop` | why a failure was not tried again: `attempts`, `body`, `budget`, `deadline`, `told`, `unsafe` |
//! | `fault` | what was done to it on purpose: `delay`, `abort`, `reset`, `throttle`, or a delay and one of these |
//! | `bytes` | how many bytes of the response's body were given |
//! | `head_us`, `duration_us` | microseconds from the request's head to the response's head, and to its end |
//! | `client` | the client's address |
//! | `peer` | whose certificate the connection, or a trusted proxy, has shown: its SPIFFE ID, or else another name |
//! | `provider`, `subject` | who is calling; never a credential |
//!
//! A head that became no request, because its server has refused it, has a line with `status`, `verdict`, `reason`, `flag`
//! and `client`, where somebody who hears of it calls [`refused_head`]. A connection that is cut for a handshake of TLS that
//! fails, a flood of control frames, frames that make no sense, its PROXY protocol header or for reading too slowly has one
//! with `verdict`, `client` and `cut` ([`cut_connection`]).
//!
//! A gateway's listeners write both, and tell which `listener` it was and the `request_id` of the answer if they have given one.
//! They write 5 such lines a second for each listener and `reason` or `cut`, and in the next of its kind how many were
//! `left_out`: if there is no next, that is never told. How many there were in all is the metrics' (`heads_refused_total`,
//! `connections_cut_total`).
//!
//! What is not known is left out. Strangers' bytes are written as visible ASCII, with everything else, quotes and
//! backslashes as `%XX`, and are cut at a bound: a log line cannot be forged or blown up by a request.
//!
//! # Answers
//!
//! None: it never refuses.
//!
//! # Position
//!
//! Outside of everything that can answer, so that refusals are logged too; inside of request id and of whatever
//! establishes the client's address. What is found out further inside comes back by the
//! [`Trail`](crate::trail::Trail) and the response's extensions.
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! `tower_http::trace` has hooks for each stage, which you fill; by default it counts a gRPC answer without a
//! status as a success. It does not know why a request was refused.
//!
//! # Metrics
//!
//! None. While no subscriber wants the event, the layer does nothing but ask.

#[cfg(feature = "stack")]
mod connection;
mod event;
mod gate;
mod refused;
#[cfg(test)]
mod tests;
mod text;

#[cfg(feature = "stack")]
pub(crate) use connection::{Connection, Made};
pub use event::TARGET;
pub use gate::{AccessLog, Entry};
#[cfg(feature = "stack")]
pub(crate) use refused::{CutConnection, RefusedHead};
pub use refused::{cut_connection, refused_head};
