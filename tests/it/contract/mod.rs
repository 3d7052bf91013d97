//! The laws of a layer: over every layer of the crate, and, for proof that the kit notices, over planted bugs.

mod layers;
mod planted;

/// The allocations that a closure makes on this thread.
fn allocations(f: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(f).count_total
}
