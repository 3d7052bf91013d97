//! The PROXY protocol, versions 1 and 2: who the client is, told by a trusted peer ahead of everything else.
//!
//! The format is HAProxy's `proxy-protocol.txt`. A header is believed only from the networks that
//! [`ProxyProtocol`] names; from those it is required, within a time limit and a length limit.

mod header;
mod policy;
mod read;
mod v1;
mod v2;

pub use header::{MalformedProxyHeader, ProxyHeader};
pub use policy::ProxyProtocol;
pub(crate) use read::read_header;
