//! The wall clock, the calendar, and durations as people write them.
//!
//! How long something takes is measured with [`tokio::time::Instant`], which follows a paused clock in tests.
//! What is bound to the calendar (a token's `exp`, a certificate, a quota's month) asks a [`WallClock`],
//! which a test can set, forwards and backwards. A [`Calendar`] cuts time into days, months and billing periods.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use portcullis::time::{ManualClock, WallClock, parse_duration};
//!
//! let hands = ManualClock::new(SystemTime::UNIX_EPOCH);
//! let clock: WallClock = hands.clock();
//! hands.advance(parse_duration("1h30m")?);
//! assert_eq!(clock.unix_seconds(), 5_400);
//! hands.step_back(Duration::from_secs(400));
//! assert_eq!(clock.unix_seconds(), 5_000);
//! # Ok::<(), portcullis::time::InvalidDuration>(())
//! ```

mod calendar;
mod clock;
pub(crate) mod date;
mod duration;
mod instant;

pub use calendar::{BillingDay, Calendar, InvalidOffset, Period, Span};
pub use clock::{ManualClock, WallClock};
pub use date::{format_utc, parse_utc};
pub use duration::{DurationFault, InvalidDuration, format_duration, parse_duration, parse_duration_or_days};
pub(crate) use instant::after;
