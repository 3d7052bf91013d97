//! Over what: listeners, the server, and how it ends.

mod connection;
mod drain;
mod io;
mod listener;
mod prefixed;
mod proxy_protocol;
mod server;
mod signal;

pub use connection::{Connection, ConnectionLayer};
pub use drain::{Drain, DrainLayer, Watch};
pub use io::Io;
#[cfg(feature = "tonic")]
pub use listener::Incoming;
pub use listener::{Listener, ListenerBuilder};
pub use proxy_protocol::{Header, Malformed, ProxyProtocol};
pub use server::{ServedBody, Server};
pub use signal::shutdown_signal;
