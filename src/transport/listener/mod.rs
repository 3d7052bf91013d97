//! Accepting connections.

mod accept;
mod builder;
mod caps;
mod foreign;
mod handshake;
mod observer;
mod pauses;

pub use accept::Listener;
pub use builder::ListenerBuilder;
pub(super) use caps::Slot;
#[cfg(feature = "tonic")]
pub use foreign::Incoming;
pub(super) use observer::Observer;
pub use observer::{ConnectionObserver, Misuse};
