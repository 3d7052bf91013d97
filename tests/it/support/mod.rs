//! What the tests of several rooms need.

#[cfg(feature = "spiffe")]
pub(crate) mod agent;
#[cfg(feature = "jwt")]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod authority;
#[cfg(feature = "tls")]
pub(crate) mod certificates;
#[cfg(any(feature = "spiffe", feature = "upstream"))]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod grpc;
#[cfg(feature = "gateway")]
pub(crate) mod hosts;
#[cfg(feature = "telemetry")]
pub(crate) mod log;
#[cfg(all(feature = "telemetry", feature = "tls", feature = "upstream"))]
pub(crate) mod openssl;
#[cfg(all(feature = "jwt", feature = "tls"))]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod provider;

#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "telemetry", feature = "upstream"))]
#[allow(dead_code, reason = "each room uses a part of it")]
pub(crate) mod serve;

/// The least that some rounds of `work` allocated: now and then a connection needs a new buffer to read into, which is no cost
/// of what is measured.
#[cfg(feature = "upstream")]
pub(crate) fn least_allocations(mut work: impl FnMut()) -> u64 {
    (0..8).map(|_| allocation_counter::measure(&mut work).count_total).min().unwrap_or_default()
}
