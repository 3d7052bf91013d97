//! WHAT if it fails? Policies that bound what a failure costs.
//!
//! - [`breaker`]: who has been failing is left alone for a while.
//! - [`budget`]: how many calls may be made twice.
//! - [`deadline`]: until when a caller waits, carried to the calls that are made for it.
//! - [`fallback`]: what is given in the place of a failure.
//! - [`fault`]: what is made to fail on purpose.
//! - [`hedge`]: what is sent a second time because the first is late.
//! - [`retry`]: what is tried again, how often and when.
//! - [`timeout`]: how long a request, an attempt, a stream may take.

mod again;
pub mod breaker;
pub mod budget;
pub mod deadline;
pub mod fallback;
pub mod fault;
pub mod hedge;
mod kept;
mod looked;
pub mod retry;
pub mod timeout;
