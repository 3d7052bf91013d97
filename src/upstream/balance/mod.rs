//! Which endpoint is next.
//!
//! A [`Roster`] has the members of an upstream and a [`Plan`], which is made anew whenever the set changes, or who of it
//! takes requests: whatever must be counted over all members is counted then, so that a pick costs the same for ten of
//! them and for ten thousand. The algorithms are pure, each in a file of its own.

mod alias;
mod ewma;
mod levels;
mod maglev;
mod order;
mod plan;
mod policy;
mod pool;
mod ring;
mod roster;
mod slow_start;
#[cfg(test)]
mod tests;
mod turns;
mod wants;

pub(super) use ewma::Ewma;
pub(super) use plan::{Ask, Named, Plan, Seat, Tried};
pub use policy::{Balance, Maglev, RingHash};
pub(super) use roster::{Roster, Rules};
pub use slow_start::SlowStart;
