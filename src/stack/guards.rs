//! What both a gateway's rules and a mesh server put in front of what does the work.
use crate::{
    admission::{authz::Authorize, concurrency::Concurrency, shed::SuccessRate},
    authn::Providers,
    gate::AsyncGates,
};

/// What is asked of callers, who are told which credentials these providers take.
pub(super) fn authorizing(authorize: Option<&Authorize>, providers: Option<&Providers>) -> Option<Authorize> {
    let challenges = providers.map(Providers::challenges).unwrap_or_default();
    Some(authorize?.clone().behind(challenges))
}

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
