//! Sends requests on to the endpoints of an upstream, over pooled connections.

mod balance;
mod body;
mod builder;
mod connect;
mod endpoint;
mod error;
mod exchange;
mod expect;
mod forward;
mod group;
mod hop;
mod options;
mod request;
mod resolve;
mod response;
mod service;
mod store;
mod tunnel;

pub use builder::{BuildError, UpstreamBuilder};
pub use group::{EndpointStatus, Upstream};
pub use hop::HopByHop;
pub use options::{Balance, Wire};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use service::{Proxy, ResponseFuture};
