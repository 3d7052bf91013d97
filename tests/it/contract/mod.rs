//! The laws of a layer: over every layer of the crate, and, for proof that the kit notices, over planted bugs.

mod layers;
mod planted;

use portcullis::testing::Allocations;

/// The allocations that a closure makes on this thread.
fn allocations(f: &mut dyn FnMut()) -> Allocations {
    let counted = allocation_counter::measure(f);
    Allocations { made: counted.count_total, kept: counted.count_current }
}
