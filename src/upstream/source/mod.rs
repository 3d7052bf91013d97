//! Where an upstream learns which endpoints it has.

mod follow;
mod heard;
mod names;
mod set;
mod word;

pub(super) use follow::{Followed, Known};
pub use heard::Discovery;
pub(super) use heard::{Heard, Taken};
#[cfg(feature = "dns")]
pub(super) use names::{AGAIN, LOOKUP, early};
pub(super) use names::{Names, Targets};
pub use set::EndpointSet;
pub(super) use word::Fixed;
pub use word::{EndpointSource, Sets, StreamSource, Teller};
