//! WHAT if it fails? Policies that bound what a failure costs.
//!
//! - [`timeout`]: how long a request, an attempt, a stream may take.

pub mod timeout;
