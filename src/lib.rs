//! Tower layers with which a team builds its own API gateway or service mesh.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod attempt;
pub mod backoff;
pub mod body;
pub mod chance;
pub mod context;
#[cfg(feature = "axum")]
mod extract;
pub mod gate;
pub mod head;
pub mod identity;
pub mod key;
pub mod matching;
pub mod outcome;
pub mod ratio;
pub mod reject;
pub mod time;
pub mod trail;
pub mod tunnel;
pub mod window;

#[cfg(feature = "admission")]
pub mod admission;
#[cfg(feature = "authn")]
pub mod authn;
#[cfg(feature = "resilience")]
pub mod resilience;
#[cfg(feature = "routing")]
pub mod routing;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "transport")]
pub mod transport;
#[cfg(feature = "upstream")]
pub mod upstream;

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "stack")]
pub mod stack;
#[cfg(feature = "testing")]
pub mod testing;
