//! Files, read and replaced as a whole.

#[cfg(any(feature = "config", feature = "tls"))]
mod read;
#[cfg(any(feature = "admission", feature = "telemetry"))]
mod replace;

#[cfg(feature = "config")]
pub(crate) use read::is_writable_by_others;
#[cfg(any(feature = "config", feature = "tls"))]
pub(crate) use read::{is_open_to_others, slurp};
#[cfg(feature = "config")]
pub(crate) use replace::fresh;
#[cfg(any(feature = "admission", feature = "telemetry"))]
pub(crate) use replace::replace;
