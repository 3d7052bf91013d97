//! Every layer of the crate, and the matrix of laws by layer in `docs/contract.md`.

use std::fmt::Write as _;

use portcullis::{
    context::ContextLayer,
    gate::{AsyncGate, AsyncGateLayer, Check, Gate, GateLayer, Gates},
    head::Head,
    reject::{Answer, RaiseLayer, RescueLayer},
    testing::{Contract, Finding, Law, Report},
};

use super::allocations;

struct Open;

impl Gate for Open {
    type Pass = ();
    fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
        Ok(())
    }
}

impl AsyncGate for Open {
    type Pass = ();
    type Wait = std::future::Ready<()>;
    type Told = ();
    fn check(&self, head: &mut Head<'_>) -> Check<(), Self::Wait> {
        match head.headers().contains_key("x-caller") {
            true => Check::Now(Ok(())),
            false => Check::Wait(std::future::ready(())),
        }
    }
    fn resume(&self, _: &mut Head<'_>, (): ()) -> Result<(), Answer> {
        Ok(())
    }
}

fn reports() -> Vec<Report> {
    vec![
        Contract::new("gate", || GateLayer::new(Open)).allocations(0, allocations).check(),
        Contract::new("gate, disabled", GateLayer::<Open>::disabled).allocations(0, allocations).check(),
        Contract::new("gates", || GateLayer::new(Gates::new().with(Open).with(Open)))
            .allocations(0, allocations)
            .check(),
        Contract::new("async gate", || AsyncGateLayer::new(Open)).allocations(0, allocations).check(),
        Contract::new("context", ContextLayer::new).allocations(3, allocations).check(),
        Contract::new("rescue", RescueLayer::new)
            .other_error("its work is that no error is left")
            .allocations(0, allocations)
            .check(),
        Contract::new("raise", RaiseLayer::new)
            .other_error("its work is to make refusals errors")
            .allocations(0, allocations)
            .check(),
    ]
}

fn matrix(reports: &[Report]) -> String {
    let mut text = String::from(
        "# The contract matrix\n\n\
         Which layer keeps which law of `DESIGN.md`, as the contract kit finds. Written by the test run\n\
         (`PORTCULLIS_BLESS=1 tests/run.sh`) and checked by it. A gap is one by the layer's type, with its reason below.\n\n| layer |",
    );
    for law in Law::ALL {
        let _ = write!(text, " {} |", law.number());
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(Law::ALL.len()));
    let mut gaps = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for report in reports {
        let _ = write!(text, "| {} |", report.name());
        for (law, finding) in report.findings() {
            text.push_str(match finding {
                Finding::Kept => " kept |",
                Finding::NotApplicable(why) => {
                    gaps.entry(why).or_default().push(format!("{} ({})", report.name(), law.number()));
                    " – |"
                }
                _ => " BROKEN |",
            });
        }
        text.push('\n');
    }
    text.push_str("\n| number | law |\n|---|---|\n");
    for law in Law::ALL {
        let _ = writeln!(text, "| {} | {law} |", law.number());
    }
    text.push_str("\n| why a law does not apply | layers (laws) |\n|---|---|\n");
    for (why, layers) in gaps {
        let _ = writeln!(text, "| {why} | {} |", layers.join(", "));
    }
    text
}

#[test]
fn every_layer_keeps_every_law() {
    let reports = reports();
    let matrix = matrix(&reports);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(path, &matrix).unwrap();
    }
    reports.iter().for_each(Report::assert_kept);
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(matrix, published, "docs/contract.md is stale: PORTCULLIS_BLESS=1 tests/run.sh writes it");
}
