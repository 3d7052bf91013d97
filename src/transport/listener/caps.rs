use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use super::observer::Observer;

/// How many connections there are, of all and of each address. An IPv6 address counts as its /64.
#[derive(Debug)]
pub(super) struct Caps {
    total: usize,
    per_address: usize,
    observer: Observer,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Never holds a zero, so it is no larger than `total`.
    addresses: HashMap<IpAddr, usize>,
}

/// Which cap was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address,
    Total,
}

impl Full {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Address => "connections of one address",
            Self::Total => "connections",
        }
    }
}

impl Caps {
    pub(super) fn new(total: usize, per_address: usize, observer: Observer) -> Arc<Self> {
        Arc::new(Self { total, per_address, observer, open: Mutex::default() })
    }

    /// Takes a place among all.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut open = self.lock();
        if open.total >= self.total {
            drop(open);
            self.observer.tell(|observer| observer.refused());
            return Err(Full::Total);
        }
        open.total += 1;
        drop(open);
        self.observer.tell(|observer| observer.opened());
        Ok(Slot { caps: Arc::clone(self), address: None })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, given back when it is dropped.
pub(in crate::transport) struct Slot {
    caps: Arc<Caps>,
    address: Option<IpAddr>,
}

impl Slot {
    /// Takes a place among those of this address, too.
    pub(super) fn claim(&mut self, address: IpAddr) -> Result<(), Full> {
        let address = network(address);
        let mut open = self.caps.lock();
        let count = open.addresses.entry(address).or_default();
        if *count >= self.caps.per_address {
            // A count that is not zero stands for others; zero can only be a cap of zero.
            if *count == 0 {
                open.addresses.remove(&address);
            }
            drop(open);
            self.caps.observer.tell(|observer| observer.refused());
            return Err(Full::Address);
        }
        *count += 1;
        drop(open);
        self.address = Some(address);
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.caps.lock();
        open.total -= 1;
        if let Some(address) = self.address
            && let Entry::Occupied(mut count) = open.addresses.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        drop(open);
        self.caps.observer.tell(|observer| observer.closed());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What counts as one address: an IPv4 address (mapped into IPv6 or not), or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_count_by_network() {
        let caps = Caps::new(10, 1, Observer::default());
        let enter = |address: &str| {
            let mut slot = caps.enter().unwrap();
            slot.claim(address.parse().unwrap()).map(|()| slot)
        };
        let v4 = enter("192.0.2.1").unwrap();
        assert_eq!(enter("::ffff:192.0.2.1").unwrap_err(), Full::Address);
        let _other = enter("192.0.2.2").unwrap();
        let _v6 = enter("2001:db8:0:1::1").unwrap();
        assert_eq!(enter("2001:db8:0:1:ffff::2").unwrap_err(), Full::Address);
        let _neighbour = enter("2001:db8:0:2::1").unwrap();
        drop(v4);
        enter("192.0.2.1").unwrap();
    }

    proptest! {
        #[test]
        fn counts_are_right_and_bounded(
            steps in proptest::collection::vec((any::<bool>(), 0_u8..4, 0_usize..8), 1..200),
            total in 0_usize..6,
            per_address in 0_usize..4,
        ) {
            let caps = Caps::new(total, per_address, Observer::default());
            let mut held: Vec<(u8, Slot)> = Vec::new();
            for (enter, host, at) in steps {
                if enter {
                    let of_address = held.iter().filter(|(other, _)| *other == host).count();
                    let entered = caps.enter().and_then(|mut slot| {
                        slot.claim(IpAddr::from([10, 0, 0, host])).map(|()| slot)
                    });
                    match entered {
                        Ok(slot) => {
                            prop_assert!(held.len() < total && of_address < per_address);
                            held.push((host, slot));
                        }
                        Err(Full::Total) => prop_assert_eq!(held.len(), total),
                        Err(Full::Address) => prop_assert_eq!(of_address, per_address),
                    }
                } else if at < held.len() {
                    held.swap_remove(at);
                }
                let open = caps.open.lock().unwrap();
                prop_assert_eq!(open.total, held.len());
                prop_assert_eq!(open.addresses.values().sum::<usize>(), held.len());
                prop_assert!(open.addresses.len() <= held.len());
            }
        }
    }
}
