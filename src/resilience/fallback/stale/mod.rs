//! Answers that were good, kept for when there are none (RFC 5861 section 4).

mod ask;
mod moments;
mod recorder;
mod recordings;
mod rules;
mod store;
#[cfg(test)]
mod tests;

pub(super) use ask::Ask;
pub(super) use recorder::Recorder;
pub use store::Stale;
