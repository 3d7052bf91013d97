//! A hash ring as Envoy builds it: each endpoint at many places on a circle, a key at the next place after its hash.

use twox_hash::XxHash64;

use super::pool::Weighed;

/// Places on the circle of all `u64`, and whose they are. An endpoint that comes or goes changes the owners of its own part
/// only.
#[derive(Debug)]
pub(super) struct Ring {
    hashes: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    /// At least `min` places and at most `max`, as many for each as it weighs. The place `i` of an endpoint is the XXH64 of
    /// `address_i`. Envoy's sums, in its order of operations; endpoints come sorted, so that the order in which they were
    /// heard of makes no difference.
    pub(super) fn new(endpoints: &[Weighed], min: u32, max: u32) -> Self {
        let sum: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight.get())).sum();
        let part = |endpoint: &Weighed| f64::from(endpoint.weight.get()) / sum;
        let least = endpoints.iter().map(part).fold(1.0, f64::min);
        let scale = ((least * f64::from(min)).ceil() / least).min(f64::from(max));
        let mut places: Vec<(u64, u32)> = Vec::with_capacity(scale as usize + endpoints.len());
        let mut key = String::new();
        let mut due = 0.0;
        for endpoint in endpoints {
            due += scale * part(endpoint);
            key.clear();
            key.push_str(&endpoint.key);
            key.push('_');
            let stem = key.len();
            let mut i = 0_u32;
            while (places.len() as f64) < due {
                key.truncate(stem);
                let mut digits = [0; 10];
                key.push_str(decimal(i, &mut digits));
                places.push((XxHash64::oneshot(0, key.as_bytes()), endpoint.at));
                i += 1;
            }
        }
        places.sort_unstable();
        let (hashes, owners): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        Self { hashes: hashes.into(), owners: owners.into() }
    }

    /// Whose this hash is, and who comes after him; each place once.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.hashes.partition_point(|place| *place < hash);
        let (before, after) = self.owners.split_at(first);
        after.iter().chain(before).map(|owner| *owner as usize)
    }
}

/// As text, without an allocation: there are up to eight million.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &str {
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[from..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::pool::tests::weighed;
    use proptest::prelude::*;

    fn ports(weights: &[(u16, u32)]) -> Vec<Weighed> {
        weighed(weights.iter().map(|(port, weight)| (format!("127.0.0.1:{port}"), *weight)))
    }

    /// Of Envoy's `RingHashLoadBalancerTest.Basic`.
    #[test]
    fn places_are_those_of_envoy() {
        let ring = Ring::new(&ports(&[(90, 1), (91, 1), (92, 1), (93, 1), (94, 1), (95, 1)]), 12, 8 << 20);
        let places: Vec<_> =
            ring.hashes.iter().zip(&ring.owners).map(|(hash, owner)| (*hash, owner + 90)).collect();
        assert_eq!(
            places,
            [
                (833_437_586_790_550_860, 94),
                (928_266_305_478_181_108, 92),
                (1_033_482_794_131_418_490, 90),
                (3_551_244_743_356_806_947, 95),
                (3_851_675_632_748_031_481, 93),
                (5_583_722_120_771_150_861, 91),
                (6_311_230_543_546_372_928, 91),
                (7_700_377_290_971_790_572, 93),
                (13_144_177_310_400_110_813, 95),
                (13_444_792_449_719_432_967, 92),
                (15_516_499_411_664_133_160, 94),
                (16_117_243_373_044_804_889, 90),
            ]
        );
        for (hash, owner) in [
            (0, 94),
            (u64::MAX, 94),
            (3_551_244_743_356_806_947, 95),
            (3_551_244_743_356_806_948, 93),
            (16_117_243_373_044_804_880, 90),
        ] {
            assert_eq!(ring.from(hash).next(), Some(owner - 90), "{hash}");
        }
    }

    #[test]
    fn a_ring_has_the_size_that_was_asked_for() {
        let size = |weights: &[(u16, u32)], min, max| Ring::new(&ports(weights), min, max).hashes.len();
        assert_eq!(size(&[(1, 1)], 12, 1024), 12);
        assert_eq!(size(&[(1, 1), (2, 1), (3, 1)], 1024, 8 << 20), 1026, "the least has a whole number");
        assert_eq!(size(&[(1, 1), (2, 3)], 1024, 8 << 20), 1024);
        assert_eq!(size(&[(1, 1), (2, 1_000_000)], 1024, 5000), 5000, "at most");
        // Envoy's example: 1.5 for each of four.
        let ring = Ring::new(&ports(&[(1, 1), (2, 1), (3, 1), (4, 1)]), 6, 6);
        let of = |owner| ring.owners.iter().filter(|other| **other == owner).count();
        assert_eq!([of(0), of(1), of(2), of(3)], [2, 1, 2, 1]);
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for number in [0, 1, 9, 10, 99, 100, 8_388_607, u32::MAX] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string());
        }
    }

    proptest! {
        /// Who leaves takes nothing from those who stay, and who comes takes from others what is his only.
        #[test]
        fn the_rest_stays_where_it_was(n in 2_u16..30, gone in 0_u16..30, hashes in prop::collection::vec(any::<u64>(), 50)) {
            let gone = gone % n;
            let all: Vec<_> = (0..n).map(|port| (port + 1, 1)).collect();
            let left: Vec<_> = all.iter().copied().filter(|(port, _)| *port != gone + 1).collect();
            // As many places for each in both.
            let (before, after) = (
                Ring::new(&ports(&all), 40 * u32::from(n), 8 << 20),
                Ring::new(&ports(&left), 40 * (u32::from(n) - 1), 8 << 20),
            );
            for hash in hashes {
                let (was, is) = (before.from(hash).next().unwrap(), after.from(hash).next().unwrap());
                let is = is + usize::from(is >= usize::from(gone));
                prop_assert!(was == is || was == usize::from(gone));
                if was == usize::from(gone) {
                    let next = before.from(hash).find(|owner| *owner != was);
                    prop_assert_eq!(Some(is), next, "its part goes to who comes after it");
                }
            }
        }
    }
}
