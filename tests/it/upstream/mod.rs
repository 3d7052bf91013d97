//! The proxy between real peers: hyper, axum and tonic on both sides, and plain sockets where peers would be too kind.

mod balance;
mod bounds;
mod cost;
mod discovered;
#[cfg(feature = "dns")]
pub(crate) mod dns;
mod expect;
pub(crate) mod frames;
mod grpc;
mod headers;
mod leaving;
mod peers;
mod pool;
mod protocols;
mod races;
mod sessions;
mod smuggling;
mod tunnels;
mod upstreams;
mod watched;
