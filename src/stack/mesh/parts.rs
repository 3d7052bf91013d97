//! What both sides have.
#[cfg(not(feature = "prometheus"))]
use crate::telemetry::Witness;
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    gate::{AsyncGateLayer, AsyncGated, AsyncGates},
    stack::guards::guarded,
};

#[cfg(feature = "prometheus")]
pub(super) type Counter = Metrics;
#[cfg(not(feature = "prometheus"))]
pub(super) type Counter = Witness;

/// Behind limits, if there are any.
pub(super) type Guarded<S> = AsyncGated<S, AsyncGates>;

/// The limits inside of these gates, if there are any.
pub(super) fn guards(
    outside: AsyncGates,
    concurrency: &[Concurrency],
    success_rate: Option<&SuccessRate>,
) -> AsyncGateLayer<AsyncGates> {
    match guarded(outside, concurrency, success_rate) {
        gates if gates.is_empty() => AsyncGateLayer::disabled(),
        gates => AsyncGateLayer::new(gates),
    }
}
