//! Response bodies as layers give them: one wrapper for all layers, and one boxed body for the seams.
//!
//! [`ResponseBody`] is what an answering layer returns: the inner body, watched to its end, or an answer of the
//! layer's own. It keeps data, trailers, `size_hint` and `is_end_stream`.
//!
//! [`Body`] is a body of one type, for the places where many kinds meet: a router over different services, a
//! client. It boxes, except where a body is empty or a single chunk of bytes.
//!
//! [`TapLayer`] lets policies look at the beginning of a request's body, which is handed on whole. [`Replay`] lets a
//! request be sent again.

mod ahead;
mod any;
mod convert;
mod replay;
#[cfg(feature = "jwt")]
mod replica;
mod response;
mod tap;
#[cfg(feature = "routing")]
mod tee;

pub use any::{Body, BoxError};
pub use convert::{Convert, ConvertLayer};
pub use replay::Replay;
#[cfg(feature = "jwt")]
pub(crate) use replica::replica;
pub use response::ResponseBody;
#[cfg(feature = "admission")]
pub(crate) use tap::Bodiless;
pub use tap::{Peeked, Tap, TapLayer, Tapped, Unreadable};
#[cfg(feature = "routing")]
pub(crate) use tee::{Copied, Fate, Lost, tee};

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
