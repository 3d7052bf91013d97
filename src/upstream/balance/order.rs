//! Some of the members in the order in which they stand in for each other, and how one is picked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    levels::{Health, Level, levels, own_part},
    plan::{Ask, Seat},
    pool::{Candidate, Dice, Pool},
    roster::Rules,
};
use crate::upstream::{
    availability::{WITHHELD, Withheld},
    member::Member,
};

/// All members of a plan, or those of a subset: by priority, and the own zone first.
#[derive(Default)]
pub(super) struct Order {
    parts: Box<[Part]>,
    /// Whose turn it is.
    next: AtomicUsize,
}

/// One priority, or of it the own zone or the others.
struct Part {
    /// Requests whose number is below go there, of 2^32, if not to one before.
    below: u64,
    pool: Pool,
}

impl Order {
    /// Of the seats at these places.
    pub(super) fn new(seats: &[Seat], places: impl IntoIterator<Item = usize>, rules: &Rules) -> Self {
        let mut by_priority = BTreeMap::<u8, Vec<usize>>::new();
        for place in places {
            by_priority.entry(seats[place].endpoint.priority).or_default().push(place);
        }
        let takes = |place: &usize| seats[*place].member.availability().takes();
        let health = |places: &Vec<usize>| Health {
            all: places.len(),
            taking: places.iter().filter(|place| takes(place)).count(),
        };
        let health: Vec<_> = by_priority.values().map(health).collect();
        let mut parts = Vec::new();
        let mut from = 0;
        for (places, level) in by_priority.values().zip(levels(&health, rules.panic_threshold)) {
            let to = from + (u64::from(level.percent) << 32) / 100;
            lay(&mut parts, seats, places, level, rules, (from, to));
            from = to;
        }
        Self { parts: parts.into(), next: AtomicUsize::new(0) }
    }

    /// Goes on where the order before it stands.
    pub(super) fn follow(&self, before: &Self) {
        self.next.store(before.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The member for the next try; `None` if all were tried. Those of earlier attempts at the same call are
    /// taken if there is no other, and the last of them if there is none at all.
    pub(super) fn pick(&self, ask: &Ask<'_>, dice: &Dice<'_>) -> Option<&Arc<Member>> {
        let untried = |one: &Candidate| !ask.tried.has(&one.member);
        if let [before @ .., last] = ask.earlier {
            let other = |one: &Candidate| untried(one) && one.member.address() != *last;
            let new = |one: &Candidate| other(one) && !before.contains(&one.member.address());
            if let Some(member) = self.choose(dice, new).or_else(|| self.choose(dice, other)) {
                return Some(member);
            }
        }
        // Who could not be reached a moment ago is better than nobody.
        self.choose(dice, untried)
            .or_else(|| self.parts.iter().find_map(|part| part.pool.resting(untried)).map(|one| &one.member))
    }

    fn choose(&self, dice: &Dice<'_>, fit: impl Fn(&Candidate) -> bool) -> Option<&Arc<Member>> {
        let chosen = self.part(dice);
        let first = self.parts.get(chosen)?.pool.pick(dice, &self.next, &fit);
        let others = || {
            let others = self.parts.iter().enumerate().filter(|(at, _)| *at != chosen);
            others.into_iter().find_map(|(_, part)| part.pool.pick(dice, &self.next, &fit))
        };
        first.or_else(others).map(|one| &one.member)
    }

    /// Whose requests this one belongs to. With a key always the same.
    fn part(&self, dice: &Dice<'_>) -> usize {
        if self.parts.first().is_none_or(|part| part.below >= 1 << 32) {
            return 0;
        }
        let number = match dice.hash {
            Some(hash) => ((hash % 100) << 32) / 100,
            None => dice.chance.next() >> 32,
        };
        self.parts.iter().position(|part| number < part.below).unwrap_or(0)
    }

    /// Those that can be picked.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.parts.iter().flat_map(|part| part.pool.candidates()).map(|one| &one.member)
    }
}

/// Who gets nothing for this is not given anything in panic either. Health may be told wrongly; a breaker has seen failures
/// itself, and finds out by itself when they end; who is unheard is waited for.
const NEVER: u8 = Withheld::Draining.bit() | Withheld::Open.bit() | Withheld::Unheard.bit();

/// Adds one priority, which gets the requests of these numbers: those of the own zone first, with what they bear of it.
fn lay(
    parts: &mut Vec<Part>,
    seats: &[Seat],
    places: &[usize],
    level: Level,
    rules: &Rules,
    (from, to): (u64, u64),
) {
    let heed = if level.panics { NEVER } else { WITHHELD };
    let usable = places.iter().copied().filter(|place| seats[*place].member.state() & heed == 0);
    // Everybody's table of hashes must be the same, wherever he stands.
    let zoned = rules.zone.is_some() && rules.balance.key().is_none() && !level.panics;
    let is_own = |place: &usize| zoned && seats[*place].endpoint.zone == rules.zone;
    let (own, others): (Vec<_>, Vec<_>) = usable.partition(is_own);
    let zones = places.iter().map(|place| &seats[*place].endpoint.zone).collect::<BTreeSet<_>>().len();
    let weight = |places: &[usize]| {
        places.iter().map(|place| u64::from(seats[*place].endpoint.weight.get())).sum::<u64>()
    };
    let part = own_part(weight(&own), weight(&own) + weight(&others), zones);
    let own_to = from + ((u128::from(to - from) * u128::from(part)) >> 32) as u64;
    for (below, places) in [(own_to, own), (to, others)] {
        let seat = |place: usize| (Arc::clone(&seats[place].member), seats[place].endpoint.weight);
        if !places.is_empty() {
            let pool = Pool::new(places.into_iter().map(seat).collect(), &rules.balance, heed);
            parts.push(Part { below, pool });
        }
    }
}
