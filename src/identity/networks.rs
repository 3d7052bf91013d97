use std::{fmt, net::IpAddr};

use ipnet::IpNet;

/// Values by network, of which the longest prefix that holds an address decides, as in a routing table.
///
/// A look-up is one search among the points where the value changes, whatever the number of networks and however they
/// nest; among many of IPv4, one among those that share the first 16 bits. Addresses of IPv4 mapped into IPv6 are the IPv4 addresses. Of equal
/// networks the last one stands.
///
/// ```
/// use portcullis::identity::Networks;
///
/// let networks = Networks::from_iter([("10.0.0.0/8".parse()?, "office"), ("10.9.0.0/16".parse()?, "guests")]);
/// assert_eq!(networks.get("10.1.2.3".parse()?), Some(&"office"));
/// assert_eq!(networks.get("::ffff:10.9.2.3".parse()?), Some(&"guests"));
/// assert_eq!(networks.get("192.0.2.1".parse()?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Networks<V> {
    values: Box<[V]>,
    v4: V4,
    v6: Points<u128>,
}

impl<V> Networks<V> {
    /// The value of the longest prefix that holds this address.
    #[must_use]
    #[inline]
    pub fn get(&self, ip: IpAddr) -> Option<&V> {
        let value = match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        };
        self.values.get(value as usize)
    }

    /// Whether there is no network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many networks were given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

impl<V> Default for Networks<V> {
    fn default() -> Self {
        Self::from_iter([])
    }
}

/// The first 4,294,967,295 networks; the others are left out.
impl<V> FromIterator<(IpNet, V)> for Networks<V> {
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(networks: I) -> Self {
        let (mut v4, mut v6, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for ((network, value), at) in networks.into_iter().zip(0..NOTHING) {
            match super::trusted::canonical(network) {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits(), at)),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits(), at)),
            }
            values.push(value);
        }
        Self { values: values.into(), v4: V4::new(points(v4)), v6: Points::new(&points(v6)) }
    }
}

/// As a value: in no network.
const NOTHING: u32 = u32::MAX;

/// Where the value changes, in the order of a breadth-first walk of the search tree (Eytzinger's), so that the first
/// steps of all searches share their cache lines. Place 0 is for what lies below all points.
#[derive(Clone)]
struct Points<A> {
    starts: Box<[A]>,
    values: Box<[u32]>,
}

impl<A: Copy + Default + Ord> Points<A> {
    #[inline]
    fn find(&self, address: A) -> u32 {
        let mut at = 1;
        while let Some(start) = self.starts.get(at) {
            at = 2 * at + usize::from(*start <= address);
        }
        // The last place from which the way went right: what starts at or before the address.
        self.values[at >> (at.trailing_zeros() + 1)]
    }

    fn new(points: &[(A, u32)]) -> Self {
        let mut laid = Self {
            starts: vec![A::default(); points.len() + 1].into(),
            values: vec![NOTHING; points.len() + 1].into(),
        };
        laid.lay(&mut points.iter(), 1);
        laid
    }

    /// Fills the tree below this place, as deep as the logarithm of the points.
    fn lay<'p>(&mut self, points: &mut impl Iterator<Item = &'p (A, u32)>, at: usize)
    where
        A: 'p,
    {
        if at >= self.starts.len() {
            return;
        }
        self.lay(points, 2 * at);
        if let Some((start, value)) = points.next() {
            (self.starts[at], self.values[at]) = (*start, *value);
        }
        self.lay(points, 2 * at + 1);
    }
}

/// Points of IPv4.
#[derive(Clone)]
enum V4 {
    Few(Points<u32>),
    /// In their order, and for each first half of an address the place of the first point that is not before it.
    Many {
        points: Box<[(u32, u32)]>,
        firsts: Box<[u32]>,
    },
}

/// Those who are more are worth 256 KiB, by which a search touches two or three cache lines.
const FEW: usize = 10_000;

impl V4 {
    fn new(points: Vec<(u32, u32)>) -> Self {
        if points.len() <= FEW {
            return Self::Few(Points::new(&points));
        }
        let first = |half: u32| points.partition_point(|(start, _)| start >> 16 < half) as u32;
        Self::Many { firsts: (0..=1 << 16).map(first).collect(), points: points.into() }
    }

    #[inline]
    fn find(&self, address: u32) -> u32 {
        let (points, firsts) = match self {
            Self::Few(points) => return points.find(address),
            Self::Many { points, firsts } => (points, firsts),
        };
        let half = (address >> 16) as usize;
        let (from, to) = (firsts[half] as usize, firsts[half + 1] as usize);
        let before = from + points[from..to].partition_point(|(start, _)| *start <= address);
        before.checked_sub(1).map_or(NOTHING, |at| points[at].1)
    }
}

/// Where the value changes: of networks, each by its first and last address. Two of them are nested or disjoint.
fn points<A: Copy + Ord + After>(mut networks: Vec<(A, A, u32)>) -> Vec<(A, u32)> {
    networks.sort_unstable_by_key(|(first, last, at)| (*first, std::cmp::Reverse(*last), *at));
    let (mut points, mut around) = (Vec::new(), Vec::<(A, u32)>::new());
    for (first, last, value) in networks {
        close(&mut points, &mut around, |end| end < first);
        begin(&mut points, first, value);
        around.push((last, value));
    }
    close(&mut points, &mut around, |_| true);
    points
}

/// Leaves the networks that have ended: behind each the one around it goes on.
fn close<A: Copy + Eq + After>(
    points: &mut Vec<(A, u32)>,
    around: &mut Vec<(A, u32)>,
    ended: impl Fn(A) -> bool,
) {
    while let Some((end, _)) = around.pop_if(|(end, _)| ended(*end)) {
        let outer = around.last().map_or(NOTHING, |(_, value)| *value);
        if let Some(after) = end.after() {
            begin(points, after, outer);
        }
    }
}

fn begin<A: Copy + Eq>(points: &mut Vec<(A, u32)>, start: A, value: u32) {
    points.pop_if(|(last, _)| *last == start);
    points.push((start, value));
}

trait After: Sized {
    fn after(self) -> Option<Self>;
}

impl After for u32 {
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl After for u128 {
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<V> fmt::Debug for Networks<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Networks").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&'static str]) -> Networks<&'static str> {
        texts.iter().map(|text| (text.parse().unwrap(), *text)).collect()
    }

    #[test]
    fn the_longest_prefix_decides_wherever_it_stands() {
        let networks = networks(&[
            "10.1.2.0/24",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "0.0.0.0/32",
            "255.255.255.255/32",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "::ffff:192.0.2.0/120",
            "10.255.255.255/32",
        ]);
        for (ip, expected) in [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.4", Some("10.1.2.0/24")),
            ("10.1.2.255", Some("10.1.2.0/24")),
            ("10.1.3.0", Some("10.1.0.0/16")),
            ("10.2.0.0", Some("10.0.0.0/8")),
            ("10.255.255.255", Some("10.255.255.255/32")),
            ("11.0.0.0", None),
            ("9.255.255.255", None),
            ("0.0.0.0", Some("0.0.0.0/32")),
            ("0.0.0.1", None),
            ("255.255.255.255", Some("255.255.255.255/32")),
            ("255.255.255.254", None),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("192.0.2.77", Some("::ffff:192.0.2.0/120")),
            ("2001:db8:1::1", Some("2001:db8:1::/48")),
            ("2001:db8:2::1", Some("2001:db8::/32")),
            ("::", None),
        ] {
            assert_eq!(networks.get(ip.parse().unwrap()), expected.as_ref(), "{ip}");
        }
        let all = self::networks(&["0.0.0.0/0", "::/0"]);
        assert_eq!(all.get("255.255.255.255".parse().unwrap()), Some(&"0.0.0.0/0"));
        assert_eq!(all.get("ffff::".parse().unwrap()), Some(&"::/0"));
        assert_eq!(Networks::<()>::default().get("::".parse().unwrap()), None);
    }

    #[test]
    fn of_equal_networks_the_last_stands() {
        let twice: Networks<u8> =
            [("10.0.0.0/8".parse().unwrap(), 1), ("10.9.9.9/8".parse().unwrap(), 2)].into_iter().collect();
        assert_eq!(twice.get("10.1.1.1".parse().unwrap()), Some(&2));
        assert_eq!(twice.len(), 2);
    }

    /// Few addresses, so that networks nest, touch and repeat.
    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..16, 28u8..=32)
            .prop_map(|(ip, length)| ipnet::Ipv4Net::new(ip.into(), length).unwrap().into());
        let v6 = (0u128..16, 124u8..=128, any::<bool>()).prop_map(|(ip, length, high)| {
            let ip = if high { u128::MAX - ip } else { ip };
            ipnet::Ipv6Net::new(ip.into(), length).unwrap().into()
        });
        prop_oneof![v4, v6]
    }

    /// As many as are searched for, and more.
    #[test]
    fn each_of_many_is_found() {
        for count in [1_u32, 2, 7, 8, 9, 15, 16, 17, 100, 4_999, 5_000, 5_001, 20_000] {
            let v4 = (0..count).map(|n| ipnet::Ipv4Net::new_assert((n << 12).into(), 24).into());
            let v6 = (0..count).map(|n| ipnet::Ipv6Net::new_assert((u128::from(n) << 70).into(), 64).into());
            let networks: Vec<IpNet> = v4.chain(v6).collect();
            let found: Networks<usize> = networks.iter().copied().zip(0..).collect();
            for (at, network) in networks.iter().enumerate() {
                assert_eq!(found.get(network.addr()), Some(&at), "{count}");
                let (last, after) = match network {
                    IpNet::V4(net) => {
                        let last = net.broadcast();
                        (last.into(), IpAddr::from((last.to_bits() + 1).to_be_bytes()))
                    }
                    IpNet::V6(net) => {
                        let last = net.broadcast();
                        (last.into(), IpAddr::from((last.to_bits() + 1).to_be_bytes()))
                    }
                };
                assert_eq!((found.get(last), found.get(after)), (Some(&at), None), "{count}");
            }
            for last in [IpAddr::from([0xff; 4]), IpAddr::from([0xff; 16])] {
                assert_eq!(found.get(last), None, "{count}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_walk_over_all_finds(networks in prop::collection::vec(network(), 0..40)) {
            let found: Networks<usize> = networks.iter().copied().zip(0..).collect();
            let v4 = (0u32..20).map(|ip| IpAddr::from(ip.to_be_bytes()));
            let v6 = (0u128..20).flat_map(|ip| [ip, u128::MAX - ip]).map(|ip| IpAddr::from(ip.to_be_bytes()));
            for ip in v4.chain(v6) {
                let holding = networks.iter().enumerate().filter(|(_, network)| network.contains(&ip));
                let longest = holding.max_by_key(|(at, network)| (network.prefix_len(), *at)).map(|(at, _)| at);
                prop_assert_eq!(found.get(ip).copied(), longest, "{}", ip);
            }
        }
    }
}
