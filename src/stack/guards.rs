//! What stands directly in front of what does the work.
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    gate::AsyncGates,
};

/// These limits inside of these gates, and the success rate inside of them: a refusal of a limit is no failure of the server.
pub(super) fn guarded(
    outside: AsyncGates,
    concurrency: &[Concurrency],
    success_rate: Option<&SuccessRate>,
) -> AsyncGates {
    let limits = Concurrency::in_one_order(concurrency.to_vec());
    let gates = limits.into_iter().fold(outside, AsyncGates::with_async);
    success_rate.into_iter().cloned().fold(gates, AsyncGates::with)
}
