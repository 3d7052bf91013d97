//! Finds the clauses that may hold for a request without asking the others.
//!
//! Each clause is kept under one of its conditions, the one that fewest clauses share: under each of its values, be they
//! whole texts, beginnings, ends or networks. A request is looked up by what it has of those attributes: by the whole
//! text, by what stands before each boundary in it (`/` of paths) or behind one (`.` of hosts), and by as many of its
//! first or last bytes, or bits, as values under which something is kept have. Whatever is found is asked in full, so
//! that a bucket may hold more than it should. Clauses without such a condition are asked each time.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    Facts, Pattern,
    attribute::{Attribute, Seen, Value},
    condition::Condition,
    set::Clause,
};

#[derive(Debug)]
pub(super) struct Index {
    /// The attributes under whose values clauses are kept.
    probes: Box<[Probe]>,
    /// Where in `kept` each bucket begins, and where the last one ends. As many buckets as a power of two.
    starts: Box<[u32]>,
    kept: Box<[Kept]>,
    /// Those that are in no bucket.
    always: Box<[u32]>,
}

#[derive(Debug)]
struct Probe {
    attribute: Attribute,
    seed: u64,
    /// No value under which a clause is kept has more bytes.
    longest: usize,
    /// Of how many pieces those values are, each its bit.
    depths: u64,
    /// The sizes of the networks under which clauses are kept.
    masks: Vec<(bool, u8)>,
    /// How many bytes of beginnings and ends.
    cuts: Vec<Cut>,
}

/// So many bytes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    First(usize),
    Last(usize),
}

/// A clause in a bucket, with the hash under which it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    hash: u64,
    clause: u32,
}

/// A value under which a clause can be kept.
#[derive(Default)]
struct Key {
    hash: u64,
    length: usize,
    depth: u32,
    mask: Option<(bool, u8)>,
    cut: Option<Cut>,
}

impl Index {
    pub(super) fn new(clauses: &[Clause]) -> Self {
        let options: Vec<Vec<(&Attribute, Vec<Key>)>> =
            clauses.iter().map(|clause| options(&clause.conditions)).collect();
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
                let (masks, cuts) = (Vec::new(), Vec::new());
                probes.push(Probe { attribute, seed, longest: 0, depths: 0, masks, cuts });
            }
            for key in keys {
                probes[at].admit(key);
                placed.push(Kept { hash: key.hash, clause });
            }
        }
        let buckets = (placed.len() * 4).next_power_of_two();
        let bucket = |kept: &Kept| kept.hash as usize & (buckets - 1);
        placed.sort_unstable_by_key(|kept| (bucket(kept), *kept));
        placed.dedup();
        let mut starts = Vec::with_capacity(buckets + 1);
        starts.extend((0..=buckets).map(|this| placed.partition_point(|kept| bucket(kept) < this) as u32));
        Self { probes: probes.into(), starts: starts.into(), kept: placed.into(), always: always.into() }
    }

    /// Shows the clauses that may hold. One may be shown twice.
    pub(super) fn candidates(&self, facts: &Facts<'_>, mut show: impl FnMut(u32)) {
        self.always.iter().for_each(|clause| show(*clause));
        for probe in &self.probes {
            probe.hashes(facts, &mut |hash| {
                let at = hash as usize & (self.starts.len() - 2);
                let (from, to) = (self.starts[at] as usize, self.starts[at + 1] as usize);
                let kept = self.kept[from..to].iter().filter(|kept| kept.hash == hash);
                kept.for_each(|kept| show(kept.clause));
            });
        }
    }
}

impl Probe {
    fn admit(&mut self, key: &Key) {
        self.longest = self.longest.max(key.length);
        self.depths |= bit(key.depth);
        self.masks.extend(key.mask.filter(|mask| !self.masks.contains(mask)));
        self.cuts.extend(key.cut.filter(|cut| !self.cuts.contains(cut)));
    }

    /// The hashes of everything that the request has of this attribute.
    fn hashes(&self, facts: &Facts<'_>, found: &mut impl FnMut(u64)) {
        self.attribute.any(facts, &mut |seen| {
            match seen {
                Seen::Text(text) => self.walk(text, found),
                Seen::Principal(who) => {
                    let hash = step(self.seed, who.provider().as_bytes());
                    found(hash);
                    found(step(hash, who.subject().as_bytes()));
                }
                Seen::Account(namespace, account) => {
                    let hash = step(self.seed, namespace.as_bytes());
                    found(hash);
                    found(step(hash, account.as_bytes()));
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

    /// The hashes of a text, of what stands before each boundary in it, or behind it in a host, and of its beginnings and
    /// ends, where there may be a clause under it.
    fn walk(&self, text: &[u8], found: &mut impl FnMut(u64)) {
        let cuts = self.cuts.iter().filter_map(|cut| cut.of(text));
        cuts.for_each(|part| found(step(self.seed, part)));
        let (mut hash, mut length, mut depth) = (self.seed, 0, 0);
        pieces(text, boundary(&self.attribute), |piece| {
            (length, depth) = (length + piece.len(), depth + 1);
            if length > self.longest {
                return false;
            }
            hash = step(hash, piece);
            if self.depths & bit(depth) != 0 {
                found(hash);
            }
            // The boundary itself.
            length += 1;
            // Whether there is anything under more of it.
            self.depths >= bit(depth + 1)
        });
    }
}

impl Cut {
    fn of(self, text: &[u8]) -> Option<&[u8]> {
        match self {
            Self::First(length) => text.get(..length),
            Self::Last(length) => text.get(text.len().checked_sub(length)?..),
        }
    }
}

/// The bit of so many pieces; all that are very many share one.
fn bit(depth: u32) -> u64 {
    1 << depth.min(63)
}

/// Shows what stands between the boundaries, from where the more general is, as long as `show` says so.
fn pieces(text: &[u8], boundary: Option<u8>, mut show: impl FnMut(&[u8]) -> bool) {
    let mut rest = Some(text);
    while let Some(text) = rest {
        let at = match boundary {
            None => None,
            Some(b'.') => text.iter().rposition(|byte| *byte == b'.'),
            Some(boundary) => text.iter().position(|byte| *byte == boundary),
        };
        let (before, behind) = at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        let (piece, others) = match (boundary, behind) {
            (Some(b'.'), Some(behind)) => (behind, Some(before)),
            _ => (before, behind),
        };
        rest = if show(piece) { others } else { None };
    }
}

/// The conditions of a clause under which it can be kept, each with all its values.
fn options(conditions: &[Condition]) -> Vec<(&Attribute, Vec<Key>)> {
    let positive = conditions.iter().filter(|condition| !condition.negated);
    let keys = |condition: &Condition| {
        condition.values.iter().map(|value| key(&condition.attribute, value)).collect::<Option<Vec<_>>>()
    };
    positive.filter_map(|condition| Some((&condition.attribute, keys(condition)?))).collect()
}

fn key(attribute: &Attribute, value: &Value) -> Option<Key> {
    let (seed, boundary) = (seed(attribute), boundary(attribute));
    let text = match value {
        Value::Text(pattern) => match pattern.as_exact().or_else(|| up_to(boundary, pattern)) {
            Some(text) => text.to_owned(),
            None => return part(seed, pattern),
        },
        Value::Path(template) => template.anchor().0,
        Value::Principal(first, second) | Value::Account(first, second) => {
            let hash = step(seed, first.as_exact()?.as_bytes());
            let hash = second.as_exact().map_or(hash, |second| step(hash, second.as_bytes()));
            return Some(Key { hash, ..Key::default() });
        }
        Value::Network(network) => {
            let mask = (network.addr().is_ipv4(), network.prefix_len());
            let hash = self::network(seed, network.addr(), mask.1);
            return Some(Key { hash, mask: Some(mask), ..Key::default() });
        }
        Value::Predicate(_) => return None,
    };
    let (mut hash, mut depth) = (seed, 0);
    pieces(text.as_bytes(), boundary, |piece| {
        (hash, depth) = (step(hash, piece), depth + 1);
        true
    });
    (!text.is_empty()).then_some(Key { hash, length: text.len(), depth, ..Key::default() })
}

/// What a pattern asks for before or behind a boundary, if it ends there.
fn up_to(boundary: Option<u8>, pattern: &Pattern) -> Option<&str> {
    match boundary? {
        b'.' => pattern.as_suffix()?.strip_prefix('.'),
        _ => pattern.as_prefix()?.strip_suffix('/'),
    }
}

/// The beginning or the end that a pattern asks for.
fn part(seed: u64, pattern: &Pattern) -> Option<Key> {
    let first = pattern.as_prefix().map(|text| (text, Cut::First(text.len())));
    let (text, cut) = first.or_else(|| pattern.as_suffix().map(|text| (text, Cut::Last(text.len()))))?;
    Some(Key { hash: step(seed, text.as_bytes()), cut: Some(cut), ..Key::default() })
}

/// Where values of an attribute are divided: those of hosts from their end.
fn boundary(attribute: &Attribute) -> Option<u8> {
    match attribute {
        Attribute::Host => Some(b'.'),
        Attribute::Path | Attribute::Peer | Attribute::PeerPath | Attribute::Principal => Some(b'/'),
        _ => None,
    }
}

fn network(seed: u64, address: IpAddr, mask: u8) -> u64 {
    let network = IpNet::new(address, mask).map_or(address, |network| network.trunc().addr());
    let hash = match network {
        IpAddr::V4(network) => step(seed, &network.octets()),
        IpAddr::V6(network) => step(seed, &network.octets()),
    };
    step(hash, &[mask])
}

/// Folded products of words of eight bytes. The keys are the configuration's: nobody else can fill a bucket, and what is
/// found is asked.
fn step(hash: u64, piece: &[u8]) -> u64 {
    let (words, rest) = piece.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| fold(hash ^ u64::from_le_bytes(*word)));
    fold(hash ^ word(rest) ^ ((piece.len() as u64) << 56))
}

/// Less than eight bytes, read at once where they are four: twice, the second time from their end.
fn word(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

fn fold(word: u64) -> u64 {
    let product = u128::from(word) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// Tells the same value of two attributes apart.
fn seed(attribute: &Attribute) -> u64 {
    step(0xcbf2_9ce4_8422_2325, format!("{attribute:?}").as_bytes())
}
