//! What policies are for, shown: ten thousand clients on a clock that is not the wall's, with each policy and without it, by
//! the layers themselves. The curves are written as SVG into `docs/simulations`, or into the directory that is named; each
//! run writes the same.
//!
//! ```sh
//! cargo run --example simulate --features mesh
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

mod balance;
mod breaker;
mod chart;
mod hedging;
mod storm;
mod world;

use std::{error::Error, fs, io, path::PathBuf};

type Simulation = fn() -> io::Result<world::Shown>;

/// Each by the name of its file.
const SIMULATIONS: &[(&str, Simulation)] = &[
    ("balance_failing", balance::failing),
    ("balance_slow", balance::slow),
    ("breaker", breaker::simulate),
    ("hedging", hedging::simulate),
    ("retry_storm", storm::simulate),
];

fn main() -> Result<(), Box<dyn Error>> {
    let repository = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/simulations");
    let directory = std::env::args_os().nth(1).map_or_else(repository, PathBuf::from);
    fs::create_dir_all(&directory)?;
    for (name, simulate) in SIMULATIONS {
        let (chart, told) = simulate()?;
        fs::write(directory.join(format!("{name}.svg")), chart.to_svg())?;
        println!("{name}: {told}");
    }
    Ok(())
}
