//! Those among whom one is picked, and the table by which.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    SlowStart,
    alias::Draw,
    maglev,
    policy::{Balance, RingHash},
    ring::Ring,
    turns::Turns,
};
use crate::{
    chance::{Chance, mix},
    upstream::member::Member,
};

/// How often one is drawn anew who cannot be had, before all are looked at one after the other.
const DRAWS: usize = 8;
/// How many places of a hash are looked at for one who can be had.
const PLACES: usize = 64;

/// One who can be picked.
pub(super) struct Candidate {
    pub(super) member: Arc<Member>,
    weight: NonZeroU32,
    /// The mean weight over its own: by so much one request is more to it than to others.
    lightness: f32,
}

/// An endpoint as the tables of hashes see it.
#[derive(Debug, Clone)]
pub(super) struct Weighed {
    pub(super) key: String,
    pub(super) weight: NonZeroU32,
    pub(super) at: u32,
}

/// What a pick is made with.
pub(super) struct Dice<'d> {
    pub(super) chance: &'d Chance,
    pub(super) slow_start: Option<SlowStart>,
    /// The hash of the request's key, if it has that.
    pub(super) hash: Option<u64>,
    /// The time, if it is known.
    pub(super) now: Option<Instant>,
    /// Requests in flight at all members, if somebody wants to know.
    pub(super) in_flight: usize,
}

impl Dice<'_> {
    /// Whether it is given this one, while it is given more and more.
    fn warm(&self, member: &Member) -> bool {
        let Some(slow) = self.slow_start else { return true };
        member.warms(slow.window()).is_none_or(|elapsed| self.chance.next() >> 32 < slow.part(elapsed))
    }
}

pub(super) struct Pool {
    candidates: Box<[Candidate]>,
    weight: u64,
    table: Table,
    /// The reasons that count against a candidate.
    heed: u8,
}

enum Table {
    Turns(Turns),
    Random(Draw),
    Least(Draw),
    Ewma(Draw),
    Ring(Ring, Draw, Option<u32>),
    Maglev(maglev::Table, Draw, Option<u32>),
}

impl Pool {
    pub(super) fn new(members: Vec<(Arc<Member>, NonZeroU32)>, balance: &Balance, heed: u8) -> Self {
        let weights: Vec<_> = members.iter().map(|(_, weight)| *weight).collect();
        let weight = weights.iter().map(|weight| u64::from(weight.get())).sum();
        let mean = weight as f32 / members.len() as f32;
        let candidates: Box<[_]> = members
            .into_iter()
            .map(|(member, weight)| Candidate { member, weight, lightness: mean / weight.get() as f32 })
            .collect();
        let table = match balance {
            Balance::RoundRobin => Table::Turns(Turns::new(&weights)),
            Balance::Random => Table::Random(Draw::new(&weights)),
            Balance::LeastRequest => Table::Least(Draw::new(&weights)),
            Balance::PeakEwma => Table::Ewma(Draw::new(&weights)),
            Balance::RingHash(RingHash { min, max, .. }) => Table::Ring(
                Ring::new(&weighed(&candidates), *min, *max),
                Draw::new(&weights),
                balance.bound(),
            ),
            Balance::Maglev(_) => {
                let table = maglev::Table::new(&weighed(&candidates), maglev::SIZE);
                Table::Maglev(table, Draw::new(&weights), balance.bound())
            }
        };
        Self { candidates, weight, table, heed }
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// One who takes requests and is `fit`. `next`: whose turn it is.
    pub(super) fn pick(
        &self,
        dice: &Dice<'_>,
        next: &AtomicUsize,
        fit: impl Fn(&Candidate) -> bool,
    ) -> Option<&Candidate> {
        if self.candidates.is_empty() {
            return None;
        }
        let fits = |at: usize| self.candidates.get(at).is_some_and(|one| self.takes(&one.member) && fit(one));
        let at = match &self.table {
            Table::Turns(turns) => {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let turns = (0..DRAWS).map(|step| turns.at(turn.wrapping_add(step)));
                turns.into_iter().find(|&at| fits(at) && dice.warm(&self.candidates[at].member))
            }
            Table::Random(draw) => self.draw(draw, dice, fits),
            Table::Least(draw) => {
                self.better(draw, dice, fits, |one| one.member.load() as f32 * one.lightness)
            }
            Table::Ewma(draw) => {
                let now = dice.now.unwrap_or_else(Instant::now);
                self.better(draw, dice, fits, |one| one.cost(now))
            }
            Table::Ring(ring, draw, bound) => match dice.hash {
                Some(hash) => self.hashed(hash, |hash| ring.from(hash), *bound, dice, fits),
                None => self.draw(draw, dice, fits),
            },
            Table::Maglev(table, draw, bound) => match dice.hash {
                Some(hash) => self.hashed(hash, |hash| table.from(hash), *bound, dice, fits),
                None => self.draw(draw, dice, fits),
            },
        };
        let at = at.or_else(|| self.all(dice.chance.next()).find(|&at| fits(at)))?;
        self.candidates.get(at)
    }

    /// One who takes requests and is `fit`, whether or not it could be reached a moment ago.
    pub(super) fn resting(&self, fit: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
        self.candidates.iter().find(|one| one.member.state() & self.heed == 0 && fit(one))
    }

    /// Whether it takes requests, and could be reached a moment ago.
    fn takes(&self, member: &Member) -> bool {
        let state = member.state();
        state == 0 || state & self.heed == 0 && !member.rests()
    }

    /// All of them, from somewhere on.
    fn all(&self, from: u64) -> impl Iterator<Item = usize> {
        let n = self.candidates.len();
        let from = (from % n as u64) as usize;
        (0..n).map(move |step| (from + step) % n)
    }

    fn draw(&self, draw: &Draw, dice: &Dice<'_>, fits: impl Fn(usize) -> bool) -> Option<usize> {
        self.drawn(draw, dice, fits).map(|(at, _)| at)
    }

    /// One, and the number by which it was drawn.
    fn drawn(&self, draw: &Draw, dice: &Dice<'_>, fits: impl Fn(usize) -> bool) -> Option<(usize, u64)> {
        let drawn = |number| (draw.draw(number), number);
        let mut drawn = (0..DRAWS).map(|_| drawn(dice.chance.next()));
        drawn.find(|&(at, _)| fits(at) && dice.warm(&self.candidates[at].member))
    }

    /// Of two the one with the lower cost. If all weigh the same they are two different ones; else the heavy one may be drawn
    /// twice, or the light ones would get a part that is not theirs.
    fn better(
        &self,
        draw: &Draw,
        dice: &Dice<'_>,
        fits: impl Fn(usize) -> bool,
        cost: impl Fn(&Candidate) -> f32,
    ) -> Option<usize> {
        let (one, number) = self.drawn(draw, dice, &fits)?;
        let other = match draw {
            Draw::Even(1) => return Some(one),
            Draw::Even(n) => {
                // The half of the number that has not drawn the one.
                let further = (u64::from(number as u32) * (n - 1)) >> 32;
                let other = (one + 1 + further as usize) % self.candidates.len();
                let fit = fits(other) && dice.warm(&self.candidates[other].member);
                if fit { Some(other) } else { self.draw(draw, dice, |at| at != one && fits(at)) }
            }
            Draw::Weighted(_) => self.draw(draw, dice, &fits),
        };
        let cost = |at: usize| cost(&self.candidates[at]);
        Some(other.filter(|&other| cost(other) < cost(one)).unwrap_or(one))
    }

    /// The one whose hash it is, or who comes after him. One who has all that he bears gives to others, found by other
    /// hashes that are made of this one: the next on a ring would have it all, and then the next.
    fn hashed<I: Iterator<Item = usize>>(
        &self,
        hash: u64,
        from: impl Fn(u64) -> I,
        bound: Option<u32>,
        dice: &Dice<'_>,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = from(hash).take(PLACES).find(|&at| fits(at))?;
        let Some(percent) = bound else { return Some(first) };
        let bears = |at: &usize| self.bears(&self.candidates[*at], percent, dice.in_flight);
        if bears(&first) {
            return Some(first);
        }
        let others = (1..=DRAWS as u64).filter_map(|n| from(mix(hash.wrapping_add(n))).next());
        let mut others = others.chain(self.all(hash)).filter(|&at| fits(at));
        others.find(bears).or(Some(first))
    }

    /// Whether it has less in flight than its part, times `percent`, of all with one more: one has always less.
    fn bears(&self, one: &Candidate, percent: u32, in_flight: usize) -> bool {
        let all = ((in_flight as u128 + 1) * u128::from(percent)).div_ceil(100);
        let own = (all * u128::from(one.weight.get())).div_ceil(u128::from(self.weight).max(1));
        (one.member.load() as u128) < own
    }
}

impl Candidate {
    /// How long an answer is expected to take, in microseconds, with what is in flight.
    fn cost(&self, now: Instant) -> f32 {
        let micros = self.member.ewma().at(self.member.age(now)).max(1.0);
        micros * (self.member.load() as f32 * self.lightness + 1.0)
    }
}

/// Sorted by their addresses, so that a table is the same in whatever order they were heard of.
fn weighed(candidates: &[Candidate]) -> Vec<Weighed> {
    let weighed = |(at, one): (usize, &Candidate)| Weighed {
        key: one.member.address().to_string(),
        weight: one.weight,
        at: at as u32,
    };
    let mut all: Vec<_> = candidates.iter().enumerate().map(weighed).collect();
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Endpoints by key and weight, in this order.
    pub(in super::super) fn weighed(list: impl IntoIterator<Item = (String, u32)>) -> Vec<Weighed> {
        let weighed = |(at, (key, weight))| Weighed { key, weight: NonZeroU32::new(weight).unwrap(), at };
        (0..).zip(list).map(weighed).collect()
    }
}
