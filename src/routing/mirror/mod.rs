//! Sends a share of the requests to another service too, and lets nobody wait for it.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! use http::{Request, Response};
//! use portcullis::{body::Body, routing::mirror::{MirrorLayer, Policy}};
//! use std::{convert::Infallible, time::Duration};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let version = |name: &'static str| {
//!     service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(Body::from(name))) })
//! };
//! let mirror = MirrorLayer::new(Policy::new("rewrite"), version("new"));
//! let handle = mirror.handles().remove(0);
//! let response = mirror.layer(version("old")).oneshot(Request::new(Body::from("order"))).await.unwrap();
//! assert_eq!(http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes(), "old");
//!
//! tokio::time::sleep(Duration::from_secs(1)).await;
//! assert_eq!((handle.begun(), handle.completed()), (1, 1));
//! # }
//! ```
//!
//! # Example, customised
//!
//! One request in ten, and what the new version answers differently is counted.
//!
//! ```
//! use http::header::CONTENT_TYPE;
//! use portcullis::{ratio::Ratio, routing::mirror::{Compare, Difference, Policy}};
//! use std::{num::NonZeroU32, time::Duration};
//!
//! let policy = Policy::new("rewrite")
//!     .share(Ratio::percent(10))
//!     .host_suffix("-shadow")?
//!     .timeout(Duration::from_secs(2))
//!     .most_in_flight(NonZeroU32::new(50).unwrap())
//!     .compare(Compare::status().header(CONTENT_TYPE).body());
//! let handle = policy.handle();
//! assert_eq!(handle.differences(Difference::Status), 0);
//! # Ok::<(), portcullis::routing::mirror::InvalidSuffix>(())
//! ```
//!
//! # What is promised
//!
//! - **The primary notices nothing.** Its request goes on before the shadows do, its answer is what it was, and no error,
//!   delay or panic of a mirror reaches it. A mirror is waited for in a task of its own.
//! - **Bodies stream.** A shadow reads what the primary has read, frame by frame, with the trailers. What the primary has
//!   read and the shadow has not is kept up to [`most_behind`](Policy::most_behind); a shadow that is further behind is
//!   dropped. So is one of a request that the primary does not read to its end: nobody reads on for the shadow alone.
//! - **A shadow has its own time.** Neither the caller's deadline nor the rule's is its own, and a caller that goes away does
//!   not end it: once its request is there as a whole, it goes on until its [`timeout`](Policy::timeout). One that has begun
//!   outlives the layer; it does not outlive the runtime.
//! - **All is bounded**: how many shadows there are, how far they are behind, how long they take, and how much of their
//!   response is read, which is then forgotten.
//! - **A shadow says what it is**: in the header `x-mirror`, and if you like in the host's name. A server that sees it should
//!   not charge, mail or delete. Take the header out of what strangers send; the gateway does.
//! - **It carries what the primary's request carries**, credentials too, but for fields of the hop, `Expect` and
//!   `grpc-timeout`. It has none of the extensions by which layers watch the primary.
//!
//! Tunnels (CONNECT, upgrades) have no shadow, and there is none outside of a Tokio runtime.
//!
//! # What is compared
//!
//! With [`compare`](Policy::compare) the statuses, HTTP's and gRPC's, of trailers too; headers by name; and the bodies'
//! data by a digest over the frames as they stream, which takes no memory. Both must have come to their end: a shadow that
//! was dropped or whose response is longer than [`most_response`](Policy::most_response), and a caller that has gone, make a
//! pair [incomparable](MirrorHandle::incomparable). Of a failure that nobody has read to its end the body is not compared.
//!
//! # Answers
//!
//! None of its own.
//!
//! # Position
//!
//! Inside of all that decides who may ask, and of the timeout of the request; outside of a split and of retries, so that
//! there is one shadow for a request and not for each attempt.
//!
//! # Shared state
//!
//! The places and numbers of each policy: clones, and all services of a layer, share them.
//!
//! # Compared with tower
//!
//! It has no counterpart.
//!
//! # Metrics
//!
//! A [`MirrorHandle`] counts shadows that were begun, completed and [dropped](Dropped) by reason, and
//! [differences](Difference) by kind. Differences are logged with target `portcullis::mirror`, once a second at most.

mod body;
mod compare;
mod handle;
mod head;
mod layer;
mod policy;
mod shadow;
#[cfg(test)]
mod tests;

pub use body::MirrorBody;
pub use handle::{Difference, Dropped, MirrorHandle};
pub use layer::{Mirror, MirrorLayer, ResponseFuture};
pub use policy::{Compare, InvalidSuffix, Policy};
