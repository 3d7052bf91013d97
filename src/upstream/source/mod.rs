//! Where an upstream learns which endpoints it has.

mod follow;
mod set;
mod word;

pub use follow::Discovery;
pub(super) use follow::{Followed, Heard};
pub use set::EndpointSet;
pub use word::{EndpointSource, Sets, StreamSource, Teller};
