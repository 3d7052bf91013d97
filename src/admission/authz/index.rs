//! Finds the clauses that may hold for a request without asking the others.
//!
//! Each clause is kept under one of its conditions, the one that fewest clauses share: under each of its values, where
//! these are whole texts, or begin or end at a boundary (`/` of paths, `.` of hosts), or are networks. A request is
//! looked up by what it has of those attributes; whatever is found is asked in full, so that a bucket may hold more
//! than it should. Clauses without such a condition are asked each time.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    Facts,
    attribute::{Attribute, Seen, Value},
    set::Clause,
    test::Test,
};

#[derive(Debug)]
pub(super) struct Index {
    /// The attributes under whose values clauses are kept.
    probes: Box<[Probe]>,
    /// Where in `clauses` each bucket begins, and where the last one ends. As many buckets as a power of two.
    starts: Box<[u32]>,
    clauses: Box<[u32]>,
    /// Those that are in no bucket.
    always: Box<[u32]>,
}

#[derive(Debug)]
struct Probe {
    attribute: Attribute,
    seed: u64,
    /// No value under which a clause is kept has more bytes.
    longest: usize,
    /// The sizes of the networks under which clauses are kept.
    masks: Vec<(bool, u8)>,
}

/// A value under which a clause can be kept.
struct Key {
    hash: u64,
    length: usize,
    mask: Option<(bool, u8)>,
}

impl Index {
    pub(super) fn new(clauses: &[Clause]) -> Self {
        let options: Vec<Vec<(&Attribute, Vec<Key>)>> =
            clauses.iter().map(|clause| options(&clause.tests)).collect();
        let mut shared = HashMap::<u64, usize>::new();
        for key in options.iter().flatten().flat_map(|(_, keys)| keys) {
            *shared.entry(key.hash).or_default() += 1;
        }
        let crowd = |keys: &[Key]| keys.iter().map(|key| shared[&key.hash]).max().unwrap_or(0);

        let (mut probes, mut placed, mut always) = (Vec::<Probe>::new(), Vec::new(), Vec::new());
        for (clause, options) in (0..).zip(&options) {
            // Among equals one that is looked up anyway.
            let is_new = |attribute: &Attribute| probes.iter().all(|probe| probe.attribute != *attribute);
            let best = options.iter().min_by_key(|(attribute, keys)| (crowd(keys), is_new(attribute)));
            let Some((attribute, keys)) = best else {
                always.push(clause);
                continue;
            };
            let at = probes.iter().position(|probe| probe.attribute == **attribute).unwrap_or(probes.len());
            if at == probes.len() {
                let (attribute, seed) = ((*attribute).clone(), seed(attribute));
                probes.push(Probe { attribute, seed, longest: 0, masks: Vec::new() });
            }
            for key in keys {
                probes[at].admit(key);
                placed.push((key.hash, clause));
            }
        }
        let buckets = (placed.len() * 4).next_power_of_two();
        let bucket = |hash: u64| hash as usize & (buckets - 1);
        placed.sort_unstable_by_key(|(hash, clause)| (bucket(*hash), *clause));
        placed.dedup_by_key(|(hash, clause)| (bucket(*hash), *clause));
        let mut starts = Vec::with_capacity(buckets + 1);
        starts.extend(
            (0..=buckets).map(|this| placed.partition_point(|(hash, _)| bucket(*hash) < this) as u32),
        );
        let clauses = placed.into_iter().map(|(_, clause)| clause).collect();
        Self { probes: probes.into(), starts: starts.into(), clauses, always: always.into() }
    }

    /// Shows the clauses that may hold, bucket by bucket, each in ascending order. One may be shown twice.
    pub(super) fn candidates(&self, facts: &Facts<'_>, mut show: impl FnMut(&[u32])) {
        show(&self.always);
        for probe in &self.probes {
            probe.hashes(facts, &mut |hash| {
                let at = hash as usize & (self.starts.len() - 2);
                let (from, to) = (self.starts[at] as usize, self.starts[at + 1] as usize);
                if from < to {
                    show(&self.clauses[from..to]);
                }
            });
        }
    }
}

impl Probe {
    fn admit(&mut self, key: &Key) {
        self.longest = self.longest.max(key.length);
        self.masks.extend(key.mask.filter(|mask| !self.masks.contains(mask)));
    }

    /// The hashes of everything that the request has of this attribute.
    fn hashes(&self, facts: &Facts<'_>, found: &mut impl FnMut(u64)) {
        self.attribute.any(facts, &mut |seen| {
            match seen {
                Seen::Text(text) => match boundary(&self.attribute) {
                    Some(b'.') => self.walk(text.iter().rev().copied(), Some(b'.'), found),
                    boundary => self.walk(text.iter().copied(), boundary, found),
                },
                Seen::Principal(who) => {
                    self.walk(principal(who.provider(), who.subject()), Some(b'/'), found);
                }
                Seen::Address(address) => {
                    let masks = self.masks.iter().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
                    masks.for_each(|(_, mask)| found(network(self.seed, address, *mask)));
                }
                Seen::All(_) => {}
            }
            false
        });
    }

    /// The hashes of a text and of what stands before each boundary in it.
    fn walk(&self, text: impl Iterator<Item = u8>, boundary: Option<u8>, found: &mut impl FnMut(u64)) {
        let mut hash = self.seed;
        for (at, byte) in text.enumerate() {
            if at > 0 && Some(byte) == boundary {
                found(mixed(hash));
            }
            if at == self.longest {
                return;
            }
            hash = step(hash, byte);
        }
        found(mixed(hash));
    }
}

/// The conditions of a clause under which it can be kept, each with all its values.
fn options(tests: &[Test]) -> Vec<(&Attribute, Vec<Key>)> {
    let positive = tests.iter().filter(|test| !test.negated);
    let keys =
        |test: &Test| test.values.iter().map(|value| key(&test.attribute, value)).collect::<Option<Vec<_>>>();
    positive.filter_map(|test| Some((&test.attribute, keys(test)?))).collect()
}

fn key(attribute: &Attribute, value: &Value) -> Option<Key> {
    let text = match value {
        Value::Text(pattern) => match (pattern.as_exact(), boundary(attribute)) {
            (Some(text), _) => text.to_owned(),
            // Up to the last boundary: what follows it begins with the rest.
            (None, Some(b'/')) => pattern.as_prefix()?.rsplit_once('/')?.0.to_owned(),
            (None, Some(_)) => pattern.as_suffix()?.split_once('.')?.1.to_owned(),
            (None, None) => return None,
        },
        Value::Path(template) => template.anchor().0,
        Value::Principal(provider, subject) => match (provider.as_exact(), subject.as_exact()) {
            (Some(provider), Some(subject)) => format!("{provider}/{subject}"),
            (Some(provider), None) => provider.to_owned(),
            (None, _) => return None,
        },
        Value::Network(network) => {
            let mask = (network.addr().is_ipv4(), network.prefix_len());
            return Some(Key {
                hash: self::network(seed(attribute), network.addr(), mask.1),
                length: 0,
                mask: Some(mask),
            });
        }
        Value::Predicate(_) => return None,
    };
    let hash = match boundary(attribute) {
        Some(b'.') => text.bytes().rev().fold(seed(attribute), step),
        _ => text.bytes().fold(seed(attribute), step),
    };
    (!text.is_empty()).then(|| Key { hash: mixed(hash), length: text.len(), mask: None })
}

/// Where values of an attribute are divided: those of hosts from their end.
fn boundary(attribute: &Attribute) -> Option<u8> {
    match attribute {
        Attribute::Host => Some(b'.'),
        Attribute::Path | Attribute::Peer | Attribute::PeerPath | Attribute::Principal => Some(b'/'),
        _ => None,
    }
}

fn principal<'a>(provider: &'a str, subject: &'a str) -> impl Iterator<Item = u8> + 'a {
    provider.bytes().chain([b'/']).chain(subject.bytes())
}

fn network(seed: u64, address: IpAddr, mask: u8) -> u64 {
    let network = IpNet::new(address, mask).map_or(address, |network| network.trunc().addr());
    let hash = match network {
        IpAddr::V4(network) => network.octets().into_iter().fold(seed, step),
        IpAddr::V6(network) => network.octets().into_iter().fold(seed, step),
    };
    mixed(step(hash, mask))
}

/// FNV-1a. The keys are the configuration's: nobody else can fill a bucket.
fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

fn mixed(hash: u64) -> u64 {
    hash ^ (hash >> 32)
}

/// Tells the same value of two attributes apart.
fn seed(attribute: &Attribute) -> u64 {
    format!("{attribute:?}").bytes().fold(0xcbf2_9ce4_8422_2325, step)
}
