//! The mesh client against endpoints that fail, each a process of its own: killed, paused, slow, refusing, resetting,
//! answering that they failed, flapping. What is asserted are counts, and no times.
#![cfg(all(feature = "mesh", unix))]

mod calls;
mod endpoint;
mod hedging;
mod injected;
mod outages;
mod restarts;
