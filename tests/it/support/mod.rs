//! What the tests of several rooms need.

#[cfg(feature = "jwt")]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod authority;
#[cfg(feature = "telemetry")]
pub(crate) mod log;
#[cfg(all(feature = "jwt", feature = "tls"))]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod provider;

#[cfg(feature = "redis")]
pub(crate) mod redis;
