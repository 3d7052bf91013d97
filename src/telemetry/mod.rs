//! WHAT happened? The id of a request, its span, its line in the log, its place in the numbers.
//!
//! | module | what it does |
//! |---|---|
//! | [`request_id`] | gives each request one id, and carries it to the calls made for it |
//! | [`trace`] | carries its trace to the calls made for it |
//! | [`span`] | opens one `tracing` span a request, entered while its body streams too |
//! | [`access_log`] | one structured event a request, at its end |
//! | `metrics` | rate, errors and durations for Prometheus (feature `prometheus`) |
//! | [`usage`] | who has used how much, delivered for bills |
//! | [`Witness`] | tells the route, the variant and the principal to the watchers outside |
//!
//! All of them judge a request by its [`Outcome`](crate::outcome::Outcome), at the end of the response body.

pub mod access_log;
#[cfg(test)]
mod capture;
mod findings;
#[cfg(feature = "prometheus")]
pub mod metrics;
pub mod request_id;
pub mod span;
pub mod trace;
pub mod usage;
mod witness;

pub use witness::Witness;
