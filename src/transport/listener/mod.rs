//! Accepting connections.

mod accept;
mod builder;
mod caps;
mod pauses;
mod foreign;

pub use accept::Listener;
pub use builder::ListenerBuilder;
pub(super) use caps::Slot;
#[cfg(feature = "tonic")]
pub use foreign::Incoming;
