use super::{bodies, calls, cost, stage::run, state, time};
use crate::testing::{
    Contract, Finding, Law, Subject,
    contract::{Refuses, Shares},
};

/// What is found of a law that speaks of something the layer is not said to have. That it has it not is shown as far as these
/// words say, but for the count, which nobody sees from outside.
const NEVER_REFUSES: &str =
    "refuses nobody for what came before, nor beside 64 others; what else is shared the kit does not see";
const COUNTS_NOTHING: &str = "is not said to count what is in flight; the kit looks for no such count";
const REMEMBERS_NOBODY: &str = "keeps nothing of 1,000 callers";
const TIMELESS: &str = "answers after an hour of silence, and after a failure, as before; what else goes by time the kit does not see";

pub(in crate::testing) fn check<L: Subject>(
    law: Law,
    contract: &Contract<L>,
    globals_before: cost::Globals,
) -> Finding {
    if let Some((_, why)) = contract.exempt.iter().find(|(exempt, _)| *exempt == law) {
        return Finding::NotApplicable(why);
    }
    let (found, otherwise) = match law {
        Law::Readiness => (run(calls::readiness(contract)), None),
        Law::SharedState => match (contract.refuses, &contract.shares) {
            (Some(refuses), _) => (run(state::shared_state(contract, refuses)), None),
            (None, Some(shares)) => (run(state::shares(contract, shares)), None),
            (None, None) => (run(state::refuses_nobody(contract)), Some(NEVER_REFUSES)),
        },
        Law::Cancellation => (run(calls::cancellation(contract)), None),
        Law::InFlight => match &contract.in_flight {
            Some(gauge) => (run(calls::in_flight(contract, gauge)), None),
            None => (Ok(()), Some(COUNTS_NOTHING)),
        },
        Law::Bodies => (run(bodies::bodies(contract)), None),
        Law::Errors => match contract.other_error {
            Some(why) => (Ok(()), Some(why)),
            None => (run(bodies::errors(contract)), None),
        },
        Law::Memory => match (&contract.keys, contract.measure) {
            (Some((cap, gauge)), _) => (run(state::memory(contract, *cap, gauge)), None),
            (None, Some((count, _))) => match contract.filled_by {
                Some(callers) => (cost::bounded(contract, count, callers), None),
                None => (cost::memory(contract, count), Some(REMEMBERS_NOBODY)),
            },
            (None, None) => (Ok(()), Some("neither callers nor a count of allocations were told")),
        },
        Law::Waiting => (run(calls::waiting(contract)), None),
        Law::Allocation => match contract.measure {
            Some((count, allowed)) => (cost::allocation(contract, count, allowed), None),
            None => (Ok(()), Some("no bound was told")),
        },
        Law::Time if contract.waits.is_some() => (run(time::waits(contract)), None),
        Law::Time if contract.wall_clock.is_some() => (run(time::wall_clock(contract)), None),
        Law::Time => match (contract.refuses.zip(contract.recovers_after), contract.answers_after) {
            (Some((refuses, time)), _) => (run(time::recovery(contract, refuses, time)), None),
            (None, Some(time)) => (run(time::answer_in_time(contract, time)), None),
            (None, None) if matches!(contract.shares, Some(Shares::Answers(_))) => {
                (run(time::answers_again(contract)), None)
            }
            // What it refuses comes to an end with what is in flight.
            (None, None) if matches!(contract.refuses, Some(Refuses::After(_) | Refuses::Failed(_))) => {
                (Ok(()), Some("when it lets pass again was not told"))
            }
            (None, None) => (run(time::timeless(contract)), Some(TIMELESS)),
        },
        Law::Types => (Ok(()), None), // it compiled
        Law::Globals => (cost::nothing_global(contract, globals_before), None),
    };
    match (found, otherwise) {
        (Err(how), _) => Finding::Broken(how),
        (Ok(()), Some(why)) => {
            let unseen = contract.unseen.iter().find(|(unseen, _)| *unseen == law);
            Finding::NotApplicable(unseen.map_or(why, |(_, why)| why))
        }
        (Ok(()), None) => Finding::Kept,
    }
}
