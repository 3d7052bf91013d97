//! What must live as long as an upgraded connection.
//!
//! A response that switches protocols (101, or 2xx to CONNECT) has no body, and yet the exchange goes on until the
//! tunnel closes. Whoever runs the tunnel makes a [`Tunnel`] with its [`TunnelGuard`], keeps the guard, and puts
//! the tunnel into the response's extensions (or, if it serves the connection, into those of its requests). Every
//! layer outside then leaves with the tunnel what it would have left with the body: permits, counts, logs.
//!
//! ```
//! use portcullis::tunnel::Tunnel;
//! use std::sync::Arc;
//!
//! let (tunnel, guard) = Tunnel::new();
//! let permit = Arc::new(());
//! tunnel.hold(permit.clone());
//! assert_eq!(Arc::strong_count(&permit), 2);
//! drop(guard); // the tunnel has closed
//! assert_eq!(Arc::strong_count(&permit), 1);
//! ```

#[cfg(feature = "upstream")]
mod carry;
mod held;

#[cfg(feature = "stack")]
pub(crate) use carry::{Carried, Way};
#[cfg(feature = "upstream")]
pub(crate) use carry::{End, Limits, carry};
pub use held::{Tunnel, TunnelCut, TunnelGuard, TunnelLimits};
