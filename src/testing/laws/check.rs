use std::any::TypeId;

use super::{
    bodies, calls, cost,
    stage::{Found, run},
    state, time,
};
use crate::{
    body::ResponseBody,
    testing::{Contract, Finding, Law, ProbeBody, Subject, contract::Refuses},
};

/// What is found of a law that speaks of something the layer, as it is told, has not. That it has it not is looked at.
const STATELESS: &str =
    "no state for its services to share, and it refuses nobody for what came before, nor beside 64 others";
const BARE_BODIES: &str = "nothing that lives as long as a body: the type of its bodies has no room for it";
const NO_PLACES: &str = "no places: what lives as long as a body is told of its end, and beside 64 bodies as many pass as after them";
const TIMELESS: &str =
    "no time to wait for: it answers after an hour of silence, and after a failure, as before";

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
        Law::SharedState => shared_state(contract),
        Law::Cancellation => (run(calls::cancellation(contract)), None),
        Law::InFlight => in_flight(contract),
        Law::Bodies => (run(bodies::bodies(contract)), None),
        Law::Errors => match contract.other_error {
            Some(why) => (Ok(()), Some(why)),
            None => (run(bodies::errors(contract)), None),
        },
        Law::Memory => match (&contract.keys, contract.measure) {
            (Some((cap, gauge)), _) => (run(state::memory(contract, *cap, gauge)), None),
            (None, Some((count, _))) => match contract.filled_by {
                Some(callers) => (cost::bounded(contract, count, callers), None),
                None => (cost::memory(contract, count), None),
            },
            (None, None) => (Ok(()), Some("neither callers nor a count of allocations were told")),
        },
        Law::Waiting => (run(calls::waiting(contract)), None),
        Law::Allocation => match contract.measure {
            Some((count, allowed)) => (cost::allocation(contract, count, allowed), None),
            None => (Ok(()), Some("no bound was told")),
        },
        Law::Time => by_time(contract),
        Law::Types => (Ok(()), None), // it compiled
        Law::Globals => (cost::nothing_global(contract, globals_before), None),
    };
    match (found, otherwise) {
        (Err(how), _) => Finding::Broken(how),
        (Ok(()), Some(why)) => Finding::NotApplicable(why),
        (Ok(()), None) => Finding::Kept,
    }
}

/// All that was told is looked at, and if that is nothing, that there is `nothing`.
fn all<const N: usize>(
    told: [Option<Found>; N],
    nothing: impl FnOnce() -> (Found, &'static str),
) -> (Found, Option<&'static str>) {
    if told.iter().any(Option::is_some) {
        return (told.into_iter().flatten().collect(), None);
    }
    let (found, why) = nothing();
    (found, Some(why))
}

fn shared_state<L: Subject>(contract: &Contract<L>) -> (Found, Option<&'static str>) {
    let nobody = || match contract.refuses {
        None | Some(Refuses::Told) => run(state::refuses_nobody(contract)),
        Some(_) => Ok(()),
    };
    let told = [
        contract.refuses.map(|refuses| run(state::shared_state(contract, refuses))),
        contract.shares.as_ref().map(|shares| run(state::shares(contract, shares))),
        contract.in_flight.as_ref().map(|gauge| run(state::counts_together(contract, gauge))),
    ];
    let (found, why) = all(told, || (Ok(()), STATELESS));
    (found.and_then(|()| nobody()), why)
}

fn in_flight<L: Subject>(contract: &Contract<L>) -> (Found, Option<&'static str>) {
    let told = [
        contract.in_flight.as_ref().map(|gauge| run(calls::in_flight(contract, gauge))),
        contract.probes.map(|probes| run(calls::probes(contract, probes))),
    ];
    all(told, || {
        let bodies = TypeId::of::<L::ResB>();
        let bare = [TypeId::of::<ProbeBody>(), TypeId::of::<ResponseBody<ProbeBody>>()].contains(&bodies);
        (run(calls::holds_no_place(contract)), if bare { BARE_BODIES } else { NO_PLACES })
    })
}

fn by_time<L: Subject>(contract: &Contract<L>) -> (Found, Option<&'static str>) {
    let recovers = contract.refuses.zip(contract.recovers_after);
    let told = [
        contract.waits.map(|waits| run(time::waits(contract, waits))),
        contract.wall_clock.as_ref().map(|(time, advance)| run(time::wall_clock(contract, *time, advance))),
        contract.tells.as_ref().map(|tells| run(time::tells(contract, tells))),
        recovers.map(|(refuses, time)| run(time::recovery(contract, refuses, time))),
        contract.answers_after.map(|time| run(time::answer_in_time(contract, time))),
        contract.answers_again().map(|time| run(time::answers_again(contract, time))),
    ];
    all(told, || match contract.refuses {
        // What else it refuses comes to an end with what is in flight.
        Some(Refuses::After(_) | Refuses::Failed(_)) => (Ok(()), "when it lets pass again was not told"),
        _ => (run(time::timeless(contract)), TIMELESS),
    })
}
