//! Who can be picked, as it was when the set or somebody's availability last changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    levels::{Health, Level, levels, own_part},
    pool::{Candidate, Dice, Pool},
    roster::Rules,
};
use crate::upstream::{
    availability::{WITHHELD, Withheld},
    endpoint::Endpoint,
    group::Place,
    member::Member,
};

/// How many endpoints a request can try: the first and two more.
pub(in super::super) const TRIES: usize = 3;

/// A member of the set, and what is said of it.
#[derive(Clone)]
pub(in super::super) struct Seat {
    pub(in super::super) member: Arc<Member>,
    pub(in super::super) endpoint: Arc<Endpoint>,
}

impl Seat {
    pub(in super::super) fn place(&self) -> Place {
        (self.member.address(), Arc::clone(&self.endpoint))
    }
}

impl PartialEq for Seat {
    /// Whether nothing changes if one takes the place of the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.member, &other.member) && self.endpoint == other.endpoint
    }
}

/// The set, and whom of it to pick.
#[derive(Default)]
pub(in super::super) struct Plan {
    /// How often the bell had rung when it was made.
    pub(super) rung: u64,
    pub(in super::super) seats: Box<[Seat]>,
    /// In the order in which they stand in for each other: by priority, and the own zone first.
    parts: Box<[Part]>,
}

/// One priority, or of it the own zone or the others.
struct Part {
    /// Requests whose number is below go there, of 2^32, if not to one before.
    below: u64,
    pool: Pool,
}

/// What is to be known of a request to pick for it.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Ask<'a> {
    /// Those that it has tried.
    pub(in super::super) tried: Tried,
    /// Those that earlier attempts at the same call have tried, the last one last.
    pub(in super::super) earlier: &'a [SocketAddr],
    /// The hash of its key, if it has that.
    pub(in super::super) hash: Option<u64>,
}

/// The members that a request has tried, by what tells them apart whatever has become of the set.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Tried {
    members: [usize; TRIES],
    len: usize,
}

impl Tried {
    pub(in super::super) fn add(&mut self, member: &Arc<Member>) {
        if let Some(slot) = self.members.get_mut(self.len) {
            *slot = Arc::as_ptr(member).addr();
            self.len += 1;
        }
    }

    /// How many.
    pub(in super::super) fn count(self) -> u8 {
        self.len as u8
    }

    /// Whether no further endpoint is to be tried.
    pub(in super::super) fn is_full(self) -> bool {
        self.len == TRIES
    }

    fn has(self, member: &Arc<Member>) -> bool {
        self.members[..self.len].contains(&Arc::as_ptr(member).addr())
    }
}

impl Plan {
    pub(super) fn new(seats: Box<[Seat]>, rules: &Rules, rung: u64) -> Self {
        let mut by_priority = BTreeMap::<u8, Vec<usize>>::new();
        for (place, seat) in seats.iter().enumerate() {
            if seat.member.state() & Withheld::Draining.bit() == 0 {
                by_priority.entry(seat.endpoint.priority).or_default().push(place);
            }
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
            lay(&mut parts, &seats, places, level, rules, (from, to));
            from = to;
        }
        Self { rung, seats, parts: parts.into() }
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
        self.choose(dice, untried).or_else(|| {
            let mut all = self.parts.iter().flat_map(|part| part.pool.candidates());
            all.find(|one| untried(one)).map(|one| &one.member)
        })
    }

    fn choose(&self, dice: &Dice<'_>, fit: impl Fn(&Candidate) -> bool) -> Option<&Arc<Member>> {
        let chosen = self.part(dice);
        let first = self.parts.get(chosen)?.pool.pick(dice, &fit);
        let others = || {
            let others = self.parts.iter().enumerate().filter(|(at, _)| *at != chosen);
            others.into_iter().find_map(|(_, part)| part.pool.pick(dice, &fit))
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

/// Adds one priority, which gets the requests of these numbers: those of the own zone first, with what they bear of it.
fn lay(
    parts: &mut Vec<Part>,
    seats: &[Seat],
    places: &[usize],
    level: Level,
    rules: &Rules,
    (from, to): (u64, u64),
) {
    let heed = if level.panics { Withheld::Draining.bit() } else { WITHHELD };
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
