//! Maglev's table as Envoy builds it: one look tells the endpoint of a hash.

use twox_hash::XxHash64;

use super::pool::Weighed;

/// A prime, of which each of a hundred endpoints has its part to within a percent; Envoy's default.
pub(super) const SIZE: usize = 65_537;

/// For each remainder of a hash whose it is. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer"
/// (2016), listing 1; with weights as in Envoy.
#[derive(Debug)]
pub(super) struct Table(Box<[u32]>);

/// One endpoint's own order of all places, and how far it has come.
struct Order {
    at: u32,
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    target: f64,
}

impl Order {
    fn new(endpoint: &Weighed, sum: f64, size: u64) -> Self {
        let key = endpoint.key.as_bytes();
        Self {
            at: endpoint.at,
            offset: XxHash64::oneshot(0, key) % size,
            skip: XxHash64::oneshot(1, key) % (size - 1) + 1,
            next: 0,
            weight: f64::from(endpoint.weight.get()) / sum,
            target: 0.0,
        }
    }

    fn place(&mut self, size: u64) -> usize {
        let place = (self.offset + self.skip * self.next) % size;
        self.next += 1;
        place as usize
    }
}

impl Table {
    /// `size` is a prime. The endpoints come sorted.
    pub(super) fn new(endpoints: &[Weighed], size: usize) -> Self {
        let sum: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight.get())).sum();
        let mut orders: Vec<_> =
            endpoints.iter().map(|endpoint| Order::new(endpoint, sum, size as u64)).collect();
        let most = orders.iter().map(|order| order.weight).fold(0.0, f64::max);
        let mut table = vec![u32::MAX; size];
        let (mut filled, mut round) = (0, 0.0);
        while filled < size && !orders.is_empty() {
            round += 1.0;
            for order in &mut orders {
                // The heaviest has a place in every round, one of a third of its weight in every third.
                if filled == size || round * order.weight < order.target {
                    continue;
                }
                order.target += most;
                let mut place = order.place(size as u64);
                while table[place] != u32::MAX {
                    place = order.place(size as u64);
                }
                table[place] = order.at;
                filled += 1;
            }
        }
        Self(table.into())
    }

    /// Whose this hash is, and then who else by other hashes made of it.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let others = (1..=u64::MAX).map(move |attempt| hash ^ (u64::MAX - attempt + 1));
        let place = |hash| (hash % self.0.len() as u64) as usize;
        [hash].into_iter().chain(others).map(move |hash| self.0[place(hash)] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::pool::tests::weighed;
    use proptest::prelude::*;

    fn table(weights: &[(u16, u32)], size: usize) -> Table {
        Table::new(
            &weighed(weights.iter().map(|(port, weight)| (format!("127.0.0.1:{port}"), *weight))),
            size,
        )
    }

    /// Of Envoy's `MaglevLoadBalancerTest.Basic`.
    #[test]
    fn places_are_those_of_envoy() {
        let table = table(&[(90, 1), (91, 1), (92, 1), (93, 1), (94, 1), (95, 1)], 7);
        assert_eq!(*table.0, [2, 4, 0, 1, 5, 0, 3]);
        assert_eq!(table.from(8).next(), Some(4));
    }

    #[test]
    fn names_too() {
        let named = weighed([90, 91, 92, 93, 94, 95].map(|name| (name.to_string(), 1)));
        assert_eq!(
            *Table::new(&named, 7).0,
            [2, 5, 0, 3, 4, 1, 0],
            "MaglevLoadBalancerTest.BasicWithHostName"
        );
    }

    #[test]
    fn everybody_has_a_part_by_weight() {
        let parts = |weights: &[(u16, u32)]| {
            let table = table(weights, SIZE);
            let of =
                |at: usize| table.0.iter().filter(|owner| **owner == at as u32).count() as f64 / SIZE as f64;
            (0..weights.len()).map(of).collect::<Vec<_>>()
        };
        for (part, due) in parts(&[(1, 1), (2, 2), (3, 7)]).into_iter().zip([0.1, 0.2, 0.7]) {
            assert!((part - due).abs() < 0.001, "{part} instead of {due}");
        }
        let many: Vec<_> = (0..1000).map(|port| (port, 1)).collect();
        let parts = parts(&many);
        assert!(parts.iter().all(|part| (0.000_99..0.001_02).contains(part)), "to within one place");
        assert!(Table::new(&[], SIZE).0.iter().all(|owner| *owner == u32::MAX), "nobody has nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// One that leaves moves few keys of others: the paper's figures are about as many as it had itself.
        #[test]
        fn the_rest_mostly_stays_where_it_was(n in 3_u16..40, gone in 0_u16..40) {
            let gone = gone % n;
            let all: Vec<_> = (0..n).map(|port| (port + 1, 1)).collect();
            let left: Vec<_> = all.iter().copied().filter(|(port, _)| *port != gone + 1).collect();
            let names = |list: &[(u16, u32)], at: u32| list[at as usize].0;
            let (before, after) = (table(&all, SIZE), table(&left, SIZE));
            let moved = before.0.iter().zip(&after.0).filter(|(was, is)| names(&all, **was) != names(&left, **is)).count();
            prop_assert!(moved <= 2 * SIZE / usize::from(n), "{} of {}", moved, SIZE);
        }
    }
}
