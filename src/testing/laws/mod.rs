//! How each law is checked.

mod bodies;
mod calls;
mod check;
mod cost;
mod stage;
mod state;
mod time;

pub(super) use check::check;
pub(super) use cost::globals;
