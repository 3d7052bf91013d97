//! Bounds how much each account may spend in a day, a month or a billing period, by its plan.
//!
//! A quota is what was sold: it counts by the calendar, over instances and restarts, and it can be read. Against bursts
//! it is of no use: a month's quota can be spent in a minute. That is what [`rate_limit`](super::rate_limit) is for.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{admission::quota::Quota, key::Key, time::Period};
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 2 requests a day for each client address.
//! let quota = Quota::builder("daily", 2, Period::Day).by(Key::ClientAddr).build()?;
//! let app = quota.layer().layer(tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! }));
//! for status in [200, 200, 429] {
//!     assert_eq!(app.clone().oneshot(Request::new(String::new())).await?.status(), status);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! By plan, from the 15th of a month in Berlin's winter time, counted on Redis for all instances, and charged by what the
//! upstream says that a request has cost:
//!
//! ```
//! # #[cfg(feature = "redis")] {
//! use http::HeaderName;
//! use portcullis::{
//!     admission::{Fields, HeaderCost, Settle, quota::{Allowance, QuotaFallback, Quota, QuotaStore, Quotas}},
//!     redis::Redis,
//!     time::{BillingDay, Period},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = Redis::builder("redis://127.0.0.1:6379")?.build();
//! let from = BillingDay::new(15).ok_or("no day of a month")?;
//! let tokens = Quota::builder("tokens", 10_000, Period::Billing(from))
//!     .plan("gold", 5_000_000)
//!     .plan("internal", Allowance::Unlimited)
//!     .plan("closed", 0)
//!     .calendar("+01:00".parse()?)
//!     .settle(Settle::by_header(HeaderCost::new(HeaderName::from_static("x-tokens"))))
//!     .store(QuotaStore::redis(redis).fallback(QuotaFallback::Deny))
//!     .build()?;
//! let reads = tokens.handle(); // reads.consumption_of(&principal).await?.used
//!
//! let layer = Quotas::from_iter([tokens]).fields(Fields::Always).layer();
//! # let _ = (reads, layer);
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```
//!
//! What is not counted, and a quota that only looks on before it is enforced:
//!
//! ```
//! use portcullis::{
//!     admission::{Skip, quota::{Quota, Quotas}},
//!     matching::PathTemplate,
//!     time::Period,
//! };
//!
//! let models = Skip::new().paths([PathTemplate::parse("/v1/models")?]);
//! let calls = Quota::builder("calls", 1_000, Period::Day).skip(models.clone()).build()?;
//! let next_year = Quota::builder("next-year", 20_000, Period::Month).skip(models).in_shadow(true).build()?;
//! let layer = Quotas::from_iter([calls, next_year.clone()]).layer(); // next_year.handle().spared() were over it
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|---|
//! | the allowance is used up | [`QuotaExhausted`] | 429 | `RESOURCE_EXHAUSTED` | until the end of the period; the longest of those that refuse |
//! | it costs more than the whole allowance, or the allowance is nothing | [`QuotaExhausted`] | 429 | `RESOURCE_EXHAUSTED` | none: it will never pass |
//! | counters cannot be asked, and [`QuotaFallback::Deny`] | [`LimitUnavailable`] | 503 | `UNAVAILABLE` | 1 s |
//!
//! The answer has the fields `RateLimit` and `RateLimit-Policy` with the quota's name, as those of
//! [`rate_limit`](super::rate_limit#answers) do; [`Quotas::fields`] tells them in every response, and
//! [`Quotas::legacy_fields`] adds the older `X-RateLimit-*`.
//!
//! # Where counters are kept
//!
//! | [`QuotaStore`] | for | what is lost |
//! |---|---|---|
//! | `memory` | trying it out | everything, with the process |
//! | `file` | one process | what was spent in the last second before a kill ([`every`](QuotaStore::every)); nothing at an orderly end |
//! | `redis` | any number of instances | what the server loses: with `appendfsync everysec` the last second, at a failover what was not replicated |
//!
//! In memory there are at most `max_keys` (60 to 90 bytes each). When there is no room, an account whose period is
//! over makes room, or else of a few the one that has spent least: who has spent much stays known under a flood of new
//! accounts. The file is replaced as a whole, by renaming, and one process has it at a time.
//!
//! On Redis one script spends, in one round trip, all quotas of a list that count by the same key on the same server. A
//! counter is a key of its own, `namespace:{quota.<digest of the account>}:<quota>:<period>`, that lives until a day after
//! its period; nothing that a stranger sends stands in it. Each decision has a deadline (50 ms; the longest of the list, whatever
//! is asked one after the other), the connection's breaker
//! stops asking a server that does not answer, and [`QuotaFallback`] says what becomes of requests then.
//!
//! # What is exact
//!
//! An account never spends more than its allowance, however many instances ask at once, but by what is
//! [settled](QuotaBuilder::settle) after a response. A list of quotas is all or nothing: if one refuses, what
//! others were charged is given back (at once, but while it is on its way somebody else may find nothing left). So is what was
//! charged for a caller who went away while Redis was asked, and by an answer that comes too late, for which it is waited 3 s
//! more; what cannot be given back is counted ([`unsettled`](QuotaHandle::unsettled)). A clock that is set back gives nothing back, unless it was more than a period ahead; instances begin a
//! new period by their own clocks. What is refused further inside because we cannot serve it now (overload, an open circuit,
//! no endpoint, a token that cannot be had) is given back, unless it was settled.
//!
//! # Position
//!
//! Inside of rate limits, authentication and authorization: what they refuse was not served, and is not to be paid. What
//! a quota refuses has spent them all the same; what could not be served further inside is given back to it.
//! Outside of whatever costs something.
//!
//! # Shared state
//!
//! A [`Quota`] owns its counters: its clones are the same quota, in however many layers and routes they are named, and
//! the layer's clones and services share it. A [`QuotaRegistry`] gives the same counters to a definition that comes again,
//! whatever its plans allow and what becomes of outages now.
//!
//! # Compared with tower
//!
//! tower has nothing of the kind.
//!
//! # Metrics
//!
//! [`QuotaHandle`] counts what was spent, what was refused and, in shadow, spared, and what passed uncounted or could not be
//! settled. Refusals have the
//! label `quota_exhausted` and the access-log flag `QE`.
//!
//! [`QuotaExhausted`]: crate::reject::Reason::QuotaExhausted
//! [`LimitUnavailable`]: crate::reject::Reason::LimitUnavailable

mod bill;
mod definition;
mod file;
mod gate;
mod handle;
mod memory;
mod place;
mod plan;
mod registry;
#[cfg(feature = "redis")]
mod remote;
mod store;
#[cfg(test)]
mod tests;

pub use definition::{Quota, QuotaBuilder, QuotaError};
pub use gate::{QuotaTold, QuotaWait, Quotas, Spending};
pub use handle::{Consumption, QuotaHandle, QuotaOutage};
pub use plan::Allowance;
pub use registry::QuotaRegistry;
pub use store::{QuotaFallback, QuotaStore};
