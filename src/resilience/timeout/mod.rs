//! Bounds how long a request, an attempt or a stream may take.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::timeout::TimeoutLayer};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let slow = tower::service_fn(|_: Request<()>| async {
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let service = TimeoutLayer::default().layer(slow); // 15 s
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), 504);
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::resilience::timeout::TimeoutLayer;
//! use std::time::Duration;
//!
//! let request = TimeoutLayer::new(Duration::from_secs(5))
//!     .tell_deadline(true)                          // to the layers inside, in a `Deadline` extension
//!     .grpc_streams(true)                           // gRPC calls may last,
//!     .stream_idle(Duration::from_secs(60))         // but not keep silent for a minute,
//!     .stream_max_age(Duration::from_secs(30 * 60)); // nor last longer than half an hour
//! // Inside of a retry: each attempt.
//! let attempt = TimeoutLayer::new(Duration::from_secs(2)).per_attempt();
//! # let _ = (request, attempt);
//! ```
//!
//! # What is bounded
//!
//! | what | by | until |
//! |---|---|---|
//! | an ordinary response | the total, and idleness with [`body_idle`](TimeoutLayer::body_idle) | the last byte of its body |
//! | `text/event-stream` | the total, then idleness and age | the head, then the end of the stream |
//! | gRPC with [`grpc_streams`](TimeoutLayer::grpc_streams) | the total, then idleness and age | the head, then the trailers |
//! | an upgrade, `CONNECT` | the total, then idleness and age | the head, then the close of the tunnel |
//!
//! All of them also by the request's [`Deadline`], if it has one. A body is idle while it is waited for and gives
//! nothing; a reader that is slow to ask for more is the transport's to cut off. A tunnel's limits are told in a
//! [`TunnelLimits`] extension, to whoever runs it.
//!
//! # What those inside are told
//!
//! The end of the whole, in a [`Deadline`]: what the caller gave, narrowed by the total, or the total itself with
//! [`tell_deadline`](TimeoutLayer::tell_deadline). What may last (gRPC with
//! [`grpc_streams`](TimeoutLayer::grpc_streams), an upgrade, `CONNECT`, and what accepts `text/event-stream`) is told
//! the caller's only, narrowed by the age: a server that knew the total would cut its stream then.
//! [Retries](super::retry) know in any case until when the head has to come.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | the total has passed before the head | [`DeadlineExceeded`] | 504 | `DEADLINE_EXCEEDED` |
//! | the same, [per attempt](TimeoutLayer::per_attempt) | [`UpstreamTimeout`] | 504 | `DEADLINE_EXCEEDED` |
//! | any of these while the rest of the request is [waited for](crate::upload) | [`RequestTimeout`] | 408 | `DEADLINE_EXCEEDED` |
//! | the caller's [`Deadline`] has passed before the head | [`CallerDeadline`] | 504 | `DEADLINE_EXCEEDED` |
//! | any of them in the middle of the body | the same | the body ends with an error, and the server aborts the response | trailers with `DEADLINE_EXCEEDED` |
//!
//! The inner call is dropped at that moment. A response that comes at the same moment is given. A caller's deadline
//! only shortens: that it has passed is not the upstream's fault.
//!
//! # Position
//!
//! The whole request's: inside of metrics and logs, which see the answer, and outside of retries, splits and whatever
//! else may take time. An attempt's: inside of the retry, outside of the balancer.
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! `tower::timeout` sets a timer for each call, changes the error type, and is done at the head. `tower_http::timeout`
//! answers 408 or what it is told in every protocol, and has a second layer for bodies, which counts each frame anew.
//! This one sets a timer only if there is something to wait for.
//!
//! # Metrics
//!
//! The reasons above, as labels of refused requests.
//!
//! # Panics
//!
//! If something must be waited for outside of a tokio runtime with timers.
//!
//! [`Deadline`]: crate::context::Deadline
//! [`TunnelLimits`]: crate::tunnel::TunnelLimits
//! [`DeadlineExceeded`]: crate::reject::Reason::DeadlineExceeded
//! [`UpstreamTimeout`]: crate::reject::Reason::UpstreamTimeout
//! [`RequestTimeout`]: crate::reject::Reason::RequestTimeout
//! [`CallerDeadline`]: crate::reject::Reason::CallerDeadline

mod alarm;
mod body;
mod future;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub(super) use alarm::Alarm;
pub use body::TimedBody;
pub use future::ResponseFuture;
pub use layer::{Timeout, TimeoutLayer};
pub(super) use policy::{HeadDeadline, head_deadline};
