//! A gateway: listeners, rules and upstreams, the layers between them in their proven order.
mod backend;
mod edge;
mod rule;
mod run;
mod service;
mod snapshot;
mod sockets;
mod status;

pub use edge::Listen;
pub use rule::Rule;
pub use run::Gateway;
pub use snapshot::{RuleFacts, Snapshot, SnapshotBuilder, SnapshotError};
pub use sockets::BindError;
