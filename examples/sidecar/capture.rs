//! What redirects a service's connections to its sidecar.
use std::{fmt, num::NonZeroU16};

use crate::arguments::Capture;

/// The table in which all rules are: who takes it away leaves nothing.
const TABLE: &str = "inet portcullis_sidecar";

/// A script for nftables, which can be run again and again.
pub(crate) struct Script<'a>(pub(crate) &'a Capture);

/// The script that takes it back.
pub(crate) struct Undo;

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capture { user, inbound, outbound, except_inbound, except_outbound } = self.0;
        // A table is taken away as a whole, and must be there for that.
        writeln!(f, "#!/usr/sbin/nft -f\n\ntable {TABLE} {{}}\ndelete table {TABLE}\n\ntable {TABLE} {{")?;
        if let Some(port) = outbound {
            writeln!(f, "  chain output {{")?;
            writeln!(f, "    type nat hook output priority -100; policy accept;")?;
            writeln!(f, "    meta skuid {user} accept # what the sidecar itself connects to")?;
            writeln!(f, "    ip daddr 127.0.0.0/8 accept\n    ip6 daddr ::1 accept")?;
            write!(f, "{}", Except(except_outbound))?;
            writeln!(f, "    meta l4proto tcp redirect to :{port}\n  }}")?;
        }
        if let Some(port) = inbound {
            writeln!(f, "  chain prerouting {{")?;
            writeln!(f, "    type nat hook prerouting priority -100; policy accept;")?;
            writeln!(f, "    iifname \"lo\" accept")?;
            write!(f, "{}", Except(except_inbound))?;
            writeln!(f, "    fib daddr type local meta l4proto tcp redirect to :{port}\n  }}")?;
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
