//! Which endpoint is next.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{endpoint::Endpoint, options::Balance};
use crate::chance::Chance;

/// How many endpoints a request can try: the first and two more.
pub(super) const TRIES: usize = 3;

/// The endpoints that a request has tried.
#[derive(Clone, Copy, Default)]
pub(super) struct Tried {
    places: [usize; TRIES],
    len: usize,
}

impl Tried {
    pub(super) fn add(&mut self, place: usize) {
        if let Some(slot) = self.places.get_mut(self.len) {
            *slot = place;
            self.len += 1;
        }
    }

    /// How many.
    pub(super) fn count(self) -> u8 {
        self.len as u8
    }

    /// Whether no further endpoint is to be tried.
    pub(super) fn is_full(self) -> bool {
        self.len == TRIES
    }

    fn has(self, place: usize) -> bool {
        self.places[..self.len].contains(&place)
    }
}

/// The place of the next endpoint; `None` if all were tried. Those of `earlier` attempts at the same call are taken if
/// there is no other, and the last of them if there is none at all.
pub(super) fn pick(
    balance: Balance,
    endpoints: &[Arc<Endpoint>],
    tried: Tried,
    earlier: &[SocketAddr],
    next: &AtomicUsize,
    chance: &Chance,
) -> Option<usize> {
    if let [earlier @ .., last] = earlier {
        let others = |avoided: &dyn Fn(SocketAddr) -> bool| {
            let fit = |place: &usize| {
                let endpoint = &endpoints[*place];
                !tried.has(*place) && !endpoint.rests() && !avoided(endpoint.address())
            };
            choose(balance, endpoints, next, chance, fit)
        };
        let other = others(&|address| address == *last || earlier.contains(&address));
        if let Some(place) = other.or_else(|| others(&|address| address == *last)) {
            return Some(place);
        }
    }
    let fit = |place: &usize| !tried.has(*place) && !endpoints[*place].rests();
    choose(balance, endpoints, next, chance, fit)
        .or_else(|| around(0, endpoints.len()).find(|&place| !tried.has(place)))
}

fn choose(
    balance: Balance,
    endpoints: &[Arc<Endpoint>],
    next: &AtomicUsize,
    chance: &Chance,
    fit: impl Fn(&usize) -> bool,
) -> Option<usize> {
    match balance {
        Balance::RoundRobin => {
            let start = next.fetch_add(1, Ordering::Relaxed);
            around(start, endpoints.len()).find(fit)
        }
        Balance::LeastRequest => least(endpoints, chance, fit),
    }
}

/// Two different endpoints by chance, and of them the one with less to do.
fn least(endpoints: &[Arc<Endpoint>], chance: &Chance, fit: impl Fn(&usize) -> bool) -> Option<usize> {
    let draw = || chance.below(endpoints.len() as u64) as usize;
    let one = around(draw(), endpoints.len()).find(&fit)?;
    let other = around(draw(), endpoints.len()).find(|&place| place != one && fit(&place));
    let load = |place: usize| endpoints[place].load();
    Some(other.filter(|&other| load(other) < load(one)).unwrap_or(one))
}

/// All places below `len`, from `start` on.
fn around(start: usize, len: usize) -> impl Iterator<Item = usize> {
    (0..len).map(move |step| (start % len + step) % len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::options::Options;

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        let options = Arc::new(Options::default());
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (1..=n).map(|port| Arc::new(Endpoint::new(address(port), Arc::clone(&options)))).collect()
    }

    fn tried(places: &[usize]) -> Tried {
        let mut tried = Tried::default();
        places.iter().for_each(|&place| tried.add(place));
        tried
    }

    #[tokio::test]
    async fn round_robin_goes_round() {
        let (all, next, chance) = (endpoints(3), AtomicUsize::new(usize::MAX - 1), Chance::seeded(1));
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[pick(Balance::RoundRobin, &all, Tried::default(), &[], &next, &chance).unwrap()] += 1;
        }
        assert!(counts.iter().all(|n| (99..=101).contains(n)), "{counts:?}");
    }

    #[tokio::test]
    async fn what_was_tried_is_left_out() {
        let (all, next, chance) = (endpoints(3), AtomicUsize::new(0), Chance::seeded(1));
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            for _ in 0..50 {
                assert_eq!(pick(balance, &all, tried(&[0, 2]), &[], &next, &chance), Some(1));
                assert_eq!(pick(balance, &all, tried(&[0, 1, 2]), &[], &next, &chance), None);
                assert_eq!(pick(balance, &[], Tried::default(), &[], &next, &chance), None);
            }
        }
    }

    #[tokio::test]
    async fn another_than_was_tried_earlier_and_never_the_last_again() {
        let (all, next, chance) = (endpoints(3), AtomicUsize::new(0), Chance::seeded(1));
        let at = |places: &[usize]| places.iter().map(|&place| all[place].address()).collect::<Vec<_>>();
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            let pick = |endpoints: &[Arc<Endpoint>], tried, earlier: &[usize]| {
                pick(balance, endpoints, tried, &at(earlier), &next, &chance)
            };
            for _ in 0..50 {
                assert_ne!(pick(&all, Tried::default(), &[1]), Some(1));
                assert_eq!(pick(&all, Tried::default(), &[1, 0]), Some(2));
                assert_ne!(pick(&all, Tried::default(), &[1, 0, 2]), Some(2), "all were tried: not the last");
                assert_eq!(pick(&all, tried(&[1]), &[0]), Some(2));
                assert_eq!(pick(&all, tried(&[1, 2]), &[0]), Some(0), "there is no other");
                assert_eq!(pick(&all[..1], Tried::default(), &[0]), Some(0), "there is no other");
            }
        }
    }

    #[tokio::test]
    async fn of_two_the_one_with_less_to_do() {
        let (all, next, chance) = (endpoints(2), AtomicUsize::new(0), Chance::seeded(1));
        let busy = all[0].begin();
        for _ in 0..50 {
            assert_eq!(pick(Balance::LeastRequest, &all, Tried::default(), &[], &next, &chance), Some(1));
        }
        drop(busy);
        let mut counts = [0; 2];
        for _ in 0..200 {
            counts[pick(Balance::LeastRequest, &all, Tried::default(), &[], &next, &chance).unwrap()] += 1;
        }
        assert!(counts.iter().all(|&n| n > 60), "equal ones are chosen by chance: {counts:?}");
    }

    #[tokio::test]
    async fn requests_spread_evenly_while_none_ends() {
        let (all, next, chance) = (endpoints(5), AtomicUsize::new(0), Chance::seeded(7));
        let held: Vec<_> = (0..500)
            .map(|_| {
                all[pick(Balance::LeastRequest, &all, Tried::default(), &[], &next, &chance).unwrap()].begin()
            })
            .collect();
        let loads: Vec<_> = all.iter().map(|endpoint| endpoint.load()).collect();
        assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        drop(held);
        assert!(all.iter().all(|endpoint| endpoint.load() == 0));
    }
}
