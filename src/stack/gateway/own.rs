//! The gates that a rule has of its own, whatever it was told.
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    authn::Location,
    gate::{AsyncGates, Gate},
    head::Head,
    identity::TrustedProxies,
    matching::PathPolicy,
    reject::{Answer, Rejection},
};

/// Whoever speaks for others.
pub(super) fn everybody() -> TrustedProxies {
    TrustedProxies::new(EVERYBODY).unwrap_or_default()
}

/// All addresses.
const EVERYBODY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// Refuses paths that only other rules take. By what was matched is served: it is not brought into another form.
#[derive(Debug)]
pub(super) struct OwnPaths(pub(super) PathPolicy);

impl Gate for OwnPaths {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        match head.uri().path() {
            "" | "*" => Ok(()),
            path => self.0.accept(path).map_err(|bad| Rejection::from(bad).into()),
        }
    }
}

/// Takes credentials out of a request, whoever asked for them, but those that this rule's providers let go on.
#[derive(Debug)]
pub(super) struct Discard(pub(super) Vec<Location>);

impl Gate for Discard {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.0.iter().for_each(|location| location.remove(head));
        Ok(())
    }
}

/// One more gate, if there is one.
pub(super) fn with(gates: AsyncGates, gate: Option<impl Gate>) -> AsyncGates {
    match gate {
        Some(gate) => gates.with(gate),
        None => gates,
    }
}
