//! How many requests in flight are good, found out by looking at latencies and drops.
//!
//! [`Gradient`] and [`Aimd`] are those of Netflix's concurrency-limits, with their formulas in their documentation; an
//! [`LimitAlgorithm`] can also be your own. They are pure: a step takes what was [`Seen`] in a window, and says the next limit.
//!
//! - **Samples** are the latencies of what went well, until the response's head or its [end](Latency). What the caller
//!   did wrong or gave up says nothing.
//! - **Drops** are timeouts, resets, failed connections, 502, 503, 504, and gRPC's `UNAVAILABLE` and
//!   `DEADLINE_EXCEEDED`. A window in which more than a share of all are drops makes the limit smaller, whatever the
//!   latencies say: a server that fails fast is not a fast server.
//! - A **window** lasts 100 ms and until 10 requests were seen. All counting is by atomics; whoever ends a window takes
//!   the step.

mod aimd;
mod gradient;
mod sampler;
mod word;

pub use aimd::Aimd;
pub use gradient::Gradient;
pub(super) use sampler::{Adaptive, Sampler, is_drop, is_sample};
pub use word::{Latency, LimitAlgorithm, Seen};
