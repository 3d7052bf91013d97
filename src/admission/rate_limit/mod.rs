//! Bounds how many requests each account may make over time: in this process, or with other instances on Redis.
//!
//! An account holds some units, which come back at a [`Rate`]: how is the [`Algorithm`]'s. A request spends one, or its
//! [`Cost`](super::Cost).
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::admission::rate_limit::{Limit, RateLimit};
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 2 requests a minute for each client address.
//! let limit = Limit::builder("per-address", "2/min".parse()?).build()?;
//! let layer = RateLimit::new(limit).layer();
//!
//! let app = layer.layer(tower::service_fn(|_: Request<String>| async {
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
//! ```
//! use portcullis::{
//!     admission::{Cost, Fields, rate_limit::{Limit, RateLimit, RateLimitRegistry}},
//!     key::Key,
//! };
//! use std::num::NonZeroU32;
//!
//! let limits = RateLimitRegistry::new(); // keeps accounts across reloads
//! let per_customer = limits.define(
//!     Limit::builder("per-customer", "100/min".parse()?)
//!         .by(Key::Principal)
//!         .burst(NonZeroU32::new(20).unwrap())
//!         .max_keys(NonZeroU32::new(10_000).unwrap()),
//! )?;
//! let in_all = limits.define(Limit::builder("in-all", "5000/s".parse()?).shared())?;
//!
//! // A request passes if both let it; one that does not pass spends nothing of either.
//! let orders = RateLimit::new(per_customer.clone()).and(in_all.clone()).fields(Fields::Always).layer();
//! // The same accounts, charged by what the request asks for.
//! let search = RateLimit::new(per_customer.costing(5))
//!     .and(in_all.costing(Cost::told_by(|head| if head.uri().query().is_some() { 2 } else { 1 })))
//!     .layer();
//! # let _ = (orders.clone(), search.clone());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whom the plan of a caller grants more, what is not counted, what a request cost in the end, and a limit that only
//! looks on:
//!
//! ```
//! use http::HeaderName;
//! use portcullis::admission::{HeaderCost, Settle, Skip, rate_limit::{Algorithm, Charge, Limit, Quota, RateLimit}};
//! use portcullis::{admission::Plans, key::Key, matching::PathTemplate};
//!
//! let plans = Plans::new().with("gold", Quota::new("100000/h".parse()?));
//! let tokens = Limit::builder("tokens", "1000/h".parse()?)
//!     .by(Key::Principal)
//!     .algorithm(Algorithm::SlidingWindow)
//!     .plans(plans)
//!     .max_debt(500)
//!     .build()?;
//! let monthly = Limit::builder("monthly", "5000000/month".parse()?)
//!     .by(Key::Principal)
//!     .algorithm(Algorithm::CALENDAR)
//!     .build()?;
//! let used = HeaderCost::new(HeaderName::from_static("x-tokens-used")).at_most(10_000);
//! let models = Skip::new().paths([PathTemplate::parse("/v1/models")?]);
//! let layer = RateLimit::new(Charge::from(tokens).costing(20).settle(Settle::by_header(used)).skip(models))
//!     .and(Charge::from(monthly).in_shadow(true))
//!     .layer();
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Algorithms
//!
//! | algorithm | an account can spend `cost` if | else after | bound |
//! |---|---|---|---|
//! | [`TokenBucket`] (GCRA) | `debt + cost * interval <= burst * interval` | the rest of the debt | in any time `t`: `burst + t / interval` |
//! | [`SlidingWindow`] | `before * (period - elapsed) / period + running + cost <= count` | enough of the window before has gone by | `count` in the window that ends now, by that estimate |
//! | [`FixedWindow`] | `spent + cost <= count` | the window's end, by the calendar | `count` in each window: twice that around its end |
//! | [`LeakyBucket`] | `debt + cost * interval <= max_wait + interval`, and is held for `debt` | the rest of the debt | one each `interval` |
//!
//! `debt` is what an account has spent and has not come back yet, as time; `interval` is `period / count`. All count in
//! whole nanoseconds and units. An `interval` is rounded up, so that nobody has more than the rate, and less by less than a
//! nanosecond a unit: nothing for one a month or 10 million a second, 1 in 5 million for 300 a second, 1 in 100 at the
//! utmost ([`Rate`]). A state is 64 bits, whatever the algorithm. None but the fixed window looks at the wall clock: it stays in a window that has not
//! begun yet by a clock that was put back, and begins anew if it was put back by more than a window.
//!
//! # Kept on Redis
//!
//! With the feature `redis` a limit can be [distributed](LimitBuilder::distributed): all instances of a gateway that are on
//! one server hold it together. The layer waits for Redis where it has to. The
//! [`Distribution`] says for how long, what happens where Redis does not decide, and whether an instance may take units
//! ahead. What a request cost in the end is [settled](Charge::settle) there while nobody waits; a [`DistributionHandle`]
//! looks at accounts there and makes them whole.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|---|
//! | a limit is reached | [`RateLimited`] | 429 | `RESOURCE_EXHAUSTED` | the longest wait of the limits that refuse, in seconds, rounded up |
//! | Redis does not decide, and [`Fallback::Deny`] says so | [`LimitUnavailable`] | 503 | `UNAVAILABLE` | 1 |
//! | it costs more than an account ever holds | [`RateLimited`] | 429 | `RESOURCE_EXHAUSTED` | none: it will never pass |
//! | it would wait too long for a leaky bucket, or too many wait | [`RateLimited`] | 429 | `RESOURCE_EXHAUSTED` | until there is a place |
//!
//! The answer has the fields `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers, with the
//! limits' names: `"per-customer";q=100;w=60` is 100 in 60 seconds, `"per-customer";r=0;t=3` is none left, and more
//! in 3 seconds. [`RateLimit::fields`] tells them in every response, [`RateLimit::legacy_fields`] adds the older
//! `X-RateLimit-*`.
//!
//! # Position
//!
//! Limits by address outside of authentication, so that refused credentials count too; limits by [`Principal`] or
//! claim inside of it, by [`Route`] inside of the router. A part of the key that is not known falls back to the
//! client's address, so outside of whatever gives the address all clients are one account. Inside of access logs and
//! metrics, which see the answer. What is refused further inside, by a quota or a limit of concurrency, has spent it.
//!
//! # Shared state
//!
//! A [`Limit`] owns its accounts: its clones are the same limit, in however many layers, routes and listeners they
//! are named, and a layer's clones and services share it. [`RateLimitRegistry`] gives the same accounts to a definition that
//! comes again, also where it grants another rate, plans, bounds or debts: what was spent stays spent. Only another key,
//! algorithm, calendar or length of a window begins anew. A [`RateLimitHandle`] looks at it.
//!
//! # When it is full
//!
//! A limit holds at most `max_keys` accounts, or as many as fit into `max_bytes` (30 to 48 bytes each, allocated as they come, and kept for those that
//! come later). An account that is whole again is like one that was never seen; each newcomer drops such accounts from
//! a few places, without a thread or a scan.
//!
//! If all are in use, the newcomer and some others are compared, and the one that owes least goes into a
//! sketch (at most 4 bytes for each of `max_keys`), which never takes an account to owe less than it does. So **no
//! account ever spends more than its limit**, whether it is held or not: a flood of keys neither grows memory nor frees
//! those who are at their limit, who stay held, since they owe most. The price is paid by newcomers: in the sketch they
//! share accounts with others, and may find one that is not whole, until they have spent enough to be held, or the
//! flood has passed for as long as a burst takes to refill. However many they are, together they get at most what one
//! and a half times `max_keys` accounts hold. [`RateLimitHandle::forgotten`] counts this.
//!
//! Keys are kept as 56 bits of a fingerprint under a secret seed: of a permutation of addresses, and of SipHash of everything
//! else. Nobody can make accounts meet who does not know the seed, which never leaves the process. By chance two of `n` do
//! with a probability of about `n^2 / 2^57`: 7 in a million among a million accounts, 4 in 10 million among 250,000, and one
//! in 15 among the 100 million that a file allows at most. Accounts on Redis are 128 bits.
//!
//! # When quotas change
//!
//! What an account has spent stays spent, in units, whatever quota it has next. For that it is kept at which price: 8 bits
//! beside its key, for 254 prices (intervals, of the limit and its plans, since the limit was first defined). Accounts of
//! further ones are noted one by one in another table, of about 50 bytes for each that owes something, behind one lock.
//!
//! # Compared with tower
//!
//! `tower::limit::RateLimit` is one limit for each service it makes, so that under axum nothing is limited; it waits
//! instead of answering, and knows no keys. A leaky bucket waits too, in a line that is fair and bounded. `tower_governor` never forgets a key, tells `Retry-After: 0`, and knows
//! no cost and no second limit.
//!
//! # Metrics
//!
//! [`RateLimitHandle`] counts accounts, bytes, what was admitted, refused and, in shadow, spared, those who wait, and
//! forgotten accounts. A gateway shows them by the limit's name: `portcullis_rate_limit_requests_total{limit,result}`,
//! `rate_limit_forgotten_total`, `rate_limit_accounts`, `rate_limit_waiting`. Refusals have the label `rate_limited` and
//! the access-log flag `RL`; the rejection's detail names the limits.
//!
//! [`TokenBucket`]: Algorithm::TokenBucket
//! [`SlidingWindow`]: Algorithm::SlidingWindow
//! [`FixedWindow`]: Algorithm::FixedWindow
//! [`LeakyBucket`]: Algorithm::LeakyBucket
//! [`RateLimited`]: crate::reject::Reason::RateLimited
//! [`LimitUnavailable`]: crate::reject::Reason::LimitUnavailable
//! [`Principal`]: crate::key::Key::Principal
//! [`Route`]: crate::key::Key::Route

mod account;
mod algorithm;
mod bucket;
mod charge;
#[cfg(feature = "redis")]
mod distributed;
mod fixed;
mod gate;
mod gcra;
mod handle;
mod judge;
mod ledger;
mod limit;
mod notice;
mod plans;
mod policy;
mod prices;
mod queue;
mod quota;
mod rate;
mod registry;
mod sketch;
mod sliding;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod turns;
mod windows;

pub use account::Account;
pub use algorithm::Algorithm;
pub use charge::Charge;
#[cfg(feature = "redis")]
pub use distributed::{Distribution, DistributionHandle, Fallback};
pub use gate::{RateLimit, RateLimitTold, RateLimitWait, SyncError, SyncRateLimit};
pub use handle::{RateLimitHandle, Standing};
pub use limit::{Limit, LimitBuilder, LimitError};
pub use notice::Notice;
pub use plans::QuotaProvider;
pub use quota::Quota;
pub use rate::{Rate, RateError};
pub use registry::RateLimitRegistry;

pub(super) use judge::Verdict;
