//! What redirects a service's connections to its sidecar.
use std::{fmt, num::NonZeroU16};

use crate::arguments::{Capture, Ipv6};

/// The table in which all rules are: who takes it away leaves nothing.
const TABLE: &str = "inet portcullis_sidecar";

/// No listener of the sidecar has them, and nobody is to get past it. Whoever asks learns it at once, and tries IPv4.
const REFUSE: &str = "    meta nfproto ipv6 tcp flags & (syn | ack) == syn reject with tcp reset";

/// A script for nftables, which can be run again and again.
pub(crate) struct Script<'a>(pub(crate) &'a Capture);

/// The script that takes it back.
pub(crate) struct Undo;

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capture { user, inbound, outbound, except_inbound, except_outbound, ipv6 } = self.0;
        // A table is taken away as a whole, and must be there for that.
        writeln!(f, "#!/usr/sbin/nft -f\n\ntable {TABLE} {{}}\ndelete table {TABLE}\n\ntable {TABLE} {{")?;
        let only_ipv4 = if *ipv6 == Ipv6::Redirect { "" } else { "    meta nfproto ipv6 accept\n" };
        let outward = |f: &mut fmt::Formatter<'_>| {
            writeln!(f, "    meta skuid {user} accept # what the sidecar itself connects to")?;
            writeln!(f, "    ip daddr 127.0.0.0/8 accept\n    ip6 daddr ::1 accept")?;
            write!(f, "{}", Except(except_outbound))
        };
        let inward = |f: &mut fmt::Formatter<'_>| {
            writeln!(f, "    iifname \"lo\" accept")?;
            write!(f, "{}", Except(except_inbound))
        };
        if let Some(port) = outbound {
            writeln!(f, "  chain output {{\n    type nat hook output priority -100; policy accept;")?;
            write!(f, "{only_ipv4}")?;
            outward(f)?;
            writeln!(f, "    meta l4proto tcp redirect to :{port}\n  }}")?;
        }
        if let Some(port) = inbound {
            writeln!(f, "  chain prerouting {{\n    type nat hook prerouting priority -100; policy accept;")?;
            write!(f, "{only_ipv4}")?;
            inward(f)?;
            writeln!(f, "    fib daddr type local meta l4proto tcp redirect to :{port}\n  }}")?;
        }
        if *ipv6 == Ipv6::Refuse && outbound.is_some() {
            writeln!(f, "  chain output_ipv6 {{\n    type filter hook output priority 0; policy accept;")?;
            outward(f)?;
            writeln!(f, "{REFUSE}\n  }}")?;
        }
        if *ipv6 == Ipv6::Refuse && inbound.is_some() {
            writeln!(f, "  chain input_ipv6 {{\n    type filter hook input priority 0; policy accept;")?;
            inward(f)?;
            writeln!(f, "{REFUSE}\n  }}")?;
        }
        write!(f, "}}")
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#!/usr/sbin/nft -f\n\ntable {TABLE} {{}}\ndelete table {TABLE}")
    }
}

/// What is left alone.
struct Except<'a>(&'a [NonZeroU16]);

impl fmt::Display for Except<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        if ports.is_empty() { Ok(()) } else { writeln!(f, "    tcp dport {{ {} }} accept", ports.join(", ")) }
    }
}
