//! Counts who has used how much, and delivers it so that a bill can be made of it.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{identity::Principal, telemetry::usage::{UsageFile, UsageMeter}};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let path = std::env::temp_dir().join(format!("portcullis-usage-doc-{}", std::process::id()));
//! # let _ = std::fs::remove_file(&path);
//! let meter = UsageMeter::builder().sink(UsageFile::new(&path)).build();
//! meter.start().await?;
//!
//! let app = meter.layer().layer(tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! }));
//! for _ in 0..3 {
//!     let mut request = Request::new(String::new());
//!     request.extensions_mut().insert(Principal::new("partners", "", "acme"));
//!     app.clone().oneshot(request).await?;
//! }
//!
//! assert!(meter.flush(Duration::from_secs(5)).await);
//! let usage = std::fs::read_to_string(&path)?;
//! assert!(usage.contains(r#""provider":"partners","subject":"acme""#) && usage.contains(r#""requests":3"#));
//! # std::fs::remove_file(&path)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! Also to a Redis stream, by what the upstream says that a request has cost, and with a spool that outlives the process:
//!
//! ```
//! # #[cfg(feature = "redis")] {
//! use portcullis::{redis::Redis, telemetry::usage::{UsageFile, UsageMeter, UsageStream}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = Redis::builder("redis://127.0.0.1:6379")?.build();
//! let meter = UsageMeter::builder()
//!     .instance("eu-1")
//!     .sink(UsageFile::new("/var/log/shop/usage.jsonl").rotate(100 << 20))
//!     .sink(UsageStream::new(redis, "usage").max_length(1_000_000))
//!     .spool("/var/lib/shop/usage")
//!     .units_by_response(|head| head.headers.get("x-tokens")?.to_str().ok()?.parse().ok())
//!     .build();
//! # let _ = meter;
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! # What is told
//!
//! Requests are added up by principal, plan, route and outcome. In each interval (10 s) the sums are sealed into a batch of
//! events, each a JSON object:
//!
//! | member | what it is |
//! |---|---|
//! | `id` | no other event has it: a random tag of the process, the number of the batch, and the place in it |
//! | `instance`, `from`, `to` | who has counted, and when, by its clock |
//! | `provider`, `issuer`, `subject`, `plan` | whom the credential was given to; left out where there is none |
//! | `route` | the rule; `_none` if there was none |
//! | `outcome` | `success`, `caller_fault`, `server_fault` or `cancelled`: who is to blame, at the end of the body |
//! | `reason` | why one of our layers refused it or failed; left out if none did |
//! | `requests`, `units`, `bytes` | how many, what they count for, and the bytes of responses' bodies |
//!
//! # What is promised
//!
//! - **At least once.** An event has its id from the moment in which it is sealed, and keeps it in every try: who drops ids
//!   that were seen before counts each event once. Batches come to each sink in their order; a sink that does not answer
//!   holds up no other.
//! - A process that is killed loses what was not sealed, an interval at most. What was sealed is in the file, or in the
//!   spool, from which the next process delivers it. Without a spool, what waits for Redis goes with the process. A file in
//!   the spool that is no text is renamed to `.bad`.
//! - [`flush`](UsageMeter::flush) seals and delivers everything: a gateway does so when it goes down.
//! - Memory is bounded: `max_entries` for each batch, beyond which requests are counted for `_other`, and `max_waiting`
//!   bytes for each sink, in memory and in the spool, beyond which the oldest batches are lost. Both are counted, and nothing
//!   else is lost.
//!
//! # Answers
//!
//! None: it only counts.
//!
//! # Position
//!
//! Outside of everything that may answer, beside the access log, so that refusals are counted too. The principal is told
//! by a [`Witness`](super::Witness) inside of authentication, the route by one inside of the router. Inside of
//! authentication it finds the principal itself.
//!
//! # Shared state
//!
//! Clones of a meter are one meter; the layer's clones and services share it.
//!
//! # Compared with tower
//!
//! tower has nothing of the kind.
//!
//! # Metrics
//!
//! [`UsageMeter::counts`] has what was recorded, what was not attributed, and for each sink what was delivered, waits, was
//! tried again and is lost.

mod batch;
mod counts;
mod file;
mod gate;
mod ledger;
mod meter;
mod queue;
mod sink;
mod spool;
#[cfg(feature = "redis")]
mod stream;
#[cfg(test)]
mod tests;
mod units;

pub use batch::UsageBatch;
pub use counts::{SinkCounts, UsageCounts};
pub use file::UsageFile;
pub use gate::Metering;
pub use meter::{UsageMeter, UsageMeterBuilder};
pub use sink::{Delivering, UsageSink};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use stream::UsageStream;
