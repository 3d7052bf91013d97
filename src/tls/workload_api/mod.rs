//! The [Workload API](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md) of SPIFFE: an agent beside
//! us tells who we are and whom to believe, for as long as we listen.

mod endpoint;
mod message;
mod source;
mod updates;

pub use endpoint::InvalidEndpoint;
pub use source::WorkloadApi;

/// What the fuzzer reaches.
#[cfg(fuzzing)]
pub use message::fuzzing;
