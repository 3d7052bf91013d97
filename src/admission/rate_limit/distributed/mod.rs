//! Limits that all instances of a gateway keep together, on Redis. See the guide `docs/guides/distributed_limits.md`.
//!
//! One script decides all limits of a request at once, by Redis' own clock; so two instances on one server hold a limit as
//! one would. Its rules are in `limits.lua` and `decide.lua`, how what was decided is corrected in `correct.lua`, and how an account
//! is made whole in `reset.lua`. Instances tell each other by `beat.lua` that they are there, and by `returned.lua` of which
//! limits units have come back. What Redis does not decide in time falls to the [`Fallback`].

mod ask;
mod case;
mod correct;
mod fleet;
mod gate;
mod handle;
mod held;
mod news;
mod params;
mod policy;
mod share;
mod shared;
mod stand;
mod together;

pub(super) use correct::Open;
pub(super) use gate::DistributedRateLimit;
pub use handle::DistributionHandle;
pub use policy::{Distribution, Fallback};
pub(super) use shared::Shared;
