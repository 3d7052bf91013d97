use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use http::response;

use super::{
    UsageMeter,
    ledger::{Ending, Totals},
    meter::Shared,
};
use crate::{
    gate::{Gate, Pass},
    head::Head,
    identity::Principal,
    outcome::Outcome,
    reject::{Answer, Reason},
    telemetry::findings::Findings,
};

/// As a route: no rule was found.
const UNMATCHED: &str = "_none";

impl Gate for UsageMeter {
    type Pass = Metering;

    /// What is not counted is not paid.
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<Metering, Answer> {
        if !self.has_begun() {
            drop(self.begin());
        }
        let units = self.0.units.of(head);
        // A layer inside of authentication finds it on the request, one outside on the trail.
        let principal = head.extensions().get::<Principal>().cloned();
        Ok(Metering { shared: Arc::clone(&self.0), units, principal, findings: Findings::start(head) })
    }
}

/// A request whose use is being counted.
pub struct Metering {
    shared: Arc<Shared>,
    units: u64,
    principal: Option<Principal>,
    findings: Findings,
}

impl Pass for Metering {
    fn on_head(&mut self, head: &mut response::Parts) {
        self.findings.see(head);
        self.units = self.shared.units.settled(head).unwrap_or(self.units);
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let nobody = Principal::anonymous();
        let told = self.findings.trail().and_then(|trail| trail.principal());
        let principal = self.principal.as_ref().or(told).unwrap_or(&nobody);
        let route = self.findings.route().unwrap_or(UNMATCHED);
        let ending = Ending { outcome: outcome.verdict().label(), reason: outcome.reason.map(Reason::label) };
        let used = Totals { requests: 1, units: self.units, bytes: outcome.bytes };
        self.shared.recorded.fetch_add(1, Relaxed);
        if !self.shared.ledger.add(principal, route, ending, used) {
            self.shared.unattributed.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Debug for Metering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metering").field("findings", &self.findings).finish_non_exhaustive()
    }
}
