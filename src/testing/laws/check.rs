use super::{bodies, calls, cost, stage::run, state};
use crate::testing::{Contract, Finding, Law, Subject};

pub(in crate::testing) fn check<L: Subject>(
    law: Law,
    contract: &Contract<L>,
    globals_before: bool,
) -> Finding {
    if let Some((_, why)) = contract.elsewhere.iter().find(|(elsewhere, _)| *elsewhere == law) {
        return Finding::NotApplicable(why);
    }
    let found = match law {
        Law::Readiness => run(calls::readiness(contract)),
        Law::SharedState => match contract.limit {
            Some(limit) => run(state::shared_state(contract, limit)),
            None => return Finding::NotApplicable("refuses nobody for what came before"),
        },
        Law::Cancellation => run(calls::cancellation(contract)),
        Law::InFlight => match &contract.in_flight {
            Some(gauge) => run(calls::in_flight(contract, gauge)),
            None => return Finding::NotApplicable("counts nothing in flight"),
        },
        Law::Bodies => run(bodies::bodies(contract)),
        Law::Errors => match contract.other_error {
            Some(why) => return Finding::NotApplicable(why),
            None => run(bodies::errors(contract)),
        },
        Law::Memory => match &contract.keys {
            Some((cap, gauge)) => run(state::memory(contract, *cap, gauge)),
            None => return Finding::NotApplicable("remembers no callers"),
        },
        Law::Waiting => run(calls::waiting(contract)),
        Law::Allocation => match contract.measure {
            Some((count, allowed)) => cost::allocation(contract, count, allowed),
            None => return Finding::NotApplicable("no bound was told"),
        },
        Law::Time => match (contract.limit.zip(contract.recovers_after), contract.answers_after) {
            (Some((limit, time)), _) => run(state::recovery(contract, limit, time)),
            (None, Some(time)) => run(state::answer_in_time(contract, time)),
            (None, None) => return Finding::NotApplicable("knows no time"),
        },
        Law::Types => Ok(()), // it compiled
        Law::Globals => cost::globals(contract, globals_before),
    };
    found.map_or_else(Finding::Broken, |()| Finding::Kept)
}
