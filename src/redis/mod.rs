//! A connection to Redis or Valkey (6.2 and later), for whatever is shared between instances.
//!
//! # Example
//!
//! ```
//! use portcullis::redis::Redis;
//!
//! let redis = Redis::builder("redis://127.0.0.1:6379")?.build();
//! # let _ = redis;
//! # Ok::<(), portcullis::redis::InvalidAddress>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::time::Duration;
//! use portcullis::redis::Redis;
//! # fn private(roots: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! use portcullis::tls::ClientTls;
//!
//! let redis = Redis::builder("rediss://gateway@redis.internal:6380/2")?
//!     .password_file("/run/secrets/redis")
//!     .tls(ClientTls::roots(roots)?)
//!     .namespace("shop")
//!     .deadline(Duration::from_millis(100))
//!     .build();
//! # let _ = redis;
//! # Ok(())
//! # }
//! ```
//!
//! # Several servers
//!
//! ```
//! use portcullis::redis::Redis;
//!
//! // Sentinels are asked where the master is, at each new connection; the master is asked whether it is one.
//! let watched = Redis::sentinel("limits", ["redis://s1:26379", "redis://s2:26379", "redis://s3:26379"])?.build();
//!
//! // A node is asked which serves which keys; where a key has moved, one is sent on.
//! let cluster = Redis::cluster(["redis://n1:7000", "redis://n2:7000"])?.build();
//! # let _ = (watched, cluster);
//! # Ok::<(), portcullis::redis::InvalidAddress>(())
//! ```
//!
//! # What it does
//!
//! One connection to each server, made when it is first needed and again when it is lost, by one task for all who wait. It carries the
//! commands of all callers at once: those that come together go out together. Each command has a deadline, in which
//! connecting is included; the machine of [`trip`](crate::trip) stops asking a server that does not answer. It lets one command through each 50 to 500 ms, and that one
//! keeps the others waiting for 250 ms at most: where anything is asked, it is found within a second that the server does again. In a Cluster each node has a breaker of its own.
//!
//! Keys begin with the namespace, and keys that belong together are in one hash slot. The password is read from its file
//! at each connection, so it can be changed while the process runs; neither it nor any value shows in errors and logs.
//!
//! # Shared state
//!
//! Clones share the connection and the breaker.

mod address;
mod builder;
mod cluster;
mod connection;
mod dial;
mod error;
mod node;
mod pace;
mod patience;
mod slot;
#[cfg(test)]
mod tests;

pub use address::InvalidAddress;
pub use builder::RedisBuilder;
pub use connection::Redis;
pub use error::RedisError;
#[cfg(feature = "admission")]
pub(crate) use patience::Patience;
