//! The integration tests: real sockets, real peers, one binary. Modules mirror the rooms.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod admission;
mod authn;
mod calls;
mod config;
mod contract;
#[cfg(feature = "redis")]
mod distributed;
mod endings;
mod examples;
mod faults;
mod gateway;
mod house;
mod jwks;
mod keys;
mod mesh;
mod metering;
#[cfg(feature = "jwt")]
mod oauth;
mod outcome;
mod overload;
#[cfg(feature = "redis")]
mod redis;
mod resilience;
mod routing;
mod sidecar;
mod support;
mod tcp;
mod telemetry;
mod transport;
mod upstream;
mod vocabulary;
