//! Serving HTTP/1.1 and HTTP/2 on accepted connections.

mod body;
mod builder;
mod connection;
mod flood;
mod guard;
mod heads;
mod pulse;
mod rate;
mod request;
mod serve;
mod sniff;
mod speech;
mod vitals;

pub use body::ServedBody;
pub use builder::Server;
pub(super) use connection::Lost;
pub(super) use pulse::Verdict;
pub use rate::MinimumRate;
#[cfg(feature = "stack")]
pub(crate) use rate::Rates;
pub use speech::is_http;
