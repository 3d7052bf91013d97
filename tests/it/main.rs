//! The integration tests: real sockets, real peers, one binary. Modules mirror the rooms.
mod support;

mod admission;
mod authn;
mod config;
mod contract;
mod examples;
mod gateway;
mod house;
mod resilience;
mod routing;
mod telemetry;
mod transport;
mod upstream;
mod vocabulary;
